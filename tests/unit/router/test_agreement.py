"""Several replicas asked at once: who is asked, who is waited for, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import NodesUnavailable
from router.agreement import LATE_S, Agreement
from router.fetched import Fetched
from tests.node_kit import play
from tests.simulation.loop import World

SUMS = b"sums"
CALL_S = 15.0


@dataclass(frozen=True)
class Node:
    """A replica: what it answers, and when; it never takes longer than a call may."""

    good: bool = True
    after_s: float = 0.1


class Replicas:
    """What `Agreement` asks; notes who was asked for bytes and who only for checksums."""

    def __init__(self, world: World, nodes: dict[str, Node]) -> None:
        self.world = world
        self.nodes = nodes
        self.sent: list[str] = []
        self.verified: list[str] = []
        self.late: list[str] = []

    async def ask(self, node: str, taken: Fetched | None) -> bytes:
        (self.verified if taken is None else self.sent).append(node)
        await asyncio.sleep(self.nodes[node].after_s)
        if not self.nodes[node].good:
            raise NodesUnavailable("not this one")
        return SUMS

    async def reach(self, quorum: int, *, patient: bool = False) -> tuple[Agreement, float]:
        """The agreement, and how long it took."""
        made = Agreement(
            list(self.nodes), quorum, patient=patient, ask=self.ask, late=self.late.append
        )
        began = self.world.loop.time()
        await made.reach()
        return made, self.world.loop.time() - began


def agree(quorum: int, *nodes: Node, patient: bool = False) -> tuple[Replicas, Agreement, float]:
    told: list[Any] = []

    async def main(world: World) -> None:
        replicas = Replicas(world, {f"n{n}": node for n, node in enumerate(nodes)})
        told.append((replicas, *await replicas.reach(quorum, patient=patient)))

    play(main)
    replicas, made, took = told[0]
    return replicas, made, took


GOOD, BAD, SILENT = Node(), Node(good=False), Node(good=False, after_s=CALL_S)


def test_one_sends_and_the_others_verify_at_the_same_time() -> None:
    replicas, made, took = agree(2, GOOD, GOOD, GOOD)
    assert (replicas.sent, replicas.verified) == (["n0"], ["n1"])
    assert set(made.sums) == {"n0", "n1"}
    assert took == pytest.approx(0.1)


def test_the_next_one_comes_in_for_one_that_fails() -> None:
    replicas, made, _ = agree(2, BAD, GOOD, GOOD)
    assert (replicas.sent, replicas.verified) == (["n0", "n2"], ["n1"])
    assert set(made.sums) == {"n1", "n2"}
    assert set(made.problems) == {"n0"}


def test_if_all_others_fail_one_that_verified_sends_it() -> None:
    replicas, made, _ = agree(2, BAD, GOOD)
    assert (replicas.sent, replicas.verified) == (["n0", "n1"], ["n1"])
    assert (set(made.sums), made.piece is not None) == ({"n1"}, True)


def test_one_that_is_late_is_replaced() -> None:
    replicas, made, took = agree(2, SILENT, GOOD, GOOD)
    assert replicas.late == ["n0"]
    assert set(made.sums) == {"n1", "n2"}
    assert took == pytest.approx(0.1 + LATE_S + 0.1)


def test_without_another_one_it_goes_without_a_late_one() -> None:
    _, made, took = agree(2, GOOD, SILENT)
    assert set(made.sums) == {"n0"}
    assert took == pytest.approx(0.1 + LATE_S)


def test_whoever_is_patient_waits_for_it() -> None:
    slow = Node(after_s=CALL_S - 1)
    _, made, took = agree(2, GOOD, slow, patient=True)
    assert set(made.sums) == {"n0", "n1"}
    assert took == pytest.approx(CALL_S - 1)


def test_bytes_are_waited_for_as_long_as_it_takes() -> None:
    slow = Node(after_s=CALL_S - 1)
    _, made, _ = agree(2, slow, slow)
    assert made.piece is not None


def test_nobody_has_it() -> None:
    _, made, _ = agree(2, BAD, SILENT, BAD)
    assert made.piece is None
    assert not made.sums
    assert set(made.problems) == {"n0", "n1", "n2"}


NODES = st.lists(
    st.builds(Node, st.booleans(), st.sampled_from([0.1, 1.0, LATE_S + 1, CALL_S])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(NODES, st.integers(2, 5), st.booleans())
def test_whatever_they_do(nodes: list[Node], quorum: int, patient: bool) -> None:
    replicas, made, _ = agree(quorum, *nodes, patient=patient)
    good = {f"n{n}" for n, node in enumerate(nodes) if node.good}
    assert set(made.sums) <= good
    assert (made.piece is not None) == bool(good), "somebody always sends it if anybody can"
    assert not set(made.problems) & good
    if patient or all(node.after_s < LATE_S for node in nodes):
        assert len(made.sums) >= min(quorum, len(good))
    # Nobody is asked for the same thing twice.
    assert len(replicas.sent) == len(set(replicas.sent))
    assert len(replicas.verified) == len(set(replicas.verified))
