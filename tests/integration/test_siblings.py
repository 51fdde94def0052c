"""The sockets on which the workers of a router ask each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing

from common.errors import Unavailable
from common.siblings import UnixSiblings, ask_socket, socket_path


async def ok() -> bytes:
    return b"fine"


async def nothing() -> bytes:
    return b""


async def much() -> bytes:
    return bytes(range(256)) * 4096


async def never() -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def broken() -> bytes:
    raise ZeroDivisionError


ANSWERS = {"ok": ok, "nothing": nothing, "much": much, "never": never, "broken": broken}


@asynccontextmanager
async def running(directory: Path, count: int) -> AsyncIterator[list[UnixSiblings]]:
    made = [UnixSiblings(directory, number, count) for number in range(count)]
    for each in made:
        await each.start(ANSWERS)
    try:
        yield made
    finally:
        for each in made:
            await each.stop()


async def test_everybody_hears_of_all_others(tmp_path: Path) -> None:
    async with running(tmp_path, 3) as (first, _, third):
        assert await first.ask("ok") == {1: b"fine", 2: b"fine"}
        assert await third.ask("nothing") == {0: b"", 1: b""}
        assert (await first.ask("much"))[1] == await much()


async def test_the_dead_are_left_out_until_another_has_their_number(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as (first, second):
        assert second.number == 1
        await second.stop()
        assert await first.ask("ok") == {}
        again = UnixSiblings(tmp_path, 1, 2)
        await again.start(ANSWERS)  # over the socket that the other one left
        assert await first.ask("ok") == {1: b"fine"}
        await again.stop()


async def test_one_that_fails_or_does_not_know_is_as_good_as_dead(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as (first, _):
        with structlog.testing.capture_logs() as logs:
            assert await first.ask("broken") == {}
            assert await first.ask("what") == {}
            assert await first.ask("x" * 10_000) == {}
        assert {"a question could not be answered", "a question that no worker answers"} <= {
            line["event"] for line in logs
        }
        assert await first.ask("ok") == {1: b"fine"}


async def test_silence_is_told_from_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, 2) as (first, _):
        path = socket_path(tmp_path, 1)
        with pytest.raises(TimeoutError):
            await ask_socket(path, "never", timeout_ms=50)
        monkeypatch.setattr("common.siblings.SIBLING_ANSWER_BYTES_MAX", 10)
        with pytest.raises(Unavailable, match="an answer of 1048576 bytes"):
            await ask_socket(path, "much")
        monkeypatch.undo()
        assert await first.ask("ok") == {1: b"fine"}
    with pytest.raises(Unavailable):
        await ask_socket(path, "ok")


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot listen on"):
        await UnixSiblings(tmp_path / "gone", 0, 2).start(ANSWERS)
