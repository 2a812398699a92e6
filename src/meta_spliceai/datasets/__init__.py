"""Named data sets: which files, which reader, which label rule, which genome."""

from meta_spliceai.datasets.load import check_files, get, load_dataset
from meta_spliceai.datasets.registry import DataSet, Loaded, names

__all__ = ["DataSet", "Loaded", "check_files", "get", "load_dataset", "names"]
