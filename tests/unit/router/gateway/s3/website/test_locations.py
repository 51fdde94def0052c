"""Where redirects lead: to hosts that an owner named, or nowhere else than the website."""

from __future__ import annotations

from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.gateway.s3.failures import S3Error
from router.gateway.s3.website.locations import (
    checked,
    of_everything,
    of_object,
    of_rule,
    path_of,
    visit_of,
)
from router.gateway.s3.website.model import Redirect, Rule

HOST = "site.web.test:8080"
HERE = "http://site.web.test:8080/some/page"


def rule(about: str | None = None, **redirect: str) -> Rule:
    return Rule(Redirect(**redirect), about)  # type: ignore[arg-type]


def led(made: Rule, key: str, host: str = HOST, *, encrypted: bool = False) -> str:
    return of_rule(made, visit_of(host, key, encrypted=encrypted))


@pytest.mark.parametrize(
    ("made", "key", "location"),
    [
        (rule("docs/", prefix="documents/"), "docs/a b.html", "/documents/a%20b.html"),
        (rule("docs/", prefix=""), "docs/x", "/x"),
        (rule(prefix="all/"), "x", "/all/x"),
        (rule("docs/", key="gone.html"), "docs/x", "/gone.html"),
        (rule(host="other.example"), "x/y", "http://other.example/x/y"),
        (rule(host="other.example:81", protocol="https"), "x", "https://other.example:81/x"),
        (rule(protocol="http"), "x", "http://site.web.test:8080/x"),
        (rule(protocol="https"), "x", "https://site.web.test/x"),
        (rule(host="other.example"), "/evil.example/x", "http://other.example/%2Fevil.example/x"),
        (rule("a", key="caf\u00e9"), "a", "/caf%C3%A9"),
    ],
)
def test_a_rule_leads_where_it_says(made: Rule, key: str, location: str) -> None:
    assert led(made, key) == location


def test_a_redirect_without_a_protocol_keeps_that_of_the_visitor() -> None:
    everything = Redirect(host="www.example")
    assert of_everything(everything, visit_of(HOST, "a/b", encrypted=True)) == (
        "https://www.example/a/b"
    )
    assert led(rule(protocol="https"), "x", encrypted=True) == "https://site.web.test:8080/x"


def test_a_host_header_with_more_than_a_port_adds_nothing() -> None:
    assert led(rule(protocol="http"), "x", "site.web.test:@evil.example") == (
        "http://site.web.test/x"
    )


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([*"/\\\r\n\t :@?#%.a\x00\u2028", "//", "evil.example"])).map("".join)
)
def test_a_visitor_is_led_to_no_other_host(key: str) -> None:
    """As a browser resolves it; there is also no second line in it, and the key is all there."""
    for location in (
        path_of(key),
        led(rule("no", prefix=""), key),
        led(rule(protocol="http"), key),
    ):
        assert location.isascii()
        assert all("!" <= char <= "~" for char in location)
        assert "\\" not in location
        gone = urlsplit(urljoin(HERE, location))
        assert (gone.scheme, gone.netloc) == ("http", "site.web.test:8080")
        assert (gone.query, gone.fragment) == ("", "")
    assert unquote(path_of(key))[1:] == key


@pytest.mark.parametrize("value", ["", "x", "ftp://x", "javascript:alert(1)", "HTTP://x", " /x"])
def test_an_object_sends_to_the_web_or_the_same_site(value: str) -> None:
    with pytest.raises(S3Error) as caught:
        checked(value)
    assert caught.value.code == "InvalidRedirectLocation"


@pytest.mark.parametrize("value", ["/a\r\nSet-Cookie: x", "/a\x00", "https://x/\x7f"])
def test_a_line_of_its_own_is_refused(value: str) -> None:
    with pytest.raises(S3Error):
        checked(value)


def test_a_location_has_two_kibibytes() -> None:
    assert checked("/" + "x" * 2047)
    with pytest.raises(S3Error) as caught:
        checked("/" + "x" * 2048)
    assert caught.value.code == "InvalidArgument"


def test_a_url_that_was_written_down_stays_as_it_is() -> None:
    url = "https://user@h.example:81/a%20b/(c)?d=1&e=[2]#f"
    assert of_object(url) == url
    assert of_object('/a b"<\u00e9>') == "/a%20b%22%3C%C3%A9%3E"
