"""What a full disk or a lost folder says: that the blocks are kept, and how to go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from meta_spliceai.errors import RunError
from meta_spliceai.splice_engine.base_layer.vcf.unfinished import Account, Unfinished


@pytest.mark.parametrize("written", [0, 1])
def test_a_full_disk_keeps_the_blocks_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Whether it is the block that no longer fits, or the account of it."""
    sync, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > written:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with Unfinished(tmp_path / "out.vcf") as unfinished:
        account = Account({})
        unfinished.begin(account, b"header\n")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            RunError, match=r"No space left on device.*kept in out\.vcf\.partial.*free some space.*--resume"
        ):
            unfinished.append(b"block\n", account)
        monkeypatch.undo()
    with Unfinished(tmp_path / "out.vcf") as unfinished:
        assert unfinished.read_account({}) == Account({}, size=7)


def test_a_folder_that_goes_away_is_named(tmp_path: Path) -> None:
    out = tmp_path / "mounted" / "out.vcf"
    with Unfinished(out) as unfinished:
        account = Account({})
        unfinished.begin(account, b"header\n")
        unfinished.append(b"block\n", account)
        shutil.rmtree(out.parent)
        with pytest.raises(RunError, match=r"mounted cannot be written to .*--resume"):
            unfinished.put_in_place(None)


@pytest.mark.parametrize("lost", ["size", "digest", "totals"])
def test_an_account_that_lacks_a_field_is_damaged(tmp_path: Path, lost: str) -> None:
    """A default in its place would be a count that nobody made."""
    with Unfinished(tmp_path / "out.vcf") as unfinished:
        unfinished.begin(Account({}), b"header\n")
        stored = json.loads(unfinished.account_path.read_text())
        del stored[lost]
        unfinished.account_path.write_text(json.dumps(stored))
        with pytest.raises(RunError, match=r"out\.vcf\.partial\.json is truncated or damaged"):
            unfinished.read_account({})
