"""Notification configurations: which documents are taken, how they are told, what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from common.event_targets import parse_targets
from router.events import Rules, read_event
from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.notification import (
    SKIP,
    get_notification,
    put_notification,
    rules_in,
    rules_tree,
)
from tests.node_kit import play
from tests.router_kit import Store
from tests.s3_call_kit import S3Calls, text
from tests.simulation.loop import World

ROOT = "NotificationConfiguration"
TARGETS = parse_targets(["hook=http://h/", "log=redis:?stream=told"])
HOOK, LOG = (each.arn for each in TARGETS.values())
PATH = "/photos?notification"


def queue(*inside: str, arn: str = HOOK, event: str = "s3:ObjectCreated:*") -> str:
    events = f"<Event>{event}</Event>" if event else ""
    arns = f"<Queue>{arn}</Queue>" if arn else ""
    return f"<QueueConfiguration>{arns}{events}{''.join(inside)}</QueueConfiguration>"


def filtered(*sides: tuple[str, str]) -> str:
    rules = "".join(
        f"<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>"
        for name, value in sides
    )
    return f"<Filter><S3Key>{rules}</S3Key></Filter>"


def body(*inside: str) -> bytes:
    return f"<{ROOT}>{''.join(inside)}</{ROOT}>".encode()


def read(*inside: str) -> Rules:
    return rules_in(parsed(body(*inside), ROOT), TARGETS)


def test_a_document_is_read_and_told() -> None:
    topic = (
        f"<TopicConfiguration><Id>two</Id><Topic>{LOG}</Topic>"
        "<Event>s3:ObjectRemoved:Delete</Event><Event>s3:ObjectTagging:*</Event>"
        f"{filtered(('Suffix', '.jpg'), ('prefix', ''))}</TopicConfiguration>"
    )
    one, two = rules = read(queue("<Id>one</Id>"), topic)
    assert (one.name, one.target, one.form, one.prefix, one.suffix) == (
        "one", "hook", "Queue", None, None,
    )  # fmt: skip
    assert (two.target, two.arn, two.form, two.prefix, two.suffix) == (
        "log", LOG, "Topic", "", ".jpg",
    )  # fmt: skip
    assert two.events == ("s3:ObjectRemoved:Delete", "s3:ObjectTagging:*")
    told = document(rules_tree(rules))
    assert rules_in(parsed(told, ROOT), TARGETS) == rules
    assert read() == ()
    assert len({each.name for each in read(queue(), queue(event="s3:ObjectRemoved:*"))}) == 2


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (("<CloudFunctionConfiguration/>",), "NotImplemented"),
        (("<EventBridgeConfiguration/>",), "NotImplemented"),
        (("<Unknown/>",), "MalformedXML"),
        ((queue(event=""),), "MalformedXML"),
        ((queue(arn=""),), "MalformedXML"),
        ((queue("<More/>"),), "MalformedXML"),
        ((queue("<Id>a</Id>", "<Id>b</Id>"),), "MalformedXML"),
        ((queue(arn="arn:putter:sqs::log:webhook"),), "InvalidArgument"),
        ((queue(arn="arn:aws:sqs:us-east-1:1:hook"),), "InvalidArgument"),
        ((queue(event="s3:ObjectCreated"),), "InvalidArgument"),
        ((queue(event="ObjectCreated:*"),), "InvalidArgument"),
        ((queue(event="s3:TestEvent"),), "InvalidArgument"),
        ((queue(event="s3:*"),), "InvalidArgument"),
        ((queue(event="s3:ObjectAcl:*"),), "InvalidArgument"),
        ((queue(event="s3:Replication:*"),), "NotImplemented"),
        ((queue(event="s3:ReducedRedundancyLostObject"),), "NotImplemented"),
        ((queue(filtered(("infix", "a"))),), "InvalidArgument"),
        ((queue(filtered(("prefix", "a"), ("Prefix", "b"))),), "InvalidArgument"),
        ((queue(filtered(("prefix", "a" * 1025))),), "InvalidArgument"),
        ((queue("<Filter><Other/></Filter>"),), "MalformedXML"),
        ((queue(f"<Id>{'a' * 256}</Id>"),), "InvalidArgument"),
        ((queue("<Id>a</Id>"), queue("<Id>a</Id>", event="s3:ObjectRemoved:*")), "InvalidArgument"),
        ((queue(), queue(arn=LOG)), "InvalidArgument"),
        ((queue(filtered(("prefix", "a"))), queue(filtered(("prefix", "ab")))), "InvalidArgument"),
        (tuple(queue(filtered(("prefix", f"{n:03}"))) for n in range(101)), "InvalidArgument"),
    ],
)
def test_what_cannot_be_is_refused(inside: tuple[str, ...], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(*inside)
    assert caught.value.code == code


def with_bucket(scene: Callable[[S3Calls, Store], Awaitable[None]]) -> None:
    async def opened(world: World) -> None:
        store = Store(world)
        await store.start()
        try:
            calls = S3Calls(store)
            calls.store = replace(calls.store, event_targets=TARGETS)
            await calls.directory.create("photos", "ann")
            await scene(calls, store)
        finally:
            await store.stop()

    play(opened)


def test_a_configuration_is_set_told_and_taken_away() -> None:
    async def scene(calls: S3Calls, store: Store) -> None:
        empty = text(await calls.ask(get_notification, "GET", PATH))
        assert "Configuration>" not in empty.replace(ROOT, "")
        both = body(
            queue("<Id>one</Id>", filtered(("prefix", "a"))),
            queue("<Id>two</Id>", filtered(("prefix", "b"))),
        )
        await calls.ask(put_notification, "PUT", PATH, both)
        told = text(await calls.ask(get_notification, "GET", PATH))
        assert told.count(HOOK) == 2
        assert "<Name>prefix</Name><Value>a</Value>" in told
        (waiting,) = await store.meta.outbox.first("photos", "hook", 10)
        assert read_event(waiting.body).name == "TestEvent", "one, however many rules name it"
        await calls.ask(put_notification, "PUT", PATH, both, {SKIP: "true"})
        assert len(await store.meta.outbox.first("photos", "hook", 10)) == 1
        await calls.ask(put_notification, "PUT", PATH, body())
        assert text(await calls.ask(get_notification, "GET", PATH)) == empty

    with_bucket(scene)


def test_what_is_refused_changes_nothing() -> None:
    async def scene(calls: S3Calls, store: Store) -> None:
        await calls.ask(put_notification, "PUT", PATH, body(queue("<Id>one</Id>")), {SKIP: "true"})
        wrong = body(queue(arn="arn:putter:sqs::nobody:redis"))
        assert await calls.refusal(put_notification, "PUT", PATH, wrong) == "InvalidArgument"
        assert await calls.refusal(put_notification, "PUT", PATH) == "MissingRequestBodyError"
        absent = "/absent?notification"
        assert await calls.refusal(get_notification, "GET", absent) == "NoSuchBucket"
        assert await calls.refusal(put_notification, "PUT", absent, body()) == "NoSuchBucket"
        assert "<Id>one</Id>" in text(await calls.ask(get_notification, "GET", PATH))
        assert await store.meta.outbox.buckets() == []

    with_bucket(scene)
