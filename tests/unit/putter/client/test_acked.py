"""Which raw tickets are sent, and what their acks amount to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors
from common.errors import ProtocolError, UsageError
from common.tickets import TICKETS_MAX, format_id
from common.wire.status import Status
from putter.client.acked import Part, Tally, error_of, plan, total

NUMBERS = np.arange(100, 110)


def statuses(*values: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.array(values, np.uint8)


@given(st.integers(1, 200_000), st.integers(1, 20))
def test_a_plan_covers_all_bytes_with_consecutive_tickets(size: int, connections: int) -> None:
    parts = plan(size, connections)
    assert 1 <= len(parts) <= connections
    assert sum(part.size for part in parts) == size
    assert parts[0].offset == 0
    for part, following in itertools.pairwise(parts):
        assert part.size == part.count * 1458
        assert following.first == part.first + part.count
        assert following.offset == part.offset + part.size
    last = parts[-1]
    assert (last.count - 1) * 1458 < last.size <= last.count * 1458
    assert len(format_id(parts[0].first)) == 8
    assert last.first + last.count <= TICKETS_MAX


def test_plans_do_not_meet() -> None:
    assert len({plan(1, 1)[0].first for _ in range(20)}) == 20


def test_more_bytes_than_tickets() -> None:
    with pytest.raises(UsageError, match="more than there are"):
        plan(TICKETS_MAX * 1458, 1)


def test_a_tally_is_complete_when_every_ticket_has_an_ack() -> None:
    tally = Tally(Part(first=100, count=4, offset=0, size=4 * 1458))
    tally.take(NUMBERS[2:4], statuses(0, 1))
    assert (tally.acked, tally.complete) == (2, False)
    tally.take(NUMBERS[:0], statuses())
    tally.take(NUMBERS[:2], statuses(0, 0))
    assert (tally.acked, tally.complete) == (4, True)
    assert tally.counts() == {0: 3, 1: 1}


@pytest.mark.parametrize(
    ("number", "ticket"), [(99, format_id(99)), (104, format_id(104)), (-1, "no")]
)
def test_an_ack_for_a_foreign_ticket(number: int, ticket: str) -> None:
    tally = Tally(Part(100, 4, 0, 4 * 1458))
    with pytest.raises(ProtocolError, match=f"that was not sent.*{ticket}"):
        tally.take(np.array([100, number]), statuses(0, 0))


def test_a_second_ack_at_once_or_later() -> None:
    tally = Tally(Part(100, 4, 0, 4 * 1458))
    with pytest.raises(ProtocolError, match="twice"):
        tally.take(np.array([100, 100]), statuses(0, 0))
    tally.take(np.array([101]), statuses(0))
    with pytest.raises(ProtocolError, match="twice"):
        tally.take(np.array([101]), statuses(0))


def test_totals_add_up() -> None:
    one, other = Tally(Part(100, 4, 0, 1)), Tally(Part(104, 4, 0, 1))
    one.take(NUMBERS[:3], statuses(0, 0, 2))
    other.take(NUMBERS[4:6], statuses(0, 1))
    assert total([one, other]) == {0: 3, 1: 1, 2: 1}


@pytest.mark.parametrize(
    ("counts", "kind", "exit_code"),
    [
        ({1: 1, 3: 5}, errors.ChecksumMismatch, 6),
        ({0: 9, 2: 1}, errors.NoSpace, 1),
        ({3: 1}, errors.StorageError, 1),
        ({4: 1}, errors.TicketTaken, 1),
        ({5: 1}, errors.NotAuthorised, 5),
        ({7: 1}, errors.ProtocolError, 1),
        ({99: 1}, errors.ProtocolError, 1),
    ],
)
def test_bad_acks_are_an_error(
    counts: dict[int, int], kind: type[errors.PutterError], exit_code: int
) -> None:
    error = error_of(counts)
    assert type(error) is kind
    assert error.exit == exit_code
    bad = sum(count for status, count in counts.items() if status)
    assert f"{bad} of {sum(counts.values())} frames" in error.message


def test_good_acks_are_none() -> None:
    assert error_of({Status.WRITTEN: 5}) is None
    assert error_of({}) is None


def test_a_wrong_key_is_hinted_at() -> None:
    error = error_of({Status.CHECKSUM_MISMATCH: 1})
    assert error is not None
    assert "another cluster key" in error.hint
