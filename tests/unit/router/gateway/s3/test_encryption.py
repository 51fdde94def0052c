"""Encryption over S3: a whole door without a socket, and what its store holds behind it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common import records
from common.limits import PART_BYTES_MIN
from common.records import Version
from router.gateway.s3.bucket_encryption import default_in
from router.gateway.s3.checksums import Algorithm, encode
from router.gateway.s3.documents import parsed
from router.gateway.s3.encryption import customer_in
from router.gateway.s3.failures import S3Error
from tests.s3_door_kit import S3Door, open_door
from tests.s3_kit import (
    SSE,
    SSE_SOURCE,
    Told,
    completion_of,
    customer_headers,
    customer_secret,
)

BODY = b"plain as day, " * 200
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'
OWN = {SSE: "AES256"}
ANN, BEN = customer_headers("ann"), customer_headers("ben")
MD5 = f"{SSE}-customer-key-md5"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        for bucket in ("box", "always"):
            assert made.ask("PUT", f"/{bucket}").status == 200
        yield made


def crc64(body: bytes) -> str:
    """The checksum that S3 computes of what comes without one, as headers carry it."""
    hasher = Algorithm.CRC64NVME.hasher()
    hasher.update(body)
    return encode(hasher.digest())


def held(door: S3Door, path: str) -> tuple[Version, bytes]:
    """What a name holds, and the bytes of it that are stored."""
    bucket, _, key = path.removeprefix("/").partition("/")
    reads = door.store.routers[0].reads

    async def look() -> tuple[Version, bytes]:
        version = await reads.resolve(bucket, key)
        stream = reads.as_stored().stream(version, 0, version.size)
        return version, b"".join([bytes(view) async for view in stream])

    return door.run(look())


def outcome(told: Told) -> Any:
    return (told.status, told.code) if told.status >= 400 else told.status


# -- keys of the store ---------------------------------------------------------------------


def test_what_is_asked_for_is_stored_and_told(door: S3Door) -> None:
    put = door.ask("PUT", "/box/own", BODY, OWN)
    assert (put.headers[SSE], put.headers["etag"]) == ("AES256", ETAG)
    version, stored = held(door, "/box/own")
    assert len(stored) == len(BODY) == version.size
    assert b"plain as day" not in stored
    for method in ("GET", "HEAD"):
        told = door.ask(method, "/box/own", headers={"x-amz-checksum-mode": "ENABLED"})
        assert (told.headers[SSE], told.headers["etag"]) == ("AES256", ETAG)
        assert told.headers["x-amz-checksum-crc64nvme"] == crc64(BODY)
        assert told.body == (BODY if method == "GET" else b"")


def test_what_is_not_encrypted_is_not_told_to_be(door: S3Door) -> None:
    put = door.ask("PUT", "/box/plain", BODY)
    told = door.ask("GET", "/box/plain")
    assert not [name for name in {**put.headers, **told.headers} if name.startswith(SSE)]
    assert held(door, "/box/plain")[1] == BODY


def test_two_objects_have_two_keys(door: S3Door) -> None:
    door.ask("PUT", "/box/one", bytes(100), OWN)
    door.ask("PUT", "/box/two", bytes(100), OWN)
    assert held(door, "/box/one")[1] != held(door, "/box/two")[1]


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("aws:kms", (501, "NotImplemented")),
        ("aws:kms:dsse", (501, "NotImplemented")),
        ("aes256", (400, "InvalidArgument")),
        ("", (400, "InvalidArgument")),
    ],
)
def test_no_other_encryption_is_claimed(door: S3Door, value: str, refused: Any) -> None:
    assert outcome(door.ask("PUT", "/box/not", BODY, {SSE: value})) == refused
    assert outcome(door.ask("POST", "/box/not?uploads=", headers={SSE: value})) == refused
    assert door.ask("GET", "/box/not").status == 404


def test_a_bucket_encrypts_what_asks_for_nothing(door: S3Door) -> None:
    where = "/always?encryption="
    missing = (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert outcome(door.ask("GET", where)) == missing
    door.ask("PUT", "/always/before", BODY)
    assert door.ask("PUT", where, configuration("AES256")).status == 200
    assert b"<SSEAlgorithm>AES256</SSEAlgorithm>" in door.ask("GET", where).body
    assert b"<BucketKeyEnabled>false<" in door.ask("GET", where).body
    keyed = configuration("AES256").replace(
        b"</Rule>", b"<BucketKeyEnabled>true</BucketKeyEnabled></Rule>"
    )
    assert door.ask("PUT", where, keyed).status == 200
    assert b"<BucketKeyEnabled>true<" in door.ask("GET", where).body
    assert door.ask("PUT", "/always/then", BODY).headers[SSE] == "AES256"
    assert held(door, "/always/then")[1] != BODY
    assert SSE not in door.ask("GET", "/always/before").headers
    copied = {"x-amz-copy-source": "/always/before"}
    assert door.ask("PUT", "/always/copy", headers=copied).headers[SSE] == "AES256"
    assert door.ask("DELETE", where).status == 204
    assert outcome(door.ask("GET", where)) == missing
    assert SSE not in door.ask("PUT", "/always/after", BODY).headers
    assert door.ask("GET", "/always/then").body == BODY


def configuration(algorithm: str, more: str = "") -> bytes:
    inside = f"<SSEAlgorithm>{algorithm}</SSEAlgorithm>{more}"
    default = f"<ApplyServerSideEncryptionByDefault>{inside}</ApplyServerSideEncryptionByDefault>"
    root = "ServerSideEncryptionConfiguration"
    return f"<{root}><Rule>{default}</Rule></{root}>".encode()


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (configuration("aws:kms"), "NotImplemented"),
        (configuration("AES256", "<KMSMasterKeyID>k</KMSMasterKeyID>"), "NotImplemented"),
        (
            configuration("AES256").replace(b"<Rule>", b"<Rule><BlockedEncryptionTypes/>"),
            "NotImplemented",
        ),
        (configuration("AES256", "<Other/>"), "MalformedXML"),
        (configuration("DES"), "MalformedXML"),
        (configuration("AES256").replace(b"Rule>", b"Role>"), "MalformedXML"),
        (
            configuration("AES256").replace(
                b"<Rule>", b"<Rule><BucketKeyEnabled>2</BucketKeyEnabled>"
            ),
            "MalformedXML",
        ),
    ],
)
def test_configurations_that_cannot_be(document: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        default_in(parsed(document, "ServerSideEncryptionConfiguration"))
    assert caught.value.code == code


def test_the_bucket_of_raw_streams_is_not_encrypted_by_itself(door: S3Door) -> None:
    door.ask("PUT", "/objects")
    told = door.ask("PUT", "/objects?encryption=", configuration("AES256"))
    assert outcome(told) == (400, "InvalidRequest")


# -- keys of clients -----------------------------------------------------------------------


def test_only_the_key_opens_it(door: S3Door) -> None:
    put = door.ask("PUT", "/box/ann", BODY, ANN)
    assert put.headers[MD5] == ANN[MD5]
    assert put.headers["etag"] != ETAG
    assert len(put.headers["etag"]) == len(ETAG)
    got = door.ask("GET", "/box/ann", headers=ANN)
    assert (got.body, got.headers[MD5]) == (BODY, ANN[MD5])
    assert got.headers[f"{SSE}-customer-algorithm"] == "AES256"
    assert SSE not in got.headers
    assert door.ask("HEAD", "/box/ann", headers=ANN).status == 200
    assert outcome(door.ask("GET", "/box/ann")) == (400, "InvalidRequest")
    assert outcome(door.ask("GET", "/box/ann", headers=BEN)) == (403, "AccessDenied")
    assert [door.ask("HEAD", "/box/ann", headers=each).status for each in ({}, BEN)] == [400, 403]
    version, stored = held(door, "/box/ann")
    assert b"plain as day" not in stored
    assert customer_secret("ann") not in records.encode(version)
    assert version.checksums == {"crc64nvme": crc64(BODY)}


def test_conditions_tell_nothing_without_the_key(door: S3Door) -> None:
    etag = door.ask("PUT", "/box/asked", BODY, ANN).headers["etag"]
    for headers in ({"if-none-match": etag}, {"if-match": '"x"'}, {"range": "bytes=9999-"}):
        assert outcome(door.ask("GET", "/box/asked", headers=headers)) == (400, "InvalidRequest")


def test_attributes_need_the_key(door: S3Door) -> None:
    door.ask("PUT", "/box/told", BODY, ANN)
    asked = {"x-amz-object-attributes": "ObjectSize"}
    where = "/box/told?attributes="
    assert outcome(door.ask("GET", where, headers=asked)) == (400, "InvalidRequest")
    assert b"<ObjectSize>2800<" in door.ask("GET", where, headers=asked | ANN).body


def test_a_key_for_what_needs_none_is_refused(door: S3Door) -> None:
    for path, headers in (("/box/open", {}), ("/box/ours", OWN)):
        door.ask("PUT", path, BODY, headers)
        assert outcome(door.ask("GET", path, headers=ANN)) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "change",
    [
        {f"{SSE}-customer-algorithm": "AES128"},
        {f"{SSE}-customer-algorithm": None},
        {f"{SSE}-customer-key": None},
        {MD5: None},
        {MD5: BEN[MD5]},
        {MD5: "?"},
        {f"{SSE}-customer-key": b64encode(bytes(16)).decode()},
        {f"{SSE}-customer-key": "not base 64"},
        OWN,
    ],
)
def test_what_is_no_key_is_refused(door: S3Door, change: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**ANN, **change}.items() if value is not None}
    told = door.ask("PUT", "/box/none", BODY, headers)
    assert outcome(told) == (400, "InvalidArgument")
    assert ANN[f"{SSE}-customer-key"].encode() not in told.body
    assert door.ask("GET", "/box/none").status == 404


@pytest.mark.parametrize(
    ("secure", "remote", "let_in"),
    [(True, "192.0.2.1", True), (False, "127.0.0.1", True), (False, "::1", True),
     (False, "192.0.2.1", False), (False, None, False)],
)  # fmt: skip
def test_no_key_over_a_wire_that_others_read(
    secure: bool, remote: str | None, let_in: bool
) -> None:
    request = cast("Any", SimpleNamespace(secure=secure, remote=remote))
    assert customer_in({}, request) is None
    if let_in:
        found = customer_in(ANN, request)
        assert found is not None
        assert found.secret == customer_secret("ann")
        assert "secret" not in repr(found)
        return
    with pytest.raises(S3Error) as caught:
        customer_in(ANN, request)
    assert caught.value.code == "InvalidRequest"


def test_what_stands_in_the_query_is_not_passed_over(door: S3Door) -> None:
    for name in (SSE, f"{SSE}-customer-key", "X-Amz-Server-Side-Encryption"):
        told = door.ask("PUT", f"/box/query?{name}=AES256", BODY)
        assert outcome(told) == (400, "InvalidArgument")
    assert door.ask("GET", "/box/query").status == 404


def test_a_file_without_a_byte_needs_its_key_too(door: S3Door) -> None:
    assert door.ask("PUT", "/box/empty", b"", ANN).status == 200
    assert outcome(door.ask("GET", "/box/empty")) == (400, "InvalidRequest")
    assert door.ask("GET", "/box/empty", headers=ANN).body == b""


# -- copies --------------------------------------------------------------------------------


def test_copies(door: S3Door) -> None:
    door.ask("PUT", "/box/source", BODY, ANN)
    of = {"x-amz-copy-source": "/box/source"}
    ann, ben = (customer_headers(name, SSE_SOURCE) for name in ("ann", "ben"))
    assert outcome(door.ask("PUT", "/box/to", headers=of)) == (400, "InvalidRequest")
    assert outcome(door.ask("PUT", "/box/to", headers=of | ben)) == (403, "AccessDenied")
    # A copy of what is encrypted is, too; its entity tag is the MD5 again.
    copied = door.ask("PUT", "/box/to", headers=of | ann)
    assert copied.headers[SSE] == "AES256"
    assert ETAG.strip('"').encode() in copied.body
    assert held(door, "/box/to")[1] != BODY
    assert door.ask("GET", "/box/to").body == BODY
    # With another key.
    assert door.ask("PUT", "/box/bens", headers=of | ann | BEN).headers[MD5] == BEN[MD5]
    assert door.ask("GET", "/box/bens", headers=BEN).body == BODY
    assert outcome(door.ask("GET", "/box/bens", headers=ANN)) == (403, "AccessDenied")
    # From a key of the store to one of a client.
    back = {"x-amz-copy-source": "/box/to"} | ANN
    assert door.ask("PUT", "/box/back", headers=back).status == 200
    assert door.ask("GET", "/box/back", headers=ANN).body == BODY
    # A copy onto itself that changes nothing but this.
    door.ask("PUT", "/box/self", BODY)
    onto = {"x-amz-copy-source": "/box/self"}
    assert outcome(door.ask("PUT", "/box/self", headers=onto)) == (400, "InvalidRequest")
    assert door.ask("PUT", "/box/self", headers=onto | OWN).headers[SSE] == "AES256"
    assert door.ask("GET", "/box/self").body == BODY


def test_what_is_renamed_stays_encrypted_without_its_key(door: S3Door) -> None:
    for name, headers in (("rename-ann", ANN), ("rename-own", OWN)):
        door.ask("PUT", f"/box/{name}", BODY, headers)
        before = held(door, f"/box/{name}")[1]
        source = {"x-amz-rename-source": name}
        assert door.ask("PUT", f"/box/{name}-new?renameObject=", headers=source).status == 200
        assert held(door, f"/box/{name}-new")[1] == before
        reading = ANN if headers is ANN else {}
        assert door.ask("GET", f"/box/{name}-new", headers=reading).body == BODY
    assert outcome(door.ask("GET", "/box/rename-ann-new")) == (400, "InvalidRequest")


# -- uploads in parts ----------------------------------------------------------------------

FIRST = bytes(range(256)) * (PART_BYTES_MIN // 256)


def begun(door: S3Door, path: str, headers: dict[str, str]) -> tuple[Told, str]:
    told = door.ask("POST", f"{path}?uploads=", headers=headers)
    return told, told.field(f"{NAMESPACE}UploadId") or ""


def filled(door: S3Door, path: str, upload: str, *, more: dict[str, str]) -> bytes:
    """Two parts; the document that completes them."""
    tags = {}
    for number, body in ((1, FIRST), (3, BODY)):
        part = door.ask("PUT", f"{path}?partNumber={number}&uploadId={upload}", body, more)
        assert part.status == 200, part
        tags[number] = part.headers["etag"].strip('"')
    return completion_of(tags)


def test_parts_with_a_key_of_the_store(door: S3Door) -> None:
    told, upload = begun(door, "/box/parts", OWN)
    assert told.headers[SSE] == "AES256"
    document = filled(door, "/box/parts", upload, more={})
    done = door.ask("POST", f"/box/parts?uploadId={upload}", document)
    assert done.headers[SSE] == "AES256"
    got = door.ask("GET", "/box/parts", headers={"x-amz-checksum-mode": "ENABLED"})
    assert got.body == FIRST + BODY
    assert got.headers["x-amz-checksum-crc64nvme"] == crc64(FIRST + BODY)
    digests = hashlib.md5(FIRST).digest() + hashlib.md5(BODY).digest()
    assert got.headers["etag"] == f'"{hashlib.md5(digests).hexdigest()}-2"'
    stored = held(door, "/box/parts")[1]
    assert len(stored) == len(FIRST + BODY)
    assert BODY[:100] not in stored


def test_parts_with_a_key_of_the_client(door: S3Door) -> None:
    path = "/box/ann-parts"
    told, upload = begun(door, path, ANN)
    assert told.headers[MD5] == ANN[MD5]
    part = f"{path}?partNumber=1&uploadId={upload}"
    for wrong in ({}, BEN):
        assert outcome(door.ask("PUT", part, BODY, wrong)) == (400, "InvalidRequest")
    document = filled(door, path, upload, more=ANN)
    told_sums = [
        b"<ChecksumCRC64NVME>" in door.ask("GET", f"{path}?uploadId={upload}", headers=each).body
        for each in (ANN, {})
    ]
    assert told_sums == [True, False]  # of 8 bytes it tells the bytes
    refused = door.ask("POST", f"{path}?uploadId={upload}", document, BEN)
    assert outcome(refused) == (400, "InvalidRequest")
    assert door.ask("POST", f"{path}?uploadId={upload}", document).status == 200
    assert outcome(door.ask("GET", path)) == (400, "InvalidRequest")
    got = door.ask("GET", path, headers=ANN | {"x-amz-checksum-mode": "ENABLED"})
    assert got.body == FIRST + BODY
    # Of the plain bytes, though nobody read them.
    assert got.headers["x-amz-checksum-crc64nvme"] == crc64(FIRST + BODY)
    last = door.ask("GET", f"{path}?partNumber=2", headers=ANN)
    assert (last.status, last.body) == (206, BODY)
    assert customer_secret("ann") not in records.encode(held(door, path)[0])


def test_a_key_for_an_upload_that_has_none(door: S3Door) -> None:
    for headers in ({}, OWN):
        _, upload = begun(door, "/box/other", headers)
        told = door.ask("PUT", f"/box/other?partNumber=1&uploadId={upload}", BODY, ANN)
        assert outcome(told) == (400, "InvalidRequest")


def test_a_part_is_copied_from_what_is_encrypted(door: S3Door) -> None:
    door.ask("PUT", "/box/part-source", BODY, ANN)
    _, upload = begun(door, "/box/of-copies", BEN)
    where = f"/box/of-copies?partNumber=1&uploadId={upload}"
    of = {"x-amz-copy-source": "/box/part-source", "x-amz-copy-source-range": "bytes=7-1006"}
    assert outcome(door.ask("PUT", where, headers=of | BEN)) == (400, "InvalidRequest")
    part = door.ask("PUT", where, headers=of | BEN | customer_headers("ann", SSE_SOURCE))
    assert part.headers[MD5] == BEN[MD5]
    tag = (part.field(f"{NAMESPACE}ETag") or "").strip('"')
    document = completion_of({1: tag})
    assert door.ask("POST", f"/box/of-copies?uploadId={upload}", document).status == 200
    assert door.ask("GET", "/box/of-copies", headers=BEN).body == BODY[7:1007]


@pytest.mark.parametrize(("begin", "complete"), [(OWN, {}), (ANN, ANN), (ANN, {})])
def test_checksums_that_do_not_follow_from_those_of_the_parts(
    door: S3Door, begin: dict[str, str], complete: dict[str, str]
) -> None:
    """They are computed of the plain bytes where these can be had, else there is none."""
    _, upload = begun(door, "/box/summed", begin)
    digest = b64encode(hashlib.sha256(BODY).digest()).decode()
    more = ({} if begin is OWN else ANN) | {"x-amz-checksum-sha256": digest}
    part = door.ask("PUT", f"/box/summed?partNumber=1&uploadId={upload}", BODY, more)
    document = completion_of({1: part.headers["etag"].strip('"')})
    sums = {"x-amz-checksum-crc64nvme": crc64(BODY)}
    where = f"/box/summed?uploadId={upload}"
    told = door.ask("POST", where, document, complete | sums)
    if begin is ANN and not complete:
        assert outcome(told) == (400, "InvalidRequest")
        assert door.ask("POST", where, document).status == 200
        assert held(door, "/box/summed")[0].checksums == {}
        return
    assert told.status == 200, told
    assert held(door, "/box/summed")[0].checksums == {"crc64nvme": sums["x-amz-checksum-crc64nvme"]}
