"""rm --ticket and loopback, as far as they go without a putter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from common import errors
from common.errors import TicketInvalid, UsageError
from common.keys import Keyring, load_keyring
from common.tickets import parse_ticket
from putter.cli import loopback as module
from putter.cli.output import parse_size
from putter.cli.raw import parse_address, ranges_of
from putter.client.acked import Tally

Freed = list[tuple[str, int, str, list[tuple[int, int]]]]


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> Freed:
    """What would have been freed on a putter that holds everything."""
    seen: Freed = []

    def free_raw(
        host: str, port: int, ring: Keyring, ranges: list[tuple[int, int]], certificates: object
    ) -> int:
        assert certificates is None
        seen.append((host, port, ring.writing.key_id, ranges))
        return sum(count for _, count in ranges)

    session = ModuleType("putter.client.session")
    session.free_raw = free_raw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "putter.client.session", session)
    return seen


@pytest.fixture
def key_id(shop: Any) -> str:
    return load_keyring(Path("data/cluster.key"), create=True).writing.key_id


class TestTickets:
    def test_tickets_are_freed_by_ranges(self, shop: Any, key_id: str, freed: Freed) -> None:
        tickets = ["--ticket", "ZZ", "--ticket", "0A", "--ticket", "000", "--ticket", "0A"]
        result = shop.run("rm", *tickets, "--putter", "h:7")
        assert (result.exit_code, result.output) == (0, "")
        assert freed == [("h", 7, key_id, [(parse_ticket("0A"), 1), (parse_ticket("ZZ"), 2)])]

    def test_a_putter_that_held_fewer(
        self, shop: Any, key_id: str, freed: Freed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules["putter.client.session"], "free_raw", lambda *_: 1)
        result = shop.run("rm", "--ticket", "0A", "--ticket", "0B")
        assert result.exit_code == 3
        assert "held 1 of 2 tickets" in result.stderr

    def test_without_a_key_nothing_goes(self, shop: Any, freed: Freed) -> None:
        assert shop.run("rm", "--ticket", "0A").exit_code == 2
        assert freed == []

    def test_ranges(self) -> None:
        assert ranges_of(["2", "0", "1", "5", "1"]) == [(0, 3), (5, 1)]
        with pytest.raises(TicketInvalid):
            ranges_of(["0", "a"])

    @pytest.mark.parametrize(
        ("text", "address"),
        [("h:1", ("h", 1)), ("127.0.0.1:5000", ("127.0.0.1", 5000)), ("::1:5", ("::1", 5))],
    )
    def test_addresses(self, text: str, address: tuple[str, int]) -> None:
        assert parse_address(text) == address

    @pytest.mark.parametrize("text", ["", "h", ":1", "h:", "h:0", "h:65536", "h:x"])
    def test_what_is_no_address(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not host:port"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1458", 1458),
        ("7b", 7),
        ("64K", 65536),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("64kB", 64000),
        ("1.5MiB", 1572864),
        ("1 GiB", 1024**3),
        ("2T", 2 * 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", "1PiB", "1KK", "KiB", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


class TestLoopback:
    """The command around the sending; the sending itself is tested on a real socket."""

    @pytest.fixture
    def acks(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        """Lets every frame be acknowledged with a status."""

        def answer(status: int) -> None:
            def send_raw(_: object, parts: Any, *rest: Any) -> list[Tally]:
                advance = rest[-1]
                tallies = [Tally(part) for part in parts]
                for tally, part in zip(tallies, parts, strict=True):
                    numbers = np.arange(part.first, part.first + part.count)
                    tally.take(numbers, np.full(part.count, status, np.uint8))
                    advance(part.size)
                return tallies

            monkeypatch.setattr(module, "send_raw", send_raw)

        return answer

    @pytest.fixture(autouse=True)
    def _no_socket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "connected", lambda *_: nullcontext([]))

    def test_written_and_removed(
        self, shop: Any, key_id: str, freed: Freed, acks: Callable[[int], None]
    ) -> None:
        acks(0)
        result = shop.run("loopback", "--size", "10000", "--connections", "2", "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (told["frames"], told["size"], told["connections"]) == (7, 10000, 2)
        assert (told["statuses"], told["freed"]) == ({"written": 7}, 7)
        ((_, _, used, ranges),) = freed
        assert used == key_id
        assert ranges[0][0] == parse_ticket(told["first"])
        assert sum(count for _, count in ranges) == 7
        assert parse_ticket(told["last"]) == ranges[0][0] + 6

    def test_kept(self, shop: Any, key_id: str, freed: Freed, acks: Callable[[int], None]) -> None:
        acks(0)
        Path("f").write_bytes(b"x" * 2000)
        result = shop.run("loopback", "--file", "f", "--keep")
        assert result.exit_code == 0
        assert "2 written" in result.stdout
        assert "frames/s" in result.stdout
        assert result.stdout.endswith("0 tickets removed\n")
        assert freed == []

    @pytest.mark.parametrize(("status", "code"), [(1, 6), (2, 1), (3, 1), (5, 5), (99, 1)])
    def test_bad_acks(
        self,
        shop: Any,
        key_id: str,
        freed: Freed,
        acks: Callable[[int], None],
        status: int,
        code: int,
    ) -> None:
        acks(status)
        result = shop.run("loopback", "--size", "1")
        assert result.exit_code == code
        assert "error: 1 of 1 frames were not written" in result.stderr
        assert len(freed) == 1

    def test_a_failure_frees_what_was_sent(
        self, shop: Any, key_id: str, freed: Freed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise errors.Unavailable("it hung up")

        monkeypatch.setattr(module, "send_raw", fail)
        result = shop.run("loopback", "--size", "1")
        assert (result.exit_code, result.stderr) == (4, "error: it hung up\n")
        assert len(freed) == 1
        monkeypatch.setattr(sys.modules["putter.client.session"], "free_raw", fail)
        result = shop.run("loopback", "--size", "1")
        assert result.stderr.splitlines() == [
            "while the tickets that were sent are removed:",
            "error: it hung up",
            "error: it hung up",
        ]

    def test_another_key_is_told_though_nothing_can_be_removed(
        self,
        shop: Any,
        key_id: str,
        freed: Freed,
        acks: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_: object) -> int:
            raise errors.NotAuthorised("no cluster key in common")

        acks(1)
        monkeypatch.setattr(sys.modules["putter.client.session"], "free_raw", refuse)
        result = shop.run("loopback", "--size", "1")
        assert result.exit_code == 6
        assert result.stderr.splitlines() == [
            "while the tickets that were sent are removed:",
            "error: no cluster key in common",
            "error: 1 of 1 frames were not written",
            "hint: either the putter has another cluster key, or the way there changes bytes",
        ]

    def test_where_nothing_was_sent_nothing_is_freed(
        self, shop: Any, key_id: str, freed: Freed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise errors.Unavailable("cannot connect")

        monkeypatch.setattr(module, "connected", fail)
        result = shop.run("loopback", "--size", "1")
        assert (result.exit_code, result.stderr) == (4, "error: cannot connect\n")
        assert freed == []

    def test_too_few_freed(
        self,
        shop: Any,
        key_id: str,
        freed: Freed,
        acks: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        acks(0)
        monkeypatch.setattr(sys.modules["putter.client.session"], "free_raw", lambda *_: 0)
        result = shop.run("loopback", "--size", "1")
        assert result.exit_code == 1
        assert "freed 0 of 1 tickets" in result.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--size", "1", "--file", "f"),
            ("--size", "0"),
            ("--size", "x"),
            ("--file", "none"),
            ("--connections", "0"),
            ("--putter", "h"),
        ],
    )
    def test_wrong_usage(
        self, shop: Any, key_id: str, freed: Freed, arguments: tuple[str, ...]
    ) -> None:
        assert shop.run("loopback", *arguments).exit_code == 2
        assert freed == []
