"""Signature Version 4 of requests: in the Authorization header, or in a presigned URL.

`parse` reads what a request claims, without any secret; the caller looks the secret up; `verify`
holds the claim to it. Both are pure: the time is handed in, the body is not looked at. What is
still to be checked while the body comes in is in what `verify` returns.

(AWS: S3 API reference, "Authenticating Requests (AWS Signature Version 4)".)
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import msgspec

from router.gateway.s3.canonical import (
    SignedRequest,
    canonical_request,
    string_to_sign,
)
from router.gateway.s3.chunk_signatures import ChunkSignatures
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4_claim import Claim, Payload, parse

__all__ = ["Claim", "Payload", "SignedRequest", "Verified", "parse", "verify"]

SKEW_MAX_S: Final = 15 * 60
"""How far the clock of a client may be off."""
_KEYS_MAX: Final = 1_024
_BOUND: Final = ("x-amz-date", "x-amz-content-sha256")
"""In a header's claim these are part of what is signed in any case."""


class Verified(msgspec.Struct, frozen=True):
    """A claim that holds, and what its body has still to be held to.

    Attributes:
        claim: the claim.
        sha256: the hex digest that the whole body must have (`Payload.HASHED`), else None.
        chunks: checks the signatures of chunks and trailer where they have some, else None.
    """

    claim: Claim
    sha256: str | None
    chunks: ChunkSignatures | None


def verify(claim: Claim, request: SignedRequest, secret: str, now: datetime) -> Verified:
    """Hold a claim to the secret of its access key.

    Args:
        claim: what `parse` found in the request.
        request: the request.
        secret: the secret access key of ``claim.access_key_id``.
        now: the time, with its zone.

    Raises:
        S3Error: signed at another time, with another key, or for another request.
    """
    if claim.token:
        raise S3Error("InvalidToken")
    _check_time(claim, now)
    pairs = request.pairs
    if claim.presigned:
        pairs = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
    canonical = canonical_request(request, pairs, claim.signed_headers, claim.payload_hash)
    text = string_to_sign(claim.timestamp, claim.scope, canonical)
    key = signing_key(secret, claim.scope)
    if not same(sign(key, text), claim.signature):
        raise S3Error(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=claim.access_key_id,
            StringToSign=text,
            SignatureProvided=claim.signature,
            StringToSignBytes=text.encode("utf-8", "surrogateescape").hex(" "),
            CanonicalRequest=canonical.decode("utf-8", "replace"),
            CanonicalRequestBytes=canonical.hex(" "),
        )
    _check_all_signed(claim, request)
    chunks = None
    if claim.payload in (Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER):
        chunks = ChunkSignatures(key, claim.timestamp, claim.scope, claim.signature)
    hashed = claim.payload_hash.lower() if claim.payload is Payload.HASHED else None
    return Verified(claim, hashed, chunks)


@lru_cache(maxsize=_KEYS_MAX)
def signing_key(secret: str, scope: str) -> bytes:
    """The key of one day, region and service; those in use are remembered.

    Args:
        secret: the secret access key.
        scope: ``YYYYMMDD/region/s3/aws4_request``.
    """
    key = f"AWS4{secret}".encode("utf-8", "surrogateescape")
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode("utf-8", "surrogateescape"), sha256)
    return key


def sign(key: bytes, text: str) -> str:
    """The signature of a string to sign, in hex."""
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), sha256).hex()


def same(ours: str, theirs: str) -> bool:
    """Compare two signatures in a time that does not tell where they differ."""
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogateescape"))


def _check_time(claim: Claim, now: datetime) -> None:
    age_s = (now - claim.date).total_seconds()
    if not claim.presigned:
        if abs(age_s) > SKEW_MAX_S:
            raise S3Error(
                "RequestTimeTooSkewed",
                RequestTime=claim.timestamp,
                ServerTime=_iso(now),
                MaxAllowedSkewMilliseconds=str(SKEW_MAX_S * 1000),
            )
        return
    if -age_s > SKEW_MAX_S:
        raise S3Error("AccessDenied", "Request is not valid yet", ServerTime=_iso(now))
    if age_s > claim.expires_s:
        expired = claim.date + timedelta(seconds=claim.expires_s)
        told: dict[str, Any] = {
            "X-Amz-Expires": str(claim.expires_s),
            "Expires": _iso(expired),
            "ServerTime": _iso(now),
        }
        raise S3Error("AccessDenied", "Request has expired", **told)


def _check_all_signed(claim: Claim, request: SignedRequest) -> None:
    signed, bound = claim.signed_headers, () if claim.presigned else _BOUND
    missing = sorted(
        name
        for name in request.by_name
        if name.startswith("x-amz-") and name not in signed and name not in bound
    )
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(missing),
        )


def _iso(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
