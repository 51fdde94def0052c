"""The policy of a form upload: what a form that it signs may say.

```
{"expiration": "2015-12-30T12:00:00.000Z",
 "conditions": [{"bucket": "photos"},                      the field has this value
                ["eq", "$acl", "private"],                 the same
                ["starts-with", "$key", "user/ann/"],      it begins with this
                ["content-length-range", 1, 1048576]]}     so many bytes may the file have
```

Every field of the form has to fulfil all conditions on it, and there must be one, but for
``policy``, ``x-amz-signature``, ``file``, and fields whose names begin with ``x-ignore-``.

(AWS: S3 API reference, "POST Policy".)
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from common.limits import S3_CONDITIONS_MAX, S3_POLICY_BYTES_MAX
from router.gateway.s3.failures import S3Error

_FREE: Final = frozenset({"policy", "x-amz-signature", "file"})
_IGNORED: Final = "x-ignore-"
_MATCHES: Final = ("eq", "starts-with")
_RANGE: Final = "content-length-range"
_BYTES: Final = re.compile(r"[0-9]{1,18}")
_EXPIRATION: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)


@dataclass(frozen=True)
class Condition:
    """What one field must be.

    Attributes:
        match: ``eq`` or ``starts-with``.
        field: its name in lower case.
        value: what it is compared with.
    """

    match: str
    field: str
    value: str

    def fits(self, text: str) -> bool:
        """Whether a field may say this; each of several media types has to fit."""
        if self.match == "eq":
            return text == self.value
        texts = text.split(",") if self.field == "content-type" else [text]
        return all(each.startswith(self.value) for each in texts)

    def __str__(self) -> str:
        return json.dumps([self.match, f"${self.field}", self.value])


@dataclass(frozen=True)
class FormPolicy:
    """A policy that was read.

    Attributes:
        expiration: from when on it is good for nothing.
        conditions: on fields.
        size_min: bytes that the file has at least.
        size_max: and at most; None: as many as any object may have.
    """

    expiration: datetime
    conditions: tuple[Condition, ...]
    size_min: int = 0
    size_max: int | None = None

    def check(self, fields: Mapping[str, str], now: datetime) -> None:
        """Hold a form to it.

        Args:
            fields: by names in lower case, the variables in them replaced; with ``bucket``, which
                the URL names, and without the file.
            now: the time, with its zone.

        Raises:
            S3Error: it expired, a condition is not fulfilled, or a field has none.
        """
        if now >= self.expiration:
            _refuse("Policy expired.")
        for condition in self.conditions:
            if not condition.fits(fields.get(condition.field, "")):
                _refuse(f"Policy Condition failed: {condition}")
        covered = _FREE.union(condition.field for condition in self.conditions)
        extra = sorted(
            name for name in fields if name not in covered and not name.startswith(_IGNORED)
        )
        # The bucket is no field of the form: a policy may leave it open.
        if extra and extra != ["bucket"]:
            _refuse(f"Extra input fields: {', '.join(each for each in extra if each != 'bucket')}")

    def check_size(self, size: int, *, whole: bool = True) -> None:
        """Hold the file to it.

        Args:
            size: bytes.
            whole: whether that is all; else as much of it as has come.

        Raises:
            S3Error: it is too large, or as a whole too small.
        """
        if self.size_max is not None and size > self.size_max:
            raise S3Error(
                "EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(self.size_max)
            )
        if whole and size < self.size_min:
            raise S3Error(
                "EntityTooSmall", ProposedSize=str(size), MinSizeAllowed=str(self.size_min)
            )


def parse_policy(text: str) -> FormPolicy:
    """Read the policy of a form.

    Args:
        text: the field: JSON in base 64.

    Raises:
        S3Error: it is none.
    """
    if len(text) > S3_POLICY_BYTES_MAX:
        raise S3Error("MaxPostPreDataLengthExceededError")
    try:
        told = json.loads(base64.b64decode(text.encode("ascii"), validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError):
        raise _malformed("it is not JSON in base 64") from None
    if not isinstance(told, dict):
        raise _malformed("it is not an object")
    unknown = sorted(told.keys() - {"expiration", "conditions"})
    if unknown:
        raise _malformed(f"unexpected: '{unknown[0][:64]}'")
    listed = told.get("conditions")
    if not isinstance(listed, list):
        raise _malformed("it has no list of conditions")
    conditions: list[Condition] = []
    size_min, size_max = 0, None
    for each in listed:
        if isinstance(each, list) and each[:1] == [_RANGE]:
            size_min, size_max = _range(each)
        else:
            conditions += _conditions(each)
        if len(conditions) > S3_CONDITIONS_MAX:
            raise _malformed(f"it has more than {S3_CONDITIONS_MAX} conditions")
    return FormPolicy(_expiration(told.get("expiration")), tuple(conditions), size_min, size_max)


def _conditions(told: Any) -> list[Condition]:
    """Those of one entry: an object may name several fields."""
    if isinstance(told, dict) and told:
        if all(isinstance(value, str) for value in told.values()):
            return [Condition("eq", name.lower(), value) for name, value in told.items()]
    elif isinstance(told, list) and len(told) == 3 and all(isinstance(each, str) for each in told):
        match, name, value = told
        if match.lower() in _MATCHES and name.startswith("$") and len(name) > 1:
            return [Condition(match.lower(), name[1:].lower(), value)]
    raise _malformed("a condition is neither an object nor a match of a field")


def _range(told: list[Any]) -> tuple[int, int]:
    # Some clients write the numbers as texts.
    bounds = [str(each) for each in told[1:] if isinstance(each, int | str)]
    if len(told) != 3 or not all(_BYTES.fullmatch(each) for each in bounds) or len(bounds) != 2:
        raise _malformed(f"{_RANGE} is not followed by two numbers of bytes")
    low, high = (int(each) for each in bounds)
    if low > high:
        raise _malformed(f"the two numbers of {_RANGE} are not in their order")
    return low, high


def _expiration(told: Any) -> datetime:
    match = _EXPIRATION.fullmatch(told) if isinstance(told, str) else None
    if match is not None:
        micros = int((match[2] or "0").ljust(6, "0")[:6])
        try:
            return datetime.fromisoformat(match[1]).replace(microsecond=micros, tzinfo=UTC)
        except ValueError:
            pass
    raise _malformed("it has no expiration like 2015-12-30T12:00:00.000Z")


def _refuse(why: str) -> NoReturn:
    raise S3Error("AccessDenied", f"Invalid according to Policy: {why}")


def _malformed(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")
