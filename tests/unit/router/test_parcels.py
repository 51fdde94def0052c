"""What becomes of a parcel: one that several putters shall hold, and some do not take."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from common.errors import (
    MetadataUnavailable,
    NodesUnavailable,
    NoSpace,
    PutterError,
    StorageError,
    TicketTaken,
)
from common.limits import CHECKSUM_RETRIES_MAX
from common.requests import about_request
from common.wire.status import Status
from router.parcels import Parcel, RecordParcel, RecordsParcel, RunParcel
from router.quorum import Policy

TWO = Policy(2, 2)
LOST = NodesUnavailable("the link is down")


class Carrier:
    """Notes what is asked of it.

    Attributes:
        spare: nodes that may take over, best first.
        log: ``(verb, node)`` in order.
    """

    def __init__(self, *spare: str) -> None:
        self.spare = list(spare)
        self.log: list[tuple[str, str]] = []

    def carry(self, node: str, parcel: Parcel) -> None:
        self.log.append(("carry", node))

    def withdraw(self, node: str, parcel: Parcel) -> None:
        self.log.append(("withdraw", node))

    def substitute(self, parcel: Parcel, avoid: set[str]) -> str | None:
        return next((node for node in self.spare if node not in avoid), None)

    def sent_to(self) -> list[str]:
        return [node for verb, node in self.log if verb == "carry"]


def make(
    carrier: Carrier, *nodes: str, policy: Policy = TWO, announce: Any = None, dispatch: bool = True
) -> Parcel:
    parcel = Parcel("object A", nodes, policy, carrier, 100)
    if dispatch:
        parcel.dispatch(announce)
    return parcel


def failed(parcel: Parcel) -> BaseException | None:
    return parcel.counted.exception() if parcel.counted.done() else None


def succeeded(parcel: Parcel) -> bool:
    return parcel.counted.done() and parcel.counted.exception() is None


class TestTheQuorum:
    async def test_it_counts_when_enough_hold_it(self) -> None:
        carrier = Carrier()
        parcel = make(carrier, "n1", "n2")
        assert carrier.log == [("carry", "n1"), ("carry", "n2")]
        parcel.delivered("n2")
        assert not parcel.counted.done()
        parcel.delivered("n1")
        assert succeeded(parcel)
        assert parcel.settled
        assert parcel.holders == ["n2", "n1"]
        assert not parcel.rerouted

    async def test_with_w_below_n_it_counts_before_it_is_settled(self) -> None:
        parcel = make(Carrier(), "n1", "n2", "n3", policy=Policy(3, 2))
        parcel.delivered("n1")
        parcel.delivered("n3")
        assert succeeded(parcel)
        assert not parcel.settled
        assert sorted(parcel.expected_holders) == ["n1", "n2", "n3"]
        parcel.delivered("n2")
        assert parcel.settled

    async def test_one_node_does_not_count_twice(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n1")
        parcel.delivered("n1")
        assert not parcel.counted.done()
        assert parcel.holders == ["n1"]

    async def test_a_stranger_does_not_count(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n1")
        parcel.delivered("n9")
        parcel.refused("n9", Status.NO_SPACE)
        parcel.stranded("n9", LOST)
        assert not parcel.counted.done()
        assert parcel.holders == ["n1"]
        assert not parcel.settled


class TestAChecksumThatDoesNotFit:
    async def test_it_is_sent_again_a_few_times_then_to_another_node(self) -> None:
        carrier = Carrier("n3")
        parcel = make(carrier, "n1", "n2")
        parcel.delivered("n1")
        for _ in range(CHECKSUM_RETRIES_MAX):
            assert carrier.sent_to()[-1] == "n2"
            parcel.refused("n2", Status.CHECKSUM_MISMATCH)
        assert carrier.sent_to() == ["n1", *["n2"] * CHECKSUM_RETRIES_MAX, "n3"]
        assert ("withdraw", "n2") in carrier.log
        assert not parcel.counted.done()
        parcel.delivered("n3")
        assert succeeded(parcel)
        assert parcel.holders == ["n1", "n3"]
        assert parcel.ever == ["n1", "n2", "n3"], "all that may hold some of it are named"
        assert parcel.rerouted

    async def test_each_node_has_its_own_tries(self) -> None:
        carrier = Carrier()
        parcel = make(carrier, "n1", "n2")
        for _ in range(CHECKSUM_RETRIES_MAX - 1):
            parcel.refused("n1", Status.CHECKSUM_MISMATCH)
            parcel.refused("n2", Status.CHECKSUM_MISMATCH)
        parcel.delivered("n1")
        parcel.delivered("n2")
        assert succeeded(parcel)
        assert not parcel.rerouted


class TestANodeThatDoesNotTakeIt:
    @pytest.mark.parametrize(
        "status", [Status.NO_SPACE, Status.IO_ERROR, Status.MALFORMED, Status.NOT_AUTHORISED, 99]
    )
    async def test_another_one_takes_over_at_once(self, status: int) -> None:
        carrier = Carrier("n3")
        parcel = make(carrier, "n1", "n2")
        parcel.refused("n1", status)
        assert carrier.sent_to() == ["n1", "n2", "n3"]
        parcel.delivered("n2")
        parcel.delivered("n3")
        assert succeeded(parcel)
        assert parcel.holders == ["n2", "n3"]

    async def test_who_refused_once_is_not_asked_again(self) -> None:
        carrier = Carrier("n1", "n2", "n3")
        parcel = make(carrier, "n1", "n2")
        parcel.refused("n1", Status.NO_SPACE)
        parcel.refused("n3", Status.NO_SPACE)
        assert carrier.sent_to() == ["n1", "n2", "n3"]

    async def test_without_another_the_available_store_does_with_less(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n1")
        parcel.refused("n2", Status.NO_SPACE)
        assert succeeded(parcel)
        assert parcel.holders == ["n1"]
        assert parcel.rerouted, "fewer hold it than the record would say"

    async def test_under_strict_it_fails(self) -> None:
        parcel = make(Carrier(), "n1", "n2", policy=Policy(2, 2, "strict"))
        parcel.delivered("n1")
        parcel.refused("n2", Status.NO_SPACE)
        assert isinstance(failed(parcel), NoSpace), "the full disk, not the shortage"
        assert parcel.error is failed(parcel)

    async def test_when_all_refuse_the_full_disk_is_what_is_told(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.refused("n1", Status.IO_ERROR)
        parcel.refused("n2", Status.NO_SPACE)
        assert isinstance(failed(parcel), NoSpace)
        assert "n2" in str(failed(parcel))
        parcel = make(Carrier(), "n1", "n2")
        parcel.refused("n1", Status.IO_ERROR)
        parcel.refused("n2", Status.IO_ERROR)
        assert isinstance(failed(parcel), StorageError)
        assert parcel.settled

    async def test_a_ticket_with_other_data_ends_it_whatever_the_others_say(self) -> None:
        """The last fence: these numbers were used twice, so the object must get new ones."""
        carrier = Carrier("n3")
        parcel = make(carrier, "n1", "n2", policy=Policy(2, 1))
        parcel.refused("n1", Status.TICKET_TAKEN)
        assert isinstance(failed(parcel), TicketTaken)
        assert carrier.sent_to() == ["n1", "n2"]
        assert ("withdraw", "n2") in carrier.log
        assert parcel.settled
        parcel.delivered("n2")
        assert isinstance(failed(parcel), TicketTaken)

    async def test_what_counted_still_counts_when_a_late_node_refuses(self) -> None:
        for status in (Status.NO_SPACE, Status.TICKET_TAKEN):
            parcel = make(Carrier(), "n1", "n2", "n3", policy=Policy(3, 2))
            parcel.delivered("n1")
            parcel.delivered("n2")
            parcel.refused("n3", status)
            assert succeeded(parcel)
            assert parcel.error is None
            assert parcel.settled
            assert parcel.rerouted


class TestANodeThatIsAway:
    async def test_another_one_takes_over(self) -> None:
        carrier = Carrier("n3")
        parcel = make(carrier, "n1", "n2")
        parcel.delivered("n2")
        parcel.stranded("n1", LOST)
        assert carrier.log[-2:] == [("withdraw", "n1"), ("carry", "n3")]
        parcel.delivered("n1")
        assert not parcel.counted.done(), "nobody asked for it there any more"
        parcel.delivered("n3")
        assert succeeded(parcel)

    async def test_available_does_with_less(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n2")
        parcel.stranded("n1", LOST)
        assert succeeded(parcel)
        assert parcel.holders == ["n2"]
        assert parcel.rerouted

    async def test_strict_waits_for_it(self) -> None:
        """Availability is not asked for: it may come back, and the write has time."""
        carrier = Carrier()
        parcel = make(carrier, "n1", "n2", policy=Policy(2, 2, "strict"))
        parcel.delivered("n2")
        parcel.stranded("n1", LOST)
        assert not parcel.counted.done()
        parcel.delivered("n1")
        assert succeeded(parcel)
        assert not parcel.rerouted

    async def test_the_last_hope_is_kept(self) -> None:
        carrier = Carrier()
        parcel = make(carrier, "n1", "n2")
        parcel.stranded("n1", LOST)
        assert carrier.log[-1] == ("withdraw", "n1")
        for _ in range(3):
            parcel.stranded("n2", LOST)
        assert not parcel.counted.done()
        assert ("withdraw", "n2") not in carrier.log
        parcel.delivered("n2")
        assert succeeded(parcel)

    async def test_the_last_hope_is_given_up_once_there_is_another(self) -> None:
        carrier = Carrier()
        parcel = make(carrier, "n1", policy=Policy(1, 1))
        parcel.stranded("n1", LOST)
        carrier.spare.append("n2")
        parcel.stranded("n1", LOST)
        assert carrier.log[-2:] == [("withdraw", "n1"), ("carry", "n2")]
        parcel.delivered("n2")
        assert succeeded(parcel)


class TestDetours:
    async def test_redis_hears_of_the_other_node_before_it_gets_a_byte(self) -> None:
        carrier = Carrier("n3")
        heard = asyncio.Event()
        told: list[str] = []

        async def announce(node: str) -> None:
            told.append(node)
            await heard.wait()

        parcel = make(carrier, "n1", "n2", announce=announce)
        parcel.refused("n1", Status.NO_SPACE)
        await asyncio.sleep(0)
        assert told == ["n3"]
        assert carrier.sent_to() == ["n1", "n2"]
        heard.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert carrier.sent_to() == ["n1", "n2", "n3"]

    async def test_if_redis_does_not_hear_of_it_the_parcel_fails(self) -> None:
        carrier = Carrier("n3")

        async def announce(node: str) -> None:
            raise MetadataUnavailable("away")

        parcel = make(carrier, "n1", "n2", announce=announce)
        parcel.delivered("n2")
        parcel.refused("n1", Status.NO_SPACE)
        with pytest.raises(MetadataUnavailable):
            await parcel.counted
        assert carrier.sent_to() == ["n1", "n2"]
        assert parcel.settled

    async def test_one_that_was_abandoned_meanwhile_is_not_sent(self) -> None:
        carrier = Carrier("n3")

        async def announce(node: str) -> None:
            await asyncio.sleep(0)

        parcel = make(carrier, "n1", announce=announce)
        parcel.refused("n1", Status.NO_SPACE)
        parcel.abandon(LOST)
        for _ in range(5):
            await asyncio.sleep(0)
        assert carrier.sent_to() == ["n1"]


class TestGivingUp:
    async def test_everybody_is_told(self) -> None:
        carrier = Carrier()
        parcel = make(carrier, "n1", "n2", "n3", policy=Policy(3, 3))
        parcel.delivered("n2")
        parcel.abandon(LOST)
        assert carrier.log[3:] == [("withdraw", "n1"), ("withdraw", "n3")]
        assert failed(parcel) is LOST
        assert parcel.settled

    async def test_one_that_counts_is_not_undone(self) -> None:
        parcel = make(Carrier(), "n1", "n2", policy=Policy(2, 1))
        parcel.delivered("n1")
        parcel.abandon(LOST)
        assert succeeded(parcel)
        assert parcel.error is None
        assert parcel.settled
        assert parcel.rerouted
        assert parcel.expected_holders == ["n1"]

    async def test_nobody_has_to_look_at_the_error(self) -> None:
        problems: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        parcel = make(Carrier(), "n1")
        parcel.abandon(PutterError("gone"))
        del parcel
        gc.collect()
        assert problems == []


class TestSettling:
    async def test_it_is_told_once_when_no_link_needs_the_bytes(self) -> None:
        calls: list[int] = []
        parcel = make(Carrier(), "n1", "n2", "n3", policy=Policy(3, 1))
        parcel.when_settled(lambda: calls.append(1))
        parcel.delivered("n1")
        assert succeeded(parcel)
        assert calls == [], "two links still send these bytes"
        parcel.refused("n2", Status.NO_SPACE)
        assert calls == []
        parcel.delivered("n3")
        assert calls == [1]
        parcel.abandon(LOST)
        parcel.delivered("n3")
        assert calls == [1]

    async def test_a_detour_needs_them_too(self) -> None:
        calls: list[int] = []
        carrier = Carrier("n2")
        parcel = make(carrier, "n1", policy=Policy(1, 1))
        parcel.when_settled(lambda: calls.append(1))
        parcel.refused("n1", Status.NO_SPACE)
        assert calls == []
        parcel.delivered("n2")
        assert calls == [1]

    async def test_one_that_is_settled_already_tells_at_once(self) -> None:
        calls: list[int] = []
        parcel = make(Carrier(), "n1", policy=Policy(1, 1))
        parcel.delivered("n1")
        parcel.when_settled(lambda: calls.append(1))
        assert calls == [1]

    async def test_abandoning_settles(self) -> None:
        calls: list[int] = []
        parcel = make(Carrier(), "n1", "n2")
        parcel.when_settled(lambda: calls.append(1))
        parcel.abandon(LOST)
        parcel.abandon(LOST)
        assert calls == [1]


class TestKinds:
    async def test_a_run_says_what_the_putter_needs(self) -> None:
        frames = memoryview(bytearray(50))
        run = RunParcel("A", 7, 2, 18, frames, ("n1",), Policy(1, 1), Carrier())
        [header] = run.headers
        assert (header.first, header.wire_bytes, header.object_id) == (7, 50, "A")
        assert (run.size, run.count, run.data_bytes) == (50, 2, 18)
        assert "A" in run.name

    async def test_records_travel_together_or_alone(self) -> None:
        alone = RecordParcel("A", 5, b"body", ("n1",), Policy(1, 1), Carrier())
        assert alone.entries == ((5, "A", b"body"),)
        assert alone.size == 4
        entries = ((5, "A", b"one"), (6, "B", b"three"))
        group = RecordsParcel(entries, ("n1",), Policy(1, 1), Carrier())
        assert group.entries == entries
        assert group.size == 8


class TestWhatIsOwed:
    async def test_nothing_while_all_goes_as_placed(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n1")
        parcel.delivered("n2")
        assert not parcel.owed

    async def test_a_node_that_another_takes_the_place_of(self) -> None:
        parcel = make(Carrier("n3"), "n1", "n2")
        parcel.stranded("n2", LOST)
        assert parcel.owed == {"n2": "n3"}
        parcel.delivered("n1")
        parcel.delivered("n3")
        assert parcel.owed == {"n2": "n3"}

    async def test_a_node_without_anybody_in_its_place(self) -> None:
        parcel = make(Carrier(), "n1", "n2")
        parcel.delivered("n1")
        parcel.stranded("n2", LOST)
        assert succeeded(parcel)
        assert parcel.owed == {"n2": ""}

    async def test_a_stand_in_that_leaves_too_hands_its_debt_on(self) -> None:
        parcel = Parcel("object A", ("n1", "n2"), TWO, Carrier("n3"), 100, {"home": "n2"})
        parcel.dispatch()
        parcel.stranded("n2", LOST)
        assert parcel.owed == {"home": "n3"}
        parcel.refused("n3", Status.NO_SPACE)
        assert parcel.owed == {"home": ""}

    async def test_a_replica_that_comes_too_late(self) -> None:
        parcel = make(Carrier(), "n1", "n2", "n3", policy=Policy(3, 2))
        parcel.delivered("n1")
        parcel.delivered("n3")
        parcel.abandon(NodesUnavailable("this replica came late"))
        assert parcel.owed == {"n2": ""}

    async def test_the_placement_is_not_changed(self) -> None:
        placed = {"home": "n2"}
        parcel = Parcel("object A", ("n1", "n2"), TWO, Carrier(), 100, placed)
        parcel.dispatch()
        parcel.stranded("n2", LOST)
        assert placed == {"home": "n2"}


class TestRequestIds:
    async def test_a_run_and_a_record_know_whose_request_they_are_for(self) -> None:
        with about_request("id-1"):
            frames = memoryview(b"x" * 34)
            run = RunParcel("A", 7, 2, 2, frames, ("n1",), Policy(1, 1), Carrier())
            record = RecordParcel("A", 9, b"body", ("n1",), Policy(1, 1), Carrier())
        assert [header.request_id for header in run.headers] == ["id-1"]
        assert record.request_id == "id-1"

    async def test_what_is_for_nobody_names_nobody(self) -> None:
        record = RecordParcel("A", 9, b"body", ("n1",), Policy(1, 1), Carrier())
        assert record.request_id == ""
