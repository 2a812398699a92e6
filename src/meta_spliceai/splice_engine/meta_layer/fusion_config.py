"""How trees are grown and fused: every number, with its meaning and its bounds. Light, so that a row can be read."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from meta_spliceai.splice_engine.meta_layer.settings import Settings


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
