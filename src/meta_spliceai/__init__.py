"""meta-spliceai: train, evaluate and use predictors of splice-altering variants."""

import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_spliceai.datasets.load import load_dataset as load_dataset
    from meta_spliceai.experiments.predict.predict_shipped import load_predictor as load_predictor
    from meta_spliceai.splice_engine.base_layer.scoring import score_variants as score_variants
    from meta_spliceai.splice_engine.base_layer.vcf.score_vcf import score_vcf as score_vcf

_LAZY = {
    "load_dataset": "meta_spliceai.datasets.load",
    "load_predictor": "meta_spliceai.experiments.predict.predict_shipped",
    "score_variants": "meta_spliceai.splice_engine.base_layer.scoring",
    "score_vcf": "meta_spliceai.splice_engine.base_layer.vcf.score_vcf",
}
"""What is loaded, with all that it needs, only when it is asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'meta_spliceai' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def _version() -> str:
    """Of the installed package; a checkout that merely stands on PYTHONPATH says it itself."""
    try:
        return version("meta-spliceai")
    except PackageNotFoundError:
        with (Path(__file__).resolve().parents[2] / "pyproject.toml").open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])


__version__ = _version()
