"""Rules about events: what they take, when they overlap, what is posted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from common.errors import IntegrityError
from common.meta.outbox import Post
from common.records import Tombstone
from common.tickets import format_id
from common.uploads import parts_of, uploads_of
from common.versions import Versioning, version_name, versions_of
from router.events import (
    COMPLETE,
    COPY,
    DELETE,
    EXPIRED,
    EXPIRY_MARKER,
    MARKER,
    PUT,
    SETTING,
    TAGGED,
    TEST,
    Event,
    Rule,
    Rules,
    kept,
    of_deletion,
    of_test,
    of_version,
    read_event,
    rules_of,
)
from router.origin import NOBODY, Origin, bind_origin
from tests.metadata_kit import BUCKET, stored, version

ALL = "s3:ObjectCreated:*"
BY = Origin("ann", "10.0.0.1", "request-1")


@dataclass(frozen=True)
class Policy:
    events: Rules = ()
    versioning: Versioning = ""


def rule(*events: str, name: str = "one", **more: Any) -> Rule:
    return Rule(name, "hook", "arn:putter:sqs::hook:webhook", events or (ALL,), **more)


def read(post: Post | None) -> Event:
    assert post is not None
    assert post.target == "hook"
    return read_event(post.body)


@pytest.mark.parametrize(
    ("events", "name", "key", "taken"),
    [
        ((ALL,), PUT, "in/a.jpg", True),
        ((ALL,), COMPLETE, "in/.jpg", True),
        ((ALL,), DELETE, "in/a.jpg", False),
        (("s3:ObjectCreated:Put",), COPY, "in/a.jpg", False),
        (("s3:ObjectRemoved:Delete", "s3:ObjectCreated:Put"), PUT, "in/a.jpg", True),
        ((ALL,), PUT, "a.jpg", False),
        ((ALL,), PUT, "in/a.png", False),
    ],
)
def test_a_rule_takes_kinds_and_names(
    events: tuple[str, ...], name: str, key: str, taken: bool
) -> None:
    assert rule(*events, prefix="in/", suffix=".jpg").takes(name, key) is taken


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (rule(), rule(), True),
        (rule(), rule("s3:ObjectCreated:Put"), True),
        (rule("s3:ObjectCreated:Copy"), rule("s3:ObjectCreated:Put"), False),
        (rule(prefix="in/"), rule(prefix="in/deep/"), True),
        (rule(prefix="in/"), rule(prefix="out/"), False),
        (rule(prefix="in/"), rule(), True),
        (rule(suffix=".jpg"), rule(suffix="a.jpg"), True),
        (rule(suffix=".jpg"), rule(suffix=".png"), False),
        (rule(prefix="in/", suffix=".jpg"), rule(prefix="in/", suffix=".png"), False),
        (rule(prefix="in/", suffix=".jpg"), rule(prefix="out/", suffix=".jpg"), False),
        (rule(prefix="in/"), rule(suffix=".png"), True),
    ],
)
def test_rules_overlap_where_one_event_could_be_for_both(
    one: Rule, other: Rule, overlap: bool
) -> None:
    assert one.overlaps(other) is other.overlaps(one) is overlap


def test_rules_are_kept_as_a_setting() -> None:
    rules = (rule(prefix=""), rule("s3:ObjectTagging:*", name="two", form="Topic", suffix="x"))
    settings = msgspec.msgpack.decode(msgspec.msgpack.encode({SETTING: kept(rules)}))
    assert rules_of(BUCKET, settings) == rules
    assert rules_of(BUCKET, {}) == ()
    with capture_logs() as logs:
        assert rules_of(BUCKET, {SETTING: [{"name": "of the future"}]}) == ()
    assert logs[0]["bucket"] == BUCKET


def test_a_version_is_posted_to_the_first_rule_that_takes_it() -> None:
    rules = (rule("s3:ObjectRemoved:*"), rule(name="two"), rule(name="three"))
    what = version("a", 10, stored("A"))
    event = read(of_version(Policy(rules), PUT, what, BY))
    created_ms = what.created_ms
    assert event == Event(
        PUT,
        BUCKET,
        "a",
        created_ms,
        10,
        1500,
        "e-tag",
        "",
        *("ann", "10.0.0.1", "request-1"),
        "two",
    )
    assert of_version(Policy(), PUT, what, BY) is None
    assert of_version(Policy((rule(prefix="b"),)), PUT, what, BY) is None
    tagged = read(of_version(Policy((rule("s3:ObjectTagging:*"),)), TAGGED, what, BY, stamp=30))
    assert (tagged.name, tagged.stamp) == (TAGGED, 30)


@pytest.mark.parametrize("hidden", [uploads_of(BUCKET), parts_of(BUCKET)])
def test_nobody_is_told_of_parts(hidden: str) -> None:
    policy = Policy((rule(ALL, "s3:ObjectRemoved:*"),))
    assert of_version(policy, PUT, version("a", 10, bucket=hidden), BY) is None
    assert of_deletion(policy, Tombstone(hidden, "a", 10, 0)) is None


def test_versions_are_told_by_their_ids() -> None:
    policy = Policy((rule(ALL, "s3:ObjectRemoved:*"),), "Enabled")
    name, place = version_name("a", 10), versions_of(BUCKET)
    event = read(of_version(policy, PUT, version(name, 12, bucket=place), NOBODY))
    assert (event.bucket, event.key, event.version, event.stamp) == (BUCKET, "a", format_id(10), 12)
    marker = read(of_version(policy, PUT, version(name, 12, bucket=place, etag=""), NOBODY))
    assert marker.name == MARKER
    gone = read(of_deletion(policy, Tombstone(place, name, 20, 5)))
    assert (gone.name, gone.key, gone.version, gone.stamp) == (DELETE, "a", format_id(10), 20)
    assert read(of_version(policy, PUT, version("a", 12), NOBODY)).version == "null"
    assert read(of_deletion(policy, Tombstone(BUCKET, "a", 20, 5))).version == "null"


async def test_what_a_lifecycle_rule_ends_is_told_as_that() -> None:
    policy = Policy((rule("s3:LifecycleExpiration:*"),))
    assert of_deletion(policy, Tombstone(BUCKET, "a", 20, 5)) is None
    bind_origin(Origin(request="r", expiry=True))
    assert read(of_deletion(policy, Tombstone(BUCKET, "a", 20, 5))).name == EXPIRED
    assert read(of_version(policy, PUT, version("a", 12, etag=""))).name == EXPIRY_MARKER


def test_a_target_is_told_of_a_new_rule() -> None:
    event = read(of_test(rule(), BUCKET, 7, "request-2"))
    assert (event.name, event.bucket, event.at_ms, event.request) == (TEST, BUCKET, 7, "request-2")


@pytest.mark.parametrize("body", [b"", b"\xff", msgspec.msgpack.encode(["a", "b"])])
def test_what_is_no_event_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_event(body)
