"""A log that another process writes stays small."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from putter.local.rotation import keep_small, older, rotate


@contextlib.asynccontextmanager
async def kept(path: Path, bytes_max: int) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(keep_small(path, bytes_max, 0.005))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_only_what_is_too_large_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert not rotate(log, 10)
    log.write_text("x" * 10)
    assert not rotate(log, 10)
    log.write_text("y" * 11)
    assert rotate(log, 10)
    assert older(log).read_text() == "y" * 11
    assert not log.exists()
    log.write_text("z" * 12)
    assert rotate(log, 10)
    assert older(log).read_text() == "z" * 12
    assert [*tmp_path.iterdir()] == [older(log)]


async def test_it_stays_small_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    async with kept(log, 1_000):
        for number in range(200):
            with log.open("a") as file:
                file.write(f"{number:099}\n")
            await asyncio.sleep(0.001)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) <= {"a.log", "a.log.1"}
    assert sum(sizes.values()) < 200 * 100 / 2
    lines = "".join(p.read_text() for p in (older(log), log) if p.exists()).split()
    assert [int(line) for line in lines] == [*range(200 - len(lines), 200)]


async def test_what_cannot_be_renamed_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.log"
    log.write_text("x" * 100)
    older(log).mkdir()
    (older(log) / "in the way").touch()
    with capture_logs() as lines:
        async with kept(log, 10):
            await asyncio.sleep(0.1)
            assert [line["event"] for line in lines] == ["a log cannot be rotated"]
            (older(log) / "in the way").unlink()
            older(log).rmdir()
            async with asyncio.timeout(10):
                while log.exists():
                    await asyncio.sleep(0.005)
    assert len(lines) == 1
    assert lines[0]["file"] == str(log)
