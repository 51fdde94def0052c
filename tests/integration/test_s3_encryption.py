"""Encryption over S3 with real processes and boto3, and what the other doors make of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.s3_kit import SSE, customer_headers, customer_secret, refusal, s3_cluster
from tests.store_kit import Cluster, digest
from tests.traffic_kit import payload

pytestmark = pytest.mark.slow
OURS = customer_secret("ours")
WITH_KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": OURS}
DEFAULT = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
PLAIN = b"nobody else shall read this, " * 1_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("s3"), putters=2) as made:
        yield made


def on_disk(store: Cluster, *words: bytes) -> list[bytes]:
    """Which of these any file of the store holds: disks of putters, Redis, logs."""
    found = set()
    for path in store.directory.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as held:
                found |= {each for each in words if held.find(each) >= 0}
    return [each for each in words if each in found]


def test_nothing_of_it_is_on_any_disk(store: Cluster, client: Any, bucket: str) -> None:
    secret, seen = b"a sentence that is hidden", b"a sentence that is not"
    where = {"Bucket": bucket}
    told = client.put_object(**where, Key="own", Body=secret, ServerSideEncryption="AES256")
    assert told["ServerSideEncryption"] == "AES256"
    client.put_object(**where, Key="customer", Body=secret, **WITH_KEY)
    client.put_object(**where, Key="plain", Body=seen)
    assert client.get_object(**where, Key="own")["Body"].read() == secret
    assert client.get_object(**where, Key="customer", **WITH_KEY)["Body"].read() == secret
    other = WITH_KEY | {"SSECustomerKey": bytes(32)}
    with pytest.raises(ClientError) as caught:
        client.get_object(**where, Key="customer", **other)
    assert refusal(caught.value) == ("AccessDenied", 403)
    header = customer_headers("ours")[f"{SSE}-customer-key"].encode()
    assert on_disk(store, seen, secret, OURS, header) == [seen]


@pytest.mark.parametrize("options", [{"ServerSideEncryption": "AES256"}, WITH_KEY])
def test_a_large_file_goes_in_parts_and_comes_in_ranges(
    client: Any, bucket: str, options: dict[str, Any]
) -> None:
    body = payload((11 << 20) + 17)
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    where = {"Bucket": bucket, "Key": "large"}
    client.upload_fileobj(io.BytesIO(body), *where.values(), ExtraArgs=options, Config=config)
    reading = options if options is WITH_KEY else {}
    out = io.BytesIO()
    client.download_fileobj(*where.values(), out, ExtraArgs=reading, Config=config)
    assert out.getvalue() == body
    head = client.head_object(**where, **reading)
    assert head["ETag"].endswith('-3"')
    assert head.get("ServerSideEncryption") == options.get("ServerSideEncryption")
    start = (5 << 20) - 3
    part = client.get_object(**where, Range=f"bytes={start}-{start + 9}", **reading)
    assert part["Body"].read() == body[start : start + 10]


def test_other_doors_open_what_is_ours_and_refuse_the_rest(
    store: Cluster, client: Any, bucket: str
) -> None:
    where = {"Bucket": bucket}
    client.put_object(**where, Key="own", Body=PLAIN, ServerSideEncryption="AES256")
    client.put_object(**where, Key="customer", Body=PLAIN, **WITH_KEY)
    for headers in ({}, {"Accept-Language": "sv"}):  # the short way, and the other one
        status, told, body = store.http("GET", f"/file/{bucket}/own", headers=headers)
        assert (status, body) == (200, PLAIN)
        assert "x-putter-blake3" not in told
        status, _, body = store.http("GET", f"/file/{bucket}/customer", headers=headers)
        assert (status, json.loads(body)["code"]) == (400, "key-needed")
    assert store.http("HEAD", f"/file/{bucket}/customer")[0] == 400
    copy = {"X-Putter-Copy-Source": f"/{bucket}/customer"}
    assert store.http("PUT", f"/file/{bucket}/copy", headers=copy)[0] == 400
    assert store.http("GET", f"/file/{bucket}/copy")[0] == 404
    copy = {"X-Putter-Copy-Source": f"/{bucket}/own"}
    assert store.http("PUT", f"/file/{bucket}/copy", headers=copy)[0] == 201
    assert client.head_object(**where, Key="copy")["ServerSideEncryption"] == "AES256"
    assert client.get_object(**where, Key="copy")["Body"].read() == PLAIN


def test_a_bucket_encrypts_whatever_comes(store: Cluster, client: Any, bucket: str) -> None:
    where = {"Bucket": bucket}
    client.put_bucket_encryption(**where, ServerSideEncryptionConfiguration=DEFAULT)
    told = client.get_bucket_encryption(**where)["ServerSideEncryptionConfiguration"]
    default = told["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "AES256"}
    client.put_object(**where, Key="s3", Body=PLAIN)
    status, _, body = store.http("PUT", f"/file/{bucket}/rest", PLAIN)
    assert (status, json.loads(body)["blake3"]) == (201, digest(PLAIN))
    for key in ("s3", "rest"):
        got = client.get_object(**where, Key=key)
        assert (got["ServerSideEncryption"], got["Body"].read()) == ("AES256", PLAIN)
    assert store.read(f"{bucket}/rest") == PLAIN
    client.delete_bucket_encryption(**where)
    with pytest.raises(ClientError) as caught:
        client.get_bucket_encryption(**where)
    assert refusal(caught.value) == ("ServerSideEncryptionConfigurationNotFoundError", 404)
