"""Pre-trained encoders on the model hub: which commit of which repository, and whether it is on this machine."""

from __future__ import annotations

from pathlib import Path

from meta_spliceai.resources.resolve import mirror_folders

ENCODERS = {
    "hyenadna-tiny-1k": ("LongSafari/hyenadna-tiny-1k-seqlen-hf", "e8c1effa8673814e257e627d2e1eda9ea5a373f6"),
    "hyenadna-small-32k": ("LongSafari/hyenadna-small-32k-seqlen-hf", "8fe770c78eb13fe33bf81501612faeddf4d6f331"),
    "hyenadna-medium-160k": ("LongSafari/hyenadna-medium-160k-seqlen-hf", "7ebf71773d22c0ede2cc55cb2be15ee8c289e1ce"),
    "hyenadna-medium-450k": ("LongSafari/hyenadna-medium-450k-seqlen-hf", "42dedd4d374eac0fb8168549e546a3472fbd27ae"),
    "hyenadna-large-1m": ("LongSafari/hyenadna-large-1m-seqlen-hf", "0a629abf9c7f85b4ec9aa6a1aefa3adcf1907446"),
}
"""Name: repository and commit. The hub could not be reached when they were written down; several public projects that
pin the same repositories name the same commits."""

BUNDLED = "bundle/encoders"
"""Where an opened bundle keeps checkpoints, `<name>/<commit>`, under the folder that it is opened in."""

WEIGHTS = "model.safetensors"
"""The weights in the hub's format."""

HUB_FILES = ("config.json", WEIGHTS)


def folder_at_hand(name: str, revision: str | None = None) -> Path | None:
    """The folder of a published checkpoint, named by its commit, where it is on this machine: brought by an opened
    bundle, or in the hub's local cache. None where it is not; nothing is downloaded.
    """
    repository, pinned = ENCODERS[name]
    commit = revision or pinned
    for mirror in mirror_folders():
        folder = mirror / BUNDLED / name / commit
        if all((folder / file).is_file() for file in HUB_FILES):
            return folder
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = [try_to_load_from_cache(repository, file, revision=commit) for file in HUB_FILES]
    there = [Path(file) for file in found if isinstance(file, str)]
    return there[0].parent if len(there) == len(HUB_FILES) else None
