"""Conditions of a policy: an operator, a key, and values of which one has to fit. Pure.

```
"IpAddress":                  {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]}
"StringNotLikeIfExists":      {"s3:prefix": "home/${aws:username}/*"}
"ForAllValues:StringEquals":  {"s3:RequestObjectTagKeys": ["project", "stage"]}
"StringEquals":               {"s3:ExistingObjectTag/stage": "public"}
```

| | the request has no value for the key | it has some |
|---|---|---|
| an operator | does not hold | one of them fits |
| with ``Not`` | holds | none of them fits |
| ``…IfExists`` | holds | as without it |
| ``ForAnyValue:`` | does not hold | one of them fits; with ``Not``: one does not |
| ``ForAllValues:`` | holds | all of them fit; with ``Not``: none does |
| ``Null`` | holds if ``true`` | holds if ``false`` |

A key is compared only by operators for what it is: addresses as addresses, numbers as numbers. A
value of a request that is none of the kind fits nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from router.gateway.s3.policy.patterns import Pattern, PatternInvalid, Values, pattern_of
from router.gateway.s3.tags import KEY_CHARS_MAX

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

KEYS: Final[Mapping[str, frozenset[str]]] = {
    "aws:currenttime": frozenset({"Date"}),
    "aws:epochtime": frozenset({"Date", "Numeric"}),
    "aws:principaltype": frozenset({"String"}),
    "aws:referer": frozenset({"String"}),
    "aws:securetransport": frozenset({"Bool"}),
    "aws:sourceip": frozenset({"Ip"}),
    "aws:useragent": frozenset({"String"}),
    "aws:username": frozenset({"String"}),
    "s3:authtype": frozenset({"String"}),
    "s3:delimiter": frozenset({"String"}),
    "s3:max-keys": frozenset({"Numeric"}),
    "s3:prefix": frozenset({"String"}),
    "s3:requestobjecttagkeys": frozenset({"String"}),
    "s3:signatureage": frozenset({"Numeric"}),
    "s3:signatureversion": frozenset({"String"}),
    "s3:versionid": frozenset({"String"}),
    "s3:x-amz-acl": frozenset({"String"}),
    "s3:x-amz-content-sha256": frozenset({"String"}),
    "s3:x-amz-server-side-encryption": frozenset({"String"}),
    "s3:x-amz-server-side-encryption-customer-algorithm": frozenset({"String"}),
}
"""The keys that there are, in lower case, and the kinds of operators that compare them; beside
those of single tags."""
EXISTING_TAG: Final = "s3:existingobjecttag/"
REQUEST_TAG: Final = "s3:requestobjecttag/"
"""What the keys of single tags begin with. Behind it stands the key of the tag, as it is."""
REQUEST_TAG_KEYS: Final = "s3:requestobjecttagkeys"

_TAG_KINDS: Final = frozenset({"String"})
_QUANTIFIED: Final = re.compile(r"(?:(ForAnyValue|ForAllValues):)?([A-Za-z]+?)(IfExists)?")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


class ConditionInvalid(ValueError):
    """A condition that is none; the message says why."""


@dataclass(frozen=True)
class Test:
    """One value of a condition.

    Attributes:
        fits: whether a value of a request fits it.
        pattern: what it is, if it is a text.
        network: what it is, if it is one.
    """

    fits: Callable[[str, Values], bool]
    pattern: Pattern | None = None
    network: Network | None = None


@dataclass(frozen=True)
class Condition:
    """A condition.

    Attributes:
        operator: without what stands around it; that of ``StringNotLike`` is ``StringLike``.
        key: as `key_of` has it.
        tests: its values.
        negated: whether none of them may fit.
        if_exists: whether it holds where the request has no value.
        quantifier: ``ForAnyValue``, ``ForAllValues`` or "".
    """

    operator: str
    key: str
    tests: tuple[Test, ...]
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""

    def holds(self, values: Values) -> bool:
        """Whether it holds.

        Args:
            values: of the request.
        """
        found = values.get(self.key, ())
        if self.operator == "Null":
            return self._fit("false" if found else "true", values)
        if self.quantifier == "ForAnyValue":
            return any(self._fit(each, values) is not self.negated for each in found)
        if self.quantifier == "ForAllValues":
            return all(self._fit(each, values) is not self.negated for each in found)
        if not found:
            return self.if_exists or self.negated
        return any(self._fit(each, values) for each in found) is not self.negated

    def _fit(self, value: str, values: Values) -> bool:
        return any(test.fits(value, values) for test in self.tests)


def condition_of(name: str, key: str, texts: list[str], *, variables: bool) -> Condition:
    """Read a condition.

    Args:
        name: of the operator, as the policy has it.
        key: the same.
        texts: its values.
        variables: whether ``${…}`` is a variable.

    Raises:
        ConditionInvalid: it is not one that is evaluated here.
    """
    match = _QUANTIFIED.fullmatch(name)
    known = _OPERATORS.get(match[2]) if match is not None else None
    if match is None or known is None or (match[3] and match[2] == "Null"):
        raise ConditionInvalid(f"Invalid Condition type : {name[:64]}")
    if match[1] and match[2] == "Null":
        raise ConditionInvalid(f"Invalid Condition type : {name[:64]}")
    asked = key_of(key)
    kinds = _TAG_KINDS if _is_of_tag(asked) else KEYS.get(asked)
    if kinds is None:
        raise ConditionInvalid(f"Policy has an invalid condition key: {key[:64]}")
    if known.kind and known.kind not in kinds:
        raise ConditionInvalid(
            f"{name[:64]} cannot compare {key[:64]}, whose operators begin with "
            f"{' or '.join(sorted(kinds))}"
        )
    tests = tuple(known.read(text, variables=variables) for text in texts)
    return Condition(known.positive, asked, tests, known.negated, bool(match[3]), match[1] or "")


def key_of(text: str) -> str:
    """A key as `Condition` has it: in lower case, but for the key of a tag."""
    name, slash, tag = text.partition("/")
    return f"{name.lower()}{slash}{tag}"


def unknown_variables(pattern: Pattern) -> list[str]:
    """The variables of a pattern that stand for no key that there is, or for one of tags."""
    return [key for key in pattern.variables if key not in KEYS or key == REQUEST_TAG_KEYS]


def address(text: str) -> IpAddress | None:
    """An address; one of version 4 in the form of version 6 is one of version 4.

    Args:
        text: as a socket or a policy has it.

    Returns:
        It, or None: it is none.
    """
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


# -- inside --------------------------------------------------------------------------------


def _is_of_tag(key: str) -> bool:
    name, slash, tag = key.partition("/")
    return name + slash in (EXISTING_TAG, REQUEST_TAG) and 1 <= len(tag) <= KEY_CHARS_MAX


@dataclass(frozen=True)
class _Operator:
    """What an operator is.

    Attributes:
        kind: of what it compares; "" for anything.
        positive: its name without ``Not``.
        negated: whether it has one.
        read: makes a test of a value.
    """

    kind: str
    positive: str
    negated: bool
    read: _Read


_Read = Callable[..., Test]


def _texts(*, wildcards: bool = False, lowered: bool = False) -> _Read:
    def read(text: str, *, variables: bool) -> Test:
        try:
            pattern = pattern_of(text, wildcards=wildcards, variables=variables, lowered=lowered)
        except PatternInvalid as error:
            raise ConditionInvalid(str(error)) from None
        unknown = unknown_variables(pattern)
        if unknown:
            raise ConditionInvalid(f"Policy has an invalid policy variable: {unknown[0][:64]}")
        return Test(pattern.fits, pattern=pattern)

    return read


def _numbers(compare: Callable[[Any, Any], bool]) -> _Read:
    return _compared(_number, compare, "a number")


def _dates(compare: Callable[[Any, Any], bool]) -> _Read:
    return _compared(_date, compare, "a date")


def _compared(
    parse: Callable[[str], Decimal | None], compare: Callable[[Any, Any], bool], what: str
) -> _Read:
    def read(text: str, *, variables: bool) -> Test:
        del variables  # such a value has none
        bound = parse(text)
        if bound is None:
            raise ConditionInvalid(f"Policy has a condition value that is not {what}: {text[:64]}")

        def fits(value: str, _: Values) -> bool:
            found = parse(value)
            return found is not None and compare(found, bound)

        return Test(fits)

    return read


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> Decimal | None:
    """Seconds since 1970, of an ISO 8601 date or of themselves; without a zone it is UTC."""
    if _SECONDS.fullmatch(text):
        return Decimal(text)
    try:
        date = datetime.fromisoformat(text)
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    since = date - datetime(1970, 1, 1, tzinfo=UTC)
    return Decimal(since.days * 86_400 + since.seconds) + Decimal(since.microseconds) / 1_000_000


def _truth(text: str, *, variables: bool) -> Test:
    del variables
    wanted = text.lower()
    if wanted not in ("true", "false"):
        raise ConditionInvalid(
            f"Policy has a condition value that is neither true nor false: {text[:64]}"
        )
    return Test(lambda value, _: value.lower() == wanted)


def _network(text: str, *, variables: bool) -> Test:
    del variables
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConditionInvalid(f"Policy has an invalid IP address: {text[:64]}") from None
    if isinstance(network, ipaddress.IPv6Network):
        if getattr(network.network_address, "scope_id", None) is not None:
            raise ConditionInvalid(f"Policy has an invalid IP address: {text[:64]}")
        if network.subnet_of(_MAPPED):
            inside = network.network_address.ipv4_mapped
            assert inside is not None
            network = ipaddress.ip_network((inside, network.prefixlen - _MAPPED.prefixlen))
    held = network

    def fits(value: str, _: Values) -> bool:
        found = address(value)
        return found is not None and found.version == held.version and found in held

    return Test(fits, network=held)


def _operators() -> dict[str, _Operator]:
    pairs: dict[str, tuple[str, str, _Read]] = {
        "StringEquals": ("String", "StringNotEquals", _texts()),
        "StringEqualsIgnoreCase": ("String", "StringNotEqualsIgnoreCase", _texts(lowered=True)),
        "StringLike": ("String", "StringNotLike", _texts(wildcards=True)),
        "NumericEquals": ("Numeric", "NumericNotEquals", _numbers(lambda a, b: a == b)),
        "NumericLessThan": ("Numeric", "", _numbers(lambda a, b: a < b)),
        "NumericLessThanEquals": ("Numeric", "", _numbers(lambda a, b: a <= b)),
        "NumericGreaterThan": ("Numeric", "", _numbers(lambda a, b: a > b)),
        "NumericGreaterThanEquals": ("Numeric", "", _numbers(lambda a, b: a >= b)),
        "DateEquals": ("Date", "DateNotEquals", _dates(lambda a, b: a == b)),
        "DateLessThan": ("Date", "", _dates(lambda a, b: a < b)),
        "DateLessThanEquals": ("Date", "", _dates(lambda a, b: a <= b)),
        "DateGreaterThan": ("Date", "", _dates(lambda a, b: a > b)),
        "DateGreaterThanEquals": ("Date", "", _dates(lambda a, b: a >= b)),
        "Bool": ("Bool", "", _truth),
        "IpAddress": ("Ip", "NotIpAddress", _network),
        "Null": ("", "", _truth),
    }
    found: dict[str, _Operator] = {}
    for name, (kind, negative, read) in pairs.items():
        found[name] = _Operator(kind, name, negated=False, read=read)
        if negative:
            found[negative] = _Operator(kind, name, negated=True, read=read)
    return found


_OPERATORS: Final = _operators()
