"""Open a bundle: checked, unpacked once, and used as a mirror of everything its rows need."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.bundle.archive import extract, require_bundle
from meta_spliceai.experiments.bundle.make import ROWS
from meta_spliceai.experiments.bundle.packed_scores import unpack_scores
from meta_spliceai.experiments.execute.queue import Screen
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.files import cache_dir, sha256_file
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.resources.resolve import BUNDLE_INDEX as INDEX
from meta_spliceai.resources.resolve import MIRROR_VARIABLE
from meta_spliceai.splice_engine.base_layer.scores import BUNDLED as SCORES
from meta_spliceai.splice_engine.base_layer.scores import ScoreCache


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle on disk, ready to be read as a mirror (META_SPLICEAI_MIRROR takes its folder); its rows by id, as they
    were when it was made, in the catalogue's order."""

    folder: Path
    index: dict[str, Any]
    rows: dict[str, ExperimentSpec]


def open_bundle(file: Path, into: Path | None = None) -> OpenedBundle:
    """Check a bundle and unpack it, or find what was unpacked of the same file before.

    `into`: a folder that is new, empty, or holds this bundle; by default one in the cache, named by the file's content.

    Raises:
        InputError: no bundle there, or the folder holds something else.
        IntegrityError: damaged, or made to do harm; nothing of it is left behind.
    """
    digest = sha256_file(require_bundle(file))
    folder = into or cache_dir() / "bundles" / digest[:24]
    opened_from = folder / "bundle" / "opened-from"
    if opened_from.is_file() and opened_from.read_text(encoding="utf-8") == digest:
        return read_opened(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and holds something else; give a new folder with --into")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        extract(file, draft)
        for path in sorted((draft / SCORES).glob("*.npz")):
            unpack_scores(path, ScoreCache(draft / SCORES))
            path.unlink()
        read_opened(draft)
        (draft / "bundle" / "opened-from").write_text(digest, encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return read_opened(folder)


def read_opened(folder: Path) -> OpenedBundle:
    """A bundle that was opened into a folder; InputError where it is none, or has a row that this version cannot use,
    IntegrityError where its index or rows are damaged."""
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder} is no opened bundle; open one with: meta-spliceai bundle open FILE --into {folder}")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        values = json.loads((folder / ROWS).read_text(encoding="utf-8"))
        specs = [parse_spec(row, f"{folder / ROWS}, row {number}") for number, row in enumerate(values, start=1)]
    except MALFORMED as error:
        raise IntegrityError(f"{folder} holds no whole bundle ({error}); open it again in a new folder") from error
    return OpenedBundle(folder, index, {spec.id: spec for spec in specs})


def use_bundle(file: Path) -> OpenedBundle:
    """Open a bundle and put it before every other mirror of this process and of those that it starts."""
    opened = open_bundle(file)
    others = os.environ.get(MIRROR_VARIABLE, "")
    os.environ[MIRROR_VARIABLE] = os.pathsep.join(filter(None, [str(opened.folder), others]))
    return opened


def tell_origin(opened: OpenedBundle, file: Path, screen: Screen) -> None:
    """Say where rows and data come from, and whether this code is the code that made the bundle."""
    screen.say(f"rows and data from {file}, made {opened.index['made']}")
    if opened.index["code"] != code_version():
        screen.say(
            f"the bundle was made by version {opened.index['code']}, this is {code_version()}: its runs have addresses "
            "of their own"
        )
