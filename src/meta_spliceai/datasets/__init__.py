"""Named data sets: which files, which reader, which label rule, which genome."""

from meta_spliceai.datasets import (
    brca1_sge,
    cispliceai_validated,
    deep_intronic,
    mapsy,
    mfass,
    packaged_human,
    splicevardb,
    wt1_exon5,
)
from meta_spliceai.datasets.load import check_files, get, load_dataset
from meta_spliceai.datasets.registry import DataSet, Loaded, names

__all__ = [
    "DataSet",
    "Loaded",
    "brca1_sge",
    "check_files",
    "cispliceai_validated",
    "deep_intronic",
    "get",
    "load_dataset",
    "mapsy",
    "mfass",
    "names",
    "packaged_human",
    "splicevardb",
    "wt1_exon5",
]
