"""Which gene, strand and exon a variant belongs to, where its source does not say."""

from __future__ import annotations

from dataclasses import dataclass

from meta_spliceai.splice_engine.genome.annotation import Gene, GeneAnnotation

NO_GENE = "no gene at the variant (strand not known)"
TWO_STRANDS = "genes on both strands equally near (strand not known)"


@dataclass(frozen=True)
class TestedExon:
    """The exon nearest to a variant.

    Attributes:
        gene: the gene.
        acceptor: 1-based position of the exon's first base in transcript order; None at the transcription start.
        donor: 1-based position of its last base in transcript order; None at the transcription end.
        number: 1-based number of the exon in transcript order.
    """

    __test__ = False  # its name begins with "Test", but it is none

    gene: Gene
    acceptor: int | None
    donor: int | None
    number: int


def nearest_exon(gene: Gene, pos: int) -> tuple[TestedExon, int]:
    """The exon of a gene whose edge is nearest to a position (1-based), and that distance in bases (0 = an edge base).

    Within an exon that is the exon itself: the edges of others lie beyond its own.
    """
    distances = [min(abs(pos - (start + 1)), abs(pos - end)) for start, end in gene.exons]
    best = distances.index(min(distances))
    start, end = gene.exons[best]
    first, last = best == 0, best == len(gene.exons) - 1
    if gene.strand == "+":
        exon = TestedExon(gene, None if first else start + 1, None if last else end, best + 1)
    else:
        exon = TestedExon(gene, None if last else end, None if first else start + 1, len(gene.exons) - best)
    return exon, distances[best]


def find_tested_exon(
    annotation: GeneAnnotation, chrom: str, pos: int, named_gene: str = "", strand: str = ""
) -> TestedExon | str:
    """The exon a variant most likely tests.

    Among the genes over the position, the one the source names is taken if it is there; otherwise the gene with the
    nearest exon edge.

    Args:
        annotation: the genes.
        chrom, pos: the variant (1-based).
        named_gene: the source's gene symbol, or empty.
        strand: only genes on this one, if it is known.

    Returns:
        the exon, or the reason why there is none: `NO_GENE`, or `TWO_STRANDS` when genes of both strands are equally
        near, so that neither can be preferred.
    """
    genes = [gene for gene in annotation.overlapping(chrom, pos) if strand in ("", gene.strand)]
    genes = [gene for gene in genes if gene.name == named_gene] or genes
    if not genes:
        return NO_GENE
    found = [nearest_exon(gene, pos) for gene in genes]
    nearest = min(distance for _, distance in found)
    near = [exon for exon, distance in found if distance == nearest]
    return near[0] if len({exon.gene.strand for exon in near}) == 1 else TWO_STRANDS
