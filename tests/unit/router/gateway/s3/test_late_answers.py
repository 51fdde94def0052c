"""Uploads that take long to be completed: a whole door without a socket, on virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_door_kit import S3Door, open_door
from tests.s3_kit import Told

BUCKET = "/photos"
ROOT = "CompleteMultipartUpload"
ENABLE = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", BUCKET).status == 200
        yield made


def upload_of(door: S3Door) -> str:
    told = door.ask("POST", f"{BUCKET}/k?uploads").body.decode()
    upload = told.partition("<UploadId>")[2].partition("<")[0]
    put = door.ask("PUT", f"{BUCKET}/k?partNumber=1&uploadId={upload}", b"x")
    assert put.status == 200
    return upload


def completed(door: S3Door, upload: str, held_ms: int = 0, part: int = 1) -> Told:
    """What is answered if another router completes the same upload for so long."""
    if held_ms:
        lease = door.store.meta.leases.acquire(f"upload-{upload}", "another", held_ms)
        assert door.run(lease)
    line = (
        f"<Part><PartNumber>{part}</PartNumber><ETag>9dd4e461268c8034f5c8564e155c67a6</ETag></Part>"
    )
    body = f"<{ROOT}>{line}</{ROOT}>".encode()
    return door.ask("POST", f"{BUCKET}/k?uploadId={upload}", body)


def test_the_document_tells_the_version_where_the_header_cannot(door: S3Door) -> None:
    told = completed(door, upload_of(door), 12_000)
    assert (told.status, b"VersionId" in told.body) == (200, False)
    assert door.ask("PUT", f"{BUCKET}?versioning", ENABLE).status == 200
    early = completed(door, upload_of(door))
    assert early.headers["x-amz-version-id"]
    assert b"VersionId" not in early.body
    late = completed(door, upload_of(door), 12_000)
    assert (late.status, "x-amz-version-id" in late.headers) == (200, False)
    assert b"\n  <CompleteMultipartUploadResult" in late.body, "blanks, while it waited"
    version = late.body.partition(b"<VersionId>")[2].partition(b"<")[0].decode()
    got = door.ask("GET", f"{BUCKET}/k?versionId={version}")
    assert (got.body, got.headers["x-amz-version-id"]) == (b"x", version)
    assert version != early.headers["x-amz-version-id"]


def test_what_fails_late_is_told_in_the_document(door: S3Door) -> None:
    told = completed(door, upload_of(door), 12_000, part=2)
    assert told.status == 200
    assert b"  <Error><Code>InvalidPart</Code>" in told.body
