"""How the real disk speaks with the system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from common.errors import NoSpace, StorageError
from putter.storage.disk import RealDisk, refusal


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_has_an_error_of_its_own(number: int) -> None:
    error = refusal(OSError(number, os.strerror(number)), "write", "a/b")
    assert isinstance(error, NoSpace)
    assert error.hint


def test_other_refusals_name_action_and_path() -> None:
    error = refusal(OSError(errno.EIO, "Input/output error"), "read", "a/b")
    assert isinstance(error, StorageError)
    assert str(error) == "cannot read a/b: Input/output error"
    assert "root directory" in str(refusal(OSError(errno.EIO, "x"), "sync", ""))


def test_a_missing_root_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="none"):
        RealDisk(tmp_path / "none")


def test_a_file_that_could_not_be_written_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = RealDisk(tmp_path)

    def full(handle: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpace):
        disk.create("file", b"data")
    assert disk.names("") == []
    disk.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    disk.sync_files([disk.create("file", b"0123456789")])
    assert disk.read("file") == b"0123456789"
    disk.close()


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk(tmp_path)
    disk.sync_files([disk.create("file", b"0123456789")])
    read = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: read(handle, min(size, 3)))
    assert disk.read("file") == b"0123456789"
    disk.close()


@pytest.mark.parametrize("count", [1, 20])
def test_a_failed_sync_still_closes_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    disk = RealDisk(tmp_path)
    files = [disk.create(f"{index}", b"x") for index in range(count)]

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="cannot sync 0"):
            disk.sync_files(files)
    for file in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file.handle)
    disk.close()
