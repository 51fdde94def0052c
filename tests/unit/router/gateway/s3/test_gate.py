"""Who may do what at the S3 door: a whole door without a socket, and callers of all kinds."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from router.uploads import Uploads
from tests.s3_door_kit import head_of, told
from tests.s3_gate_kit import (
    ACLS_ON,
    ALLOW,
    BODY,
    DENIED,
    MISSING,
    OPEN,
    Seen,
    block,
    ownership,
)
from tests.s3_kit import (
    KEY_ID,
    SECRET,
    SIGNED_CHUNKS,
    TRAILER,
    UNSIGNED,
    Signer,
    customer_headers,
    unsigned_chunks,
)

EVERYTHING = [
    ("GET", "/"), ("PUT", "/new-one"), ("GET", "/{b}"), ("HEAD", "/{b}"), ("DELETE", "/{b}"),
    ("GET", "/{b}?location"), ("GET", "/{b}?acl"), ("GET", "/{b}?policy"), ("GET", "/{b}?versions"),
    ("GET", "/{b}?uploads"), ("GET", "/{b}/a"), ("HEAD", "/{b}/a"), ("GET", "/{b}/none"),
    ("GET", "/{b}/a?acl"), ("GET", "/{b}/a?tagging"), ("GET", "/{b}/a?attributes"),
    ("PUT", "/{b}/a"), ("DELETE", "/{b}/a"), ("POST", "/{b}/a?uploads"), ("GET", "/nowhere"),
    ("PUT", "/{b}/a?partNumber=1&uploadId=x"), ("POST", "/{b}?delete"),
    ("PATCH", "/{b}/a"), ("PUT", "/{b}?policy"), ("DELETE", "/{b}?publicAccessBlock"),
    ("PUT", "/{b}?acl"), ("PUT", "/{b}/a?acl"), ("GET", "/{b}?website"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize("who", ["", "BOB"])
def test_nothing_is_shared_at_first(seen: Seen, who: str, method: str, path: str) -> None:
    answer = seen.ask(who, method, path.format(b=seen.bucket))
    if who and (path in ("/", "/new-one") or method == "PATCH"):
        assert answer.status in (200, 403, 501)  # keys see their own buckets, and what is not there
    else:
        assert answer.status == 403
        assert answer.code in ("", "AccessDenied")


def test_everybody_reads(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:GetObject"})
    for who in ("", "BOB", "READER"):
        assert seen.ask(who, "GET", f"/{seen.bucket}/a").body == BODY
        assert seen.outcome(who, "HEAD", f"/{seen.bucket}/b/c") == 200
        assert seen.outcome(who, "GET", f"/{seen.bucket}/none") == DENIED
        assert seen.ask(who, "HEAD", f"/{seen.bucket}/none").status == 403
        assert seen.outcome(who, "GET", f"/{seen.bucket}") == DENIED
        assert seen.outcome(who, "PUT", f"/{seen.bucket}/a", BODY) == DENIED
        assert seen.outcome(who, "DELETE", f"/{seen.bucket}/a") == DENIED
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/none") == MISSING


def test_who_may_list_learns_what_is_missing(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": ["s3:GetObject", "s3:ListBucket"]})
    assert seen.outcome("", "GET", f"/{seen.bucket}/none") == MISSING
    assert b"<Key>b/c</Key>" in seen.ask("", "GET", f"/{seen.bucket}?list-type=2").body
    assert seen.outcome("", "GET", f"/{seen.bucket}?versions") == DENIED


def test_a_prefix_that_may_be_listed(seen: Seen) -> None:
    seen.unblock()
    narrowed = {"StringLike": {"s3:prefix": "b/*"}}
    seen.policy(
        ALLOW | {"Action": "s3:ListBucket", "Condition": narrowed},
        ALLOW | {"Action": "s3:GetObject"},
    )
    assert seen.outcome("", "GET", f"/{seen.bucket}?prefix=b/") == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}?prefix=b%2F") == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}?prefix=a&prefix=b/") == DENIED
    assert seen.outcome("", "GET", f"/{seen.bucket}?prefix=") == DENIED
    assert seen.outcome("", "GET", f"/{seen.bucket}") == DENIED
    assert seen.outcome("", "GET", f"/{seen.bucket}/none?prefix=b/") == DENIED


def test_the_block_keeps_everybody_out(seen: Seen) -> None:
    public = ALLOW | {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{seen.bucket}/*"}
    document = json.dumps({"Statement": public}).encode()
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}?policy", document) == DENIED
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:GetObject"}, ALLOW | {"Action": "s3:DeleteObject"})
    assert seen.outcome("", "GET", f"/{seen.bucket}/a") == 200
    seen.put(
        "publicAccessBlock",
        block("RestrictPublicBuckets", "true"),
    )
    for who in ("", "BOB"):
        assert seen.outcome(who, "GET", f"/{seen.bucket}/a") == DENIED
        assert seen.outcome(who, "DELETE", f"/{seen.bucket}/a") == DENIED
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/a") == 200
    told = seen.ask("ANN", "GET", f"/{seen.bucket}?policyStatus")
    assert told.body.endswith(b"<IsPublic>true</IsPublic></PolicyStatus>")


def test_another_owner_is_named(seen: Seen) -> None:
    """Which is not public, and needs no block lifted."""
    seen.policy(
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::bob:root"},
         "Action": ["s3:GetObject", "s3:PutObject", "s3:PutBucketPolicy"]},
    )  # fmt: skip
    assert seen.ask("BOB", "GET", f"/{seen.bucket}/a").body == BODY
    assert seen.outcome("BOB", "PUT", f"/{seen.bucket}/bobs", BODY) == 200
    assert seen.outcome("READER", "PUT", f"/{seen.bucket}/bobs", BODY) == DENIED
    assert seen.outcome("READER", "GET", f"/{seen.bucket}/a") == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}/a") == DENIED
    assert seen.outcome("BOB", "PUT", f"/{seen.bucket}?policy", b"{}") == DENIED


def test_a_denial_wins(seen: Seen) -> None:
    seen.policy({"Effect": "Deny", "Principal": "*", "Action": "s3:*"})
    for who in ("ANN", KEY_ID, "OTHER", ""):
        assert seen.outcome(who, "GET", f"/{seen.bucket}/a") == DENIED
        assert seen.outcome(who, "PUT", f"/{seen.bucket}/a", BODY) == DENIED
        assert seen.outcome(who, "PUT", f"/{seen.bucket}?publicAccessBlock", OPEN) == DENIED
    assert seen.outcome("OTHER", "DELETE", f"/{seen.bucket}?policy") == DENIED
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}?policy") == 200
    assert seen.outcome("ANN", "DELETE", f"/{seen.bucket}?policy") == 204
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/a") == 200


@pytest.mark.parametrize("sub", ["policy", "publicAccessBlock", "ownershipControls", "acl"])
def test_only_the_owner_says_who_may(seen: Seen, sub: str) -> None:
    """A key of somebody else may write everything, and open nothing."""
    assert seen.outcome("OTHER", "PUT", f"/{seen.bucket}/a", BODY) == 200
    assert seen.outcome("OTHER", "PUT", f"/{seen.bucket}?{sub}", b"<x/>") == DENIED
    outcome = seen.outcome(KEY_ID, "PUT", f"/{seen.bucket}?{sub}", b"<x/>")
    assert outcome[0] == 400


def test_keys_are_taken_as_they_are(seen: Seen) -> None:
    """Whatever a path looks like: what is evaluated is what is read."""
    seen.unblock()
    for name in ("pub/../secret", "pub//x", "secret", "pub/x"):
        assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/{name}", name.encode()) == 200
    arn = f"arn:aws:s3:::{seen.bucket}"
    read = ALLOW | {"Action": "s3:GetObject"}
    seen.policy(
        read | {"Resource": f"{arn}/pub/*"},
        read | {"Effect": "Deny", "Resource": f"{arn}/pub//*"},
    )
    assert seen.ask("", "GET", f"/{seen.bucket}/pub/x").body == b"pub/x"
    assert seen.ask("", "GET", f"/{seen.bucket}/pub%2Fx").body == b"pub/x"
    assert seen.ask("", "GET", f"/{seen.bucket}/pub/../secret").body == b"pub/../secret"
    assert seen.ask("", "GET", f"/{seen.bucket}/pub/%2e%2e/secret").body == b"pub/../secret"
    for path in ("secret", "%73ecret", "/pub/x", "pub//x", "pub/%2Fx", "./pub/x", "PUB/x"):
        assert seen.outcome("", "GET", f"/{seen.bucket}/{path}") == DENIED
    assert seen.outcome("", "GET", f"//{seen.bucket}/pub/x") == DENIED


@pytest.mark.parametrize(
    "bucket", ["@keys", "%40keys", "@uploads.{b}", "@parts.{b}", "%40parts.{b}"]
)
def test_hidden_buckets_stay_hidden(seen: Seen, bucket: str) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:*"})
    name = bucket.format(b=seen.bucket)
    assert seen.outcome("", "GET", f"/{name}")[0] in (400, 403)
    assert seen.outcome("", "GET", f"/{name}/x")[0] in (400, 403)
    outcome = seen.outcome("", "PUT", f"/{seen.bucket}/copy", x_amz_copy_source=f"/{name}/x")
    assert outcome == (400, "InvalidBucketName")


def test_a_copy_reads_what_it_copies(seen: Seen) -> None:
    seen.unblock()
    arn = f"arn:aws:s3:::{seen.bucket}"
    seen.policy(ALLOW | {"Action": "s3:PutObject", "Resource": f"{arn}/in/*"},
                ALLOW | {"Action": "s3:GetObject", "Resource": f"{arn}/b/*"})  # fmt: skip

    def copied(source: str, who: str = "", to: str = "in/x") -> Any:
        path = f"/{seen.bucket}/{to}"
        return seen.outcome(who, "PUT", path, x_amz_copy_source=f"/{seen.bucket}/{source}")

    for who in ("", "BOB"):
        assert copied("b/c", who) == 200
        assert copied("b%2Fc", who) == 200
        assert copied("a", who) == DENIED
        assert copied("b/none", who) == DENIED
        assert copied("b/c", who, "out") == DENIED
    assert copied("b/none", "ANN") == MISSING


def test_tags_need_rights_of_their_own(seen: Seen) -> None:
    seen.unblock()
    arn = f"arn:aws:s3:::{seen.bucket}"
    seen.policy(ALLOW | {"Action": ["s3:PutObject", "s3:GetObject"]})
    path, tagged = f"/{seen.bucket}/x", {"x_amz_tagging": "a=b"}
    copy = {"x_amz_copy_source": f"/{seen.bucket}/tagged"}
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/tagged", BODY, **tagged) == 200
    assert seen.outcome("", "PUT", path, BODY, **tagged) == DENIED
    assert seen.outcome("", "PUT", path, **copy) == DENIED
    assert seen.outcome("", "PUT", path, x_amz_tagging_directive="REPLACE", **copy) == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}/tagged?tagging") == DENIED
    seen.policy(
        ALLOW | {"Action": ["s3:PutObject", "s3:GetObject", "s3:PutObjectTagging"]},
        ALLOW | {"Action": "s3:GetObjectTagging", "Resource": f"{arn}/tagged"},
    )
    assert seen.outcome("", "PUT", path, BODY, **tagged) == 200
    assert seen.outcome("", "PUT", path, **copy) == 200
    assert seen.outcome("", "GET", f"{path}?tagging") == DENIED


def test_versions_need_rights_of_their_own(seen: Seen) -> None:
    path, bucket = f"/{seen.bucket}/a", seen.bucket
    enable = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    seen.put("versioning", enable)
    assert seen.outcome("ANN", "PUT", path, b"newer") == 200
    seen.unblock()
    seen.policy(ALLOW | {"Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]})
    assert seen.ask("", "GET", path).body == b"newer"
    for method in ("GET", "DELETE"):
        for version in ("null", "", "none", "0"):
            assert seen.outcome("", method, f"{path}?versionId={version}") == DENIED
    source = {"x_amz_copy_source": f"/{bucket}/a?versionId=null"}
    assert seen.outcome("", "PUT", f"/{bucket}/x", **source) == DENIED
    named = b"<Delete><Object><Key>a</Key><VersionId>null</VersionId></Object></Delete>"
    told = seen.ask("", "POST", f"/{bucket}?delete", named)
    assert b"<Code>AccessDenied</Code>" in told.body
    seen.policy(ALLOW | {"Action": ["s3:GetObjectVersion", "s3:PutObject"]})
    assert seen.ask("", "GET", f"{path}?versionId=null").body == BODY
    assert seen.outcome("", "PUT", f"/{bucket}/x", **source) == 200
    assert seen.outcome("", "GET", path) == DENIED
    assert seen.outcome("ANN", "DELETE", path) == 204
    gone = seen.ask("", "GET", path)
    assert (gone.code, "x-amz-delete-marker" in gone.headers) == ("AccessDenied", False)


def test_many_are_deleted_one_by_one(seen: Seen) -> None:
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b/c</Key></Object></Delete>"
    assert seen.outcome("", "POST", f"/{seen.bucket}?delete", body) == DENIED
    seen.unblock()
    seen.policy(
        ALLOW | {"Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{seen.bucket}/b/*"}
    )
    told = seen.ask("", "POST", f"/{seen.bucket}?delete", body)
    assert b"<Deleted><Key>b/c</Key></Deleted>" in told.body
    assert b"<Error><Key>a</Key><Code>AccessDenied</Code>" in told.body
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/a") == 200
    assert seen.outcome("ANN", "GET", f"/{seen.bucket}/b/c") == MISSING


def test_anybody_writes(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": ["s3:PutObject", "s3:GetObject"]})
    path = f"/{seen.bucket}/new"
    assert seen.outcome("", "PUT", path, b"plain") == 200
    assert seen.ask("", "GET", path).body == b"plain"
    chunks = unsigned_chunks(b"in chunks")
    headers = {"host": "h", "content-encoding": "aws-chunked", "x-amz-decoded-content-length": "9"}
    for how in ({}, {"x-amz-content-sha256": TRAILER}):
        answer = told(seen.door.raw(head_of("PUT", path, headers | how, chunks) + chunks))
        assert answer.status == 200
        assert seen.ask("", "GET", path).body == b"in chunks"
        assert seen.outcome("", "PUT", path, b"plain") == 200
    good = hashlib.sha256(b"summed").hexdigest()
    assert seen.outcome("", "PUT", path, b"summed", x_amz_content_sha256=good) == 200
    wrong = seen.outcome("", "PUT", path, b"sum", x_amz_content_sha256=good)
    assert wrong == (400, "XAmzContentSHA256Mismatch")
    assert seen.ask("", "GET", path).body == b"summed"
    assert seen.outcome("", "POST", f"{path}?uploads") == DENIED
    assert seen.outcome("", "PUT", path, BODY, x_amz_acl="public-read")[1] == (
        "AccessControlListNotSupported"
    )


def test_nobody_inherits_uploads(seen: Seen) -> None:
    """Of a bucket of the same name: begun while that was deleted, or left when a router died."""
    store, name = seen.door.store, f"{seen.bucket}-again"
    uploads = Uploads(store.meta, store.router.writes)

    def left() -> str:
        begun = uploads.begin(name, "secret", {"x-upload-owner": "ann"})
        return seen.door.run(begun)

    first = left()
    assert seen.outcome("OTHER", "PUT", f"/{name}") == 200
    assert b"<Upload>" not in seen.ask("OTHER", "GET", f"/{name}?uploads").body
    path = f"/{name}/secret?uploadId={first}"
    assert seen.outcome("OTHER", "GET", path) == (404, "NoSuchUpload")
    own = left()
    assert seen.outcome("OTHER", "PUT", f"/{name}")[0] == 409
    assert seen.door.run(uploads.find(name, "secret", own)) is not None
    assert seen.outcome("OTHER", "DELETE", f"/{name}") == 204
    assert seen.door.run(uploads.find(name, "secret", own)) is None
    last = left()
    assert seen.outcome("OTHER", "DELETE", f"/{name}") == (404, "NoSuchBucket")
    assert seen.door.run(uploads.find(name, "secret", last)) is None


def test_a_condition_needs_a_right_to_read(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:PutObject"})
    etag = hashlib.md5(BODY).hexdigest()
    assert seen.outcome("", "PUT", f"/{seen.bucket}/a", BODY, if_match=etag) == DENIED
    assert seen.outcome("", "PUT", f"/{seen.bucket}/none", BODY, if_match=etag) == DENIED
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/a", BODY, if_match=etag) == 200


def test_a_deletion_on_a_condition_needs_a_right_to_read(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:DeleteObject"})
    etag = hashlib.md5(BODY).hexdigest()
    assert seen.outcome("", "DELETE", f"/{seen.bucket}/a", if_match="x") == DENIED
    assert seen.outcome("", "DELETE", f"/{seen.bucket}/none", if_match="x") == DENIED
    many = f"<Delete><Object><Key>a</Key><ETag>{etag}</ETag></Object></Delete>".encode()
    assert b"<Code>AccessDenied</Code>" in seen.ask("", "POST", f"/{seen.bucket}?delete", many).body
    seen.policy(ALLOW | {"Action": ["s3:DeleteObject", "s3:GetObject"]})
    assert seen.outcome("", "DELETE", f"/{seen.bucket}/none", if_match="x") == DENIED
    assert seen.outcome("", "DELETE", f"/{seen.bucket}/a", if_match=etag) == 204


def test_a_signature_never_turns_into_none(seen: Seen) -> None:
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:*"})
    path = f"/{seen.bucket}/a"
    assert seen.outcome("", "GET", path) == 200
    assert seen.outcome("NOSUCH", "GET", path) == (403, "InvalidAccessKeyId")
    signed, _ = Signer(5003, "ANN", "wrong-secret", seen.door.signer.offset_s).signed("GET", path)
    answer = told(seen.door.raw(head_of("GET", path, signed)))
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    late, _ = Signer(5003, "ANN", SECRET, seen.door.signer.offset_s - 3600).signed("GET", path)
    assert told(seen.door.raw(head_of("GET", path, late))).code == "RequestTimeTooSkewed"
    for headers in (
        {"authorization": ""},
        {"authorization": "AWS x:y"},
        {"authorization": "Bearer x"},
        {"x-amz-security-token": "x"},
        {"x-amz-content-sha256": SIGNED_CHUNKS},
    ):
        answer = told(seen.door.raw(head_of("GET", path, {"host": "h"} | headers)))
        assert answer.status in (400, 403), headers
    for query in ("X-Amz-Signature=x", "x-amz-signature=x", "X-Amz-Expires=5", "X-Amz-Date=x",
                  "X-Amz-Security-Token=x", "AWSAccessKeyId=x&Signature=y", "Signature=y",
                  "X-Amz-Credential=ANN"):  # fmt: skip
        assert seen.outcome("", "GET", f"{path}?{query}")[0] in (400, 403), query


def test_what_a_policy_knows_of_a_request(seen: Seen) -> None:
    seen.unblock()
    path = f"/{seen.bucket}/a"

    def lets(condition: dict[str, Any], who: str = "", **headers: str) -> bool:
        seen.policy(ALLOW | {"Action": "s3:GetObject", "Condition": condition})
        return seen.outcome(who, "GET", path, **headers) == 200

    assert lets({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}})
    assert not lets({"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}, x_forwarded_for="1.2.3.4")
    assert lets({"Bool": {"aws:SecureTransport": "false"}})
    assert lets({"StringEquals": {"aws:Referer": "https://x/"}}, referer="https://x/")
    assert not lets({"StringEquals": {"aws:Referer": "https://x/"}})
    assert lets({"StringLike": {"aws:UserAgent": "curl/*"}}, user_agent="curl/8")
    assert lets({"Null": {"aws:username": "true"}})
    assert not lets({"Null": {"aws:username": "true"}}, "BOB")
    assert lets({"StringEquals": {"aws:username": "bob"}}, "BOB")
    assert lets({"StringEquals": {"aws:PrincipalType": "Anonymous"}})
    assert lets({"StringEquals": {"s3:authType": "REST-HEADER"}}, "BOB")
    assert lets({"NumericLessThan": {"s3:signatureAge": "900000"}}, "BOB")
    assert lets({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, "BOB")
    assert lets({"StringEquals": {"s3:x-amz-content-sha256": UNSIGNED}}, "BOB")
    assert not lets({"StringEquals": {"s3:authType": "REST-HEADER"}})
    assert lets({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})
    assert lets({"NumericGreaterThan": {"aws:EpochTime": "1500000000"}})


def test_a_home_for_each_user(seen: Seen) -> None:
    seen.unblock()
    home = f"arn:aws:s3:::{seen.bucket}/home/${{aws:username}}/*"
    seen.policy(ALLOW | {"Action": "s3:PutObject", "Resource": home})
    assert seen.outcome("BOB", "PUT", f"/{seen.bucket}/home/bob/x", BODY) == 200
    assert seen.outcome("BOB", "PUT", f"/{seen.bucket}/home/ann/x", BODY) == DENIED
    assert seen.outcome("", "PUT", f"/{seen.bucket}/home/bob/x", BODY) == DENIED
    assert seen.outcome("", "PUT", f"/{seen.bucket}/home//x", BODY) == DENIED


def test_uploads_may_need_an_acl(seen: Seen) -> None:
    """A policy that wants it named, as those do that let other accounts upload."""
    wanted = {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}}
    named = ALLOW | {"Principal": {"AWS": "bob"}, "Action": "s3:PutObject"}
    seen.policy(named | {"Condition": wanted})
    path = f"/{seen.bucket}/x"
    assert seen.outcome("BOB", "PUT", path, BODY) == DENIED
    assert seen.outcome("BOB", "PUT", path, BODY, x_amz_acl="private") == DENIED
    full = "bucket-owner-full-control"
    assert seen.outcome("BOB", "PUT", path, BODY, x_amz_acl=full) == 200
    assert seen.outcome("BOB", "PUT", f"{path}?x-amz-acl={full}", BODY) == 200
    begun = seen.ask("BOB", "POST", f"{path}?uploads=", x_amz_acl=full)
    upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
    assert seen.outcome("BOB", "PUT", f"{path}?partNumber=1&uploadId={upload}", BODY) == 200
    etag = hashlib.md5(BODY).hexdigest()
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    root = "CompleteMultipartUpload"
    whole = f"<{root}>{part}</{root}>".encode()
    assert seen.outcome("BOB", "POST", f"{path}?uploadId={upload}", whole) == 200
    other = seen.ask("ANN", "POST", f"{path}?uploads=").body.decode()
    upload = other.partition("<UploadId>")[2].partition("<")[0]
    assert seen.outcome("BOB", "PUT", f"{path}?partNumber=1&uploadId={upload}", BODY) == DENIED
    doubted = seen.outcome("BOB", "PUT", f"{path}?x-amz-acl={full}", BODY, x_amz_acl="private")
    assert doubted[0] in (400, 403)


def test_uploads_may_have_to_be_encrypted(seen: Seen) -> None:
    """The policies that are found everywhere: nothing goes in that is not."""
    sse = "x-amz-server-side-encryption"
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
    seen.policy(
        deny | {"Condition": {"StringNotEquals": {f"s3:{sse}": "AES256"}}},
        deny | {"Condition": {"Null": {f"s3:{sse}-customer-algorithm": "false"}}},
    )
    path, own = f"/{seen.bucket}/x", {"x_amz_server_side_encryption": "AES256"}
    assert seen.outcome("ANN", "PUT", path, BODY) == DENIED
    assert seen.outcome("ANN", "PUT", path, BODY, **own) == 200
    customer = {name.replace("-", "_"): value for name, value in customer_headers("ann").items()}
    assert seen.outcome("ANN", "PUT", path, BODY, **customer) == DENIED
    assert seen.outcome("ANN", "POST", f"{path}?uploads=") == DENIED
    begun = seen.ask("ANN", "POST", f"{path}?uploads=", **own)
    upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
    assert seen.outcome("ANN", "PUT", f"{path}?partNumber=1&uploadId={upload}", BODY) == 200
    assert seen.outcome("ANN", "GET", path) == 200


def test_acls_are_off_until_they_are_on(seen: Seen) -> None:
    path = f"/{seen.bucket}?acl"
    off = (400, "AccessControlListNotSupported")
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read") == off
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="bucket-owner-read") == off
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="private") == 200
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="nonsense") == (400, "InvalidArgument")
    assert seen.outcome("ANN", "PUT", path) == (400, "MissingSecurityHeader")
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}/a", BODY, x_amz_acl="public-read") == off
    seen.put("ownershipControls", ACLS_ON)
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read") == DENIED
    seen.unblock()
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="log-delivery-write") == (
        501,
        "NotImplemented",
    )
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read") == 200
    told = seen.ask("ANN", "GET", path)
    assert b"global/AllUsers</URI></Grantee><Permission>READ</Permission>" in told.body
    assert seen.outcome("ANN", "PUT", path, told.body) == 200  # what is told can be said
    assert seen.outcome("", "GET", f"/{seen.bucket}") == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}/a") == DENIED
    assert seen.outcome("", "PUT", f"/{seen.bucket}/new", BODY) == DENIED
    back = ownership("BucketOwnerEnforced")
    kept = (400, "InvalidBucketAclWithObjectOwnership")
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}?ownershipControls", back) == kept
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read-write") == 200
    assert seen.outcome("", "PUT", f"/{seen.bucket}/new", BODY) == 200
    assert seen.outcome("", "DELETE", f"/{seen.bucket}/new") == DENIED
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="authenticated-read") == 200
    assert seen.outcome("", "GET", f"/{seen.bucket}") == DENIED
    assert seen.outcome("BOB", "GET", f"/{seen.bucket}") == 200
    seen.put("publicAccessBlock", block("IgnorePublicAcls", "true"))  # fmt: skip
    assert seen.outcome("BOB", "GET", f"/{seen.bucket}") == DENIED
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="private") == 200
    assert seen.outcome("ANN", "PUT", f"/{seen.bucket}?ownershipControls", back) == 200


def test_a_bucket_may_begin_with_acls_on(seen: Seen) -> None:
    path = f"/{seen.bucket}-2"
    refused = (400, "InvalidBucketAclWithObjectOwnership")
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read") == refused
    on = {"x_amz_object_ownership": "BucketOwnerPreferred"}
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="public-read", **on) == DENIED
    assert seen.outcome("ANN", "PUT", path, x_amz_acl="private", **on) == 200
    told = seen.ask("ANN", "GET", f"{path}?ownershipControls")
    assert b"<ObjectOwnership>BucketOwnerPreferred</ObjectOwnership>" in told.body


def test_a_bucket_that_is_made_anew_begins_anew(seen: Seen) -> None:
    path = f"/{seen.bucket}"
    seen.unblock()
    seen.policy(ALLOW | {"Action": "s3:*"})
    assert seen.outcome("", "PUT", path) == DENIED
    assert seen.outcome("BOB", "PUT", path) == DENIED
    for name in ("a", "b/c"):
        assert seen.outcome("", "DELETE", f"{path}/{name}") == 204
    assert seen.outcome("", "DELETE", path) == 204
    assert seen.outcome("OTHER", "PUT", path) == 200
    assert seen.outcome("OTHER", "PUT", f"{path}/a", BODY) == 200
    assert seen.outcome("", "GET", f"{path}/a") == DENIED
    assert seen.outcome("OTHER", "GET", f"{path}?policy") == (404, "NoSuchBucketPolicy")
    told = seen.ask("OTHER", "GET", f"{path}?publicAccessBlock")
    assert told.body.count(b"true") == 4


def test_the_expected_owner_of_a_source(seen: Seen) -> None:
    source = {"x_amz_copy_source": f"/{seen.bucket}/a"}
    path = f"/{seen.bucket}/x"
    key = "x_amz_source_expected_bucket_owner"
    assert seen.outcome("ANN", "PUT", path, **source, **{key: "ann"}) == 200
    assert seen.outcome("ANN", "PUT", path, **source, **{key: "bob"}) == DENIED
