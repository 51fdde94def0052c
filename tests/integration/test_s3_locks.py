"""Object lock with real processes and boto3, at every door."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, refusal, s3, s3_cluster
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow
LATER = datetime(2090, 1, 2, 3, 4, 5, tzinfo=UTC)
LATEST = datetime(2091, 1, 2, 3, 4, 5, tzinfo=UTC)
DENIED = ("AccessDenied", 403)
BOUNDARY = "------------------------a0b1c2d3"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = s3_cluster(
        tmp_path_factory.mktemp("locks"), putters=2, router_flags=("--stale-reads-s", "0")
    )
    with made as running:
        yield running


@pytest.fixture
def client(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0], retries={"total_max_attempts": 5}) as made:
        yield made


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"l-{random.randrange(10**12)}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(client: Any, bucket: str, key: str = "k", body: bytes = b"x", **more: Any) -> Any:
    """Where a new version is."""
    told = client.put_object(Bucket=bucket, Key=key, Body=body, **more)
    return {"Bucket": bucket, "Key": key, "VersionId": told["VersionId"]}


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    return refusal(caught.value)


def retain(client: Any, at: Any, mode: str, until: datetime, **more: Any) -> None:
    retention = {"Mode": mode, "RetainUntilDate": until}
    client.put_object_retention(**at, Retention=retention, **more)


def default(client: Any, bucket: str, **rule: Any) -> None:
    configuration: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
    if rule:
        configuration["Rule"] = {"DefaultRetention": rule}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)


def test_what_boto3_says_and_hears(client: Any, bucket: str) -> None:
    default(client, bucket, Mode="GOVERNANCE", Years=2)
    told = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": 2}}
    assert told == {"ObjectLockEnabled": "Enabled", "Rule": rule}
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": LATER}
    at = put(client, bucket, **lock, ObjectLockLegalHoldStatus="ON")
    got = client.get_object(**at)
    assert got["Body"].read() == b"x"
    for found in (client.head_object(**at), got):
        assert {name: found[name] for name in lock} == lock
        assert found["ObjectLockLegalHoldStatus"] == "ON"
    assert client.get_object_retention(**at)["Retention"] == {
        "Mode": "COMPLIANCE",
        "RetainUntilDate": LATER,
    }
    assert client.get_object_legal_hold(**at)["LegalHold"] == {"Status": "ON"}
    retain(client, at, "COMPLIANCE", LATEST)
    assert client.head_object(**at)["ObjectLockRetainUntilDate"] == LATEST
    client.put_object_legal_hold(**at, LegalHold={"Status": "OFF"})
    for may in ({}, {"BypassGovernanceRetention": True}):
        assert refused(partial(client.delete_object, **at, **may)) == DENIED
        assert refused(partial(retain, client, at, "COMPLIANCE", LATER, **may)) == DENIED
    copied = client.copy_object(Bucket=bucket, Key="copy", CopySource=at, **lock)
    gone = {"Bucket": bucket, "Key": "copy", "VersionId": copied["VersionId"]}
    assert refused(lambda: client.delete_object(**gone)) == DENIED
    governed = put(client, bucket, "governed")
    assert client.head_object(**governed)["ObjectLockMode"] == "GOVERNANCE"
    many = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in (at, governed)]
    told = client.delete_objects(
        Bucket=bucket, Delete={"Objects": many}, BypassGovernanceRetention=True
    )
    assert [each["Key"] for each in told["Deleted"]] == ["governed"]
    assert [(each["Key"], each["Code"]) for each in told["Errors"]] == [("k", "AccessDenied")]


def test_uploads_in_parts_and_forms(store: Cluster, client: Any, bucket: str) -> None:
    default(client, bucket, Mode="COMPLIANCE", Days=1)
    where: dict[str, Any] = {"Bucket": bucket, "Key": "parts"}
    where["UploadId"] = client.create_multipart_upload(**where, ObjectLockLegalHoldStatus="ON")[
        "UploadId"
    ]
    etag = client.upload_part(**where, PartNumber=1, Body=b"one")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    made = client.complete_multipart_upload(**where, MultipartUpload=parts)
    at = {"Bucket": bucket, "Key": "parts", "VersionId": made["VersionId"]}
    found = client.head_object(**at)
    assert (found["ObjectLockMode"], found["ObjectLockLegalHoldStatus"]) == ("COMPLIANCE", "ON")
    assert refused(lambda: client.delete_object(**at)) == DENIED

    until = "2090-01-02T03:04:05Z"
    lock = {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": until,
    }
    conditions = [{name: value} for name, value in lock.items()]
    form = client.generate_presigned_post(bucket, "form", Fields=lock, Conditions=conditions)
    body = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {**form["fields"], "file": "bytes"}.items()
    )
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "host": "127.0.0.1"}
    signer = Signer(store.s3_ports[0])
    told = signer.send("POST", f"/{bucket}", f"{body}--{BOUNDARY}--\r\n".encode(), kind)
    assert told.status == 204, told
    found = client.head_object(Bucket=bucket, Key="form")
    assert (found["ObjectLockMode"], found["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", LATER)


def test_no_other_door_gets_around_it(store: Cluster, client: Any, bucket: str) -> None:
    default(client, bucket, Mode="COMPLIANCE", Days=1)

    def written() -> None:
        """By now the router knows the default."""
        assert store.http("PUT", f"/file/{bucket}/k", b"over REST")[0] == 201
        found = client.head_object(Bucket=bucket, Key="k")
        assert found["ObjectLockMode"] == "COMPLIANCE"

    eventually(written)
    version = client.head_object(Bucket=bucket, Key="k")["VersionId"]
    at = {"Bucket": bucket, "Key": "k", "VersionId": version}
    assert store.http("DELETE", f"/file/{bucket}/k")[0] == 204
    assert store.http("GET", f"/file/{bucket}/k")[0] == 404
    assert client.get_object(**at)["Body"].read() == b"over REST"
    versioning = {"VersioningConfiguration": {"Status": "Suspended"}}
    suspend = client.put_bucket_versioning
    assert refused(lambda: suspend(Bucket=bucket, **versioning)) == ("InvalidBucketState", 409)
    assert refused(lambda: client.delete_bucket(Bucket=bucket)) == ("BucketNotEmpty", 409)
    assert store.http("DELETE", f"/bucket/{bucket}")[0] == 200
    assert refused(lambda: client.delete_object(**at, BypassGovernanceRetention=True)) == DENIED
