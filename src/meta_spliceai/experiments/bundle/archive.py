"""The file itself: a zip of plain data whose index names every member with its size and SHA-256.

Nothing in it is run or unpickled. A file that is cut off, altered, or made to do harm is refused before anything of it
is used: paths that lead out of the folder, links, two members of one name, members larger than they say, or that the
index does not name.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.read_hostile import MALFORMED
from meta_spliceai.resources.resolve import BUNDLE_INDEX as INDEX

FORMAT = 4
MOST_MEMBERS = 10_000
LARGEST_INDEX = 16 * 2**20
LARGEST_UNPACKED = 4 * 2**30 - 1
"""Bytes that a bundle may hold unpacked: what fits a zip file without its extensions for large ones."""

BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
"""What each part of a member's path is; that of a wheel's member may begin otherwise."""

_STORED = (".parquet", ".safetensors", ".whl")  # compressed already, or not compressible: kept as they are

_DIRECTORY_ENTRY = 46


def write_archive(folder: Path, paths: Iterable[Path], about: Mapping[str, Any], out: Path) -> dict[str, int]:
    """Pack files into one, with an index of all it holds; the same content gives the same file.

    Args:
        folder: what their names in the file begin at.
        paths: what is packed.
        about: what the index says beside the members.
        out: the file; an existing one is replaced when the new one is whole.

    Returns:
        member: bytes that it takes in the file.

    Raises:
        InputError: more than a bundle may hold.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
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
    with opened(file) as pack:
        return _checked_index(pack, file)


def extract(file: Path, folder: Path) -> dict[str, Any]:
    """Write every member of a bundle into a new folder, its size and digest compared; returns the index. Raises as
    `read_index`; what was written so far is then not to be used."""
    with opened(file) as pack:
        index = _checked_index(pack, file)
        write_member(pack, INDEX, folder)
        for name, about in index["members"].items():
            write_member(pack, name, folder)
            if sha256_file(folder / name) != about["sha256"]:
                raise damaged(file, f"{name} does not have the digest that the index says")
    return index


def require_bundle(file: Path) -> Path:
    """The file, once it is there."""
    if not file.is_file():
        raise InputError(f"no bundle at {file}; make one with: meta-spliceai bundle make --all -o {file}")
    return file


@contextmanager
def opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file to read; InputError where it is not there, IntegrityError for whatever is wrong in the block."""
    require_bundle(file)
    try:
        if _bytes_of_directory(file) > MOST_MEMBERS * (_DIRECTORY_ENTRY + 250):
            raise damaged(file, f"it has more than {MOST_MEMBERS:,} members")
        with zipfile.ZipFile(file) as pack:
            yield pack
    except MALFORMED as error:
        raise damaged(file, f"{error or type(error).__name__}; cut off, altered, or another kind of file") from error


def _bytes_of_directory(file: Path) -> int:
    """What the end of a zip file says of the size of its list of members, which Python reads as a whole."""
    with file.open("rb") as handle:
        handle.seek(max(0, file.stat().st_size - 2**16 - 22))
        tail = handle.read()
    at = tail.rfind(b"PK\5\6")
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        raise damaged(file, "it is a zip file of the kind for more than 4 GiB")
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0


def checked_entries(pack: zipfile.ZipFile, file: Path, part: re.Pattern[str], most_bytes: int) -> list[zipfile.ZipInfo]:
    """The members, once all of them are plain files whose paths stay inside and do not clash: each part of a path
    matches `part`, and unpacked they take no more than `most_bytes` all together. Otherwise IntegrityError."""
    entries = [entry for entry in pack.infolist() if not entry.is_dir()]
    names = [entry.filename for entry in entries]
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if len(pack.infolist()) > MOST_MEMBERS or sum(entry.file_size for entry in entries) > most_bytes:
        raise damaged(file, f"unpacked it would take more than {most_bytes:,} bytes or {MOST_MEMBERS:,} files")
    for entry in pack.infolist():
        name, mode = entry.filename.removesuffix("/"), entry.external_attr >> 16
        parts = name.split("/")
        if entry.filename != entry.orig_filename or ".." in parts or not all(part.fullmatch(one) for one in parts):
            raise damaged(file, f"a member's path is not one that it may have: {entry.filename[:200]!r}")
        if entry.flag_bits & 1 or (stat.S_IFMT(mode) and not stat.S_ISREG(mode) and not entry.is_dir()):
            raise damaged(file, f"a member is no plain file, or encrypted: {name!r}")
    if len({name.lower() for name in names}) < len(names) or not folders.isdisjoint(names):
        raise damaged(file, "it holds two members of one name")
    return entries


def _checked_index(pack: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    sizes = {one.filename: one.file_size for one in checked_entries(pack, file, BUNDLE_NAME, LARGEST_UNPACKED)}
    if sizes.get(INDEX, LARGEST_INDEX + 1) > LARGEST_INDEX:
        raise damaged(file, f"it has no {INDEX}, or one that is larger than any is")
    index: dict[str, Any] = json.loads(pack.read(INDEX))
    if index["format"] != FORMAT:
        raise InputError(
            f"{file} is a bundle of format {str(index['format'])[:20]}, this version reads {FORMAT}; make it again"
        )
    named = {str(name): about["bytes"] for name, about in index["members"].items()}
    if strange := sorted({*named, INDEX} ^ sizes.keys()):
        raise damaged(file, f"members and index differ: {', '.join(strange[:3])}")
    for name, size in named.items():
        if sizes[name] != size:
            raise damaged(file, f"{name} has {sizes[name]:,} bytes, and {str(size)[:20]} by the index")
    return index


def write_member(pack: zipfile.ZipFile, name: str, folder: Path) -> None:
    """Write one member into a folder; zipfile reads no more of it than was announced."""
    with pack.open(name) as member, atomic_write(folder / name, "wb") as handle:
        shutil.copyfileobj(member, handle)


def damaged(file: Path, why: str) -> IntegrityError:
    """The error for a bundle, or a wheel in it, that cannot be used."""
    return IntegrityError(f"{file} is no whole bundle: {why}; get it anew, or make it again; nothing of it was used")
