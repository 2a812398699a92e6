"""The wheel alone: every row of the wishlist runs in miniature from it, offline, with an empty cache and no mirror.

The environment sees the core dependencies of the test's own environment and nothing else: no extra, no checkout.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from meta_spliceai.experiments.spec.rows import load_rows
from meta_spliceai.splice_engine.meta_layer.evaluation.scorers import Evaluation

ROOT = Path(__file__).resolve().parents[2]
WISHED = [spec.id for spec in load_rows(own=None).values() if spec.wish is not None]


def core_distributions() -> set[str]:
    """What the core dependencies are, with all that they need, by the names they are installed under."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo = [(Requirement(line), frozenset[str]()) for line in project["dependencies"]]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted, extras = todo.pop()
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in (*extras, ""))
        key = (wanted.name.lower().replace("_", "-"), frozenset(wanted.extras))
        if not applies or key in seen:
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(wanted.name)
        found.add(distribution.metadata["Name"])
        todo += [(Requirement(line), frozenset(wanted.extras)) for line in distribution.requires or ()]
    return found


def link_distributions(names: set[str], folder: Path) -> None:
    """Everything that these distributions put beside each other, linked into a folder."""
    folder.mkdir()
    here = Path(sysconfig.get_path("purelib"))
    for name in names:
        for file in importlib.metadata.distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and (here / top).exists() and not (folder / top).exists():
                (folder / top).symlink_to(here / top)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the built wheel in it."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    place = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", with_pip=False, symlinks=True)
    python = place / "venv" / "bin" / "python"
    link_distributions(core_distributions(), place / "core")
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(packages)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    (packages / "core.pth").write_text(f"{place / 'core'}\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a machine without a mirror, a network or anything in a cache."""
    place = tmp_path_factory.mktemp("bare")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS") if name in os.environ}
    return {
        **kept,
        "HOME": str(place),
        "META_SPLICEAI_CACHE": str(place / "cache"),
        "META_SPLICEAI_RUNS": str(place / "runs"),
        "META_SPLICEAI_OFFLINE": "1",
    }


def called(python: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "meta_spliceai", *arguments]
    return subprocess.run(
        command, env=variables, cwd=variables["HOME"], capture_output=True, text=True, timeout=3600, check=False
    )


@pytest.mark.slow
def test_the_environment_has_the_wheel_and_no_extra(installed: Path, bare: dict[str, str]) -> None:
    script = (
        "import importlib.util as u, json, meta_spliceai\n"
        "names = ('spliceai', 'cispliceai', 'frame_alignment_checks', 'huggingface_hub', 'pyreadr', 'ray', 'pytest')\n"
        "print(json.dumps([meta_spliceai.__file__, [name for name in names if u.find_spec(name)]]))"
    )
    done = subprocess.run([str(installed), "-c", script], env=bare, capture_output=True, text=True, check=True)
    where, extras = json.loads(done.stdout)
    assert Path(where).is_relative_to(installed.parents[1])
    assert extras == []


@pytest.mark.slow
def test_every_row_runs_in_miniature(installed: Path, bare: dict[str, str]) -> None:
    done = called(installed, bare, "run", *WISHED, "--smoke", "--device", "cpu", "--progress", "lines")
    assert done.returncode == 0, done.stderr[-2000:]
    for row_id in WISHED:
        (record,) = Path(bare["META_SPLICEAI_RUNS"]).glob(f"{row_id}-*/run.json")
        run = json.loads(record.read_text(encoding="utf-8"))
        assert run["state"] == "finished", row_id
        assert run["smoke"] is True, row_id
        scratch = any("weights=scratch" in note for note in run["notes"])
        assert scratch == (row_id.startswith("hyenadna")), row_id
        data = json.loads((record.parent / "data.json").read_text(encoding="utf-8"))
        assert data["data_set"] == "packaged-human", row_id
        assert data["base"]["scored"] == 0, row_id
        assert data["split"]["audit"]["clean"] is True, row_id
        evaluated = Evaluation.from_json(json.loads((record.parent / "metrics.json").read_text(encoding="utf-8")))
        assert {scorer.kind for scorer in evaluated.scorers} >= {"baseline", "base"}, row_id


@pytest.mark.slow
def test_what_a_real_row_lacks_it_says_in_one_line(installed: Path, bare: dict[str, str]) -> None:
    for arguments, words in (
        (("hyenadna-small-quantile",), "--set encoder.settings.weights="),
        (("validated-delta-10k", "--set", "base.distance=60"), "pip install 'cispliceai>=1.2.2'"),
        (
            ("validated-delta-10k", "--set", "base.name=spliceai"),
            "pip install 'frame-alignment-checks>=0.0.74' 'spliceai>=1.3.1'",
        ),
    ):
        done = called(installed, bare, "run", *arguments, "--device", "cpu")
        assert done.returncode == 2
        assert words in done.stderr
        assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1
