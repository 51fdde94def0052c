"""What answers tell of the end of objects, by lifecycle rules: a whole door without a socket."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from common.records import Version
from common.versions import version_name, versions_of
from router.gateway.conditions import http_date
from router.gateway.s3.expiration import HEADER, expiration
from router.gateway.s3.rules import Rules, rules_of
from router.lifecycle import DAY_MS, Rule, end_ms, kept
from tests.s3_door_kit import S3Door, open_door
from tests.s3_kit import Told

ROOT = "LifecycleConfiguration"
BUCKET = "/photos"
RULES = f"""<{ROOT}>
<Rule><ID>of tags</ID><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>
<Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>
<Rule><ID>logs</ID><Filter><Prefix>logs/</Prefix></Filter>
<Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule>
<Rule><ID>versions</ID><Filter/><Status>Enabled</Status>
<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>
</{ROOT}>""".encode()


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", BUCKET).status == 200
        md5 = {"content-md5": b64encode(hashlib.md5(RULES).digest()).decode()}
        assert made.ask("PUT", f"{BUCKET}?lifecycle", RULES, md5).status == 200
        yield made


def expected(door: S3Door, path: str, days: int, rule: str) -> str:
    written = parsedate_to_datetime(door.ask("HEAD", path).headers["last-modified"])
    date = http_date(end_ms(int(written.timestamp()) * 1000, days))
    return f'expiry-date="{date}", rule-id="{rule}"'


def told(answer: Told) -> str | None:
    assert answer.status < 300, answer
    return answer.headers.get(HEADER)


@pytest.mark.parametrize(
    ("key", "headers", "days", "rule"),
    [
        ("logs/a", {}, 30, "logs"),
        ("logs/b", {"x-amz-tagging": "k=v"}, 3, "of%20tags"),
        ("other", {"x-amz-tagging": "k=v&x=y"}, 3, "of%20tags"),
        ("none", {"x-amz-tagging": "k=w"}, 0, ""),
    ],
)
def test_whoever_writes_and_reads_is_told(
    door: S3Door, key: str, headers: dict[str, str], days: int, rule: str
) -> None:
    path = f"{BUCKET}/{key}"
    put = told(door.ask("PUT", path, b"x", headers))
    assert put == (expected(door, path, days, rule) if rule else None)
    assert told(door.ask("GET", path)) == put
    assert told(door.ask("HEAD", path)) == put
    partly = door.ask("GET", f"{path}?partNumber=1")
    assert (partly.status, told(partly)) == (206, put)
    source = {"x-amz-copy-source": path}
    assert told(door.ask("PUT", f"{BUCKET}/logs/copy", b"", source)) == (
        put or expected(door, f"{BUCKET}/logs/copy", 30, "logs")
    )
    assert told(door.ask("GET", f"{path}?versionId=null")) is None
    assert told(door.ask("DELETE", f"{path}?tagging")) is None
    logs = expected(door, path, 30, "logs") if key.startswith("logs/") else None
    assert told(door.ask("GET", path)) == logs


def test_parts_too(door: S3Door) -> None:
    path = f"{BUCKET}/logs/parts"
    upload = door.ask("POST", f"{path}?uploads")
    assert told(upload) is None
    _, _, rest = upload.body.partition(b"<UploadId>")
    where = f"{path}?uploadId={rest.partition(b'<')[0].decode()}"
    etag = door.ask("PUT", f"{where}&partNumber=1", b"x").headers["etag"].strip('"')
    line = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{line}</CompleteMultipartUpload>".encode()
    assert told(door.ask("POST", where, body)) == expected(door, path, 30, "logs")


def of(*rules: Rule) -> Rules:
    return rules_of("b", 1, {"lifecycle": kept(rules)})


def version(**options: Any) -> Version:
    return Version("b", "key", 1, 5, "e", DAY_MS, (), **options)


def test_a_rule_that_ends_nothing_costs_nothing() -> None:
    off = Rule("off", enabled=False, days=1)
    assert of(off, Rule("v", noncurrent_days=1), Rule("m", markers=True)).expiring == ()
    assert rules_of("b", 1, {"lifecycle": "of tomorrow"}).expiring == ()
    assert of(off, Rule("on", days=1)).expiring == (Rule("on", days=1),)


def test_the_first_end_is_told() -> None:
    rules = of(Rule("b", days=2), Rule("a", date_ms=2 * DAY_MS), Rule("c", days=9, larger=5))
    assert expiration(rules, version()) == {
        HEADER: 'expiry-date="Sat, 03 Jan 1970 00:00:00 GMT", rule-id="a"'
    }


def test_an_end_that_no_date_can_tell() -> None:
    (told,) = expiration(of(Rule("ä", days=2**31 - 1)), version()).values()
    assert told == 'expiry-date="Fri, 31 Dec 9999 00:00:00 GMT", rule-id="%C3%A4"'


def test_versions_are_known_by_their_names() -> None:
    place, name = versions_of("b"), version_name("key", 7)
    what = Version(place, name, 7, 5, "e", DAY_MS, ())
    assert expiration(of(Rule("a", prefix="ke", days=1)), what)
    assert not expiration(of(Rule("a", prefix="key0", days=1)), what)
