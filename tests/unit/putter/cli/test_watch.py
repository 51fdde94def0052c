"""status --watch where there is no terminal: one answer after the other, until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from putter.cli import watch
from tests.unit.putter.cli.test_cluster import STATUS
from tests.web_kit import Reply, Request, as_json


class Clock:
    """Sleeps that take no time; the last one is Ctrl-C.

    Attributes:
        slept_s: the pauses that were asked for.
    """

    def __init__(self, looks: int) -> None:
        self.slept_s: list[float] = []
        self._looks = looks

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        if len(self.slept_s) == self._looks:
            raise KeyboardInterrupt

    def monotonic(self) -> float:
        return sum(self.slept_s)

    def time_ns(self) -> int:
        return 1_700_000_000 * 10**9


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(3)
    monkeypatch.setattr(watch, "time", clock)
    return clock


def replies(*answers: Reply | Exception) -> Any:
    given: Iterator[Reply | Exception] = iter(answers)
    return lambda _request: next(given)


def test_each_answer_stands_below_its_time(shop: Any, three: Clock) -> None:
    shop.answers(lambda _: as_json(STATUS))
    done = shop.run("status", "--watch")
    assert done.exit_code == 0
    assert three.slept_s == [2.0] * 3
    lines = done.stdout.splitlines()
    heads = [line for line in lines if line.startswith("== ")]
    assert heads == ["== 2023-11-14T22:13:20Z  http://127.0.0.1:5004"] * 3
    assert lines.count("objects:  3 writing") == 3
    assert "\x1b" not in done.stdout


def test_a_router_that_goes_away_is_waited_for(shop: Any, three: Clock) -> None:
    shop.answers(replies(as_json(STATUS), OSError("gone"), OSError("gone"), as_json(STATUS)))
    done = shop.run("status", "--watch", "--interval", "5")
    assert done.exit_code == 0
    heads = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert len(heads) == 3
    assert "does not answer for 0 ms: " in heads[1]
    assert heads[1].endswith("what follows is 5 s old")
    assert three.slept_s == [5.0] * 3


def test_for_programs_each_look_is_one_line(shop: Any, three: Clock) -> None:
    shop.answers(replies(OSError("gone"), as_json(STATUS), as_json(STATUS)))
    done = shop.run("status", "--watch", "--json")
    assert done.exit_code == 0
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert set(first) == {"url", "unavailable"}
    assert second["router"] == third["router"] == "R1"


def test_what_waiting_does_not_mend_ends_it(shop: Any, three: Clock) -> None:
    def refused(_: Request) -> Reply:
        return as_json({"code": "not-authorised", "message": "a token", "hint": ""}, 401)

    shop.answers(refused)
    done = shop.run("status", "--watch")
    assert done.exit_code == 5
    assert three.slept_s == []


def test_an_interval_without_a_watch_makes_no_sense(shop: Any) -> None:
    done = shop.run("status", "--interval", "3")
    assert done.exit_code == 2
    assert "--interval is for --watch" in done.stderr
