"""Deletions on a condition: what the headers of DeleteObject and the elements of DeleteObjects say.

An entity tag has to be that of an object which is there (``NoSuchKey`` if none is); a size and a
date only count where one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from common.errors import Locked, PreconditionFailed
from common.meta.outcomes import Guard
from common.records import Version
from router.gateway.s3.documents import Element
from router.gateway.s3.failures import S3Error
from router.gateway.s3.locks import denied
from router.gateway.s3.version_ids import id_of, read_id
from router.writes import WritePath

CONDITIONS: Final = frozenset({"ETag", "LastModifiedTime", "Size"})
"""Elements of an object that shall be deleted."""
_SIZE_HEADER: Final = "x-amz-if-match-size"
_DATE_HEADER: Final = "x-amz-if-match-last-modified-time"
_DIGITS_MAX: Final = 20


@dataclass(frozen=True)
class Wanted:
    """What an object must be to be deleted; None where anything will do.

    Attributes:
        etag: entity tag without quotes, or ``*``.
        modified_s: last modified, seconds since 1970.
        size: bytes.
    """

    etag: str | None = None
    modified_s: int | None = None
    size: int | None = None

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> Wanted:
        """What DeleteObject says.

        Raises:
            S3Error: a condition that it does not have, or that cannot be.
        """
        if "If-None-Match" in headers:
            raise S3Error("NotImplemented", Header="If-None-Match")
        return cls(
            _tag(headers.get("If-Match")),
            _date(_DATE_HEADER, headers.get(_DATE_HEADER)),
            _size(_SIZE_HEADER, headers.get(_SIZE_HEADER)),
        )

    @classmethod
    def of_element(cls, element: Element) -> Wanted:
        """What DeleteObjects says of one object.

        Raises:
            S3Error: a condition that cannot be.
        """
        return cls(
            _tag(element.value("ETag")),
            _date("LastModifiedTime", element.value("LastModifiedTime")),
            _size("Size", element.value("Size")),
        )

    def fits(self, version: Version) -> bool:
        """Whether a version is one that shall be deleted."""
        return (
            self.etag in (None, "*", version.etag)
            and self.modified_s in (None, version.created_ms // 1000)
            and self.size in (None, version.size)
        )


async def delete_wanted(
    writes: WritePath,
    bucket: str,
    key: str,
    wanted: Wanted,
    named: str | None = None,
    *,
    bypass: bool = False,
) -> tuple[str, str]:
    """Delete what a name holds, or one version of it for good, if that is wanted.

    Args:
        writes: deletes.
        bucket: bucket name.
        key: key.
        wanted: what may be deleted.
        named: the ID of the version; None for the name.
        bypass: whether a lock for ``GOVERNANCE`` does not count.

    Returns:
        The ID of the version that is named, and that of the delete marker which was written, or
        deleted; "" for none.

    Raises:
        S3Error: ``PreconditionFailed``, ``NoSuchKey``, or ``AccessDenied``: it is locked.
        PutterError: nothing is deleted.
    """
    condition = wanted.fits if wanted != Wanted() else None
    number = None if named is None else read_id(named)
    try:
        if named is not None:
            gone = await writes.deletes.version(bucket, key, number, condition, Guard(bypass))
            found, marker = gone is not None, gone if gone and gone.is_marker else None
        else:
            told = await writes.deletes.name(bucket, key, condition, anyway=True)
            found, marker = told.found, told.marker
    except Locked:
        raise denied() from None
    except PreconditionFailed:
        failed = "If-Match" if wanted.etag is not None else _SIZE_HEADER
        if wanted.etag is None and wanted.modified_s is not None:
            failed = _DATE_HEADER
        raise S3Error("PreconditionFailed", Condition=failed) from None
    if not found and wanted.etag is not None:
        raise S3Error("NoSuchKey", Key=key)
    return named or "", id_of(marker) if marker is not None else ""


def _tag(text: str | None) -> str | None:
    return None if text is None else text.strip().strip('"')


def _size(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX):
        raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=text)
    return int(digits)


def _date(name: str, text: str | None) -> int | None:
    """Seconds since 1970 of a date as in ``Last-Modified``, or as documents have it."""
    if text is None:
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text.strip())
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (ValueError, TypeError, OverflowError):
            continue
    raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=text)
