"""A bundle that is damaged or made to do harm is refused before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meta_spliceai.errors import InputError, IntegrityError
from meta_spliceai.experiments.bundle import archive
from meta_spliceai.experiments.bundle.archive import extract, open_bundle, read_index, write_archive

INDEX = "bundle/index.json"


def packed(folder: Path, out: Path) -> None:
    write_archive(folder, {"made": "today"}, out)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "bundle" / "data").mkdir(parents=True)
    (folder / "bundle" / "data" / "table.csv").write_text("a,b\n1,2\n" * 500)
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    packed(folder, tmp_path / "good.zip")
    return tmp_path / "good.zip"


def rewritten(good: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> Path:
    """The bundle with its members or its index changed."""
    with zipfile.ZipFile(good) as pack:
        members = {name: pack.read(name) for name in pack.namelist()}
    index = json.loads(members.pop(INDEX))
    change(members, index)
    bad = good.with_name("bad.zip")
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr(INDEX, json.dumps(index))
        for name, content in members.items():
            pack.writestr(name, content)
    return bad


def refused(bad: Path, words: str) -> None:
    folder = bad.with_name("out")
    with pytest.raises(IntegrityError, match=words):
        extract(bad, folder)


def test_what_was_packed_comes_out(good: Path, tmp_path: Path) -> None:
    index = extract(good, tmp_path / "out")
    assert index["made"] == "today"
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == bytes(range(256)) * 40
    assert (tmp_path / "out" / "bundle" / "data" / "table.csv").read_text() == "a,b\n1,2\n" * 500
    assert read_index(good) == index


def test_the_same_content_gives_the_same_file(good: Path, tmp_path: Path) -> None:
    packed(tmp_path / "content", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == good.read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 400, -1])
def test_a_cut_off_file(good: Path, keep: int) -> None:
    good.write_bytes(good.read_bytes()[:keep])
    refused(good, "no whole bundle")


def test_flipped_bytes(good: Path) -> None:
    content = bytearray(good.read_bytes())
    at = content.index(bytes(range(100, 130)))
    content[at] ^= 1
    good.write_bytes(content)
    refused(good, "weights.safetensors")


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "bundle/../../evil", "a\\..\\evil", "C:/evil", ".hidden", "a//b", "a/./b", "-x"]
)
def test_paths_that_lead_elsewhere(good: Path, name: str) -> None:
    def add(members: dict[str, bytes], index: dict[str, Any]) -> None:
        members[name] = b"x"
        index["members"][name] = {"bytes": 1, "sha256": "0" * 64}

    refused(rewritten(good, add), "path is not one that it may have")


def test_a_link(good: Path) -> None:
    with zipfile.ZipFile(good, "a") as pack:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        pack.writestr(link, "/etc/passwd")
    refused(good, "no plain file")


def test_a_member_nobody_names_and_one_that_is_missing(good: Path) -> None:
    refused(rewritten(good, lambda members, _: members.update(more=b"x")), "members and index differ: more")
    refused(rewritten(good, lambda members, _: members.pop("weights.safetensors")), "differ: weights.safetensors")  # type: ignore[arg-type,return-value]


def test_a_name_twice(good: Path) -> None:
    with zipfile.ZipFile(good, "a") as pack, pytest.warns(UserWarning, match="Duplicate"):
        pack.writestr("weights.safetensors", b"other")
    refused(good, "two members of one name")


def test_another_content_than_the_checksum_says(good: Path) -> None:
    def swap(members: dict[str, bytes], index: dict[str, Any]) -> None:
        members["weights.safetensors"] = bytes(256 * 40)

    refused(rewritten(good, swap), "does not have the digest")


def test_sizes_that_are_not_true(good: Path) -> None:
    def lie(members: dict[str, bytes], index: dict[str, Any]) -> None:
        index["members"]["weights.safetensors"]["bytes"] = 5

    refused(rewritten(good, lie), "10,240 bytes, and 5 by the index")


def test_more_than_a_bundle_ever_holds(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(archive, "LARGEST_UNPACKED", 5_000)
        refused(good, "unpacked it would take more")
    monkeypatch.setattr(archive, "LARGEST_INDEX", 50)
    refused(good, "one that is larger than any is")


def test_nothing_of_more_than_4_gib_is_written_or_read(tmp_path: Path, good: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "genome.bin").touch()
    os.truncate(folder / "genome.bin", 4 * 2**30 + 1)  # takes no space on the disk
    with pytest.raises(InputError, match="a bundle holds at most 4 GiB"):
        write_archive(folder, {}, tmp_path / "large.zip")
    assert not (tmp_path / "large.zip").exists()
    claims, many = tmp_path / "claims.zip", tmp_path / "many.zip"
    with zipfile.ZipFile(claims, "w") as pack:
        pack.writestr(INDEX, "{}")
        pack.writestr("genome.bin", b"few")
        pack.filelist[-1].file_size = 5 * 2**30
    refused(claims, "unpacked it would take more than")
    with zipfile.ZipFile(many, "w") as pack:
        pack.writestr(INDEX, "{}")
        for number in range(2**16):
            pack.writestr(f"{number}", b"")
    refused(many, "a zip file of the kind for more than 4 GiB")


def test_a_file_and_a_folder_of_one_name(good: Path) -> None:
    def add(members: dict[str, bytes], index: dict[str, Any]) -> None:
        members["weights.safetensors/inner"] = b"x"
        index["members"]["weights.safetensors/inner"] = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}

    refused(rewritten(good, add), "two members of one name")


def test_more_members_than_a_bundle_ever_holds(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(members: dict[str, bytes], index: dict[str, Any]) -> None:
        members.update({f"member-{number}": b"" for number in range(40)})

    bad = rewritten(good, add)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 20)
    refused(bad, "unpacked it would take more than")
    monkeypatch.setattr(archive, "MOST_MEMBERS", 5)  # the list itself is longer than five members take
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(bad, "it has more than 5 members")


HOSTILE = [*(f"z{number}.zip" for number in ("", 1, 2, 3, 6, 7, 8)), "w1.zip", "w2.zip", "w3.zip"]
HOSTILE += ["bundle-d63dcd4d.zip", "bundleidx-965394f4.zip"]


@pytest.mark.mirror
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bundles_are_refused_in_one_line(case: str, tmp_path: Path, mirror: Path) -> None:
    file = mirror / "cases" / case
    with pytest.raises((InputError, IntegrityError)) as refused:
        open_bundle(file, tmp_path / "out")
    assert len(str(refused.value)) < 1_000
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())  # nothing of it is left


def test_a_zip_that_is_no_bundle_and_a_later_format(good: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as pack:
        pack.writestr("a", "b")
    refused(tmp_path / "other.zip", "it has no bundle/index.json, or one")
    with pytest.raises(InputError, match="format 9"):
        read_index(rewritten(good, lambda _, index: index.update(format=9)))
    refused(rewritten(good, lambda _, index: index.pop("members")), "'members'")  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match="no bundle at"):
        read_index(tmp_path / "absent.zip")
