from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from meta_spliceai.errors import InputError, LeakageError
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome, reverse_complement
from meta_spliceai.splice_engine.variants.audit import Audit, audit_split, audit_splits
from meta_spliceai.splice_engine.variants.splits import Split, split_digest
from meta_spliceai.splice_engine.variants.table import Coverage

Make = Callable[..., pd.DataFrame]
RNG = np.random.default_rng(0)
CONTIGS = {name: RNG.integers(0, 4, 3000).astype(np.uint8) for name in "1234"}
CONTIGS["5"] = reverse_complement(CONTIGS["1"])
GENOME = MemoryGenome(CONTIGS, build="toy", name="toy")


def split_of(table: pd.DataFrame, parts: Sequence[str], unit: str = "gene") -> Split:
    given = np.array(parts, dtype=object)
    return Split("toy", given, split_digest(table, given), "by hand", Coverage(len(table)), unit)


def audited(table: pd.DataFrame, parts: Sequence[str], unit: str = "gene", window: int = 101) -> Audit:
    return audit_split(table, split_of(table, parts, unit), GENOME, window)


def checks(audit: Audit, severity: str) -> set[str]:
    return {finding.check for finding in audit.findings if finding.severity == severity}


@pytest.fixture
def clean(variants: Make) -> pd.DataFrame:
    """Two variants, one of each class, in each of three unrelated genes."""
    rows = [(chrom, pos, "A", "C", "+") for chrom in "234" for pos in (1000, 1050)]
    return variants(
        rows,
        gene=[f"G{row[0]}" for row in rows],
        group=[f"G{row[0]}" for row in rows],
        classification=["Normal", "Splice-altering"] * 3,
        acceptor_pos=[990] * 6,
        donor_pos=[1100] * 6,
    )


PARTS = ["train", "train", "validation", "validation", "test", "test"]


@pytest.mark.parametrize("unit", ["group", "exon", "gene", "chromosome"])
def test_a_clean_split_is_clean(clean: pd.DataFrame, unit: str) -> None:
    audit = audited(clean, PARTS, unit)
    assert audit.leaks == ()
    audit.require_clean()
    assert audit.findings == ()
    assert audit.to_json()["clean"] is True


def test_a_split_by_variant_fails_loudly(clean: pd.DataFrame) -> None:
    audit = audited(clean, ["train", "test"] * 3)
    assert checks(audit, "leak") == {
        "shared groups",
        "shared genes",
        "shared exons",
        "overlapping windows",
    }
    with pytest.raises(LeakageError, match=r"split toy \(gene\) leaks: 3 shared groups \(first G2 in train and test\)"):
        audit.require_clean()


def test_what_a_split_does_not_promise_is_a_note(clean: pd.DataFrame) -> None:
    audit = audited(clean, ["train", "test"] * 3, unit="site")
    assert audit.leaks == ()
    assert {"shared exons", "overlapping windows", "shared genes"} <= checks(audit, "note")


def test_the_same_allele_written_differently(clean: pd.DataFrame) -> None:
    twin = clean.copy()
    twin.loc[4, ["chrom", "pos", "ref", "alt"]] = ["chr2", 999, "TA", "TC"]
    assert "shared variants" in checks(audited(twin, PARTS, "group"), "leak")


def test_the_same_change_in_two_constructs(clean: pd.DataFrame) -> None:
    constructs = clean.assign(genome_chrom=["7", "7", "8", "8", "7", "9"], genome_pos=[500, 9000, 500, 9000, 500, 500])
    turned = constructs.copy()
    turned.loc[4, ["ref", "alt"]] = ["T", "G"]  # read from the other strand
    assert "shared variants" in checks(audited(constructs, PARTS, "group"), "leak")
    assert "shared variants" in checks(audited(turned, PARTS, "group"), "leak")
    turned.loc[4, ["ref", "alt"]] = ["T", "A"]
    assert "shared variants" not in checks(audited(turned, PARTS, "group"), "leak")


def test_shared_sequences_and_sites(clean: pd.DataFrame) -> None:
    table = clean.assign(sequence=list("abcdef"), sites_mutated=["1", "2", "3", "4", "5;6", "7"])
    assert audited(table, PARTS, "site").leaks == ()
    again = table.assign(sequence=list("abcdea"))
    assert checks(audited(again, PARTS, "site"), "leak") == {"shared sequences"}
    site = table.assign(sites_mutated=["1", "2", "3", "4", "2;6", "7"])
    leak = audited(site, PARTS, "site").leaks
    assert [(found.check, found.count) for found in leak] == [("shared sites", 1)]
    assert leak[0].examples == ("site 2 in train and test",)


@pytest.mark.parametrize(("distance", "overlaps"), [(100, True), (101, False), (-100, True), (-101, False)])
def test_windows_overlap_to_the_base(variants: Make, distance: int, overlaps: bool) -> None:
    table = variants([("2", 1000, "A", "C", "+"), ("2", 1000 + distance, "A", "C", "+")], group=["a", "b"])
    audit = audited(table, ["train", "test"], "exon", window=101)
    assert ("overlapping windows" in checks(audit, "leak")) is overlaps


@pytest.mark.parametrize("order", [["train", "test"], ["test", "train"]])
def test_near_identical_windows_on_the_other_strand(variants: Make, order: list[str]) -> None:
    # contig 5 is contig 1 reverse-complemented: position p there is 3001 - p here
    table = variants([("1", 1000, "A", "C", "+"), ("5", 2003, "A", "C", "-")], group=["a", "b"], gene=["a", "b"])
    audit = audited(table, order)
    assert checks(audit, "leak") == {"near-identical windows", "paralogs"}
    with pytest.raises(LeakageError, match=r"near-identical windows.*paralogs"):
        audit.require_clean()


def test_without_sequence_the_missing_checks_are_named(variants: Make) -> None:
    table = variants([("1", 1000, "A", "C", "+"), ("5", 2003, "A", "C", "-")], group=["a", "b"], gene=["a", "b"])
    audit = audit_split(table, split_of(table, ["train", "test"]), None)
    assert audit.leaks == ()
    assert len(audit.not_done) == 2


def test_several_splits_are_audited_as_each_by_itself(clean: pd.DataFrame) -> None:
    splits = [split_of(clean, PARTS), split_of(clean, ["train", "test"] * 3), split_of(clean, ["", *PARTS[1:]])]
    together = audit_splits(clean, splits, GENOME, 101)
    assert [audit.to_json() for audit in together] == [
        audit_split(clean, split, GENOME, 101).to_json() for split in splits
    ]
    assert [bool(audit.leaks) for audit in together] == [False, True, False]


def test_imbalances_are_notes(variants: Make) -> None:
    rows = [(str(2 + at // 40), 10 + 10 * (at % 40), "A", "C", "+") for at in range(120)]
    labels = ["Splice-altering"] * 4 + ["Normal"] * 36 + ["Splice-altering", "Normal"] * 40
    table = variants(
        rows,
        group=[f"g{row[0]}" for row in rows],
        classification=labels,
        source=["lab A"] * 40 + ["lab B", "lab C"] * 40,
    )
    audit = audited(table, ["train"] * 40 + ["validation"] * 40 + ["test"] * 40, "group")
    assert checks(audit, "note") >= {"class imbalance", "source imbalance", "source tells class"}
    told = {finding.check: finding for finding in audit.findings}
    assert "Splice-altering: train 10.0%, validation 50.0%, test 50.0%" in told["class imbalance"].examples[0]
    assert told["source tells class"].examples == ("lab B: only Splice-altering (40)", "lab C: only Normal (40)")
    imbalance = [finding.examples[0] for finding in audit.findings if finding.check == "source imbalance"]
    assert imbalance == ["lab A: 100% of train, 0% of validation", "lab A: 100% of train, 0% of test"]


def test_single_member_groups_are_named(clean: pd.DataFrame) -> None:
    audit = audited(clean.assign(group=["a", "a", "b", "b", "c", "d"]), PARTS, "exon")
    (found,) = [finding for finding in audit.findings if finding.check == "single-member groups"]
    assert (found.count, found.examples) == (2, ("c", "d"))


def test_rows_left_out_cannot_leak(clean: pd.DataFrame) -> None:
    audit = audited(clean, ["train", "", "validation", "validation", "test", "test"])
    assert audit.leaks == ()


def test_a_split_of_other_variants_is_refused(clean: pd.DataFrame) -> None:
    split = split_of(clean, PARTS)
    with pytest.raises(InputError, match="was not made of these 5 variants"):
        audit_split(clean.iloc[:5], split, GENOME)
    with pytest.raises(InputError, match="unit 'tribe' is none of"):
        audit_split(clean, split_of(clean, PARTS, "tribe"), GENOME)
