"""The live view: what is on the screen, and what follows from the answers before."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from putter.cli.board import History, headline, page
from putter.client.status import StoreStatus
from tests.unit.putter.cli.test_cluster import STATUS

URL = "http://127.0.0.1:5004"
NOW_MS = 1_700_000_000_000
NODE: dict[str, Any] = STATUS["nodes"][0]  # type: ignore[index]
OWED = {
    "node": "N2",
    "objects": 7,
    "records": 3,
    "bytes": 9000,
    "bytes_per_s": 1024,
    "eta_s": 90,
    "stuck": [{"object": "3F", "reason": "no\x1b[2Jroom"}],
}


def told(**changes: Any) -> StoreStatus:
    return msgspec.convert(STATUS | changes, StoreStatus)


def scrubbing(verified: int, number: int = 7, total: int | None = 1200) -> StoreStatus:
    scrub = NODE["scrub"] | {"verified_bytes": verified, "number": number, "total_bytes": total}
    return told(nodes=[NODE | {"scrub": scrub}])


def drawn(history: History, now_s: float = 0.0, width: int = 100) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    console.print(page(URL, history, now_s, NOW_MS))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def line_with(lines: list[str], word: str) -> list[str]:
    [line] = [line for line in lines if line.startswith(word)]
    return line.split()


def seen(*answers: StoreStatus, step_s: float = 10.0) -> History:
    history = History()
    for number, answer in enumerate(answers):
        history.answered(answer, number * step_s)
    return history


def test_a_cluster_that_is_well() -> None:
    lines = drawn(seen(told()))
    assert lines[0] == f"2023-11-14T22:13:20Z  {URL}"
    text = " ".join(lines)
    assert "redis ok  ·  1 of 1 putters connected  ·  1 routers" in text
    assert "1023 GiB of 1.0 TiB used  ·  0 B in flight" in text
    assert "nothing under-replicated" in text
    assert "hand-off" not in text
    assert lines[-1] == "Ctrl-C leaves"
    assert line_with(lines, "N1")[1:] == [
        "live", "██████", "100%", "of", "1.0", "TiB", "0", "B", "25%,", "4", "bad",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_what_is_wrong_is_said(width: int) -> None:
    away = {"node": "N2", "address": "h:1", "state": "down", "link": "down", "reason": "refused"}
    cut = NODE | {"link": "down", "reason": "no key\x1b in common"}
    workers = [{"worker": 0, "answers": True, "router": "R1"}, {"worker": 1}]
    lines = drawn(
        seen(told(nodes=[cut, away], repair=[OWED], workers=workers, redis={"ok": False})),
        width=width,
    )
    text = " ".join(lines)
    assert "redis DOWN" in text
    assert "0 of 2 putters connected" in text
    assert "1 of 2 workers" in text
    assert "under-replicated: 7 objects, 8.8 KiB" in " ".join(text.split())
    assert line_with(lines, "N1")[1:4] == ["live,", "no", "link"]
    assert next(line for line in lines if line.startswith("N2")).split()[1:3] == ["down", "-"]
    assert line_with(lines, "hand-off") == [
        "hand-off", "to", "objects", "records", "bytes", "rate", "done", "in", "stuck",
    ]  # fmt: skip
    owed = [line for line in lines if line.startswith("N2")][1].split()
    assert owed[1:] == ["7", "3", "8.8", "KiB", "1.0", "KiB/s", "90", "s", "1"]
    assert "no link: N1 at 127.0.0.1:5000: no key\\x1b in common" in lines
    assert "no link: N2 at h:1: refused" in lines
    assert "stuck: object 3F: no\\x1b[2Jroom" in lines


def test_of_many_remarks_some_are_shown() -> None:
    nodes = [NODE | {"node": f"N{n}", "reason": "refused"} for n in range(9)]
    lines = drawn(seen(told(nodes=nodes)))
    assert sum(line.startswith("no link: ") for line in lines) == 5
    assert "and 4 more: putter status tells all" in lines


def test_markup_in_a_name_is_no_markup() -> None:
    lines = drawn(seen(told(nodes=[NODE | {"reason": "[red]x[/red]"}])))
    assert "no link: N1 at 127.0.0.1:5000: [red]x[/red]" in lines


class TestScrubs:
    def test_the_rate_is_that_of_the_last_minute(self) -> None:
        history = seen(scrubbing(0), scrubbing(600), scrubbing(660), step_s=50)
        assert history.scrub_rate("N1") == pytest.approx(60 / 50)
        assert "N1" in " ".join(drawn(history))
        assert line_with(drawn(history), "N1")[-5:] == ["7", "min", "left,", "4", "bad"]

    def test_another_pass_begins_anew(self) -> None:
        assert seen(scrubbing(900, 7), scrubbing(10, 8)).scrub_rate("N1") == 0
        assert seen(scrubbing(900, 7), scrubbing(10, 8), scrubbing(30, 8)).scrub_rate("N1") == 2

    @pytest.mark.parametrize("answers", [[], [300], [300, 300], [300, 200]])
    def test_what_is_not_known_is_not_told(self, answers: list[int]) -> None:
        history = seen(*map(scrubbing, answers))
        assert history.scrub_rate("N1") == 0
        assert history.scrub_rate("N9") == 0
        assert "left" not in " ".join(drawn(history))

    def test_of_an_unknown_whole_the_bytes_are_told(self) -> None:
        lines = drawn(seen(scrubbing(2048, total=None), scrubbing(4096, total=None)))
        assert line_with(lines, "N1")[-4:] == ["4.0", "KiB,", "4", "bad"]

    def test_one_that_rests_says_since_when(self) -> None:
        idle = NODE["scrub"] | {"running": False, "damaged_tickets": 0, "damaged_others": 0}
        assert line_with(drawn(seen(told(nodes=[NODE | {"scrub": idle}]))), "N1")[-2:] == [
            "ended", "2023-11-14",
        ]  # fmt: skip
        never = NODE | {"scrub": idle | {"last": None}}
        assert line_with(drawn(seen(told(nodes=[never]))), "N1")[-1] == "never"
        assert line_with(drawn(seen(told(nodes=[NODE | {"scrub": None}]))), "N1")[-1] == "-"


class TestARouterThatIsAway:
    def test_from_the_start(self) -> None:
        history = History()
        history.failed("refused", 5)
        history.failed("refused", 9)
        assert drawn(history, 12) == [
            f"2023-11-14T22:13:20Z  {URL} does not answer for 7 s: refused",
            "",
            "Ctrl-C leaves",
        ]

    def test_what_was_known_stays_and_says_its_age(self) -> None:
        history = seen(told())
        history.failed("refused", 20)
        line = headline(URL, history, 30, NOW_MS)
        assert line.endswith("does not answer for 10 s: refused; what follows is 30 s old")
        assert "N1" in " ".join(drawn(history, 30))

    def test_back_again(self) -> None:
        history = seen(told())
        history.failed("refused", 20)
        history.answered(told(), 25)
        assert headline(URL, history, 30, NOW_MS) == f"2023-11-14T22:13:20Z  {URL}"
        history.failed("refused", 40)
        assert "does not answer for 2 s" in headline(URL, history, 42, NOW_MS)
