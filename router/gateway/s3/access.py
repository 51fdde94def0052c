"""Who a request is from, and what that key may do: asked before anything else is.

A request without any signature is anonymous. One that carries a signature, or anything that belongs
to one, is what it claims to be or nothing: it never becomes anonymous.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Protocol

import msgspec

from common.clock import Clock
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4 import Claim, Payload, SignedRequest, Verified, parse, verify
from router.gateway.s3.sigv4_claim import payload_of

SIGNS: Final = frozenset(
    {
        "awsaccesskeyid",
        "signature",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
"""Parameters, or fields of a form, that nobody has who does not sign."""


class AccessKey(Protocol):
    """An access key."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...

    def secrets(self, now_ms: int) -> Sequence[str]:
        """What its owner may sign with at a moment; the newest comes first."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether it may change nothing."""
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
class Nobody:
    """Stands for an access key where there is none: it may nothing by itself."""

    owner: str = ""
    read_only: bool = False

    def secrets(self, now_ms: int) -> Sequence[str]:
        """None."""
        del now_ms
        return ()

    def may(self, bucket: str, *, write: bool) -> bool:
        """Nothing."""
        del bucket, write
        return False


NOBODY: Final = Nobody()


class Caller(msgspec.Struct, frozen=True):
    """Who a request is from.

    Attributes:
        key: the access key it is signed with; `NOBODY` if it is not.
        verified: how the signature binds the body.
    """

    key: AccessKey
    verified: Verified

    @property
    def anonymous(self) -> bool:
        """Whether it is not signed."""
        return self.key is NOBODY


def owner_id(owner: str) -> str:
    """64 hex digits that stand for an owner."""
    return sha256(f"data-putter owner {owner}".encode()).hexdigest()


async def caller_of(signed: SignedRequest, keys: AccessKeys, clock: Clock) -> Caller:
    """Who a request is from.

    Args:
        signed: what its signature covers beside the body.
        keys: knows the access keys.
        clock: tells when a signature is too old.

    Raises:
        S3Error: it claims to be from somebody, and is not, or is not as it was signed.
        MetadataUnavailable: Redis does not answer.
    """
    claim = parse(signed)
    now_ms = clock.now_ms()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    if claim is None:
        return Caller(NOBODY, unsigned(signed, now))
    key = await keys.find(claim.access_key_id)
    if key is None:
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key_id)
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


def unsigned(request: SignedRequest, now: datetime) -> Verified:
    """How the body of a request is bound that has no signature.

    Args:
        request: the request; `parse` found no claim in it.
        now: the time, with its zone.

    Raises:
        S3Error: it has something that belongs to a signature.
    """
    parameters = {name.lower() for name, _ in request.pairs}
    if not parameters.isdisjoint(SIGNS) or request.values("x-amz-security-token"):
        raise S3Error("AccessDenied", "The request has parts of a signature, and none.")
    hashes = request.values("x-amz-content-sha256")
    framed = any("aws-chunked" in each.lower() for each in request.values("content-encoding"))
    text = hashes[0] if hashes else Payload.UNSIGNED.value
    payload = payload_of(text)
    if payload is Payload.UNSIGNED and framed:
        payload = Payload.CHUNKS_TRAILER  # some clients say it in no other header
    if len(set(hashes)) > 1 or payload in (Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER):
        raise S3Error("AccessDenied", "The request has parts of a signature, and none.")
    claim = Claim("", "", now, "", "", (), "", payload, text)
    return Verified(claim, text.lower() if payload is Payload.HASHED else None, None)
