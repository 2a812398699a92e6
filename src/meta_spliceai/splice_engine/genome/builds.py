"""Human genome builds: their names, and how long their chromosomes are, so that one is not taken for the other."""

from __future__ import annotations

from collections.abc import Mapping

from meta_spliceai.errors import InputError, unknown_value

GRCH37, GRCH38 = "GRCh37", "GRCh38"

_SPELLINGS = {
    GRCH37: ("grch37", "hg19", "37", "b37", "hs37d5"),
    GRCH38: ("grch38", "hg38", "38", "b38"),
}

# Lengths as the UCSC chain file hg19ToHg38 gives them for both builds (assembly reports GCF_000001405.13 and .26).
_LENGTHS = {
    GRCH37: (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747,
        135006516, 133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520,
        48129895, 51304566, 155270560, 59373566,
    ),
    GRCH38: (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422,
        135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167,
        46709983, 50818468, 156040895, 57227415,
    ),
}  # fmt: skip
_CHROMOSOMES = (*(str(number) for number in range(1, 23)), "X", "Y")

CHROMOSOME_LENGTHS: dict[str, dict[str, int]] = {
    build: dict(zip(_CHROMOSOMES, lengths, strict=True)) for build, lengths in _LENGTHS.items()
}
"""Build: chromosome without "chr": bases."""


def build_name(spelling: str) -> str:
    """ "GRCh37" or "GRCh38" from any usual spelling (hg19, hg38, 37, GRCh38 …).

    Raises:
        InputError: neither of the two.
    """
    for build, spellings in _SPELLINGS.items():
        if spelling.lower() in spellings:
            return build
    raise unknown_value("genome build", spelling, ("GRCh37", "hg19", "GRCh38", "hg38"))


def check_lengths(contigs: Mapping[str, int], build: str, where: str, *, whole: bool) -> None:
    """Compare contig lengths with those of the build that was named.

    Args:
        contigs: name: length, with or without "chr"; names that are no chromosome are passed over.
        build: "GRCh37" or "GRCh38"; anything else (a construct, another species) is not checked.
        where: the file, for the message.
        whole: the contigs are whole chromosomes, so that lengths must be equal; otherwise they must not be longer.

    Raises:
        InputError: a length that does not fit; the message says which build it fits, if one.
    """
    if build not in CHROMOSOME_LENGTHS:
        return
    for name, length in contigs.items():
        chromosome = name[3:] if name.startswith("chr") else name
        expected = CHROMOSOME_LENGTHS[build].get(chromosome)
        if expected is None or length == expected or (not whole and length < expected):
            continue
        fits = [other for other, known in CHROMOSOME_LENGTHS.items() if known[chromosome] == length]
        if whole and not fits:
            continue  # a cut-out or a toy with a chromosome's name: alleles are compared row by row anyway
        raise InputError(
            f"{where} is not {build}: its {name} has {length:,} bases, {build} has {expected:,}"
            + (f"; that is the length in {fits[0]}, so name that build" if fits else "; name the right build")
        )
