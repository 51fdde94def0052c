"""Preconditions and ranges against the words of RFC 9110, sections 13 and 14."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from common.errors import PreconditionFailed, RangeInvalid, UsageError
from router.gateway.conditions import (
    Representation,
    byte_range,
    check_read,
    http_date,
    matches,
    write_condition,
)

ETAG = "0123456789abcdef0123456789abcdef-1"
QUOTED = f'"{ETAG}"'
MODIFIED_MS = 1_700_000_000_123
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
WHAT = Representation(ETAG, MODIFIED_MS, 100)
NO_DATES = (
    "",
    "yesterday",
    "0",
    "Tue, 99 Nov 2023 22:13:20 GMT",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2024 00:00:00 +99999999999999",
    "9" * 5000,
)


def headers(**given: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in given.items()})


def test_dates_are_of_whole_seconds() -> None:
    assert http_date(MODIFIED_MS) == MODIFIED
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


class TestTags:
    @pytest.mark.parametrize(
        "header",
        [
            "*",
            " * ",
            QUOTED,
            f"W/{QUOTED}",
            f'"other", {QUOTED}',
            f'{QUOTED},"other"',
            f" {QUOTED} ",
        ],
    )
    def test_lists_that_hold_it(self, header: str) -> None:
        assert matches(header, ETAG)

    @pytest.mark.parametrize("header", ["", '""', '"other"', f'"{ETAG[:-1]}"', f'"{ETAG}0"', "**"])
    def test_lists_that_do_not(self, header: str) -> None:
        assert not matches(header, ETAG)


class TestReading:
    def test_without_conditions(self) -> None:
        assert check_read(headers(), WHAT)

    def test_if_match(self) -> None:
        assert check_read(headers(If_Match=QUOTED), WHAT)
        assert check_read(headers(If_Match="*"), WHAT)
        with pytest.raises(PreconditionFailed, match=ETAG):
            check_read(headers(If_Match='"other"'), WHAT)

    def test_if_unmodified_since(self) -> None:
        assert check_read(headers(If_Unmodified_Since=MODIFIED), WHAT)
        assert check_read(headers(If_Unmodified_Since=AFTER), WHAT)
        with pytest.raises(PreconditionFailed, match="22:13:20"):
            check_read(headers(If_Unmodified_Since=BEFORE), WHAT)

    def test_if_none_match(self) -> None:
        assert not check_read(headers(If_None_Match=QUOTED), WHAT)
        assert not check_read(headers(If_None_Match="*"), WHAT)
        assert check_read(headers(If_None_Match='"other"'), WHAT)

    def test_if_modified_since(self) -> None:
        assert not check_read(headers(If_Modified_Since=MODIFIED), WHAT)
        assert not check_read(headers(If_Modified_Since=AFTER), WHAT)
        assert check_read(headers(If_Modified_Since=BEFORE), WHAT)

    def test_a_tag_beats_a_date(self) -> None:
        """Sections 13.1.3 and 13.1.4: with the tag condition there, the date is ignored."""
        assert check_read(headers(If_Match=QUOTED, If_Unmodified_Since=BEFORE), WHAT)
        assert check_read(headers(If_None_Match='"other"', If_Modified_Since=AFTER), WHAT)
        assert not check_read(headers(If_None_Match=QUOTED, If_Modified_Since=BEFORE), WHAT)

    def test_412_comes_before_304(self) -> None:
        with pytest.raises(PreconditionFailed):
            check_read(headers(If_Match='"other"', If_None_Match=QUOTED), WHAT)

    @pytest.mark.parametrize("date", NO_DATES, ids=range(len(NO_DATES)))
    def test_what_is_no_date_is_ignored(self, date: str) -> None:
        assert check_read(headers(If_Modified_Since=date), WHAT)
        assert check_read(headers(If_Unmodified_Since=date), WHAT)


class TestWriting:
    def test_without_condition_it_always_counts(self) -> None:
        assert write_condition(headers(), None) is None
        assert write_condition(headers(), ETAG) is None

    def test_only_if_there_is_nothing(self) -> None:
        assert write_condition(headers(If_None_Match="*"), None) == ""
        with pytest.raises(PreconditionFailed, match="already"):
            write_condition(headers(If_None_Match="*"), ETAG)

    def test_only_over_this_version(self) -> None:
        assert write_condition(headers(If_Match=QUOTED), ETAG) == ETAG
        assert write_condition(headers(If_Match=f'"a", {QUOTED}'), ETAG) == ETAG
        with pytest.raises(PreconditionFailed, match=ETAG):
            write_condition(headers(If_Match='"other"'), ETAG)

    def test_only_over_something(self) -> None:
        assert write_condition(headers(If_Match="*"), ETAG) == "*"
        for header in ("*", QUOTED):
            with pytest.raises(PreconditionFailed, match="no such file"):
                write_condition(headers(If_Match=header), None)

    def test_conditions_that_make_no_sense_here(self) -> None:
        for given in (
            headers(If_None_Match=QUOTED),
            headers(If_None_Match="*", If_Match=QUOTED),
            headers(If_None_Match="*", If_Match="*"),
        ):
            for etag in (None, ETAG):
                with pytest.raises(UsageError):
                    write_condition(given, etag)


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("bytes=0-0", (0, 1)),
            ("bytes=0-99", (0, 100)),
            ("bytes=0-100", (0, 100)),
            ("bytes=10-", (10, 100)),
            ("bytes=99-", (99, 100)),
            ("bytes=-1", (99, 100)),
            ("bytes=-100", (0, 100)),
            ("bytes=-101", (0, 100)),
            ("bytes=5-4000000000000000000000", (5, 100)),
            (" bytes=5-6 ", (5, 7)),
        ],
    )
    def test_what_is_served(self, header: str, expected: tuple[int, int]) -> None:
        assert byte_range(headers(Range=header), WHAT) == expected

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=--1",
            "bytes=5-4",
            "bytes=1.5-2",
            "bytes=+1-2",
            "bytes=٣-٤",
            "items=0-1",
            "bytes=0-1,3-4",
            "0-1",
        ],
    )
    def test_what_is_not_understood_is_ignored(self, header: str) -> None:
        assert byte_range(headers(Range=header), WHAT) is None

    @pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=1000-"])
    def test_what_cannot_be_served(self, header: str) -> None:
        with pytest.raises(RangeInvalid, match="100 bytes"):
            byte_range(headers(Range=header), WHAT)

    @pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
    def test_an_empty_file_has_no_range(self, header: str) -> None:
        with pytest.raises(RangeInvalid):
            byte_range(headers(Range=header), Representation(ETAG, MODIFIED_MS, 0))

    @pytest.mark.parametrize("template", ["bytes={}-", "bytes=0-{}", "bytes=-{}", "bytes={}-{}"])
    def test_numbers_of_any_length(self, template: str) -> None:
        """A header of 16 KiB holds more digits than Python turns into a number."""
        given = headers(Range=template.format("9" * 6000, "9" * 6000))
        try:
            told = byte_range(given, WHAT)
        except RangeInvalid:
            told = None
        assert told in (None, (0, 100))

    def test_if_range_by_tag(self) -> None:
        given = {"Range": "bytes=0-9"}
        assert byte_range(headers(**given, If_Range=QUOTED), WHAT) == (0, 10)
        for header in ('"other"', f"W/{QUOTED}", "nonsense", ""):
            assert byte_range(headers(**given, If_Range=header), WHAT) is None

    def test_if_range_by_date(self) -> None:
        given = {"Range": "bytes=0-9"}
        assert byte_range(headers(**given, If_Range=MODIFIED), WHAT) == (0, 10)
        for header in (BEFORE, AFTER, MODIFIED.replace("GMT", "+0000"), MODIFIED[5:]):
            assert byte_range(headers(**given, If_Range=header), WHAT) is None

    def test_if_range_without_range(self) -> None:
        assert byte_range(headers(If_Range=QUOTED), WHAT) is None

    def test_an_outdated_range_is_not_refused(self) -> None:
        """The client's copy is old: it gets the whole new file, not an error."""
        assert byte_range(headers(Range="bytes=500-", If_Range='"other"'), WHAT) is None
