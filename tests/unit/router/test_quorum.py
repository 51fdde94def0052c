"""How many copies and acks: the whole table of small cases."""

from __future__ import annotations

import pytest

from common.errors import NodesUnavailable
from router.quorum import Policy


@pytest.mark.parametrize(("replicas", "quorum"), [(1, 0), (1, 2), (0, 0), (2, 3), (2, -1)])
def test_a_quorum_is_between_one_and_the_copies(replicas: int, quorum: int) -> None:
    with pytest.raises(ValueError, match="W ≤ N"):
        Policy(replicas, quorum)


@pytest.mark.parametrize(("replicas", "quorum"), [(1, 0), (1, 2), (2, 3), (2, -1)])
def test_a_read_quorum_is_between_one_and_the_copies(replicas: int, quorum: int) -> None:
    with pytest.raises(ValueError, match="R ≤ N"):
        Policy(replicas, 1, read_quorum=quorum)


@pytest.mark.parametrize(
    ("quorum", "answering", "verified"), [(1, 0, 0), (1, 3, 1), (2, 1, 1), (2, 2, 2), (3, 2, 2)]
)
def test_available_verifies_those_that_are_there(
    quorum: int, answering: int, verified: int
) -> None:
    assert Policy(3, 1, read_quorum=quorum).verified(answering) == verified


def test_strict_refuses_a_read_below_its_quorum() -> None:
    policy = Policy(3, 1, "strict", read_quorum=2)
    with pytest.raises(NodesUnavailable, match="only 1 of the 2 replicas") as caught:
        policy.verified(1)
    assert "--consistency available" in caught.value.hint
    assert policy.verified(2) == policy.verified(3) == 2


@pytest.mark.parametrize(
    ("replicas", "live", "copies"),
    [(1, 1, 1), (1, 9, 1), (2, 1, 1), (2, 2, 2), (3, 2, 2), (3, 9, 3)],
)
def test_new_bytes_go_to_as_many_as_wanted_or_alive(replicas: int, live: int, copies: int) -> None:
    assert Policy(replicas, 1).copies(live) == copies


@pytest.mark.parametrize(
    ("quorum", "assigned", "needed"),
    [(1, 1, 1), (1, 3, 1), (2, 1, 1), (2, 2, 2), (2, 3, 2), (3, 2, 2)],
)
def test_available_counts_on_those_that_are_there(quorum: int, assigned: int, needed: int) -> None:
    assert Policy(3, quorum).needed(assigned) == needed


@pytest.mark.parametrize("consistency", ["available", "strict"])
def test_nobody_is_never_enough(consistency: str) -> None:
    policy = Policy(2, 1, consistency)  # type: ignore[arg-type]
    with pytest.raises(NodesUnavailable) as caught:
        policy.copies(0)
    assert "putter server" in caught.value.hint
    with pytest.raises(NodesUnavailable):
        policy.needed(0)


def test_strict_refuses_below_the_quorum() -> None:
    policy = Policy(3, 2, "strict")
    with pytest.raises(NodesUnavailable, match="only 1 of the 2") as caught:
        policy.copies(1)
    assert "--consistency available" in caught.value.hint
    with pytest.raises(NodesUnavailable):
        policy.needed(1)
    assert policy.copies(2) == 2, "the quorum is enough, all copies are not asked for"
    assert policy.needed(2) == 2
    assert policy.needed(3) == 2


def test_degraded_is_less_than_wanted_whatever_the_quorum() -> None:
    policy = Policy(3, 1)
    assert [policy.degraded(holders) for holders in range(5)] == [True, True, True, False, False]
