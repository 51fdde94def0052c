"""``/repair``: what is asked for, and what is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from common.errors import NotFound
from router.gateway.parts import audit
from router.gateway.repair import RepairRoutes
from router.workers import Part, RefillPart

IDLE = {"running": False, "wanted": [], "found": None, "last": None}
ENDED = {"started_ms": 3, "ended_ms": 5, "silent": [], "found": {"names": 7}}


class Link:
    def __init__(self, node: str) -> None:
        self.node = node


class Fleet:
    """N1 is there, N2 is away."""

    def link(self, node: str) -> Link | None:
        return Link(node) if node in {"N1", "N2"} else None

    def up(self) -> list[Link]:
        return [Link("N1")]


class Audit:
    def __init__(self, *, elsewhere: bool = False) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.elsewhere = elsewhere

    async def ask(self, nodes: Collection[str] = ()) -> bool:
        self.asked.append(tuple(nodes))
        return True

    async def is_elsewhere(self) -> bool:
        return self.elsewhere


class Workers:
    def __init__(self, *parts: Part) -> None:
        self._parts = parts

    async def parts(self) -> dict[int, Part | None]:
        return {**dict(enumerate(self._parts)), 9: None}


def told(audit: Audit, *parts: Part, method: str = "GET", path: str = "/repair") -> Any:
    routes = RepairRoutes(cast("Any", Fleet()), cast("Any", audit), cast("Any", Workers(*parts)))
    call = routes.begin if method == "PUT" else routes.tell
    response: Any = asyncio.run(cast("Any", call(make_mocked_request(method, path))))
    return json.loads(response.body)


def test_what_is_owed_and_what_is_compared() -> None:
    refills = (RefillPart("N1", 3, 1, 500), RefillPart("N2", 1, 0, 100))
    answer = told(Audit(), Part("x", refills=refills, audit=IDLE | {"last": ENDED}))
    assert answer["audit"] == IDLE | {"last": ENDED}
    assert answer["elsewhere"] is False
    assert [(e["node"], e["objects"], e["records"], e["up"]) for e in answer["owed"]] == [
        ("N1", 3, 1, True),
        ("N2", 1, 0, False),
    ]


def test_nodes_are_asked_for_by_name() -> None:
    audit = Audit()
    told(audit, Part("x", audit=IDLE), method="PUT", path="/repair?node=N1&node=N2")
    told(audit, Part("x", audit=IDLE), method="PUT")
    assert audit.asked == [("N1", "N2"), ()]
    with pytest.raises(NotFound):
        told(audit, Part("x", audit=IDLE), method="PUT", path="/repair?node=N1&node=N7")
    assert len(audit.asked) == 2


def test_a_round_of_another_router_is_told() -> None:
    assert told(Audit(elsewhere=True), Part("x", audit=IDLE))["elsewhere"] is True
    running = IDLE | {"running": True, "found": {"names": 5}}
    assert told(Audit(elsewhere=True), Part("x", audit=running))["elsewhere"] is False


def test_workers_are_told_of_as_one() -> None:
    older = ENDED | {"ended_ms": 4}
    parts = [
        Part("x", audit=IDLE | {"last": older, "wanted": ["b"]}),
        Part("y", audit=IDLE | {"last": ENDED, "wanted": ["a", "b"]}),
        Part("z", audit=IDLE | {"running": True, "found": {"names": 5}}),
        Part("of before"),
    ]
    assert audit(parts) == {
        "running": True,
        "wanted": ["a", "b"],
        "found": {"names": 5},
        "last": ENDED,
    }
    assert audit([Part("x")]) == IDLE
