"""ListObjects, in both versions: parameters in, a page out as a document."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from aiohttp import web

from common.limits import KEY_BYTES_MAX, LIST_PAGE_MAX
from common.meta.interface import Entry
from router.gateway.s3.access import owner_id
from router.gateway.s3.call import Call, iso_date
from router.gateway.s3.documents import CONTENT_TYPE, NAMESPACE, escaped
from router.gateway.s3.failures import S3Error
from router.gateway.s3.listing import Listing, list_page

_SAFE: Final = "/-_.~*"
_DIGITS_MAX: Final = 9


@dataclass(frozen=True)
class Asked:
    """What a listing is asked for.

    Attributes:
        second: whether it is ListObjectsV2.
        prefix: names that begin otherwise are left out.
        delimiter: names are rolled up behind it; "": none are.
        after: the page begins behind this name.
        limit: lines of the page.
        url: whether names are percent-encoded in the answer.
        start_after, token, marker: as they were given; None if they were not.
        owner: whether each line tells its owner.
    """

    second: bool
    prefix: str
    delimiter: str
    after: str
    limit: int
    url: bool
    start_after: str | None
    token: str | None
    marker: str | None
    owner: bool


async def list_objects(call: Call) -> web.StreamResponse:
    """ListObjects and ListObjectsV2."""
    asked = asked_of(call.parameters)
    bucket = await call.store.bucket(call.address.bucket)
    files = call.store.meta.files
    page = await list_page(
        files, bucket.name, asked.prefix, asked.delimiter, asked.after, asked.limit
    )
    owner = call.owner_of(bucket)
    body = page_document(bucket.name, asked, page, owner if asked.owner else None)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def asked_of(parameters: Mapping[str, str]) -> Asked:
    """What the parameters of a request ask for.

    Raises:
        S3Error: a value that cannot be.
    """
    kind = parameters.get("list-type", "1")
    if kind not in ("1", "2"):
        _invalid("list-type", kind)
    second = kind == "2"
    encoding = parameters.get("encoding-type", "")
    if encoding not in ("", "url"):
        _invalid("encoding-type", encoding, "Invalid Encoding Method specified in Request")
    for name in ("prefix", "marker", "start-after"):
        if len(parameters.get(name, "").encode()) > KEY_BYTES_MAX:
            raise S3Error("KeyTooLongError", MaxSizeAllowed=str(KEY_BYTES_MAX))
    marker = token = start_after = None
    if second:
        token, start_after = parameters.get("continuation-token"), parameters.get("start-after")
        after = read_token(token) if token is not None else start_after or ""
    else:
        marker = parameters.get("marker")
        after = marker or ""
    return Asked(
        second=second,
        prefix=parameters.get("prefix", ""),
        delimiter=parameters.get("delimiter", ""),
        after=after,
        limit=limit_of(parameters, "max-keys"),
        url=encoding == "url",
        start_after=start_after,
        token=token,
        marker=marker,
        owner=not second or parameters.get("fetch-owner", "").lower() == "true",
    )


def limit_of(parameters: Mapping[str, str], name: str) -> int:
    """How many lines a page may have; more than a thousand is a thousand.

    Raises:
        S3Error: it is no number that could be meant.
    """
    text = parameters.get(name, "")
    if not text:
        return LIST_PAGE_MAX
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        _invalid(name, text, f"Provided {name} not an integer or within integer range")
    return min(int(text), LIST_PAGE_MAX)


def name_in(asked: Asked, name: str) -> str:
    """A name as the text of an element of the answer."""
    return quote(name, safe=_SAFE) if asked.url else name


def token_of(last: str) -> str:
    """The token of a page that begins behind this name."""
    return urlsafe_b64encode(last.encode()).decode()


def read_token(token: str) -> str:
    """The name behind which the page of a token begins.

    Raises:
        S3Error: it is none of ours.
    """
    try:
        last = urlsafe_b64decode(token.encode("ascii")).decode()
    except (Base64Error, ValueError):
        last = ""
    if not last or token_of(last) != token:
        _invalid("continuation-token", token, "The continuation token provided is incorrect")
    return last


def page_document(bucket: str, asked: Asked, page: Listing, owner: str | None) -> bytes:
    """The document of a page; there are up to a thousand lines, so it is put together as text.

    Args:
        bucket: its name.
        asked: what it answers.
        page: what was found.
        owner: told in each line, unless None.
    """
    name_of = (lambda text: quote(text, safe=_SAFE)) if asked.url else escaped
    told = f"<Owner><ID>{owner_id(owner)}</ID>" if owner is not None else ""
    told += f"<DisplayName>{escaped(owner)}</DisplayName></Owner>" if owner is not None else ""
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}">',
        f"<Name>{bucket}</Name><Prefix>{name_of(asked.prefix)}</Prefix>",
    ]
    if asked.second:
        parts.append(f"<KeyCount>{len(page.entries) + len(page.prefixes)}</KeyCount>")
        if asked.start_after is not None:
            parts.append(f"<StartAfter>{name_of(asked.start_after)}</StartAfter>")
        if asked.token is not None:
            parts.append(f"<ContinuationToken>{escaped(asked.token)}</ContinuationToken>")
        if page.more:
            token = token_of(page.last)
            parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    else:
        parts.append(f"<Marker>{name_of(asked.marker or '')}</Marker>")
        if page.more and asked.delimiter:
            parts.append(f"<NextMarker>{name_of(page.last)}</NextMarker>")
    if asked.delimiter:
        parts.append(f"<Delimiter>{name_of(asked.delimiter)}</Delimiter>")
    if asked.url:
        parts.append("<EncodingType>url</EncodingType>")
    more = "true" if page.more else "false"
    parts.append(f"<MaxKeys>{asked.limit}</MaxKeys><IsTruncated>{more}</IsTruncated>")
    parts += [_line(entry, name_of, told) for entry in page.entries]
    parts += [
        f"<CommonPrefixes><Prefix>{name_of(prefix)}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    ]
    parts.append("</ListBucketResult>")
    return "".join(parts).encode()


def _line(entry: Entry, name_of: Callable[[str], str], owner: str) -> str:
    return (
        f"<Contents><Key>{name_of(entry.key)}</Key>"
        f"<LastModified>{iso_date(entry.created_ms)}</LastModified>"
        f"<ETag>&quot;{escaped(entry.etag)}&quot;</ETag><Size>{entry.size}</Size>{owner}"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _invalid(name: str, value: str, message: str = "") -> None:
    raise S3Error("InvalidArgument", message, ArgumentName=name, ArgumentValue=value)
