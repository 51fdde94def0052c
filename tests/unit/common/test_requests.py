"""Ids of requests: whose they are, which are taken, and who inherits them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator, Sequence

import pytest
import structlog
from structlog.testing import capture_logs

from common import logs
from common.batching import Gatherer
from common.requests import bind_request, current_request, new_request_id, resume_request


@pytest.fixture(autouse=True)
def _none_before_and_after() -> Iterator[None]:
    resume_request("")
    yield
    resume_request("")


def test_no_two_are_the_same() -> None:
    made = [new_request_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert max(map(len, made)) <= 64
    assert all(bind_request(each) == each for each in made), "each is one that would be taken"


@pytest.mark.parametrize("given", ["a", "0-9_A.z", "x" * 64])
def test_what_a_client_brings_is_kept(given: str) -> None:
    assert bind_request(given) == current_request() == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a\nb", "ä", "a/b", '"', "a\r"])
def test_what_is_no_id_is_replaced(given: str | None) -> None:
    made = bind_request(given)
    assert made != given
    assert current_request() == made


async def test_a_task_keeps_what_it_began_with() -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return current_request()

    bind_request("first")
    first = asyncio.ensure_future(later())
    bind_request("second")
    second = asyncio.ensure_future(later())
    resume_request("")
    assert (await first, await second, current_request()) == ("first", "second", "")


async def test_what_is_done_for_many_is_nobodys() -> None:
    seen = []

    async def send(items: Sequence[int]) -> list[int | Exception]:
        seen.append((len(items), current_request()))
        return list(items)

    gatherer: Gatherer[int, int] = Gatherer(send)

    async def ask(item: int) -> str:
        bind_request(f"of-{item}")
        assert await gatherer(item) == item
        return current_request()

    assert await asyncio.gather(*map(ask, range(5))) == [f"of-{item}" for item in range(5)]
    assert seen == [(5, "")]


def test_each_line_of_a_request_says_so() -> None:
    with capture_logs(processors=[logs.add_request_id]) as lines:
        log = structlog.get_logger()
        log.info("before")
        bind_request("mine")
        log.info("in it")
        log.info("about another", request_id="theirs")
    assert [line.get("request_id") for line in lines] == [None, "mine", "theirs"]


def test_also_the_lines_of_libraries() -> None:
    import logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    try:
        logs.configure(form="json", stream=out)
        bind_request("mine")
        logging.getLogger("aiohttp.server").warning("something")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
    assert json.loads(out.getvalue())["request_id"] == "mine"
