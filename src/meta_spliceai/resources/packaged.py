"""The files that travel inside this package; `tools/make_packaged_data.py` makes them and states their checksums."""

from __future__ import annotations

from meta_spliceai.resources.registry import Resource, ResourceFile, register
from meta_spliceai.resources.resolve import OWN_PACKAGE

FOLDER = "meta_spliceai/datasets/packaged"
VARIANTS = f"{FOLDER}/variants.parquet"
SEQUENCE = f"{FOLDER}/sequence.npz"
SCORES = f"{FOLDER}/scores-cispliceai.npz"
DESCRIPTION = f"{FOLDER}/description.json"

PACKAGED_HUMAN = register(
    Resource(
        name="packaged-human",
        title="Human variants, the bases around them, and CI-SpliceAI's scores of them",
        source="made by tools/make_packaged_data.py from https://github.com/YStrauch/CI-SpliceAI__Comparison and "
        "https://github.com/gagneurlab/MMSplice_paper (rows outside chr1 and chr9), GRCh38, and PyPI cispliceai 1.2.2",
        licence="CC BY 4.0 (CI-SpliceAI's variants, gene table and networks), Apache-2.0 (MaPSy, its repository's)",
        citation="Strauch et al. 2022, PLOS ONE, doi 10.1371/journal.pone.0269159; Soemedi et al. 2017, Nature "
        "Genetics, doi 10.1038/ng.3837",
        files=(
            ResourceFile(VARIANTS, "b940b30ca6c87ff6604938a5b8fb00c5db1719a24d163dbcbf6ea0b4388d7037", 304_772),
            ResourceFile(SEQUENCE, "9bf7fda1149284cc02981e05d62d3fc823eab3f5e0d7e1cc40b4f0f3b3fdb92a", 1_561_312),
            ResourceFile(SCORES, "0dd0970f2f1a2ac1ca843d2f991823125b4c827cc425f43fa202825a79482f19", 392_980),
            ResourceFile(DESCRIPTION, "5d46e83d971c4fbfcaf8791e05803347aea7a4590709f3f5c805d7c749acfd4f", 1_510),
        ),
        package=OWN_PACKAGE,
    )
)
