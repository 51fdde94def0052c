"""The link to one putter: windows, lost connections, acks of several transmissions, silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from common.errors import NodesUnavailable, NoSpace, StorageError
from common.wire.session import Batch, Done, Ping, RecordsDone, RunsDone
from common.wire.status import Status
from router.quorum import Policy
from tests.node_kit import OTHER_RING, network_of, play, until
from tests.router_kit import FRAME, Links, ScriptedPutter, metric, payload
from tests.simulation.loop import World

Scene = Callable[[ScriptedPutter, Links], Awaitable[None]]


def with_link(scene: Scene, *, up: bool = True, node: str = "", **options: Any) -> None:
    async def main(world: World) -> None:
        network = network_of(world.random)
        putter = await ScriptedPutter(network).open()
        links = Links(network, node, **options)
        if up:
            await links.up()
        await scene(putter, links)
        await links.link.close()

    play(main)


def elapsed() -> float:
    return asyncio.get_running_loop().time()


class TestSending:
    def test_what_is_offered_in_one_turn_is_one_message(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            runs = [links.run(100 * n, payload(2_000, n)) for n in range(3)]
            record = links.record(7, b"seven")
            await putter.has(runs=3, records=1)
            [(message, body)] = putter.heard
            assert isinstance(message, Batch)
            assert [run.first for run in message.runs] == [0, 100, 200]
            assert body == b"".join(bytes(run.frames) for run in runs) + b"seven"
            [header] = message.records
            assert (header.stamp, header.object_id, header.length) == (7, "O7", 5)
            assert links.link.inflight_bytes == sum(run.size for run in runs) + record.size
            assert links.link.busy

        with_link(scene)

    def test_acks_in_parts_make_a_run_whole(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(5 * FRAME))
            await putter.has(runs=1)
            assert links.link.acked(100, 2, 0) == 2
            assert links.link.acked(102, 2, 0) == 2
            assert not run.counted.done()
            assert links.link.acked(104, 1, 0) == 1
            assert run.holders == ["p0"]
            assert links.link.inflight_bytes == 0
            assert not links.link.busy

        with_link(scene)

    def test_acks_may_come_in_the_session(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(5 * FRAME))
            other = links.run(200, payload(FRAME))
            await putter.has(runs=2)
            putter.session.say(RunsDone(((100, 5, Status.WRITTEN), (200, 1, Status.NO_SPACE))))
            await until(lambda: other.settled)
            assert run.holders == ["p0"]
            assert not other.holders
            assert links.link.full

        with_link(scene)

    def test_one_range_of_acks_may_answer_many_runs(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            runs = [links.run(100 + 2 * n, payload(2 * FRAME)) for n in range(5)]
            other = links.run(500)
            await putter.has(runs=6)
            assert links.link.acked(90, 30, 0) == 10, "only those in flight are known"
            assert all(run.settled for run in runs)
            assert not other.settled

        with_link(scene)

    @pytest.mark.parametrize(("first", "count"), [(0, 100), (105, 10), (99, 1), (1 << 40, 1)])
    def test_acks_for_tickets_that_are_not_in_flight(self, first: int, count: int) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(5 * FRAME))
            await putter.has(runs=1)
            assert links.link.acked(first, count, 0) == 0
            assert not run.counted.done()

        with_link(scene)

    def test_one_bad_frame_makes_the_run_bad(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(5 * FRAME))
            await putter.has(runs=1)
            links.link.acked(100, 2, 0)
            links.link.acked(102, 1, Status.IO_ERROR)
            links.link.acked(103, 2, 0)
            assert isinstance(run.error, StorageError)
            assert run.holders == []

        with_link(scene)

    def test_a_checksum_that_does_not_fit_is_sent_again(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(2 * FRAME))
            await putter.has(runs=1)
            links.link.acked(100, 2, Status.CHECKSUM_MISMATCH)
            await putter.has(runs=2)
            assert putter.heard[0][1] == putter.heard[1][1]
            assert metric(links.metrics, "putter_frames_resent_total") == 2
            links.link.acked(100, 2, 0)
            assert run.holders == ["p0"]
            assert links.link.inflight_bytes == 0

        with_link(scene)

    def test_a_full_putter_is_known_as_full_until_it_takes_something(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run, later = links.run(100), links.run(200)
            await putter.has(runs=2)
            links.link.acked(100, 1, Status.NO_SPACE)
            assert isinstance(run.error, NoSpace)
            assert links.link.full
            changes = len(links.changes)
            links.link.acked(200, 1, 0)
            assert later.settled
            assert not links.link.full
            assert len(links.changes) > changes, "placement looks again"

        with_link(scene)


class TestRecords:
    def test_they_are_answered_by_their_numbers(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            good, bad = links.record(7), links.record(8)
            await putter.has(records=2)
            one, two = putter.requests
            putter.session.say(RecordsDone(((two, int(Status.NO_SPACE)), (999, 0))))
            await until(lambda: bad.settled)
            assert isinstance(bad.error, NoSpace)
            assert not good.settled
            putter.session.say(RecordsDone(((one, 0),)))
            await until(lambda: good.settled)
            assert good.holders == ["p0"]
            assert links.link.inflight_bytes == 0

        with_link(scene)

    def test_after_a_lost_link_they_go_again_and_old_numbers_mean_nothing(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            record = links.record(7)
            await putter.has(records=1)
            putter.session.transport.abort()
            await putter.has(records=2)
            assert record.size == links.link.inflight_bytes
            assert not record.settled
            putter.session.say(RecordsDone(((putter.requests[-1], 0),)))
            await until(lambda: record.settled)
            assert links.link.inflight_bytes == 0

        with_link(scene)

    def test_one_that_a_stopping_putter_refused_is_kept_for_its_return(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            record = links.record(7)
            await putter.has(records=1)
            putter.session.say(RecordsDone(((putter.requests[0], int(Status.SHUTTING_DOWN)),)))
            await asyncio.sleep(0.05)
            assert not record.settled
            putter.session.transport.abort()
            await putter.has(records=2)
            putter.session.say(RecordsDone(((putter.requests[-1], 0),)))
            await until(lambda: record.settled)
            assert record.holders == ["p0"]
            assert links.link.inflight_bytes == 0

        with_link(scene)


class TestALostLink:
    def test_all_in_flight_is_sent_again_in_order(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            runs = [links.run(first, payload(3 * FRAME)) for first in (300, 100, 200)]
            await putter.has(runs=3)
            links.link.acked(100, 3, 0)
            putter.session.transport.abort()
            await putter.has(runs=5)
            assert putter.runs[3:] == [200, 300]
            assert links.changes[:3] == [True, False, True]
            links.link.acked(200, 3, 0)
            links.link.acked(300, 3, 0)
            assert all(run.settled for run in runs)
            assert metric(links.metrics, "putter_frames_resent_total") >= 6

        with_link(scene)

    def test_what_is_offered_while_it_is_down_goes_once_it_is_up(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run, record = links.run(100), links.record(7)
            assert not links.link.up
            await putter.has(runs=1, records=1)
            assert putter.runs == [100]
            assert len(putter.requests) == 1
            links.link.acked(100, 1, 0)
            putter.session.say(RecordsDone(((putter.requests[0], 0),)))
            await until(lambda: run.settled and record.settled)
            assert links.link.inflight_bytes == 0

        with_link(scene, up=False)

    def test_partial_acks_of_two_transmissions_never_add_up(self) -> None:
        """Each may have lost another part: together they look like a whole."""

        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(4 * FRAME))
            await putter.has(runs=1)
            links.link.acked(100, 2, 0)
            putter.session.transport.abort()
            await putter.has(runs=2)
            links.link.acked(102, 2, 0)
            assert not run.counted.done()
            links.link.acked(100, 2, 0)
            assert not run.counted.done()
            links.link.acked(102, 2, 0)
            assert run.holders == ["p0"]

        with_link(scene)

    def test_an_error_of_the_last_transmission_does_not_stick(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, payload(4 * FRAME))
            await putter.has(runs=1)
            links.link.acked(100, 2, Status.CHECKSUM_MISMATCH)
            links.link.resend()
            await putter.has(runs=2)
            links.link.acked(100, 4, 0)
            assert run.holders == ["p0"]

        with_link(scene)

    def test_a_putter_that_says_it_stops_gets_them_again_when_it_is_back(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100)
            await putter.has(runs=1)
            links.link.acked(100, 1, Status.SHUTTING_DOWN)
            assert not run.counted.done()
            putter.session.transport.abort()
            await putter.has(runs=2)
            links.link.acked(100, 1, 0)
            assert run.holders == ["p0"]

        with_link(scene)

    def test_down_too_long_means_stranded(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            only = links.run(100)
            copy = links.run(200, policy=Policy(2, 1))
            copy.holders.append("p1")  # another node has it already
            record = links.record(7)
            await putter.has(runs=2)
            links.link._network._network.crash("p0")  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            assert not copy.settled
            await asyncio.sleep(3)
            assert copy.settled, "it does without"
            assert not only.counted.done(), "the only hope of this one"
            assert not record.counted.done()
            only.abandon(StorageError("enough"))
            record.abandon(StorageError("enough"))
            assert links.link.inflight_bytes == 0
            assert not links.link.busy

        with_link(scene, failover_ms=2_000)

    def test_waiting_longer_each_time_but_not_for_ever(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            network = links.link._network._network  # type: ignore[attr-defined]
            network.crash("p0")
            await until(lambda: not links.link.up)
            await asyncio.sleep(60)
            again = await ScriptedPutter(network).open()
            await until(lambda: links.link.up, 3)
            assert again.sessions

        with_link(scene)

    def test_an_error_that_nobody_thought_of_does_not_end_it(self) -> None:
        """As an event loop may raise for a connection that is reset within microseconds."""

        async def scene(putter: ScriptedPutter, links: Links) -> None:
            network, raised = links.link._network, []
            connect = network.connect

            async def broken(*args: Any, **options: Any) -> Any:
                if not raised:
                    raised.append(RuntimeError("the handler is closed"))
                    raise raised[0]
                return await connect(*args, **options)

            with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
                patch.setattr(network, "connect", broken)
                links.link.renew("a test")
                await until(lambda: bool(raised) and links.link.up)
            [line] = [each for each in lines if each["log_level"] == "error"]
            assert line["exc_info"] is raised[0]

        with_link(scene)


class TestSilence:
    def test_a_putter_that_leaves_runs_unanswered_is_renewed(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            began = elapsed()
            run = links.run(100)
            await putter.has(runs=2)
            assert 3 <= elapsed() - began < 4
            assert len(putter.sessions) == 2
            links.link.acked(100, 1, 0)
            assert run.settled

        with_link(scene, silence_ms=3_000)

    def test_any_ack_is_a_sign_of_life(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            links.run(100, payload(20 * FRAME))
            for n in range(10):
                await asyncio.sleep(2)
                links.link.acked(100 + n, 1, 0)
            assert len(putter.sessions) == 1

        with_link(scene, silence_ms=3_000)

    def test_nothing_in_flight_is_no_silence(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            await asyncio.sleep(100)
            run = links.run(100)
            await asyncio.sleep(2)
            assert len(putter.sessions) == 1, "it had three seconds from now on"
            links.link.acked(100, 1, 0)
            assert run.settled

        with_link(scene, silence_ms=3_000)


class TestTheWindow:
    def test_who_wants_to_send_waits_for_acks(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            await links.link.room()
            runs = [links.run(100 * n, payload(6_000, n)) for n in range(2)]
            assert links.link.congested
            waiter = asyncio.create_task(links.link.room())
            await putter.has(runs=2)
            await asyncio.sleep(1)
            assert not waiter.done()
            links.link.acked(0, 5, 0)
            await asyncio.sleep(0)
            await waiter
            assert runs[0].settled

        with_link(scene, window_bytes=10_000)

    def test_what_is_withdrawn_makes_room(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run, record = links.run(100, payload(6_000)), links.record(7, bytes(6_000))
            waiter = asyncio.create_task(links.link.room())
            await asyncio.sleep(0)
            run.abandon(StorageError("enough"))
            record.abandon(StorageError("enough"))
            await waiter
            assert links.link.inflight_bytes == 0
            assert links.link.acked(100, 5, 0) == 0

        with_link(scene, window_bytes=10_000)

    def test_one_that_gave_up_waiting_does_not_block_the_others(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            links.run(100, payload(20_000))
            waiters = [asyncio.create_task(links.link.room()) for _ in range(3)]
            await asyncio.sleep(0.01)
            waiters[0].cancel()
            await putter.has(runs=1)
            links.link.acked(100, 20, 0)
            await asyncio.gather(*waiters[1:])

        with_link(scene, window_bytes=10_000)

    def test_withdrawn_before_it_was_sent_it_is_not_sent(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run, record = links.run(100), links.record(7)
            kept = links.run(200)
            run.abandon(StorageError("enough"))
            record.abandon(StorageError("enough"))
            await putter.has(runs=1)
            await asyncio.sleep(0.1)
            assert putter.runs == [200]
            assert putter.requests == []
            assert links.link.inflight_bytes == kept.size

        with_link(scene)


class TestBuffers:
    """Memory of a run that is over is used for the next one, but not while it is to be sent."""

    DATA = payload(600_000)

    def test_they_are_used_again(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, self.DATA)
            await putter.has(runs=1)
            assert links.pool.kept_bytes == 0
            links.link.acked(100, run.count, 0)
            assert run.settled
            assert links.pool.kept_bytes > len(self.DATA)
            links.run(900, self.DATA)
            assert links.pool.kept_bytes == 0
            await putter.has(runs=2)

        with_link(scene)

    @pytest.mark.parametrize("end", ["acked", "abandoned"])
    def test_what_is_queued_a_second_time_travels_as_it_was(self, end: str) -> None:
        """The acks of the first time come while the second is still on its way."""

        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100, self.DATA)
            sent = bytes(run.frames)
            await putter.has(runs=1)
            putter.deaf = True
            putter.session.transport.abort()
            await until(lambda: len(putter.sessions) == 2 and links.link.up, 60)
            await asyncio.sleep(1)
            assert putter.runs == [100], "the second time waits in the transport"
            if end == "acked":
                links.link.acked(100, run.count, 0)
            else:
                run.abandon(StorageError("enough"))
            assert run.settled
            for _ in range(10):
                links.pool.take(len(sent))[:] = bytes(len(sent))
            putter.session.transport.resume_reading()
            await putter.has(runs=2)
            assert [body for _, body in putter.heard] == [sent, sent]
            assert links.link.up

        with_link(scene)


class TestWhoItIs:
    def test_the_name_is_learned(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            assert links.link.node == "p0"
            assert links.link.instance
            assert metric(links.metrics, "putter_link_up", node="p0") == 1

        with_link(scene)

    def test_another_putter_at_the_address_gets_nothing(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100)
            await asyncio.sleep(10)
            assert not links.link.up
            assert "p0, not somebody" in links.link.reason
            assert len(putter.sessions) > 2, "it may change"
            assert putter.heard == []
            assert not run.counted.done()
            assert links.link._network._network.connections <= 1, "nothing is left open"  # type: ignore[attr-defined]

        with_link(scene, up=False, node="somebody")

    def test_another_putter_at_the_address_is_as_bad_as_none(self) -> None:
        """It answers, but what is in flight has to find another way all the same."""

        async def scene(putter: ScriptedPutter, links: Links) -> None:
            copy = links.run(200, policy=Policy(2, 1))
            copy.holders.append("p1")
            putter.node = "stranger"
            putter.session.transport.abort()
            await until(lambda: copy.settled, 10)
            assert "stranger, not p0" in links.link.reason
            assert links.changes == [True, False]

        with_link(scene, failover_ms=3_000)

    def test_another_key(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            putter.ring = OTHER_RING
            links.run(100)
            with structlog.testing.capture_logs() as lines:
                await asyncio.sleep(130)
            told = [line for line in lines if line["event"] == "cannot reach a putter"]
            assert len(told) == 3, "once a minute"
            assert sum(line.get("held_back", 0) for line in told) > 30
            assert not links.link.up
            assert "key" in links.link.reason
            assert putter.heard == []

        with_link(scene, up=False)

    def test_calls_need_a_link(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            putter.answer = lambda session, message, _: session.say(Done(message.request, 0))  # type: ignore[union-attr]
            [(reply, _)] = await links.link.call(Ping, timeout_ms=100)
            assert isinstance(reply, Done)
            putter.answer = lambda *_: None
            with pytest.raises(NodesUnavailable, match="100 ms"):
                await links.link.call(Ping, timeout_ms=100)
            links.link._network._network.crash("p0")  # type: ignore[attr-defined]
            await until(lambda: not links.link.up)
            with pytest.raises(NodesUnavailable, match="p0"):
                await links.link.call(Ping, timeout_ms=100)

        with_link(scene)

    def test_nonsense_of_a_putter_does_not_end_the_link(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            run = links.run(100)
            await putter.has(runs=1)
            putter.session.say(RecordsDone(((12345, 0),)))
            putter.session.say(Ping(1))
            await asyncio.sleep(0.1)
            assert links.link.up
            links.link.acked(100, 1, 0)
            assert run.settled

        with_link(scene)

    def test_closing(self) -> None:
        async def scene(putter: ScriptedPutter, links: Links) -> None:
            await links.link.close()
            assert not links.link.up
            await asyncio.sleep(10)
            assert len(putter.sessions) == 1, "it does not come back"
            assert metric(links.metrics, "putter_link_up", node="p0") == 0

        with_link(scene)
