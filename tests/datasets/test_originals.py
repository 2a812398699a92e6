"""The open sources in the authors' own form, served by a web server, read and built into one table."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meta_spliceai import resources
from meta_spliceai.datasets import get, load_dataset
from meta_spliceai.datasets.human import waiting_for
from meta_spliceai.datasets.load import state_of
from meta_spliceai.datasets.splicevardb import build_open_sources
from meta_spliceai.errors import IntegrityError, MissingResourceError
from meta_spliceai.resources import ResourceFile, registry
from meta_spliceai.resources.registry import DEVELOPMENT, ORIGINAL
from tests.conftest import RunCli
from tests.file_server import FileServer

pyreadr = pytest.importorskip("pyreadr")

SHIFT = 100
"""GRCh38 lies this far to the right of GRCh37 in the toy chain; from 3,001 on it reads the other way round."""
CHAIN = (
    f"chain 9 chr2 5000 + 0 3000 chr2 5200 + {SHIFT} {3000 + SHIFT} 1\n3000\n\n"
    "chain 8 chr2 5000 + 3000 4000 chr2 5200 - 1000 2000 2\n1000\n\n"
)
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}
COMPLEMENT = str.maketrans("ACGT", "TGCA")
GENES = (
    "#NAME\tCHROM\tSTRAND\tTX_START\tTX_END\tEXON_START\tEXON_END\n"
    "PLUS\t2\t+\t100\t1900\t100,500,1500,\t300,600,1900,\n"
)


@pytest.fixture
def sequence() -> str:
    """4,000 bases of chromosome 2, GRCh37."""
    return "".join(np.random.default_rng(1).choice(list("ACGT"), 4000))


def mfass_file(sequence: str, folder: Path) -> bytes:
    """The R object: variants at 510 (altering), 550 (Normal), 3,040 (Low-frequency, in the turned part)."""
    lines = []
    for pos, dpsi in ((510, -0.8), (550, 0.01), (3040, -0.2)):
        start = 471 if pos < 3000 else 2991
        natural = sequence[start - 1 : start + 169]
        lines.append(
            {
                "id": f"E{start}_{pos}", "ensembl_id": f"E{start}", "category": "mutant", "chr": "chr2", "start": start,
                "end": start + 169, "strand": "+", "intron1_len": 30, "exon_len": 100, "intron2_len": 40,
                "ref_allele": sequence[pos - 1], "alt_allele": OTHER[sequence[pos - 1]], "snp_position": float(pos),
                "natural_seq": natural, "original_seq": natural, "label": "exon", "v2_dpsi": dpsi, "v2_dpsi_R1": dpsi,
                "v2_dpsi_R2": np.nan, "v2_index": 0.9, "nat_v2_index": 0.95,
            }
        )  # fmt: skip
    path = folder / "snv_intron_cons.RData"
    pyreadr.write_rdata(str(path), pd.DataFrame(lines), df_name="data")
    return path.read_bytes()


def mapsy_file(sequence: str) -> bytes:
    """mapsy.txt: the variant at 550 again, called; and one at 520 that changed much without being called."""
    lines = []
    for pos, called, change in ((550, 1, 2.0), (520, 0, -1.0)):
        wild = "C" * 15 + sequence[470:640] + "G" * 15
        at = 15 + pos - 471
        counts = {f"{a}_{b}_{c}": 500 for a in ("Vivo", "Vitro") for b in ("WT", "MUT") for c in ("Spliced", "Input")}
        lines.append(
            {
                "ID": f"M{pos}", "WT_SEQ": wild, "MUT_SEQ": wild[:at] + OTHER[wild[at]] + wild[at + 1 :], "chr": "chr2",
                "strand": "+", "Exon_Start": 501, "Exon_End": 600, "acceptor": wild[30:45], "donor": wild[145:160],
                "ESM": called, "log2_vivo_ratio": change, "log2_vitro_ratio": change, **counts,
            }
        )  # fmt: skip
    return pd.DataFrame(lines).to_csv(sep="\t", index=False).encode()


def validated_file(sequence: str) -> bytes:
    """variants.csv, GRCh38: a deletion at GRCh37's 700."""
    ref = sequence[699:702]
    header = "ID,#CHROM,POS,REF,ALT,strand,SpliceAffecting,Origin,Observation,Comments,AL,DL,AG,DG,effect_type\n"
    return f"{header}v1,2,{700 + SHIFT},{ref},{ref[0]},+,1,x,,,,,,,skip\n".encode()


def deep_intronic_file(sequence: str) -> bytes:
    """splicing_variants.tsv: one at 800, with a gene."""
    row = {
        "Chromosome": "2", "Position_hg19": "800", "Position_hg38": str(800 + SHIFT), "Ref": sequence[799],
        "Alt": OTHER[sequence[799]], "Gene_name": "PLUS", "HGVSc": "c.1", "Affects_splicing": "FALSE",
        "Functional_consequence": "", "Major_group": "", "Data_Source": "x",
    }  # fmt: skip
    return pd.DataFrame([row]).to_csv(sep="\t", index=False).encode()


@pytest.fixture
def served(
    file_server: FileServer, sequence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, ResourceFile]:
    """The toy originals on a web server that is the mirror, registered in place of the real ones; name: file."""
    content = {
        "mfass": mfass_file(sequence, tmp_path),
        "mapsy": mapsy_file(sequence),
        "cispliceai-validated": validated_file(sequence),
        "deep-intronic": deep_intronic_file(sequence),
        "hg19-to-hg38-chain": CHAIN.encode(),
    }
    toys = {}
    for name, held in content.items():
        real = resources.get(name)
        toys[name] = dataclasses.replace(
            real.files[0], sha256=hashlib.sha256(held).hexdigest(), size=len(held), url="http://127.0.0.1:9/public"
        )
        toy = dataclasses.replace(real, files=(toys[name], *real.files[1:]))
        monkeypatch.setitem(registry._RESOURCES, name, toy)
        file_server.files[f"/{toys[name].path}"] = held
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("META_SPLICEAI_MIRROR", file_server.address)
    return toys


@pytest.fixture
def annotation(tmp_path: Path) -> str:
    path = tmp_path / "genes.txt"
    path.write_text(GENES)
    return str(path)


def test_originals_are_brought_and_read_in_their_own_form(
    served: dict[str, ResourceFile], run_cli: RunCli, annotation: str, tmp_path: Path, sequence: str
) -> None:
    code, out, error = run_cli(["data", "get", "mfass", "mapsy"])
    assert (code, error) == (0, "")
    assert [Path(line).name for line in out.split()] == [
        "snv_intron_cons.RData", "hg19ToHg38.over.chain", "mapsy.txt", "hg19ToHg38.over.chain",
    ]  # fmt: skip
    genome = tmp_path / "genome.fa"
    genome.write_text(f">chr2:1-4000\n{sequence}\n")
    options = {"build": "GRCh37", "genome": str(genome), "annotation": annotation}
    mfass = load_dataset("mfass", **options)
    assert mfass.variants["pos"].tolist() == [510, 550, 3040]
    assert mfass.variants["classification"].tolist() == ["Splice-altering", "Normal", "Low-frequency"]
    assert mfass.origin == (f"original snv_intron_cons.RData, SHA-256 {served['mfass'].sha256[:12]}; regions genome.fa")
    assert load_dataset("mapsy", **options).variants["pos"].tolist() == [550, 520]
    assert state_of(get("mfass")).here == ORIGINAL


def test_the_editions_content_decides_the_digest(
    served: dict[str, ResourceFile], file_server: FileServer, annotation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = load_dataset("mapsy", context="construct", annotation=annotation).digest
    place = f"/{served['mapsy'].path}"
    less = b"".join(file_server.files.pop(place).splitlines(keepends=True)[:-1])
    copy = ResourceFile("mapsy/mapsy.csv", hashlib.sha256(less).hexdigest(), len(less), edition=DEVELOPMENT)
    toy = dataclasses.replace(resources.get("mapsy"), files=(served["mapsy"], copy))
    monkeypatch.setitem(registry._RESOURCES, "mapsy", toy)
    file_server.files["/mapsy/mapsy.csv"] = less
    assert load_dataset("mapsy", context="construct", annotation=annotation).digest == digest  # the cache's
    resources.resolve_edition("mapsy").path.unlink()
    other = load_dataset("mapsy", context="construct", annotation=annotation)
    assert other.origin.startswith("development copy mapsy.csv")
    assert other.digest != digest


def test_the_table_is_built_by_one_command(
    served: dict[str, ResourceFile], run_cli: RunCli, annotation: str, sequence: str
) -> None:
    with pytest.raises(MissingResourceError) as missing:
        load_dataset("splicevardb-open", annotation=annotation)
    (command,) = re.findall(r"meta-spliceai (data get [a-z-]+)", str(missing.value))
    code, out, error = run_cli(command.split())
    assert (code, error) == (0, "")
    table = pd.read_csv(out.strip(), sep="\t", dtype=str, keep_default_na=False).set_index("hg19")

    def named(pos: int, alt: str = "") -> str:
        return f"2-{pos}-{sequence[pos - 1]}-{alt or OTHER[sequence[pos - 1]]}"

    assert table["classification"].to_dict() == {
        named(510): "Splice-altering",
        named(520): "Low-frequency",
        named(550): "Conflicting",
        f"2-700-{sequence[699:702]}-{sequence[699]}": "Splice-altering",
        named(800): "Normal",
        named(3040): "Low-frequency",
    }
    assert table["method"].tolist()[:4] == ["MFASS", "MaPSy", "MFASS,MaPSy", "RT-PCR"]
    assert table.loc[named(800), "gene"] == "PLUS"
    assert table.loc[named(510), "hg38"] == f"2-{510 + SHIFT}-{sequence[509]}-{OTHER[sequence[509]]}"
    turned = [allele.translate(COMPLEMENT) for allele in (sequence[3039], OTHER[sequence[3039]])]
    assert table.loc[named(3040), "hg38"] == f"2-{5200 - 1000 - 39}-{turned[0]}-{turned[1]}"

    loaded = load_dataset("splicevardb-open", annotation=annotation)
    assert loaded.origin.startswith("built from mfass: original snv_intron_cons.RData, SHA-256 ")
    assert state_of(get("splicevardb-open")).here == "built here"
    assert run_cli(command.split())[1] == out  # and is not built again
    Path(out.strip()).write_text("altered")
    with pytest.raises(IntegrityError, match="is not the table that was built"):
        load_dataset("splicevardb-open", annotation=annotation)


def test_without_a_genome_the_account_says_who_waits(served: dict[str, ResourceFile], annotation: str) -> None:
    loaded = load_dataset("cispliceai-validated", annotation=annotation)
    assert loaded.coverage.left_out == {waiting_for("GRCh38"): 1}
    assert loaded.coverage.used == 0
    assert loaded.origin.endswith("no genome of GRCh38 at hand (meta-spliceai data get grch38 brings one)")


def test_what_a_message_says_helps(
    served: dict[str, ResourceFile],
    file_server: FileServer,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "1")
    code, _, error = run_cli(["data", "get", "cispliceai-validated"])
    assert (code, error.count("\n")) == (2, 1)
    (command,) = re.findall(r"bring it with: meta-spliceai (data get [a-z-]+)", error)
    (place,) = re.findall(r"put it at <folder>/(\S+) and set META_SPLICEAI_MIRROR=<folder>", error)
    monkeypatch.setenv("META_SPLICEAI_OFFLINE", "0")
    assert run_cli(command.split())[0] == 0
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path / "empty"))
    own = tmp_path / "mirror" / place
    own.parent.mkdir(parents=True)
    own.write_bytes(file_server.files[f"/{place}"])
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(tmp_path / "mirror"))
    assert run_cli(command.split())[1] == f"{own}\n"


def test_a_dry_run_downloads_nothing(served: dict[str, ResourceFile], file_server: FileServer, run_cli: RunCli) -> None:
    code, out, _ = run_cli(["data", "get", "mfass", "splicevardb", "grch38", "--dry-run"])
    assert code == 0
    assert f"mfass: {served['mfass'].size:,} bytes  {file_server.address}/mfass/snv_intron_cons.RData\n" in out
    assert "grch38: 983,659,424 bytes  https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/hg38.fa.gz\n" in out
    assert file_server.asked == []


def test_all_goes_on_past_what_cannot_be_had(
    served: dict[str, ResourceFile], file_server: FileServer, run_cli: RunCli
) -> None:
    del file_server.files["/deep_intronic/splicing_variants.tsv"]
    code, out, error = run_cli(["data", "get", "deep-intronic", "nothing", "mapsy"])
    assert code == 2
    assert "answers 404" in error
    assert "unknown name 'nothing'" in error
    assert error.splitlines()[-1].startswith("error: not here: deep-intronic, nothing")
    assert "mapsy.txt" in out


@pytest.mark.slow
def test_the_development_copies_give_the_known_table(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every allele of the table kept in the mirror is built again; what else there is, is named here."""
    monkeypatch.setenv("META_SPLICEAI_MIRROR", str(mirror / "data"))

    def read(path: Path) -> pd.DataFrame:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index("hg19")

    known = read(mirror / "data" / "splicevardb_format" / "open_sources.tsv")
    built = read(build_open_sources(tmp_path / "open.tsv"))
    assert len(known) == 27_775
    assert built.index.is_unique
    assert known.index.isin(built.index).all()
    # the known table left out variants whose base was not in the regions at hand when it was made
    more = built[~built.index.isin(known.index)]
    assert more["method"].value_counts().to_dict() == {"MaPSy": 2_067, "RT-PCR": 769}
    both = built.loc[known.index]
    # the same holds for second measurements: 8 alleles become Conflicting by one
    changed = both["classification"] != known["classification"]
    assert changed.sum() == 8
    assert set(both["classification"][changed]) == {"Conflicting"}
    assert (both["method"].str.split(",").map(set) >= known["method"].str.split(",").map(set)).all()
    assert (both["location"] == known["location"]).all()
    # in turned segments, alleles are written as GRCh38's plus strand reads
    turned = both["hg38"] != known["hg38"]
    assert turned.sum() == 45
    assert both["hg38"][turned].str.split("-").str[:2].tolist() == known["hg38"][turned].str.split("-").str[:2].tolist()
