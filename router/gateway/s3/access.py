"""Who a request is from, and what that key may do: asked before anything else is."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from common.clock import Clock
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Claim, SignedRequest, Verified, parse, verify


class AccessKey(Protocol):
    """An access key."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...

    def secrets(self, now_ms: int) -> Sequence[str]:
        """What its owner may sign with at a moment; the newest comes first."""
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
    now_ms = clock.now_ms()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return Caller(key, verified_by(key.secrets(now_ms), claim, signed, now))


def verified_by(
    secrets: Sequence[str], claim: Claim, signed: SignedRequest, now: datetime
) -> Verified:
    """Hold a claim to the secrets of its access key: one has to fit.

    Raises:
        S3Error: as `verify`, of the first secret.
    """
    newest, *others = secrets
    try:
        return verify(claim, signed, newest, now)
    except S3Error as error:
        if error.code != "SignatureDoesNotMatch":
            raise
        for each in others:
            try:
                return verify(claim, signed, each, now)
            except S3Error as again:
                if again.code != "SignatureDoesNotMatch":
                    raise
        raise
