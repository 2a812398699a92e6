"""meta-spliceai: train, judge and use predictors of splice-altering variants."""

from importlib.metadata import version

__version__ = version("meta-spliceai")
