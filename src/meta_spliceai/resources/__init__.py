"""Named files, tables and weights alike, with source, licence, checksum and location; the lowest layer."""

from meta_spliceai.resources.registry import Resource, ResourceFile, get, names, register
from meta_spliceai.resources.resolve import Found, files_used, packaged_file, resolve_edition, resolve_file, verified

__all__ = [
    "Found",
    "Resource",
    "ResourceFile",
    "files_used",
    "get",
    "names",
    "packaged_file",
    "register",
    "resolve_edition",
    "resolve_file",
    "verified",
]
