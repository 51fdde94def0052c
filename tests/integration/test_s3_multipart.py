"""Uploads in parts with real processes and boto3: each operation, each error, and what is left."""

from __future__ import annotations

import hashlib
import io
import json
import random
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.s3_kit import Signer, begin_anew, refusal, s3, s3_cluster
from tests.store_kit import Cluster, eventually

pytestmark = pytest.mark.slow
MIB = 1 << 20
LONG = 5 * MIB


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with s3_cluster(tmp_path_factory.mktemp("parts"), putters=2) as made:
        yield made


@pytest.fixture
def signer(store: Cluster) -> Signer:
    return Signer(store.s3_ports[0])


def data(size: int, seed: object = 0) -> bytes:
    return random.Random(f"{seed}/{size}").randbytes(size)


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    return refusal(caught.value)


def etag_of(*parts: bytes) -> str:
    md5s = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(md5s).hexdigest()}-{len(parts)}"'


class Upload:
    """One upload of a client."""

    def __init__(self, client: Any, bucket: str, key: str = "a/long one", **options: Any) -> None:
        self.client = client
        self.where = {"Bucket": bucket, "Key": key}
        told = client.create_multipart_upload(**self.where, **options)
        self.where["UploadId"] = told["UploadId"]
        self.parts: dict[int, dict[str, Any]] = {}

    def put(self, number: int, body: bytes, **options: Any) -> Any:
        told = self.client.upload_part(**self.where, PartNumber=number, Body=body, **options)
        self.note(number, told)
        return told

    def note(self, number: int, told: dict[str, Any]) -> None:
        sums = {name: value for name, value in told.items() if name.startswith("Checksum")}
        self.parts[number] = {"PartNumber": number, "ETag": told["ETag"]} | sums

    def complete(self, *numbers: int, **options: Any) -> Any:
        parts = [self.parts[each] for each in numbers or sorted(self.parts)]
        return self.client.complete_multipart_upload(
            **self.where, MultipartUpload={"Parts": parts}, **options
        )

    def abort(self) -> Any:
        return self.client.abort_multipart_upload(**self.where)

    def listed(self, **options: Any) -> list[int]:
        told = self.client.list_parts(**self.where, **options)
        return [each["PartNumber"] for each in told.get("Parts", [])]


def test_parts_out_of_order_and_replaced_become_one_object(
    store: Cluster, client: Any, bucket: str
) -> None:
    parts = [data(LONG, "a"), data(LONG + 7, "b"), data(LONG, "c"), b"the end"]
    upload = Upload(client, bucket, ContentType="text/x-long", Metadata={"who": "ann"})
    upload.put(900, parts[2])
    upload.put(3, b"something else that is replaced")
    upload.put(10_000, parts[3])
    upload.put(1, parts[0])
    upload.put(3, parts[1])
    assert upload.listed() == [1, 3, 900, 10_000]
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    told = upload.complete()
    assert told["ETag"] == etag_of(*parts)
    got = client.get_object(Bucket=bucket, Key="a/long one", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(parts)
    assert (got["ETag"], got["ContentType"]) == (told["ETag"], "text/x-long")
    assert got["Metadata"] == {"who": "ann"}
    assert store.read(f"{bucket}/a/long%20one") == b"".join(parts)
    assert refused(upload.listed) == ("NoSuchUpload", 404)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    listed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(each["Key"], each["ETag"]) for each in listed] == [("a/long one", told["ETag"])]


def test_a_part_of_the_object_can_be_read(client: Any, bucket: str) -> None:
    parts = [data(LONG, 1), data(LONG, 2), data(100, 3)]
    upload = Upload(client, bucket)
    for number, part in enumerate(parts, 5):
        upload.put(number, part)
    upload.complete()
    for number, part in enumerate(parts, 1):
        got = client.get_object(Bucket=bucket, Key="a/long one", PartNumber=number)
        assert got["Body"].read() == part
        assert got["PartsCount"] == 3
        assert "ChecksumCRC32" not in got
    head = client.head_object(Bucket=bucket, Key="a/long one", PartNumber=3)
    assert (head["ContentLength"], head["PartsCount"]) == (100, 3)
    fourth = refused(lambda: client.get_object(Bucket=bucket, Key="a/long one", PartNumber=4))
    assert fourth == ("InvalidPartNumber", 416)
    attributes = client.get_object_attributes(
        Bucket=bucket, Key="a/long one", ObjectAttributes=["ObjectParts", "ObjectSize"]
    )
    assert attributes["ObjectParts"]["TotalPartsCount"] == 3
    page = client.get_object_attributes(
        Bucket=bucket,
        Key="a/long one",
        ObjectAttributes=["ObjectParts"],
        MaxParts=2,
        PartNumberMarker=1,
    )["ObjectParts"]
    assert [(each["PartNumber"], each["Size"]) for each in page["Parts"]] == [(2, LONG), (3, 100)]
    assert (page["IsTruncated"], page["MaxParts"]) == (False, 2)


def test_transfers_of_boto3_go_in_parts(tmp_path: Path, client: Any, bucket: str) -> None:
    body = data(19 * MIB + 3)
    (tmp_path / "file").write_bytes(body)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    client.upload_file(str(tmp_path / "file"), bucket, "file", Config=config)
    head = client.head_object(Bucket=bucket, Key="file")
    assert head["ETag"] == etag_of(body[: 8 * MIB], body[8 * MIB : 16 * MIB], body[16 * MIB :])
    client.copy({"Bucket": bucket, "Key": "file"}, bucket, "copy", Config=config)
    assert client.head_object(Bucket=bucket, Key="copy")["ETag"] == head["ETag"]
    for key in ("file", "copy"):
        out = io.BytesIO()
        client.download_fileobj(bucket, key, out, Config=config)
        assert out.getvalue() == body


def test_parts_are_copied_from_other_objects(client: Any, bucket: str) -> None:
    body = data(2 * LONG)
    client.put_object(Bucket=bucket, Key="source", Body=body)
    upload = Upload(client, bucket)
    source = {"Bucket": bucket, "Key": "source"}
    first = client.upload_part_copy(
        **upload.where, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=7-{LONG + 6}"
    )
    upload.note(1, first["CopyPartResult"])
    whole = client.upload_part_copy(**upload.where, PartNumber=2, CopySource=source)
    upload.note(2, whole["CopyPartResult"])
    for text in (f"bytes=0-{2 * LONG}", "bytes=5-", "bytes=-5", "bytes=7-6", "0-6"):
        where = upload.where | {"PartNumber": 3, "CopySource": source, "CopySourceRange": text}
        call = partial(client.upload_part_copy, **where)
        assert refused(call) == ("InvalidArgument", 400)
    where = upload.where | {"PartNumber": 3, "CopySource": source}
    held = refused(lambda: client.upload_part_copy(**where, CopySourceIfMatch="other"))
    assert held == ("PreconditionFailed", 412)
    assert upload.complete()["ETag"] == etag_of(body[7 : LONG + 7], body)
    got = client.get_object(Bucket=bucket, Key="a/long one")["Body"].read()
    assert got == body[7 : LONG + 7] + body


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_checksums_of_checksums(client: Any, bucket: str, algorithm: str) -> None:
    upload = Upload(client, bucket, ChecksumAlgorithm=algorithm)
    for number, size in enumerate((LONG, LONG, 9), 1):
        upload.put(number, data(size, number), ChecksumAlgorithm=algorithm)
    name = f"Checksum{algorithm}"
    told = upload.complete()
    assert told[name].endswith("-3")
    assert told["ChecksumType"] == "COMPOSITE"
    head = client.head_object(Bucket=bucket, Key="a/long one", ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (told[name], "COMPOSITE")
    attributes = client.get_object_attributes(
        Bucket=bucket, Key="a/long one", ObjectAttributes=["Checksum", "ObjectParts"]
    )
    assert attributes["Checksum"] == {name: told[name], "ChecksumType": "COMPOSITE"}
    lines = attributes["ObjectParts"]["Parts"]
    assert [line[name] for line in lines] == [upload.parts[n][name] for n in (1, 2, 3)]
    for number in (1, 3):
        where = {"Bucket": bucket, "Key": "a/long one", "PartNumber": number}
        got = client.get_object(**where, ChecksumMode="ENABLED")
        assert (got[name], got["ChecksumType"]) == (upload.parts[number][name], "COMPOSITE")
        assert got["Body"].read() == data((LONG, LONG, 9)[number - 1], number)
        assert client.head_object(**where, ChecksumMode="ENABLED")[name] == got[name]
        assert name not in client.head_object(**where)
    if algorithm == "SHA256":
        digests = [
            hashlib.sha256(data(size, n)).digest() for n, size in ((1, LONG), (2, LONG), (3, 9))
        ]
        expected = b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        assert told[name] == f"{expected}-3"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_all_bytes(client: Any, bucket: str, algorithm: str) -> None:
    parts = [data(LONG, 1), data(9, 2)]
    whole = client.put_object(
        Bucket=bucket, Key="whole", Body=b"".join(parts), ChecksumAlgorithm=algorithm
    )
    name = f"Checksum{algorithm}"
    upload = Upload(client, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    for number, part in enumerate(parts, 1):
        upload.put(number, part, ChecksumAlgorithm=algorithm)
    wrong = {name: b64encode(bytes(8 if algorithm == "CRC64NVME" else 4)).decode()}
    assert refused(lambda: upload.complete(**wrong)) == ("BadDigest", 400)
    right = {name: whole[name], "ChecksumType": "FULL_OBJECT"}
    assert refused(lambda: upload.complete(MpuObjectSize=5, **right)) == ("InvalidRequest", 400)
    told = upload.complete(MpuObjectSize=LONG + 9, **right)
    assert (told[name], told["ChecksumType"]) == (whole[name], "FULL_OBJECT")


def test_without_a_choice_the_checksum_is_of_all_bytes(store: Cluster, bucket: str) -> None:
    """Whether the parts had that one or another."""
    with s3(store.s3_ports[0], request_checksum_calculation="when_required") as client:
        parts = [data(LONG, 1), data(9, 2)]
        whole = client.put_object(Bucket=bucket, Key="whole", Body=b"".join(parts))
        for other in ({}, {"ChecksumAlgorithm": "SHA1"}):
            upload = Upload(client, bucket)
            upload.put(1, parts[0])
            upload.put(2, parts[1], **other)
            told = upload.complete()
            assert told["ChecksumType"] == "FULL_OBJECT"
            head = client.head_object(Bucket=bucket, Key="a/long one", ChecksumMode="ENABLED")
            assert head["ChecksumCRC64NVME"] == told["ChecksumCRC64NVME"]
            assert whole["ChecksumCRC64NVME"] == told["ChecksumCRC64NVME"]


def test_what_is_wrong_with_parts_is_told(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, ChecksumAlgorithm="SHA1")
    for number in (0, 10_001):
        assert refused(lambda: upload.put(number, b"x")) == ("InvalidArgument", 400)  # noqa: B023
    other = refused(lambda: upload.put(1, b"x", ChecksumAlgorithm="CRC32"))
    assert other == ("InvalidRequest", 400)
    md5 = b64encode(bytes(16)).decode()
    wrong = refused(lambda: upload.put(1, b"x", ContentMD5=md5, ChecksumAlgorithm="SHA1"))
    assert wrong == ("BadDigest", 400)
    assert upload.listed() == []
    for number, body in ((1, b"short"), (2, data(LONG)), (3, b"end")):
        upload.put(number, body, ChecksumAlgorithm="SHA1")
    assert refused(upload.complete) == ("EntityTooSmall", 400)
    assert refused(lambda: upload.complete(3, 2)) == ("InvalidPartOrder", 400)
    assert refused(lambda: upload.complete(2, 2)) == ("InvalidPartOrder", 400)
    upload.parts[4] = upload.parts[3] | {"PartNumber": 4}
    assert refused(lambda: upload.complete(2, 4)) == ("InvalidPart", 400)
    upload.parts[3] |= {"ETag": '"0123456789abcdef0123456789abcdef"'}
    assert refused(lambda: upload.complete(2, 3)) == ("InvalidPart", 400)
    upload.put(3, b"other end", ChecksumAlgorithm="SHA1")
    good = upload.parts[3]
    upload.parts[3] = good | {"ChecksumSHA1": b64encode(bytes(20)).decode()}
    assert refused(lambda: upload.complete(2, 3)) == ("InvalidPart", 400)
    upload.parts[3] = good
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert upload.complete(2, 3)["ETag"] == etag_of(data(LONG), b"other end")


def test_malformed_requests(signer: Signer, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, "k")
    path = f"/{bucket}/k?uploadId={upload.where['UploadId']}"
    part = f"<Part><PartNumber>1</PartNumber><ETag>{'0' * 32}</ETag></Part>"
    for body, code in (
        ("", "MalformedXML"),
        ("<CompleteMultipartUpload/>", "MalformedXML"),
        ("<Delete/>", "MalformedXML"),
        ("<CompleteMultipartUpload><Part/></CompleteMultipartUpload>", "MalformedXML"),
        (f"<CompleteMultipartUpload>{part}<X/></CompleteMultipartUpload>", "MalformedXML"),
        (f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>", "InvalidPart"),
    ):
        assert signer.ask("POST", path, body.encode()).code == code
    assert signer.ask("PUT", f"{path}&partNumber=x", b"x").code == "InvalidArgument"
    assert signer.ask("PUT", path, b"x").code == "InvalidArgument"
    assert signer.ask("PUT", f"/{bucket}/k?partNumber=1", b"x").code == "NotImplemented"
    announced = {"content-length": str(6 << 30)}
    every, _ = signer.signed("PUT", f"{path}&partNumber=1", announced)
    assert signer.send("PUT", f"{path}&partNumber=1", b"", every).code == "EntityTooLarge"
    for hidden in ("%40parts." + bucket, "%40uploads." + bucket, "%40keys"):
        assert signer.ask("GET", f"/{hidden}").code == "InvalidBucketName"
        assert signer.ask("GET", f"/{hidden}/x").code == "InvalidBucketName"
    upload.abort()


def test_an_upload_that_is_given_up_is_gone(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, data(LONG))
    upload.abort()
    for call in (upload.abort, upload.complete, upload.listed, lambda: upload.put(2, b"x")):
        assert refused(call) == ("NoSuchUpload", 404)
    upload.where["UploadId"] = "a b"
    for call in (upload.abort, upload.complete, upload.listed, lambda: upload.put(2, b"x")):
        assert refused(call) == ("NoSuchUpload", 404)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_another_key_is_another_upload(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    upload.where["Key"] = "other"
    for call in (upload.abort, upload.complete, upload.listed, lambda: upload.put(1, b"x")):
        assert refused(call) == ("NoSuchUpload", 404)


def test_to_complete_again_is_answered_the_same(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"one and only")
    told = upload.complete()
    again = upload.complete()
    names = ("ETag", "ChecksumCRC64NVME", "ChecksumType")
    assert [told[name] for name in names] == [again[name] for name in names]
    client.put_object(Bucket=bucket, Key="a/long one", Body=b"newer")
    assert refused(upload.complete) == ("NoSuchUpload", 404)
    assert client.get_object(Bucket=bucket, Key="a/long one")["Body"].read() == b"newer"


def test_many_complete_the_same_upload(store: Cluster, client: Any, bucket: str) -> None:
    """And one object comes of it."""
    upload = Upload(client, bucket)
    upload.put(1, data(LONG))
    upload.put(2, b"end")
    with ThreadPoolExecutor(6) as threads:
        told = list(threads.map(lambda _: upload.complete(IfNoneMatch="*")["ETag"], range(6)))
    assert set(told) == {etag_of(data(LONG), b"end")}


def test_conditions_of_a_completion(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"new")
    held = client.put_object(Bucket=bucket, Key="a/long one", Body=b"old")["ETag"]
    assert refused(lambda: upload.complete(IfNoneMatch="*")) == ("PreconditionFailed", 412)
    assert refused(lambda: upload.complete(IfMatch='"other"')) == ("PreconditionFailed", 412)
    assert upload.listed() == [1]
    upload.complete(IfMatch=held)
    assert client.get_object(Bucket=bucket, Key="a/long one")["Body"].read() == b"new"


def test_of_racing_completions_one_wins(client: Any, bucket: str) -> None:
    made = [Upload(client, bucket, "race") for _ in range(8)]
    for number, upload in enumerate(made):
        upload.put(1, b"%d" % number)

    def finish(upload: Upload) -> str:
        try:
            upload.complete(IfNoneMatch="*")
        except ClientError as error:
            return refusal(error)[0]
        return "won"

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(finish, made))
    assert told.count("won") == 1
    assert set(told) <= {"won", "PreconditionFailed", "ConditionalRequestConflict"}
    got = client.get_object(Bucket=bucket, Key="race")["Body"].read()
    assert got == b"%d" % told.index("won")


def test_pages_of_parts(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    numbers = [1, 2, 17, 99, 5000, 9999, 10_000]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: upload.put(number, b"%d" % number), reversed(numbers)))
    pages = client.get_paginator("list_parts").paginate(
        **upload.where, PaginationConfig={"PageSize": 3}
    )
    found = [page.get("Parts", []) for page in pages]
    assert [len(page) for page in found] == [3, 3, 1]
    assert [each["PartNumber"] for page in found for each in page] == numbers
    assert [each["Size"] for page in found for each in page] == [len(str(n)) for n in numbers]
    assert upload.listed(PartNumberMarker=99, MaxParts=1) == [5000]
    first = client.list_parts(**upload.where)
    assert first["Initiator"] == first["Owner"]
    assert first["Parts"][0]["ETag"] == upload.parts[1]["ETag"]
    assert first["Parts"][0]["ChecksumCRC32"] == upload.parts[1]["ChecksumCRC32"]


def test_pages_of_uploads(client: Any, bucket: str) -> None:
    keys = ["a", "a", "a/b", "a/c", "b/1", "b/2", "b/2", "c", "ü/x"]
    made = [Upload(client, bucket, key) for key in keys]
    ids = {upload.where["UploadId"] for upload in made}
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    found = [each for page in pages for each in page.get("Uploads", [])]
    assert [each["Key"] for each in found] == keys
    assert {each["UploadId"] for each in found} == ids
    rolled = client.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [each["Key"] for each in rolled["Uploads"]] == ["a", "a", "c"]
    assert [each["Prefix"] for each in rolled["CommonPrefixes"]] == ["a/", "b/", "ü/"]
    seen: list[str] = []
    marker = {"KeyMarker": "", "UploadIdMarker": ""}
    for _ in range(20):
        page = client.list_multipart_uploads(Bucket=bucket, Delimiter="/", MaxUploads=1, **marker)
        seen += [each["Key"] for each in page.get("Uploads", [])]
        seen += [each["Prefix"] for each in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            break
        marker = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }
    assert seen == ["a", "a", "a/", "b/", "c", "ü/"]
    below = client.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [each["Key"] for each in below["Uploads"]] == ["b/1", "b/2", "b/2"]


def test_a_bucket_without_objects_takes_its_uploads_with_it(client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    client.delete_bucket(Bucket=bucket)
    assert refused(lambda: upload.put(2, b"x"))[1] == 404
    client.create_bucket(Bucket=bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert refused(upload.complete) == ("NoSuchUpload", 404)


def held(store: Cluster, upload: Upload, ms: int) -> None:
    """As if another router were completing it."""
    name = f"putter:lease:upload-{upload.where['UploadId']}"
    assert store.valkey.ask(f"SET {name} another PX {ms}") == "+OK\r\n"


def test_a_client_that_waits_long_is_answered(store: Cluster, client: Any, bucket: str) -> None:
    """The status goes out early; how it went is in the document, which boto3 reads."""
    upload = Upload(client, bucket, "k")
    upload.put(1, b"x")
    held(store, upload, 12_000)
    told = upload.complete()
    assert told["ETag"] == etag_of(b"x")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_what_is_being_completed_is_not_given_up(store: Cluster, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    held(store, upload, 60_000)
    assert refused(upload.abort) == ("OperationAborted", 409)
    assert upload.listed() == [1]


def test_as_many_parts_as_there_may_be_are_named(signer: Signer, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket, "k")
    tag = upload.put(1, data(LONG))["ETag"]
    md5 = b64encode(bytes(20)).decode()
    lines = [
        f"<Part><ETag>{tag}</ETag><ChecksumSHA1>{md5}</ChecksumSHA1><PartNumber>{n}</PartNumber></Part>"
        for n in range(1, 10_002)
    ]
    path = f"/{bucket}/k?uploadId={upload.where['UploadId']}"
    for count, code in ((10_000, "InvalidPart"), (10_001, "InvalidArgument")):
        inside = "".join(lines[:count])
        body = f"<CompleteMultipartUpload>{inside}</CompleteMultipartUpload>".encode()
        assert signer.ask("POST", path, body).code == code
    assert upload.listed() == [1]


@pytest.mark.parametrize("seed", range(3))
def test_uploads_are_as_a_model_of_them(client: Any, bucket: str, seed: int) -> None:
    """Whatever is asked, in whatever order."""
    rng = random.Random(seed)
    objects: dict[str, bytes] = {}
    opened: list[tuple[Upload, dict[int, bytes]]] = []
    for step in range(60):
        kind = rng.choice(["begin", "put", "put", "put", "put", "complete", "abort"])
        if kind == "begin" or not opened:
            opened.append((Upload(client, bucket, rng.choice("abc")), {}))
            continue
        upload, parts = rng.choice(opened)
        key = upload.where["Key"]
        if kind == "put":
            number = rng.randrange(1, 5)
            parts[number] = data(rng.choice([0, 5, 70_000, LONG, LONG]), step)
            upload.put(number, parts[number])
        elif kind == "abort":
            upload.abort()
            opened.remove((upload, parts))
        elif parts:
            chosen = sorted(rng.sample(sorted(parts), rng.randrange(1, len(parts) + 1)))
            if any(len(parts[number]) < LONG for number in chosen[:-1]):
                call = partial(upload.complete, *chosen)
                assert refused(call) == ("EntityTooSmall", 400)
            else:
                told = upload.complete(*chosen)
                assert told["ETag"] == etag_of(*(parts[number] for number in chosen))
                objects[key] = b"".join(parts[number] for number in chosen)
                opened.remove((upload, parts))
        for each, there in opened:
            assert each.listed() == sorted(there)
    listed = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    wanted = {each.where["UploadId"]: each.where["Key"] for each, _ in opened}
    assert {each["UploadId"]: each["Key"] for each in listed} == wanted
    found = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    assert [each["Key"] for each in found] == sorted(objects)
    for key, body in objects.items():
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_nobody_sees_where_parts_are(store: Cluster, client: Any, bucket: str) -> None:
    upload = Upload(client, bucket)
    upload.put(1, b"x")
    assert not any("@" in each["Name"] for each in client.list_buckets()["Buckets"])
    status, _, body = store.http("GET", "/metadata")
    assert status == 200
    assert b"@" not in body
    status, _, body = store.http("GET", "/buckets")
    assert status == 200
    assert b"@" not in body
    assert store.http("GET", f"/metadata?bucket=@parts.{bucket}")[0] == 400
    assert store.http("GET", f"/file/@parts.{bucket}/{upload.where['UploadId']}/00001")[0] == 400


@pytest.mark.timeout(400)
def test_an_open_upload_survives_a_wiped_redis(tmp_path: Path) -> None:
    """Killed routers and putters, a Redis without anything: it is completed afterwards."""
    with s3_cluster(tmp_path, putters=2) as store:
        with s3(store.s3_ports[0]) as client:
            client.create_bucket(Bucket="photos")
            upload = Upload(client, "photos", Metadata={"who": "ann"})
            upload.put(2, data(LONG, "old"))
            upload.put(1, data(LONG, 1))
            upload.put(2, data(9, 2))
            gone = Upload(client, "photos", "gone")
            gone.put(1, b"x")
            gone.abort()
        begin_anew(store)
        with s3(store.s3_ports[0]) as client:
            upload.client = gone.client = client
            assert upload.listed() == [1, 2]
            assert refused(gone.listed) == ("NoSuchUpload", 404)
            listed = client.list_multipart_uploads(Bucket="photos")["Uploads"]
            assert [each["Key"] for each in listed] == ["a/long one"]
            told = upload.complete()
            assert told["ETag"] == etag_of(data(LONG, 1), data(9, 2))
        begin_anew(store)
        with s3(store.s3_ports[0]) as client:
            upload.client = client
            got = client.get_object(Bucket="photos", Key="a/long one")
            assert got["Body"].read() == data(LONG, 1) + data(9, 2)
            assert got["Metadata"] == {"who": "ann"}
            assert upload.complete()["ETag"] == told["ETag"]
            assert "Uploads" not in client.list_multipart_uploads(Bucket="photos")


@pytest.mark.timeout(400)
def test_parts_are_handed_to_a_putter_that_was_away(tmp_path: Path) -> None:
    """What it missed it gets, and then it can do alone."""
    with (
        s3_cluster(tmp_path, putters=2) as store,
        s3(store.s3_ports[0], read_timeout=100) as client,
    ):
        client.create_bucket(Bucket="photos")
        store.putters[0].kill()
        upload = Upload(client, "photos", Metadata={"who": "ann"})
        upload.put(1, data(LONG, 1))
        upload.put(2, data(9, 2))

        def owed(objects: int) -> None:
            told = json.loads(store.http("GET", "/status")[2])["repair"]
            assert sum(each["objects"] for each in told) == objects

        eventually(lambda: owed(3), 90)
        store.putters[0].start()
        store.wait_ready()
        eventually(lambda: owed(0), 90)
        store.putters[1].kill()
        assert upload.listed() == [1, 2]
        assert upload.complete()["ETag"] == etag_of(data(LONG, 1), data(9, 2))
        got = client.get_object(Bucket="photos", Key="a/long one")
        assert got["Body"].read() == data(LONG, 1) + data(9, 2)
        assert got["Metadata"] == {"who": "ann"}
