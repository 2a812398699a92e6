"""Valid files of every kind, with bytes changed, cut and put in at random: each reader succeeds or gives one error."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta_spliceai.datasets import brca1_sge
from meta_spliceai.errors import MetaSpliceAIError
from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.experiments.store.ledger import Ledger
from meta_spliceai.splice_engine.base_layer.scores import Entry, ScoreCache, write_scores
from meta_spliceai.splice_engine.base_layer.vcf import bgzf
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Account, Totals
from meta_spliceai.splice_engine.genome.packed import write_packed
from meta_spliceai.splice_engine.genome.sequence import MemoryGenome
from meta_spliceai.splice_engine.variants.splits import Split, split_digest, write_split
from meta_spliceai.splice_engine.variants.table import Coverage, as_variant_table
from tests.readers_of_files import READERS

IN_CI, IN_ALL = 60, 10_000
"""Mutated files a reader, in the fast tests and in those marked slow, all readers together having theirs in turn."""
SLOW = ("in.bcf", "brca1.xlsx", "mfass.tsv", "mfass.RData", "mapsy.txt", "validated.csv", "deep-intronic.tsv")

TABLE = (
    b"chrom,pos,ref,alt,strand,gene,variant_id,acceptor_pos,donor_pos\n"
    b"chr1,5100,A,C,+,UP,v1,5001,5200\nchr1,7,AC,T,.,,v2,,\n"
)
EXTERNAL = b"#Chrom,pos,ref,alt,gene,score\nchr1,5100,A,C,UP,0.5\n1,5100,A,C,DOWN,\nchr2,7,A,C,UP,0.25\n"
REGIONS = b">chr1:11-20\nACGTNACGTA\n>chr1:16-25\nACGTA\nCCGTT\n"
GENES = (
    b"#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\nUP\t1\t+\t100\t400\t100,200,300,\t150,250,400,\n"
)
GTF = b'1\tx\texon\t101\t150\t.\t+\t.\tgene_id "G"; transcript_id "T"; gene_name "UP"; tag "MANE_Select";\n'
VCF = (
    b'##fileformat=VCFv4.2\n##contig=<ID=chr1,length=20000>\n##INFO=<ID=AC,Number=A,Type=Integer,Description="x">\n'
    b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t5100\ta\tA\tC,<DEL>\t.\t.\tAC=1,2\nchr1\t6000\tb\tAA\tA\t9\tPASS\t.\n"
)
SPLICEVARDB = (
    b"variant_id\thg19\thg38\tgene\thgvs\tmethod\tclassification\tlocation\tdoi\n"
    b'1\t"1-5100-CTGT-C"\t"1-5200-CTGT-C"\t"UP"\t"c.1"\t"RT-PCR"\t"Normal"\t"Exonic"\t"10.1/x"\n'
    b'2\t"1-8801-G-A"\t""\t"UP"\t"c.2"\t"RT-PCR,MPRA"\t"Splice-altering"\t"Exonic"\t"10.1/x,10.1/y"\n'
)
WISHES = (
    "## 1. Sizes\n\n| Experiment | Samples | VRAM | Time Est. | Priority |\n|---|---|---|---|---|\n"
    "| SimpleCNN on 5,000 | 5,000 | 12GB+ | 2-4h | ⭐ HIGH |\n"
).encode()
PRICES = (
    b"gpus:\n- {name: X1, vram_gb: 24, bandwidth_gb_s: 900, fp32_tflops: 30, tf32_tflops: 60, bf16_tflops: 120, "
    b"source: a page}\nhistory:\n- as_of: '2026-01'\n  provider: P\n  source: a page\n  prices:\n"
    b"  - {gpu: X1, dollars_per_hour: 1.5}\n"
)


def _bcf() -> bytes:
    text = VCF[: VCF.index(b"chr1\t")] + b"\0"
    alleles = b"\x17a" + b"\x17A\x17C" + b"\x11\x00" + b"\x11\x01\x11\x02"
    shared = struct.pack("<iiifII", 0, 5099, 1, 1.0, 2 << 16 | 1, 0) + alleles
    return (
        bgzf.compress(b"BCF\2\2" + struct.pack("<I", len(text)) + text + struct.pack("<II", len(shared), 0) + shared)
        + bgzf.END_BLOCK
    )


def _written(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "x.npz")
        (path,) = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.endswith(".lock"))
        return path.read_bytes()


def _reporter() -> pd.DataFrame:
    """Two rows of MFASS's table, 170 bases from 1371 on: 30 of an intron, an exon of 100, 40 of an intron."""
    row = {
        "id": "E1_1", "ensembl_id": "E1", "category": "mutant", "chr": "chr2", "start": 1371, "end": 1540,
        "strand": "+", "intron1_len": 30, "exon_len": 100, "intron2_len": 40, "ref_allele": "A", "alt_allele": "C",
        "snp_position": 1450, "natural_seq": "ACGTA" * 34, "original_seq": "x", "label": "exon", "v2_dpsi": -0.6,
        "v2_dpsi_R1": -0.5, "v2_dpsi_R2": -0.7, "v2_index": 0.4, "nat_v2_index": 0.9,
    }  # fmt: skip
    return pd.DataFrame([row, {**row, "id": "E1_2", "v2_dpsi": 0.01, "snp_position": 1451}])


def _r_object(path: Path) -> None:
    pytest.importorskip("pyreadr").write_rdata(str(path), _reporter(), df_name="data")


def _mapsy() -> bytes:
    wild = "C" * 15 + "ACGTT" * 34 + "G" * 15
    wild = wild[:30] + "TTTGGGTTTGGGTAG" + wild[45:]
    row = {
        "ID": "M1", "WT_SEQ": wild, "MUT_SEQ": wild[:90] + "N" + wild[91:], "chr": "chr2", "strand": "+",
        "Exon_Start": 1401, "Exon_End": 1500, "acceptor": wild[30:45], "donor": wild[145:160], "ESM": 1,
        "log2_vivo_ratio": -1.5, "log2_vitro_ratio": "-inf",
        **{f"{a}_{b}_{c}": 90 for a in ("Vivo", "Vitro") for b in ("WT", "MUT") for c in ("Spliced", "Input")},
    }  # fmt: skip
    row["MUT_SEQ"] = wild[:90] + ("A" if wild[90] != "A" else "C") + wild[91:]
    return pd.DataFrame([row]).to_csv(sep="\t", index=False).encode()


def _sheet(path: Path) -> None:
    names = brca1_sge.COLUMNS
    row = ["UP", 2, 1450, "A", "C", "c.1", "Missense", "FUNC", "X2", -2.5, "-2.4", -2.45]
    with pd.ExcelWriter(path.with_suffix(".xlsx")) as writer:
        pd.DataFrame([row], columns=list(names)).to_excel(writer, index=False, startrow=2)


VALIDATED = (
    b"ID,#CHROM,POS,REF,ALT,strand,SpliceAffecting,Origin,Observation,Comments,AL,DL,AG,DG,effect_type\n"
    b"v1,2,1450,AG,A,+,1,x,,,1401;1501.0,,,,skip\nv2,2,1451,G,A,+,0,x,,,,,,,normal\n"
)
DEEP_INTRONIC = (
    b"Chromosome\tPosition_hg19\tPosition_hg38\tRef\tAlt\tGene_name\tHGVSc\tAffects_splicing\t"
    b"Functional_consequence\tMajor_group\tData_Source\n2\t1700\t1700\tA\tC\tUP\tc.1\tFALSE\t\t\tx\n"
    b"2\t\t\tA\tC\tUP\tc.2\tTRUE\t\t\ty\n"
)

SCORES = np.round(np.random.default_rng(0).random((2, 101, 3), np.float32), 3)
KEYS = [bytes([n]) * 32 for n in range(2)]


def _split(path: Path) -> None:
    columns = {
        "variant_id": ["a", "b"],
        "chrom": "1",
        "pos": [5, 6],
        "ref": "A",
        "alt": "C",
        "strand": "+",
        "gene": "UP",
    }
    columns |= {"classification": "Normal", "source": "s", "method": "m", "group": ["x", "y"]}
    table = as_variant_table(pd.DataFrame(columns), "toy")
    parts = np.array(["train", "test"], dtype=object)
    write_split(
        path.with_suffix(".parquet"),
        Split("toy", parts, split_digest(table, parts), "a toy", Coverage(2), "gene"),
        table,
    )


def _ledger(path: Path) -> None:
    for run in ("a", "b"):
        Ledger(path).append(
            {
                "event": "finished",
                "run": run,
                "row": run,
                "at": "2026-01-01T00:00:00+00:00",
                "notes": ["a note"],
                "test": {"digest": "d", "rows": 5},
                "split": {"name": "gene"},
                "metrics": [
                    {"scorer": "s", "kind": "base", "metric": "auprc", "estimate": 0.5, "low": None, "high": None}
                ],
            }
        )


@cache
def valid() -> dict[str, tuple[str, bytes]]:
    """Small files by name: each with the reader that reads it, and its content."""
    account = Account({"version": "1", "x": "y"}, 80, "ab", Totals(5, 5, 1, 1, {"x": 4}, {"x": ["a"]}))
    row = next(iter(load_rows(None).values())).model_dump(mode="json")
    return {
        "variants.csv": ("variants", TABLE),
        "variants.csv.gz": ("variants", gzip.compress(TABLE, mtime=0)),
        "regions.fa": ("regions", REGIONS),
        "regions.fa.gz": ("regions", gzip.compress(REGIONS, mtime=0)),
        "genes.txt": ("annotation", GENES),
        "genes.gtf.gz": ("annotation", gzip.compress(GTF, mtime=0)),
        "in.vcf": ("scored", VCF),
        "in.vcf.gz": ("vcf", bgzf.compress(VCF) + bgzf.END_BLOCK),
        "in.bcf": ("vcf", _bcf()),
        "new.vcf": ("variants", VCF),
        "splicevardb.tsv": ("splicevardb", SPLICEVARDB),
        "mfass.tsv": ("mfass", _reporter().to_csv(sep="\t", index=False).encode()),
        "mfass.RData": ("mfass", _written(_r_object)),
        "mapsy.txt": ("mapsy", _mapsy()),
        "brca1.xlsx": ("brca1", _written(_sheet)),
        "validated.csv": ("validated", VALIDATED),
        "deep-intronic.tsv": ("deep intronic", DEEP_INTRONIC),
        "wishlist.md": ("wishlist", WISHES),
        "prices.yaml": ("prices", PRICES),
        "rows.yaml": ("rows", yaml.safe_dump({"section": "s", "rows": [row]}).encode()),
        "spec.yaml": ("run", yaml.safe_dump(row).encode()),
        "ledger.jsonl": ("ledger", _written(_ledger)),
        "account.json": ("account", json.dumps(asdict(account)).encode()),
        "config.json": ("predictor", b'{"format": 1, "predictor": "ComposedPredictor", "config": {"window": 101}}'),
        "packed-scores.npz": (
            "packed scores",
            _written(
                lambda path: write_scores(
                    path, {key: Entry(one, one) for key, one in zip(KEYS, SCORES, strict=True)}, 3
                )
            ),
        ),
        "packed-genome.npz": (
            "packed genome",
            _written(
                lambda path: write_packed(
                    MemoryGenome({"chr1": "ACGTN" * 20}, "GRCh38", "toy"), [("chr1", 5, 50), ("chr1", 60, 80)], path
                )
            ),
        ),
        "split.parquet": ("split", _written(_split)),
        "tool.csv": ("external scores", EXTERNAL),
        "tool.vcf.gz": ("external scores", bgzf.compress(VCF) + bgzf.END_BLOCK),
        "tool.parquet": (
            "external scores",
            _written(lambda path: pd.read_csv(io.BytesIO(EXTERNAL)).to_parquet(path, index=False)),
        ),
        "scores-kept.npz": (
            "score cache",
            _written(lambda path: ScoreCache(path.parent).write(KEYS, SCORES, SCORES, "0" * 64, 50)),
        ),
    }


NAMES = re.findall(r'^        "([\w.-]+)": \(', Path(__file__).read_text(encoding="utf-8"), re.MULTILINE)

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "put in", "take out", "repeat", "cut"]),
        st.integers(0, 2**16),
        st.binary(min_size=1, max_size=8)
        | st.sampled_from([b"\n", b"\t", b",", b"9" * 40, b"-1", b"\0", b"\xff" * 4, b"[" * 30]),
    ),
    min_size=1,
    max_size=5,
)


def changed(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, some in changes:
        at = place % (len(content) + 1)
        if kind == "flip":
            content = content[:at] + some + content[at + len(some) :]
        elif kind == "put in":
            content = content[:at] + some + content[at:]
        elif kind == "take out":
            content = content[:at] + content[at + 8 * len(some) :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 100] + content[at:]
        elif place % 4 == 0:
            content = content[:at]
    return content


def check(name: str, inputs: int) -> None:
    reader, whole = valid()[name]
    if name in SLOW:  # a process, or a whole loader, for each file
        inputs //= 10

    @settings(
        max_examples=inputs, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def reads(changes: list[tuple[str, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder, suppress(MetaSpliceAIError):
            path = Path(folder) / name
            path.write_bytes(changed(whole, changes))
            READERS[reader](path)

    reads()


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    reader, whole = valid()[name]
    (tmp_path / name).write_bytes(whole)
    READERS[reader](tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_ends_well(name: str) -> None:
    check(name, IN_CI)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_changed_files_end_well(name: str) -> None:
    check(name, IN_ALL // len(NAMES))
