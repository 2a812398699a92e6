"""Wheels in a bundle: packed here, and unpacked into a folder for PYTHONPATH on a machine that lacks the packages.

    python -m meta_spliceai.experiments.bundle.wheels BUNDLE SITE

This runs before those packages are there, so it imports none of them.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from meta_spliceai.errors import InputError, IntegrityError, MetaSpliceAIError
from meta_spliceai.experiments.bundle.archive import checked_entries, damaged, extract, opened, write_member
from meta_spliceai.files import atomic_write

FOLDER = "wheels"  # where wheels lie in the file

NEEDED = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "jaxtyping", "wadler-lindig")
"""Packages that must be on the other machine beside PyTorch, pandas, pyarrow, h5py, safetensors,
scikit-learn, typer, rich, huggingface_hub and what these bring."""

BETTER_WITH = {"seqleak": "position alone as a baseline, and the gain over position"}
"""Packages without which something is left out there, and said to be."""

LARGEST_UNPACKED = 100 * 2**20
"""Bytes that a wheel may hold unpacked; pydantic-core, the largest that is needed, holds 5 MB."""

_WHEEL = re.compile(r"(?P<package>[A-Za-z0-9_.]+)-[^-]+(-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-[^-]+\.whl")
_MEMBER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._ +@-]{0,199}")


def package_of(wheel: str) -> str:
    """The package of a wheel by its file's name, as pip spells it."""
    return wheel.partition("-")[0].replace("_", "-").lower()


def versions(packages: Sequence[str]) -> list[str]:
    return [f"{name}=={importlib.metadata.version(name)}" for name in packages]


def pack_wheels(wheels: Path, folder: Path) -> list[str]:
    """Copy the wheels that the other machine needs; their names. InputError: one is missing, or there in two
    versions."""
    found: dict[str, list[Path]] = {}
    for path in sorted(wheels.glob("*.whl")):
        found.setdefault(package_of(path.name), []).append(path)
    if missing := [package for package in NEEDED if package not in found]:
        raise InputError(
            f"--wheels {wheels}: no wheel of {', '.join(missing)}; get them with: python -m pip download --no-deps "
            f"--only-binary=:all: --python-version 3.12 -d {wheels} {' '.join(versions(missing))}"
        )
    packed = []
    for package in (*NEEDED, *(name for name in BETTER_WITH if name in found)):
        path, *others = found[package]
        if others:
            raise InputError(f"--wheels {wheels}: {package} is there in two versions; leave one")
        with atomic_write(folder / FOLDER / path.name, "wb") as handle:
            handle.write(path.read_bytes())
        packed.append(path.name)
    return packed


def unpack_wheels(bundle: Path, site: Path) -> list[str]:
    """Unpack a bundle's wheels, each checked, into a folder; their names.

    Raises:
        InputError: no bundle there, or one without wheels.
        IntegrityError: damaged, or a wheel that is for another Python, too large, or does not stay in the folder.
    """
    with tempfile.TemporaryDirectory(prefix="meta-spliceai-wheels-") as temporary:
        extract(bundle, Path(temporary))
        wheels = sorted((Path(temporary) / FOLDER).glob("*.whl"))
        if not wheels:
            raise InputError(f"{bundle} holds no wheels; make it with: meta-spliceai bundle make --wheels DIR")
        for wheel in wheels:
            _refuse_other_python(wheel)
            with opened(wheel) as pack:
                for entry in checked_entries(pack, wheel, _MEMBER, LARGEST_UNPACKED):
                    write_member(pack, entry.filename, site)
    return [wheel.name for wheel in wheels]


def _refuse_other_python(wheel: Path) -> None:
    name = _WHEEL.fullmatch(wheel.name)
    if name is None:
        raise damaged(wheel, "its name is not a wheel's")
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if name["python"].startswith("cp") and name["python"] != here and name["abi"] != "abi3":
        raise IntegrityError(f"{wheel.name} is for another Python ({name['python']}; this is {here}); download another")


def main() -> int:
    """The command: exit code 0, or 2 with one line on standard error."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m meta_spliceai.experiments.bundle.wheels BUNDLE SITE\n")
        return 2
    try:
        names = unpack_wheels(Path(sys.argv[1]), Path(sys.argv[2]))
    except MetaSpliceAIError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{sys.argv[2]}: {' '.join(names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
