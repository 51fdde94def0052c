"""Replies of a single server: which of them count."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis import exceptions as redis_errors

from common.meta.link import Command, SingleLink, Trouble


class Held(SingleLink):
    """Its pipelines end as the test says."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), "nowhere")
        self.asked: list[asyncio.Future[list[Any]]] = []

    async def _pipeline(self, commands: list[Any]) -> list[Any]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


def test_what_was_asked_before_a_failure_is_asked_again() -> None:
    async def main() -> None:
        link = Held()
        ping = [Command((b"PING",))]
        before, failing = (asyncio.ensure_future(link.run(ping)) for _ in range(2))
        await asyncio.sleep(0)
        link.asked[1].set_exception(redis_errors.TimeoutError("no answer"))
        [told] = await failing
        assert isinstance(told, Trouble)
        after = asyncio.ensure_future(link.run(ping))
        await asyncio.sleep(0)
        for answer in (link.asked[0], link.asked[2]):
            answer.set_result([b"PONG"])
        [late] = await before
        assert isinstance(late, Trouble), "whoever was frozen may answer what is not true any more"
        assert late.passing
        assert await after == [b"PONG"]

    asyncio.run(main())


def test_a_server_that_became_a_replica_is_such_a_failure() -> None:
    async def main() -> None:
        link = Held()
        ping = [Command((b"PING",))]
        before, refused = (asyncio.ensure_future(link.run(ping)) for _ in range(2))
        await asyncio.sleep(0)
        link.asked[1].set_result([redis_errors.ReadOnlyError("a replica")])
        await refused
        link.asked[0].set_result([b"PONG"])
        [late] = await before
        assert isinstance(late, Trouble)

    asyncio.run(main())
