"""Named data sets: which files, which reader, which label rule, which genome."""

from meta_spliceai.datasets import wt1_exon5
from meta_spliceai.datasets.registry import DataSet, Loaded, check_files, get, load_dataset, names

__all__ = ["DataSet", "Loaded", "check_files", "get", "load_dataset", "names", "wt1_exon5"]
