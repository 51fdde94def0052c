from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import NoSpace, StorageError
from putter.storage.block_file import BLOCK_BYTES, RealBlockFile, aligned_buffer
from putter.storage.disk import refusal


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    handle = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def filled(word: bytes, blocks: int = 1) -> memoryview:
    buffer = aligned_buffer(blocks * BLOCK_BYTES)
    buffer[:] = (word * len(buffer))[: len(buffer)]
    return buffer


def test_it_sets_its_space_aside(root: int, tmp_path: Path) -> None:
    file = RealBlockFile(root, "log", 10 * BLOCK_BYTES, refusal)
    state = (tmp_path / "log").stat()
    assert file.size == state.st_size == 10 * BLOCK_BYTES
    assert state.st_blocks * 512 >= 10 * BLOCK_BYTES
    file.close()


def test_a_file_system_that_cannot_set_aside_gets_a_long_file(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = RealBlockFile(root, "log", 10 * BLOCK_BYTES, refusal)
    assert file.size == (tmp_path / "log").stat().st_size == 10 * BLOCK_BYTES
    file.close()


def test_a_full_disk_leaves_no_file_behind(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(NoSpace, match="set space aside for log"):
        RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_written_is_read(
    root: int, monkeypatch: pytest.MonkeyPatch, *, direct: bool
) -> None:
    if not direct:
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    file = RealBlockFile(root, "log", 4 * BLOCK_BYTES, refusal)
    file.write(BLOCK_BYTES, filled(b"abc", 2))
    file.sync()
    assert file.read(BLOCK_BYTES - 2, 5) == b"\0\0abc"
    assert file.read(4 * BLOCK_BYTES - 3, 100) == bytes(3)
    assert file.read(5 * BLOCK_BYTES, 100) == b""
    file.close()
    again = RealBlockFile(root, "log", None, refusal)
    assert again.read(BLOCK_BYTES, 2 * BLOCK_BYTES) == bytes(filled(b"abc", 2))
    again.close()
    again.close()


def test_a_file_system_without_direct_writes_gets_ordinary_ones(
    root: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    file = RealBlockFile(root, "log", 2 * BLOCK_BYTES, refusal)
    file.write(0, filled(b"x"))
    file.write(BLOCK_BYTES, filled(b"y"))
    assert file.read(BLOCK_BYTES - 1, 2) == b"xy"
    file.close()


def test_short_writes_are_carried_on(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    lengths = iter([100, BLOCK_BYTES])

    def short(handle: int, data: memoryview, offset: int) -> int:
        return real(handle, bytes(data[: next(lengths, len(data))]), offset)

    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    monkeypatch.setattr(os, "pwrite", short)
    file = RealBlockFile(root, "log", 4 * BLOCK_BYTES, refusal)
    file.write(0, filled(b"abc", 3))
    assert file.read(0, 3 * BLOCK_BYTES) == bytes(filled(b"abc", 3))
    file.close()


def test_what_the_system_refuses_is_ours(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="open nothing"):
        RealBlockFile(root, "nothing", None, refusal)
    file = RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    with pytest.raises(StorageError, match="create log"):
        RealBlockFile(root, "log", BLOCK_BYTES, refusal)
    for name in ("pread", "pwrite", "fdatasync"):

        def refuse(*_: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, name, refuse)
    for act in (lambda: file.read(0, 1), file.sync, lambda: file.write(0, filled(b"x"))):
        with pytest.raises(StorageError, match="log: Input/output error"):
            act()
    file.close()
