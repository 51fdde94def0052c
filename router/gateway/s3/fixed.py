"""What has one true answer for every bucket here, since nothing else can be set."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from router.gateway.s3.call import Call, answer
from router.gateway.s3.documents import Tree
from router.gateway.s3.failures import S3Error

DOCUMENTS: Final[dict[str, Tree]] = {
    "GetBucketAccelerateConfiguration": ("AccelerateConfiguration", ""),
    "GetBucketLogging": ("BucketLoggingStatus", ""),
    "GetBucketRequestPayment": ("RequestPaymentConfiguration", [("Payer", "BucketOwner")]),
}
"""Operations that are always answered with the same document."""
ABSENT: Final = {
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
}
"""Operations that are always answered with the same error: nothing of the kind was set."""


async def get_fixed(call: Call, operation: str) -> web.StreamResponse:
    """One of `DOCUMENTS` or `ABSENT`, of a bucket that is there."""
    bucket = await call.store.bucket(call.address.bucket)
    if operation in ABSENT:
        raise S3Error(ABSENT[operation], BucketName=bucket.name)
    return answer(DOCUMENTS[operation])
