"""Ranges and conditions of any text, against a model that slices bytes."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import PreconditionFailed, RangeInvalid, UsageError
from router.gateway.conditions import (
    Representation,
    byte_range,
    check_read,
    http_date,
    write_condition,
)

SIZES = st.integers(0, 60)
NUMBERS = st.integers(0, 80)
DATA = bytes(range(60))
NAMES = (
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
)


def served(header: str, size: int) -> bytes | None:
    """The bytes of a range, None for all of them; raises what the function raises."""
    span = byte_range({"Range": header}, Representation("e", 0, size))
    return None if span is None else DATA[:size][span[0] : span[1]]


@given(SIZES, NUMBERS, NUMBERS)
def test_first_to_last(size: int, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    if last < first:
        assert served(header, size) is None
    elif first >= size:
        with contextlib.suppress(RangeInvalid):
            raise AssertionError(served(header, size))
    else:
        assert served(header, size) == DATA[:size][first : last + 1]


@given(SIZES, NUMBERS)
def test_from_first_on(size: int, first: int) -> None:
    try:
        assert served(f"bytes={first}-", size) == DATA[:size][first:]
    except RangeInvalid:
        assert first >= size
    else:
        assert first < size


@given(SIZES, NUMBERS)
def test_the_last_so_many(size: int, count: int) -> None:
    try:
        assert served(f"bytes=-{count}", size) == (DATA[:size][-count:] if count else b"")
    except RangeInvalid:
        assert size == 0 or count == 0
    else:
        assert size > 0
        assert count > 0


@given(st.text(max_size=30) | st.text("bytes=0123456789-, ", max_size=30), SIZES)
def test_any_text_is_a_range_or_none_or_refused(header: str, size: int) -> None:
    try:
        span = byte_range({"Range": header}, Representation("e", 0, size))
    except RangeInvalid:
        return
    if span is not None:
        assert 0 <= span[0] < span[1] <= size
        assert header.strip().startswith("bytes=")


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)), SIZES)
@example({"If-Modified-Since": "Mon, 01 Jan 0001 00:00:00 -0000"}, 1)
@example({"If-Modified-Since": "1 Jan 1 0:0 -2359"}, 1)
def test_any_headers_have_an_answer(headers: dict[str, str], size: int) -> None:
    what = Representation("e", 1_700_000_000_000, size)
    with contextlib.suppress(PreconditionFailed):
        assert check_read(headers, what) in (True, False)
    with contextlib.suppress(PreconditionFailed, UsageError):
        assert write_condition(headers, "e") in (None, "", "*", "e")
    with contextlib.suppress(RangeInvalid):
        byte_range(headers, what)


@given(st.integers(0, 4_000_000_000_000), st.integers(-3, 3))
def test_dates_compare_in_whole_seconds(modified_ms: int, seconds: int) -> None:
    """What `Last-Modified` says is what the client sends back."""
    what = Representation("e", modified_ms, 1)
    date = http_date(max(0, modified_ms + seconds * 1000))
    told = int(datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp())
    newer = modified_ms // 1000 > told
    same = modified_ms // 1000 == told
    assert byte_range({"Range": "bytes=0-0", "If-Range": date}, what) == ((0, 1) if same else None)
    assert check_read({"If-Modified-Since": date}, what) is newer
    try:
        check_read({"If-Unmodified-Since": date}, what)
    except PreconditionFailed:
        assert newer
    else:
        assert not newer
