"""ACLs of objects: a whole door without a socket, and callers of all kinds."""

from __future__ import annotations

import hashlib

import pytest

from router.gateway.s3.object_facts import ObjectFacts
from tests.s3_gate_kit import (
    ACLS_ON,
    ALLOW,
    BODY,
    DENIED,
    MISSING,
    Seen,
    block,
    ownership,
)

OFF = (400, "AccessControlListNotSupported")
EVERYBODY = b"global/AllUsers</URI></Grantee><Permission>READ</Permission>"
CANNED = ["private", "public-read", "authenticated-read", "bucket-owner-read"]


@pytest.fixture
def on(seen: Seen) -> Seen:
    """ACLs are on, and public ones too."""
    seen.put("ownershipControls", ACLS_ON)
    seen.unblock()
    return seen


def may_read(seen: Seen, key: str = "a") -> tuple[bool, bool]:
    """Whether anybody may read it, and whoever has a key."""
    path = f"/{seen.bucket}/{key}"
    told = [seen.outcome(who, "GET", path) for who in ("", "BOB")]
    assert set(told) <= {200, DENIED}
    return told[0] == 200, told[1] == 200


@pytest.mark.parametrize("acl", [*CANNED, "bucket-owner-full-control", "public-read-write"])
def test_where_acls_are_off_only_what_is_so_anyway_is_taken(seen: Seen, acl: str) -> None:
    told = 200 if acl in ("private", "bucket-owner-full-control") else OFF
    path = f"/{seen.bucket}/a"
    assert seen.outcome("ANN", "PUT", path, BODY, x_amz_acl=acl) == told
    assert seen.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl=acl) == told
    assert seen.outcome("ANN", "POST", f"{path}?uploads=", x_amz_acl=acl) == told
    assert may_read(seen) == (False, False)


@pytest.mark.parametrize(
    ("acl", "read"),
    [
        ("private", (False, False)),
        ("bucket-owner-read", (False, False)),
        ("bucket-owner-full-control", (False, False)),
        ("authenticated-read", (False, True)),
        ("public-read", (True, True)),
        ("public-read-write", (True, True)),
    ],
)
def test_whom_an_object_lets_in(on: Seen, acl: str, read: tuple[bool, bool]) -> None:
    path = f"/{on.bucket}/a"
    assert on.outcome("ANN", "PUT", path, BODY, x_amz_acl=acl) == 200
    assert may_read(on) == read
    assert on.ask("", "HEAD", path).status == (200 if read[0] else 403)
    for method, sub in (("GET", "?acl"), ("GET", "?tagging"), ("DELETE", ""), ("PUT", "")):
        assert on.outcome("", method, path + sub) == DENIED, "it is to read the object, no more"
    assert may_read(on, "b/c") == (False, False)
    told = on.ask("ANN", "GET", f"{path}?acl")
    assert on.outcome("ANN", "PUT", f"{path}?acl", told.body) == 200, "what is told can be said"
    assert on.ask("ANN", "GET", f"{path}?acl").body == told.body
    assert on.outcome("ANN", "PUT", path, BODY) == 200
    assert may_read(on) == (False, False), "another version has its own"


def test_an_acl_is_changed_afterwards(on: Seen) -> None:
    path = f"/{on.bucket}/a"
    before = on.ask("ANN", "HEAD", path).headers
    assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl="public-read") == 200
    assert may_read(on) == (True, True)
    assert EVERYBODY in on.ask("ANN", "GET", f"{path}?acl").body
    after = on.ask("ANN", "HEAD", path).headers
    assert [after[name] for name in ("etag", "last-modified")] == [
        before[name] for name in ("etag", "last-modified")
    ]
    tags = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"
    assert on.outcome("ANN", "PUT", f"{path}?tagging", tags) == 200
    assert may_read(on) == (True, True)
    assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl="private") == 200
    assert may_read(on) == (False, False)
    assert on.ask("ANN", "HEAD", path).headers["x-amz-tagging-count"] == "1"


def test_what_cannot_be_set(on: Seen) -> None:
    path = f"/{on.bucket}/a"
    for sub, body in (("", BODY), ("?acl", b"")):
        for acl, told in (
            ("aws-exec-read", (501, "NotImplemented")),
            ("nonsense", (400, "InvalidArgument")),
        ):
            assert on.outcome("ANN", "PUT", path + sub, body, x_amz_acl=acl) == told
    assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_grant_read="id=x")[0] == 501
    assert on.outcome("ANN", "PUT", f"{path}?acl") == (400, "MissingSecurityHeader")
    none = f"/{on.bucket}/none?acl"
    assert on.outcome("ANN", "PUT", none, x_amz_acl="public-read") == MISSING
    assert on.outcome("ANN", "GET", f"{path}?acl&versionId=x") == (400, "InvalidArgument")
    assert may_read(on) == (False, False)


def test_the_block_refuses_public_acls_and_ignores_those_that_are_there(on: Seen) -> None:
    path = f"/{on.bucket}/a"
    assert on.outcome("ANN", "PUT", path, BODY, x_amz_acl="public-read") == 200
    on.put("publicAccessBlock", block("BlockPublicAcls", "true"))
    assert may_read(on) == (True, True)
    for acl in ("public-read", "authenticated-read"):
        assert on.outcome("ANN", "PUT", path, BODY, x_amz_acl=acl) == DENIED
        assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl=acl) == DENIED
        assert on.outcome("ANN", "POST", f"{path}?uploads=", x_amz_acl=acl) == DENIED
    assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl="bucket-owner-read") == 200
    on.unblock()
    assert on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl="public-read") == 200
    on.put("publicAccessBlock", block("IgnorePublicAcls", "true"))
    assert may_read(on) == (False, False)
    assert EVERYBODY in on.ask("ANN", "GET", f"{path}?acl").body
    on.unblock()
    assert may_read(on) == (True, True)
    on.put("ownershipControls", ownership("BucketOwnerEnforced"))
    assert may_read(on) == (False, False)
    assert EVERYBODY not in on.ask("ANN", "GET", f"{path}?acl").body


def test_a_denial_wins(on: Seen) -> None:
    path = f"/{on.bucket}/a"
    assert on.outcome("ANN", "PUT", path, BODY, x_amz_acl="public-read") == 200
    on.policy(ALLOW | {"Effect": "Deny", "Action": "s3:GetObject"})
    assert may_read(on) == (False, False)
    assert on.outcome("ANN", "GET", path) == DENIED


def test_to_set_one_is_a_right_of_its_own(on: Seen) -> None:
    path = f"/{on.bucket}/x"
    on.policy(ALLOW | {"Action": "s3:PutObject"})
    assert on.outcome("BOB", "PUT", path, BODY, x_amz_acl="bucket-owner-full-control") == 200
    assert on.outcome("BOB", "PUT", path, BODY, x_amz_acl="public-read") == DENIED
    assert on.outcome("BOB", "PUT", f"{path}?acl", x_amz_acl="private") == DENIED
    on.policy(ALLOW | {"Action": ["s3:PutObject", "s3:PutObjectAcl"]})
    assert on.outcome("BOB", "PUT", path, BODY, x_amz_acl="public-read") == 200
    assert on.outcome("BOB", "PUT", f"{path}?acl", x_amz_acl="authenticated-read") == 200
    assert may_read(on, "x") == (False, True)


def test_each_version_has_its_own(on: Seen) -> None:
    enable = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    on.put("versioning", enable)
    path = f"/{on.bucket}/a"
    told = on.ask("ANN", "PUT", path, BODY, x_amz_acl="public-read")
    version = told.headers["x-amz-version-id"]
    assert on.outcome("ANN", "PUT", path, b"newer") == 200
    assert on.outcome("", "GET", path) == DENIED
    assert on.outcome("", "GET", f"{path}?versionId={version}") == 200
    assert on.outcome("", "GET", f"{path}?versionId=null") == DENIED
    named = f"{path}?acl&versionId=null"
    assert on.outcome("ANN", "PUT", named, x_amz_acl="public-read") == 200
    assert on.outcome("", "GET", f"{path}?versionId=null") == 200
    assert on.outcome("ANN", "DELETE", path) == 204
    gone = on.outcome("ANN", "PUT", f"{path}?acl", x_amz_acl="public-read")
    assert gone == MISSING


def test_what_is_made_of_another_object_begins_with_what_it_names(on: Seen) -> None:
    path, copy = f"/{on.bucket}/a", f"/{on.bucket}/copy"
    assert on.outcome("ANN", "PUT", path, BODY, x_amz_acl="public-read") == 200
    source = {"x_amz_copy_source": path}
    assert on.outcome("ANN", "PUT", copy, **source) == 200
    assert may_read(on, "copy") == (False, False)
    assert on.outcome("ANN", "PUT", copy, **source, x_amz_acl="authenticated-read") == 200
    assert may_read(on, "copy") == (False, True)
    renamed = {"x_amz_rename_source": "a"}
    assert on.outcome("ANN", "PUT", f"/{on.bucket}/renamed?renameObject", **renamed) == 200
    assert may_read(on, "renamed") == (True, True), "that is the same object"


def test_uploads_in_parts_have_what_they_began_with(on: Seen) -> None:
    path = f"/{on.bucket}/x"
    begun = on.ask("ANN", "POST", f"{path}?uploads=", x_amz_acl="public-read").body.decode()
    upload = begun.partition("<UploadId>")[2].partition("<")[0]
    assert on.outcome("ANN", "PUT", f"{path}?partNumber=1&uploadId={upload}", BODY) == 200
    part = f"<Part><PartNumber>1</PartNumber><ETag>{hashlib.md5(BODY).hexdigest()}</ETag></Part>"
    root = "CompleteMultipartUpload"
    whole = f"<{root}>{part}</{root}>".encode()
    assert on.outcome("ANN", "POST", f"{path}?uploadId={upload}", whole) == 200
    assert may_read(on, "x") == (True, True)


def test_nothing_is_asked_where_no_object_could_let_in(
    on: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on.outcome("ANN", "PUT", f"/{on.bucket}/a", BODY, x_amz_acl="public-read") == 200
    asked = []

    async def acl(_: object, name: tuple[str, str, str | None]) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(ObjectFacts, "acl", acl)
    assert on.outcome("ANN", "GET", f"/{on.bucket}/a") == 200
    assert on.outcome("", "PUT", f"/{on.bucket}/a", BODY) == DENIED
    assert asked == []
    assert on.outcome("", "GET", f"/{on.bucket}/a") == DENIED
    assert len(asked) == 1
    on.put("publicAccessBlock", block("IgnorePublicAcls", "true"))
    assert on.outcome("", "GET", f"/{on.bucket}/a") == DENIED
    assert len(asked) == 1
