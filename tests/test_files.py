"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meta_spliceai.errors import RunError
from meta_spliceai.files import TEMPORARY, atomic_write, cache_dir, place_of, sha256_file, who_else_may_write


def test_a_file_appears_with_its_content_and_no_leftovers(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "file.txt") as handle:
        handle.write("Δ")
    assert (tmp_path / "new" / "file.txt").read_text(encoding="utf-8") == "Δ"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as handle:
            handle.write("half")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as handle:
        handle.write("new")
        handle.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be written to")])
def test_a_full_or_read_only_disk_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=words), atomic_write(tmp_path / "file.txt") as handle:
        handle.write("text")
    assert list(tmp_path.iterdir()) == []


def test_other_users_may_read_as_the_umask_allows_and_a_mode_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    old = os.umask(0o027)
    try:
        with atomic_write(path) as handle:
            handle.write("text")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o600)
        with atomic_write(path) as handle:
            handle.write("secret")
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


def test_checksum_and_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"ACGT")
    assert sha256_file(tmp_path / "file") == hashlib.sha256(b"ACGT").hexdigest()
    monkeypatch.setenv("META_SPLICEAI_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("META_SPLICEAI_CACHE")
    assert cache_dir().name == "meta-spliceai"


@pytest.mark.parametrize(
    ("mode", "folder", "words"),
    [(0o755, 0o755, ""), (0o775, 0o755, "mode 775"), (0o757, 0o755, "mode 757"), (0o755, 0o777, "mode 777")],
)
def test_code_that_others_may_write_is_told(tmp_path: Path, mode: int, folder: int, words: str) -> None:
    path = tmp_path / "own" / "code.so"
    path.parent.mkdir()
    path.write_bytes(b"")
    path.chmod(mode)
    path.parent.chmod(folder)
    said = who_else_may_write(path)
    assert words in said
    assert bool(said) == bool(words)


def test_code_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code.so").write_bytes(b"")
    state = os.stat_result((0o100755, 0, 0, 1, 4711, 4711, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path, **_: state)
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    assert "belongs to another user (id 4711)" in who_else_may_write(tmp_path / "code.so")


def test_a_path_is_known_by_any_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("")
    os.symlink("real", tmp_path / "link")
    os.link(tmp_path / "real" / "file", tmp_path / "hard")
    os.symlink("nowhere/yet", tmp_path / "dangling")
    same = ["real/file", "link/file", "hard", "real/../hard"]
    assert len({place_of(tmp_path / name) for name in same}) == 1
    assert place_of(tmp_path / "link/new/one") == place_of(tmp_path / "real/new/one") != place_of(tmp_path / "real/new")
    assert place_of(tmp_path / "dangling") == place_of(tmp_path / "nowhere" / "yet")
    assert place_of(tmp_path / "real/file") != place_of(tmp_path / "real")
    assert place_of(Path(os.devnull)) is None


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from meta_spliceai.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1]) / 'half.txt') as handle:\n"
        "    handle.write('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (tmp_path / ".other.tmp").write_text("of another program")
    with atomic_write(tmp_path / "in work") as handle:
        handle.write("x")
        assert len(list(tmp_path.glob(f".*{TEMPORARY}"))) == 1  # this one's own; the killed writer's is gone
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.tmp", "in work"]


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from meta_spliceai.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1]) / 'file.txt') as handle:\n"
        "    print('writing', flush=True)\n"
        "    handle.write(sys.stdin.readline())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        with atomic_write(tmp_path / "mine.txt") as handle:
            handle.write("mine")
        other.stdin.write("theirs\n")
        other.stdin.close()
    assert other.returncode == 0
    assert (tmp_path / "file.txt").read_text() == "theirs\n"


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("n" * 250)) as handle:
        handle.write("x")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["x"]
