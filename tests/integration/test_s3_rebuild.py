"""Delete Redis, lose nothing that S3 tells: every answer is as before, byte by byte."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.s3_kit import (
    SECRET,
    Signer,
    Told,
    begin_anew,
    completion_of,
    customer_headers,
    customer_secret,
    path_of,
    s3,
    s3_cluster,
)
from tests.store_kit import Cluster, eventually
from tests.traffic_kit import payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LONG = 5 << 20
OF_ONE_ANSWER = {"date", "x-amz-request-id", "x-amz-id-2", "server"}
KEYS: dict[str, dict[str, Any]] = {
    "TESTKEY": {},
    "READER": {"owner": "ann", "read_only": True},
    "FILMSONLY": {"owner": "ben", "buckets": {"films": "write"}},
    "GONE": {},
}
LOCKED = ("written", "lengthened", "held")
NAMES = (
    "plain",
    "a/b//c +%\u00e4",
    "empty",
    "copy",
    "summed",
    "made",
    "composed",
    "deleted",
    "before",
    "renamed",
    "sealed",
)


def fill(store: Cluster) -> list[str]:
    """One of everything; the paths of the uploads that are open."""
    for key_id, rights in KEYS.items():
        if key_id != "TESTKEY":
            body = json.dumps({"secret_key": SECRET} | rights)
            assert store.http("PUT", f"/key/{key_id}", body)[0] == 201
    assert store.http("DELETE", "/key/GONE")[0] == 204
    with s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="films")
        ends = {"Filter": {"Prefix": "old/"}, "Status": "Enabled", "Expiration": {"Days": 9}}
        rules = {"Rules": [ends]}
        client.put_bucket_lifecycle_configuration(Bucket="films", LifecycleConfiguration=rules)
        site = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "e"}}
        client.put_bucket_website(Bucket="films", WebsiteConfiguration=site)
        client.create_bucket(Bucket="removed")
        client.delete_bucket(Bucket="removed")
        client.create_bucket(
            Bucket="photos", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"}
        )
        client.put_object(
            Bucket="photos",
            Key="plain",
            Body=payload(70_000),
            Metadata={"who": "ann", "where": "J\u00f6rg".encode().hex()},
            ContentType="image/x-cat",
            CacheControl="no-cache",
            ContentLanguage="sv",
            WebsiteRedirectLocation="/copy",
        )
        writer = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
        client.put_bucket_ownership_controls(Bucket="photos", OwnershipControls=writer)
        open_ = {"BlockPublicAcls": False, "IgnorePublicAcls": False}
        client.put_public_access_block(Bucket="photos", PublicAccessBlockConfiguration=open_)
        client.put_object_acl(Bucket="photos", Key="plain", ACL="authenticated-read")
        client.put_object(Bucket="photos", Key=NAMES[1], Body=b"old")
        client.put_object(Bucket="photos", Key=NAMES[1], Body=b"new")
        client.put_object(Bucket="photos", Key="empty", Body=b"")
        source = {"Bucket": "photos", "Key": "plain"}
        client.copy_object(Bucket="photos", Key="copy", CopySource=source)
        summed = {"Body": b"summed", "ChecksumAlgorithm": "SHA256"}
        client.put_object(Bucket="photos", Key="summed", **summed)
        client.put_object(Bucket="photos", Key="deleted", Body=b"x")
        client.delete_object(Bucket="photos", Key="deleted")
        client.put_object(Bucket="photos", Key="before", Body=b"renamed", Metadata={"m": "1"})
        client.rename_object(Bucket="photos", Key="renamed", RenameSource="before")
        client.put_object(
            Bucket="photos", Key="sealed", Body=payload(9_000, 3), ServerSideEncryption="AES256"
        )
        mine = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": customer_secret("ann")}
        client.put_object(Bucket="photos", Key="hers", Body=payload(9_000, 4), **mine)
        by_default = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        client.put_bucket_encryption(
            Bucket="films", ServerSideEncryptionConfiguration={"Rules": [by_default]}
        )
        client.put_object(Bucket="films", Key="film", Body=b"film")
        whole = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
        begin(client, "made", 2, complete=True, **whole)
        begin(client, "composed", 2, complete=True, ChecksumAlgorithm="SHA1", Metadata={"m": "1"})
        fill_locked(client)
        left = begin(client, "open", 2, ChecksumAlgorithm="SHA256", ContentType="text/x-open")
        empty = begin(client, "nothing yet", 0)
        gone = begin(client, "given up", 1)
        client.abort_multipart_upload(Bucket="photos", Key="given up", UploadId=gone)
    return [
        f"/photos/open?uploadId={left}",
        f"/photos/nothing%20yet?uploadId={empty}",
        f"/photos/given%20up?uploadId={gone}",
    ]


def fill_locked(client: Any) -> None:
    """Versions with locks that they had from the beginning, and that were changed later."""
    client.create_bucket(Bucket="ledger", ObjectLockEnabledForBucket=True)
    until = datetime(2090, 1, 1, tzinfo=UTC)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    client.put_object(Bucket="ledger", Key="written", Body=payload(70_000), **lock)
    client.put_object(Bucket="ledger", Key="lengthened", Body=payload(70_000), **lock)
    longer = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime(2091, 1, 1, tzinfo=UTC)}
    client.put_object_retention(Bucket="ledger", Key="lengthened", Retention=longer)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 7}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket="ledger", ObjectLockConfiguration=configuration)
    held = {"Bucket": "ledger", "Key": "held"}
    client.put_object(**held, Body=b"")
    client.put_object_legal_hold(**held, LegalHold={"Status": "ON"})
    client.put_object_retention(**held, Retention={}, BypassGovernanceRetention=True)
    client.put_object_tagging(**held, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})


def begin(client: Any, key: str, parts: int, *, complete: bool = False, **options: Any) -> str:
    """An upload whose last part is short and was sent twice; its ID."""
    where = {"Bucket": "photos", "Key": key}
    where["UploadId"] = client.create_multipart_upload(**where, **options)["UploadId"]
    summed = {name: options[name] for name in ("ChecksumAlgorithm",) if name in options}
    done = []
    for number in range(1, parts + 1):
        if number == parts:
            client.upload_part(**where, PartNumber=number, Body=b"replaced", **summed)
        body = b"end" if number == parts else payload(LONG, number)
        told = client.upload_part(**where, PartNumber=number, Body=body, **summed)
        sums = {name: value for name, value in told.items() if name.startswith("Checksum")}
        done.append({"PartNumber": number, "ETag": told["ETag"]} | sums)
    if complete:
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
    return where["UploadId"]


def questions(uploads: list[str]) -> list[tuple[str, str]]:
    """Everything that S3 can be asked of it, by method and path."""
    found = [("GET", "/"), *(("GET", path) for path in uploads)]
    for bucket in ("photos", "films", "ledger", "removed", "nobodys"):
        found.append(("HEAD", f"/{bucket}"))
        found += [("GET", f"/{bucket}?{each}=") for each in ("versions", "uploads", "location")]
        found += [
            ("GET", f"/{bucket}?{each}=")
            for each in (
                "acl",
                "tagging",
                "versioning",
                "cors",
                "lifecycle",
                "website",
                "encryption",
                "object-lock",
            )
        ]
        found.append(("GET", f"/{bucket}?list-type=2&fetch-owner=true&encoding-type=url"))
    for name in NAMES:
        path = path_of("photos", name)
        found += [
            (method, path + more) for method in ("HEAD", "GET") for more in ("", "?partNumber=1")
        ]
        found += [("GET", f"{path}?{each}=") for each in ("attributes", "acl")]
    for name in LOCKED:
        found.append(("HEAD", f"/ledger/{name}"))
        found += [("GET", f"/ledger/{name}?{each}=") for each in ("retention", "legal-hold")]
    return found


def answers(store: Cluster, asked: list[tuple[str, str]]) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """What each key is told, without what differs from one answer to the next."""
    told = {}
    for key_id in KEYS:
        signer = Signer(store.s3_ports[0], key_id=key_id)
        for method, path in asked:
            answer = signer.ask(method, path, headers=HEADERS)
            unlike = OF_ONE_ANSWER | ({"content-length"} if answer.status >= 400 else set())
            headers = {n: v for n, v in answer.headers.items() if n not in unlike}
            told[key_id, method, path] = (answer.status, headers, without_ids(answer))
    return told


HEADERS = {
    "x-amz-checksum-mode": "ENABLED",
    "x-amz-object-attributes": "ETag,Checksum,ObjectParts,StorageClass,ObjectSize",
}


def buckets_told(store: Cluster) -> dict[str, Any]:
    """What operators are told of buckets, by name; how far files follow is found out anew."""
    status, _, body = store.http("GET", "/buckets")
    assert status == 200
    told = json.loads(body)["buckets"]
    return {each["bucket"]: each | {"followed": None} for each in told}


def without_ids(answer: Told) -> bytes:
    """The body, without what an error tells of the request and the process."""
    return re.sub(rb"<(RequestId|HostId)>[^<]*</\1>", b"", answer.body)


def test_every_answer_is_as_before(tmp_path: Path) -> None:
    with s3_cluster(tmp_path, putters=2) as store:
        uploads = fill(store)
        asked = questions(uploads)
        # A key that was taken away counts for two seconds more.
        gone = Signer(store.s3_ports[0], key_id="GONE")
        eventually(lambda: gone.ask("GET", "/").code == "InvalidAccessKeyId")
        before = answers(store, asked)
        statuses = {each[0] for each in before.values()}
        assert {200, 206, 404, 403} <= statuses, "else this compares nothing"
        assert not statuses & {500, 503}
        held = buckets_told(store)
        assert min(held["photos"]["used"].values()) > 0
        begin_anew(store)
        after = answers(store, asked)
        assert buckets_told(store) == held
        assert {each: told for each, told in after.items() if told != before[each]} == {}
        assert after.keys() == before.keys()
        reader, limited = (
            Signer(store.s3_ports[0], key_id=each) for each in ("READER", "FILMSONLY")
        )
        assert reader.ask("PUT", "/films/x", b"x").code == "AccessDenied"
        assert limited.ask("PUT", "/photos/x", b"x").code == "AccessDenied"
        assert limited.ask("PUT", "/films/x", b"x").status == 200
        check_locked(store)
        finish(store, uploads[0])
        hers = Signer(store.s3_ports[0]).ask("GET", "/photos/hers", headers=customer_headers("ann"))
        assert hers.body == payload(9_000, 4)


def check_locked(store: Cluster) -> None:
    """What is locked cannot be deleted, nor its lock be made weaker, by anybody."""
    signer = Signer(store.s3_ports[0])
    bypass = {"x-amz-bypass-governance-retention": "true"}
    for name in LOCKED:
        path = path_of("ledger", name)
        version = signer.ask("HEAD", path).headers["x-amz-version-id"]
        gone = signer.ask("DELETE", f"{path}?versionId={version}", headers=bypass)
        assert gone.code == "AccessDenied", name
        assert signer.ask("GET", path).status == 200
    inside = "<Mode>COMPLIANCE</Mode><RetainUntilDate>2090-06-01T00:00:00Z</RetainUntilDate>"
    body = f"<Retention>{inside}</Retention>".encode()
    summed = bypass | {"content-md5": b64encode(hashlib.md5(body).digest()).decode()}
    weaker = signer.ask("PUT", "/ledger/lengthened?retention=", body, summed)
    assert weaker.code == "AccessDenied", weaker


def finish(store: Cluster, path: str) -> None:
    """Replace a part of the upload that was open when Redis was deleted, and complete it."""
    signer = Signer(store.s3_ports[0])
    last = signer.ask("PUT", path.replace("?", "?partNumber=2&"), b"another end")
    assert last.status == 200
    bodies = [payload(LONG, 1), b"another end"]
    tags = {number: hashlib.md5(body).hexdigest() for number, body in enumerate(bodies, 1)}
    told = signer.ask("POST", path, completion_of(tags))
    assert told.status == 200, told
    held = signer.ask("GET", "/photos/open", headers={"x-amz-checksum-mode": "ENABLED"})
    assert held.body == b"".join(bodies)
    assert held.headers["content-type"] == "text/x-open"
    assert held.headers["x-amz-checksum-type"] == "COMPOSITE"
    assert signer.ask("GET", path).code == "NoSuchUpload"
