"""What can be set for a website, and what it is told as."""

from __future__ import annotations

import pytest

from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.website.configuration import RULES_MAX, site_in, site_tree
from router.gateway.s3.website.model import Redirect, Rule, Site, kept, site_of

INDEX = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
TO_HOST = "<Redirect><HostName>h</HostName></Redirect>"


def read(inside: str) -> Site:
    body = f"<WebsiteConfiguration>{inside}</WebsiteConfiguration>"
    return site_in(parsed(body.encode(), "WebsiteConfiguration"))


def ruled(*rules: str) -> str:
    made = "".join(f"<RoutingRule>{each}</RoutingRule>" for each in rules)
    return f"{INDEX}<RoutingRules>{made}</RoutingRules>"


def where(condition: str) -> str:
    return ruled(f"<Condition>{condition}</Condition>{TO_HOST}")


def to(redirect: str) -> str:
    return ruled(f"<Redirect>{redirect}</Redirect>")


SITES = {
    INDEX: Site("index.html"),
    INDEX + "<ErrorDocument><Key>e/404.html</Key></ErrorDocument>": Site(
        "index.html", "e/404.html"
    ),
    "<RedirectAllRequestsTo><HostName>www.example</HostName><Protocol>https</Protocol>"
    "</RedirectAllRequestsTo>": Site(everything=Redirect("www.example", "https")),
    ruled(
        "<Condition><KeyPrefixEquals>a/</KeyPrefixEquals><HttpErrorCodeReturnedEquals>404"
        "</HttpErrorCodeReturnedEquals></Condition><Redirect><HttpRedirectCode>307"
        "</HttpRedirectCode><ReplaceKeyPrefixWith/></Redirect>",
        TO_HOST,
    ): Site(
        "index.html",
        rules=(Rule(Redirect(code=307, prefix=""), "a/", 404), Rule(Redirect("h"))),
    ),
    to("<Protocol>http</Protocol><ReplaceKeyWith>k</ReplaceKeyWith>"): Site(
        "index.html", rules=(Rule(Redirect(protocol="http", key="k")),)
    ),
}


@pytest.mark.parametrize(("inside", "site"), SITES.items())
def test_what_is_set_is_read_kept_and_told(inside: str, site: Site) -> None:
    assert read(inside) == site
    assert site_of(kept(site)) == site
    told = document(site_tree(site), namespace="")
    assert site_in(parsed(told, "WebsiteConfiguration")) == site
    assert inside.encode() in told


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ("", "InvalidArgument"),
        ("<ErrorDocument><Key>e</Key></ErrorDocument>", "InvalidArgument"),
        ("<IndexDocument><Suffix/></IndexDocument>", "InvalidArgument"),
        ("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>", "InvalidArgument"),
        (f"<IndexDocument><Suffix>{'x' * 1025}</Suffix></IndexDocument>", "InvalidArgument"),
        (f"{INDEX}{INDEX}", "MalformedXML"),
        (f"{INDEX}<ErrorDocument><Key/></ErrorDocument>", "InvalidArgument"),
        (f"{INDEX}<Else/>", "MalformedXML"),
        (f"{INDEX}<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>",
         "MalformedXML"),
        ("<RedirectAllRequestsTo/>", "MalformedXML"),
        ("<RedirectAllRequestsTo><HostName>h/p</HostName></RedirectAllRequestsTo>",
         "InvalidRequest"),
        (ruled(""), "MalformedXML"),
        (ruled("<Redirect/>"), "MalformedXML"),
        (ruled(TO_HOST + TO_HOST), "MalformedXML"),
        (ruled(*[TO_HOST] * (RULES_MAX + 1)), "InvalidRequest"),
        (where(""), "InvalidRequest"),
        (where("<HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals>"),
         "InvalidRequest"),
        (where("<HttpErrorCodeReturnedEquals>0</HttpErrorCodeReturnedEquals>"), "InvalidRequest"),
        (where("<HttpErrorCodeReturnedEquals>4xx</HttpErrorCodeReturnedEquals>"), "MalformedXML"),
        (where(f"<KeyPrefixEquals>{'x' * 1025}</KeyPrefixEquals>"), "InvalidRequest"),
        (to("<HttpRedirectCode>300</HttpRedirectCode>"), "InvalidRequest"),
        (to("<HttpRedirectCode>200</HttpRedirectCode>"), "InvalidRequest"),
        (to("<Protocol>javascript</Protocol>"), "InvalidRequest"),
        (to("<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>"),
         "InvalidRequest"),
        (to(f"<ReplaceKeyWith>{'x' * 1025}</ReplaceKeyWith>"), "InvalidRequest"),
        *[(to(f"<HostName>{host}</HostName>"), "InvalidRequest")
          for host in ("", "user@h", "h/p", "h?q", "h#f", "h:", "h:x", "a b", "\\h", "h&#10;x",
                       "[::1]", ".h", "caf\u00e9.example")],
    ],
)  # fmt: skip
def test_what_cannot_be_a_website_is_refused(inside: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(inside)
    assert caught.value.code == code


def test_the_first_rule_that_applies_counts() -> None:
    one, two, three = (Redirect(each) for each in ("one", "two", "three"))
    site = Site("i", rules=(Rule(one, "a/", 404), Rule(two, "a/"), Rule(three, error=404)))
    assert site.rule("a/x") == site.rules[1]
    assert site.rule("b") is None
    assert site.rule("a/x", 404) == site.rules[0]
    assert site.rule("b", 404) == site.rules[2]
    assert site.rule("b", 403) is None


@pytest.mark.parametrize("value", [None, 3, {"index": 3}, {"everything": {"code": "x"}}])
def test_what_cannot_be_understood_is_no_website(value: object) -> None:
    assert site_of(value) is None
