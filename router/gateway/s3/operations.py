"""Which operation of S3 a request is: one table. What is not in it is refused. Pure.

The names are those of the S3 API reference. A sub-resource (``?acl``) makes another operation of
the same method and path; one that this door does not know is not mistaken for none.
"""

from __future__ import annotations

from typing import Final

from router.gateway.s3.address import Address
from router.gateway.s3.failures import S3Error
from router.gateway.s3.locks import is_about_locks
from router.gateway.s3.sse_headers import is_about_encryption

_SUBRESOURCES: Final = frozenset(
    {
        "abac",
        "accelerate",
        "acl",
        "analytics",
        "append",
        "attributes",
        "cors",
        "delete",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "lifecycle",
        "location",
        "logging",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "renameObject",
        "replication",
        "requestPayment",
        "restore",
        "retention",
        "select",
        "session",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versioning",
        "versions",
        "website",
    }
)
_PARAMETERS: Final = frozenset(
    {
        "bucket-region",
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "key-marker",
        "list-type",
        "marker",
        "max-buckets",
        "max-keys",
        "max-parts",
        "max-uploads",
        "part-number-marker",
        "partNumber",
        "prefix",
        "start-after",
        "upload-id-marker",
        "versionId",
        "version-id-marker",
        "x-id",
    }
)
"""Parameters that make no operation, and may be without a value."""

OPERATIONS: Final[dict[tuple[str, str, str], str]] = {
    ("service", "GET", ""): "ListBuckets",
    ("bucket", "PUT", ""): "CreateBucket",
    ("bucket", "HEAD", ""): "HeadBucket",
    ("bucket", "DELETE", ""): "DeleteBucket",
    ("bucket", "GET", ""): "ListObjects",
    ("bucket", "POST", "delete"): "DeleteObjects",
    ("bucket", "GET", "location"): "GetBucketLocation",
    ("bucket", "GET", "accelerate"): "GetBucketAccelerateConfiguration",
    ("bucket", "GET", "acl"): "GetBucketAcl",
    ("bucket", "GET", "cors"): "GetBucketCors",
    ("bucket", "PUT", "cors"): "PutBucketCors",
    ("bucket", "DELETE", "cors"): "DeleteBucketCors",
    ("bucket", "GET", "encryption"): "GetBucketEncryption",
    ("bucket", "PUT", "encryption"): "PutBucketEncryption",
    ("bucket", "DELETE", "encryption"): "DeleteBucketEncryption",
    ("bucket", "GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("bucket", "PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("bucket", "DELETE", "lifecycle"): "DeleteBucketLifecycle",
    ("bucket", "GET", "logging"): "GetBucketLogging",
    ("bucket", "GET", "notification"): "GetBucketNotificationConfiguration",
    ("bucket", "PUT", "notification"): "PutBucketNotificationConfiguration",
    ("bucket", "GET", "object-lock"): "GetObjectLockConfiguration",
    ("bucket", "PUT", "object-lock"): "PutObjectLockConfiguration",
    ("bucket", "PUT", "acl"): "PutBucketAcl",
    ("bucket", "GET", "policy"): "GetBucketPolicy",
    ("bucket", "PUT", "policy"): "PutBucketPolicy",
    ("bucket", "DELETE", "policy"): "DeleteBucketPolicy",
    ("bucket", "GET", "ownershipControls"): "GetBucketOwnershipControls",
    ("bucket", "PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("bucket", "DELETE", "ownershipControls"): "DeleteBucketOwnershipControls",
    ("bucket", "GET", "policyStatus"): "GetBucketPolicyStatus",
    ("bucket", "GET", "publicAccessBlock"): "GetPublicAccessBlock",
    ("bucket", "PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("bucket", "DELETE", "publicAccessBlock"): "DeletePublicAccessBlock",
    ("bucket", "GET", "replication"): "GetBucketReplication",
    ("bucket", "GET", "requestPayment"): "GetBucketRequestPayment",
    ("bucket", "GET", "tagging"): "GetBucketTagging",
    ("bucket", "PUT", "tagging"): "PutBucketTagging",
    ("bucket", "DELETE", "tagging"): "DeleteBucketTagging",
    ("bucket", "GET", "uploads"): "ListMultipartUploads",
    ("bucket", "GET", "versioning"): "GetBucketVersioning",
    ("bucket", "PUT", "versioning"): "PutBucketVersioning",
    ("bucket", "GET", "versions"): "ListObjectVersions",
    ("bucket", "GET", "website"): "GetBucketWebsite",
    ("bucket", "PUT", "website"): "PutBucketWebsite",
    ("bucket", "DELETE", "website"): "DeleteBucketWebsite",
    ("object", "PUT", ""): "PutObject",
    ("object", "GET", ""): "GetObject",
    ("object", "HEAD", ""): "HeadObject",
    ("object", "DELETE", ""): "DeleteObject",
    ("object", "GET", "acl"): "GetObjectAcl",
    ("object", "PUT", "acl"): "PutObjectAcl",
    ("object", "GET", "attributes"): "GetObjectAttributes",
    ("object", "GET", "legal-hold"): "GetObjectLegalHold",
    ("object", "PUT", "legal-hold"): "PutObjectLegalHold",
    ("object", "GET", "retention"): "GetObjectRetention",
    ("object", "PUT", "retention"): "PutObjectRetention",
    ("object", "GET", "tagging"): "GetObjectTagging",
    ("object", "PUT", "tagging"): "PutObjectTagging",
    ("object", "DELETE", "tagging"): "DeleteObjectTagging",
    ("object", "PUT", "renameObject"): "RenameObject",
    ("object", "POST", "uploads"): "CreateMultipartUpload",
    ("object", "PUT", "uploadId"): "UploadPart",
    ("object", "GET", "uploadId"): "ListParts",
    ("object", "POST", "uploadId"): "CompleteMultipartUpload",
    ("object", "DELETE", "uploadId"): "AbortMultipartUpload",
}
WRITES: Final = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "DeleteBucket",
        "DeleteBucketCors",
        "DeleteBucketEncryption",
        "DeleteBucketLifecycle",
        "DeleteBucketOwnershipControls",
        "DeleteBucketPolicy",
        "DeleteBucketTagging",
        "DeleteBucketWebsite",
        "DeleteObject",
        "DeleteObjectTagging",
        "DeleteObjects",
        "DeletePublicAccessBlock",
        "PutBucketAcl",
        "PutBucketCors",
        "PutBucketEncryption",
        "PutBucketLifecycleConfiguration",
        "PutBucketNotificationConfiguration",
        "PutBucketOwnershipControls",
        "PutBucketPolicy",
        "PutBucketTagging",
        "PutBucketVersioning",
        "PutBucketWebsite",
        "PutObject",
        "PutObjectAcl",
        "PutObjectLegalHold",
        "PutObjectLockConfiguration",
        "PutObjectRetention",
        "PutObjectTagging",
        "PutPublicAccessBlock",
        "RenameObject",
        "UploadPart",
        "UploadPartCopy",
    }
)
"""The operations that change something."""
_COPIES: Final = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
"""What operations are called that take their bytes from another object."""
_METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE")


_BODILESS: Final = frozenset(
    {
        "AbortMultipartUpload",
        "CopyObject",
        "CreateMultipartUpload",
        "RenameObject",
        "UploadPartCopy",
    }
)


def takes_no_body(operation: str) -> bool:
    """Whether a body of its request would mean nothing."""
    if operation in _BODILESS or operation.startswith(("Get", "Head", "List")):
        return True
    return operation.startswith("Delete") and operation != "DeleteObjects"


def operation_of(method: str, address: Address, *, copies: bool) -> str:
    """The operation that a request asks for.

    Args:
        method: of the request.
        address: what it is about.
        copies: whether it names a source to copy from.

    Raises:
        S3Error: ``NotImplemented``, ``MethodNotAllowed``, or a contradiction.
    """
    subresources = set()
    for name, value in address.query:
        if name in _SUBRESOURCES:
            subresources.add(name)
        elif is_about_encryption(name) or is_about_locks(name):
            raise S3Error("InvalidArgument", "This is said in a header.", ArgumentName=name)
        elif not value and not _is_parameter(name):
            raise S3Error("NotImplemented", ResourceType=name)
    if len(subresources) > 1:
        raise S3Error("NotImplemented", ResourceType=" ".join(sorted(subresources)))
    subresource = next(iter(subresources), "")
    level = "object" if address.key else "bucket" if address.bucket else "service"
    operation = OPERATIONS.get((level, method, subresource))
    if operation is None:
        if level == "service" and method in _METHODS and not subresource:
            raise S3Error("MethodNotAllowed", Method=method, ResourceType="SERVICE")
        raise S3Error("NotImplemented", Method=method, ResourceType=subresource.upper())
    if operation in WRITES and level == "object":
        if operation != "UploadPart":
            _check_no_part(address)
        if copies:
            return _COPIES.get(operation, operation)
    return operation


def _check_no_part(address: Address) -> None:
    if "partNumber" in address.parameters:
        raise S3Error("NotImplemented", ResourceType="partNumber")


def _is_parameter(name: str) -> bool:
    return name in _PARAMETERS or name.lower().startswith(("x-amz-", "response-"))
