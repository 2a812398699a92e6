"""Settings for training, fusion and inputs, every number with its meaning and bounds; an error names the bad value.
Kept light, so that a row can be read without PyTorch."""

from __future__ import annotations

import hashlib
import math
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from meta_spliceai.errors import InputError, shown

LARGEST = 2**32 - 1
"""No number of a user's is further from 0: the largest seed that every library takes."""

TrainingPrecision = Literal["auto", "float32", "bfloat16"]


class Bounded(BaseModel):
    """Fields that are all there is and never change; every number among them, in lists and blocks too, is finite and
    not beyond `LARGEST`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _in_bounds(cls, value: Any) -> Any:
        _check_numbers(value)
        return value


def _check_numbers(value: Any) -> None:
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise ValueError(f"a number from -{LARGEST:,} to {LARGEST:,}")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        _check_numbers(one)


class Settings(Bounded):
    """Settings whose fields are all there is: an unknown one, or a value out of bounds, is refused by name."""

    words: ClassVar[str] = "settings"
    """The settings in the user's words, for messages."""

    @classmethod
    def from_mapping(cls, values: dict[str, Any], where: str = "") -> Self:
        """Checked settings from plain values, as they stand in a spec; InputError names field and value, and `where`
        they stand (file or command; `words` if empty)."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            place = where or cls.words
            if first["type"] == "extra_forbidden":
                raise InputError(f"{place}: no field '{field}'; fields: {', '.join(cls.model_fields)}") from error
            raise InputError(f"{place}: {field} = {shown(first['input'])}: {first['msg']}") from error


class TrainingConfig(Settings):
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
    precision: TrainingPrecision = Field(
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


TRUNK = "-trunk"
"""What the name of an encoder ends in that reads a base network's hidden channels; before it stands the family."""

TRUNK_STEP = "trunk features"
"""The step of a run in which a base network's hidden channels are computed."""

MEMBERS, READ_RADIUS, SITE_REACH = 5, 16, 300
"""Defaults of such an encoder's settings."""


class TrunkConfig(Settings):
    words: ClassVar[str] = "settings of the trunk"

    family: str = Field(description="the base network, as `base.name` has it")
    members: tuple[int, ...] | None = Field(
        None, min_length=1, description="0-based networks of its ensemble; all where absent"
    )
    read_radius: int = Field(READ_RADIUS, ge=0, le=5000, description="bases to either side of the variant")
    site_reach: int = Field(
        SITE_REACH, ge=1, le=5000, description="the exon's sites are read where they lie within so many bases"
    )

    @property
    def positions(self) -> int:
        """Places that are read: acceptor, the variant and what is around it, donor."""
        return 2 * self.read_radius + 3

    @property
    def distance(self) -> int:
        """Positions to either side of the variant that must be scored."""
        return max(self.read_radius, self.site_reach)


class BoostingConfig(Settings):
    """How gradient-boosted trees are grown."""

    words: ClassVar[str] = "settings of the trees"

    most_trees: int = Field(
        150, ge=1, le=10_000, description="upper end of the number of trees; the number used is chosen on grouped folds"
    )
    learning_rate: float = Field(0.08, gt=0, le=1, description="shrinkage of each tree")
    leaves: int = Field(12, ge=2, le=10_000, description="most leaves of a tree")
    fewest_in_leaf: int = Field(25, ge=1, description="least rows in a leaf")
    l2: float = Field(5.0, ge=0, description="penalty on leaf values")
    features_per_split: float = Field(0.3, gt=0, le=1, description="share of the features tried at each split")
    folds: int = Field(3, ge=2, le=1000, description="grouped folds within the training rows")
    seeds: int = Field(2, ge=1, le=1000, description="models grown with different seeds and averaged")


class FusionConfig(Settings):
    """How the fusion is trained."""

    words: ClassVar[str] = "settings of the fusion"

    trees: BoostingConfig = Field(BoostingConfig.model_validate({}), description="of both models")
    use_effect: bool = Field(
        True, description="grow the model of the measured effect as well, where there are enough measurements"
    )
    calibration: Literal["temperature", "isotonic"] = Field(
        "temperature", description="fitted on the validation part, where one is given"
    )
