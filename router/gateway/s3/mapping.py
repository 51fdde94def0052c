"""What S3 calls the errors of the store. Pure."""

from __future__ import annotations

from typing import Final

from common.errors import (
    ClientGone,
    Forbidden,
    IdleTimeout,
    KeyNeeded,
    NameInvalid,
    NoSpace,
    NotFound,
    ObjectGone,
    PreconditionFailed,
    ProtocolError,
    PutterError,
    QuotaExceeded,
    RangeInvalid,
    TicketsExhausted,
    TooLarge,
    TooManyConnections,
    Unavailable,
    UsageError,
    WriteConflict,
)
from router.gateway.s3.failures import S3Error

_CODES: Final[tuple[tuple[type[PutterError], str, int | None], ...]] = (
    (TooManyConnections, "SlowDown", None),
    (Unavailable, "ServiceUnavailable", None),
    (ObjectGone, "ServiceUnavailable", None),
    (NoSpace, "ServiceUnavailable", NoSpace.http),
    (TicketsExhausted, "ServiceUnavailable", TicketsExhausted.http),
    (QuotaExceeded, "QuotaExceeded", None),
    (Forbidden, "AccessDenied", None),
    (NotFound, "NoSuchKey", None),
    (PreconditionFailed, "PreconditionFailed", None),
    (WriteConflict, "ConditionalRequestConflict", None),
    (RangeInvalid, "InvalidRange", None),
    (NameInvalid, "InvalidURI", None),
    (TooLarge, "EntityTooLarge", None),
    (IdleTimeout, "RequestTimeout", None),
    (ClientGone, "IncompleteBody", None),
    (UsageError, "InvalidRequest", None),
    (KeyNeeded, "InvalidRequest", None),
    (ProtocolError, "BadRequest", None),
)
"""The first kind that an error is of; what is of none is our own mistake, or our disks'."""


def mapped(error: S3Error | PutterError) -> S3Error:
    """The error as S3 tells it."""
    if isinstance(error, S3Error):
        return error
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return S3Error(code, error.message, status)
    return S3Error("InternalError")
