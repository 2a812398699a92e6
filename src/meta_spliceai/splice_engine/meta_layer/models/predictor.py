"""What all predictors share: an encoder for both sequences, a readout that compares them, heads; saving and loading."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from meta_spliceai.errors import InputError, IntegrityError, MissingResourceError, unknown_value
from meta_spliceai.files import atomic_write
from meta_spliceai.splice_engine.base_layer.families import load_state
from meta_spliceai.splice_engine.meta_layer.models.heads import Head

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
FORMAT = 1

Shift = Int[Tensor, " batch"] | None
"""Places before the middle at which each pair's variant stands; None: in the middle."""

OneHot = Float[Tensor, "batch 4 length"]
Features = Float[Tensor, "batch channels positions"]

SCRATCH = "scratch"

READ_NEXT = ContextVar("weights are read from a saved predictor next", default=False)


class Encoder(nn.Module):
    """Bases of a window to features of the places around its middle.

    Attributes:
        window: bases that are read (odd, the variant in the middle).
        channels, positions: of the features.
        hidden_dim: channels to which a projection, trained with the head, brings the features; None: they stay.
        weights: where the encoder's weights come from, in words.
        frozen: the encoder is never trained, so that its features can be computed once and kept.
        sites: the first place is the tested exon's acceptor and the last one its donor, not neighbours of the variant.
        receptive_field: bases that the middle depends on; None if it is not known.
    """

    receptive_field: int | None = None
    weights = SCRATCH
    frozen = False
    sites = False

    def __init__(self, window: int, channels: int, positions: int, hidden_dim: int | None = None) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise InputError(f"window {window} is not an odd positive number of bases")
        if (hidden_dim or channels) < 1 or hidden_dim == 0:
            raise InputError(f"hidden_dim {hidden_dim if hidden_dim is not None else channels} is not positive")
        self.window, self.channels, self.positions, self.hidden_dim = window, channels, positions, hidden_dim

    def require_window(self, onehot: OneHot) -> None:
        """InputError for a window of another length than the encoder was made for."""
        if onehot.shape[-1] != self.window:
            raise InputError(f"a window of {onehot.shape[-1]} bases was given to an encoder made for {self.window}")

    def layers_from_last(self) -> list[list[nn.Parameter]]:
        """A pre-trained encoder's parameters by layer, from the last to the first; empty for others."""
        return []


@contextmanager
def without_weights() -> Iterator[None]:
    """A block in which models are built with random weights, wherever theirs should come from: they are read from a
    saved predictor next."""
    before = READ_NEXT.set(True)
    try:
        yield
    finally:
        READ_NEXT.reset(before)


class Predictor(nn.Module):
    """Compares reference and alternative: one encoder reads both, a readout compares, a head predicts.

    A subclass takes plain numbers and strings in its constructor and hands them on as `config`, so that
    `type(predictor)(**predictor.config)` builds the same architecture again.

    Attributes:
        window: bases the predictor reads (odd; the variant in the middle).
        weights: where the weights come from, in words ("scratch", a folder, a checkpoint's name and revision).
        encoder_frozen: the encoder is never trained, so that its features can be computed once and kept.
        positions: places around the window's middle whose features are compared.
        sites: the encoder also gives features of the exon's two sites, before and behind those of these places.
    """

    named: ClassVar[dict[str, type[Predictor]]] = {}
    weights, encoder_frozen, sites = SCRATCH, False, False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            Predictor.named[cls.__name__] = cls

    def __init__(self, window: int, config: dict[str, Any]) -> None:
        super().__init__()
        self.window, self.positions, self.config = window, window, config
        self.field: int | None = None
        self.encoder: Encoder
        self.project: nn.Module = nn.Identity()
        self.readout: nn.Module
        self.head: Head

    def read_with(self, encoder: Encoder) -> None:
        """Take an encoder, and what it says of itself."""
        self.encoder, self.weights, self.encoder_frozen = encoder, encoder.weights, encoder.frozen
        self.sites, self.positions = encoder.sites, encoder.positions - 2 * encoder.sites
        self.field = encoder.receptive_field

    def encode_pair(self, ref: OneHot, alt: OneHot) -> tuple[Features, Features]:
        """Features of both sequences, in one pass of the encoder over the joined batch."""
        joined = torch.cat((ref, alt))
        if self.encoder_frozen:
            # In float32 and rounded as they come out of the cache: whether they were kept must not change a prediction.
            exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
            with torch.no_grad(), torch.autocast(ref.device.type, enabled=False), exact:
                both: Tensor = self.encoder(joined).half().float()
        else:
            both = self.encoder(joined)
        # Of a split the gradient is one joining; of two slices it would be two zero-filled copies and their sum.
        of_ref, of_alt = both.split(len(ref))
        return of_ref, of_alt

    def train(self, mode: bool = True) -> Self:
        """As everywhere, but a frozen encoder stays in evaluation mode: no dropout in features that are kept."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def compare(self, ref: Features, alt: Features, shift: Shift = None) -> Float[Tensor, "batch outputs"]:
        ref, alt = self.project(ref), self.project(alt)
        compared = self.readout(ref, alt, shift)
        if self.sites:
            ref, alt = ref[..., 1:-1], alt[..., 1:-1]
        prediction: Tensor = self.head(compared, ref, alt)
        return prediction

    def forward(self, ref: OneHot, alt: OneHot, shift: Shift = None) -> Float[Tensor, "batch outputs"]:
        """The prediction for each pair; for a Δ predictor [batch, 3] in the order neither, acceptor, donor. Predicted
        positions count from the window's middle, also where the variant is shifted."""
        return self.compare(*self.encode_pair(ref, alt), shift)

    def encoder_layers(self) -> list[list[nn.Parameter]]:
        """A pre-trained encoder's parameters by layer, from the last to the first; empty if there is none."""
        return self.encoder.layers_from_last()

    def columns(self, predictions: Float32[np.ndarray, "n outputs"]) -> dict[str, Float32[np.ndarray, " n"]]:
        """What the numbers of `predict` mean, by name (see the head): `score` and `signed` among them where the task
        gives them."""
        return self.head.columns(predictions)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def describe(self) -> dict[str, Any]:
        return {
            "predictor": type(self).__name__,
            "config": self.config,
            "window": self.window,
            "parameters": self.parameter_count(),
            "parameters_trained": sum(p.numel() for p in self.parameters() if p.requires_grad),
            "receptive_field": self.field,
            "weights": self.weights,
        }

    def save_pretrained(self, folder: Path | str, trained_on: str = "") -> Path:
        """Write weights (safetensors), config.json and a model card (which says `trained_on`, as Markdown), each file
        whole. Returns the folder."""
        folder = Path(folder)
        # Copies, because modules may share a tensor and the file format does not know that.
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_write(folder / WEIGHTS_FILE, "wb") as handle:
            handle.write(save(state))
        about = type(self).__doc__ or "", type(self.head).__doc__ or ""
        write_description(folder, self.describe(), model_card(self.describe(), *about, trained_on))
        return folder

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Read what `save_pretrained` wrote. Called on Predictor, any saved class; on a subclass, only that one.

        Raises:
            MissingResourceError: the folder or one of the two files is not there.
            IntegrityError: a file is truncated or altered, the weights do not fit the config or are no numbers.
            InputError: the folder holds another predictor, one of an unknown class, or an ensemble of finished ones.
        """
        folder = Path(folder)
        saved = read_config(folder, "predictor", "config", "weights")
        name = str(saved["predictor"])
        if name not in cls.named:
            raise unknown_value("predictor", name, cls.named, str(folder / CONFIG_FILE))
        kind = cls.named[name]
        if not issubclass(kind, cls):
            raise InputError(f"{folder} holds a {name}, not a {cls.__name__}; use {name}.from_pretrained")
        if not (folder / WEIGHTS_FILE).is_file():
            raise MissingResourceError(f"no saved predictor in {folder}: {WEIGHTS_FILE} is missing")
        try:
            with without_weights():
                predictor = kind(**saved["config"])
            tensors = load((folder / WEIGHTS_FILE).read_bytes())
        except (InputError, SafetensorError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise IntegrityError(f"{CONFIG_FILE} and {WEIGHTS_FILE} in {folder} are no whole {name} ({why})") from error
        load_state(predictor, tensors, str(folder / WEIGHTS_FILE))
        predictor.weights = str(saved["weights"])
        return predictor.eval()


def write_description(folder: Path, described: dict[str, Any], card: str) -> None:
    with atomic_write(folder / CONFIG_FILE) as handle:
        json.dump({"format": FORMAT, **described}, handle, indent=2, ensure_ascii=False)
    with atomic_write(folder / CARD_FILE) as handle:
        handle.write(card)


def read_config(folder: Path, *fields: str) -> dict[str, Any]:
    """What config.json of a saved predictor or ensemble says in these fields, of which only an ensemble's has `shares`.

    Raises:
        MissingResourceError: there is none.
        IntegrityError: it is damaged, or another version's.
        InputError: an ensemble where a predictor was asked for, or the other way round.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise MissingResourceError(f"no saved predictor in {folder}: {CONFIG_FILE} is missing")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise ValueError(f"its format is {saved['format']}, this version reads {FORMAT}")
        if ("shares" in saved) != ("shares" in fields):
            raise InputError(f"{folder} holds a {saved['predictor']}; use {saved['predictor']}.from_pretrained")
        return {field: saved[field] for field in fields}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a saved predictor's config ({error!r})") from error


def model_card(
    description: dict[str, Any], about: str, about_head: str, trained_on: str = "", loader: str = "Predictor"
) -> str:
    """A page on a saved predictor, from its `describe` and the docstrings of the predictor and of its head; `loader` is
    the class whose `from_pretrained` reads the folder."""
    settings = "\n".join(f"- {name}: {value}" for name, value in description["config"].items())
    return f"""# {description["predictor"]}

{inspect.cleandoc(about).partition("Args:")[0].strip()}

- Reads: reference and alternative, {description["window"]} bases each in transcript orientation, the variant in the
  middle; one-hot A, C, G, T, an unknown base as zeros.
- Parameters: {description["parameters"]:,}, of which {description["parameters_trained"]:,} trained.
- Starting weights: {description["weights"]}.

## Training

{trained_on or "Whoever saved this did not say what it was trained on."}

## Prediction

{inspect.cleandoc(about_head)}

## Settings

{settings}

## Use

```python
from meta_spliceai.splice_engine.meta_layer.models import {loader}

predictor = {loader}.from_pretrained("this folder")
```

For research. Not a clinical tool.
"""
