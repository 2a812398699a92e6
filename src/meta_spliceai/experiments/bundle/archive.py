"""The bundle file: a zip of plain data whose index lists every member with its size and SHA-256. Opening a bundle
checks it, unpacks it once, and uses it as a mirror of everything its rows need.

Nothing in it is run or unpickled. A file that is cut off, altered, or made to do harm is refused before anything of it
is used: paths that lead out of the folder, links, two members of one name, members larger than they say, or that the
index does not name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.run.callback import Callback
from meta_spliceai.experiments.spec.experiment import ExperimentSpec, parse_spec
from meta_spliceai.experiments.store.address import code_version
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.resources.resolve import BUNDLE_INDEX as INDEX
from meta_spliceai.resources.resolve import MIRROR_VARIABLE

ROWS = "bundle/rows.json"
FORMAT = 5
MOST_MEMBERS = 10_000
LARGEST_INDEX = 16 * 2**20
LARGEST_UNPACKED = 4 * 2**30 - 1
"""Bytes that a bundle may hold unpacked: what fits a zip file without its extensions for large ones."""

BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
"""What each part of a member's path is."""

_STORED = (".parquet", ".safetensors", ".whl")  # compressed already, or not compressible: kept as they are

_DIRECTORY_ENTRY = 46


def write_archive(folder: Path, about: Mapping[str, Any], out: Path) -> dict[str, int]:
    """Pack a folder's files into one, with an index of all it holds that begins with what it is `about`; the same
    content gives the same file. Returns the bytes that each member takes in it; InputError: more than it may hold."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if sum(path.stat().st_size for path in files.values()) > LARGEST_UNPACKED or len(files) >= MOST_MEMBERS:
        raise InputError(f"a bundle holds at most {LARGEST_UNPACKED / 2**30:.0f} GiB in {MOST_MEMBERS:,} files")
    members = {name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for name, path in files.items()}
    index = json.dumps({"format": FORMAT, **about, "members": members}, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(out, "wb") as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as pack:
        pack.writestr(_entry(INDEX), index)
        for name, path in files.items():
            with path.open("rb") as source, pack.open(_entry(name), "w", force_zip64=False) as member:
                shutil.copyfileobj(source, member)
        return {entry.filename: entry.compress_size for entry in pack.infolist()}


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def read_index(file: Path) -> dict[str, Any]:
    """What a bundle says it is, once its members are known to be those that it names.

    Raises:
        InputError: no such file, or a bundle of another version.
        IntegrityError: damaged, or made to do harm.
    """
    with _opened(file) as pack:
        return _checked_index(pack, file)


def extract(file: Path, folder: Path) -> dict[str, Any]:
    """Write every member of a bundle into a new folder, its size and digest compared; returns the index. Raises as
    `read_index`; what was written so far is then not to be used."""
    with _opened(file) as pack:
        index = _checked_index(pack, file)
        digests = {name: about["sha256"] for name, about in index["members"].items()}
        for name in (INDEX, *digests):
            # zipfile reads no more of a member than was announced
            with pack.open(name) as member, atomic_write(folder / name, "wb") as handle:
                shutil.copyfileobj(member, handle)
            if name != INDEX and sha256_file(folder / name) != digests[name]:
                raise _damaged(file, f"{name} does not have the digest that the index says")
    return index


def require_bundle(file: Path) -> Path:
    """The file, once it is there."""
    if not file.is_file():
        raise InputError(f"no bundle at {file}; make one with: meta-spliceai bundle make --all -o {file}")
    return file


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file to read; InputError where it is not there, IntegrityError for whatever is wrong in the block."""
    require_bundle(file)
    try:
        if _bytes_of_directory(file) > MOST_MEMBERS * (_DIRECTORY_ENTRY + 250):
            raise _damaged(file, f"it has more than {MOST_MEMBERS:,} members")
        with zipfile.ZipFile(file) as pack:
            yield pack
    except MALFORMED as error:
        raise _damaged(file, f"{error or type(error).__name__}; cut off, altered, or another kind of file") from error


def _bytes_of_directory(file: Path) -> int:
    """What the end of a zip file says of the size of its list of members, which Python reads as a whole."""
    with file.open("rb") as handle:
        handle.seek(max(0, file.stat().st_size - 2**16 - 22))
        tail = handle.read()
    at = tail.rfind(b"PK\5\6")
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        raise _damaged(file, "it is a zip file of the kind for more than 4 GiB")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def _checked_sizes(pack: zipfile.ZipFile, file: Path) -> dict[str, int]:
    """Bytes of each member, once all of them are plain files whose paths stay inside and do not clash, and no more than
    a bundle may hold. Otherwise IntegrityError."""
    entries = [entry for entry in pack.infolist() if not entry.is_dir()]
    sizes = {entry.filename: entry.file_size for entry in entries}
    folders = {str(parent) for name in sizes for parent in PurePosixPath(name).parents}
    if len(pack.infolist()) > MOST_MEMBERS or sum(entry.file_size for entry in entries) > LARGEST_UNPACKED:
        raise _damaged(file, f"unpacked it would take more than {LARGEST_UNPACKED:,} bytes or {MOST_MEMBERS:,} files")
    for entry in pack.infolist():
        name, mode = entry.filename.removesuffix("/"), entry.external_attr >> 16
        if entry.filename != entry.orig_filename or not all(map(BUNDLE_NAME.fullmatch, name.split("/"))):
            raise _damaged(file, f"a member's path is not one that it may have: {entry.filename[:200]!r}")
        if entry.flag_bits & 1 or (stat.S_IFMT(mode) and not stat.S_ISREG(mode) and not entry.is_dir()):
            raise _damaged(file, f"a member is no plain file, or encrypted: {name!r}")
    if len({name.lower() for name in sizes}) < len(entries) or not folders.isdisjoint(sizes):
        raise _damaged(file, "it holds two members of one name")
    return sizes


def _checked_index(pack: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    sizes = _checked_sizes(pack, file)
    if sizes.get(INDEX, LARGEST_INDEX + 1) > LARGEST_INDEX:
        raise _damaged(file, f"it has no {INDEX}, or one that is larger than any is")
    index: dict[str, Any] = json.loads(pack.read(INDEX))
    if index["format"] != FORMAT:
        raise InputError(
            f"{file} is a bundle of format {str(index['format'])[:20]}, this version reads {FORMAT}; make it again"
        )
    named = {str(name): about["bytes"] for name, about in index["members"].items()}
    if strange := sorted({*named, INDEX} ^ sizes.keys()):
        raise _damaged(file, f"members and index differ: {', '.join(strange[:3])}")
    for name, size in named.items():
        if sizes[name] != size:
            raise _damaged(file, f"{name} has {sizes[name]:,} bytes, and {str(size)[:20]} by the index")
    return index


def _damaged(file: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{file} is no whole bundle: {why}; get it anew, or make it again; nothing of it was used")


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


def tell_origin(opened: OpenedBundle, file: Path, screen: Callback) -> None:
    """Say where rows and data come from, and whether this code is the code that made the bundle."""
    screen.say(f"rows and data from {file}, made {opened.index['made']}")
    if opened.index["code"] != code_version():
        screen.say(
            f"the bundle was made by version {opened.index['code']}, this is {code_version()}: its runs have addresses "
            "of their own"
        )
