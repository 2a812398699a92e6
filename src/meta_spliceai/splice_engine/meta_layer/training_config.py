"""How a predictor is trained: every number, with its meaning and its bounds."""

from __future__ import annotations

import hashlib
import math
from typing import ClassVar, Literal

from pydantic import Field

from meta_spliceai.splice_engine.meta_layer.settings import Settings


class TrainingConfig(Settings):
    """Settings of one training run. A field that does not exist, or a value out of bounds, is refused by name."""

    words: ClassVar[str] = "training settings"

    epochs: int = Field(30, ge=1, le=100_000, description="Passes over the training rows, at most.")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="Variants in a batch (each is two windows).")
    learning_rate: float = Field(3e-3, gt=0, le=1000, description="Highest learning rate of AdamW.")
    learning_rate_for_batch: int | None = Field(
        None,
        ge=1,
        description="Variants in a step (batch_size times accumulate) that learning_rate is meant for: with more or "
        "fewer the rate follows rate_rule, while warm-up keeps its share of the steps; None: the rate as it stands.",
    )
    rate_rule: Literal["sqrt", "linear"] = Field(
        "sqrt",
        description="How the rate follows the variants in a step: by the square root of their ratio (for AdamW: "
        "Malladi et al. 2022, arXiv 2205.10330) or in proportion (Goyal et al. 2017, arXiv 1706.02677).",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay; not applied to biases and norms.")
    warmup_fraction: float = Field(
        0.02, ge=0, lt=1, description="Share of all steps in which the learning rate climbs; then it falls as a cosine."
    )
    patience: int = Field(8, ge=0, description="Epochs without a better validation loss before stopping; 0: never.")
    min_improvement: float = Field(0.0, ge=0, description="A smaller fall of the validation loss is no improvement.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 mixed precision on CUDA, float32 on a CPU."
    )
    gradient_clip: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0: not clipped.")
    accumulate: int = Field(1, ge=1, le=1_000_000, description="Batches whose gradients are added before a step.")
    unfreeze_layers: int | None = Field(
        None, ge=0, description="Last layers of a pre-trained encoder that are trained; None: all of them."
    )
    unfreeze_every: int = Field(
        0, ge=0, description="Gradual unfreezing: epochs from one encoder layer to the next lower one; 0: all at once."
    )
    encoder_rate: float = Field(
        0.1, gt=0, le=1, description="Learning rate of a pre-trained encoder's last layer, as a share of the head's."
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Learning rate of an encoder layer, as a share of that of the layer above it."
    )
    balance: Literal["none", "classes"] = Field(
        "none",
        description="classes: each class of the task (altering or not, kind of effect) weighs the same in the loss.",
    )
    window_shift: int = Field(
        0,
        ge=0,
        description="Each training window is moved at random by up to so many bases, the alleles together, so that the "
        "variant is not always in its middle; 0: it always is. Validation and prediction are never moved.",
    )
    compile: Literal["none", "default", "reduce-overhead"] = Field(
        "none",
        description="torch.compile's mode for the training steps (reduce-overhead: CUDA graphs); the first step of "
        "each batch size then takes a minute, and results differ by rounding only.",
    )
    loss: Literal["huber", "mse"] = Field("huber", description="Loss of Δ and magnitude heads.")
    huber_delta: float = Field(
        0.1, gt=0, description="Error beyond which Huber's loss grows linearly (Δ is in [-1, 1])."
    )
    seed: int = Field(0, ge=0, description="Of batch order and dropout.")
    start: int = Field(
        0,
        ge=0,
        description="Which random start: other initial weights, batches and dropout with the same seed, so on the same "
        "rows and split. Rows that differ in it alone are the members of an ensemble of several starts.",
    )

    @property
    def rows_a_step(self) -> int:
        """Variants whose gradients make one step of the optimiser."""
        return self.batch_size * self.accumulate

    @property
    def highest_rate(self) -> float:
        """The highest learning rate there is in training: `learning_rate`, scaled where that is asked for."""
        if self.learning_rate_for_batch is None:
            return self.learning_rate
        ratio = self.rows_a_step / self.learning_rate_for_batch
        return self.learning_rate * (ratio if self.rate_rule == "linear" else math.sqrt(ratio))

    @property
    def own_seed(self) -> int:
        """The seed of all that `start` changes; for start 0 it is `seed` itself."""
        if not self.start:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed}, start {self.start}".encode()).digest()[:6], "little")

    def reach(self, window: int) -> int:
        """Bases around a variant that training may see: those of a window, wherever `window_shift` moves it."""
        return window + 2 * self.window_shift
