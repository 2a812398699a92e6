"""Published measurements of human variants, and what places them in the genome.

Four of them have two editions: the authors' own file, and the development copy, which holds no row on chr1 and chr9.
"""

from __future__ import annotations

from meta_spliceai.resources.registry import DEVELOPMENT, ORIGINAL, Resource, ResourceFile, register

OWN_FILE = "--set data.options.path=FILE"
"""How a row is given the user's own file of a source."""

File = tuple[str, int, str]
"""Place in a mirror and in the cache, bytes, SHA-256."""


def _on_github(
    name: str, repository: str, at: tuple[str, str], original: File, copy: File, about: tuple[str, str, str]
) -> Resource:
    """A table in the authors' repository, and its development copy.

    Args:
        at: commit and path of the file in it.
        about: title, licence, citation.
    """
    commit, path = at
    title, licence, citation = about
    return register(
        Resource(
            name=name,
            title=title,
            source=f"https://github.com/{repository} @ {commit}, {path}",
            licence=licence,
            citation=citation,
            files=(
                ResourceFile(
                    original[0],
                    original[2],
                    original[1],
                    f"https://raw.githubusercontent.com/{repository}/{commit}/{path}",
                    ORIGINAL,
                ),
                ResourceFile(copy[0], copy[2], copy[1], edition=DEVELOPMENT),
            ),
        )
    )


MFASS = _on_github(
    "mfass",
    "KosuriLab/MFASS",
    ("9a8e4f27106be52aeb11acad27f95f5cded663a8", "processed_data/snv/snv_intron_cons.RData"),
    (
        "mfass/snv_intron_cons.RData",
        3_543_822,
        "8131ef9a5cc01b0208bc371038cc4f77d78ebba8691e61a89a3be6e877303fae",
    ),
    (
        "mfass/mfass_snv_full.tsv.gz",
        3_200_952,
        "ac847b98aaa98097e2ccb550cd830d8c6526b25ab82d0e1f19f5442923dd87fc",
    ),
    (
        "MFASS: exon reporter assay of human single-nucleotide variants",
        "none stated",
        "Cheung et al. 2019, Molecular Cell, doi 10.1016/j.molcel.2018.10.037",
    ),
)

MAPSY = _on_github(
    "mapsy",
    "gagneurlab/MMSplice_paper",
    ("89e9885c39604945885b462ff5b7c7f08c47f269", "data/mapsy/mapsy.txt"),
    ("mapsy/mapsy.txt", 3_300_099, "af0d6fc8bb5d41265513c7e54f5ada48f093d63243eaf6fc488d8cef3bf958d8"),
    ("mapsy/mapsy.csv", 2_978_937, "ada876b50c8e831b6bd148feb7da0b4a81f40c15ca62a6e8670627af667270b0"),
    (
        "MaPSy: splicing of disease variants in vivo and in vitro",
        "Apache-2.0 (the repository's)",
        "Soemedi et al. 2017, Nature Genetics, doi 10.1038/ng.3837",
    ),
)

CISPLICEAI_VALIDATED = _on_github(
    "cispliceai-validated",
    "YStrauch/CI-SpliceAI__Comparison",
    ("55d966b7ac180b7ef8a30cef6208702f2901218b", "variants/variants.csv"),
    (
        "cispliceai_validated/variants.csv",
        165_602,
        "d60fa186da2cf2f57d7469f1107ef5ab3465392b7b32e90f47dd0c971e5f19c6",
    ),
    (
        "cispliceai_validated/variants.csv",
        145_203,
        "351583b6a795060c9a85a8821ac3ade0417c4135fc7017d92c657f8ae3c614e5",
    ),
    (
        "Functionally validated variants with the splice sites that were lost and gained",
        "CC BY 4.0",
        "Strauch et al. 2022, PLOS ONE, doi 10.1371/journal.pone.0269159",
    ),
)

DEEP_INTRONIC = _on_github(
    "deep-intronic",
    "PedroBarbosa/DeepIntronic_Benchmark",
    ("8a7d9ad915b6427dc693628b149b6a40d48554c6", "data/splicing_altering/splicing_variants.tsv"),
    (
        "deep_intronic/splicing_variants.tsv",
        225_378,
        "266bfda58941ce8f11a80afec3c526d7e9313ed66d6ba39a1beecdbced043f4c",
    ),
    (
        "deep_intronic/splicing_variants.tsv",
        189_212,
        "553d49b38d4fd68a3e1691fcb3ac7b53c42011afe05da63cdc3e633540e613fb",
    ),
    (
        "Deep intronic variants that affect splicing, and such that do not",
        "GPL-3.0",
        "Barbosa et al. 2023, GigaScience, doi 10.1093/gigascience/giad085",
    ),
)

OPEN_SOURCES = (MFASS, MAPSY, CISPLICEAI_VALIDATED, DEEP_INTRONIC)

SPLICEVARDB_OPEN = register(
    Resource(
        name="splicevardb-open",
        title="MFASS, MaPSy, CI-SpliceAI's and the deep intronic variants in SpliceVarDB's download format",
        source="built on this machine from mfass, mapsy, cispliceai-validated and deep-intronic",
        licence="; ".join(f"{one.licence} ({one.name})" for one in OPEN_SOURCES),
        citation="; ".join(one.citation for one in OPEN_SOURCES) + "; format: Sullivan et al. 2024, SpliceVarDB",
        files=(
            ResourceFile(
                "splicevardb_format/open_sources.tsv",
                "8c52f9e58beb1bcc4d864a6a630986610e5146ed3cecfc57e9e8f311c9d0105e",
                3_001_101,
                edition=DEVELOPMENT,
            ),
        ),
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
        how_to_get="download Supplementary Table 1 from the paper's page and give it with the option path "
        "(data.options.path of a row, --set path=FILE of a data command)",
    )
)

HUMAN_REGIONS = register(
    Resource(
        name="human-regions",
        title="Reference sequence of human regions in both builds",
        source="LRG, public repositories and PyPI frame-alignment-checks",
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
        ),
        how_to_get="meta-spliceai data get grch38 (or grch37), which is the whole genome",
    )
)

LIFT_OVER_CHAIN = register(
    Resource(
        name="hg19-to-hg38-chain",
        title="UCSC's lift-over chain from GRCh37 to GRCh38",
        source="https://hgdownload.soe.ucsc.edu/goldenPath/hg19/liftOver/",
        licence="none stated (public)",
        citation="UCSC Genome Browser",
        files=(
            ResourceFile(
                "genome/hg19ToHg38.over.chain",
                "a073d8914233b5542d29761ab8ec4b3815052b13964919c12a1efb2e311fbf39",
                606_773,
                "https://hgdownload.soe.ucsc.edu/goldenPath/hg19/liftOver/hg19ToHg38.over.chain.gz",
            ),
        ),
    )
)
