"""Who a request is from, and what that key may do: asked before anything else is."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from common.clock import Clock
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import SignedRequest, Verified, parse, verify


class AccessKey(Protocol):
    """An access key."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...

    @property
    def secret(self) -> str:
        """What its owner signs with."""
        ...

    def may(self, bucket: str, *, write: bool) -> bool:
        """Whether it may read a bucket, or change it; "": all of them."""
        ...


class AccessKeys(Protocol):
    """Knows access keys."""

    def find(self, access_key_id: str) -> Awaitable[AccessKey | None]:
        """The key of that name, if there is one that counts."""
        ...


@dataclass(frozen=True)
class Caller:
    """Who a request is from.

    Attributes:
        key: the access key it is signed with.
        verified: how the signature binds the body.
    """

    key: AccessKey
    verified: Verified


async def caller_of(signed: SignedRequest, keys: AccessKeys, clock: Clock) -> Caller:
    """Who a request is from.

    Args:
        signed: what its signature covers beside the body.
        keys: knows the access keys.
        clock: tells when a signature is too old.

    Raises:
        S3Error: nobody whom this door knows, or it is not as it was signed.
        MetadataUnavailable: Redis does not answer.
    """
    claim = parse(signed)
    if claim is None:
        raise S3Error("AccessDenied")
    key = await keys.find(claim.access_key_id)
    if key is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key_id)
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    return Caller(key, verify(claim, signed, key.secret, now))
