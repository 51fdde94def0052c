"""Which actions of the policy language the operations of the door are. Pure.

One table from operations to actions; an operation that is not in it cannot be asked for. What
names a version needs the action for versions (``s3:GetObjectVersion``) instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "s3:"

ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "AbortMultipartUpload": ("AbortMultipartUpload",),
    "CompleteMultipartUpload": ("PutObject",),
    "CopyObject": ("PutObject",),
    "CreateBucket": ("CreateBucket",),
    "CreateMultipartUpload": ("PutObject",),
    "DeleteBucket": ("DeleteBucket",),
    "DeleteBucketCors": ("PutBucketCORS",),
    "DeleteBucketEncryption": ("PutEncryptionConfiguration",),
    "DeleteBucketLifecycle": ("PutLifecycleConfiguration",),
    "DeleteBucketOwnershipControls": ("PutBucketOwnershipControls",),
    "DeleteBucketPolicy": ("DeleteBucketPolicy",),
    "DeleteBucketTagging": ("PutBucketTagging",),
    "DeleteBucketWebsite": ("DeleteBucketWebsite",),
    "DeleteObject": ("DeleteObject",),
    "DeleteObjectTagging": ("DeleteObjectTagging",),
    "DeleteObjects": ("DeleteObject",),
    "DeletePublicAccessBlock": ("PutBucketPublicAccessBlock",),
    "GetBucketAccelerateConfiguration": ("GetAccelerateConfiguration",),
    "GetBucketAcl": ("GetBucketAcl",),
    "GetBucketCors": ("GetBucketCORS",),
    "GetBucketEncryption": ("GetEncryptionConfiguration",),
    "GetBucketLifecycleConfiguration": ("GetLifecycleConfiguration",),
    "GetBucketLocation": ("GetBucketLocation",),
    "GetBucketLogging": ("GetBucketLogging",),
    "GetBucketNotificationConfiguration": ("GetBucketNotification",),
    "GetBucketOwnershipControls": ("GetBucketOwnershipControls",),
    "GetBucketPolicy": ("GetBucketPolicy",),
    "GetBucketPolicyStatus": ("GetBucketPolicyStatus",),
    "GetBucketReplication": ("GetReplicationConfiguration",),
    "GetBucketRequestPayment": ("GetBucketRequestPayment",),
    "GetBucketTagging": ("GetBucketTagging",),
    "GetBucketVersioning": ("GetBucketVersioning",),
    "GetBucketWebsite": ("GetBucketWebsite",),
    "GetObject": ("GetObject",),
    "GetObjectAcl": ("GetObjectAcl",),
    "GetObjectAttributes": ("GetObject", "GetObjectAttributes"),
    "GetObjectLegalHold": ("GetObjectLegalHold",),
    "GetObjectLockConfiguration": ("GetBucketObjectLockConfiguration",),
    "GetObjectRetention": ("GetObjectRetention",),
    "GetObjectTagging": ("GetObjectTagging",),
    "GetPublicAccessBlock": ("GetBucketPublicAccessBlock",),
    "HeadBucket": ("ListBucket",),
    "HeadObject": ("GetObject",),
    "ListBuckets": ("ListAllMyBuckets",),
    "ListMultipartUploads": ("ListBucketMultipartUploads",),
    "ListObjectVersions": ("ListBucketVersions",),
    "ListObjects": ("ListBucket",),
    "ListParts": ("ListMultipartUploadParts",),
    "PostObject": ("PutObject",),
    "PutBucketAcl": ("PutBucketAcl",),
    "PutBucketCors": ("PutBucketCORS",),
    "PutBucketEncryption": ("PutEncryptionConfiguration",),
    "PutBucketLifecycleConfiguration": ("PutLifecycleConfiguration",),
    "PutBucketNotificationConfiguration": ("PutBucketNotification",),
    "PutBucketOwnershipControls": ("PutBucketOwnershipControls",),
    "PutBucketPolicy": ("PutBucketPolicy",),
    "PutBucketTagging": ("PutBucketTagging",),
    "PutBucketVersioning": ("PutBucketVersioning",),
    "PutBucketWebsite": ("PutBucketWebsite",),
    "PutObject": ("PutObject",),
    "PutObjectAcl": ("PutObjectAcl",),
    "PutObjectLegalHold": ("PutObjectLegalHold",),
    "PutObjectLockConfiguration": ("PutBucketObjectLockConfiguration",),
    "PutObjectRetention": ("PutObjectRetention",),
    "PutObjectTagging": ("PutObjectTagging",),
    "PutPublicAccessBlock": ("PutBucketPublicAccessBlock",),
    "RenameObject": ("PutObject",),
    "UploadPart": ("PutObject",),
    "UploadPartCopy": ("PutObject",),
}
"""By operation, the actions that it needs, all of them."""

_OF_VERSIONS: Final[Mapping[str, str]] = {
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
}

ON_OBJECTS: Final = frozenset(
    {
        "AbortMultipartUpload",
        "BypassGovernanceRetention",
        "GetObjectLegalHold",
        "GetObjectRetention",
        "ListMultipartUploadParts",
        "PutObject",
        "PutObjectLegalHold",
        "PutObjectRetention",
        *_OF_VERSIONS,
        *_OF_VERSIONS.values(),
    }
)
"""The actions whose resource is an object; that of the others is the bucket."""

NEVER: Final = frozenset({"CreateBucket", "ListAllMyBuckets"})
"""What a bucket's policy cannot be about: there is no bucket yet, or it is about all."""

TAGGING: Final = frozenset({"PutObject", "PutObjectTagging", "PutObjectVersionTagging"})
"""The actions that may give an object tags."""

ON_TAGGED: Final = frozenset({*_OF_VERSIONS, *_OF_VERSIONS.values()}) - {
    "DeleteObject",
    "DeleteObjectVersion",
}
"""The actions of which S3 lets a policy ask what tags the object has."""

KNOWN: Final = (
    frozenset({action for needed in ACTIONS.values() for action in needed} | ON_OBJECTS) - NEVER
)
"""The actions that a policy may name."""

LISTS: Final = frozenset({"ListBucket", "ListBucketVersions", "ListBucketMultipartUploads"})
"""The actions that tell what is in a bucket."""

LISTINGS: Final = frozenset({"ListObjects", "ListObjectVersions", "ListMultipartUploads"})
"""The operations that have a prefix."""

TAKE_ACLS: Final = frozenset(
    {
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "PostObject",
        "PutBucketAcl",
        "PutObject",
        "PutObjectAcl",
    }
)
"""The operations that may name a canned ACL."""

ON_UPLOADS: Final = frozenset({"CompleteMultipartUpload", "UploadPart", "UploadPartCopy"})
"""The operations that go on with what an upload in parts was begun with."""


def needed(operation: str) -> tuple[str, ...]:
    """The actions that an operation needs, without ``s3:``.

    Args:
        operation: its name in the S3 API.

    Raises:
        KeyError: this door does not have it.
    """
    return ACTIONS[operation]


def of_version(action: str) -> str:
    """The action that stands for this one where a version is named."""
    return _OF_VERSIONS.get(action, action)


def changes(action: str) -> bool:
    """Whether an action changes something: all do that are not called otherwise."""
    return not action.startswith(("Get", "List"))


assert changes("AbortMultipartUpload")
assert {*ON_OBJECTS} - {"BypassGovernanceRetention"} <= KNOWN
