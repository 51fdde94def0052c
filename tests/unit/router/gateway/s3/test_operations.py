"""Which operation a request is; what is not there is never mistaken for what is."""

from __future__ import annotations

import pytest

from router.gateway.s3.address import address_of
from router.gateway.s3.failures import S3Error
from router.gateway.s3.operations import OPERATIONS, WRITES, operation_of, takes_no_body


def asked(method: str, target: str, *, copies: bool = False) -> str:
    return operation_of(method, address_of(target, "", ""), copies=copies)


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/?x-id=ListBuckets", "ListBuckets"),
        ("PUT", "/b", "CreateBucket"),
        ("GET", "/b", "ListObjects"),
        ("GET", "/b/?list-type=2&prefix=&delimiter=", "ListObjects"),
        ("GET", "/b?location", "GetBucketLocation"),
        ("GET", "/b?location=", "GetBucketLocation"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("GET", "/b/k?X-Amz-Signature=1&X-Amz-Expires=3&response-content-type=x", "GetObject"),
        ("GET", "/b/k?unknown=1", "GetObject"),
        ("GET", "/b/k?partNumber=1", "GetObject"),
        ("HEAD", "/b/k", "HeadObject"),
        ("PUT", "/b/k", "PutObject"),
        ("DELETE", "/b/k?versionId=null", "DeleteObject"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("PUT", "/b/k?tagging=", "PutObjectTagging"),
        ("PUT", "/b/?tagging", "PutBucketTagging"),
        ("PUT", "/b/k?renameObject", "RenameObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=x", "UploadPart"),
        ("GET", "/b/k?uploadId=x&max-parts=2&part-number-marker=", "ListParts"),
        ("POST", "/b/k?uploadId=x", "CompleteMultipartUpload"),
        ("DELETE", "/b/k?uploadId=x", "AbortMultipartUpload"),
        ("GET", "/b?uploads&upload-id-marker=&key-marker=", "ListMultipartUploads"),
        ("PUT", "/b?versioning", "PutBucketVersioning"),
    ],
)
def test_an_operation_is_found(method: str, target: str, operation: str) -> None:
    assert asked(method, target) == operation


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("POST", "/b?versioning", "NotImplemented"),
        ("DELETE", "/b/k?legal-hold", "NotImplemented"),
        ("PUT", "/b/k?partNumber=1", "NotImplemented"),
        ("POST", "/b/k?partNumber=1&uploadId=x", "NotImplemented"),
        ("HEAD", "/b/k?uploadId=x", "NotImplemented"),
        ("PUT", "/b/k?uploads", "NotImplemented"),
        ("PUT", "/b?versions", "NotImplemented"),
        ("GET", "/b/k?of-tomorrow", "NotImplemented"),
        ("GET", "/b/k?of-tomorrow=", "NotImplemented"),
        ("GET", "/b?acl&policy", "NotImplemented"),
        ("POST", "/b", "NotImplemented"),
        ("POST", "/b/k", "NotImplemented"),
        ("PUT", "/", "MethodNotAllowed"),
        ("OPTIONS", "/b/k", "NotImplemented"),
        ("PATCH", "/b/k", "NotImplemented"),
    ],
)
def test_what_is_not_there_is_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        asked(method, target)
    assert caught.value.code == code


def test_a_copy_is_an_operation_of_its_own() -> None:
    assert asked("PUT", "/b/k", copies=True) == "CopyObject"
    assert asked("GET", "/b/k", copies=True) == "GetObject"
    assert asked("PUT", "/b/k?partNumber=1&uploadId=x", copies=True) == "UploadPartCopy"
    assert asked("POST", "/b/k?uploadId=x", copies=True) == "CompleteMultipartUpload"


def test_everything_that_changes_something_counts_as_a_write() -> None:
    """Who may only read asks with GET and HEAD."""
    for (_, method, _), operation in OPERATIONS.items():
        assert (operation in WRITES) == (method not in {"GET", "HEAD"}), operation
    assert {"CopyObject", "UploadPartCopy"} <= WRITES


def test_what_reads_a_body() -> None:
    """What is asked for with GET, HEAD and DELETE has none, nor has what copies or begins."""
    with_body = {name for (_, method, _), name in OPERATIONS.items() if method in {"PUT", "POST"}}
    with_body -= {"CreateMultipartUpload", "RenameObject"}
    for name in OPERATIONS.values():
        assert takes_no_body(name) == (name not in with_body), name
    assert takes_no_body("CopyObject")
    assert takes_no_body("UploadPartCopy")
