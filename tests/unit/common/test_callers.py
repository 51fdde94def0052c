"""Connections of a port: how many in all, how many of one address, and what counts as one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
import structlog

from common.callers import CallerLimits, Callers, Leaving, Served, address_of
from common.errors import TooManyConnections
from common.limits import ADDRESS_CONNECTIONS_MAX, LEAVING_MAX, LINGER_MS
from common.metrics import Metrics
from tests.node_kit import play
from tests.simulation.loop import World


def callers(total: int = 100, per_address: int | None = None) -> Callers:
    return Callers("web", Metrics("router"), CallerLimits(total, per_address))


@pytest.mark.parametrize(
    ("peername", "address"),
    [
        (("10.0.0.7", 1234), "10.0.0.7"),
        (("::ffff:10.0.0.7", 1234, 0, 0), "10.0.0.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 4), "fe80::/64"),
        (("::1", 1, 0, 0), "::1"),
        (("client", 1), "client"),
        (("", 1), ""),
        ("/run/socket", ""),
        (None, ""),
        ((), ""),
    ],
)
def test_what_counts_as_one_address(peername: object, address: str) -> None:
    assert address_of(peername) == address


def test_one_address_may_have_so_many_and_others_as_well() -> None:
    port = callers(per_address=2)
    first, second = ("10.0.0.1", 1), ("10.0.0.2", 1)
    assert port.enter(first) is None
    assert port.enter(("10.0.0.1", 2)) is None
    error = port.enter(("10.0.0.1", 3))
    assert isinstance(error, TooManyConnections)
    assert error.of_address
    assert "10.0.0.1 has 2 connections" in error.message
    assert "connections_per_address" in error.hint
    assert port.enter(second) is None
    assert len(port) == 3
    port.leave(first)
    assert port.enter(first) is None


def test_all_of_one_ipv6_network_share_their_places() -> None:
    port = callers(per_address=1)
    assert port.enter(("2001:db8::1", 1, 0, 0)) is None
    assert port.enter(("2001:db8::2", 1, 0, 0)) is not None
    assert port.enter(("2001:db8:0:1::2", 1, 0, 0)) is None


def test_in_total() -> None:
    port = callers(total=2, per_address=0)
    assert port.enter(("10.0.0.1", 1)) is None
    assert port.enter(("10.0.0.1", 2)) is None
    error = port.enter(("10.0.0.2", 1))
    assert error is not None
    assert not error.of_address
    assert "connections_max" in error.hint


def test_without_a_word_this_machine_has_no_bound_of_its_own() -> None:
    limits = CallerLimits(4_000)
    assert limits.of("127.0.0.1") == limits.of("::1") == limits.of("") == 4_000
    assert limits.of("10.0.0.1") == limits.of("2001:db8::/64") == ADDRESS_CONNECTIONS_MAX
    assert CallerLimits(4_000, 7).of("127.0.0.1") == 7
    assert CallerLimits(4_000, 0).of("10.0.0.1") == 4_000


def test_turned_away_is_counted_each_time_and_logged_once_a_minute() -> None:
    async def main(world: World) -> None:
        metrics = Metrics("router")
        port = Callers("web", metrics, CallerLimits(10, 1))
        peer = ("10.0.0.1", 1)
        assert port.enter(peer) is None
        with structlog.testing.capture_logs() as lines:
            for _ in range(5):
                error = port.enter(peer)
                assert error is not None
                port.turned_away(peer, error)
            await asyncio.sleep(61)
            port.turned_away(peer, TooManyConnections("full"))
        assert [line.get("held_back") for line in lines] == [None, 4]
        assert lines[0]["peer"] == "10.0.0.1"
        text = metrics.render().decode()
        assert 'putter_refused_total{port="web",reason="address"} 5.0' in text
        assert 'putter_refused_total{port="web",reason="connections"} 1.0' in text

    play(main)


class Wire:
    """As much of a transport as leaving takes."""

    def __init__(self, leaving: Leaving) -> None:
        self.done: list[str] = []
        self._leaving = leaving

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")
        self._leaving.remove(cast("Any", self))


def test_leaving_ends_our_side_and_then_the_connection() -> None:
    async def main(world: World) -> None:
        leaving = Leaving()
        wire, early = Wire(leaving), Wire(leaving)
        leaving.add(cast("Any", wire))
        leaving.add(cast("Any", early), ends=False)
        leaving.remove(cast("Any", early))
        await asyncio.sleep(LINGER_MS / 1000 + 0.1)
        assert wire.done == ["eof", "abort"]
        assert early.done == []
        assert len(leaving) == 0

    play(main)


def test_few_leave_at_a_time_and_all_can_be_ended() -> None:
    async def main(world: World) -> None:
        leaving = Leaving()
        wires = [Wire(leaving) for _ in range(LEAVING_MAX + 1)]
        for wire in wires:
            leaving.add(cast("Any", wire))
        assert wires[-1].done == ["close"]
        leaving.abort()
        assert all(wire.done == ["eof", "abort"] for wire in wires[:-1])

    play(main)


def test_who_is_served_is_counted_and_who_is_not_never_was() -> None:
    async def main(world: World) -> None:
        metrics = Metrics("router")
        served: Served[object] = Served("acks", metrics, CallerLimits(2))
        peer = ("10.0.0.7", 1)
        guests = [object(), object(), object()]
        assert [served.enter(guest, peer) is None for guest in guests] == [True, True, False]

        def told(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(name, labels)

        assert told("putter_connections", port="acks") == len(served) == 2
        assert told("putter_refused_total", port="acks", reason="connections") == 1
        served.leave(guests[2], peer)
        assert served.all() == guests[:2]
        served.leave(guests[0], peer)
        served.leave(guests[0], peer)
        assert served.all() == guests[1:2]
        assert served.enter(guests[2], peer) is None

    play(main)
