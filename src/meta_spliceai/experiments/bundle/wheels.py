"""Wheels in a bundle, unpacked into a folder for PYTHONPATH, on a machine that lacks the packages that rows need.

    python -m meta_spliceai.experiments.bundle.wheels BUNDLE SITE

This runs before those packages are there, so it imports none of them.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from meta_spliceai.errors import InputError, IntegrityError, MetaSpliceAIError

FOLDER = "wheels"
"""Where wheels lie in the file."""


def package_of(wheel: str) -> str:
    """The package of a wheel by its file's name, as pip spells it."""
    return wheel.partition("-")[0].replace("_", "-").lower()


def unpack_wheels(bundle: Path, site: Path) -> list[str]:
    """Unpack a bundle's wheels, each checked, into a folder; their names.

    Raises:
        InputError: no bundle there, or one without wheels.
        IntegrityError: damaged, or a wheel that is for another Python or does not stay in the folder.
    """
    from meta_spliceai.experiments.bundle.archive import extract

    with tempfile.TemporaryDirectory(prefix="meta-spliceai-wheels-") as temporary:
        extract(bundle, Path(temporary))
        wheels = sorted((Path(temporary) / FOLDER).glob("*.whl"))
        if not wheels:
            raise InputError(f"{bundle} holds no wheels; make it with: meta-spliceai bundle make --wheels DIR")
        for wheel in wheels:
            _refuse_other_python(wheel.name)
            _unpack(wheel, site)
    return [wheel.name for wheel in wheels]


def _refuse_other_python(wheel: str) -> None:
    tag = wheel.split("-")[2]
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if tag.startswith("cp") and tag != here and "-abi3-" not in wheel:
        raise IntegrityError(f"{wheel} is for another Python ({tag}; this is {here}); download it for this one")


def _unpack(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as pack:
        for name in pack.namelist():
            if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                raise IntegrityError(f"{wheel.name} holds {name!r}, which would leave the folder")
        pack.extractall(site)


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
