"""Put an encoder of `meta-spliceai pretrain` into the package, to be had as weights=packaged.

    python tools/package_encoder.py encoders/small

Weights are stored as float16, half the size, but for those of the long filters, whose waves turn many times over a
sequence; the tables of positions, which follow from their length, are left out.
An encoder that no Markov model is worse than is refused. What rounding changes is printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import meta_spliceai
from meta_spliceai.files import atomic_write
from meta_spliceai.resources.resolve import SHIPPED_ENCODERS, WEIGHTS
from meta_spliceai.splice_engine.meta_layer.models.hyenadna import BASE_TOKENS
from meta_spliceai.splice_engine.meta_layer.models.hyenadna_weights import read_folder


def main(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    facts = told["pretraining"]
    if not facts["pretrained"]:
        sys.exit(f"{folder}: {facts['held_out_bits']:.4f} bits a base do not beat {facts['markov_bits']}; not packaged")
    to = Path(meta_spliceai.__file__).parent / SHIPPED_ENCODERS / facts["settings"]["size"]
    to.mkdir(parents=True, exist_ok=True)
    tensors = load_file(folder / WEIGHTS)
    kept = {name: tensor for name, tensor in tensors.items() if ".pos_emb." not in name}
    save_file({name: one if ".filter_fn." in name else one.half() for name, one in kept.items()}, to / WEIGHTS)
    with atomic_write(to / "config.json") as handle:
        json.dump(told, handle, indent=1)

    tokens = torch.randint(BASE_TOKENS[0], BASE_TOKENS[-1] + 1, (4, 1023), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (model.eval()(model.embed(tokens)) for model in (read_folder(folder)[0], read_folder(to)[0]))
    megabytes = (to / WEIGHTS).stat().st_size / 1e6
    print(f"{to.name}: {megabytes:.1f} MB; hidden states differ by at most {(before - after).abs().max():.4f}")
    print(told["origin"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
