"""``/scrub``: which putters are asked, what they are told, and what the answer says."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from common.errors import MetadataUnavailable, NodesUnavailable, NotFound, PutterError, UsageError
from common.meta.interface import ObjectState
from common.versions import version_name, versions_of
from common.wire.scrubbing import Flaw, Scrub, ScrubReply
from common.wire.session import Done, Message
from router.gateway.scrub import ScrubRoutes, ask, summary

TICKETS = Flaw("tickets", 5, 3, "2K", "a.seg, byte 8", "rot")
RECORD = Flaw("record", 17, 1, "GONE", "a.seg, byte 9", "rot")


class Link:
    """A putter that answers as it is told."""

    def __init__(self, node: str, answer: Any) -> None:
        self.node, self.host, self.port = node, "10.0.0.1", 5000
        self.heard: list[Scrub] = []
        self._answer = answer

    async def call(self, make: Any, *, timeout_ms: int) -> list[tuple[Message, bytes]]:
        self.heard.append(make(7))
        if isinstance(self._answer, PutterError):
            raise self._answer
        return [(self._answer, b"")]


class View:
    def __init__(self, node: str) -> None:
        self.node = node


class Fleet:
    def __init__(self, *links: Link) -> None:
        self._links = {link.node: link for link in links}

    def views(self) -> list[View]:
        return [*map(View, self._links), View("")]  # one whose name is not known yet

    def link(self, node: str) -> Link | None:
        return self._links.get(node)


class Meta:
    """Knows one object."""

    def __init__(self, error: PutterError | None = None) -> None:
        self.objects = self
        self.error = error
        self.name = ("docs", "notes.txt")
        self.asked: list[str] = []

    async def get(self, object_id: str) -> ObjectState | None:
        self.asked.append(object_id)
        if self.error is not None:
            raise self.error
        if object_id != "2K":
            return None
        state = dict(zip(("bucket", "key"), self.name, strict=True))
        return cast("ObjectState", type("State", (), state))


def reply(*flaws: Flaw, **fields: Any) -> ScrubReply:
    return ScrubReply(7, number=3, running=False, flaws=flaws, **fields)


def call(method: str, query: str, *links: Link, meta: Meta | None = None) -> list[dict[str, Any]]:
    """What the route answers."""
    routes = ScrubRoutes(cast("Any", meta or Meta()), cast("Any", Fleet(*links)))
    handler = {"GET": routes.tell, "PUT": routes.begin, "DELETE": routes.halt}[method]

    async def main() -> list[dict[str, Any]]:
        answer = await handler(make_mocked_request(method, f"/scrub?{query}"))
        nodes: list[dict[str, Any]] = json.loads(answer.body)["nodes"]  # type: ignore[attr-defined]
        return nodes

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "query", "action", "rate"),
    [
        ("GET", "", "status", -1),
        ("PUT", "", "start", -1),
        ("PUT", "rate=0", "start", 0),
        ("PUT", "rate=1000", "start", 1000),
        ("DELETE", "rate=5", "stop", -1),
    ],
)
def test_what_the_putters_are_told(method: str, query: str, action: str, rate: int) -> None:
    links = Link("B", reply()), Link("A", reply())
    nodes = call(method, query, *links)
    assert [node["node"] for node in nodes] == ["A", "B"]
    for link in links:
        assert link.heard == [Scrub(7, action, rate, 1000)]


def test_only_those_that_were_named() -> None:
    links = [Link(name, reply()) for name in "ABC"]
    assert [node["node"] for node in call("GET", "node=C&node=A", *links)] == ["C", "A"]
    assert links[1].heard == []


def test_one_that_nobody_knows() -> None:
    with pytest.raises(NotFound, match="no putter 'X'"):
        call("GET", "node=X", Link("A", reply()))


@pytest.mark.parametrize("rate", ["", "x", "-1", "1.5", "٣", "9" * 20])
def test_rates_that_are_none(rate: str) -> None:
    link = Link("A", reply())
    with pytest.raises(UsageError, match="bytes per second"):
        call("PUT", f"rate={rate}", link)
    assert link.heard == []


def test_flaws_with_their_files() -> None:
    meta = Meta()
    (node,) = call("GET", "", Link("A", reply(TICKETS, RECORD, TICKETS)), meta=meta)
    tickets, record, _ = node["scrub"]["flaws"]
    assert tickets == {
        "part": "tickets", "first": "5", "last": "7", "count": 3, "record": None, "raw": False,
        "object": "2K", "file": "docs/notes.txt", "place": "a.seg, byte 8", "reason": "rot",
    }  # fmt: skip
    assert (record["record"], record["first"], record["count"]) == (17, None, 0)
    assert (record["object"], record["file"]) == ("GONE", None)
    assert sorted(meta.asked) == ["2K", "GONE"]


def test_a_flaw_of_a_version() -> None:
    meta = Meta()
    meta.name = (versions_of("docs"), version_name("notes.txt", 5))
    (node,) = call("GET", "", Link("A", reply(TICKETS)), meta=meta)
    assert node["scrub"]["flaws"][0]["file"] == "docs/notes.txt"


def test_flaws_without_redis() -> None:
    meta = Meta(MetadataUnavailable("down"))
    (node,) = call("GET", "", Link("A", reply(TICKETS)), meta=meta)
    assert node["scrub"]["flaws"][0]["file"] is None


def test_putters_that_do_not_answer_have_a_reason() -> None:
    away = Link("A", NodesUnavailable("not connected"))
    other = Link("B", Done(7, 7, "what is a scrub?"))
    first, second, third = call("GET", "", away, other, Link("C", reply()))
    assert (first["scrub"], first["reason"]) == (None, "not connected")
    assert (second["scrub"], second["reason"]) == (None, "putter B refused: what is a scrub?")
    assert third["scrub"]["number"] == 3


def test_a_bug_is_no_answer() -> None:
    class Broken(Link):
        async def call(self, make: Any, *, timeout_ms: int) -> Any:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        asyncio.run(ask([cast("Any", Broken("A", None))]))


def test_a_summary_tells_the_last_pass_if_there_was_one() -> None:
    assert summary(reply())["last"] is None
    assert summary(reply())["total_bytes"] is None
    told = summary(
        reply(last_number=2, last_started_ms=1, last_ended_ms=5, last_bytes=9, total_bytes=8)
    )
    assert told["last"] == {
        "number": 2, "started_ms": 1, "ended_ms": 5, "verified_bytes": 9, "findings": 0,
        "mended": 0,
    }  # fmt: skip
    assert told["total_bytes"] == 8
