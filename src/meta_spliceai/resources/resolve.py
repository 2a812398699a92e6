"""From a resource's name to a checked file on this machine: mirror first, then the cache, then a download."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meta_spliceai.errors import IntegrityError, MissingExtraError, MissingResourceError
from meta_spliceai.files import cache_dir, sha256_file
from meta_spliceai.resources.registry import Resource, ResourceFile, get

MIRROR_VARIABLE = "META_SPLICEAI_MIRROR"
OFFLINE_VARIABLE = "META_SPLICEAI_OFFLINE"

_CHECKED: dict[tuple[str, int, int], str] = {}
"""(path, modification time in ns, bytes): SHA-256, so that a file is hashed once a process and not once a use."""


_WATCHED: list[dict[str, Path]] = []
"""Who is told of every file that is handed out."""


@contextmanager
def files_used() -> Iterator[dict[str, Path]]:
    """The resources' files that are handed out in the block: path as registered, and where it was found."""
    used: dict[str, Path] = {}
    _WATCHED.append(used)
    try:
        yield used
    finally:
        _WATCHED.remove(used)


def _handed_out(path: str, found: Path) -> Path:
    for used in _WATCHED:
        used[path] = found
    return found


def mirror_folders() -> list[Path]:
    """The folders named in META_SPLICEAI_MIRROR (separated as PATH is), in order."""
    return [Path(part) for part in os.environ.get(MIRROR_VARIABLE, "").split(os.pathsep) if part]


def verified(path: Path, sha256: str, what: str = "") -> Path:
    """The path itself, once its bytes have the checksum.

    Args:
        path: an existing file.
        sha256: what its bytes must hash to.
        what: the file in the user's words, for the message; the path if empty.

    Raises:
        IntegrityError: the bytes differ (truncated, altered, or another version).
    """
    state = path.stat()
    key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
    if key not in _CHECKED:
        _CHECKED[key] = sha256_file(path)
    if _CHECKED[key] != sha256:
        raise IntegrityError(
            f"{what or path} is not the file it should be: {path} ({state.st_size:,} bytes) has SHA-256 "
            f"{_CHECKED[key][:12]}…, expected {sha256[:12]}…; delete it (or correct the mirror) and try again"
        )
    return path


def resolve_file(resource_name: str, path: str) -> Path:
    """A resource's file on this machine, checked.

    A resource that an installed package carries is read from there. Any other is looked for as `<folder>/<path>` under
    each folder of META_SPLICEAI_MIRROR, then in the cache, then downloaded into the cache from its pinned URL (not when
    META_SPLICEAI_OFFLINE is set).

    Args:
        resource_name: a registered resource.
        path: one of its files, as registered.

    Raises:
        InputError: unknown resource or file.
        IntegrityError: a file was found, or downloaded, whose checksum is wrong.
        MissingExtraError: the package that carries it is not installed.
        MissingResourceError: it is nowhere, and cannot be downloaded; the message names the ways out.
    """
    resource = get(resource_name)
    entry = resource.file(path)
    if resource.package:
        carried = packaged_file(resource.package, entry.path, resource.extra)
        return verified(carried, entry.sha256, f"{resource.name}: {entry.path}")
    cached = cache_dir() / "resources" / resource.name / entry.path
    for candidate in (*(folder / entry.path for folder in mirror_folders()), cached):
        if candidate.is_file():
            return _handed_out(path, verified(candidate, entry.sha256, f"{resource.name}: {entry.path}"))
    return _handed_out(path, _download(resource, entry, cached))


def _download(resource: Resource, entry: ResourceFile, cached: Path) -> Path:
    """Fetch the file into the cache; pooch writes beside it, compares the checksum and renames."""
    if entry.url is None:
        why = "there is no public address to download it from"
    elif os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0"):
        why = f"{OFFLINE_VARIABLE} is set"
    else:
        why = _fetched(resource, entry, entry.url, cached)
        if not why:
            return cached
    ways = [f"put the file at <folder>/{entry.path} and set {MIRROR_VARIABLE}=<folder>"]
    if entry.url is not None:
        ways.append(f"go online once ({entry.size / 1e6:.1f} MB from {entry.url})")
    if resource.how_to_get:
        ways.append(resource.how_to_get)
    raise MissingResourceError(
        f"{resource.name}: {entry.path} is neither in a mirror nor in the cache ({cached.parent}), and {why}; "
        f"ways out: {'; or '.join(ways)}"
    )


def _fetched(resource: Resource, entry: ResourceFile, url: str, cached: Path) -> str:
    """Download a file to its place in the cache; why it could not be had, in words, or nothing."""
    try:
        import pooch
        import requests
    except ImportError as error:
        return f"downloads need the package {error.name}, which is not installed (pip install pooch)"
    try:
        pooch.retrieve(
            url=url,
            known_hash=f"sha256:{entry.sha256}",
            fname=cached.name,
            path=cached.parent,
            downloader=pooch.HTTPDownloader(timeout=30, progressbar=False),
        )
    except requests.exceptions.RequestException as error:
        return f"the download from {url} failed ({type(error).__name__})"
    except ValueError as error:  # pooch's own report of a wrong hash
        raise IntegrityError(
            f"{resource.name}: what {url} serves does not have the expected SHA-256 {entry.sha256[:12]}…; "
            "nothing was kept"
        ) from error
    return ""


def packaged_file(distribution: str, path: str, extra: str = "quickstart") -> Path:
    """A file that an installed Python package carries, found without importing the package.

    Where the package is not installed, the file is looked for under the mirror folders, at the same path: an opened
    bundle brings the weights of networks there.

    Args:
        distribution: the package's name on PyPI, e.g. "spliceai".
        path: the file's path as the package lists it, e.g. "spliceai/models/spliceai1.h5".
        extra: the extra of this project that installs the package, for the message.

    Raises:
        MissingExtraError: the package is not installed.
        IntegrityError: it is, but without that file (another version, or a damaged installation).
    """
    try:
        package = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        for folder in mirror_folders():
            if (folder / path).is_file():
                return _handed_out(path, folder / path)
        raise MissingExtraError(f"{path} of the package '{distribution}'", extra) from error
    found = Path(str(package.locate_file(path)))
    if not found.is_file():
        raise IntegrityError(
            f"the installed package {distribution} {package.version} has no file {path}; "
            f"install it again: pip install --force-reinstall {distribution}"
        )
    return _handed_out(path, found)
