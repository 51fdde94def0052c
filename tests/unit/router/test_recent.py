"""What was read lately, and for how long it may be used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.errors import MetadataUnavailable
from router.recent import REFRESH_S, STALE_S, Recent
from tests.node_kit import play
from tests.simulation.loop import World


class Source:
    """Things that may be away, and may not be there at all."""

    def __init__(self) -> None:
        self.things: dict[str, str] = {}
        self.asked = 0
        self.down = False

    async def read(self, name: str) -> str | None:
        self.asked += 1
        told = self.things.get(name)
        await asyncio.sleep(0.01)
        if self.down:
            raise MetadataUnavailable("away")
        return told


Scene = Callable[[Source, "Recent[str | None]"], Awaitable[None]]


def with_recent(scene: Scene, count_max: int = 10) -> None:
    async def main(_: World) -> None:
        source = Source()
        recent: Recent[str | None] = Recent(source.read, "a thing", count_max)
        await scene(source, recent)
        await recent.stop()

    play(main)


def test_that_there_is_nothing_is_remembered_too() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        assert set(await asyncio.gather(*(recent.of("a") for _ in range(5)))) == {None}
        assert await recent.of("a") is None
        assert recent.known("a", "unknown") is None
        assert source.asked == 1
        source.things["a"] = "new"
        await asyncio.sleep(STALE_S)
        assert recent.known("a", "unknown") == "unknown"
        assert recent.last("a", "unknown") is None
        assert await recent.of("a") == "new"
        assert recent.last("b", "unknown") == "unknown"

    with_recent(scene)


def test_whoever_will_need_it_can_have_it_read_meanwhile() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        source.things["a"] = "new"
        for _ in range(2):
            recent.soon("a")
        assert recent.known("a", "unknown") == "unknown"
        await asyncio.sleep(0.1)
        assert recent.known("a", "unknown") == "new"
        assert source.asked == 1

    with_recent(scene)


def test_in_use_it_is_read_again_before_it_is_too_old() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        source.things["a"] = "old"
        await recent.of("a")
        source.things["a"] = "new"
        await asyncio.sleep(REFRESH_S)
        assert await recent.of("a") == "old"
        await asyncio.sleep(0.1)
        assert await recent.of("a") == "new"
        assert source.asked == 2

    with_recent(scene)


def test_a_source_that_is_away_is_no_reason_to_use_what_is_too_old() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        await recent.of("a")
        source.down = True
        await asyncio.sleep(REFRESH_S)
        assert await recent.of("a") is None
        await asyncio.sleep(STALE_S)
        with pytest.raises(MetadataUnavailable):
            await recent.of("a")
        source.down = False
        assert await recent.of("a") is None

    with_recent(scene)


def test_what_was_asked_before_a_change_is_not_remembered() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        for forget in (lambda: recent.changed("a"), recent.clear):
            source.things.pop("a", None)
            early = asyncio.ensure_future(recent.of("a"))
            await asyncio.sleep(0.001)
            source.things["a"] = "new"
            forget()
            assert await early is None
            assert await recent.of("a") == "new"
            recent.clear()

    with_recent(scene)


def test_the_oldest_goes() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        for name in "abc":
            await recent.of(name)
        assert [recent.known(name, "unknown") for name in "abc"] == ["unknown", None, None]

    with_recent(scene, 2)


def test_nothing_is_asked_for_any_more_once_it_is_stopped() -> None:
    async def scene(source: Source, recent: Recent[str | None]) -> None:
        waiting = asyncio.ensure_future(recent.of("a"))
        await asyncio.sleep(0)
        await recent.stop()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with_recent(scene)
