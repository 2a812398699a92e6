"""Resolves a resource's name to a verified file on this machine: mirrors first, then the cache, then a download (one
process at a time, resumable, and put in place only once complete and correct)."""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib.metadata
import importlib.resources
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from meta_spliceai.errors import IntegrityError, MissingExtraError, MissingPackageError, MissingResourceError, RunError
from meta_spliceai.files import atomic_write, cache_dir, sha256_file
from meta_spliceai.resources.registry import Resource, ResourceFile, get

MIRROR_VARIABLE = "META_SPLICEAI_MIRROR"

BUNDLE_INDEX = "bundle/index.json"
"""What a bundle says it is and holds, at this place in it and in the mirror that it is opened as."""

OWN_PACKAGE = "meta-spliceai"

ENCODERS = {
    "hyenadna-tiny-1k": ("LongSafari/hyenadna-tiny-1k-seqlen-hf", "e8c1effa8673814e257e627d2e1eda9ea5a373f6"),
    "hyenadna-small-32k": ("LongSafari/hyenadna-small-32k-seqlen-hf", "8fe770c78eb13fe33bf81501612faeddf4d6f331"),
    "hyenadna-medium-160k": ("LongSafari/hyenadna-medium-160k-seqlen-hf", "7ebf71773d22c0ede2cc55cb2be15ee8c289e1ce"),
    "hyenadna-medium-450k": ("LongSafari/hyenadna-medium-450k-seqlen-hf", "42dedd4d374eac0fb8168549e546a3472fbd27ae"),
    "hyenadna-large-1m": ("LongSafari/hyenadna-large-1m-seqlen-hf", "0a629abf9c7f85b4ec9aa6a1aefa3adcf1907446"),
}
"""Pre-trained encoders on the model hub: repository and commit. The hub could not be reached when they were written
down; several public projects that pin the same repositories name the same commits."""

BUNDLED = "bundle/encoders"
"""Where an opened bundle keeps checkpoints, `<name>/<commit>`, under the folder that it is opened in."""

SHIPPED_ENCODERS = "splice_engine/meta_layer/shipped/encoders"
"""Where the package itself keeps encoders that `meta-spliceai pretrain` made, under their published sizes' names."""

WEIGHTS = "model.safetensors"
"""The weights in the hub's format."""

HUB_FILES = ("config.json", WEIGHTS)

_WATCHED: list[dict[str, Path]] = []
"""Who is told of every file that is handed out."""


@dataclass(frozen=True)
class Found:
    """A checked file on this machine, and which of a resource's files it is."""

    path: Path
    entry: ResourceFile


@contextmanager
def files_used() -> Iterator[dict[str, Path]]:
    """The resources' files that are handed out in the block: path as registered, and where it was found."""
    used: dict[str, Path] = {}
    _WATCHED.append(used)
    try:
        yield used
    finally:
        _WATCHED.remove(used)


def handed_out(path: str, found: Path) -> Path:
    """Tell who watches (`files_used`) that a file is used; the file itself."""
    for used in _WATCHED:
        used[path] = found
    return found


def _mirrors() -> list[str]:
    """What META_SPLICEAI_MIRROR lists, separated as PATH is; the colons of an address separate nothing."""
    given = os.environ.get(MIRROR_VARIABLE, "")
    if os.pathsep != ":":
        return [part for part in given.split(os.pathsep) if part]
    return re.findall(r"https?://[^:/]+(?::\d+)?(?:/[^:]*)?|[^:]+", given)


def _is_address(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def mirror_folders() -> list[Path]:
    """The folders named in META_SPLICEAI_MIRROR, in order."""
    return [Path(mirror) for mirror in _mirrors() if not _is_address(mirror)]


def mirror_addresses() -> list[str]:
    """The web addresses named in META_SPLICEAI_MIRROR, in order, without a slash at the end."""
    return [mirror.rstrip("/") for mirror in _mirrors() if _is_address(mirror)]


def sha256_once(path: Path) -> str:
    """SHA-256 of a file, computed once a process for each state of the file."""
    state = path.stat()
    return _sha256_of(path.resolve(), state.st_mtime_ns, state.st_size)


@cache
def _sha256_of(path: Path, changed: int, size: int) -> str:
    return sha256_file(path)


def at_hand(resource_name: str) -> bool:
    """Whether every file of a resource, in some edition, is on this machine (whole or not); nothing is downloaded."""
    resource = get(resource_name)
    if resource.package == OWN_PACKAGE:
        return True
    if resource.package:
        return package_at_hand(resource.package, [entry.path for entry in resource.files])
    folders = (*mirror_folders(), _cache_of(resource))
    return all(
        any((folder / entry.path).is_file() for folder in folders for entry in choice) for choice in resource.choices
    )


def package_at_hand(distribution: str, paths: Sequence[str]) -> bool:
    """Whether a package that carries files is installed, or a mirror folder has the files in its place."""
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return all(any((folder / path).is_file() for folder in mirror_folders()) for path in paths)
    return True


def verified(path: Path, sha256: str, what: str = "") -> Path:
    """The path of a file itself, once its bytes have the checksum; `what`: the file in the user's words.
    IntegrityError: the bytes differ (truncated, altered, or another version)."""
    _which(path, [ResourceFile(str(path), sha256, 0)], what or str(path))
    return path


def _which(path: Path, entries: Sequence[ResourceFile], what: str) -> ResourceFile:
    sha256 = sha256_once(path)
    for entry in entries:
        if entry.sha256 == sha256:
            return entry
    raise IntegrityError(
        f"{what} is not the file it should be: {path} ({path.stat().st_size:,} bytes) has SHA-256 {sha256[:12]}…, "
        f"expected {' or '.join(f'{entry.sha256[:12]}…' for entry in entries)}; delete it (or correct the mirror) and "
        "try again"
    )


def resolve_file(resource_name: str, path: str) -> Path:
    """A resource's file on this machine, checked.

    A resource that an installed package carries is read from there. Any other is looked for as `<folder>/<path>` under
    each folder of META_SPLICEAI_MIRROR, then in the cache, then downloaded into the cache: from the mirrors that are
    web addresses, then from its pinned URL (not when META_SPLICEAI_OFFLINE is set).

    Raises:
        IntegrityError: a file was found, or downloaded, whose checksum is wrong.
        MissingExtraError: the package that carries it is not installed.
        MissingResourceError: it is nowhere, and cannot be downloaded; the message names the ways out.
    """
    resource = get(resource_name)
    return resolve_choice(resource, [resource.file(path)]).path


def resolve_edition(resource_name: str) -> Found:
    """The edition of a resource that is at hand first, or else the one that can be downloaded."""
    resource = get(resource_name)
    return resolve_choice(resource, resource.files)


def find_here(resource: Resource, entries: Sequence[ResourceFile]) -> Found | None:
    """The first of some interchangeable files that is on this machine; None if there is none.

    Raises:
        IntegrityError: one is there, and is not what it should be.
        MissingExtraError: the package that carries it is not installed.
    """
    if resource.package:
        carried = packaged_file(resource.package, entries[0].path)
        return Found(carried, _which(carried, entries, f"{resource.name}: {entries[0].path}"))
    for folder in (*mirror_folders(), _cache_of(resource)):
        for path in dict.fromkeys(entry.path for entry in entries):
            if (folder / path).is_file():
                alike = [entry for entry in entries if entry.path == path]
                return Found(folder / path, _which(folder / path, alike, f"{resource.name}: {path}"))
    return None


def addresses_of(entries: Sequence[ResourceFile]) -> list[tuple[str, ResourceFile]]:
    """Where some interchangeable files may be, in the order they are asked for, each with the file it should be."""
    found: dict[str, ResourceFile] = {}
    for mirror in mirror_addresses():
        for entry in entries:
            found.setdefault(f"{mirror}/{entry.path}", entry)
    for entry in entries:
        if entry.url:
            found.setdefault(entry.url, entry)
    return list(found.items())


def _cache_of(resource: Resource) -> Path:
    return cache_dir() / "resources" / resource.name


def resolve_choice(resource: Resource, entries: Sequence[ResourceFile]) -> Found:
    found = find_here(resource, entries) or _downloaded(resource, entries)
    handed_out(found.entry.path, found.path)
    return found


def _downloaded(resource: Resource, entries: Sequence[ResourceFile]) -> Found:
    why = []
    for address, entry in addresses_of(entries):
        cached, what = _cache_of(resource) / entry.path, f"{resource.name}: {entry.path}"
        alike = [one for one in entries if one.path == entry.path]
        try:
            if address.endswith(".gz") and not entry.path.endswith(".gz"):
                _unpacked(download(address, Path(f"{cached}.gz"), what), cached, entry, what)
            else:
                download(address, cached, what, alike)
        except MissingResourceError as error:
            why.append(str(error).removeprefix(f"{what}: "))
            continue
        return Found(cached, _which(cached, alike, what))
    names = " or ".join(dict.fromkeys(entry.path for entry in entries))
    ways = [f"meta-spliceai data get {resource.name}"] if why else []
    ways += [resource.how_to_get] if resource.how_to_get else []
    ways.append(f"put it at <folder>/{entries[0].path} and set {MIRROR_VARIABLE}=<folder>")
    raise MissingResourceError(
        f"{resource.name}: {names} is neither in a mirror nor in the cache ({_cache_of(resource)}), and "
        f"{'; '.join(dict.fromkeys(why)) or 'there is no public address to download it from'}; "
        f"bring it with: {'; or '.join(ways)}"
    )


def _unpacked(zipped: Path, target: Path, entry: ResourceFile, what: str) -> None:
    try:
        with gzip.open(zipped) as source, atomic_write(target, "wb") as handle:
            hashed = hashlib.sha256()
            while block := source.read(1 << 20):
                hashed.update(block)
                handle.write(block)
            if hashed.hexdigest() != entry.sha256:
                raise IntegrityError(f"{what}: the download does not hold what it should; nothing was kept")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IntegrityError(f"{what}: the download is no whole gzip file ({error}); nothing was kept") from error
    finally:
        zipped.unlink()


def packaged_file(distribution: str, path: str, extra: str = "quickstart") -> Path:
    """A file that an installed Python package carries, found without importing the package.

    Where the package is not installed, the file is looked for under the mirror folders, at the same path: an opened
    bundle brings the weights of networks there. `extra`: the extra of this project that installs the package.

    Raises:
        MissingExtraError: the package is not installed.
        IntegrityError: it is, but without that file (another version, or a damaged installation).
    """
    if distribution == OWN_PACKAGE:  # also where it runs from a checkout, and no distribution is installed
        return handed_out(path, Path(__file__).resolve().parents[2] / path)
    try:
        package = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        for folder in mirror_folders():
            if (folder / path).is_file():
                return handed_out(path, folder / path)
        raise MissingExtraError(f"{path} of the package '{distribution}'", extra) from error
    found = Path(str(package.locate_file(path)))
    if not found.is_file():
        raise IntegrityError(
            f"the installed package {distribution} {package.version} has no file {path}; "
            f"install it again: pip install --force-reinstall {distribution}"
        )
    return handed_out(path, found)


def folder_at_hand(name: str, revision: str | None = None) -> Path | None:
    """The folder of a published checkpoint, named by its commit, where it is on this machine: brought by an opened
    bundle, or in the hub's local cache. None where it is not; nothing is downloaded."""
    repository, pinned = ENCODERS[name]
    commit = revision or pinned
    for mirror in mirror_folders():
        folder = mirror / BUNDLED / name / commit
        if all((folder / file).is_file() for file in HUB_FILES):
            return folder
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = [try_to_load_from_cache(repository, file, revision=commit) for file in HUB_FILES]
    there = [Path(file) for file in found if isinstance(file, str)]
    return there[0].parent if len(there) == len(HUB_FILES) else None


def shipped_encoders() -> dict[str, Path]:
    """The folders of the encoders that are included in the package, by the published sizes' names."""
    folder = Path(str(importlib.resources.files("meta_spliceai").joinpath(SHIPPED_ENCODERS)))
    return {name: folder / name for name in ENCODERS if (folder / name / WEIGHTS).is_file()}


if TYPE_CHECKING:
    import requests

OFFLINE_VARIABLE = "META_SPLICEAI_OFFLINE"

_TIMEOUT = (15, 60)
"""Seconds to connect, and between two blocks of bytes."""
_BLOCK = 1 << 16

Report = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all if known)."""


class _BrokeOff(Exception):
    """The connection ended before the file did."""


def offline() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")


def download(address: str, target: Path, what: str, expected: Sequence[ResourceFile] = ()) -> Path:
    """Bring the file at an address to `target`.

    Bytes gather in `target`.part, which a later call goes on with where the server can (HTTP Range); a connection that
    breaks off is taken up again as long as that brings anything. A second process waits for the first. What stands at
    `target` already is left alone.

    Args:
        expected: what may come, by size and SHA-256; anything, if empty (the caller then checks the content).

    Raises:
        MissingResourceError: offline, no connection, no such file there, a web page instead of the file, or a
            connection that broke off.
        IntegrityError: other bytes than expected; none of them is kept.
        RunError: the disk is full; what came is kept.
        MissingPackageError: requests or filelock is not installed.
    """
    if offline():
        raise MissingResourceError(f"{OFFLINE_VARIABLE} is set, so that nothing is downloaded")
    try:
        import filelock
        import requests  # noqa: F401 - named here so that a bare machine gets one line
    except ImportError as error:
        raise MissingPackageError("a download", str(error.name)) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{target}.lock"):
        part = target.with_name(f"{target.name}.part")
        while not target.exists():
            resumed = part.exists()
            with progress_bar(what) as report:
                _gather(address, part, what, expected, report)
            found = sha256_file(part) if expected else ""
            if not expected or found in {entry.sha256 for entry in expected}:
                os.replace(part, target)
                break
            part.unlink()
            if not resumed:  # otherwise its beginning may have been another file's: once more, from the start
                raise IntegrityError(
                    f"{what}: what {address} sends has SHA-256 {found[:12]}…, expected "
                    f"{' or '.join(f'{entry.sha256[:12]}…' for entry in expected)}; nothing was kept"
                )
    return target


def _gather(address: str, part: Path, what: str, expected: Sequence[ResourceFile], report: Report) -> None:
    """Requests until `part` is whole."""
    import requests

    farthest = -1
    while True:
        have = part.stat().st_size if part.exists() else 0
        if expected and have == max(entry.size for entry in expected):
            return
        if have <= farthest:
            raise MissingResourceError(
                f"{what}: the connection to {address} broke off after {have:,} bytes, which are kept; the same command "
                "goes on from there"
            )
        farthest = have
        try:
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
            with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                _take(response, part, have, what, expected, report)
            return
        except _BrokeOff:
            continue
        except requests.exceptions.RequestException as error:
            if part.exists() and part.stat().st_size > farthest:
                continue
            kept = f"; {have:,} bytes are kept, and the same command goes on from there" if have else ""
            raise MissingResourceError(
                f"{what}: the download from {address} failed ({type(error).__name__}){kept}"
            ) from error


def _take(
    response: requests.Response, part: Path, have: int, what: str, expected: Sequence[ResourceFile], report: Report
) -> None:
    """Append (206) or write anew (200) what a response brings."""
    address = response.url
    if response.status_code == 416:  # nothing behind these bytes: they are all, or another file's
        whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == have:
            return
        part.unlink()
        raise _BrokeOff
    if response.status_code not in (200, 206):
        raise MissingResourceError(f"{what}: {address} answers {response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip() == "text/html":
        raise MissingResourceError(
            f"{what}: {address} sends a web page and not the file (a log-in or a proxy in between?), which is not kept"
        )
    if response.status_code == 200:
        have = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        raise _BrokeOff
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    sizes = {entry.size for entry in expected}
    if total is not None and sizes and total not in sizes:
        part.unlink(missing_ok=True)
        raise IntegrityError(
            f"{what}: {address} has {total:,} bytes, expected {' or '.join(f'{size:,}' for size in sorted(sizes))}; "
            "nothing was kept"
        )
    if total is not None and shutil.disk_usage(part.parent).free < total - have:
        raise RunError(
            f"no space for {what}: {total - have:,} bytes are missing and {part.parent} has "
            f"{shutil.disk_usage(part.parent).free:,} free; free some and run the same command again"
        )
    response.raw.enforce_content_length = False  # else the last bytes before a break are lost; they are counted here
    try:
        with part.open("ab" if have else "wb") as handle:
            for block in response.iter_content(_BLOCK):
                handle.write(block)
                have += len(block)
                report(have, total)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"no space left on the disk that holds {part.parent}; what came of {what} is kept, free some and run the "
            "same command again"
        ) from error
    if total is not None and have < total:
        raise _BrokeOff


@contextmanager
def progress_bar(what: str) -> Iterator[Report]:
    """A progress bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda have, total: progress.update(task, completed=have, total=total)
