"""Policies against an evaluator that is written down a second time, from the JSON itself."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.evaluation import evaluate
from router.gateway.s3.policy.model import Question, Verdict, Who
from router.gateway.s3.policy.parsing import parse_policy
from router.gateway.s3.policy.patterns import pattern_of
from router.gateway.s3.policy.public import is_public

ANN, BOB = Who("ann", "a" * 64), Who("bob", "b" * 64)
ACTIONS = ["GetObject", "GetObjectVersion", "PutObject", "DeleteObject"]
KEYS = ["a", "ab", "b/a", "home/ann/x", "home/bob/x", "*", "a/../b", "\n", ""]
WORDS = ["", "a", "ann", "home/", "home/ann/", "10.1.2.3", "*", "3", "30"]


def globbed(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern, one character after the other."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return globbed(pattern[1:], text) or (bool(text) and globbed(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and globbed(pattern[1:], text[1:])


def replaced(pattern: str, values: dict[str, list[str]]) -> str | None:
    """A pattern with the user's name; what is special in a name is made private characters."""
    if "${aws:username}" not in pattern:
        return pattern
    held = values.get("aws:username")
    return None if held is None else pattern.replace("${aws:username}", held[0])


def naive_test(operator: str, wanted: str, value: str, values: dict[str, list[str]]) -> bool:
    if operator.startswith("String"):
        text = replaced(wanted, values)
        if text is None:
            return False
        if operator == "StringEqualsIgnoreCase":
            return text.lower() == value.lower()
        return globbed(text, value) if operator == "StringLike" else text == value
    if operator == "IpAddress":
        try:
            return ipaddress.ip_address(value) in ipaddress.ip_network(wanted)
        except ValueError:
            return False
    if not value.isdigit():
        return False
    return int(value) < int(wanted) if operator == "NumericLessThan" else int(value) == int(wanted)


def naive_condition(name: str, key: str, wanted: list[str], values: dict[str, list[str]]) -> bool:
    found = values.get(key.lower(), [])
    if name == "Null":
        return any((each == "true") is (not found) for each in wanted)
    quantifier, _, operator = name.rpartition(":")
    exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    negated = "Not" in operator
    operator = operator.replace("Not", "")
    fits = [any(naive_test(operator, each, value, values) for each in wanted) for value in found]
    if quantifier == "ForAllValues":
        return not any(fits) if negated else all(fits)
    if quantifier == "ForAnyValue":
        return False in fits if negated else True in fits
    if not found:
        return exists or negated
    return not any(fits) if negated else any(fits)


def naive_applies(statement: dict[str, Any], question: Question) -> bool:
    values = {name: list(held) for name, held in question.values.items()}
    named = statement.get("Principal", statement.get("NotPrincipal"))
    inside = named == "*"
    if not inside and question.who is not None:
        inside = f"arn:aws:iam::{question.who.owner}:root" in named["AWS"]
    if inside is ("NotPrincipal" in statement):
        return False
    action = any(
        globbed(each.lower(), f"s3:{question.action}".lower())
        for each in statement.get("Action", statement.get("NotAction"))
    )
    if action is ("NotAction" in statement):
        return False
    texts = [
        replaced(each.removeprefix("arn:aws:s3:::"), values)
        for each in statement.get("Resource", statement.get("NotResource"))
    ]
    resource = any(each is not None and globbed(each, question.resource) for each in texts)
    if resource is ("NotResource" in statement):
        return False
    return all(
        naive_condition(name, key, wanted, values)
        for name, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def naive(policy: dict[str, Any], question: Question) -> Verdict:
    effects = {each["Effect"] for each in policy["Statement"] if naive_applies(each, question)}
    if "Deny" in effects:
        return Verdict.DENY
    return Verdict.ALLOW if "Allow" in effects else Verdict.NOTHING


def some(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(values, min_size=1, max_size=3)


STRING = st.sampled_from(
    ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase",
     "StringNotEqualsIgnoreCase"]
)  # fmt: skip
QUANTIFIER = st.sampled_from(["", "", "ForAnyValue:", "ForAllValues:"])
EXISTS = st.sampled_from(["", "IfExists"])
TEXTS = st.sampled_from([*WORDS, "home/*", "?", "a*n", "home/${aws:username}/", "${aws:username}"])


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, dict[str, list[str]]]:
    kind = draw(st.sampled_from(["string", "number", "ip", "null"]))
    around = draw(QUANTIFIER), draw(EXISTS)
    if kind == "string":
        key = draw(st.sampled_from(["s3:prefix", "s3:Delimiter", "aws:username", "aws:UserAgent"]))
        return {f"{around[0]}{draw(STRING)}{around[1]}": {key: draw(some(TEXTS))}}
    if kind == "number":
        operator = draw(st.sampled_from(["NumericEquals", "NumericNotEquals", "NumericLessThan"]))
        numbers = draw(some(st.sampled_from(["0", "3", "30", "31"])))
        return {f"{around[0]}{operator}{around[1]}": {"s3:max-keys": numbers}}
    if kind == "ip":
        operator = draw(st.sampled_from(["IpAddress", "NotIpAddress"]))
        networks = draw(some(st.sampled_from(["10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32"])))
        return {f"{around[0]}{operator}{around[1]}": {"aws:SourceIp": networks}}
    key = draw(st.sampled_from(["s3:prefix", "aws:username"]))
    return {"Null": {key: draw(some(st.sampled_from(["true", "false"])))}}


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    effect = draw(st.sampled_from(["Allow", "Deny"]))
    owners = {
        "AWS": draw(some(st.sampled_from([f"arn:aws:iam::{n}:root" for n in ("ann", "bob")])))
    }
    actions = some(st.sampled_from(["s3:*", "S3:getobject", "s3:Get*", "s3:?utObject", "*"]))
    resources = some(
        st.sampled_from(
            [f"arn:aws:s3:::photos{each}" for each in
             ("/*", "*", "/a", "/?", "/home/${aws:username}/*", "/*/x", "/a*b", "/**a")]
        )
    )  # fmt: skip
    told: dict[str, Any] = {"Effect": effect}
    if effect == "Deny" and draw(st.booleans()):
        told["NotPrincipal"] = owners
    else:
        told["Principal"] = draw(st.sampled_from(["*", owners]))
    told[draw(st.sampled_from(["Action", "NotAction"]))] = draw(actions)
    told[draw(st.sampled_from(["Resource", "NotResource"]))] = draw(resources)
    block: dict[str, Any] = {}
    for each in draw(st.lists(conditions(), max_size=2)):
        block |= each
    if block:
        told["Condition"] = block
    return told


POLICIES = st.fixed_dictionaries(
    {"Version": st.just("2012-10-17"), "Statement": st.lists(statements(), min_size=1, max_size=3)}
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    who = draw(st.sampled_from([None, ANN, BOB]))
    names = draw(st.sets(st.sampled_from(["s3:prefix", "s3:delimiter", "s3:max-keys"])))
    values = {
        name: draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)) for name in names
    }
    if who is not None:
        values["aws:username"] = [who.owner]
    if draw(st.booleans()):
        values["aws:sourceip"] = [draw(st.sampled_from(["10.1.2.3", "10.2.0.1", "2001:db8::1"]))]
    key = draw(st.sampled_from(KEYS))
    resource = f"photos/{key}" if key else "photos"
    return Question(who, draw(st.sampled_from(ACTIONS)), resource, values)


@given(POLICIES, st.lists(questions(), min_size=1, max_size=8))
def test_a_policy_says_what_its_words_say(policy: dict[str, Any], asked: list[Question]) -> None:
    read = parse_policy(json.dumps(policy).encode(), "photos")
    for question in asked:
        assert evaluate(read, question) is naive(policy, question)


@given(POLICIES, st.lists(questions(), min_size=1, max_size=8))
def test_what_is_not_public_lets_nobody_in_from_nowhere(
    policy: dict[str, Any], asked: list[Question]
) -> None:
    """Anonymous, and from an address that no policy of these names."""
    read = parse_policy(json.dumps(policy).encode(), "photos")
    for question in asked:
        values = {**question.values, "aws:sourceip": ["192.0.2.1"]}
        values.pop("aws:username", None)
        if evaluate(read, Question(None, question.action, question.resource, values)) is (
            Verdict.ALLOW
        ):
            assert is_public(read)


@given(
    st.text(alphabet="ab*?/", max_size=9),
    st.text(alphabet="ab*?/\n", max_size=12),
)
def test_wildcards(pattern: str, text: str) -> None:
    assert pattern_of(pattern).fits(text, {}) is globbed(pattern, text)


@given(st.text(alphabet="ab*?${}'", max_size=6), st.text(alphabet="ab*?$", max_size=6))
def test_what_stands_for_a_variable_is_taken_as_it_is(name: str, rest: str) -> None:
    pattern = pattern_of("${aws:username}/*", variables=True)
    assert pattern.fits(f"{name}/{rest}", {"aws:username": [name]})
    if name != "ab":
        assert not pattern.fits(f"ab/{rest}", {"aws:username": [name]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from(["*", "Allow", "s3:*", "arn:aws:s3:::photos/*", "2012-10-17"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["Version", "Statement", "Effect", "Principal", "AWS", "Action", "Resource",
             "Condition", "StringEquals", "s3:prefix", "NotAction", "Sid", "Id", "Bool"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON | st.binary(max_size=40))
def test_whatever_comes_is_a_policy_or_refused(told: Any) -> None:
    document = told if isinstance(told, bytes) else json.dumps(told).encode()
    code = "MalformedPolicy"
    try:
        parse_policy(document, "photos")
    except S3Error as error:
        code = error.code
    assert code == "MalformedPolicy"
