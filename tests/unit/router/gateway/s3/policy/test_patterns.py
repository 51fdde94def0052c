"""Texts with wildcards and variables."""

from __future__ import annotations

import pytest

from router.gateway.s3.policy.patterns import PatternInvalid, pattern_of


@pytest.mark.parametrize(
    ("pattern", "values", "text", "fits"),
    [
        ("${aws:username}", {"aws:username": ["ann"]}, "ann", True),
        ("${AWS:UserName}", {"aws:username": ["ann"]}, "ann", True),
        ("${aws:username}", {}, "", False),
        ("x${aws:username}*", {}, "x", False),
        ("${aws:username, 'no one'}", {}, "no one", True),
        ("${aws:username,''}x", {}, "x", True),
        ("${*}${?}${$}", {}, "*?$", True),
        ("${*}", {}, "a", False),
        ("$x*", {}, "$xy", True),
        ("${x", {}, "${x", True),
    ],
)
def test_variables(pattern: str, values: dict[str, list[str]], text: str, fits: bool) -> None:
    assert pattern_of(pattern, variables=True).fits(text, values) is fits


def test_case() -> None:
    pattern = pattern_of("S3:Get${aws:username}", variables=True, lowered=True)
    assert pattern.fits("s3:getANN", {"aws:username": ["Ann"]})


@pytest.mark.parametrize("text", ["${}", "${a b}", "${a,b}", "${a,'b}"])
def test_no_variables(text: str) -> None:
    with pytest.raises(PatternInvalid):
        pattern_of(text, variables=True)


@pytest.mark.parametrize("text", ["*?${aws:referer}b*", "a*x${aws:referer}?*", "***?${a:b,'c'}*"])
def test_what_a_request_makes_as_long_as_it_likes_is_not_searched(text: str) -> None:
    with pytest.raises(PatternInvalid, match="the same two"):
        pattern_of(text, variables=True)


@pytest.mark.parametrize(
    ("text", "chars"),
    [
        ("?a*b", 0),
        ("a*?b", 0),
        ("*?a*", 2),
        ("*a*?*bc?d*?", 5),
        ("?${a:b}*c?*${a:b}?", 2),
        ("*a*", 0),
    ],
)
def test_how_much_is_compared_at_each_place(text: str, chars: int) -> None:
    assert pattern_of(text, variables=True).searched == chars


def test_what_requests_bring_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a thousand times as long as to compare it."""
    pattern = pattern_of("?${aws:referer}?*/?${aws:referer}", variables=True)
    monkeypatch.setattr("re.compile", lambda *_: pytest.fail("compiled"))
    values = {"aws:referer": ["a-b*"]}
    assert pattern.fits("xa-b*y/za-b*", values)
    assert pattern.fits("xa-b*y?/za-b*", values)
    assert not pattern.fits("xa-b*/za-b*", values)
    assert not pattern.fits("xa-b*y/za-bc", values)
    assert not pattern.fits("xa-b*y/a-b*", values)


def test_what_is_fixed() -> None:
    assert pattern_of("ann").fixed
    assert not pattern_of("a*").fixed
    assert not pattern_of("a?").fixed
    assert not pattern_of("${aws:username}", variables=True).fixed
    assert pattern_of("a*", wildcards=False).fixed


def test_many_wildcards_take_no_time() -> None:
    """A matcher that tries all ways would not come back."""
    assert not pattern_of("*a?" * 300 + "b").fits("a" * 1024, {})
