"""Object lock at a whole door without a socket: what it keeps, from whom, and what is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.s3_door_kit import S3Door
from tests.s3_gate_kit import ALLOW, BODY, DENIED, Seen, bucket_of, open_to_all_kinds
from tests.s3_kit import Told

LATER, LATEST = "2090-01-02T03:04:05.000Z", "2091-01-02T03:04:05.678Z"
MODE, UNTIL, HOLD = (
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
)
ABSENT = (404, "NoSuchObjectLockConfiguration")
BOB = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::bob:root"}}


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_to_all_kinds() as made:
        yield made


class Locked:
    """A bucket with locks, and who asks."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.bucket = seen.bucket

    def ask(self, method: str, rest: str, body: str = "", who: str = "ANN", **headers: str) -> Told:
        path = f"/{self.bucket}{rest}"
        return self.seen.ask(who, method, path, body.encode(), **headers)

    def outcome(
        self, method: str, rest: str, body: str = "", who: str = "ANN", **headers: str
    ) -> Any:
        path = f"/{self.bucket}{rest}"
        return self.seen.outcome(who, method, path, body.encode(), **headers)

    def write(self, key: str = "k", **headers: str) -> str:
        """The ID of a new version."""
        told = self.ask("PUT", f"/{key}", "0123456789", **headers)
        assert told.status == 200, told
        return told.headers["x-amz-version-id"]

    def retain(
        self, version: str, mode: str, until: str, who: str = "ANN", key: str = "k", **more: str
    ) -> Any:
        inside = f"<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>" if mode else ""
        body = f"<Retention>{inside}</Retention>"
        return self.outcome("PUT", f"/{key}?retention&versionId={version}", body, who, **more)

    def hold(self, version: str, status: str, who: str = "ANN") -> Any:
        body = f"<LegalHold><Status>{status}</Status></LegalHold>"
        return self.outcome("PUT", f"/k?legal-hold&versionId={version}", body, who)

    def lock(self, key: str = "k", version: str = "", who: str = "ANN") -> tuple[Any, ...]:
        """Mode, time and hold as HeadObject tells them."""
        rest = f"?versionId={version}" if version else ""
        told = self.ask("HEAD", f"/{key}{rest}", who=who)
        assert told.status == 200, told
        assert self.ask("GET", f"/{key}{rest}", who=who).headers.get(MODE) == told.headers.get(MODE)
        return tuple(told.headers.get(name) for name in (MODE, UNTIL, HOLD))

    def default(self, rule: str) -> Any:
        rule = f"<Rule><DefaultRetention>{rule}</DefaultRetention></Rule>" if rule else ""
        root = "ObjectLockConfiguration"
        body = f"<{root}><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</{root}>"
        return self.outcome("PUT", "?object-lock", body)


@pytest.fixture
def plain(door: S3Door, request: pytest.FixtureRequest) -> Locked:
    """A bucket that has none yet."""
    return Locked(bucket_of(door, f"locking {request.node.name}"))


@pytest.fixture
def locked(plain: Locked) -> Locked:
    plain.bucket = f"l{plain.bucket}"
    enabled = {"x_amz_bucket_object_lock_enabled": "true"}
    assert plain.outcome("PUT", "", **enabled) == 200
    plain.seen.bucket = plain.bucket
    return plain


def under(mode: str = "GOVERNANCE", until: str = LATER, hold: str = "") -> dict[str, str]:
    """The headers of a lock."""
    told = {}
    if mode:
        told |= {MODE.replace("-", "_"): mode, UNTIL.replace("-", "_"): until}
    return told | ({HOLD.replace("-", "_"): hold} if hold else {})


BYPASS = {"x_amz_bypass_governance_retention": "true"}


def test_a_bucket_is_created_with_it_and_keeps_it(locked: Locked) -> None:
    told = locked.ask("GET", "?object-lock").body
    assert told.endswith(
        b"<ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
    )
    assert b"<Status>Enabled</Status>" in locked.ask("GET", "?versioning").body
    for status, outcome in (("Suspended", (409, "InvalidBucketState")), ("Enabled", 200)):
        root = "VersioningConfiguration"
        body = f"<{root}><Status>{status}</Status></{root}>"
        assert locked.outcome("PUT", "?versioning", body) == outcome
    strange = {"x_amz_bucket_object_lock_enabled": "perhaps"}
    assert locked.outcome("PUT", "", **strange) == (400, "InvalidArgument")


def test_a_bucket_with_versions_can_get_it(plain: Locked) -> None:
    absent = (404, "ObjectLockConfigurationNotFoundError")
    assert plain.outcome("GET", "?object-lock") == absent
    assert plain.default("") == (409, "InvalidBucketState")
    assert plain.retain("null", "GOVERNANCE", LATER, key="a") == (400, "InvalidRequest")
    assert plain.outcome("GET", "/a?legal-hold") == (400, "InvalidRequest")
    assert plain.outcome("PUT", "/a", "x", **under()) == (400, "InvalidRequest")
    root = "VersioningConfiguration"
    body = f"<{root}><Status>Enabled</Status></{root}>"
    assert plain.outcome("PUT", "?versioning", body) == 200
    assert plain.default("") == 200
    # What was there before can be locked, too.
    assert plain.retain("null", "GOVERNANCE", LATER, key="a") == 200
    assert plain.outcome("DELETE", "/a?versionId=null") == DENIED
    assert plain.outcome("DELETE", "/a?versionId=null", **BYPASS) == 204
    assert plain.outcome("GET", "/nowhere?retention") == (404, "NoSuchKey")
    assert plain.outcome("GET", "nowhere/k?retention") == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ("<Mode>GOVERNANCE</Mode><Days>3</Days>", 200),
        ("<Mode>COMPLIANCE</Mode><Years>100</Years>", 200),
        ("<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("<Days>3</Days>", "MalformedXML"),
        ("<Mode>x</Mode><Days>3</Days>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>3</Days><Years>1</Years>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>three</Days>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>0</Days>", "InvalidArgument"),
        ("<Mode>GOVERNANCE</Mode><Days>36501</Days>", "InvalidArgument"),
        ("<Mode>GOVERNANCE</Mode><Years>101</Years>", "InvalidArgument"),
    ],
)
def test_what_a_bucket_has_for_new_versions(locked: Locked, rule: str, outcome: Any) -> None:
    if outcome != 200:
        assert locked.default(rule) == (400, outcome)
        assert b"Rule" not in locked.ask("GET", "?object-lock").body
        return
    assert locked.default(rule) == 200
    assert rule.encode() in locked.ask("GET", "?object-lock").body
    locked.write()
    mode, until, hold = locked.lock()
    assert (mode, hold) == (rule[6:16], None)
    now_s = locked.seen.door.store.world.clock.now_ms() / 1000
    left_s = datetime.fromisoformat(until).timestamp() - now_s
    days = left_s / 86_400
    assert abs(days - 3) < 0.1 if "Days" in rule else abs(days - 36_524) < 2
    # What a request says counts instead, and a hold beside it.
    locked.write(**under(until=LATEST))
    assert locked.lock() == ("GOVERNANCE", LATEST, None)
    locked.write(**under("", hold="ON"))
    assert (locked.lock()[0], locked.lock()[2]) == (mode, "ON")
    assert locked.default("") == 200
    locked.write()
    assert locked.lock() == (None, None, None)


def test_a_version_is_kept_and_its_name_is_not(locked: Locked) -> None:
    version = locked.write(**under())
    told = locked.ask("DELETE", f"/k?versionId={version}")
    assert (told.status, told.code) == DENIED
    assert told.field("Message") == "Access Denied because object protected by object lock."
    assert locked.lock() == ("GOVERNANCE", LATER, None)
    marker = locked.ask("DELETE", "/k")
    assert (marker.status, marker.headers["x-amz-delete-marker"]) == (204, "true")
    assert locked.outcome("GET", "/k?retention") == (404, "NoSuchKey")
    named = f"/k?retention&versionId={marker.headers['x-amz-version-id']}"
    assert locked.outcome("GET", named) == (405, "MethodNotAllowed")
    assert locked.outcome("DELETE", "") == (409, "BucketNotEmpty")
    assert locked.lock(version=version) == ("GOVERNANCE", LATER, None)
    assert locked.outcome("DELETE", f"/k?versionId={version}", **BYPASS) == 204
    gone = f"/k?versionId={marker.headers['x-amz-version-id']}"
    assert locked.outcome("DELETE", gone) == 204
    assert locked.outcome("DELETE", "") == 204


def test_many_are_deleted_each_for_its_own(locked: Locked) -> None:
    governed, held, free = locked.write(**under()), locked.write(), locked.write()
    assert locked.hold(held, "ON") == 200
    versions = (governed, held, free)
    each = "".join(f"<Object><Key>k</Key><VersionId>{v}</VersionId></Object>" for v in versions)
    body = f"<Delete>{each}</Delete>"
    told = locked.ask("POST", "?delete", body).body.decode()
    assert re.findall(r"<Deleted><Key>k</Key><VersionId>(\w+)<", told) == [free]
    failed = r"<Error><Key>k</Key><VersionId>(\w+)</VersionId><Code>AccessDenied<"
    assert re.findall(failed, told) == [governed, held]
    told = locked.ask("POST", "?delete", body, **BYPASS).body.decode()
    assert sorted(re.findall(r"<Deleted><Key>k</Key><VersionId>(\w+)<", told)) == (
        sorted([governed, free])
    )
    assert re.findall(failed, told) == [held]


def test_governance_is_changed_by_who_may(locked: Locked) -> None:
    version = locked.write()
    path = f"/k?retention&versionId={version}"
    assert locked.outcome("GET", path) == ABSENT
    assert locked.retain(version, "GOVERNANCE", LATER) == 200
    inside = f"<Mode>GOVERNANCE</Mode><RetainUntilDate>{LATER}</RetainUntilDate></Retention>"
    assert locked.ask("GET", path).body.endswith(inside.encode())
    assert locked.retain(version, "GOVERNANCE", LATEST) == 200
    assert locked.retain(version, "GOVERNANCE", LATER) == DENIED
    assert locked.retain(version, "", "") == DENIED
    assert locked.lock(version=version) == ("GOVERNANCE", LATEST, None)
    assert locked.retain(version, "GOVERNANCE", LATER, **BYPASS) == 200
    assert locked.retain(version, "", "", **BYPASS) == 200
    assert locked.outcome("GET", path) == ABSENT
    assert locked.outcome("DELETE", f"/k?versionId={version}") == 204


def test_compliance_is_only_ever_lengthened(locked: Locked) -> None:
    version = locked.write(**under("GOVERNANCE", LATER))
    assert locked.retain(version, "COMPLIANCE", LATER) == 200
    for who in ("ANN", "TESTKEY"):
        for mode, until in (
            ("COMPLIANCE", "2089-01-01T00:00:00Z"),
            ("GOVERNANCE", LATEST),
            ("", ""),
        ):
            assert locked.retain(version, mode, until, who, **BYPASS) == DENIED
        assert locked.outcome("DELETE", f"/k?versionId={version}", who=who, **BYPASS) == DENIED
    assert locked.retain(version, "COMPLIANCE", LATEST) == 200
    assert locked.lock(version=version) == ("COMPLIANCE", LATEST, None)


def test_it_ends_with_its_time(door: S3Door, locked: Locked) -> None:
    now_ms = door.store.world.clock.now_ms()
    until = datetime.fromtimestamp(now_ms // 1000 + 100, UTC).isoformat()
    version = locked.write(**under("COMPLIANCE", until))
    assert locked.outcome("DELETE", f"/k?versionId={version}") == DENIED
    door.run(asyncio.sleep(120))
    assert locked.lock()[0] == "COMPLIANCE", "it is told, and keeps nothing"
    assert locked.outcome("DELETE", f"/k?versionId={version}") == 204
    version = locked.write(**under("COMPLIANCE", LATER))
    past = {MODE.replace("-", "_"): "GOVERNANCE", UNTIL.replace("-", "_"): until}
    assert locked.outcome("PUT", "/k", "x", **past) == (400, "InvalidArgument")
    assert locked.retain(version, "COMPLIANCE", until) == (400, "InvalidArgument")


def test_a_hold_keeps_whatever_the_time(locked: Locked) -> None:
    version = locked.write()
    path = f"/k?legal-hold&versionId={version}"
    assert locked.outcome("GET", path) == ABSENT
    assert locked.hold(version, "ON") == 200
    assert locked.ask("GET", path).body.endswith(b"<Status>ON</Status></LegalHold>")
    assert locked.lock() == (None, None, "ON")
    assert locked.retain(version, "GOVERNANCE", LATER) == 200
    assert locked.outcome("DELETE", f"/k?versionId={version}", **BYPASS) == DENIED
    assert locked.hold(version, "OFF") == 200
    assert locked.lock() == ("GOVERNANCE", LATER, "OFF")
    assert locked.outcome("DELETE", f"/k?versionId={version}") == DENIED
    assert locked.outcome("DELETE", f"/k?versionId={version}", **BYPASS) == 204
    for wrong in ("on", "", "PERHAPS"):
        assert locked.hold(version, wrong) == (404, "NoSuchVersion")
    version = locked.write()
    assert locked.hold(version, "on") == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({MODE: "GOVERNANCE"}, "InvalidArgument"),
        ({UNTIL: LATER}, "InvalidArgument"),
        ({MODE: "governance", UNTIL: LATER}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "2090-01-01"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "tomorrow"}, "InvalidArgument"),
        ({MODE: "GOVERNANCE", UNTIL: "2090-13-01T00:00:00Z"}, "InvalidArgument"),
        ({HOLD: "on"}, "InvalidArgument"),
    ],
)
@pytest.mark.parametrize("what", ["PUT", "copy", "upload"])
def test_what_no_lock_can_be(locked: Locked, headers: dict[str, str], code: str, what: str) -> None:
    locked.write("source")
    given = {name.replace("-", "_"): value for name, value in headers.items()}
    if what == "copy":
        given["x_amz_copy_source"] = f"/{locked.bucket}/source"
    method, rest = ("POST", "/k?uploads") if what == "upload" else ("PUT", "/k")
    body = "x" if what == "PUT" else ""
    assert locked.outcome(method, rest, body, **given) == (400, code)
    assert locked.outcome("GET", "/k") == (404, "NoSuchKey")


def test_nothing_is_said_of_it_in_a_query(locked: Locked) -> None:
    for said in (f"{MODE}=GOVERNANCE", f"{UNTIL}=2090", f"{HOLD}=ON"):
        assert locked.outcome("PUT", f"/k?{said}", "x") == (400, "InvalidArgument")
    assert locked.outcome("PUT", "?x-amz-bucket-object-lock-enabled=true") == (
        (400, "InvalidArgument")
    )
    assert locked.outcome("GET", "/k") == (404, "NoSuchKey")


def test_what_is_locked_is_summed(locked: Locked) -> None:
    path = f"/{locked.bucket}/k"
    given = {name.replace("_", "-"): value for name, value in under().items()}
    sent = locked.seen.door.ask("PUT", path, BODY, given)
    assert (sent.status, sent.code) == (400, "InvalidRequest")


def test_copies_and_uploads_get_their_own(locked: Locked) -> None:
    locked.write("source", **under(hold="ON"))
    copy = {"x_amz_copy_source": f"/{locked.bucket}/source"}
    assert locked.outcome("PUT", "/plain", **copy) == 200
    assert locked.lock("plain") == (None, None, None)
    assert locked.outcome("PUT", "/copy", **copy, **under("COMPLIANCE", LATEST, "OFF")) == 200
    assert locked.lock("copy") == ("COMPLIANCE", LATEST, "OFF")
    begun = locked.ask("POST", "/parts?uploads", **under(hold="ON"))
    upload = begun.field("{http://s3.amazonaws.com/doc/2006-03-01/}UploadId")
    part = locked.ask("PUT", f"/parts?partNumber=1&uploadId={upload}", "body")
    etag = part.headers["etag"]
    inside = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{inside}</CompleteMultipartUpload>"
    assert locked.outcome("POST", f"/parts?uploadId={upload}", body) == 200
    assert locked.lock("parts") == ("GOVERNANCE", LATER, "ON")
    assert locked.ask("GET", "/parts").body == b"body"
    assert "x-upload-lock" not in locked.ask("HEAD", "/parts").headers


def test_who_may(locked: Locked) -> None:
    version = locked.write(**under(hold="OFF"))
    named = f"/k?versionId={version}"

    def let(*actions: str) -> None:
        said = [f"s3:{each}" for each in ("GetObject", "GetObjectVersion", "PutObject", *actions)]
        locked.seen.policy(BOB | {"Action": said})

    let()
    assert locked.lock(version=version, who="BOB") == (None, None, None)
    assert locked.retain(version, "GOVERNANCE", LATEST, "BOB") == DENIED
    assert locked.hold(version, "ON", "BOB") == DENIED
    assert locked.outcome("GET", "/k?retention", who="BOB") == DENIED
    assert locked.outcome("GET", "?object-lock", who="BOB") == DENIED
    assert locked.outcome("PUT", "/bobs", "x", who="BOB", **under("", hold="ON")) == DENIED
    assert locked.outcome("PUT", "/bobs", "x", who="BOB", **under()) == DENIED
    assert locked.outcome("PUT", "/bobs", "x", who="BOB") == 200
    let("GetObjectRetention", "PutObjectRetention", "DeleteObjectVersion")
    assert locked.lock(version=version, who="BOB") == ("GOVERNANCE", LATER, None)
    assert locked.retain(version, "GOVERNANCE", LATEST, "BOB") == 200
    assert locked.retain(version, "GOVERNANCE", LATER, "BOB", **BYPASS) == DENIED
    assert locked.outcome("DELETE", named, who="BOB", **BYPASS) == DENIED
    assert locked.outcome("PUT", "/bobs", "x", who="BOB", **under()) == 200
    let("GetObjectLegalHold", "PutObjectLegalHold", "DeleteObjectVersion")
    assert locked.lock(version=version, who="BOB") == (None, None, "OFF")
    assert locked.hold(version, "ON", "BOB") == 200
    assert locked.hold(version, "OFF", "BOB") == 200
    let("PutObjectRetention", "BypassGovernanceRetention", "DeleteObjectVersion")
    assert locked.retain(version, "GOVERNANCE", LATER, "BOB", **BYPASS) == 200
    assert locked.outcome("DELETE", named, who="BOB") == DENIED
    assert locked.outcome("DELETE", named, who="BOB", **BYPASS) == 204


def test_a_key_for_all_buckets_is_not_the_owner_of_each(locked: Locked) -> None:
    """It may write what is another's, and yet not go by what protects that."""
    version = locked.write(**under())
    named = f"/k?versionId={version}"
    assert locked.retain(version, "GOVERNANCE", LATEST, "OTHER") == 200
    assert locked.outcome("DELETE", named, who="OTHER", **BYPASS) == DENIED
    assert locked.retain(version, "GOVERNANCE", LATER, "OTHER", **BYPASS) == DENIED
    other = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::other:root"}}
    locked.seen.policy(other | {"Action": "s3:BypassGovernanceRetention"})
    assert locked.retain(version, "GOVERNANCE", LATER, "OTHER", **BYPASS) == 200
    denies = ALLOW | {"Effect": "Deny", "Action": "s3:BypassGovernanceRetention"}
    locked.seen.policy(denies)
    for who in ("OTHER", "ANN"):
        assert locked.outcome("DELETE", named, who=who, **BYPASS) == DENIED
    assert locked.outcome("DELETE", "?policy") == 204
    assert locked.outcome("DELETE", named, **BYPASS) == 204


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("9999-12-31T23:59:59-14:00", None),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:59:59+14:00", "9999-12-31T09:59:59.000Z"),
        ("2090-01-02T03:04:05.9999+02:00", "2090-01-02T01:04:05.999Z"),
    ],
)
def test_a_time_can_be_told_again_or_is_refused(
    locked: Locked, until: str, told: str | None
) -> None:
    """Else whoever looks at the object would be told of an error, for ever."""
    version = locked.write()
    if told is None:
        assert locked.retain(version, "GOVERNANCE", until) == (400, "InvalidArgument")
        assert locked.ask("HEAD", "/k").status == 200
        return
    assert locked.retain(version, "GOVERNANCE", until) == 200
    assert locked.lock() == ("GOVERNANCE", told, None)
