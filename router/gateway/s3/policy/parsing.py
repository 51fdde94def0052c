"""Reads a policy: JSON of known elements only. What is not evaluated is refused, never ignored.

Principals are owners of access keys. ``"*"`` is everybody, with a key or without; an owner is
named by ``arn:aws:iam::ann:root`` or ``ann``, or by the canonical ID that listings tell of her.

(AWS: IAM user guide, "IAM JSON policy elements reference"; S3 user guide, "Bucket policies".)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from common.limits import S3_BUCKET_POLICY_BYTES_MAX
from router.gateway.s3.failures import S3Error
from router.gateway.s3.policy.actions import KNOWN, ON_OBJECTS
from router.gateway.s3.policy.conditions import (
    Condition,
    ConditionInvalid,
    condition_of,
    key_of,
    unknown_variables,
)
from router.gateway.s3.policy.model import Policy, Principals, Statement
from router.gateway.s3.policy.patterns import Pattern, PatternInvalid, pattern_of

_ARN: Final = "arn:aws:s3:::"
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_TOP: Final = frozenset({"Version", "Id", "Statement"})
_PAIRS: Final = (
    ("Principal", "NotPrincipal"),
    ("Action", "NotAction"),
    ("Resource", "NotResource"),
)
_ELEMENTS: Final = frozenset(
    {"Sid", "Effect", "Condition", *(name for pair in _PAIRS for name in pair)}
)
_OWNER: Final = re.compile(
    r"(?:arn:aws:iam::([A-Za-z0-9._@+-]{1,64}):root|([A-Za-z0-9._@+-]{1,64}))"
)
_CANONICAL_ID: Final = re.compile(r"[0-9a-f]{64}")
_SHOWN_CHARS_MAX: Final = 128
_SEARCHED_CHARS_MAX: Final = 1_024
"""Of all patterns together; with a header as long as one can be that takes some 20 ms."""

_Meant = tuple[Pattern, frozenset[str]]
"""A pattern, and what it fits: ``bucket``, ``object`` or both."""


def parse_policy(document: bytes, bucket: str) -> Policy:
    """Read a policy.

    Args:
        document: JSON.
        bucket: whose it shall be.

    Raises:
        S3Error: ``MalformedPolicy``; the message says what in it.
    """
    if len(document) > S3_BUCKET_POLICY_BYTES_MAX:
        _refuse("Policy exceeds the maximum allowed document size.")
    try:
        told = json.loads(document.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError):
        _refuse("Policies must be valid JSON and the first byte must be '{'")
    if not isinstance(told, dict):
        _refuse("Policies must be valid JSON and the first byte must be '{'")
    _only(told, _TOP)
    version = told.get("Version", _VERSIONS[-1])
    if version not in _VERSIONS:
        _refuse("The policy must contain a valid version string")
    if not isinstance(told.get("Id", ""), str):
        _refuse("Id must be a string")
    listed: Any = told.get("Statement")
    statements: list[Any] = listed if isinstance(listed, list) else [listed]
    if not statements or not all(isinstance(each, dict) for each in statements):
        _refuse("Missing required field Statement, or it is neither an object nor a list of some")
    sids = [each["Sid"] for each in statements if "Sid" in each]
    if not all(isinstance(each, str) for each in sids):
        _refuse("Sid must be a string")
    if len(set(sids)) < len(sids):
        _refuse("Statement IDs (SID) in a single policy must be unique")
    variables = version == _VERSIONS[0]
    policy = Policy(tuple(_statement(each, bucket, variables=variables) for each in statements))
    _check_work(policy)
    return policy


# -- inside --------------------------------------------------------------------------------


class _Twice(ValueError):
    """An element is there twice: which of the two would count?"""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _constant(_: str) -> NoReturn:
    raise ValueError("no number that JSON has")


def _statement(told: Mapping[str, Any], bucket: str, *, variables: bool) -> Statement:
    _only(told, _ELEMENTS)
    for one, other in _PAIRS:
        if (one in told) is (other in told):
            _refuse(f"A statement has one of {one} and {other}, and not both")
    effect = told.get("Effect")
    if effect not in ("Allow", "Deny"):
        _refuse(f"Invalid effect: {_shown(effect)}")
    others = "NotPrincipal" in told
    if others and effect == "Allow":
        _refuse("NotPrincipal goes with the effect Deny only")
    principals = _principals(told["NotPrincipal" if others else "Principal"])
    if others and principals.anyone:
        _refuse("NotPrincipal has no wildcards")
    other_actions, other_resources = "NotAction" in told, "NotResource" in told
    actions = _actions(told["NotAction" if other_actions else "Action"])
    resources = _resources(
        told["NotResource" if other_resources else "Resource"], bucket, variables=variables
    )
    if not other_actions and not other_resources:
        _check_together(actions, resources)
    return Statement(
        effect == "Allow",
        principals,
        others,
        tuple(pattern for pattern, _ in actions),
        other_actions,
        tuple(pattern for pattern, _ in resources),
        other_resources,
        tuple(_conditions(told.get("Condition", {}), variables=variables)),
    )


def _check_work(policy: Policy) -> None:
    """Refuse a policy that takes long to evaluate: a router does nothing else meanwhile."""
    patterns = [pattern for each in policy.statements for pattern in each.resources]
    patterns += [
        test.pattern
        for each in policy.statements
        for condition in each.conditions
        for test in condition.tests
        if test.pattern is not None
    ]
    if sum(pattern.searched for pattern in patterns) > _SEARCHED_CHARS_MAX:
        _refuse("Policy has too many characters between * and * with a ? among them")


def _principals(told: Any) -> Principals:
    if told == "*":
        return Principals(anyone=True)
    if not isinstance(told, dict) or not told:
        _refuse(f"Invalid principal in policy: {_shown(told)}")
    anyone = False
    owners: set[str] = set()
    ids: set[str] = set()
    for kind, value in told.items():
        if kind not in ("AWS", "CanonicalUser"):
            _refuse(f"Invalid principal in policy: {_shown(kind)}")
        for text in _texts(value, "Principal"):
            if kind == "AWS" and text == "*":
                anyone = True
                continue
            match = _OWNER.fullmatch(text)
            name = (match[1] or match[2]) if match is not None else ""
            if _CANONICAL_ID.fullmatch(name) and (kind == "AWS" or name == text):
                ids.add(name)
            elif kind == "AWS" and name:
                owners.add(name)
            else:
                _refuse(f"Invalid principal in policy: {_shown(text)}")
    return Principals(anyone, frozenset(owners), frozenset(ids))


def _actions(told: Any) -> list[_Meant]:
    """The actions, each with what it is about."""
    found = []
    for text in _texts(told, "Action"):
        pattern = pattern_of(text, lowered=True)
        kinds = frozenset(
            "object" if action in ON_OBJECTS else "bucket"
            for action in KNOWN
            if pattern.fits(f"s3:{action}", {})
        )
        if not kinds or (text != "*" and not text.lower().startswith("s3:")):
            _refuse(f"Policy has invalid action: {_shown(text)}")
        found.append((pattern, kinds))
    return found


def _resources(told: Any, bucket: str, *, variables: bool) -> list[_Meant]:
    """The resources, each with what it can be."""
    found = []
    for text in _texts(told, "Resource"):
        name = text.removeprefix(_ARN)
        rest = name.removeprefix(bucket)
        if (
            not text.startswith(_ARN)
            or not name.startswith(bucket)
            or rest[:1] not in ("", "/", "*")
        ):
            _refuse(f"Policy has invalid resource: {_shown(text)}")
        kinds = {"bucket"} if not rest else {"object"} if "/" in rest else {"bucket", "object"}
        try:
            pattern = pattern_of(name, variables=variables)
        except PatternInvalid as error:
            _refuse(str(error))
        unknown = unknown_variables(pattern)
        if unknown:
            _refuse(f"Policy has an invalid policy variable: {_shown(unknown[0])}")
        found.append((pattern, frozenset(kinds)))
    return found


def _check_together(actions: list[_Meant], resources: list[_Meant]) -> None:
    """Refuse an action that none of the resources can be the resource of."""
    there = frozenset().union(*(kinds for _, kinds in resources))
    if not all(kinds & there for _, kinds in actions):
        _refuse("Action does not apply to any resource(s) in statement")


def _conditions(told: Any, *, variables: bool) -> list[Condition]:
    if not isinstance(told, dict):
        _refuse("Condition must be an object")
    found = []
    for operator, keys in told.items():
        if not isinstance(keys, dict) or not keys:
            _refuse(f"Condition {_shown(operator)} must be an object with condition keys")
        if len({key_of(key) for key in keys}) < len(keys):
            _refuse(f"Condition {_shown(operator)} has the same condition key twice")
        for key, value in keys.items():
            try:
                found.append(
                    condition_of(
                        operator, key, _texts(value, key, scalars=True), variables=variables
                    )
                )
            except ConditionInvalid as error:
                _refuse(str(error))
    return found


def _texts(told: Any, what: str, *, scalars: bool = False) -> list[str]:
    """A text, or a list of some; where that is meant, numbers and truth values are texts too."""
    found = []
    for each in told if isinstance(told, list) else [told]:
        if isinstance(each, str):
            found.append(each)
        elif scalars and isinstance(each, bool):
            found.append("true" if each else "false")
        elif scalars and isinstance(each, int | float):
            found.append(str(each))
        else:
            _refuse(f"{_shown(what)} must be a string or a list of strings")
    if not found:
        _refuse(f"{_shown(what)} must not be empty")
    return found


def _only(told: Mapping[str, Any], names: frozenset[str]) -> None:
    unknown = sorted(told.keys() - names)
    if unknown:
        _refuse(f"Unknown field {_shown(unknown[0])}")


def _shown(told: Any) -> str:
    return ascii(told)[:_SHOWN_CHARS_MAX]


def _refuse(why: str) -> NoReturn:
    raise S3Error("MalformedPolicy", why)
