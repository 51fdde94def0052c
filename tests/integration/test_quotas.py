"""Quotas of buckets with real processes, through every door."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import refusal, s3, s3_cluster
from tests.store_kit import Cluster
from tests.traffic_kit import at, payload

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("quotas"), putters=2, routers=2) as made:
        yield made


def limit(store: Cluster, bucket: str, **settings: Any) -> None:
    """By the first router; the second hears of it in time where it publishes."""
    status, _, told = store.http("PUT", f"/bucket/{bucket}", json.dumps(settings).encode())
    assert status == 200, told


def used(store: Cluster, bucket: str) -> tuple[int, int, int]:
    told = json.loads(store.http("GET", f"/bucket/{bucket}", router=1)[2])["used"]
    return told["files"], told["bytes"], told["upload_bytes"]


def test_a_quota_over_s3(store: Cluster) -> None:
    with s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="photos")
        limit(store, "photos", quota_bytes=20 * MIB, quota_files=3)
        client.put_object(Bucket="photos", Key="a", Body=payload(9 * MIB))
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket="photos", Key="b", Body=payload(12 * MIB))
        assert refusal(caught.value) == ("QuotaExceeded", 403)
        message = caught.value.response["Error"]["Message"]
        assert "bucket 'photos'" in message
        assert f"{9 * MIB} of {20 * MIB} bytes are used" in message
        # Parts count; what they become takes their place.
        key = {"Bucket": "photos", "Key": "b"}
        upload = key | {"UploadId": client.create_multipart_upload(**key)["UploadId"]}
        part = client.upload_part(**upload, PartNumber=1, Body=payload(6 * MIB))
        assert used(store, "photos") == (1, 9 * MIB, 6 * MIB)
        with pytest.raises(ClientError) as caught:
            client.upload_part(**upload, PartNumber=2, Body=payload(6 * MIB))
        assert refusal(caught.value) == ("QuotaExceeded", 403)
        last = client.upload_part(**upload, PartNumber=2, Body=payload(5 * MIB))
        parts = [{"PartNumber": n + 1, "ETag": e["ETag"]} for n, e in enumerate((part, last))]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        assert used(store, "photos") == (2, 20 * MIB, 0), "its parts went before the answer"
        with pytest.raises(ClientError) as caught:
            client.copy_object(Bucket="photos", Key="c", CopySource="photos/a")
        assert refusal(caught.value) == ("QuotaExceeded", 403)
        # What it may not hold more of does not stand in the way of anything else.
        client.put_object(Bucket="photos", Key="empty", Body=b"")
        client.put_object(Bucket="photos", Key="a", Body=payload(9 * MIB, "other"))
        client.head_bucket(Bucket="photos")
        assert client.list_objects_v2(Bucket="photos")["KeyCount"] == 3
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket="photos", Key="fourth", Body=b"")
        assert refusal(caught.value) == ("QuotaExceeded", 403)
        assert "3 of 3 files are used" in caught.value.response["Error"]["Message"]
        client.delete_object(Bucket="photos", Key="a")
        client.put_object(Bucket="photos", Key="fourth", Body=payload(9 * MIB))
        shown = at(store, "bucket", "show", "photos").text
        assert "holds:   3 of 3 files, 20.0 MiB of 20.0 MiB" in shown
        assert "3 of 3 files, 20.0 MiB of 20.0 MiB" in at(store, "status").text


def test_versions_count_until_they_are_deleted_for_good(store: Cluster) -> None:
    with s3(store.s3_ports[0]) as client:
        client.create_bucket(Bucket="kept")
        client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
        limit(store, "kept", quota_files=2)
        first = client.put_object(Bucket="kept", Key="a", Body=b"one")["VersionId"]
        client.put_object(Bucket="kept", Key="a", Body=b"three")
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket="kept", Key="a", Body=b"more")
        assert refusal(caught.value) == ("QuotaExceeded", 403)
        client.delete_object(Bucket="kept", Key="a")
        assert used(store, "kept") == (2, 8, 0), "a delete marker is never refused"
        client.delete_object(Bucket="kept", Key="a", VersionId=first)
        client.put_object(Bucket="kept", Key="a", Body=b"more")
        assert used(store, "kept") == (2, 9, 0)


def test_many_at_once_through_two_routers_come_to_the_last_byte(store: Cluster) -> None:
    limit(store, "crowd", quota_bytes=10_000)

    def put(number: int) -> int:
        body = payload(1_000, number)
        return store.http("PUT", f"/file/crowd/k{number}", body, router=number % 2)[0]

    with ThreadPoolExecutor(12) as pool:
        told = list(pool.map(put, range(36)))
    assert sorted(set(told)) == [201, 413]
    assert told.count(201) == 10
    assert used(store, "crowd") == (10, 10_000, 0)


def test_over_rest_an_announced_body_is_not_even_read(store: Cluster) -> None:
    limit(store, "small", quota_bytes=MIB)
    connection = http.client.HTTPConnection("127.0.0.1", store.web_ports[0], timeout=30)
    connection.putrequest("PUT", "/file/small/large")
    connection.putheader("Content-Length", str(100 * MIB))
    connection.endheaders(payload(1_000))
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert (answer.status, told["code"]) == (413, "quota-exceeded")
    assert told["message"] == (f"bucket 'small' may not hold more: 0 of {MIB} bytes are used")
    assert used(store, "small") == (0, 0, 0)


@pytest.mark.parametrize("size", [2_000, 3 * MIB])
def test_over_the_raw_port(store: Cluster, size: int) -> None:
    before = used(store, "objects")
    limit(store, "objects", quota_bytes=before[1] + size, quota_files=None)
    assert store.send(payload(size, "first")).ok
    refused = store.send(payload(size, "second"))
    assert not refused.ok
    assert refused.code == "quota-exceeded"
    assert "bucket 'objects' may not hold more" in refused.line
    assert used(store, "objects") == (before[0] + 1, before[1] + size, 0)
    limit(store, "objects", quota_bytes=None)
    assert store.send(payload(size, "second")).ok
