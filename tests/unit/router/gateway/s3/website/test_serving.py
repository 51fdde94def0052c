"""Websites as visitors see them, asked through the whole door on virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.s3_call_kit import md5
from tests.s3_door_kit import S3Door, head_of, open_door, told
from tests.s3_kit import Told, customer_headers

ROOT = "PublicAccessBlockConfiguration"
BLOCK = f"<{ROOT}><BlockPublicAcls>true</BlockPublicAcls></{ROOT}>"
PAGE = "<h1>not here</h1>"
RULES = (
    "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
    "<ErrorDocument><Key>404.html</Key></ErrorDocument><RoutingRules>"
    "<RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition>"
    "<Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule>"
    "<RoutingRule><Condition><KeyPrefixEquals>lost/</KeyPrefixEquals>"
    "<HttpErrorCodeReturnedEquals>403</HttpErrorCodeReturnedEquals></Condition>"
    "<Redirect><HostName>found.example</HostName><HttpRedirectCode>302</HttpRedirectCode>"
    "</Redirect></RoutingRule></RoutingRules>"
)
OBJECTS = {
    "index.html": "home",
    "404.html": PAGE,
    "folder/index.html": "folder",
    "both": "the object",
    "both/index.html": "the folder",
    "lost/there": "there",
    "/evil.example/index.html": "no host",
    "empty": "",
}


def put(door: S3Door, path: str, body: str, **headers: str) -> None:
    data = body.encode()
    summed = {"content-md5": md5(data)} | headers
    answer = door.ask("PUT", path, data, summed)
    assert answer.status in (200, 204), answer


def site(door: S3Door, bucket: str, inside: str, *, actions: tuple[str, ...]) -> None:
    assert door.ask("PUT", f"/{bucket}").status == 200
    arn = f"arn:aws:s3:::{bucket}"
    told = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": [arn, f"{arn}/*"]}
    if actions:
        put(door, f"/{bucket}?publicAccessBlock=", BLOCK)
        put(door, f"/{bucket}?policy=", json.dumps({"Statement": told}))
    put(door, f"/{bucket}?website=", f"<WebsiteConfiguration>{inside}</WebsiteConfiguration>")
    for key, body in OBJECTS.items():
        put(door, f"/{bucket}/{key}", body, **{"content-type": "text/html; charset=utf-8"})


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door(s3_domain="s3.test", s3_website_domain="web.test") as made:
        site(made, "open", RULES, actions=("s3:GetObject",))
        site(made, "listed", RULES, actions=("s3:GetObject", "s3:ListBucket"))
        site(made, "shut", RULES, actions=())
        index = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
        site(made, "plain.one", index, actions=("s3:GetObject", "s3:ListBucket"))
        everything = (
            "<RedirectAllRequestsTo><HostName>www.example</HostName></RedirectAllRequestsTo>"
        )
        site(made, "moved", everything, actions=())
        to_other = {"x-amz-website-redirect-location": "https://other.example/a b"}
        put(made, "/open/sent", "instead", **to_other)
        made.ask("PUT", "/no-site")
        yield made


def visit(door: S3Door, bucket: str, path: str = "/", method: str = "GET", **headers: str) -> Told:
    sent = {"host": f"{bucket}.web.test:5003"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return told(door.raw(head_of(method, path, sent)), method)


def test_index_documents_stand_behind_the_slash(door: S3Door) -> None:
    for path, body in {
        "/": b"home",
        "/index.html": b"home",
        "/folder/": b"folder",
        "/both": b"the object",
        "/both/": b"the folder",
        "/empty": b"",
    }.items():
        answer = visit(door, "open", path)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    head = visit(door, "open", "/folder/", "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, "6", b"")


@pytest.mark.parametrize("bucket", ["open", "listed"])
def test_a_folder_with_an_index_is_told_its_slash(door: S3Door, bucket: str) -> None:
    answer = visit(door, bucket, "/folder?x=1")
    assert (answer.status, answer.headers["location"]) == (302, "/folder/")
    other = visit(door, bucket, "//evil.example")
    assert (other.status, other.headers["location"]) == (302, "/%2Fevil.example/")
    assert visit(door, bucket, other.headers["location"]).body == b"no host"


def test_ranges_and_conditions_are_those_of_objects(door: S3Door) -> None:
    part = visit(door, "open", "/", range="bytes=1-2")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"om", "bytes 1-2/4")
    etag = visit(door, "open").headers["etag"]
    assert visit(door, "open", if_none_match=etag).status == 304
    refused = visit(door, "open", if_match='"other"')
    assert (refused.status, refused.body) == (412, PAGE.encode())
    beyond = visit(door, "open", range="bytes=9-")
    assert (beyond.status, beyond.body) == (416, PAGE.encode())


def test_who_may_list_learns_what_is_not_there(door: S3Door) -> None:
    for bucket, status, code in (("listed", 404, "NoSuchKey"), ("open", 403, "AccessDenied")):
        for method, body in (("GET", PAGE.encode()), ("HEAD", b"")):
            answer = visit(door, bucket, "/nothing", method)
            assert (answer.status, answer.body) == (status, body)
            assert answer.headers["x-amz-error-code"] == code
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["content-length"] == str(len(PAGE))


def test_a_site_that_nobody_may_read_shows_nothing(door: S3Door) -> None:
    for path in ("/", "/index.html", "/folder", "/nothing"):
        answer = visit(door, "shut", path)
        assert answer.status == 403
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert b"<li>Code: AccessDenied</li>" in answer.body
        assert b"cannot be sent" in answer.body
        assert b"home" not in answer.body
    assert visit(door, "shut", "/", "HEAD").body == b""


def test_what_a_page_tells_of_a_request_is_escaped(door: S3Door) -> None:
    answer = visit(door, "plain.one", "/<script>alert(1)</script>&%3Cb%3E%0d%0aX:%20y")
    assert answer.status == 404
    assert b"<li>Key: &lt;script&gt;alert(1)&lt;/script&gt;&amp;&lt;b&gt;" in answer.body
    assert b"<script" not in answer.body
    assert "x" not in answer.headers
    assert answer.headers["content-security-policy"] == "default-src 'none'"


def test_rules_send_elsewhere(door: S3Door) -> None:
    old = visit(door, "open", "/old/a")
    assert (old.status, old.headers["location"]) == (301, "/new/a")
    lost = visit(door, "open", "/lost/x")
    assert (lost.status, lost.headers["location"]) == (302, "http://found.example/lost/x")
    assert visit(door, "open", "/lost/there").body == b"there"
    assert visit(door, "listed", "/lost/x").status == 404


def test_a_site_may_send_everything_elsewhere(door: S3Door) -> None:
    for method in ("GET", "HEAD"):
        answer = visit(door, "moved", "/a/b?c=d", method)
        assert (answer.status, answer.headers["location"]) == (301, "http://www.example/a/b")


def test_an_object_may_send_elsewhere(door: S3Door) -> None:
    answer = visit(door, "open", "/sent")
    assert (answer.status, answer.body) == (301, b"")
    assert answer.headers["location"] == "https://other.example/a%20b"
    signed = door.ask("GET", "/open/sent")
    assert (signed.status, signed.body) == (200, b"instead")
    assert signed.headers["x-amz-website-redirect-location"] == "https://other.example/a b"


def test_copies_say_anew_where_they_send(door: S3Door) -> None:
    name = "x-amz-website-redirect-location"
    source = {"x-amz-copy-source": "/open/sent"}
    for more, location in (
        ({}, None),
        ({name: "/here"}, "/here"),
        ({"x-amz-metadata-directive": "REPLACE"}, None),
        ({name: "/there", "x-amz-metadata-directive": "REPLACE"}, "/there"),
    ):
        assert door.ask("PUT", "/open/copied", headers=source | more).status == 200
        assert door.ask("HEAD", "/open/copied").headers.get(name) == location
    itself = {"x-amz-copy-source": "/open/copied", name: "/again"}
    assert door.ask("PUT", "/open/copied", headers=itself).status == 200
    assert door.ask("HEAD", "/open/copied").headers[name] == "/again"
    wrong = door.ask("PUT", "/open/copied", b"x", {name: "elsewhere"})
    assert (wrong.status, wrong.code) == (400, "InvalidRedirectLocation")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_visitors_change_nothing(door: S3Door, method: str) -> None:
    answer = visit(door, "open", "/index.html", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "query",
    ["?versionId=x", "?acl", "?policy", "?response-content-type=text/evil", "?partNumber=9",
     "?X-Amz-Signature=x", "?AWSAccessKeyId=x"],
)  # fmt: skip
def test_of_a_query_nothing_counts(door: S3Door, query: str) -> None:
    answer = visit(door, "open", f"/index.html{query}")
    assert (answer.status, answer.body) == (200, b"home")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_signature_opens_no_website(door: S3Door) -> None:
    """Neither on the long way nor on the short one."""
    for method, status in (("GET", 403), ("PUT", 405)):
        headers, _ = door.signer.signed(method, "/shut/index.html", {"host": "shut.web.test"})
        answer = told(door.raw(head_of(method, "/shut/index.html", headers)))
        assert answer.status == status
        assert answer.headers["content-type"].startswith("text/html")
    assert door.ask("GET", "/shut/index.html").body == b"home"


@pytest.mark.parametrize(
    ("bucket", "code"),
    [("no-site", "NoSuchWebsiteConfiguration"), ("no-bucket", "NoSuchBucket"),
     ("x", "InvalidBucketName"), ("@keys", "InvalidBucketName")],
)  # fmt: skip
def test_where_there_is_no_website(door: S3Door, bucket: str, code: str) -> None:
    answer = visit(door, bucket)
    assert answer.status in (400, 404)
    assert answer.headers["x-amz-error-code"] == code
    assert f"<li>Code: {code}</li>".encode() in answer.body


def test_hosts_beside_the_domain_are_those_of_the_api(door: S3Door) -> None:
    for host in ("web.test", "open.s3.test", "open.web.test.evil.example", "localhost"):
        answer = told(door.raw(head_of("GET", "/", {"host": host})))
        assert answer.status == 403
        assert answer.headers["content-type"] == "application/xml"


def test_scripts_of_other_pages_are_told_the_rules_of_the_bucket(door: S3Door) -> None:
    cors = (
        "<CORSConfiguration><CORSRule><AllowedOrigin>https://page.example</AllowedOrigin>"
        "<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
    put(door, "/open?cors=", cors)
    asked = {"origin": "https://page.example"}
    allowed = "access-control-allow-origin"
    assert visit(door, "open", **asked).headers[allowed] == "https://page.example"
    assert visit(door, "open", "/nothing", **asked).headers[allowed] == "https://page.example"
    before = visit(door, "open", "/", "OPTIONS", **asked, access_control_request_method="GET")
    assert (before.status, before.headers[allowed]) == (200, "https://page.example")


def test_an_error_document_that_a_client_has_the_key_of_is_shown_to_nobody(door: S3Door) -> None:
    site(door, "sealed", RULES, actions=("s3:GetObject", "s3:ListBucket"))
    put(door, "/sealed/404.html", PAGE, **customer_headers("ann"))
    for method in ("GET", "HEAD"):
        answer = visit(door, "sealed", "/nothing", method)
        assert (answer.status, answer.headers["x-amz-error-code"]) == (404, "NoSuchKey")
        assert "etag" not in answer.headers
        assert PAGE.encode() not in answer.body


def test_a_website_can_be_taken_away(door: S3Door) -> None:
    site(door, "short", RULES, actions=("s3:GetObject",))
    assert visit(door, "short").body == b"home"
    assert b"<Suffix>index.html</Suffix>" in door.ask("GET", "/short?website=").body
    assert door.ask("DELETE", "/short?website=").status == 204
    assert door.ask("GET", "/short?website=").code == "NoSuchWebsiteConfiguration"
    assert visit(door, "short").status == 404
