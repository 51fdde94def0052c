"""``repair`` for people and for machines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.putter.cli.test_cluster import as_json

NOTHING = dict.fromkeys(
    ("names", "objects", "tickets", "records", "bare", "strays", "lost", "unsure"), 0
)


def told(*owed: dict[str, Any], running: bool = False, **found: int) -> dict[str, Any]:
    so_far = NOTHING | {"names": 100} | found
    last = {"started_ms": 5, "ended_ms": 9, "silent": ["N3"], "found": so_far}
    return {
        "audit": {
            "running": running,
            "wanted": [],
            "found": so_far if running else None,
            "last": None if running else last,
        },
        "elsewhere": False,
        "owed": list(owed),
    }


def refill(node: str, objects: int, *, up: bool, eta_s: int | None = None) -> dict[str, Any]:
    return {
        "node": node, "objects": objects, "bytes": 2048 * objects, "bytes_per_s": 0,
        "eta_s": eta_s, "stuck": [], "records": 1, "up": up,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("putter.cli.repair._POLL_S", 0.0)


def test_it_waits_until_all_that_can_be_given_is_given(shop: Any) -> None:
    asked: list[tuple[str, str]] = []
    answers = [
        told(running=True),
        told(running=True),
        told(refill("N2", 3, up=True), objects=3),
        told(refill("N2", 1, up=True), objects=3),
        *[told(refill("N4", 1, up=False), objects=3)] * 7,
    ]

    def answer(request: Any) -> Any:
        asked.append((request.method, request.path))
        return as_json(answers[min(len(asked), len(answers)) - 1])

    shop.answers(answer)
    done = shop.run("repair", "N2")
    assert asked[0] == ("PUT", "/repair?node=N2")
    assert set(asked[1:]) == {("GET", "/repair")}
    assert len(asked) >= 9, "routers may not have looked yet at what was noted"
    assert done.stdout.splitlines() == [
        "compared: 100 names",
        "found:    3 parts of objects that putters lack",
        "silent:   putter N3 was not compared",
        "owed:     1 objects and 1 records, 2.0 KiB, to putter N4 (away)",
    ]


def test_without_waiting(shop: Any) -> None:
    shop.answers(lambda _: as_json(told(refill("*", 2, up=False, eta_s=7), running=True)))
    assert shop.run("repair", "--no-wait").stdout.splitlines() == [
        "comparing: 100 names so far; `putter repair` waits for the end",
        "owed:     2 objects and 1 records, 4.0 KiB, to any putter, done in 7 s",
    ]


def test_bytes_that_nobody_has(shop: Any) -> None:
    shop.answers(lambda _: as_json(told(lost=2)))
    done = shop.run("repair")
    assert done.exit_code == 1
    assert "found:    2 parts of objects that no putter has whole" in done.stdout


def test_for_machines(shop: Any) -> None:
    shop.answers(lambda _: as_json(told(refill("N4", 1, up=False))))
    printed = json.loads(shop.run("repair", "--json").stdout)
    assert printed["audit"]["last"]["found"]["names"] == 100
    assert printed["owed"][0]["node"] == "N4"
