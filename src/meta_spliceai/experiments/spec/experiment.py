"""What an experiment is: data × base network × window × encoder × head × target × split × training.

An experiment is data, not a class: a new one is a block of YAML in `catalogue/`. Defaults stand here; YAML holds only
what differs. A bad value is refused with its file, row, field, the value and what is allowed.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from meta_spliceai.errors import InputError, shown
from meta_spliceai.splice_engine.meta_layer.settings import (
    MEMBERS,
    TRUNK,
    Bounded,
    FusionConfig,
    TrainingConfig,
    TrunkConfig,
)

NETWORK = "a family of base networks: spliceai, cispliceai, openspliceai, pangolin"

Procedure = Literal["single", "cross-validation", "ensemble", "fusion"]


class Wish(Bounded):
    """The wishlist's own guess about a row, kept as its owner wrote it; measured numbers live in the ledger."""

    what: str = Field("", description="the middle column of the wishlist's table: model, samples, context, folds, task")
    column: str = Field("Model", description="heading of that column in the section's table")
    vram_gb: float | None = Field(None, gt=0, description="guessed GPU memory, GB")
    vram_or_more: bool = Field(False, description="true where the guess was written with a plus ('48GB+')")
    hours: tuple[float, float] | None = Field(None, description="guessed time, hours, from and to")
    priority: Literal["high", "medium", "low"] | None = Field(None, description="the wishlist's priority")
    starred: bool = Field(False, description="marked with a star on the wishlist")
    note: str = Field("", description="what the wishlist says beside the table")

    @field_validator("hours")
    @classmethod
    def _from_to(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("hours are two positive numbers, from and to")
        return value


class DataSpec(Bounded):
    """Which measured variants."""

    name: str = Field("splicevardb", description="a data set of `meta-spliceai data list`")
    rows: int | None = Field(
        None,
        ge=1,
        description="number of variants wanted, drawn with the seed; all where absent or where there are fewer",
    )
    labelled_only: bool = Field(
        False, description="draw `rows` only among variants the target can use (Splice-altering and Normal)"
    )
    balanced: bool = Field(False, description="draw as many Splice-altering as Normal, and no others")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="what the data set's loader takes (a path, a build)"
    )


class NetworkSpec(Bounded):
    """A base network; of one beside the row's own, distance, method and precision are those of the row's own."""

    name: str = Field(description=NETWORK)
    members: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="0-based members of the ensemble; all where absent"
    )


class BaseSpec(NetworkSpec):
    """Which base network scores the variants first."""

    name: str = Field("spliceai", description=NETWORK)
    distance: int = Field(
        50, ge=1, le=5000, description="Δ is kept within this many bases of the variant (SpliceAI's D)"
    )
    method: Literal["incremental", "full"] = Field("incremental", description="how Δ is computed; both give the same")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the products behind Δ (references always in fp32); bf16 is used only where a sample of Δ stays "
        "within 1e-3 of fp32, which the result says",
    )


class FusionSpec(Bounded):
    """Base networks' Δ, position and words, fused by trees trained on measured labels, instead of encoder and head."""

    beside: tuple[NetworkSpec, ...] = Field(
        (), description="base networks fused with the row's own `base`: names, or name and members"
    )
    words: bool = Field(True, description="give the trees the k-mers around the variant as well")
    trunk: bool = Field(
        False,
        description="give the trees the last hidden channels of the row's own `base` as well, at the exon's two sites "
        "and at the variant: of the reference, and alternative minus reference",
    )
    scores: tuple[str, ...] = Field(
        (),
        description="scores of tools that are not run here, given to the trees beside Δ: each NAME=FILE, "
        "NAME=FILE:COLUMN or NAME=FILE:INFO/KEY, as `leaderboard --scores` takes them",
    )
    validation: Literal["learn", "calibrate"] = Field(
        "learn",
        description="what the validation part is for: learn from it too (the number of trees and the calibration come "
        "from folds within the training rows) or calibrate (the last repair is fitted there)",
    )
    settings: FusionConfig = Field(FusionConfig.model_validate({}), description="how the trees are grown")

    @field_validator("scores")
    @classmethod
    def _named_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [text.partition("=")[0] for text in value]
        if not all("=" in text for text in value) or len(set(names)) < len(names):
            raise ValueError("each is NAME=FILE, and no name is given twice")
        return value

    @field_validator("beside", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"name": entry} if isinstance(entry, str) else entry for entry in value]
        return value


class EncoderSpec(Bounded):
    """What reads the two windows."""

    name: str = Field("gated-cnn", description="an encoder of the meta layer: simple-cnn, gated-cnn, …, spliceai-trunk")
    settings: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="the encoder's own settings (hidden, layers, tuning, weights …)"
    )


class HeadSpec(Bounded):
    """What turns features into a prediction."""

    name: str = Field("delta", description="delta, quantile, binary, effect-type, position, magnitude or multitask")
    settings: dict[str, str | int | float | bool | list[float] | None] = Field(
        default_factory=dict, description="the head's own settings (quantiles, dropout …)"
    )


class SplitSpec(Bounded):
    """Who is trained on and who is tested; whole groups go to one part."""

    name: str = Field(
        "gene",
        description="what is kept together: gene (with paralogs), group, exon, position-blocks, chromosome, "
        "spliceai-clean (test on chromosomes the base network never saw)",
    )
    fractions: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15), description="shares of train, validation and test among the groups"
    )
    test_chromosomes: tuple[str, ...] = Field((), description="chromosomes held out as test, for split 'chromosome'")
    train_rows: int | None = Field(
        None,
        ge=1,
        description="variants of the training part that are trained on, drawn with the seed (smaller draws lie within "
        "larger ones), while validation and test stay whole: a point of a learning curve; all where absent",
    )
    allow_leaks: bool = Field(
        False, description="train although the audit finds that parts share something; the result says so"
    )
    folds: int | Literal["chromosome"] | None = Field(
        None,
        description="cross-validation: number of folds, or 'chromosome' for leave-one-chromosome-out; none = one split",
    )

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("the three shares are above 0 and sum to 1")
        return value

    @field_validator("folds")
    @classmethod
    def _at_least_two(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 3:
            raise ValueError("cross-validation needs at least 3 folds: test, validation and training differ")
        return value


ENSEMBLE_TARGET = "validated-delta"
"""The target whose answers mean the same for all models, so that they can be averaged."""


class EnsembleSpec(Bounded):
    """Finished rows put together; weights are fitted on validation only."""

    members: tuple[str, ...] = Field(min_length=2, description="ids of the rows whose runs are combined")
    combine: Literal["mean", "weighted"] = Field("weighted", description="equal weights, or fitted on validation")

    @field_validator("members")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [member for member in value if value.count(member) > 1]
        if twice:
            raise ValueError(
                f"'{twice[0]}' is named twice; for several starts of one model make rows that differ in training.start"
            )
        return value


class ExperimentSpec(Bounded):
    """One row: everything that decides a result, apart from data content, code version and device."""

    id: str = Field(description="the name in `meta-spliceai run ID`")
    title: str = Field(description="the row's title on the wishlist")
    section: str = Field(description="the wishlist's section")
    purpose: str = Field("", description="the question the row answers")
    wish: Wish | None = Field(None, description="the wishlist's guess; absent for rows that are not on the wishlist")
    data: DataSpec = Field(DataSpec.model_validate({}), description="which variants")
    base: BaseSpec = Field(BaseSpec.model_validate({}), description="which base network")
    window: int = Field(501, ge=3, le=1_000_001, description="bases of a window, odd, the variant in the middle")
    encoder: EncoderSpec = Field(EncoderSpec.model_validate({}), description="encoder of the windows")
    head: HeadSpec = Field(HeadSpec.model_validate({}), description="output head")
    target: Literal["validated-delta", "altering", "effect-type", "position", "magnitude", "multitask"] = Field(
        "validated-delta", description="training target, derived from the labels"
    )
    split: SplitSpec = Field(
        SplitSpec.model_validate({}), description="which variants are trained on and which are tested"
    )
    training: TrainingConfig = Field(TrainingConfig.model_validate({}), description="training settings")
    ensemble: EnsembleSpec | None = Field(None, description="members to combine instead of a model to train")
    fusion: FusionSpec | None = Field(None, description="base networks to fuse instead of an encoder to train")
    negatives: tuple[Literal["Normal", "Low-frequency"], ...] = Field(
        ("Normal",),
        min_length=1,
        description="the negative side in evaluation, baselines, fusion and target 'altering'; MFASS's published "
        "question has Low-frequency there as well",
    )
    bootstrap: int = Field(2000, ge=10, le=100_000, description="resamples of groups behind every interval")
    evidence: Literal["full", "none"] = Field(
        "full",
        description="what is computed besides the metrics: strata, position held fixed, calibration, ceiling, observed "
        "sites; none: the metrics alone, in a fraction of the time",
    )
    scale: Literal["full", "laptop"] = Field(
        "full", description="laptop: with the values under `laptop`, so that the row ends within minutes on two cores"
    )
    laptop: dict[str, Any] = Field(
        default_factory=dict, description="fields that `--scale laptop` changes, in blocks as in the row itself"
    )
    smoke: bool = Field(False, description="a few rows and tiny sizes, to see that a row runs; never a result")

    @field_validator("id")
    @classmethod
    def _for_a_folder(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", value):
            raise ValueError("small letters a to z, digits and hyphens, such as simple-cnn-501")
        return value

    @field_validator("window")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("a window has an odd number of bases, so that the variant stands in the middle")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> ExperimentSpec:
        if self.split.name == "chromosome" and not self.split.test_chromosomes and self.split.folds is None:
            raise ValueError("split 'chromosome' needs split.test_chromosomes")
        if self.fusion is not None and self.ensemble is not None:
            raise ValueError("a row is a fusion or an ensemble, not both")
        if self.ensemble is not None and self.split.folds is not None:
            raise ValueError("an ensemble has no folds: it combines rows with one split (split.folds = null)")
        if self.ensemble is not None and self.target != ENSEMBLE_TARGET:
            raise ValueError(f"an ensemble combines rows that learn '{ENSEMBLE_TARGET}'; target is '{self.target}'")
        names = [network.name for network in self.networks]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"base network '{twice[0]}' is given twice; fusion.beside lists those beside base.name = "
                f"'{self.base.name}'"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that decide a result: not the title, the section, the purpose or the wish, and of the scale only
        what it changed."""
        found = self.model_dump(mode="json", exclude={"title", "section", "purpose", "wish", "scale", "laptop"})
        if self.fusion is not None and not self.fusion.scores:
            del found["fusion"]["scores"]  # so that runs keep the address that they had before there was such a field
        return found

    def listed(self) -> dict[str, Any]:
        """What every list of rows says of one, as JSON has it."""
        return self.model_dump(mode="json", include={"id", "title", "section", "wish"})

    @property
    def networks(self) -> tuple[BaseSpec, ...]:
        """Every base network the row needs, its own first; all with one distance and method."""
        beside = () if self.fusion is None else self.fusion.beside
        return (
            self.base,
            *(self.base.model_copy(update={"name": one.name, "members": one.members}) for one in beside),
        )

    @property
    def trunk(self) -> TrunkConfig | None:
        """The base network's hidden channels that the row's encoder or its fusion reads; None for rows without.

        Raises:
            InputError: a bad setting of the encoder.
        """
        if self.fusion is not None:
            if not self.fusion.trunk:
                return None
            reach = self.base.distance  # as far as Δ at the exon's own sites is known
            return TrunkConfig(family=self.base.name, members=self.base.members, read_radius=0, site_reach=reach)
        if self.ensemble is not None or not self.encoder.name.endswith(TRUNK):
            return None
        settings = {name: value for name, value in self.encoder.settings.items() if name != "hidden_dim"}
        members = settings.pop("members", MEMBERS)
        family = self.encoder.name.removesuffix(TRUNK)
        where = f"row '{self.id}', settings of encoder '{self.encoder.name}'"
        if not isinstance(members, int) or members < 1:
            raise InputError(f"{where}: members = {members!r} is not a number of networks of at least 1")
        return TrunkConfig.from_mapping({"family": family, "members": tuple(range(members)), **settings}, where)

    @property
    def trunk_network(self) -> BaseSpec | None:
        """The network that `trunk` reads, with the positions that must be scored for it; None for rows without."""
        read = self.trunk
        if read is None:
            return None
        return BaseSpec.model_validate({"name": read.family, "members": read.members, "distance": read.distance})

    @property
    def procedure(self) -> Procedure:
        """How a result comes about: one model, one for each fold, finished rows combined, or base networks fused."""
        if self.fusion is not None:
            return "fusion"
        if self.ensemble is not None:
            return "ensemble"
        return "single" if self.split.folds is None else "cross-validation"

    @property
    def seed(self) -> int:
        """The one seed: rows drawn, split, initial weights, order of batches, resampling."""
        return self.training.seed


def parse_spec(values: dict[str, Any], where: str) -> ExperimentSpec:
    """A row from plain values, as read from YAML; InputError names `where` (file and row), the first bad field, its
    value and what is allowed."""
    try:
        return ExperimentSpec.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}") from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first complaint of pydantic about a `model` (a row where absent) as one line: field, value, rule; and how
    many more there are."""
    first, count = first_problem(error), error.error_count()
    field = ".".join(str(part) for part in first["loc"]) or "the row as a whole"
    given, message = first["input"], str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        said = f"field '{field}' is missing"
    elif first["type"] == "extra_forbidden":
        known = _fields_at(first["loc"][:-1], model or ExperimentSpec)
        said = f"field '{field}': no such field" + (f"; fields here: {', '.join(known)}" if known else "")
    else:
        value = "" if isinstance(given, dict) else f" = {given if isinstance(given, date) else shown(given)}"
        said = f"field '{field}'{value}: {message[:1].lower()}{message[1:]}"
        said += "; YAML takes this for a date, so write it in quotes" if isinstance(given, date) else ""
    return said if count == 1 else f"{said} (and {count - 1} more)"


def first_problem(error: ValidationError) -> ErrorDetails:
    """What to say first of several complaints: a field that is unknown, because one that is missing may be the same one
    misspelt; else the first."""
    problems = error.errors(include_url=False)
    return next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])


def fields(model: type[BaseModel] | None = None, prefix: str = "") -> dict[str, str]:
    """Every field of a row by its dotted name, with what it means: what `--set` takes."""
    found: dict[str, str] = {}
    for name, info in (model or ExperimentSpec).model_fields.items():
        inner = _model_of(info.annotation)
        # A list is set as a whole.
        block = inner is not None and get_origin(info.annotation) is not tuple
        found |= fields(inner, f"{prefix}{name}.") if block else {f"{prefix}{name}": info.description or ""}
    return found


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    for part in location:
        if isinstance(part, str):  # a number is an entry of a list: the model is that of its entries already
            info = model.model_fields.get(part) if model is not None else None
            model = _model_of(info.annotation if info is not None else None)
    return list(model.model_fields) if model is not None else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field, or of a list's entries; None for plain values."""
    candidates = (annotation, *get_args(annotation))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
