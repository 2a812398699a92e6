"""meta-spliceai: train, judge and use predictors of splice-altering variants."""

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    """Of the installed package; a checkout that merely stands on PYTHONPATH says it itself."""
    try:
        return version("meta-spliceai")
    except PackageNotFoundError:
        import tomllib
        from pathlib import Path

        with (Path(__file__).resolve().parents[2] / "pyproject.toml").open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])


__version__ = _version()
