"""Locks as S3 tells them: read from headers and documents, told again. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import msgspec

from common.locks import DAYS_MAX, UNLOCKED, YEARS_MAX, Default, Hold, Lock, Mode
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error

MODE: Final = "x-amz-object-lock-mode"
UNTIL: Final = "x-amz-object-lock-retain-until-date"
HOLD: Final = "x-amz-object-lock-legal-hold"
ENABLED: Final = "x-amz-bucket-object-lock-enabled"
HEADERS: Final = frozenset({MODE, UNTIL, HOLD})
_MODES: Final = ("GOVERNANCE", "COMPLIANCE")
_HOLDS: Final = ("ON", "OFF")
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}")


def is_about_locks(name: str) -> bool:
    """Whether a parameter of a query would be one of these headers; it would count nowhere."""
    return name.lower() in HEADERS or name.lower() == ENABLED


def said_lock(headers: Mapping[str, str], now_ms: int) -> Lock:
    """The lock that a request gives the object which it makes; `UNLOCKED` if it says nothing.

    Args:
        headers: of the request; or the fields of a form.
        now_ms: wall clock, milliseconds since 1970.

    Raises:
        S3Error: ``InvalidArgument``.
    """
    mode, until, hold = (headers.get(name) for name in (MODE, UNTIL, HOLD))
    if (mode is None) != (until is None):
        raise S3Error("InvalidArgument", f"{UNTIL} and {MODE} must both be supplied")
    if mode is not None and mode not in _MODES:
        raise _invalid("Unknown wormMode directive.", MODE, mode)
    if hold is not None and hold not in _HOLDS:
        raise _invalid("Legal Hold must be either of 'ON' or 'OFF'", HOLD, hold)
    until_ms = 0 if until is None else _future(UNTIL, until, now_ms)
    lock = Lock(cast("Mode", mode or ""), until_ms, hold=cast("Hold", hold or ""))
    return UNLOCKED if lock == UNLOCKED else lock


def told_retention(lock: Lock) -> dict[str, str]:
    """The headers that tell until when a version is kept."""
    return {MODE: lock.mode, UNTIL: _date(lock.until_ms)} if lock.mode else {}


def told_hold(lock: Lock) -> dict[str, str]:
    """The header that tells whether it is held."""
    return {HOLD: lock.hold} if lock.hold else {}


def retention_in(root: Element, now_ms: int) -> tuple[Mode, int]:
    """Mode and time, in milliseconds since 1970, of a ``Retention`` document; "" for none.

    Raises:
        S3Error: ``MalformedXML``, or ``InvalidArgument``.
    """
    if not root.children:
        return "", 0
    mode, until = root.value("Mode"), root.value("RetainUntilDate")
    if len(root.children) != 2 or mode not in _MODES or until is None:
        raise S3Error("MalformedXML")
    return cast("Mode", mode), _future("RetainUntilDate", until.strip(), now_ms)


def retention_tree(lock: Lock) -> Tree:
    """The document of a version that is kept until a time."""
    return ("Retention", [("Mode", lock.mode), ("RetainUntilDate", _date(lock.until_ms))])


def hold_in(root: Element) -> Hold:
    """What a ``LegalHold`` document says.

    Raises:
        S3Error: ``MalformedXML``.
    """
    status = root.value("Status")
    if len(root.children) != 1 or status not in _HOLDS:
        raise S3Error("MalformedXML")
    return cast("Hold", status)


def hold_tree(lock: Lock) -> Tree:
    """The document of a version of which was said whether it is held."""
    return ("LegalHold", [("Status", lock.hold)])


def default_in(root: Element) -> Default:
    """What an ``ObjectLockConfiguration`` says.

    Raises:
        S3Error: ``MalformedXML``, or ``InvalidArgument``.
    """
    rules = root.all("Rule")
    if root.value("ObjectLockEnabled") != "Enabled" or len(root.children) != 1 + len(rules):
        raise S3Error("MalformedXML")
    if not rules:
        return Default()
    defaults = rules[0].all("DefaultRetention")
    if len(rules) != 1 or len(defaults) != 1 or len(rules[0].children) != 1:
        raise S3Error("MalformedXML")
    [default] = defaults
    mode, days, years = (default.value(name) for name in ("Mode", "Days", "Years"))
    if len(default.children) != 2 or mode not in _MODES or (days is None) == (years is None):
        raise S3Error("MalformedXML")
    return Default(
        cast("Mode", mode),
        0 if days is None else _period("Days", days, DAYS_MAX),
        0 if years is None else _period("Years", years, YEARS_MAX),
    )


def default_tree(default: Default) -> Tree:
    """The document of a bucket whose versions can be locked."""
    told: list[Tree] = [("ObjectLockEnabled", "Enabled")]
    if default.mode:
        period = ("Years", default.years) if default.years else ("Days", default.days)
        kept: list[Tree] = [("Mode", default.mode), (period[0], str(period[1]))]
        told.append(("Rule", [("DefaultRetention", kept)]))
    return ("ObjectLockConfiguration", told)


def denied() -> S3Error:
    """A lock stands in the way."""
    return S3Error("AccessDenied", "Access Denied because object protected by object lock.")


def packed(lock: Lock) -> str:
    """A lock as text, to be kept with an upload."""
    return msgspec.json.encode(lock).decode()


def unpacked(text: str) -> Lock:
    """The inverse of `packed`."""
    return msgspec.json.decode(text, type=Lock)


# -- inside --------------------------------------------------------------------------------


def _future(name: str, text: str, now_ms: int) -> int:
    """A moment that has not come yet, and that can be told again; milliseconds since 1970."""
    try:
        if not _DATE.fullmatch(text):
            raise ValueError  # noqa: TRY301 - what `datetime` takes beside that is no date here
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        until_ms = (moment - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        message = "The retain until date must be provided in ISO 8601 format"
        raise _invalid(message, name, text) from None
    if until_ms <= now_ms:
        raise _invalid("The retain until date must be in the future!", name, text)
    return until_ms


def _date(ms: int) -> str:
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def _period(name: str, text: str, most: int) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise S3Error("MalformedXML")
    number = int(text)
    if number < 1:
        message = "Default retention period must be a positive integer value."
        raise _invalid(message, name, text)
    if number > most:
        raise _invalid("Default retention period is too large.", name, text)
    return number


def _invalid(message: str, name: str, value: str) -> S3Error:
    return S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
