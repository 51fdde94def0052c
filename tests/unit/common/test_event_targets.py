"""Targets of events: which are understood, what is refused; nothing tells their secrets."""

from __future__ import annotations

import pytest

from common.errors import SettingInvalid
from common.event_targets import STREAM_LENGTH, EventTarget, by_arn, parse_targets

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://example.com", EventTarget("t", "webhook", "https://example.com")),
        (
            f"http://{SECRET}%40x@[::1]:8080/a?b=c",
            EventTarget("t", "webhook", "http://[::1]:8080/a?b=c", f"{SECRET}@x"),
        ),
        ("redis:?stream=told", EventTarget("t", "redis", "", stream="told")),
        (
            "redis://h:1/2?stream=a%20b&length=9",
            EventTarget("t", "redis", "redis://h:1/2", stream="a b", length_max=9),
        ),
        (
            "unix:///run/r.sock?stream=x",
            EventTarget("t", "redis", "unix:///run/r.sock", stream="x"),
        ),
    ],
)
def test_targets_are_read(url: str, wanted: EventTarget) -> None:
    found = parse_targets([f"t={url}"])["t"]
    assert found == wanted
    assert (found.url, found.token, found.stream) == (wanted.url, wanted.token, wanted.stream)
    assert found.length_max == wanted.length_max
    assert SECRET not in repr(found)


def test_targets_are_found_by_their_arns() -> None:
    targets = parse_targets(["hook=http://h/", "log-1=redis:?stream=told"])
    assert [each.arn for each in targets.values()] == [
        "arn:putter:sqs::hook:webhook",
        "arn:putter:sqs::log-1:redis",
    ]
    for each in targets.values():
        assert by_arn(targets, each.arn) == each
    assert by_arn(targets, "arn:putter:sqs::hook:redis") is None
    assert parse_targets([]) == {}
    assert targets["log-1"].length_max == STREAM_LENGTH


@pytest.mark.parametrize(
    "pairs",
    [
        ["hook"],
        [f"=http://{SECRET}@h/"],
        [f"a b=http://{SECRET}@h/"],
        [f"a=http://{SECRET}@h/", "a=http://h/"],
        [f"a=ftp://{SECRET}@h/"],
        [f"a=http://{SECRET}@h:port/"],
        [f"a=http://user:{SECRET}@h/"],
        [f"a=http://{SECRET}@h/#x"],
        ["a=http:///path"],
        [f"a=redis://:{SECRET}@h"],
        [f"a=redis://:{SECRET}@h?stream="],
        [f"a=redis://:{SECRET}@h?stream=x&length=0"],
        [f"a=redis://:{SECRET}@h?stream=x&more=1"],
        ["a=redis:?stream=putter:{counters}"],
        ["a="],
        [f"a=redis://:{SECRET}@h:port?stream=x"],
        [f"a=redis://:{SECRET}@?stream=x"],
    ],
)
def test_what_cannot_be_a_target_is_refused(pairs: list[str]) -> None:
    with pytest.raises(SettingInvalid) as caught:
        parse_targets(pairs)
    assert SECRET not in str(caught.value)
