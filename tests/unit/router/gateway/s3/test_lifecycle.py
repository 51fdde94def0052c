"""Lifecycle rules: which documents are taken, how they are told, what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from common.errors import UsageError
from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.lifecycle import (
    delete_lifecycle,
    get_lifecycle,
    put_lifecycle,
    rules_in,
    rules_tree,
)
from router.lifecycle import Rule, kept, rules_of
from tests.node_kit import play
from tests.router_kit import Store
from tests.s3_call_kit import S3Calls
from tests.simulation.loop import World

ROOT = "LifecycleConfiguration"
ON = "<Status>Enabled</Status>"
DAYS = "<Expiration><Days>1</Days></Expiration>"
BASE = f"<Prefix/>{ON}"
TAG = "<Tag><Key>of</Key><Value>ann</Value></Tag>"
ABORT = (
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation>"
    "</AbortIncompleteMultipartUpload>"
)
MARKERS = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
COLD = "<StorageClass>GLACIER</StorageClass>"
ABOVE = "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>"
BELOW = "<ObjectSizeLessThan>5</ObjectSizeLessThan>"
PATH = "/photos?lifecycle"


def text(*inside: str) -> bytes:
    rules = "".join(f"<Rule>{each}</Rule>" for each in inside)
    return f"<{ROOT}>{rules}</{ROOT}>".encode()


def read(*inside: str) -> list[Rule]:
    return rules_in(parsed(text(*inside), ROOT))


def noncurrent(days: str = "<NoncurrentDays>2</NoncurrentDays>", newer: str = "") -> str:
    more = f"<NewerNoncurrentVersions>{newer}</NewerNoncurrentVersions>" if newer else ""
    return f"<NoncurrentVersionExpiration>{days}{more}</NoncurrentVersionExpiration>"


def test_a_document_is_read_kept_and_told() -> None:
    rules = read(
        f"<ID>one</ID><Prefix>logs/</Prefix>{ON}<Expiration><Days>30</Days></Expiration>",
        "<ID>two</ID><Filter><Prefix>tmp/</Prefix></Filter><Status>Disabled</Status>"
        "<Expiration><Date>2026-01-02T00:00:00.000Z</Date></Expiration>",
        f"<ID>three</ID><Filter/>{ON}{MARKERS}{noncurrent(newer='5')}{ABORT}",
        f"<ID>four</ID><Filter>{TAG}</Filter>{ON}{DAYS}",
        f"<ID>five</ID><Filter><And><Prefix>a</Prefix>{TAG}"
        "<Tag><Key>k</Key><Value/></Tag><ObjectSizeGreaterThan>10</ObjectSizeGreaterThan>"
        f"<ObjectSizeLessThan>20</ObjectSizeLessThan></And></Filter>{ON}{noncurrent()}",
    )
    assert rules == [
        Rule("one", form="Prefix", prefix="logs/", days=30),
        Rule("two", enabled=False, prefix="tmp/", date_ms=1_767_312_000_000),
        Rule("three", markers=True, noncurrent_days=2, newer_kept=5, abort_days=3),
        Rule("four", tags={"of": "ann"}, days=1),
        Rule(
            "five",
            form="And",
            prefix="a",
            tags={"of": "ann", "k": ""},
            larger=10,
            smaller=20,
            noncurrent_days=2,
        ),
    ]
    assert rules_in(parsed(document(rules_tree(rules)), ROOT)) == rules
    assert rules_of(kept(rules)) == rules
    assert kept(rules)[3] == {"name": "four", "tags": {"of": "ann"}, "days": 1}


def test_a_rule_without_a_name_gets_one_of_its_own() -> None:
    names = {rule.name for rule in read(BASE + DAYS, BASE + DAYS)}
    assert len(names) == 2
    assert all(names)


def test_a_date_may_be_told_in_other_ways() -> None:
    for date in ("2026-01-02", "2026-01-02T01:00:00+01:00", " 2026-01-02T00:00:00Z "):
        [rule] = read(f"{BASE}<Expiration><Date>{date}</Date></Expiration>")
        assert rule.date_ms == 1_767_312_000_000


@pytest.mark.parametrize("value", [None, 7, "x", [{"days": 3}], [{"name": 1}]])
def test_a_setting_that_is_none_is_none(value: object) -> None:
    assert rules_of(value) is None


@pytest.mark.parametrize(
    ("code", "inside"),
    [
        ("MalformedXML", ON + DAYS),
        ("MalformedXML", f"<Filter/><Prefix/>{ON}{DAYS}"),
        ("MalformedXML", f"<Prefix/>{DAYS}"),
        ("MalformedXML", f"<Prefix/><Status>enabled</Status>{DAYS}"),
        ("MalformedXML", BASE + DAYS + DAYS),
        ("MalformedXML", BASE + DAYS + "<Other/>"),
        ("MalformedXML", f"{BASE}<Expiration/>"),
        ("MalformedXML", f"{BASE}<Expiration><Days>x</Days></Expiration>"),
        ("MalformedXML", f"{BASE}<Expiration><Days>1</Days><Date>2026-01-02</Date></Expiration>"),
        ("MalformedXML", f"{BASE}<Expiration><Date>20260102</Date></Expiration>"),
        ("MalformedXML", f"{BASE}<Expiration><Date>2026-13-02</Date></Expiration>"),
        ("MalformedXML", BASE + MARKERS.replace("true", "yes")),
        ("MalformedXML", BASE + noncurrent(days="")),
        ("MalformedXML", f"{BASE}<AbortIncompleteMultipartUpload/>"),
        ("MalformedXML", f"<Filter><Prefix>a</Prefix>{TAG}</Filter>{ON}{DAYS}"),
        ("MalformedXML", f"<Filter><And/></Filter>{ON}{DAYS}"),
        ("MalformedXML", f"<Filter><Size/></Filter>{ON}{DAYS}"),
        ("InvalidArgument", f"{BASE}<Expiration><Days>0</Days></Expiration>"),
        ("InvalidArgument", f"{BASE}<Expiration><Days>-1</Days></Expiration>"),
        ("InvalidArgument", f"{BASE}<Expiration><Date>2026-01-02T01:00:00Z</Date></Expiration>"),
        ("InvalidArgument", f"{BASE}<Expiration><Date>1969-12-31</Date></Expiration>"),
        ("InvalidArgument", BASE + noncurrent(days="<NoncurrentDays>0</NoncurrentDays>")),
        ("InvalidArgument", f"<ID>{'x' * 256}</ID>{BASE}{DAYS}"),
        ("InvalidRequest", BASE),
        ("InvalidRequest", f"<Filter/>{ON}{noncurrent(newer='101')}"),
        ("InvalidRequest", BASE + noncurrent(newer="1")),
        ("InvalidRequest", f"<Filter>{TAG}</Filter>{ON}{ABORT}"),
        ("InvalidRequest", f"<Filter>{TAG}</Filter>{ON}{MARKERS}"),
        ("InvalidRequest", f"<Filter><And>{TAG}{TAG}</And></Filter>{ON}{DAYS}"),
        ("InvalidRequest", f"<Prefix>{'x' * 1025}</Prefix>{ON}{DAYS}"),
        ("InvalidRequest", f"<Filter><And>{ABOVE}{BELOW}</And></Filter>{ON}{DAYS}"),
        ("InvalidRequest", f"<Filter>{BELOW}</Filter>{ON}{ABORT}"),
        ("InvalidTag", f"<Filter>{TAG.replace('of', 'aws:of')}</Filter>{ON}{DAYS}"),
        ("NotImplemented", f"{BASE}{DAYS}<Transition><Days>1</Days>{COLD}</Transition>"),
        (
            "NotImplemented",
            f"{BASE}{DAYS}<NoncurrentVersionTransition>{COLD}</NoncurrentVersionTransition>",
        ),
    ],
)
def test_what_is_refused(code: str, inside: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(inside)
    assert caught.value.code == code


def test_there_are_one_to_a_thousand_rules_with_names_of_their_own() -> None:
    rule = f"{BASE}{DAYS}"
    assert len(read(*[rule] * 1000)) == 1000
    for rules in ((), [rule] * 1001):
        with pytest.raises(S3Error, match="XML"):
            read(*rules)
    with pytest.raises(S3Error, match="unique"):
        read(*[f"<ID>one</ID>{rule}"] * 2)


def with_door(scene: Callable[[S3Calls], Awaitable[None]]) -> None:
    async def main(world: World) -> None:
        store = await Store(world, 2).start()
        await scene(S3Calls(store))
        await store.stop()

    play(main)


def test_rules_are_set_told_replaced_and_taken_away() -> None:
    async def scene(door: S3Calls) -> None:
        body = text(f"<ID>one</ID>{BASE}{DAYS}")
        absent = "NoSuchLifecycleConfiguration"
        assert await door.refusal(put_lifecycle, "PUT", PATH, body) == "NoSuchBucket"
        await door.directory.create("photos", "ann")
        assert await door.refusal(get_lifecycle, "GET", PATH) == absent
        assert (await door.ask(put_lifecycle, "PUT", PATH, body)).status == 200
        told = (await door.ask(get_lifecycle, "GET", PATH)).body
        assert isinstance(told, bytes)
        assert rules_in(parsed(told, ROOT)) == [Rule("one", form="Prefix", prefix="", days=1)]
        assert await door.refusal(put_lifecycle, "PUT", PATH, text(BASE)) == "InvalidRequest"
        assert await door.refusal(put_lifecycle, "PUT", PATH, body, {}) == "InvalidRequest"
        assert (await door.ask(get_lifecycle, "GET", PATH)).body == told
        for _ in range(2):
            assert (await door.ask(delete_lifecycle, "DELETE", PATH)).status == 204
            assert await door.refusal(get_lifecycle, "GET", PATH) == absent

    with_door(scene)


def test_rules_are_bounded_by_what_a_bucket_can_have() -> None:
    async def scene(door: S3Calls) -> None:
        await door.directory.create("photos", "ann")
        long = [f"<Prefix>{n}{'x' * 500}</Prefix>{ON}{DAYS}" for n in range(1000)]
        with pytest.raises(UsageError):
            await door.ask(put_lifecycle, "PUT", PATH, text(*long))

    with_door(scene)
