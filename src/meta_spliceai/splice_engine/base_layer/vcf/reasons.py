"""Why an allele has no score: the reasons, in the words used in statistics and (with underscores) in INFO."""

NO_ALTERNATIVE = "no alternative allele"
CONTIG_ABSENT = "contig not in reference"
MISMATCH = "reference mismatch"
BAD_REFERENCE = "reference allele not made of bases"
NOT_IN_GENE = "not in a gene"
TOO_LONG = "reference too long"
SYMBOLIC = "symbolic allele"
BREAKEND = "breakend"
SPANNING = "spanning deletion"
BAD_ALLELE = "allele not made of bases"
ALLELE_TOO_LONG = "alternative too long"

# What SpliceAI's own command leaves out; only under strict compatibility.
DELINS = "several bases replaced by several"
NEAR_END = "near contig end"
LOWER_CASE = "lower-case reference"

ALL = (
    NO_ALTERNATIVE,
    CONTIG_ABSENT,
    MISMATCH,
    BAD_REFERENCE,
    NOT_IN_GENE,
    TOO_LONG,
    SYMBOLIC,
    BREAKEND,
    SPANNING,
    BAD_ALLELE,
    ALLELE_TOO_LONG,
    DELINS,
    NEAR_END,
    LOWER_CASE,
)


def in_info(reason: str) -> str:
    """The reason as INFO can hold it: without white space."""
    return reason.replace(" ", "_")
