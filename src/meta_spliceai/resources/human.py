"""Published measurements of human variants, and the reference sequence around them.

The copies of measurements named here hold no row on chr1 and chr9. Their checksums therefore differ from those of the
public originals, which are named as `source`; a user's own download of an original is read through a loader's `path`.
"""

from __future__ import annotations

from meta_spliceai.resources.registry import Resource, ResourceFile, register

_WITHOUT = "this copy is without chr1 and chr9"
_OWN = "give your own download of the original with path=FILE (on the command line: --set path=FILE)"

SPLICEVARDB_OPEN = register(
    Resource(
        name="splicevardb-open",
        title="MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in SpliceVarDB's download format",
        source=f"put together from the sources of mfass, mapsy, cispliceai-validated and deep-intronic ({_WITHOUT})",
        licence="those of its sources: none stated (MFASS), Apache-2.0 (MaPSy), CC BY 4.0 (CI-SpliceAI), GPL-3 "
        "(deep intronic)",
        citation="Cheung 2019, 10.1016/j.molcel.2018.10.037; Soemedi 2017, 10.1038/ng.3837; Strauch 2022, "
        "10.1371/journal.pone.0269159; Barbosa 2023, 10.1093/gigascience/giad085; format: Sullivan 2024, SpliceVarDB",
        files=(
            ResourceFile(
                "splicevardb_format/open_sources.tsv",
                "8c52f9e58beb1bcc4d864a6a630986610e5146ed3cecfc57e9e8f311c9d0105e",
                3_001_101,
            ),
        ),
        how_to_get=_OWN,
    )
)

MFASS = register(
    Resource(
        name="mfass",
        title="MFASS: exon reporter assay of human single-nucleotide variants",
        source="https://github.com/KosuriLab/MFASS @ 9660bd155b4bc702be54845d66684d480a6d629b, "
        f"processed_data/snv/snv_intron_cons.RData, its content as TSV ({_WITHOUT})",
        licence="none stated",
        citation="Cheung et al. 2019, Molecular Cell, doi 10.1016/j.molcel.2018.10.037",
        files=(
            ResourceFile(
                "mfass/mfass_snv_full.tsv.gz",
                "ac847b98aaa98097e2ccb550cd830d8c6526b25ab82d0e1f19f5442923dd87fc",
                3_200_952,
            ),
        ),
        how_to_get=_OWN,
    )
)

MAPSY = register(
    Resource(
        name="mapsy",
        title="MaPSy: splicing of disease variants in vivo and in vitro",
        source="https://github.com/gagneurlab/MMSplice_paper @ 89e9885c39604945885b462ff5b7c7f08c47f269, "
        f"data/mapsy/mapsy.txt ({_WITHOUT})",
        licence="Apache-2.0 (the repository's)",
        citation="Soemedi et al. 2017, Nature Genetics, doi 10.1038/ng.3837",
        files=(
            ResourceFile(
                "mapsy/mapsy.csv", "ada876b50c8e831b6bd148feb7da0b4a81f40c15ca62a6e8670627af667270b0", 2_978_937
            ),
        ),
        how_to_get=_OWN,
    )
)

CISPLICEAI_VALIDATED = register(
    Resource(
        name="cispliceai-validated",
        title="Functionally validated variants with the splice sites that were lost and gained",
        source="https://github.com/YStrauch/CI-SpliceAI__Comparison @ 55d966b7ac180b7ef8a30cef6208702f2901218b, "
        f"variants/variants.csv ({_WITHOUT})",
        licence="CC BY 4.0",
        citation="Strauch et al. 2022, PLOS ONE, doi 10.1371/journal.pone.0269159",
        files=(
            ResourceFile(
                "cispliceai_validated/variants.csv",
                "351583b6a795060c9a85a8821ac3ade0417c4135fc7017d92c657f8ae3c614e5",
                145_203,
            ),
        ),
        how_to_get=_OWN,
    )
)

DEEP_INTRONIC = register(
    Resource(
        name="deep-intronic",
        title="Deep intronic variants that affect splicing, and such that do not",
        source=f"https://github.com/PedroBarbosa/DeepIntronic_Benchmark (commit not known; {_WITHOUT})",
        licence="GPL-3.0",
        citation="Barbosa et al. 2023, GigaScience, doi 10.1093/gigascience/giad085",
        files=(
            ResourceFile(
                "deep_intronic/splicing_variants.tsv",
                "553d49b38d4fd68a3e1691fcb3ac7b53c42011afe05da63cdc3e633540e613fb",
                189_212,
            ),
        ),
        how_to_get=_OWN,
    )
)

BRCA1_SGE = register(
    Resource(
        name="brca1-sge",
        title="Saturation genome editing of BRCA1, RNA scores",
        source="Supplementary Table 1 of Findlay et al. 2018",
        licence="none stated",
        citation="Findlay et al. 2018, Nature, doi 10.1038/s41586-018-0461-z",
        files=(
            ResourceFile(
                "brca1_sge/findlay2018_table_s1.xlsx",
                "0100fc651b6ec6015f02a5813660afdcf9cf3969790992104e99e74f7348d0fd",
                2_268_761,
            ),
        ),
        how_to_get=_OWN,
    )
)

HUMAN_REGIONS = register(
    Resource(
        name="human-regions",
        title="Reference sequence of human regions in both builds, and UCSC's lift-over chain",
        source="LRG, public repositories and PyPI frame-alignment-checks; UCSC hg19ToHg38.over.chain",
        licence="none stated (public reference sequence)",
        citation="Genome Reference Consortium",
        files=(
            ResourceFile(
                "genome/hg38_regions.fa.gz",
                "cc5ad6ed179511b9ab2d137158a06a92de52edec0d1df82b04006ad44da2a8c1",
                34_256_438,
            ),
            ResourceFile(
                "genome/hg19_regions.fa.gz",
                "5af728950d34ecdf1bd31a122915e5476dd153e57afcb03cd1d46ed9e7fa2eec",
                19_089_637,
            ),
            ResourceFile(
                "genome/hg19ToHg38.over.chain",
                "a073d8914233b5542d29761ab8ec4b3815052b13964919c12a1efb2e311fbf39",
                606_773,
            ),
        ),
        how_to_get="use a whole genome's FASTA file with genome=FILE, and UCSC's chain with chain=FILE",
    )
)
