"""The local end: no name leads out of its directory, and nothing odd is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import NameInvalid, StorageError
from putter.client.trees import disk


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "..\\x",
        "a\0b",
        "C:\\x",
    ],
)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    top = tmp_path / "top"
    with pytest.raises(NameInvalid, match="cannot be a file here"):
        disk.room_for(top, name)
    assert not top.exists()


@pytest.mark.parametrize("name", ["a", "a/b/c", "...", "..a/b..", "-", "a b/\u732b", "~/x"])
def test_names_below(name: str, tmp_path: Path) -> None:
    path = disk.room_for(tmp_path / "new" / "top", name)
    assert path == tmp_path / "new" / "top" / name
    path.write_bytes(b"x")
    assert disk.room_for(tmp_path / "new" / "top", name) == path


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    top = tmp_path / "top"
    (top / "dir").mkdir(parents=True)
    (top / "file").write_bytes(b"x")
    (top / "link").symlink_to(outside)
    (top / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(top / "pipe")
    for name, kind in {
        "file/x": "file is a file, and there has to be a directory",
        "link/x": "link is a link, and there has to be a directory",
        "dangling/x": "dangling is a link",
        "dir": "dir is a directory, and is not replaced",
        "link": "link is a link, and is not replaced",
        "pipe": "is a device, pipe or socket",
        "dir/" + "x" * 300: "cannot write",
        "y" * 300 + "/x": "cannot write",
    }.items():
        with pytest.raises(StorageError, match=kind):
            disk.room_for(top, name)
    assert list(outside.iterdir()) == []


def test_a_top_that_is_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "top").symlink_to(tmp_path / "real")
    disk.room_for(tmp_path / "top", "a/b").write_bytes(b"x")
    assert (tmp_path / "real/a/b").read_bytes() == b"x"


def test_removing_takes_empty_directories_along(tmp_path: Path) -> None:
    for name in ("a/b/c", "a/d"):
        disk.room_for(tmp_path, name).write_bytes(b"x")
    disk.remove(tmp_path, "a/b/c")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "d"]
    disk.remove(tmp_path, "a/d")
    disk.remove(tmp_path, "a/d")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_or_read(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    with pytest.raises(StorageError, match="cannot delete"):
        disk.remove(tmp_path, "dir")
    for look in (disk.digest_of, disk.state_of):
        with pytest.raises(StorageError, match="cannot read"):
            look(tmp_path / "none")
    with pytest.raises(StorageError, match="cannot set the time"):
        disk.set_time(tmp_path / "none", 1)


def test_times_are_those_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = disk.state_of(path)
    disk.set_time(path, 1_700_000_000_123)
    assert path.stat().st_mtime_ns == 1_700_000_000_123_000_000
    assert disk.state_of(path) != before
