"""Cross-origin rules: which documents are taken, and what they allow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.gateway.s3.cors import (
    VARY,
    Rule,
    asked_headers,
    kept,
    matching,
    rules_in,
    rules_of,
    rules_tree,
    told_headers,
)
from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error

BASE = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"


def read(*inside: str) -> list[Rule]:
    told = "".join(f"<CORSRule>{each}</CORSRule>" for each in inside)
    return rules_in(
        parsed(f"<CORSConfiguration>{told}</CORSConfiguration>".encode(), "CORSConfiguration")
    )


def code(call: Callable[[], object]) -> str:
    with pytest.raises(S3Error) as caught:
        call()
    return caught.value.code


def test_a_document_is_read_kept_and_told() -> None:
    rules = read(
        "<ID>one</ID><AllowedMethod>PUT</AllowedMethod><AllowedMethod> GET </AllowedMethod>"
        "<AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader>"
        "<ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds>",
        BASE,
    )
    assert rules == [
        Rule(("https://*.example.com",), ("PUT", "GET"), ("x-amz-*",), ("ETag",), 3000, "one"),
        Rule(("*",), ("GET",)),
    ]
    assert rules_in(parsed(document(rules_tree(rules)), "CORSConfiguration")) == rules
    assert rules_of(kept(rules)) == rules
    assert kept(rules)[1] == {"origins": ("*",), "methods": ("GET",)}


@pytest.mark.parametrize("value", [None, 7, "x", [{"origins": 3}], [{"methods": ["GET"]}]])
def test_a_setting_that_is_none_is_none(value: object) -> None:
    assert rules_of(value) is None


@pytest.mark.parametrize(
    ("inside", "error"),
    [
        ("", "MalformedXML"),
        ("<AllowedMethod>GET</AllowedMethod>", "MalformedXML"),
        ("<AllowedOrigin>*</AllowedOrigin>", "MalformedXML"),
        (BASE + "<Other/>", "MalformedXML"),
        (BASE + "<AllowedHeader><b/></AllowedHeader>", "MalformedXML"),
        (BASE + "<ID>a</ID><ID>b</ID>", "MalformedXML"),
        (BASE + "<MaxAgeSeconds>1</MaxAgeSeconds><MaxAgeSeconds>1</MaxAgeSeconds>", "MalformedXML"),
        (BASE + "<MaxAgeSeconds>-1</MaxAgeSeconds>", "MalformedXML"),
        (BASE + "<MaxAgeSeconds>soon</MaxAgeSeconds>", "MalformedXML"),
        (BASE + "<AllowedMethod>PATCH</AllowedMethod>", "InvalidRequest"),
        (BASE + "<AllowedMethod>get</AllowedMethod>", "InvalidRequest"),
        (BASE + "<AllowedOrigin>http://*.*</AllowedOrigin>", "InvalidRequest"),
        (BASE + "<AllowedOrigin>a&#13;b</AllowedOrigin>", "InvalidRequest"),
        (BASE + "<AllowedOrigin/>", "InvalidRequest"),
        (BASE + "<AllowedHeader>*-*</AllowedHeader>", "InvalidRequest"),
        (BASE + "<ExposeHeader>x-*</ExposeHeader>", "InvalidRequest"),
        (BASE + "<ExposeHeader>a&#10;b</ExposeHeader>", "InvalidRequest"),
        (BASE + f"<ID>{'x' * 256}</ID>", "InvalidRequest"),
    ],
)
def test_a_rule_that_is_refused(inside: str, error: str) -> None:
    assert code(lambda: read(BASE, inside)) == error


def test_how_many_there_may_be() -> None:
    assert len(read(*[BASE] * 100)) == 100
    assert code(lambda: read(*[BASE] * 101)) == "InvalidRequest"
    assert code(read) == "MalformedXML"


RULES = [
    Rule(("https://a.example", "http://*.b.example"), ("GET", "PUT"), ("x-amz-*", "Content-Type")),
    Rule(("*",), ("GET",), (), ("ETag", "x-amz-version-id"), 60),
    Rule(("https://a.example",), ("DELETE",), ("*",)),
]


@pytest.mark.parametrize(
    ("origin", "method", "headers", "found"),
    [
        ("https://a.example", "PUT", [], 0),
        ("http://x.b.example", "PUT", ["X-AMZ-Date", "content-type"], 0),
        ("http://.b.example", "PUT", [], 0),
        ("http://b.example", "PUT", [], None),
        ("https://a.example", "PUT", ["x-other"], None),
        ("https://a.example", "GET", ["x-other"], None),
        ("https://A.example", "GET", [], 1),
        ("null", "GET", [], 1),
        ("http://\udcff.b.example", "PUT", [], None),
        ("http://a\r\n.b.example", "PUT", [], None),
        ("https://a.example", "DELETE", ["x-other", "x"], 2),
        ("https://a.example", "HEAD", [], None),
    ],
)
def test_the_first_rule_that_fits_decides(
    origin: str, method: str, headers: list[str], found: int | None
) -> None:
    rule = matching(RULES, origin, method, headers)
    assert rule == (None if found is None else RULES[found])


def test_what_a_browser_is_told() -> None:
    assert told_headers(RULES[0], "http://x.b.example", ["X-Amz-Date", "content-type"]) == {
        "Access-Control-Allow-Origin": "http://x.b.example",
        "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Allow-Headers": "x-amz-date, content-type",
        "Access-Control-Allow-Credentials": "true",
        "Vary": VARY,
    }
    assert told_headers(RULES[1], "https://a.example") == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET",
        "Access-Control-Expose-Headers": "ETag, x-amz-version-id",
        "Access-Control-Max-Age": "60",
        "Vary": VARY,
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("a, B ,,c", ["a", "B", "c"]),
        ("a b", None),
        ("a\r\nb", None),
        ("a,ü", None),
    ],
)
def test_headers_that_are_asked_for(text: str, names: list[str] | None) -> None:
    assert asked_headers(text) == names
