"""The file itself: a zip of plain data whose index names every member with its size and checksum.

Nothing in it is run or unpickled. A file that is cut off, altered, or made to do harm (paths that lead out of the
folder, links, members larger than they say, members nobody names) is refused before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.files import atomic_write, sha256_file
from meta_spliceai.resources.bundles import INDEX

FORMAT = 3
LARGEST_INDEX = 16 * 2**20
LARGEST_UNPACKED = 4 * 2**30
"""Bytes that a bundle may hold unpacked. One file of 45 MB of sequence and weights holds some 50 MB."""

_STORED = (".parquet", ".safetensors")
"""Compressed already, or not compressible: kept as they are."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_CHUNK = 1 << 20


def write_archive(folder: Path, about: Mapping[str, Any], out: Path) -> int:
    """Pack a folder into one file, with an index of all it holds.

    Args:
        folder: what is packed, every file of it.
        about: what the index says beside the members.
        out: the file; an existing one is replaced when the new one is whole.

    Returns:
        bytes of the file.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    members = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    index = json.dumps({"format": FORMAT, **about, "members": members}, indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_write(out, "wb") as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as pack:
        _add(pack, INDEX, lambda member: member.write(index.encode()))
        for path in files:
            _add(pack, path.relative_to(folder).as_posix(), lambda member, path=path: _copy(path, member))  # type: ignore[misc]
    return out.stat().st_size


def _add(pack: zipfile.ZipFile, name: str, write: Callable[[IO[bytes]], object]) -> None:
    """One member; the date is fixed, so that the same content gives the same file."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with pack.open(entry, "w") as member:
        write(member)


def _copy(path: Path, member: IO[bytes]) -> None:
    with path.open("rb") as handle:
        while piece := handle.read(_CHUNK):
            member.write(piece)


def packed_sizes(file: Path) -> dict[str, int]:
    """Member: bytes it takes in the file."""
    with _opened(file) as pack:
        return {entry.filename: entry.compress_size for entry in pack.infolist()}


def read_index(file: Path) -> dict[str, Any]:
    """What a bundle says it is, once its members are known to be those that it names.

    Raises:
        InputError: no such file, or no bundle.
        IntegrityError: damaged, or made to do harm.
    """
    with _opened(file) as pack:
        return _checked_index(pack, file)


def extract(file: Path, folder: Path) -> dict[str, Any]:
    """Write every member of a bundle into a new folder, its size and checksum compared; returns the index.

    Raises:
        InputError, IntegrityError: as `read_index`; what was written so far is then not to be used.
    """
    with _opened(file) as pack:
        index = _checked_index(pack, file)
        _write(folder / INDEX, pack, INDEX, LARGEST_INDEX, file)
        for name, about in index["members"].items():
            found = _write(folder / name, pack, name, about["bytes"], file)
            if found != about["sha256"]:
                raise _damaged(file, f"{name} does not have the checksum that the index says")
    return index


def _opened(file: Path) -> zipfile.ZipFile:
    if not file.is_file():
        raise InputError(f"no bundle at {file}; make one with: meta-spliceai bundle make --all -o {file}")
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise _damaged(file, f"{error}; cut off, or another kind of file") from error


def _checked_index(pack: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    entries = pack.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        _refuse_bad_entry(entry, file)
    if len(set(names)) != len(names):
        raise _damaged(file, "it holds two members of one name")
    if INDEX not in names:
        raise _damaged(file, f"it has no {INDEX}; it was not made by 'meta-spliceai bundle make'")
    if pack.getinfo(INDEX).file_size > LARGEST_INDEX:
        raise _damaged(file, "its index is larger than any index is")
    content = _read(pack, INDEX, LARGEST_INDEX, file)
    try:
        index = json.loads(content)
        wanted = {str(name): (int(about["bytes"]), str(about["sha256"])) for name, about in index["members"].items()}
        form = index["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file, f"its index cannot be read ({type(error).__name__}: {error})") from error
    if form != FORMAT:
        raise InputError(f"{file} is a bundle of format {form}, this version reads format {FORMAT}; make it again")
    if {*wanted, INDEX} != set(names):
        strange = sorted({*wanted, INDEX} ^ set(names))
        raise _damaged(file, f"members and index differ: {', '.join(strange[:3])}")
    for name, (size, _) in wanted.items():
        if pack.getinfo(name).file_size != size:
            raise _damaged(file, f"{name} has {pack.getinfo(name).file_size:,} bytes, the index says {size:,}")
    if sum(size for size, _ in wanted.values()) > LARGEST_UNPACKED:
        raise _damaged(file, f"unpacked it would take more than {LARGEST_UNPACKED / 2**30:.0f} GiB")
    return index


def _refuse_bad_entry(entry: zipfile.ZipInfo, file: Path) -> None:
    """Only plain files, with paths that stay inside."""
    parts = entry.filename.split("/")
    if entry.filename != entry.orig_filename or any(_SAFE_NAME.fullmatch(part) is None for part in parts):
        raise _damaged(file, f"a member's path is not one that a bundle has: {entry.filename!r}")
    mode = entry.external_attr >> 16
    if entry.is_dir() or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
        raise _damaged(file, f"a member is no plain file: {entry.filename!r}")
    if entry.flag_bits & 1:
        raise _damaged(file, f"a member is encrypted: {entry.filename!r}")


def _read(pack: zipfile.ZipFile, name: str, most: int, file: Path) -> bytes:
    try:
        with pack.open(name) as member:
            content = member.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _damaged(file, f"{name}: {error}") from error
    if len(content) > most:
        raise _damaged(file, f"{name} is larger than it says")
    return content


def _write(path: Path, pack: zipfile.ZipFile, name: str, most: int, file: Path) -> str:
    """Write one member, no more of it than was announced; its SHA-256."""
    hashed, written = hashlib.sha256(), 0
    try:
        with pack.open(name) as member, atomic_write(path, "wb") as handle:
            while piece := member.read(_CHUNK):
                written += len(piece)
                if written > most:
                    raise _damaged(file, f"{name} is larger than it says")
                hashed.update(piece)
                handle.write(piece)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _damaged(file, f"{name}: {error}") from error
    return hashed.hexdigest()


def _damaged(file: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{file} is no whole bundle: {why}; get it anew, or make it again; nothing of it was used")
