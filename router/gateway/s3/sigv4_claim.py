"""What a request claims of itself in its Authorization header, or in a presigned URL.

Nothing here needs a secret, and nothing is believed yet: `router.gateway.s3.sigv4` holds the
claim to its key.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, NoReturn
from urllib.parse import unquote

import msgspec

from router.gateway.s3.canonical import ALGORITHM, SignedRequest
from router.gateway.s3.failures import S3Error

EXPIRES_MAX_S: Final = 7 * 24 * 3600
"""How long a presigned URL may be good for."""

_REMEMBERED_MAX: Final = 256
"""Of each part of a claim that recurs: those of a client differ in little but the signature."""
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_CREDENTIAL: Final = '"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request"'
_TIMESTAMP: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_HEX_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_PRESIGNED: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)


class Payload(enum.Enum):
    """How the body of a request is bound to its signature."""

    HASHED = "hex"
    UNSIGNED = _UNSIGNED
    CHUNKS_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    CHUNKS_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    @property
    def chunked(self) -> bool:
        """Whether the body is framed as ``aws-chunked``."""
        return self in _CHUNKED


_CHUNKED: Final = (Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER, Payload.CHUNKS_TRAILER)
_BY_WORD: Final = {each.value: each for each in Payload if each is not Payload.HASHED}


class Claim(msgspec.Struct, frozen=True):
    """Who a request says that it is from.

    Attributes:
        access_key_id: of whom.
        timestamp: when it was signed, ``YYYYMMDDTHHMMSSZ`` as it was signed.
        date: the same as a time in UTC.
        region: the region it was signed for.
        scope: ``YYYYMMDD/region/s3/aws4_request``.
        signed_headers: names in lower case, in their order.
        signature: 64 hex digits, if it is one.
        payload: how the body is bound.
        payload_hash: what was signed in the place of the body's hash.
        presigned: whether the signature came in the URL.
        expires_s: how long a presigned URL is good for, else 0.
        token: a session token, which no key of ours has.
    """

    access_key_id: str
    timestamp: str
    date: datetime
    region: str
    scope: str
    signed_headers: tuple[str, ...]
    signature: str
    payload: Payload
    payload_hash: str
    presigned: bool = False
    expires_s: int = 0
    token: str = ""

    def __repr__(self) -> str:
        return f"<claim of {self.access_key_id}>"  # the token is a secret


def parse(request: SignedRequest, *, region: str | None = None) -> Claim | None:
    """Read the claim of a request.

    Args:
        request: the request.
        region: the only region that signatures may be for, or None for any.

    Returns:
        The claim, or None: the request is anonymous (or a form, whose claim is in its fields).

    Raises:
        S3Error: a claim that is malformed, or of a kind that is not accepted.
    """
    pairs = request.pairs
    headers = request.values("authorization")
    if not pairs and len(headers) == 1:
        return _parse_header(request, headers[0], region)
    names = {name for name, _ in pairs}
    in_query = not names.isdisjoint(("X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"))
    if {"AWSAccessKeyId", "Signature"} <= names:
        refuse_version_two()
    if len(headers) + in_query > 1:
        raise S3Error(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
            "query string parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
        )
    if in_query:
        return _parse_query(request, pairs, region)
    if headers:
        return _parse_header(request, headers[0], region)
    return None


def read_credential(text: str, timestamp: str, code: str, start: str) -> tuple[str, str, str]:
    """Take a credential apart: ``access-key-id/YYYYMMDD/region/s3/aws4_request``.

    An access key id may have slashes of its own.

    Args:
        text: the credential.
        timestamp: when the request says that it was signed.
        code: what a malformed one is answered with.
        start: how the message starts then.

    Returns:
        Access key id, region, scope.

    Raises:
        S3Error: it is malformed, for another service, or of another day.
    """
    return _read_credential(text, timestamp[:8], code, start)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _read_credential(text: str, signed_on: str, code: str, start: str) -> tuple[str, str, str]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not all(parts):
        raise S3Error(code, f"{start}; the Credential is mal-formed; expecting {_CREDENTIAL}.")
    access_key_id, day, region, service, terminal = parts
    if service != "s3":
        raise S3Error(
            code, f'{start}; incorrect service "{service}". This endpoint belongs to "s3".'
        )
    if terminal != "aws4_request":
        raise S3Error(
            code,
            f'{start}; incorrect terminal "{terminal}". This endpoint uses "aws4_request".',
        )
    if day != signed_on:
        raise S3Error(
            code,
            f'{start}; Invalid credential date "{day}". This date is not the same as '
            f'X-Amz-Date: "{signed_on}".',
        )
    return access_key_id, region, f"{day}/{region}/{service}/{terminal}"


@lru_cache(maxsize=_REMEMBERED_MAX)
def read_timestamp(text: str) -> datetime | None:
    """The time of ``YYYYMMDDTHHMMSSZ``, or None if it is not one."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(group) for group in match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def check_region(named: str, region: str | None, code: str, start: str) -> None:
    """Hold a signature's region to the only one that is accepted, if there is one.

    Raises:
        S3Error: another region.
    """
    if region is not None and named != region:
        raise S3Error(
            code, f"{start}; the region '{named}' is wrong; expecting '{region}'", Region=region
        )


def _parse_header(request: SignedRequest, text: str, region: str | None) -> Claim:
    algorithm, _, rest = text.strip().partition(" ")
    _check_algorithm(algorithm, text)
    parts = _components(rest)
    timestamp, date = _header_date(request)
    start = "The authorization header is malformed"
    code = "AuthorizationHeaderMalformed"
    access_key_id, named, scope = read_credential(parts["Credential"], timestamp, code, start)
    check_region(named, region, code, start)
    hashes = request.values("x-amz-content-sha256")
    if not hashes:
        raise S3Error(
            "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"
        )
    return Claim(
        access_key_id=access_key_id,
        timestamp=timestamp,
        date=date,
        region=named,
        scope=scope,
        signed_headers=_signed_headers(parts["SignedHeaders"], code, start),
        signature=parts["Signature"],
        payload=payload_of(hashes[0]),
        payload_hash=hashes[0],
        token=next(iter(request.values("x-amz-security-token")), ""),
    )


def _components(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in text.split(","):
        name, equals, value = item.strip().partition("=")
        if not equals or name in found:
            raise S3Error(
                "AuthorizationHeaderMalformed",
                "The authorization header is malformed; the authorization component "
                f'"{item.strip()}" is malformed.',
            )
        found[name] = value.strip()
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not found.get(name):
            raise S3Error(
                "AuthorizationHeaderMalformed",
                "The authorization header is malformed; the authorization header requires three "
                "components: Credential, SignedHeaders, and Signature.",
            )
    return found


def _header_date(request: SignedRequest) -> tuple[str, datetime]:
    for name in ("x-amz-date", "date"):
        for text in request.values(name):
            date = read_timestamp(text)
            if date is not None:
                return text, date
            date = _http_date(text)
            if date is not None:
                return date.strftime("%Y%m%dT%H%M%SZ"), date
            break
    raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _parse_query(
    request: SignedRequest, pairs: Sequence[tuple[str, str]], region: str | None
) -> Claim:
    code = "AuthorizationQueryParametersError"
    found = {name: unquote(value) for name, value in pairs if name.startswith("X-Amz-")}
    once = len(found) == sum(name.startswith("X-Amz-") for name, _ in pairs)
    if not once or not all(found.get(name) for name in _PRESIGNED):
        raise S3Error(
            code,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters, each once.",
        )
    if found["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error(code, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    timestamp = found["X-Amz-Date"]
    date = read_timestamp(timestamp)
    if date is None:
        raise S3Error(
            code, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    expires_s = _expires(found["X-Amz-Expires"])
    start = "Error parsing the X-Amz-Credential parameter"
    access_key_id, named, scope = read_credential(found["X-Amz-Credential"], timestamp, code, start)
    check_region(named, region, code, start)
    signed = _signed_headers(
        found["X-Amz-SignedHeaders"], code, "Error parsing the X-Amz-SignedHeaders parameter"
    )
    body = found.get("X-Amz-Content-Sha256")
    if body is None:
        header = "x-amz-content-sha256"
        body = next(iter(request.values(header) if header in signed else ()), _UNSIGNED)
    return Claim(
        access_key_id=access_key_id,
        timestamp=timestamp,
        date=date,
        region=named,
        scope=scope,
        signed_headers=signed,
        signature=found["X-Amz-Signature"],
        payload=payload_of(body),
        payload_hash=body,
        presigned=True,
        expires_s=expires_s,
        token=found.get("X-Amz-Security-Token", ""),
    )


def _expires(text: str) -> int:
    code = "AuthorizationQueryParametersError"
    if not _NUMBER.fullmatch(text):
        raise S3Error(code, "X-Amz-Expires should be a number")
    expires_s = int(text)
    if expires_s > EXPIRES_MAX_S:
        raise S3Error(
            code,
            "X-Amz-Expires must be less than a week (in seconds); that is, the given "
            f"X-Amz-Expires must be less than {EXPIRES_MAX_S} seconds",
        )
    if expires_s < 1:
        raise S3Error(code, "X-Amz-Expires must be at least 1")
    return expires_s


@lru_cache(maxsize=_REMEMBERED_MAX)
def _signed_headers(text: str, code: str, start: str) -> tuple[str, ...]:
    names = tuple(text.lower().split(";"))
    if not all(names) or "host" not in names:
        raise S3Error(code, f"{start}; SignedHeaders must name the headers, host among them.")
    return names


def payload_of(text: str) -> Payload:
    """How a body is bound, by what stands in the place of its hash.

    Raises:
        S3Error: nothing that is known.
    """
    if _HEX_HASH.fullmatch(text):
        return Payload.HASHED
    if text.startswith("STREAMING-AWS4-ECDSA-P256-SHA256"):
        raise S3Error("NotImplemented", "Signatures of version 4A are not implemented.")
    payload = _BY_WORD.get(text)
    if payload is None:
        raise S3Error(
            "InvalidArgument",
            f"x-amz-content-sha256 must be {', '.join(_BY_WORD)}, or a valid sha256 value.",
            ArgumentName="x-amz-content-sha256",
            ArgumentValue=text,
        )
    return payload


def _check_algorithm(algorithm: str, header: str) -> None:
    if algorithm == ALGORITHM:
        return
    if algorithm == "AWS":
        refuse_version_two()
    if algorithm == "AWS4-ECDSA-P256-SHA256":
        raise S3Error("NotImplemented", "Signatures of version 4A are not implemented.")
    raise S3Error(
        "InvalidArgument",
        "Unsupported Authorization Type",
        ArgumentName="Authorization",
        ArgumentValue=header.partition(" ")[0],
    )


def refuse_version_two() -> NoReturn:
    """Say what to sign with instead.

    Raises:
        S3Error: always.
    """
    raise S3Error(
        "InvalidRequest",
        f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
    )
