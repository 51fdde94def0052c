"""Preconditions and ranges of HTTP requests (RFC 9110, sections 13 and 14). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final

from common.errors import PreconditionFailed, RangeInvalid, UsageError
from common.records import Version

_RANGE_UNIT: Final = "bytes="
_DIGITS_MAX: Final = 4_000
"""A header can hold more digits than `int` takes."""


@dataclass(frozen=True)
class Representation:
    """What the conditions are about.

    Attributes:
        etag: entity tag without quotes.
        modified_ms: wall clock, milliseconds since 1970.
        size: bytes.
    """

    etag: str
    modified_ms: int
    size: int


def http_date(ms: int) -> str:
    """A moment in the form of ``Last-Modified``."""
    return _http_date(ms // 1000)


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def matches(header: str, etag: str) -> bool:
    """Whether a list of entity tags holds this one, or is ``*``; weak tags match by their text."""
    if header.strip() == "*":
        return True
    tags = (tag.strip() for tag in header.split(","))
    return any(tag.removeprefix("W/").strip('"') == etag for tag in tags)


def check_read(headers: Mapping[str, str], what: Representation) -> bool:
    """Evaluate the preconditions of a GET or HEAD in the order of RFC 9110, section 13.2.2.

    Returns:
        True to answer with the bytes, False for ``304 Not Modified``.

    Raises:
        PreconditionFailed: answer ``412``.
    """
    if_match = headers.get("If-Match")
    if if_match is not None:
        if not matches(if_match, what.etag):
            raise PreconditionFailed(f'the file\'s entity tag is "{what.etag}"')
    elif (since := _date(headers.get("If-Unmodified-Since"))) is not None and (
        what.modified_ms // 1000 > since
    ):
        raise PreconditionFailed(f"the file was modified at {http_date(what.modified_ms)}")
    if_none_match = headers.get("If-None-Match")
    if if_none_match is not None:
        return not matches(if_none_match, what.etag)
    since = _date(headers.get("If-Modified-Since"))
    return since is None or what.modified_ms // 1000 > since


def write_condition(headers: Mapping[str, str], current_etag: str | None) -> str | None:
    """The condition of a PUT, to be checked again at the moment of publishing.

    Args:
        headers: of the request.
        current_etag: of what the name holds now, None if nothing.

    Returns:
        The ``if_match`` of `router.writes.Target`.

    Raises:
        PreconditionFailed: it does not hold already now.
        UsageError: a condition that PUT does not take.
    """
    if_match, if_none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if if_none_match is not None:
        if if_none_match.strip() != "*" or if_match is not None:
            raise UsageError("PUT takes If-None-Match: * or If-Match, not both, no other")
        if current_etag is not None:
            raise PreconditionFailed("the file is there already")
        return ""
    if if_match is None:
        return None
    if current_etag is None or not matches(if_match, current_etag):
        raise PreconditionFailed(
            "there is no such file"
            if current_etag is None
            else f'the file\'s entity tag is "{current_etag}"'
        )
    return "*" if if_match.strip() == "*" else current_etag


def delete_condition(headers: Mapping[str, str]) -> Callable[[Version], bool] | None:
    """What must hold of a version that a DELETE removes; None if anything may.

    Raises:
        UsageError: a condition that DELETE does not take.
    """
    if "If-None-Match" in headers or "If-Unmodified-Since" in headers:
        raise UsageError("DELETE takes If-Match, no other condition")
    if_match = headers.get("If-Match")
    return None if if_match is None else lambda version: matches(if_match, version.etag)


def byte_range(headers: Mapping[str, str], what: Representation) -> tuple[int, int] | None:
    """The single range that a request asks for.

    Returns:
        ``(start, end)``, end exclusive; None for the whole file: no Range, one that is not
        understood, several ranges, or an If-Range that does not hold (RFC 9110, section 14.2).

    Raises:
        RangeInvalid: the range lies outside of the file.
    """
    header = headers.get("Range")
    if header is None or not _if_range_holds(headers.get("If-Range"), what):
        return None
    text = header.strip()
    if not text.startswith(_RANGE_UNIT) or "," in text:
        return None
    first, dash, last = text.removeprefix(_RANGE_UNIT).strip().partition("-")
    if not dash or not (first or last) or not _digits(first) or not _digits(last):
        return None
    if not first:
        start, end = max(0, what.size - int(last)), what.size
    else:
        start, end = int(first), min(int(last) + 1, what.size) if last else what.size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeInvalid(f"{header!r} lies outside of a file of {what.size} bytes")
    return start, end


def _digits(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX)


def _if_range_holds(header: str | None, what: Representation) -> bool:
    """Whether the client's part is of this very version: a range of another would be glued to it.

    Both validators match exactly or not at all (RFC 9110, section 13.1.5): a weak tag never, a
    date only as ``Last-Modified`` tells it, not an earlier or a later one.
    """
    return header is None or header in (f'"{what.etag}"', http_date(what.modified_ms))


def _date(header: str | None) -> int | None:
    """Seconds since 1970; None if it is no date, which means that the condition is ignored."""
    if header is None:
        return None
    try:
        return int(parsedate_to_datetime(header).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
