"""Wheels travel in the bundle, and pip installs them from it where the packages that rows need are not there yet."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError
from meta_spliceai.experiments.bundle.make import NEEDED, WHEELS, Options, make_bundle
from meta_spliceai.experiments.spec.experiment import ExperimentSpec
from tests.experiments.silent import Silent

Rows = dict[str, ExperimentSpec]


def wheel(folder: Path, package: str, tag: str = "py3-none-any") -> Path:
    """A wheel of one module that pip takes."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-{tag}.whl"
    about = f"{module}-1.0.dist-info"
    files = {
        f"{module}_toy/__init__.py": f"name = {package!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}\n")
    with zipfile.ZipFile(path, "w") as pack:
        for name, text in files.items():
            pack.writestr(name, text)
        pack.writestr(f"{about}/RECORD", "".join([*lines, f"{about}/RECORD,,\n"]))
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """One of each that is needed, and one that nobody asked for."""
    folder = tmp_path / "wheels here"
    folder.mkdir()
    for package in (*NEEDED, "numpy"):
        wheel(folder, package)
    return folder


def test_they_are_installed_from_the_bundle(rows: Rows, wheels: Path, tmp_path: Path) -> None:
    made = make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(wheels=wheels))
    assert len(made["wheels"]["packed"]) == len(NEEDED)
    assert made["parts"]["wheels"] > 0
    opened, site = tmp_path / "opened", tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", made["file"], str(opened)], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    packed = map(str, (opened / WHEELS).glob("*.whl"))
    done = subprocess.run([*install, *packed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (site / "pydantic_core_toy" / "__init__.py").read_text() == "name = 'pydantic-core'\n"
    assert not (site / "numpy_toy").exists()


def test_a_folder_that_lacks_one_is_refused(rows: Rows, wheels: Path, tmp_path: Path) -> None:
    (wheels / "pydantic_core-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InputError, match="no wheel of pydantic-core; get them with: python -m pip download"):
        make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(wheels=wheels))
    wheel(wheels, "pydantic-core")
    wheel(wheels, "pydantic-core", "py2.py3-none-any")
    with pytest.raises(InputError, match="pydantic-core is there in two versions"):
        make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(wheels=wheels))
