"""Wheels travel in the bundle and are unpacked where the packages that rows need are not there yet."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.bundle.make import Options, make_bundle
from meta_spliceai.experiments.bundle.wheels import NEEDED, package_of, unpack_wheels
from meta_spliceai.experiments.run.callback import Silent
from meta_spliceai.experiments.spec.experiment import ExperimentSpec

Rows = dict[str, ExperimentSpec]

WITHOUT_THEM = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pydantic", "pydantic_core", "jaxtyping", "wadler_lindig"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def wheel(folder: Path, package: str, tag: str = "py3-none-any", member: str = "") -> Path:
    """A wheel of one module."""
    module = package.replace("-", "_")
    path = folder / f"{module}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr(member or f"{module}_toy/__init__.py", f"name = {package!r}\n")
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """One of each that is needed, and one that nobody asked for."""
    folder = tmp_path / "wheels here"
    folder.mkdir()
    for package in (*NEEDED, "numpy"):
        wheel(folder, package)
    return folder


def test_they_are_unpacked_where_they_are_not_there_yet(rows: Rows, wheels: Path, tmp_path: Path) -> None:
    made = make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(wheels=wheels))
    assert {package_of(name) for name in made.index["wheels"]["packed"]} == set(NEEDED)
    assert made.parts["wheels"] > 0
    site = tmp_path / "site"
    command = [sys.executable, "-c", WITHOUT_THEM, "meta_spliceai.experiments.bundle.wheels"]
    done = subprocess.run([*command, str(made.path), str(site)], capture_output=True, text=True, check=False)
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


@pytest.mark.parametrize(
    ("tag", "member", "words"),
    [("cp35-cp35m-manylinux1_x86_64", "", "for another Python"), ("py3-none-any", "../evil.py", "path is not one")],
)
def test_a_wheel_that_does_not_fit_is_refused(
    rows: Rows, wheels: Path, tmp_path: Path, tag: str, member: str, words: str
) -> None:
    (wheels / "pydantic-1.0-py3-none-any.whl").unlink()
    wheel(wheels, "pydantic", tag, member)
    make_bundle([rows["toy-row"]], rows, tmp_path / "b.zip", Silent(), Options(wheels=wheels))
    with pytest.raises(IntegrityError, match=words):
        unpack_wheels(tmp_path / "b.zip", tmp_path / "site")
    assert not (tmp_path / "evil.py").exists()


def test_a_bundle_without_wheels_says_how(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no wheels; make it with"):
        unpack_wheels(bundle, tmp_path / "site")
