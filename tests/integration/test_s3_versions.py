"""Versions of objects with real processes and boto3, also through a Redis that lost everything."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, refusal, s3, s3_cluster
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow
LONG = b"x" * (5 << 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = s3_cluster(
        tmp_path_factory.mktemp("s3"),
        putters=2,
        router_flags=("--workers", "2", "--stale-reads-s", "0"),
    )
    with made as running:
        yield running


@pytest.fixture
def client(store: Cluster) -> Iterator[Any]:
    """Tries again what is refused since its router did not hear of a setting yet."""
    with s3(store.s3_ports[0], retries={"total_max_attempts": 5}) as made:
        yield made


def keep_versions(client: Any, bucket: str, status: str = "Enabled") -> None:
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def put(client: Any, bucket: str, key: str, body: bytes, **more: Any) -> str:
    told: str = client.put_object(Bucket=bucket, Key=key, Body=body, **more).get("VersionId", "")
    return told


def refused(call: Callable[[], Any]) -> tuple[str, int, dict[str, str]]:
    with pytest.raises(ClientError) as caught:
        call()
    told: Any = caught.value.response
    return *refusal(caught.value), told["ResponseMetadata"]["HTTPHeaders"]


def listed(client: Any, bucket: str, **options: Any) -> list[tuple[str, str, bool, bool]]:
    """Key, ID, whether it is the latest, whether it is a delete marker; in the order told."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, **options)
    lines = []
    for page in pages:
        found = [(each, False) for each in page.get("Versions", [])]
        found += [(each, True) for each in page.get("DeleteMarkers", [])]
        lines += [(e["Key"], e["VersionId"], e["IsLatest"], marker) for e, marker in found]
    return lines


def read(client: Any, bucket: str, key: str, **version: str) -> bytes:
    data: bytes = client.get_object(Bucket=bucket, Key=key, **version)["Body"].read()
    return data


def empty(client: Any, bucket: str) -> None:
    every = [{"Key": key, "VersionId": each} for key, each, _, _ in listed(client, bucket)]
    assert "Errors" not in client.delete_objects(Bucket=bucket, Delete={"Objects": every})


def test_the_setting(client: Any, bucket: str, store: Cluster) -> None:
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        keep_versions(client, bucket, status)
        assert client.get_bucket_versioning(Bucket=bucket)["Status"] == status
    there = {"Bucket": bucket, "VersioningConfiguration": {"Status": "Enabled"}}
    there["VersioningConfiguration"]["MFADelete"] = "Enabled"
    assert refused(lambda: client.put_bucket_versioning(**there))[:2] == ("NotImplemented", 501)
    signer = Signer(store.s3_ports[0])
    for body, code in [
        (b"<VersioningConfiguration/>", "IllegalVersioningConfigurationException"),
        (b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>", "MalformedXML"),
        (b"<Versioning/>", "MalformedXML"),
    ]:
        assert signer.ask("PUT", f"/{bucket}?versioning", body).code == code
    client.create_bucket(Bucket="objects")
    none = refused(lambda: keep_versions(client, "objects"))
    assert none[:2] == ("InvalidRequest", 400)
    missing = refused(lambda: keep_versions(client, "nobody-made-this"))
    assert missing[:2] == ("NoSuchBucket", 404)


def test_the_life_of_versions(client: Any, bucket: str) -> None:
    assert put(client, bucket, "a", b"null") == ""
    keep_versions(client, bucket)
    one, two = put(client, bucket, "a", b"one"), put(client, bucket, "a", LONG)
    nothing = put(client, bucket, "a", b"")
    assert len({one, two, nothing, "null"}) == 4
    assert client.head_object(Bucket=bucket, Key="a")["VersionId"] == nothing
    for version, data in [("null", b"null"), (one, b"one"), (two, LONG), (nothing, b"")]:
        got = client.get_object(Bucket=bucket, Key="a", VersionId=version)
        assert (got["VersionId"], got["Body"].read()) == (version, data)
    part = client.get_object(Bucket=bucket, Key="a", VersionId=two, Range="bytes=1-3")
    assert part["Body"].read() == b"xxx"
    told = client.get_object_attributes(
        Bucket=bucket, Key="a", VersionId=one, ObjectAttributes=["ObjectSize"]
    )
    assert (told["VersionId"], told["ObjectSize"]) == (one, 3)

    gone = client.delete_object(Bucket=bucket, Key="a")
    assert gone["DeleteMarker"] is True
    marker = gone["VersionId"]
    code, status, headers = refused(lambda: client.get_object(Bucket=bucket, Key="a"))
    assert (code, status) == ("NoSuchKey", 404)
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    code, status, headers = refused(
        lambda: client.get_object(Bucket=bucket, Key="a", VersionId=marker)
    )
    assert (code, status, headers["x-amz-delete-marker"]) == ("MethodNotAllowed", 405, "true")
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert listed(client, bucket) == [
        ("a", nothing, False, False),
        ("a", two, False, False),
        ("a", one, False, False),
        ("a", "null", False, False),
        ("a", marker, True, True),
    ]
    assert refused(lambda: client.delete_bucket(Bucket=bucket))[:2] == ("BucketNotEmpty", 409)

    back = client.delete_object(Bucket=bucket, Key="a", VersionId=marker)
    assert (back["VersionId"], back["DeleteMarker"]) == (marker, True)
    assert client.head_object(Bucket=bucket, Key="a")["VersionId"] == nothing
    for version in (nothing, two, two):
        assert (
            client.delete_object(Bucket=bucket, Key="a", VersionId=version)["VersionId"] == version
        )
    assert read(client, bucket, "a") == b"one"
    absent = refused(lambda: client.get_object(Bucket=bucket, Key="a", VersionId=two))
    assert absent[:2] == ("NoSuchVersion", 404)
    wrong = refused(lambda: client.get_object(Bucket=bucket, Key="a", VersionId="no id"))
    assert wrong[:2] == ("InvalidArgument", 400)
    client.delete_object(Bucket=bucket, Key="a", VersionId=one)
    assert read(client, bucket, "a") == b"null"
    assert client.get_object(Bucket=bucket, Key="a")["VersionId"] == "null"
    empty(client, bucket)
    client.delete_bucket(Bucket=bucket)


def test_while_it_is_suspended(client: Any, bucket: str) -> None:
    keep_versions(client, bucket)
    kept = put(client, bucket, "a", b"kept")
    keep_versions(client, bucket, "Suspended")
    assert put(client, bucket, "a", b"first") == "null"
    assert put(client, bucket, "a", b"second") == "null"
    assert read(client, bucket, "a") == b"second"
    assert read(client, bucket, "a", VersionId=kept) == b"kept"
    gone = client.delete_object(Bucket=bucket, Key="a")
    assert (gone["VersionId"], gone["DeleteMarker"]) == ("null", True)
    assert sorted(listed(client, bucket)) == sorted(
        [("a", "null", True, True), ("a", kept, False, False)]
    )
    told = client.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "a", "VersionId": "null"}, {"Key": "b"}]},
    )["Deleted"]
    assert sorted(told, key=lambda each: each["Key"]) == [
        {"Key": "a", "VersionId": "null", "DeleteMarker": True, "DeleteMarkerVersionId": "null"},
        {"Key": "b", "DeleteMarker": True, "DeleteMarkerVersionId": "null"},
    ]
    assert read(client, bucket, "a") == b"kept"


def test_copies_and_uploads_in_parts(client: Any, bucket: str) -> None:
    put(client, bucket, "a", b"null")
    keep_versions(client, bucket)
    one = put(client, bucket, "a", b"one")
    put(client, bucket, "a", b"two")
    for version, data in [(one, b"one"), ("null", b"null")]:
        source = {"Bucket": bucket, "Key": "a", "VersionId": version}
        told = client.copy_object(Bucket=bucket, Key="a", CopySource=source)
        assert told["CopySourceVersionId"] == version
        assert read(client, bucket, "a") == data
        assert read(client, bucket, "a", VersionId=told["VersionId"]) == data
    marker = client.delete_object(Bucket=bucket, Key="a")["VersionId"]
    dead = {"Bucket": bucket, "Key": "a", "VersionId": marker}
    wrong = refused(lambda: client.copy_object(Bucket=bucket, Key="b", CopySource=dead))
    assert wrong[:2] == ("InvalidRequest", 400)

    upload = client.create_multipart_upload(Bucket=bucket, Key="a")["UploadId"]
    to = {"Bucket": bucket, "Key": "a", "UploadId": upload}
    etag = client.upload_part(**to, PartNumber=1, Body=LONG)["ETag"]
    copied = client.upload_part_copy(
        **to, PartNumber=2, CopySource={"Bucket": bucket, "Key": "a", "VersionId": one}
    )
    assert copied["CopySourceVersionId"] == one
    parts = [
        {"PartNumber": 1, "ETag": etag},
        {"PartNumber": 2, "ETag": copied["CopyPartResult"]["ETag"]},
    ]
    done = client.complete_multipart_upload(**to, MultipartUpload={"Parts": parts})
    again = client.complete_multipart_upload(**to, MultipartUpload={"Parts": parts})
    assert done["VersionId"] == again["VersionId"]
    assert read(client, bucket, "a", VersionId=done["VersionId"]) == LONG + b"one"
    assert len(listed(client, bucket)) == 7


def test_listings(client: Any, bucket: str) -> None:
    keys = ["a", "a/1", "a/2", "b c", "d/e/f", "\u00e9"]
    for key in keys:
        put(client, bucket, key, b"null")
    keep_versions(client, bucket)
    for key in keys:
        put(client, bucket, key, b"new")
    for key in ("a", "d/e/f"):
        client.delete_object(Bucket=bucket, Key=key)
    every = listed(client, bucket)
    assert len(every) == 14
    assert sum(latest for _, _, latest, _ in every) == 6
    for size in (1, 3, 1000):
        assert sorted(listed(client, bucket, PaginationConfig={"PageSize": size})) == sorted(every)
        names = [
            each["Key"]
            for page in client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, PaginationConfig={"PageSize": size}
            )
            for each in page.get("Contents", [])
        ]
        assert names == ["a/1", "a/2", "b c", "\u00e9"]
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}
        )
        lines = [
            line
            for page in pages
            for kind, name in (("Versions", "Key"), ("CommonPrefixes", "Prefix"))
            for line in [each[name] for each in page.get(kind, [])]
        ]
        assert sorted(lines) == sorted(["a", "a", "a/", "b c", "b c", "d/", "\u00e9", "\u00e9"])
    assert {key for key, *_ in listed(client, bucket, Prefix="a/")} == {"a/1", "a/2"}
    newest = next(version for key, version, latest, _ in every if key == "a/1" and latest)
    page = client.list_object_versions(
        Bucket=bucket, KeyMarker="a/1", VersionIdMarker=newest, MaxKeys=1
    )
    assert [(e["Key"], e["VersionId"]) for e in page["Versions"]] == [("a/1", "null")]
    assert (page["NextKeyMarker"], page["NextVersionIdMarker"]) == ("a/1", "null")
    page = client.list_object_versions(
        Bucket=bucket, KeyMarker="a/1", VersionIdMarker="null", MaxKeys=1
    )
    assert page["Versions"][0]["Key"] == "a/2"


def test_one_of_many_conditional_writes_wins(store: Cluster, client: Any, bucket: str) -> None:
    keep_versions(client, bucket)
    put(client, bucket, "seen", b"by all")

    def write(condition: dict[str, str], n: int) -> str:
        with s3(store.s3_ports[0], retries={"total_max_attempts": 5}) as own:
            try:
                return put(own, bucket, "a", f"{condition} {n}".encode(), **condition)
            except ClientError as error:
                told = refusal(error)
            return "" if told == ("PreconditionFailed", 412) else str(told)

    with ThreadPoolExecutor(8) as pool:
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": "?"}):
            if "IfMatch" in condition:
                condition["IfMatch"] = client.head_object(Bucket=bucket, Key="a")["ETag"]
            won = [each for each in pool.map(lambda n, c=condition: write(c, n), range(8)) if each]
            assert len(won) == 1
            assert client.head_object(Bucket=bucket, Key="a")["VersionId"] == won[0]
    client.delete_object(
        Bucket=bucket, Key="a", IfMatch=client.head_object(Bucket=bucket, Key="a")["ETag"]
    )
    assert write({"IfNoneMatch": "*"}, 9)
    stale = refused(lambda: client.delete_object(Bucket=bucket, Key="a", IfMatch='"no"'))
    assert stale[:2] == ("PreconditionFailed", 412)
    assert len([line for line in listed(client, bucket) if line[0] == "a"]) == 4


def test_other_doors_and_a_wiped_redis(store: Cluster, client: Any, bucket: str) -> None:
    put(client, bucket, "a", b"null")
    keep_versions(client, bucket)
    put(client, bucket, "a", b"one")
    put(client, bucket, "a", LONG)
    put(client, bucket, "b", b"b")
    client.delete_object(Bucket=bucket, Key="b")
    assert store.http("GET", f"/file/{bucket}/a")[2] == LONG
    assert store.http("GET", f"/explain/{bucket}/a")[0] == 200
    about = json.loads(store.http("GET", f"/metadata/{bucket}/a")[2])
    assert (about["bucket"], about["key"]) == (bucket, "a")
    ticket = about["objects"][0]["extents"][0]["first"]
    about = json.loads(store.http("GET", f"/ticket/{ticket}")[2])
    assert (about["bucket"], about["key"], about["offset"]) == (bucket, "a", 0)
    assert store.http("GET", f"/file/{bucket}/b")[0] == 404
    eventually(lambda: _is(store.http("PUT", f"/file/{bucket}/c", b"rest")[0], 201))
    assert store.http("DELETE", f"/file/{bucket}/c")[0] == 204
    assert store.http("DELETE", f"/file/{bucket}/c")[0] == 404
    before = listed(client, bucket)
    assert len(before) == 7

    assert store.valkey.ask("FLUSHALL") == "+OK\r\n"
    done = subprocess.run(
        store.command(
            *("rebuild", "--redis", store.valkey.url, "--json"),
            *("--key-file", str(store.directory / "cluster.key")),
        ),
        cwd=store.directory,
        env=store.environment(),
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: _is(store.http("GET", f"/file/{bucket}/a")[0], 200))
    assert listed(client, bucket) == before
    assert client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert read(client, bucket, "a") == LONG
    assert refused(lambda: client.get_object(Bucket=bucket, Key="b"))[2]["x-amz-delete-marker"]
    for key, version, _, marker in before:
        if not marker:
            assert (
                client.head_object(Bucket=bucket, Key=key, VersionId=version)["VersionId"]
                == version
            )
    newer = put(client, bucket, "a", b"newer")
    assert listed(client, bucket)[0] == ("a", newer, True, False)
    empty(client, bucket)
    client.delete_bucket(Bucket=bucket)


def _is(told: int, wanted: int) -> None:
    assert told == wanted
