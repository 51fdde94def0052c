"""`scrub`: what it asks for, when it is done, what it prints and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from putter.cli import scrub as command
from tests.web_kit import Reply, Request, as_json

FLAW = {
    "part": "tickets",
    "first": "3F9",
    "last": "3FB",
    "count": 3,
    "record": None,
    "raw": False,
    "object": "0GPA",
    "file": "docs/notes.txt",
    "place": "segments/0000000000000004.seg, byte 81920",
    "reason": "rot",
}


def last(number: int) -> dict[str, int]:
    return {
        "number": number, "started_ms": 1_700_000_000_000, "ended_ms": 1_700_000_001_000,
        "verified_bytes": 2048, "findings": 0,
    }  # fmt: skip


def node(name: str = "N1", *, flaws: tuple[dict[str, Any], ...] = (), **scrub: Any) -> Any:
    state = {"number": 1, "running": False, "flaws": list(flaws)} | scrub
    return {"node": name, "address": "127.0.0.1:5000", "reason": "", "scrub": state}


def away(name: str = "N1") -> Any:
    return {"node": name, "address": "127.0.0.1:5000", "reason": "not connected", "scrub": None}


def steps(*answers: Any) -> Callable[[Request], Reply]:
    """One answer after the other; the last one again and again."""
    left = list(answers)

    def answer(_: Request) -> Reply:
        nodes = left.pop(0) if len(left) > 1 else left[0]
        return as_json({"nodes": nodes})

    return answer


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_POLL_S", 0)


def asked(shop: Any) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in shop.web.requests]


def test_it_begins_and_waits_for_the_end(shop: Any) -> None:
    shop.answers(
        steps(
            [node(number=5, running=True)],
            [node(number=5, running=True, verified_bytes=5, total_bytes=10)],
            [node(number=5, last=last(5) | {"mended": 3})],
        )
    )
    result = shop.run("scrub")
    assert result.exit_code == 0
    assert asked(shop) == [("PUT", "/scrub"), ("GET", "/scrub"), ("GET", "/scrub")]
    header, line = result.stdout.splitlines()
    assert header.split()[:4] == ["node", "address", "scrub", "last"]
    assert line.split() == [
        "N1", "127.0.0.1:5000", "idle", "2023-11-14T22:13:21", "2.0", "KiB", "0", "0", "3",
    ]  # fmt: skip


def test_a_pass_before_does_not_count(shop: Any) -> None:
    shop.answers(
        steps(
            [node(number=5, running=True, last=last(4))],
            [node(number=5, running=True, last=last(4))],
            [node(number=5, last=last(5))],
        )
    )
    assert shop.run("scrub").exit_code == 0
    assert len(asked(shop)) == 3


def test_nodes_and_rate_are_passed_on(shop: Any) -> None:
    shop.answers(steps([node(number=1, running=True)], [node(number=1, last=last(1))]))
    shop.run("scrub", "--node", "N1", "--node", "N2", "--rate", "20M")
    assert asked(shop) == [
        ("PUT", "/scrub?node=N1&node=N2&rate=20971520"),
        ("GET", "/scrub?node=N1&node=N2"),
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("17", 17), ("3k", 3072), ("64M", 64 << 20), ("1G", 1 << 30)]
)
def test_rates(shop: Any, text: str, size: int) -> None:
    shop.answers(steps([node()]))
    assert shop.run("scrub", "--no-wait", "--rate", text).exit_code == 0
    assert asked(shop) == [("PUT", f"/scrub?rate={size}")]


@pytest.mark.parametrize("text", ["", "M", "1T", "-1", "1.5M", "1MM", "٣", "9" * 30])
def test_rates_that_are_none(shop: Any, text: str) -> None:
    result = shop.run("scrub", f"--rate={text}")
    assert (result.exit_code, "is no number of bytes" in result.stderr) == (2, True)


def test_what_is_damaged_is_named_and_ends_with_6(shop: Any) -> None:
    record = {"part": "record", "record": 17, "place": "commits/17/record", "reason": "rot"}
    raw = FLAW | {"raw": True, "object": None, "file": None, "last": "3F9", "count": 1}
    header = FLAW | {"part": "header"}
    index = {"part": "index", "place": "x.idx", "reason": "it is damaged"}
    flaws = (FLAW, record, raw, header, index)
    shop.answers(steps([node(number=1, last=last(1), damaged_tickets=4, flaws=flaws)]))
    result = shop.run("scrub")
    assert result.exit_code == 6
    lines = [line.split(maxsplit=5) for line in result.stdout.splitlines()[-5:]]
    assert lines[0] == [
        "N1", "ticket:3F9-3FB", "0GPA", "docs/notes.txt",
        "segments/0000000000000004.seg:81920", "rot",
    ]  # fmt: skip
    assert [line[1] for line in lines[1:]] == [
        "record:17", "raw-ticket:3F9", "ticket:3F9-3FB:header", "index",
    ]  # fmt: skip


def test_no_wait_asks_once(shop: Any) -> None:
    shop.answers(steps([node(number=5, running=True, verified_bytes=1, total_bytes=4)]))
    result = shop.run("scrub", "--no-wait")
    assert result.exit_code == 0
    assert asked(shop) == [("PUT", "/scrub")]
    assert " 25 % " in result.stdout


@pytest.mark.parametrize(("flag", "method"), [("--status", "GET"), ("--stop", "DELETE")])
def test_asking_and_stopping_do_not_wait(shop: Any, flag: str, method: str) -> None:
    shop.answers(steps([node(number=5, running=True)]))
    assert shop.run("scrub", flag).exit_code == 0
    assert asked(shop) == [(method, "/scrub")]


def test_a_pass_that_somebody_stopped_is_a_failure(shop: Any) -> None:
    shop.answers(steps([node(number=5, running=True)], [node(number=5, last=last(4))]))
    result = shop.run("scrub")
    assert (result.exit_code, "given up before its end" in result.stderr) == (1, True)


def test_a_putter_that_cannot_be_asked(shop: Any) -> None:
    shop.answers(steps([node("N1", number=1, last=last(1)), away("N2")]))
    result = shop.run("scrub")
    assert result.exit_code == 4
    assert "N2 (not connected)" in result.stderr
    assert "away" in result.stdout


def test_a_putter_that_goes_away_and_comes_back(shop: Any) -> None:
    shop.answers(
        steps(
            [node(number=5, running=True)], [away()], [], [node(number=5, running=True)],
            [node(number=5, last=last(5))],
        )
    )  # fmt: skip
    assert shop.run("scrub").exit_code == 0


def test_a_putter_that_stays_away(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE_S", 0)
    shop.answers(steps([node(number=5, running=True)], [away()]))
    result = shop.run("scrub")
    assert (result.exit_code, "putter N1 went away" in result.stderr) == (4, True)


def test_a_store_without_putters(shop: Any) -> None:
    shop.answers(steps([]))
    assert shop.run("scrub").exit_code == 4


def test_for_machines(shop: Any) -> None:
    shop.answers(steps([node(number=1, last=last(1), damaged_tickets=3, flaws=(FLAW,))]))
    result = shop.run("scrub", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["complete"], told["damaged"]) == (6, True, True)
    assert told["nodes"][0]["scrub"]["flaws"] == [FLAW]
