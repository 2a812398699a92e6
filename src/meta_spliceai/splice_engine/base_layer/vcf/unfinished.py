"""An output file while it is being written: complete blocks on disk, and a record of them to resume from.

Beside OUT stand `OUT.partial`, the output so far, and `OUT.partial.json`, which says how much of it is whole and how
much input it stands for. A block counts from the moment the account is renamed into place; bytes behind the last
counted block are cut off when a run goes on. Nothing is written twice and nothing is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import filelock
from pydantic import ConfigDict, TypeAdapter

from meta_spliceai.errors import InputError, RunError
from meta_spliceai.files import atomic_write
from meta_spliceai.read_hostile import one_error
from meta_spliceai.splice_engine.base_layer.vcf import bgzf

EXAMPLES_KEPT = 5
_KEPT_WITHOUT_SCORES = 1 << 20
"""Bytes of output that are held back before they are counted as written, where nothing was computed for them."""


@dataclass
class Totals:
    """Running counts of a file. `alleles == alleles_scored + sum(unscored.values())` at every moment.

    Attributes:
        alleles: alternative alleles read (a record without any counts as one).
        alleles_scored: alleles with at least one score.
        scores: entries written: one an allele and gene.
        unscored: alleles without a score, by reason; `examples` has up to five of each.
        computed_alone: entries near a rounding border, computed again one by one.
        entries_replaced: records that held an older entry under the same key.
        looked_up: entries taken from tables.
        from_tools: by other tools' names, predicted alleles that their files have a score for.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    records: int = 0
    alleles: int = 0
    alleles_scored: int = 0
    scores: int = 0
    unscored: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    reference_checked: int = 0
    reference_mismatches: int = 0
    computed_alone: int = 0
    entries_replaced: int = 0
    looked_up: int = 0
    from_tools: dict[str, int] = field(default_factory=dict)

    def leave_out(self, example: str, reason: str) -> None:
        """Count one allele, in words, under a reason."""
        self.unscored[reason] = self.unscored.get(reason, 0) + 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(example)


Placed = tuple[Any, str, int, int]
"""A record or row, its contig, position (1-based), and how many alternative alleles made of bases it has."""
Report = Callable[[Totals], None]
"""Told of the totals after each block."""


class SomeBlock(Protocol):
    """Records that are written together."""

    def __len__(self) -> int: ...

    @property
    def text(self) -> bytes: ...


class Source(Protocol):
    """An opened input; `rows` are those still to be read, and a piece puts fewer in their place."""

    name: str
    rows: Iterator[Any]

    def placed(self, rows: Iterator[Any]) -> Iterator[Placed]: ...

    def blocks(self) -> Iterator[SomeBlock]: ...


class Writer(Protocol):
    """What makes an output's text of an input's header and blocks, and counts in `totals`."""

    totals: Totals

    def header(self, source: Any, provenance: Sequence[str]) -> bytes: ...

    def block(self, block: Any) -> bytes: ...


@dataclass
class Account:
    """What the partial output stands for.

    Attributes:
        settings: everything that the text of the output depends on, besides the records.
        size: bytes of the partial file that hold them (header included).
        digest: SHA-256 of the input records written out.
        totals: running totals.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    settings: dict[str, Any]
    size: int = 0
    digest: str = ""
    totals: Totals = field(default_factory=Totals)


class Unfinished:
    """The partial output of one run; use as a context manager, so that no second run writes to it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.partial = out.with_name(out.name + ".partial")
        self.account_path = out.with_name(out.name + ".partial.json")
        self._lock = filelock.FileLock(out.with_name(out.name + ".partial.lock"))
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> Unfinished:
        if self.out.is_dir():
            raise InputError(f"{self.out} is a folder; name the output file")
        with self._explaining():
            self.out.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(blocking=False)
            except filelock.Timeout:
                raise RunError(f"another process is writing {self.out}; wait for it or name another output") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
        # Taken away while it is still held: whoever comes next makes a new one.
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def read_account(self, settings: dict[str, Any]) -> Account | None:
        """The account of an interrupted run, or None where there is none; one with other settings is refused."""
        if not self.account_path.is_file() or not self.partial.is_file():
            return None
        with one_error(self.account_path, f"delete it and {self.partial.name}, and start again", kind=RunError):
            stored = self.account_path.read_bytes()
            account = TypeAdapter(Account).validate_json(stored, strict=True)
            if asdict(account) != json.loads(stored):  # a field that is missing would have its default
                raise ValueError("fields are missing")
        for key in sorted({*account.settings, *settings}):
            if account.settings.get(key) != settings.get(key):
                raise InputError(
                    f"{self.partial} was begun with {key} = {account.settings.get(key)}, and now it is "
                    f"{settings.get(key)}; use the same, or run again without --resume"
                )
        if self.partial.stat().st_size < account.size:
            raise RunError(f"{self.partial} is shorter than {account.size} bytes written; run without --resume")
        return account

    def begin(self, account: Account, header: bytes) -> None:
        """Open the partial file: anew with the header, or behind the last whole block of an interrupted run."""
        goes_on = account.totals.records > 0
        with self._explaining():
            self._handle = self.partial.open("r+b" if goes_on else "wb")
            self._handle.truncate(account.size if goes_on else 0)
            self._handle.seek(0, os.SEEK_END)
        if not goes_on:
            account.size = 0  # a run that was stopped within its first block has counted a header
            self.append(header, account)

    def append(self, data: bytes, account: Account) -> None:
        """Write a whole block and count it; `account` already holds the records it stands for."""
        self.finish(data)
        account.size += len(data)
        with self._explaining():
            try:
                with atomic_write(self.account_path) as stream:
                    json.dump(asdict(account), stream)
            except RunError as error:  # the disk is full
                raise error.__cause__ if isinstance(error.__cause__, OSError) else error from error

    def finish(self, end: bytes) -> None:
        """Write what stands behind the last record, so that the partial file is whole."""
        if self._handle is None:
            raise RuntimeError("the partial file is not open")
        with self._explaining():
            self._handle.write(end)
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def put_in_place(self, convert: Callable[[Path, Path], None] | None) -> None:
        """Turn the whole partial file into the output: by renaming it, or by a conversion that is itself atomic."""
        with self._explaining():
            (convert or os.replace)(self.partial, self.out)
        self.discard()

    def discard(self) -> None:
        """Keep nothing of what was written."""
        self.partial.unlink(missing_ok=True)
        self.account_path.unlink(missing_ok=True)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self.out.parent} cannot be written to ({error.strerror}); the blocks written so far are kept in "
                f"{self.partial.name}: free some space, or make the folder writable, and run again with --resume"
            ) from error


def fill(
    source: Source,
    writer: Writer,
    partial: Unfinished,
    packed: bool,
    provenance: Sequence[str],
    identity: dict[str, Any],
    resume: bool,
    report: Report | None,
) -> int:
    """Write all of an input into the partial file of an output, going on from the last whole block where asked to.

    Args:
        packed: compress the text (BGZF).
        provenance: lines to put into the header.
        identity: all that the text depends on besides the records; a partial file of another is refused.
        resume: go on with what an interrupted run left, if the input is the one that it read.

    Returns:
        Records taken over from the interrupted run.
    """
    account = (partial.read_account(identity) if resume else None) or Account(identity, totals=writer.totals)
    totals = writer.totals = account.totals
    taken_over = totals.records
    pack = bgzf.compress if packed else bytes
    partial.begin(account, pack(writer.header(source, provenance)))
    digest = hashlib.sha256()
    read = 0
    waiting = bytearray()
    for block in source.blocks():
        digest.update(block.text)
        read += len(block)
        if read <= taken_over:
            if read == taken_over and digest.hexdigest() != account.digest:
                raise InputError(_other_input(source.name, taken_over))
            continue
        if read - len(block) < taken_over:
            raise InputError(_other_input(source.name, taken_over))
        computed = totals.scores - totals.looked_up
        waiting += pack(writer.block(block))
        account.digest = digest.hexdigest()
        if totals.scores - totals.looked_up > computed or len(waiting) > _KEPT_WITHOUT_SCORES:
            partial.append(bytes(waiting), account)
            waiting.clear()
        if report is not None:
            report(totals)
    if read < taken_over:
        raise InputError(_other_input(source.name, taken_over))
    if waiting:
        partial.append(bytes(waiting), account)
    partial.finish(bgzf.END_BLOCK if packed else b"")
    return taken_over


def _other_input(name: str, records: int) -> str:
    return (
        f"{name} does not begin with the {records} records that the interrupted run read; give the same input, or run "
        "again without --resume"
    )
