"""HyenaDNA, reimplemented: a causal language model of DNA built from long implicit convolutions.

Architecture and numbers: Nguyen et al. 2023, "HyenaDNA: Long-Range Genomic Sequence Modeling at Single Nucleotide
Resolution" (arXiv 2306.15794); the Hyena operator: Poli et al. 2023 (arXiv 2302.10866). Parameter names are those of
the published checkpoints below `backbone.`, so that a checkpoint loads name by name.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from meta_spliceai.errors import InputError
from meta_spliceai.splice_engine.meta_layer.models.predictor import Encoder, Features, OneHot

BASE_TOKENS = (7, 8, 9, 10)
"""Token of A, C, G, T: the published vocabulary keeps 0 to 6 for special tokens."""
N_TOKEN = 11

Hidden = Float[Tensor, "batch length channels"]

FLOOR = 0.05
"""Added to the decay, so that the farthest taps can still count (the published code's "shift")."""


class HyenaConfig(BaseModel):
    """The shape of a HyenaDNA model, in the names of the hub's own config.json; other entries of that are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    d_model: PositiveInt
    n_layer: PositiveInt
    d_inner: PositiveInt = Field(description="width inside the feed-forward part")
    max_seq_len: PositiveInt = Field(description="longest sequence that the position tables serve, in tokens")
    emb_dim: PositiveInt = Field(default=5, description="numbers that describe a position to the filter network (odd)")
    filter_order: PositiveInt = Field(default=64, description="width of the filter network")
    num_inner_mlps: PositiveInt = Field(default=2, description="hidden layers of the filter network after the first")
    short_filter_order: PositiveInt = Field(default=3, description="taps of the short convolution")
    vocab_size: PositiveInt = 12
    pad_vocab_size_multiple: PositiveInt = 8
    activation_freq: float = Field(default=10.0, description="initial frequency of the filter network's sines")
    layer_norm_epsilon: float = 1e-5
    embed_dropout: float = Field(default=0.1, ge=0, lt=1, description="share dropped after the embedding in training")
    hyena_order: Literal[2] = 2
    origin: str = Field(default="", description="what the weights of an encoder that was trained here saw")

    @property
    def vocabulary(self) -> int:
        """Rows of the token table."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple


class _Sine(nn.Module):
    """sin(frequency · x), the frequencies learned."""

    def __init__(self, width: int, frequency: float) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, width), frequency))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        return torch.sin(self.freq * x)


class _Tables(nn.Module):
    """Fixed numbers of the long filter: of its taps the time in [0, 1] (`t`), with a few slow waves (`z`); of its
    channels the rates at which the taps decay with distance (`deltas`)."""

    z: Tensor
    t: Tensor
    deltas: Tensor

    def __init__(self, **tables: Tensor) -> None:
        super().__init__()
        for name, table in tables.items():
            self.register_buffer(name, table)


def _positions(config: HyenaConfig) -> _Tables:
    length, bands = config.max_seq_len, (config.emb_dim - 1) // 2
    time = torch.linspace(0, 1, length)[:, None]
    angle = 2 * math.pi * torch.linspace(0, length - 1, length)[:, None] / length
    waves = torch.linspace(1e-4, bands - 1, bands)[None] * angle
    return _Tables(z=torch.cat((time, waves.cos(), -waves.sin()), dim=1)[None], t=time[None])


def _decay(config: HyenaConfig, fast: float = 0.3, slow: float = 1.5, target: float = 1e-2) -> _Tables:
    rates = torch.linspace(math.log(target) / slow, math.log(target) / fast, config.d_model)
    return _Tables(deltas=rates[None, None])


class _LongFilter(nn.Module):
    """A convolution as long as the sequence, its taps computed by a small network from their positions."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        width, self.frequency = config.filter_order, config.activation_freq
        self.bias = nn.Parameter(torch.randn(config.d_model))
        self.pos_emb = _positions(config)
        # One sine is shared by all hidden layers: the published state dicts hold it several times, once a place.
        sine = _Sine(width, config.activation_freq)
        layers: list[nn.Module] = [nn.Linear(config.emb_dim, width), sine]
        for _ in range(config.num_inner_mlps):
            layers += [nn.Linear(width, width), sine]
        layers.append(nn.Linear(width, config.d_model, bias=False))
        self.implicit_filter = nn.Sequential(*layers)
        self.modulation = _decay(config)

    @torch.no_grad()
    def start_for(self, length: int) -> None:
        """Start the filter as that of a model made for sequences of this many bases, with sines of periods from 2 bases
        to twice as many (evenly in their logarithm) and hidden layers as in Sitzmann et al. 2020 (arXiv 2006.09661).

        Position and decay are on the scale of the longest sequence that a model reads. Over a much shorter one the
        published start gives flat filters without decay: no tap differs from its neighbours, nor near from far.
        """
        first, *hidden = [layer for layer in self.implicit_filter if isinstance(layer, nn.Linear)]
        bases, frequency = self.pos_emb.t.shape[1] - 1, self.frequency
        periods = torch.empty(first.out_features).uniform_(math.log(2), math.log(2 * length)).exp()
        first.weight[:, 0] = 2 * math.pi * bases / frequency / periods
        first.bias.uniform_(-math.pi / frequency, math.pi / frequency)
        for layer in hidden[:-1]:
            reach = math.sqrt(6 / layer.in_features) / frequency
            layer.weight.uniform_(-reach, reach)
        self.modulation.deltas *= bases / length

    def taps(self, length: int) -> Float[Tensor, "channels length"]:
        """The filter's first `length` taps."""
        shape = self.implicit_filter(self.pos_emb.z[:, :length])
        decay = torch.exp(-self.pos_emb.t[:, :length] * self.modulation.deltas.abs())
        return (shape * (decay + FLOOR))[0].T

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch channels length"]:
        """Causal convolution through the frequency domain, in float32 also where the rest runs in bfloat16:
        the transform sums over the whole length."""
        with torch.autocast(x.device.type, enabled=False):
            signal = x.float()
            length = signal.shape[-1]
            # Any transform of at least 2·length − 1 points keeps the wrapped-around part away from the output.
            points = next_fast_len(2 * length - 1, real=True)
            spectrum = torch.fft.rfft(signal, n=points) * torch.fft.rfft(self.taps(length).float(), n=points)
            filtered = torch.fft.irfft(spectrum, n=points)[..., :length]
            return (filtered + signal * self.bias.float()[:, None]).to(x.dtype)


class _HyenaOperator(nn.Module):
    """Two gates around a long convolution, each input through a short one first (order 2)."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        width, taps = config.d_model, config.short_filter_order
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.short_filter = nn.Conv1d(3 * width, 3 * width, taps, groups=3 * width, padding=taps - 1)
        self.filter_fn = _LongFilter(config)

    def forward(self, x: Hidden) -> Hidden:
        length = x.shape[1]
        mixed = self.short_filter(self.in_proj(x).mT)[..., :length]
        outer, inner, value = mixed.chunk(3, dim=1)
        return self.out_proj((self.filter_fn(value * inner) * outer).mT)


class _Layer(nn.Module):
    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.mixer = _HyenaOperator(config)
        self.norm2 = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        inner, outer = nn.Linear(config.d_model, config.d_inner), nn.Linear(config.d_inner, config.d_model)
        self.mlp = nn.Sequential(OrderedDict(fc1=inner, gelu=nn.GELU(approximate="tanh"), fc2=outer))

    def forward(self, x: Hidden) -> Hidden:
        # The residual stream stays in float32: under autocast the branches come back as bfloat16.
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Embeddings(nn.Module):
    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.d_model)


class _Backbone(nn.Module):
    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)


class HyenaDNA(nn.Module):
    """HyenaDNA with random weights; `load_hyenadna` gives one with the weights asked for.

    Args:
        config: shape.
        gradient_checkpointing: recompute each layer in the backward pass instead of keeping its activations.

    Memory is linear in the sequence length.
    """

    def __init__(self, config: HyenaConfig, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.backbone = _Backbone(config)
        self.dropout = nn.Dropout(config.embed_dropout)
        self.apply(self._initialise)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                # Keeps the residual stream's variance independent of the depth (as GPT-2 does).
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer))

    def start_for(self, length: int) -> None:
        """Start the long filters for training on sequences far shorter than the model can read (see theirs)."""
        for module in self.modules():
            if isinstance(module, _LongFilter):
                module.start_for(length)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def embed(self, tokens: Int[Tensor, "batch length"]) -> Hidden:
        """The token table's rows."""
        return F.embedding(tokens.long(), self.backbone.embeddings.word_embeddings.weight)

    def embed_bases(self, onehot: OneHot) -> Hidden:
        """The same rows from one-hot bases; a column of zeros is N. Gradients reach the bases."""
        table = self.backbone.embeddings.word_embeddings.weight
        with torch.autocast(onehot.device.type, enabled=False):
            known = onehot.mT.to(table.dtype)
            # Only zeros and ones meet the table, so no rounding happens here.
            return known @ table[BASE_TOKENS[0] : N_TOKEN] + (1 - known.sum(-1, keepdim=True)) * table[N_TOKEN]

    def forward(self, embedded: Hidden) -> Hidden:
        """Hidden states after the final norm; position i has seen positions 0 to i. The sequence is at most as long as
        the model's position tables."""
        x = self.dropout(embedded)
        for layer in self.backbone.layers:
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return self.backbone.ln_f(x)


class BothStrandsHyenaDNA(Encoder):
    """HyenaDNA on the transcript and on its reverse complement.

    At every position the first half of the channels has seen the bases up to and including it, the second half those
    from it on, read on the other strand; together they have seen the whole window.

    Args:
        model: HyenaDNA.
        window: bases (at most as many as the model's position tables serve).
        radius: only positions up to this far from the middle are given out; None for all.
        hidden_dim: see `Encoder`.
    """

    def __init__(self, model: HyenaDNA, window: int, radius: int | None = None, hidden_dim: int | None = None) -> None:
        first = max(0, window // 2 - radius) if radius is not None else 0
        super().__init__(window, 2 * model.config.d_model, window - 2 * first, hidden_dim)
        if window > model.config.max_seq_len:
            raise InputError(f"window {window} is longer than this HyenaDNA can read ({model.config.max_seq_len})")
        self.model, self.first = model, first
        self.receptive_field = window

    def layers_from_last(self) -> list[list[nn.Parameter]]:
        """Parameters of HyenaDNA's layers from the last (with the final norm) to the first, then of the token table."""
        backbone = self.model.backbone
        layers = [list(layer.parameters()) for layer in backbone.layers][::-1]
        layers[0] += list(backbone.ln_f.parameters())
        return [*layers, list(backbone.embeddings.parameters())]

    def forward(self, onehot: OneHot) -> Features:
        self.require_window(onehot)
        # Channels are A, C, G, T: turning both axes round gives the reverse complement.
        both = torch.cat((onehot, onehot.flip((1, 2))))
        hidden = self.model(self.model.embed_bases(both))
        onward, backward = hidden[: len(onehot)], hidden[len(onehot) :].flip(1)
        last = self.first + self.positions
        return torch.cat((onward[:, self.first : last], backward[:, self.first : last]), dim=2).mT
