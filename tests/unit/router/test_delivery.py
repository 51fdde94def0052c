"""Events reach their targets at least once, whatever refuses or dies; on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from structlog.testing import capture_logs

from common.clock import ManualClock
from common.errors import MetadataUnavailable
from common.event_targets import EventTarget, parse_targets
from common.meta.interface import Metadata
from common.meta.memory import MemoryMetadata
from common.meta.outbox import Post
from common.metrics import Metrics
from common.records import BucketSettings
from common.wire.handshake import Identity
from router.delivery import RETRY_MS_MAX, RETRY_MS_MIN, Address, Delivery
from router.event_messages import Message
from router.event_senders import Sent, sender_to
from router.events import PUT, TEST, Event, Rule, of_test
from tests.router_kit import metric

BUCKET = "photos"
TARGETS = parse_targets(["hook=http://h/", "log=redis:?stream=told&length=5"])


@dataclass
class Target:
    """Takes messages, or a part of them.

    Attributes:
        taken: what it took.
        trouble: why it takes no more than ``takes`` of a call; "": it takes all.
        raises: ends a call, if it is set.
    """

    taken: list[Message] = field(default_factory=list)
    trouble: str = ""
    takes: int = 0
    calls: int = 0
    raises: Exception | None = None
    closed: bool = False

    async def send(self, messages: Sequence[Message]) -> Sent:
        self.calls += 1
        if self.raises is not None:
            raise self.raises
        some = messages[: self.takes] if self.trouble else messages
        self.taken += some
        return Sent([each.number for each in some], self.trouble)

    async def close(self) -> None:
        self.closed = True


class Kit:
    """A coordinator with events, and routers that deliver them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.meta = MemoryMetadata(self.clock)
        self.targets = {name: Target() for name in TARGETS}
        self.metrics = Metrics("router")
        self.posted = 0

    def router(self, name: str = "r1", meta: Metadata | None = None) -> Delivery:
        def make(target: EventTarget, _: Metadata, agent: str) -> Target:
            assert agent == "data-putter/1.2"
            return self.targets[target.name]

        made = Identity(name, name, "1.2")
        rng = random.Random(1)
        return Delivery(meta or self.meta, TARGETS, self.clock, rng, self.metrics, made, make)

    async def post(self, count: int, target: str = "hook", bucket: str = BUCKET) -> None:
        rule = Rule("one", target, "arn", ())
        posts: list[Post] = []
        for _ in range(count):
            posts.append(of_test(rule, bucket, self.posted, ""))
            self.posted += 1
        await self.meta.outbox.post(bucket, posts)

    async def waiting(self, bucket: str = BUCKET) -> dict[str, int]:
        return {each.target: each.waiting for each in await self.meta.outbox.queues(bucket)}

    def moved(self, name: str, target: str = "hook") -> float:
        return metric(self.metrics, f"putter_events_{name}", target=target)


async def look(delivery: Delivery) -> None:
    """One round, until it has come to its end."""
    delivery._look_at = 0.0
    await delivery.round()
    await delivery.settled()


async def test_everything_that_waits_is_delivered_in_order() -> None:
    kit = Kit()
    delivery = kit.router()
    await look(delivery)
    await kit.post(250)
    await kit.post(3, "log", "films")
    await look(delivery)
    assert [each.number for each in kit.targets["hook"].taken] == list(range(1, 251))
    assert len(kit.targets["log"].taken) == 3
    assert await kit.waiting() == await kit.waiting("films") == {}
    assert kit.moved("delivered_total") == 250
    assert kit.moved("failed_total") == 0
    await look(delivery)
    assert kit.moved("waiting") == 0
    assert delivery.troubles == {}


async def test_a_message_names_the_owner_of_its_bucket() -> None:
    kit = Kit()
    made = {"created": {"ms": 1, "owner": "ann", "location": ""}}
    await kit.meta.buckets.change(BucketSettings(BUCKET, 5, 1, made))
    event = Event(PUT, BUCKET, "a", 1, 2)
    await kit.meta.outbox.post(BUCKET, [Post("hook", msgspec.msgpack.encode(event))])
    await look(kit.router())
    (message,) = kit.targets["hook"].taken
    assert b'"ownerIdentity":{"principalId":"ann"}' in message.body


async def test_a_target_that_refuses_is_asked_less_and_less_often_and_holds_up_no_other() -> None:
    kit = Kit()
    delivery = kit.router()
    hook = kit.targets["hook"]
    hook.trouble, hook.takes = "it answers 503", 2
    await kit.post(5)
    await kit.post(1, "log")
    with capture_logs() as logs:
        await look(delivery)
    assert [each["log_level"] for each in logs] == ["warning"]
    assert await kit.waiting() == {"hook": 3}
    assert len(kit.targets["log"].taken) == 1
    hook.takes = 0
    pauses_ms = []
    for _ in range(12):
        began_ms, calls = kit.clock.monotonic_ms(), hook.calls
        while hook.calls == calls:
            kit.clock.advance(50)
            await look(delivery)
        pauses_ms.append(kit.clock.monotonic_ms() - began_ms)
    assert pauses_ms[0] <= 500
    assert pauses_ms[4] > 2 * pauses_ms[1]
    assert RETRY_MS_MAX / 2 <= pauses_ms[-1] <= RETRY_MS_MAX + 100
    trouble = delivery.troubles[Address(BUCKET, "hook")]
    assert (trouble.reason, trouble.failures) == ("it answers 503", 13)
    assert kit.moved("failed_total") == 13
    await look(delivery)
    assert kit.moved("waiting") == 3

    hook.trouble = ""
    kit.clock.advance(RETRY_MS_MAX + 100)
    with capture_logs() as logs:
        await look(delivery)
    assert [each["event"] for each in logs] == ["a target takes events again"]
    assert [each.number for each in hook.taken] == [1, 2, 3, 4, 5], "none twice"
    assert delivery.troubles == {}


async def test_a_target_that_takes_some_is_asked_again_soon() -> None:
    kit = Kit()
    delivery = kit.router()
    hook = kit.targets["hook"]
    hook.trouble, hook.takes = "it answers 503", 2
    await kit.post(40)
    with capture_logs() as logs:
        for _ in range(20):
            await look(delivery)
            kit.clock.advance(RETRY_MS_MIN)
    assert await kit.waiting() == {}
    assert [each.number for each in hook.taken] == list(range(1, 41))
    assert len(logs) == 1, "it is told once"


async def test_many_buckets_of_a_target_that_hangs_do_not_keep_others_from_theirs() -> None:
    kit = Kit()
    delivery = kit.router()
    kit.targets["hook"].trouble = "it does not answer"
    for number in range(64):
        await kit.post(1, bucket=f"a-{number:02}")
    await look(delivery)
    await kit.post(1, "log", "z-films")
    kit.clock.advance(RETRY_MS_MAX)
    await look(delivery)
    assert len(kit.targets["log"].taken) == 1


async def test_one_router_delivers_and_another_one_takes_over() -> None:
    kit = Kit()
    one, other = kit.router("r1"), kit.router("r2")
    await look(one)
    await kit.post(1)
    await look(other)
    assert kit.targets["hook"].taken == []
    await look(one)
    assert len(kit.targets["hook"].taken) == 1
    await kit.post(1)
    await one.stop()
    assert kit.targets["hook"].closed
    await look(other)
    assert len(kit.targets["hook"].taken) == 2


async def test_what_a_router_sent_and_could_not_take_off_comes_again() -> None:
    kit = Kit()
    delivery = kit.router()
    await kit.post(1)
    done = kit.meta.outbox.done

    async def dies(*_: Any) -> None:
        raise MetadataUnavailable("Redis is away")

    kit.meta.outbox.done = dies  # type: ignore[method-assign]
    await look(delivery)
    assert delivery.troubles[Address(BUCKET, "hook")].reason == "Redis is away"
    kit.meta.outbox.done = done  # type: ignore[method-assign]
    kit.clock.advance(RETRY_MS_MAX)
    await look(delivery)
    assert [each.number for each in kit.targets["hook"].taken] == [1, 1], "at least once"
    assert await kit.waiting() == {}


async def test_a_sender_that_fails_unexpectedly_is_tried_again() -> None:
    kit = Kit()
    delivery = kit.router()
    await kit.post(1)
    kit.targets["hook"].raises = ZeroDivisionError("a bug")
    with capture_logs() as logs:
        await look(delivery)
    assert any(each["log_level"] == "error" for each in logs)
    kit.targets["hook"].raises = None
    kit.clock.advance(RETRY_MS_MAX)
    await look(delivery)
    assert await kit.waiting() == {}


async def test_a_target_that_nobody_named_keeps_its_events() -> None:
    kit = Kit()
    delivery = kit.router()
    await kit.post(2, "unknown")
    await look(delivery)
    assert await kit.waiting() == {"unknown": 2}
    assert "no such target" in delivery.troubles[Address(BUCKET, "unknown")].reason
    assert kit.moved("waiting", "unknown") == 2


async def test_a_look_that_took_long_does_not_put_the_next_one_off_for_long() -> None:
    kit = Kit()
    delivery = kit.router()
    loop = asyncio.get_running_loop()
    buckets, now_s = kit.meta.outbox.buckets, loop.time()

    async def slow() -> list[str]:
        nonlocal now_s
        now_s += 60
        return await buckets()

    kit.meta.outbox.buckets = slow  # type: ignore[method-assign]
    with patch.object(loop, "time", lambda: now_s):
        await look(delivery)
    assert now_s < delivery._look_at <= now_s + 10


async def test_what_had_to_go_is_counted_and_told_once() -> None:
    kit = Kit()
    delivery = kit.router()
    kit.targets["hook"].trouble = "down"
    for n in range(5):
        await kit.meta.outbox.post(BUCKET, [Post("hook", _test(n), waiting_max=3)])
    with capture_logs() as logs:
        await look(delivery)
        await look(delivery)
    assert [each["dropped"] for each in logs if "dropped" in each] == [2]
    assert kit.moved("dropped") == 2


def _test(n: int) -> bytes:
    return of_test(Rule("one", "hook", "arn", ()), BUCKET, n, "").body


async def test_a_stream_of_the_store_is_added_to() -> None:
    kit = Kit()
    sender = sender_to(TARGETS["log"], kit.meta, "agent")
    messages = [Message(n, f"s3:{TEST}", "photos/a", b"%d" % n) for n in range(7)]
    assert await sender.send(messages) == Sent(list(range(7)))
    told = kit.meta.snapshot().streams["told"]
    assert [each["message"] for each in told] == [b"2", b"3", b"4", b"5", b"6"]
    assert told[0] == {"event": b"s3:TestEvent", "key": b"photos/a", "message": b"2"}
    kit.meta.down = True
    sent = await sender.send(messages)
    assert (sent.done, bool(sent.trouble)) == ([], True)
    await sender.close()


@pytest.mark.parametrize("down", [True, False])
async def test_a_round_without_redis_changes_nothing(down: bool) -> None:
    kit = Kit()
    delivery = kit.router()
    kit.meta.down = down
    if down:
        with pytest.raises(MetadataUnavailable):
            await delivery.round()
    else:
        await look(delivery)
    await delivery.stop()
