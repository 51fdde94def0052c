"""The policy of a form upload: what it lets through, and what each refusal says."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.failures import S3Error
from router.gateway.s3.form_policy import Condition, FormPolicy, parse_policy

# That of the S3 API reference, "Browser-Based Upload using HTTP POST", and its form.
EXAMPLE = {
    "expiration": "2015-12-30T12:00:00.000Z",
    "conditions": [
        {"bucket": "sigv4examplebucket"},
        ["starts-with", "$key", "user/user1/"],
        {"acl": "public-read"},
        {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/done.html"},
        ["starts-with", "$Content-Type", "image/"],
        {"x-amz-meta-uuid": "14365123651274"},
        {"x-amz-server-side-encryption": "AES256"},
        ["starts-with", "$x-amz-meta-tag", ""],
        {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
        {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
        {"x-amz-date": "20151229T000000Z"},
    ],
}
FIELDS = {
    "bucket": "sigv4examplebucket",
    "key": "user/user1/cat.jpg",
    "acl": "public-read",
    "success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/done.html",
    "content-type": "image/jpeg",
    "x-amz-meta-uuid": "14365123651274",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-meta-tag": "",
    "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-date": "20151229T000000Z",
    "policy": "as it is signed",
    "x-amz-signature": "as it is",
}
END = datetime(2015, 12, 30, 12, tzinfo=UTC)
BEFORE = END - timedelta(microseconds=1)


def packed(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def policy(*conditions: Any) -> FormPolicy:
    return parse_policy(packed({"expiration": "2015-12-30T12:00:00Z", "conditions": conditions}))


def refusal(rules: FormPolicy, fields: dict[str, str], now: datetime = BEFORE) -> str:
    with pytest.raises(S3Error) as caught:
        rules.check(fields, now)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    start = "Invalid according to Policy: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


def test_the_published_example_lets_its_form_through() -> None:
    rules = parse_policy(packed(EXAMPLE))
    assert (rules.expiration, len(rules.conditions)) == (END, 11)
    rules.check(FIELDS, BEFORE)
    rules.check(FIELDS | {"x-ignore-this": "x"}, BEFORE)


def test_it_ends_at_its_expiration() -> None:
    assert refusal(parse_policy(packed(EXAMPLE)), FIELDS, END) == "Policy expired."


@pytest.mark.parametrize(
    ("name", "value", "condition"),
    [
        ("bucket", "other", '["eq", "$bucket", "sigv4examplebucket"]'),
        ("key", "user/user2/cat.jpg", '["starts-with", "$key", "user/user1/"]'),
        ("key", "", '["starts-with", "$key", "user/user1/"]'),
        ("acl", "Public-read", '["eq", "$acl", "public-read"]'),
        ("content-type", "text/html", '["starts-with", "$content-type", "image/"]'),
        ("content-type", "image/png,text/html", '["starts-with", "$content-type", "image/"]'),
    ],
)
def test_each_condition_must_be_fulfilled(name: str, value: str, condition: str) -> None:
    told = refusal(parse_policy(packed(EXAMPLE)), FIELDS | {name: value})
    assert told == f"Policy Condition failed: {condition}"


def test_a_field_that_is_missing_does_not_fit() -> None:
    fields = {name: value for name, value in FIELDS.items() if name != "acl"}
    assert "$acl" in refusal(parse_policy(packed(EXAMPLE)), fields)


def test_several_media_types_fit_if_each_does() -> None:
    parse_policy(packed(EXAMPLE)).check(FIELDS | {"content-type": "image/png,image/gif"}, BEFORE)


def test_all_conditions_on_a_field_count() -> None:
    rules = policy(["starts-with", "$key", "a"], ["eq", "$key", "abc"])
    rules.check({"key": "abc"}, BEFORE)
    assert refusal(rules, {"key": "abd"}) == 'Policy Condition failed: ["eq", "$key", "abc"]'


def test_a_field_without_a_condition_is_refused() -> None:
    rules = policy({"key": "abc"})
    rules.check({"key": "abc", "bucket": "photos", "policy": "", "x-amz-signature": ""}, BEFORE)
    fields = {"key": "abc", "bucket": "photos", "x-amz-meta-b": "1", "acl": "private"}
    assert refusal(rules, fields) == "Extra input fields: acl, x-amz-meta-b"


def test_one_object_may_name_several_fields() -> None:
    assert policy({"Key": "a", "ACL": "b"}).conditions == (
        Condition("eq", "key", "a"),
        Condition("eq", "acl", "b"),
    )


@pytest.mark.parametrize("bounds", [(10, 20), ("10", "20")])
def test_a_file_has_its_bounds(bounds: tuple[Any, Any]) -> None:
    rules = policy(["content-length-range", *bounds])
    for size in (10, 20):
        rules.check_size(size)
    rules.check_size(0, whole=False)
    with pytest.raises(S3Error, match="EntityTooSmall") as small:
        rules.check_size(9)
    assert small.value.fields == {"ProposedSize": "9", "MinSizeAllowed": "10"}
    with pytest.raises(S3Error, match="EntityTooLarge") as large:
        rules.check_size(21, whole=False)
    assert large.value.fields == {"ProposedSize": "21", "MaxSizeAllowed": "20"}
    policy().check_size(2**60)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "not an object"),
        ({}, "no list of conditions"),
        ({"conditions": {}}, "no list of conditions"),
        ({"conditions": []}, "no expiration"),
        ({"conditions": [], "expiration": 7}, "no expiration"),
        ({"conditions": [], "expiration": "2015-12-30"}, "no expiration"),
        ({"conditions": [], "expiration": "2015-13-30T12:00:00Z"}, "no expiration"),
        ({"conditions": [], "expiration": "2015-12-30T12:00:00+01:00"}, "no expiration"),
        ({"conditions": [], "expirations": ""}, "unexpected: 'expirations'"),
        ({"conditions": ["eq"]}, "neither an object"),
        ({"conditions": [{}]}, "neither an object"),
        ({"conditions": [{"key": 1}]}, "neither an object"),
        ({"conditions": [["eq", "$key"]]}, "neither an object"),
        ({"conditions": [["eq", "key", "a"]]}, "neither an object"),
        ({"conditions": [["eq", "$", "a"]]}, "neither an object"),
        ({"conditions": [["ends-with", "$key", "a"]]}, "neither an object"),
        ({"conditions": [["eq", "$key", 1]]}, "neither an object"),
        ({"conditions": [["content-length-range", 1]]}, "two numbers"),
        ({"conditions": [["content-length-range", 1, 2, 3]]}, "two numbers"),
        ({"conditions": [["content-length-range", -1, 2]]}, "two numbers"),
        ({"conditions": [["content-length-range", 1, 2.5]]}, "two numbers"),
        ({"conditions": [["content-length-range", True, 2]]}, "two numbers"),
        ({"conditions": [["content-length-range", 3, 2]]}, "not in their order"),
        ({"conditions": [{f"f{n}": "" for n in range(1001)}]}, "more than 1000"),
    ],
)
def test_what_is_no_policy(told: Any, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_policy(packed(told))
    assert (caught.value.code, caught.value.status) == ("InvalidPolicyDocument", 400)
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["", "e", "!!!!", "ä", "eyJ9", packed(1) + "\n"])
def test_what_is_no_json_in_base_64(text: str) -> None:
    with pytest.raises(S3Error, match="InvalidPolicyDocument"):
        parse_policy(text)


def test_what_is_too_long() -> None:
    with pytest.raises(S3Error, match="MaxPostPreDataLengthExceededError"):
        parse_policy("A" * 70_000)
    deep = base64.b64encode(b"[" * 40_000).decode()
    with pytest.raises(S3Error, match="InvalidPolicyDocument"):
        parse_policy(deep)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
    | st.sampled_from(["eq", "starts-with", "content-length-range", "$key", "expiration"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["expiration", "conditions", "key"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(
    st.one_of(
        st.text(max_size=40),
        VALUES.map(packed),
        VALUES.map(lambda each: packed({"expiration": "2015-12-30T12:00:00Z", "conditions": each})),
        st.lists(VALUES, max_size=3).map(
            lambda each: packed({"expiration": "2015-12-30T12:00:00.5Z", "conditions": each})
        ),
    ),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)
def test_whatever_comes_is_a_policy_or_an_error(text: str, fields: dict[str, str]) -> None:
    try:
        rules = parse_policy(text)
    except S3Error:
        return
    covered = {condition.field for condition in rules.conditions}
    try:
        rules.check(fields, BEFORE)
    except S3Error:
        return
    assert {each for each in fields if not each.startswith("x-ignore-")} <= covered | {
        "bucket", "policy", "file", "x-amz-signature",
    }  # fmt: skip
