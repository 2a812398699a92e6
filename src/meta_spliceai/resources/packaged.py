"""The files of the resource packaged-human, inside this package, that `tools/make_packaged_data.py` makes."""

FOLDER = "meta_spliceai/datasets/packaged"
VARIANTS = f"{FOLDER}/variants.parquet"
SEQUENCE = f"{FOLDER}/sequence.npz"
SCORES = f"{FOLDER}/scores-cispliceai.npz"
DESCRIPTION = f"{FOLDER}/description.json"
