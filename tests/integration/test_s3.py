"""The S3 door with real processes and boto3: each operation, each error, by behaviour."""

from __future__ import annotations

import hashlib
import json
import os
import random
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import SECRET, Signer, refusal, s3, s3_cluster
from tests.store_kit import Cluster

pytestmark = pytest.mark.slow
KEYS = [
    "a", "a/../b", "./x", "..", "/lead", "//", "a//b", "tail/", "plus+plus", "per%cent%2F",
    "uni/猫 ü\U0001f600", "a b", " ", "~tilde", "q?x=1&y", "#hash", "&amp;<>\"'", "é", "e\u0301",
    "x" * 1024, "\x01\x7f\n", "\\back\\", "*'()!@,:;$=",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("s3"), putters=2) as made:
        yield made


@pytest.fixture
def signer(store: Cluster) -> Signer:
    return Signer(store.s3_ports[0])


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    return refusal(caught.value)


def keys(client: Any, bucket: str, **options: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, **options)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


# -- buckets -------------------------------------------------------------------------------


def test_the_life_of_a_bucket(client: Any) -> None:
    assert refused(lambda: client.head_bucket(Bucket="life-of-one")) == ("404", 404)
    assert client.create_bucket(Bucket="life-of-one")["Location"] == "/life-of-one"
    assert client.head_bucket(Bucket="life-of-one")["BucketRegion"] == "us-east-1"
    assert client.get_bucket_location(Bucket="life-of-one")["LocationConstraint"] is None
    listed = client.list_buckets(Prefix="life-")
    assert [each["Name"] for each in listed["Buckets"]] == ["life-of-one"]
    assert listed["Owner"]["DisplayName"] == "root"
    again = refused(lambda: client.create_bucket(Bucket="life-of-one"))
    assert again == ("BucketAlreadyOwnedByYou", 409)
    client.put_object(Bucket="life-of-one", Key="a", Body=b"x")
    assert refused(lambda: client.delete_bucket(Bucket="life-of-one")) == ("BucketNotEmpty", 409)
    client.delete_object(Bucket="life-of-one", Key="a")
    client.delete_bucket(Bucket="life-of-one")
    assert refused(lambda: client.delete_bucket(Bucket="life-of-one")) == ("NoSuchBucket", 404)
    gone = refused(lambda: client.put_object(Bucket="life-of-one", Key="a", Body=b"x"))
    assert gone == ("NoSuchBucket", 404)


def test_a_bucket_may_be_said_to_be_elsewhere(client: Any) -> None:
    client.create_bucket(
        Bucket="in-europe", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    assert client.get_bucket_location(Bucket="in-europe")["LocationConstraint"] == "eu-west-1"
    assert client.head_bucket(Bucket="in-europe")["BucketRegion"] == "eu-west-1"


@pytest.mark.parametrize("name", ["No-Capitals", "ab", "a_b", "a..b", "-ab", "x" * 64])
def test_names_that_no_bucket_has(signer: Signer, name: str) -> None:
    told = signer.ask("PUT", f"/{name}")
    assert (told.status, told.code) == (400, "InvalidBucketName")


def test_pages_of_buckets(client: Any) -> None:
    for number in range(3):
        client.create_bucket(Bucket=f"page-of-{number}")
    first = client.list_buckets(Prefix="page-of-", MaxBuckets=2)
    rest = client.list_buckets(
        Prefix="page-of-", MaxBuckets=2, ContinuationToken=first["ContinuationToken"]
    )
    names = [each["Name"] for page in (first, rest) for each in page["Buckets"]]
    assert names == ["page-of-0", "page-of-1", "page-of-2"]
    assert "ContinuationToken" not in rest


def test_what_was_written_through_other_doors_is_there(store: Cluster, client: Any) -> None:
    raw = store.send(b"raw bytes")
    assert client.get_object(Bucket="objects", Key=raw.object_id)["Body"].read() == b"raw bytes"
    assert client.head_object(Bucket="objects", Key=raw.object_id)["ETag"].endswith('-1"')
    status, _, _ = store.http("PUT", "/file/by-rest/dir/a.txt", b"by REST")
    assert status == 201
    assert keys(client, "by-rest") == ["dir/a.txt"]
    assert {"objects", "by-rest"} <= {each["Name"] for each in client.list_buckets()["Buckets"]}
    got = client.get_object(Bucket="by-rest", Key="dir/a.txt")
    assert (got["Body"].read(), got["ContentType"]) == (b"by REST", "binary/octet-stream")
    client.put_object(Bucket="by-rest", Key="b", Body=b"by S3", ContentType="text/plain")
    assert store.read("by-rest/b") == b"by S3"


def test_what_is_not_implemented_says_so(client: Any, bucket: str) -> None:
    where = {"Bucket": bucket}
    for call in (
        lambda: client.put_bucket_versioning(
            **where, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"}
        ),
        lambda: client.put_bucket_acl(**where, GrantRead="id=x"),
        lambda: client.restore_object(**where, Key="a", RestoreRequest={}),
        lambda: client.put_object(**where, Key="a", Body=b"", GrantRead="id=x"),
        lambda: client.put_object(**where, Key="a", Body=b"", ServerSideEncryption="aws:kms"),
    ):
        assert refused(call) == ("NotImplemented", 501)
    assert keys(client, bucket) == []


def test_what_is_so_anyway_is_told(client: Any, bucket: str) -> None:
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    assert client.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert client.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    for call, code in (
        (client.get_bucket_policy, "NoSuchBucketPolicy"),
        (client.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
        (client.get_bucket_policy_status, "NoSuchBucketPolicy"),
        (client.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (client.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
    ):
        assert refused(lambda call=call: call(Bucket=bucket)) == (code, 404)
        missing = refused(lambda call=call: call(Bucket="no-such-bucket"))
        assert missing == ("NoSuchBucket", 404)
    client.put_object(Bucket=bucket, Key="a", Body=b"")
    assert client.get_object_tagging(Bucket=bucket, Key="a")["TagSet"] == []
    assert client.get_object_acl(Bucket=bucket, Key="a")["Owner"]["DisplayName"] == "root"


def test_the_operator_sets_how_a_bucket_is_kept(store: Cluster, client: Any, bucket: str) -> None:
    """Settings and the fact that it was created are in one record; neither takes the other away."""
    settings = json.dumps({"replicas": 1, "write_quorum": 1})
    status, _, told = store.http("PUT", f"/bucket/{bucket}", settings)
    assert (status, json.loads(told)["others"]) == (200, [])
    client.head_bucket(Bucket=bucket)
    assert store.http("DELETE", f"/bucket/{bucket}")[0] == 200
    client.head_bucket(Bucket=bucket)
    store.http("PUT", f"/bucket/{bucket}", settings)
    client.delete_bucket(Bucket=bucket)
    status, _, told = store.http("GET", f"/bucket/{bucket}")
    assert json.loads(told)["settings"]["replicas"] == 1, "the operator's, not the client's"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert json.loads(store.http("GET", f"/bucket/{bucket}")[2])["settings"]["replicas"] == 1


# -- objects -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1_000_000, 9_000_000])
def test_bytes_come_back_with_their_md5(client: Any, bucket: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    put = client.put_object(Bucket=bucket, Key="k", Body=data)
    assert put["ETag"] == etag
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got["Body"].read(), got["ETag"], got["ContentLength"]) == (data, etag, size)
    assert got["ChecksumCRC32"] == put["ChecksumCRC32"], "boto3 chose it"
    head = client.head_object(Bucket=bucket, Key="k")
    assert (head["ETag"], head["ContentLength"]) == (etag, size)
    assert "ChecksumCRC32" not in head
    assert head["LastModified"] == got["LastModified"]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_key_comes_back(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert keys(client, bucket) == [key]
    client.copy_object(Bucket=bucket, Key="copy of it", CopySource={"Bucket": bucket, "Key": key})
    assert client.get_object(Bucket=bucket, Key="copy of it")["Body"].read() == key.encode()
    client.delete_object(Bucket=bucket, Key=key)
    assert keys(client, bucket) == ["copy of it"]


def test_keys_that_are_too_long(client: Any, bucket: str) -> None:
    long = refused(lambda: client.put_object(Bucket=bucket, Key="ü" * 513, Body=b""))
    assert long == ("KeyTooLongError", 400)


def test_what_is_not_there(client: Any, bucket: str) -> None:
    assert refused(lambda: client.get_object(Bucket=bucket, Key="x")) == ("NoSuchKey", 404)
    assert refused(lambda: client.head_object(Bucket=bucket, Key="x")) == ("404", 404)
    missing = refused(lambda: client.get_object(Bucket="no-such-bucket", Key="x"))
    assert missing == ("NoSuchBucket", 404)
    missing = refused(lambda: client.list_objects_v2(Bucket="no-such-bucket"))
    assert missing == ("NoSuchBucket", 404)
    assert client.delete_object(Bucket=bucket, Key="x")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_headers_and_metadata_come_back(client: Any, bucket: str) -> None:
    kept = {
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="a"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/x",
    }
    client.put_object(Bucket=bucket, Key="k", Body=b"0123456789", Metadata={"who": "ann"}, **kept)
    for got in (
        client.get_object(Bucket=bucket, Key="k"),
        client.head_object(Bucket=bucket, Key="k"),
        client.get_object(Bucket=bucket, Key="k", Range="bytes=1-2"),
    ):
        assert {name: got[name] for name in kept} == kept
        assert got["Metadata"] == {"who": "ann"}
    other = client.get_object(
        Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseCacheControl="private"
    )
    assert (other["ContentType"], other["CacheControl"]) == ("a/b", "private")
    client.put_object(Bucket=bucket, Key="bare", Body=b"")
    assert client.head_object(Bucket=bucket, Key="bare")["ContentType"] == "binary/octet-stream"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=2-4", 2, 5), ("bytes=7-", 7, 10), ("bytes=-3", 7, 10), ("bytes=5-99", 5, 10)],
)
def test_ranges(client: Any, bucket: str, asked: str, start: int, end: int) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = client.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["Body"].read() == b"0123456789"[start:end]
    assert got["ContentRange"] == f"bytes {start}-{end - 1}/10"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    wrong = refused(lambda: client.get_object(Bucket=bucket, Key="k", Range="bytes=10-"))
    assert wrong == ("InvalidRange", 416)


def test_the_only_part_is_the_whole(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = client.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert (got["Body"].read(), got["ContentRange"]) == (b"0123456789", "bytes 0-9/10")
    wrong = refused(lambda: client.get_object(Bucket=bucket, Key="k", PartNumber=2))
    assert wrong == ("InvalidPartNumber", 416)


def test_reads_on_conditions(client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    where = {"Bucket": bucket, "Key": "k"}
    assert client.get_object(**where, IfMatch=etag)["Body"].read() == b"x"
    assert refused(lambda: client.get_object(**where, IfMatch='"x"')) == ("PreconditionFailed", 412)
    assert refused(lambda: client.get_object(**where, IfNoneMatch=etag)) == ("304", 304)
    modified = client.head_object(**where)["LastModified"]
    assert refused(lambda: client.get_object(**where, IfModifiedSince=modified)) == ("304", 304)
    old = refused(lambda: client.head_object(**where, IfUnmodifiedSince="2001-01-01T00:00:00Z"))
    assert old == ("412", 412)


def test_writes_on_conditions(client: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    first = client.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    there = refused(lambda: client.put_object(**where, Body=b"2", IfNoneMatch="*"))
    assert there == ("PreconditionFailed", 412)
    second = client.put_object(**where, Body=b"2", IfMatch=first)["ETag"]
    other = refused(lambda: client.put_object(**where, Body=b"3", IfMatch=first))
    assert other == ("PreconditionFailed", 412)
    none = refused(lambda: client.put_object(Bucket=bucket, Key="n", Body=b"3", IfMatch=second))
    assert none == ("NoSuchKey", 404)
    assert client.get_object(**where)["Body"].read() == b"2"


def test_deletions_on_conditions(client: Any, signer: Signer, bucket: str) -> None:
    def delete(key: str, **condition: Any) -> Any:
        return client.delete_object(Bucket=bucket, Key=key, **condition)

    lost = ("PreconditionFailed", 412)
    put = {key: client.put_object(Bucket=bucket, Key=key, Body=b"12") for key in "abcdef"}
    date = client.head_object(Bucket=bucket, Key="a")["LastModified"]
    old = date - timedelta(seconds=60)
    assert refused(lambda: delete("a", IfMatch='"other"')) == lost
    assert refused(lambda: delete("a", IfMatchSize=3)) == lost
    assert refused(lambda: delete("a", IfMatchLastModifiedTime=old)) == lost
    assert refused(lambda: delete("a", IfMatch="*", IfMatchSize=3)) == lost
    assert refused(lambda: delete("none", IfMatch="*")) == ("NoSuchKey", 404)
    delete("none", IfMatchSize=2)
    assert signer.ask("DELETE", f"/{bucket}/a", headers={"If-None-Match": "*"}).status == 501
    wrong = signer.ask("DELETE", f"/{bucket}/a", headers={"x-amz-if-match-size": "two"})
    assert wrong.code == "InvalidArgument"
    assert keys(client, bucket) == list("abcdef")
    delete("a", IfMatch=put["a"]["ETag"], IfMatchSize=2, IfMatchLastModifiedTime=date)
    delete("b", IfMatch="*")
    of_e = client.head_object(Bucket=bucket, Key="e")["LastModified"]
    some = [
        {"Key": "c", "ETag": put["c"]["ETag"]},
        {"Key": "d", "ETag": "other"},
        {"Key": "e", "Size": 2, "LastModifiedTime": of_e},
        {"Key": "f", "Size": 1},
        {"Key": "none", "ETag": "*"},
        {"Key": "none-either", "Size": 1},
    ]
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": some})
    assert [each["Key"] for each in told["Deleted"]] == ["c", "e", "none-either"]
    codes = [(each["Key"], each["Code"]) for each in told["Errors"]]
    failed = "PreconditionFailed"
    assert codes == [("d", failed), ("f", failed), ("none", "NoSuchKey")]
    assert keys(client, bucket) == ["d", "f"]


def test_of_racing_deletions_and_writes_on_a_condition_one_wins(client: Any, bucket: str) -> None:
    def race(n: int, key: str, etag: str) -> str:
        try:
            if n % 3:
                client.delete_object(Bucket=bucket, Key=key, IfMatch=etag)
            else:
                client.put_object(Bucket=bucket, Key=key, Body=b"next", IfMatch=etag)
        except ClientError as error:
            return refusal(error)[0]
        return "deleted" if n % 3 else "written"

    for key in "abcd":
        etag = client.put_object(Bucket=bucket, Key=key, Body=b"first")["ETag"]
        with ThreadPoolExecutor(9) as threads:
            heard = list(threads.map(lambda n, k=key, e=etag: race(n, k, e), range(9)))
        won = [each for each in heard if each in ("deleted", "written")]
        assert len(won) == 1, heard
        assert set(heard) - set(won) <= {"PreconditionFailed", "NoSuchKey"}
        assert keys(client, bucket, Prefix=key) == ([key] if won == ["written"] else [])


def test_deleting_many(client: Any, bucket: str) -> None:
    names = [f"k{n:04}" for n in range(70)]
    for name in names:
        client.put_object(Bucket=bucket, Key=name, Body=b"x")
    some = {"Objects": [{"Key": name} for name in [*names[:60], "never-there"]]}
    told = client.delete_objects(Bucket=bucket, Delete=some)
    assert [each["Key"] for each in told["Deleted"]] == [*names[:60], "never-there"]
    assert "Errors" not in told
    rest = {
        "Quiet": True,
        "Objects": [{"Key": names[60]}, {"Key": "x" * 1025}, {"Key": "k", "VersionId": "7"}],
    }
    told = client.delete_objects(Bucket=bucket, Delete=rest)
    assert "Deleted" not in told
    assert [each["Code"] for each in told["Errors"]] == ["KeyTooLongError", "NoSuchVersion"]
    assert keys(client, bucket) == names[61:]
    many = {"Objects": [{"Key": f"{n}"} for n in range(1001)]}
    wrong = refused(lambda: client.delete_objects(Bucket=bucket, Delete=many))
    assert wrong == ("MalformedXML", 400)


# -- copies --------------------------------------------------------------------------------


def test_copies_across_buckets(client: Any, bucket: str) -> None:
    data = random.Random(7).randbytes(2_500_000)
    put = client.put_object(Bucket=bucket, Key="k", Body=data, Metadata={"a": "1"})
    client.create_bucket(Bucket=f"{bucket}-2")
    source = {"Bucket": bucket, "Key": "k"}
    where = {"Bucket": f"{bucket}-2", "Key": "c", "CopySource": source}
    copied = client.copy_object(**where)["CopyObjectResult"]
    assert (copied["ETag"], copied["ChecksumCRC32"]) == (put["ETag"], put["ChecksumCRC32"])
    client.delete_object(**source)
    got = client.get_object(Bucket=f"{bucket}-2", Key="c")
    assert (got["Body"].read(), got["Metadata"]) == (data, {"a": "1"})
    assert refused(lambda: client.copy_object(**where)) == ("NoSuchKey", 404)


def test_a_copy_may_have_other_metadata(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"}, ContentType="t/1")
    where = {"Bucket": bucket, "Key": "k", "CopySource": f"{bucket}/k"}
    assert refused(lambda: client.copy_object(**where)) == ("InvalidRequest", 400)
    client.copy_object(
        **where, MetadataDirective="REPLACE", Metadata={"b": "2"}, ChecksumAlgorithm="SHA256"
    )
    got = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got["Metadata"], got["ContentType"]) == ({"b": "2"}, "binary/octet-stream")
    assert got["ChecksumSHA256"] == b64encode(hashlib.sha256(b"x").digest()).decode()


def test_copies_on_conditions(client: Any, bucket: str) -> None:
    etag = client.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    where = {"Bucket": bucket, "Key": "c", "CopySource": f"{bucket}/k"}
    for condition in (
        {"CopySourceIfMatch": '"no"'},
        {"CopySourceIfNoneMatch": etag},
        {"CopySourceIfUnmodifiedSince": "2001-01-01T00:00:00Z"},
    ):
        wrong = refused(lambda given=condition: client.copy_object(**where, **given))
        assert wrong == ("PreconditionFailed", 412)
    client.copy_object(**where, CopySourceIfMatch=etag)
    assert keys(client, bucket) == ["c", "k"]


def test_a_copy_of_what_has_no_md5_gets_one(store: Cluster, client: Any, bucket: str) -> None:
    raw = store.send(b"raw bytes")
    client.copy_object(Bucket=bucket, Key="c", CopySource=f"objects/{raw.object_id}")
    etag = client.head_object(Bucket=bucket, Key="c")["ETag"]
    assert etag == f'"{hashlib.md5(b"raw bytes").hexdigest()}"'


def test_attributes(client: Any, bucket: str) -> None:
    put = client.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm="SHA1")
    wanted = ["ETag", "Checksum", "ObjectSize", "StorageClass"]
    told = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert (told["ETag"], told["ObjectSize"]) == (put["ETag"].strip('"'), 5)
    assert told["Checksum"] == {
        "ChecksumSHA1": put["ChecksumSHA1"],
        "ChecksumType": "FULL_OBJECT",
    }
    assert told["StorageClass"] == "STANDARD"


# -- listings ------------------------------------------------------------------------------


def test_listings_of_both_versions(client: Any, bucket: str) -> None:
    names = ["a", "b/1", "b/2", "b/c/3", "d/4", "z z", "é"]
    for name in names:
        client.put_object(Bucket=bucket, Key=name, Body=name.encode())
    assert keys(client, bucket) == names
    assert keys(client, bucket, Prefix="b/") == ["b/1", "b/2", "b/c/3"]
    assert keys(client, bucket, StartAfter="b/2") == ["b/c/3", "d/4", "z z", "é"]
    assert keys(client, bucket, PaginationConfig={"PageSize": 2}) == names
    for size in (1, 2, 3, 1000):
        for kind in ("list_objects", "list_objects_v2"):
            pages = client.get_paginator(kind).paginate(
                Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}
            )
            lines = [
                line
                for page in pages
                for line in [each["Key"] for each in page.get("Contents", [])]
                + [each["Prefix"] for each in page.get("CommonPrefixes", [])]
            ]
            assert sorted(lines) == ["a", "b/", "d/", "z z", "é"], (kind, size)
    page = client.list_objects_v2(Bucket=bucket, FetchOwner=True, MaxKeys=1)
    assert (page["KeyCount"], page["IsTruncated"]) == (1, True)
    assert page["Contents"][0]["Owner"]["DisplayName"] == "root"
    assert page["Contents"][0]["ETag"] == f'"{hashlib.md5(b"a").hexdigest()}"'
    wrong = refused(lambda: client.list_objects_v2(Bucket=bucket, ContinuationToken="???"))
    assert wrong == ("InvalidArgument", 400)


def test_the_versions_of_what_never_had_any(client: Any, bucket: str) -> None:
    """As clients ask for them that empty a bucket, whatever it is."""
    names = ["a b", "dir/1", "dir/2", "e+f", "\u00e9"]
    for name in names:
        client.put_object(Bucket=bucket, Key=name, Body=name.encode())
    for size in (1, 2, 1000):
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": size}
        )
        found = [each for page in pages for each in page.get("Versions", [])]
        assert [each["Key"] for each in found] == names
        assert {(each["VersionId"], each["IsLatest"]) for each in found} == {("null", True)}
    page = client.list_object_versions(Bucket=bucket, Delimiter="/", Prefix="")
    assert [each["Prefix"] for each in page["CommonPrefixes"]] == ["dir/"]
    alone = {"Bucket": bucket, "VersionIdMarker": "null"}
    wrong = refused(lambda: client.list_object_versions(**alone))
    assert wrong == ("InvalidArgument", 400)
    old = refused(lambda: client.get_object(Bucket=bucket, Key="a b", VersionId="3"))
    assert old == ("InvalidArgument", 400)
    assert client.get_object(Bucket=bucket, Key="a b", VersionId="null")["Body"].read() == b"a b"
    every = {"Objects": [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]}
    assert "Errors" not in client.delete_objects(Bucket=bucket, Delete=every)
    client.delete_bucket(Bucket=bucket)


# -- integrity -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_checked_kept_and_told(client: Any, bucket: str, algorithm: str) -> None:
    data = os.urandom(70_000)
    name = f"Checksum{algorithm}"
    put = client.put_object(Bucket=bucket, Key="k", Body=data, ChecksumAlgorithm=algorithm)
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data, "boto3 verified it"
    assert got[name] == put[name]
    wrong = {"Bucket": bucket, "Key": "wrong", "Body": data + b"x", name: put[name]}
    assert refused(lambda: client.put_object(**wrong)) == ("BadDigest", 400)
    wrong = {"Bucket": bucket, "Key": "wrong", "Body": data, name: "AAAA"}
    assert refused(lambda: client.put_object(**wrong)) == ("InvalidRequest", 400)
    assert keys(client, bucket) == ["k"]


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_wrong_md5_stores_nothing(client: Any, bucket: str, size: int) -> None:
    where = {"Bucket": bucket, "Key": "k", "Body": b"x" * size}
    wrong = refused(lambda: client.put_object(**where, ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="))
    assert wrong == ("BadDigest", 400)
    assert refused(lambda: client.put_object(**where, ContentMD5="no"))[0] == "InvalidDigest"
    assert keys(client, bucket) == []


# -- who may --------------------------------------------------------------------------------


def test_nobody_comes_in_without_a_signature(store: Cluster, signer: Signer) -> None:
    for method, path in (("GET", "/"), ("GET", "/objects"), ("PUT", "/b/k"), ("DELETE", "/b/k")):
        told = signer.send(method, path, b"", {"host": "h"})
        assert (told.status, told.code) == (403, "AccessDenied")
    told = signer.send("HEAD", "/objects", b"", {"host": "h"})
    assert (told.status, told.body) == (403, b"")


def test_wrong_keys_and_clocks(store: Cluster, bucket: str) -> None:
    port = store.s3_ports[0]
    with s3(port, secret="wrong-secret") as client:
        assert refused(lambda: client.list_buckets()) == ("SignatureDoesNotMatch", 403)
    with s3(port, key_id="NOBODY") as client:
        assert refused(lambda: client.list_buckets()) == ("InvalidAccessKeyId", 403)
    late = Signer(port, offset_s=-1200).ask("GET", "/")
    assert (late.status, late.code) == (403, "RequestTimeTooSkewed")


def test_presigned_urls(store: Cluster, client: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "a b+c"}
    url = client.generate_presigned_url("put_object", Params=where)
    request = urllib.request.Request(url, b"hello", method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    url = client.generate_presigned_url(
        "get_object", Params=where | {"ResponseContentType": "text/x"}
    )
    with urllib.request.urlopen(url) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"hello", "text/x")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.replace("text%2Fx", "text%2Fy"))
    with caught.value as error:
        assert error.code == 403


def test_virtual_host_style(store: Cluster, bucket: str) -> None:
    signer = Signer(store.s3_ports[0])
    host = {"host": f"{bucket}.s3.test:{store.s3_ports[0]}"}
    assert signer.ask("PUT", "/k", b"x", host).status == 200
    told = signer.ask("GET", "/k", b"", host)
    assert (told.status, told.body) == (200, b"x")
    assert signer.ask("GET", f"/{bucket}/k").body == b"x"


def test_after_a_lost_redis_all_is_there_again(tmp_path: Path) -> None:
    with s3_cluster(tmp_path, putters=2) as store, s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="empty-one")
        client.create_bucket(Bucket="full-one")
        put = client.put_object(
            Bucket="full-one", Key="k", Body=b"x" * 100_000, Metadata={"a": "b"}
        )
        tags = {"TagSet": [{"Key": "a", "Value": "1"}]}
        rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://page.example"]}]
        client.put_object_tagging(Bucket="full-one", Key="k", Tagging=tags)
        client.put_bucket_tagging(Bucket="empty-one", Tagging=tags)
        client.put_bucket_cors(Bucket="empty-one", CORSConfiguration={"CORSRules": rules})
        before = client.head_object(Bucket="full-one", Key="k", ChecksumMode="ENABLED")
        for router in store.routers:
            router.stop()
        store.valkey.stop()
        store.valkey.forget()
        store.valkey.start()
        for router in store.routers:
            router._argv = [*router._argv, "--rebuild", "auto"]
            router.start()
        store.wait_ready()
        names = [each["Name"] for each in client.list_buckets()["Buckets"]]
        assert names == ["empty-one", "full-one"]
        after = client.head_object(Bucket="full-one", Key="k", ChecksumMode="ENABLED")
        for name in ("ETag", "ChecksumCRC32", "Metadata", "LastModified"):
            assert after[name] == before[name]
        assert after["ETag"] == put["ETag"]
        assert client.get_object_tagging(Bucket="full-one", Key="k")["TagSet"] == tags["TagSet"]
        assert client.get_bucket_tagging(Bucket="empty-one")["TagSet"] == tags["TagSet"]
        assert client.get_bucket_cors(Bucket="empty-one")["CORSRules"] == rules


def test_what_the_metrics_tell(store: Cluster, client: Any) -> None:
    client.list_buckets()
    _, _, body = store.http("GET", "/metrics")
    lines = body.decode().splitlines()
    assert any(
        line.startswith('putter_s3_requests_total{operation="ListBuckets",status="200"}')
        for line in lines
    )
    assert any(line.startswith('putter_connections{port="s3"}') for line in lines)


def test_keys_that_may_not_do_all(store: Cluster, client: Any, bucket: str) -> None:
    other = f"{bucket}-other"
    client.create_bucket(Bucket=other)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    client.put_object(Bucket=other, Key="k", Body=b"x")
    denied = ("AccessDenied", 403)

    def with_key(key_id: str, **rights: Any) -> Any:
        body = json.dumps({"secret_key": SECRET, "owner": "ann"} | rights)
        status, _, told = store.http("PUT", f"/key/{key_id}", body)
        assert status == 201, told
        return s3(store.s3_ports[0], key_id=key_id)

    with with_key(f"R{bucket}", read_only=True) as reader:
        assert reader.get_object(Bucket=other, Key="k")["Body"].read() == b"x"
        assert refused(lambda: reader.put_object(Bucket=other, Key="n", Body=b"")) == denied
        assert refused(lambda: reader.delete_object(Bucket=other, Key="k")) == denied
        assert refused(lambda: reader.create_bucket(Bucket=f"{bucket}-new")) == denied
        many = {"Objects": [{"Key": "k"}]}
        assert refused(lambda: reader.delete_objects(Bucket=other, Delete=many)) == denied
    with with_key(f"O{bucket}", buckets={bucket: "write", "elsewhere": "read"}) as owner:
        owner.put_object(Bucket=bucket, Key="n", Body=b"y")
        assert refused(lambda: owner.get_object(Bucket=other, Key="k")) == denied
        assert refused(lambda: owner.list_objects_v2(Bucket=other)) == denied
        assert refused(lambda: owner.get_object(Bucket="elsewhere", Key="k"))[0] == "NoSuchBucket"
        assert refused(lambda: owner.put_object(Bucket="elsewhere", Key="k", Body=b"")) == denied
        stolen = {"Bucket": bucket, "Key": "s", "CopySource": f"{other}/k"}
        assert refused(lambda: owner.copy_object(**stolen)) == denied
        assert [each["Name"] for each in owner.list_buckets()["Buckets"]] == [bucket]
        assert keys(owner, bucket) == ["k", "n"]


def test_the_owner_that_is_expected(client: Any, bucket: str) -> None:
    client.head_bucket(Bucket=bucket, ExpectedBucketOwner="root")
    wrong = refused(lambda: client.list_objects_v2(Bucket=bucket, ExpectedBucketOwner="1" * 12))
    assert wrong == ("AccessDenied", 403)


def test_a_bucket_of_another_owner_is_taken(store: Cluster, client: Any, bucket: str) -> None:
    body = json.dumps({"secret_key": SECRET, "owner": "ann"})
    assert store.http("PUT", f"/key/T{bucket}", body)[0] == 201
    with s3(store.s3_ports[0], key_id=f"T{bucket}") as ann:
        taken = refused(lambda: ann.create_bucket(Bucket=bucket))
    assert taken == ("BucketAlreadyExists", 409)


def test_one_of_many_racing_writers_wins(store: Cluster, client: Any, bucket: str) -> None:
    """As table formats and state locks rely on."""

    def write(number: int) -> str:
        with s3(store.s3_ports[0]) as mine:
            try:
                mine.put_object(
                    Bucket=bucket, Key="lock", Body=f"{number}".encode(), IfNoneMatch="*"
                )
            except ClientError as error:
                return refusal(error)[0]
        return str(number)

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(write, range(16)))
    won = [each for each in outcomes if each.isdigit()]
    assert len(won) == 1
    assert set(outcomes) - set(won) <= {"PreconditionFailed", "ConditionalRequestConflict"}
    assert client.get_object(Bucket=bucket, Key="lock")["Body"].read() == won[0].encode()


def test_an_object_is_renamed_once(client: Any, signer: Signer, bucket: str) -> None:
    body = os.urandom(1_500_000)
    told = client.put_object(Bucket=bucket, Key="old name", Body=body, Metadata={"m": "1"})
    token = {"ClientToken": "a-token", "DestinationIfNoneMatch": "*"}
    where = {"Bucket": bucket, "RenameSource": "old%20name"}
    for _ in range(2):
        client.rename_object(**where, Key="new", **token)
    assert keys(client, bucket) == ["new"]
    held = client.get_object(Bucket=bucket, Key="new")
    assert (held["ETag"], held["Metadata"], held["Body"].read()) == (told["ETag"], {"m": "1"}, body)
    targets = [f"to-{number}" for number in range(6)]

    def rename(key: str) -> int:
        headers = {"x-amz-rename-source": "new"}
        return signer.ask("PUT", f"/{bucket}/{key}?renameObject=", headers=headers).status

    with ThreadPoolExecutor(len(targets)) as threads:
        statuses = list(threads.map(rename, targets))
    assert sorted(statuses) == [200] + [404] * 5
    assert keys(client, bucket) == [targets[statuses.index(200)]]
