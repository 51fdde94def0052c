"""Headers of S3: what a version keeps of a request, what an answer tells of a version. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Final

from common.limits import HEADERS_BYTES_MAX
from common.records import Encryption, Version
from router.gateway.conditions import http_date
from router.gateway.s3.checksums import BY_HEADER
from router.gateway.s3.failures import S3Error
from router.gateway.s3.locks import HEADERS as LOCK
from router.gateway.s3.policy.actions import TAKE_ACLS
from router.gateway.s3.sse_headers import ALGORITHM, SSE, sse_headers
from router.gateway.s3.website.locations import HEADER as REDIRECT
from router.gateway.s3.website.locations import checked

META: Final = "x-amz-meta-"
_OURS: Final = "x-amz-"
META_BYTES_MAX: Final = 2 * 1024
DEFAULT_TYPE: Final = "binary/octet-stream"
_KEPT: Final = (
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
)
_META_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OVERRIDES: Final = {f"response-{name}": name for name in _KEPT}
_MEANT: Final = frozenset(
    {
        "x-amz-checksum-algorithm",
        "x-amz-checksum-mode",
        "x-amz-checksum-type",
        "x-amz-content-sha256",
        "x-amz-copy-source",
        "x-amz-copy-source-if-match",
        "x-amz-copy-source-if-modified-since",
        "x-amz-copy-source-if-none-match",
        "x-amz-copy-source-if-unmodified-since",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-source-expected-bucket-owner",
        "x-amz-max-parts",
        "x-amz-metadata-directive",
        "x-amz-object-attributes",
        "x-amz-optional-object-attributes",
        "x-amz-part-number-marker",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token",
        "x-amz-trailer",
        "x-amz-user-agent",
        "x-amz-bypass-governance-retention",
    }
)
"""What this door reads, and what changes nothing here: it names no cost, no attribute."""
_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "x-amz-api-version": frozenset({"2006-03-01"}),  # what the SDK for C++ sends
    "x-amz-acl": frozenset({"private", "bucket-owner-full-control"}),
    "x-amz-storage-class": frozenset({"STANDARD"}),
    "x-amz-tagging-directive": frozenset({"COPY", "REPLACE"}),
    "x-amz-object-ownership": frozenset({"BucketOwnerEnforced"}),
    "x-amz-transition-default-minimum-object-size": frozenset({"all_storage_classes_128K"}),
}
"""Headers of which some values ask for what is so anyway."""

_OF_OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "CreateBucket": frozenset({"x-amz-bucket-object-lock-enabled", "x-amz-object-ownership"}),
    "CompleteMultipartUpload": frozenset({"x-amz-mp-object-size"}),
    "DeleteObject": frozenset({"x-amz-if-match-last-modified-time", "x-amz-if-match-size"}),
    "CopyObject": frozenset({"x-amz-tagging", REDIRECT}) | LOCK,
    "CreateMultipartUpload": frozenset({"x-amz-tagging", REDIRECT}) | LOCK,
    "PostObject": frozenset({REDIRECT}) | LOCK,
    "PutBucketNotificationConfiguration": frozenset({"x-amz-skip-destination-validation"}),
    "PutObject": frozenset({"x-amz-tagging", REDIRECT}) | LOCK,
    "PutObjectLockConfiguration": frozenset({"x-amz-bucket-object-lock-token"}),
    "RenameObject": frozenset(
        {
            "x-amz-client-token",
            "x-amz-rename-source",
            "x-amz-rename-source-if-match",
            "x-amz-rename-source-if-modified-since",
            "x-amz-rename-source-if-none-match",
            "x-amz-rename-source-if-unmodified-since",
        }
    ),
    "UploadPartCopy": frozenset({"x-amz-copy-source-range"}),
}
"""Headers that only some operations read."""


def refuse_unknown(headers: Iterable[tuple[str, str]], operation: str = "") -> None:
    """Refuse what would mean something that this door does not do.

    Args:
        headers: of the request, names in any case.
        operation: what it asks for.

    Raises:
        S3Error: ``NotImplemented``, or ``InvalidStorageClass``.
    """
    only = _OF_OPERATIONS.get(operation, frozenset())
    only |= sse_headers(operation)
    if operation in TAKE_ACLS:
        only |= {"x-amz-acl"}
    for word, value in headers:
        name = word.lower()
        if not name.startswith("x-amz-") or name in _MEANT or name in BY_HEADER:
            continue
        if name.startswith(META) or value in _ONLY.get(name, ()) or name in only:
            continue
        if name == "x-amz-storage-class":
            raise S3Error("InvalidStorageClass", StorageClassRequested=value)
        raise S3Error("NotImplemented", Header=name)


def kept_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What a version keeps of a request: standard headers and the user's metadata.

    Args:
        headers: of the request, names in any case.

    Raises:
        S3Error: more than a version keeps, or what no answer can tell, as fields of forms may be.
    """
    kept: dict[str, str] = {}
    for word, value in headers:
        name = word.lower()
        if name in _KEPT or (name.startswith(META) and len(name) > len(META)):
            text = readable(value)
            if _CONTROL.search(text) or not _META_NAME.fullmatch(name):
                raise S3Error("InvalidArgument", ArgumentName=name)
            kept[name] = f"{kept[name]},{text}" if name in kept else text
        elif name == REDIRECT:
            kept[name] = checked(readable(value))
    encodings = [each.strip() for each in kept.get("content-encoding", "").split(",")]
    encodings = [each for each in encodings if each and each.lower() != "aws-chunked"]
    if encodings:
        kept["content-encoding"] = ",".join(encodings)
    else:
        kept.pop("content-encoding", None)
    sizes = {name: len(name.encode()) + len(value.encode()) for name, value in kept.items()}
    meta = sum(size - len(META) for name, size in sizes.items() if name.startswith(META))
    if meta > META_BYTES_MAX:
        raise S3Error("MetadataTooLarge", Size=str(meta), MaxSizeAllowed=str(META_BYTES_MAX))
    if sum(sizes.values()) > HEADERS_BYTES_MAX:
        raise S3Error("RequestHeaderSectionTooLarge", MaxSizeAllowed=str(HEADERS_BYTES_MAX))
    return kept


def copied_headers(
    version: Version, headers: Mapping[str, str], *, replaces: bool
) -> dict[str, str]:
    """What a copy keeps of its source, or of its request.

    Where a website sends whoever asks for the object is said anew in any case, as with S3.

    Args:
        version: the source.
        headers: of the request, by names in any case.
        replaces: whether it says all that the copy shall keep.

    Raises:
        S3Error: the request says what cannot be kept.
    """
    if replaces:
        return kept_headers(headers.items())
    kept = {name: value for name, value in version.headers.items() if name != REDIRECT}
    if REDIRECT in headers:
        kept |= kept_headers([(REDIRECT, headers[REDIRECT])])
    return kept


def readable(value: str) -> str:
    """A header's value as text: bytes that are no UTF-8 are taken for Latin-1."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def told_headers(
    version: Version, part: tuple[int, int] | None = None, *, checksums: bool = False
) -> dict[str, str]:
    """What an answer tells of a version.

    Args:
        version: what the name holds.
        part: first byte and the byte after the last one, if not all are asked for.
        checksums: whether the checksums of the whole object are asked for.
    """
    told = {
        "ETag": f'"{version.etag}"',
        "Last-Modified": http_date(version.created_ms),
        "Accept-Ranges": "bytes",
        "Content-Type": DEFAULT_TYPE,
    }
    for name, value in version.headers.items():
        told[name if name.startswith(_OURS) else name.title()] = sendable(value)
    told |= told_encryption(version.encryption)
    if version.tags:
        told["x-amz-tagging-count"] = str(len(version.tags))
    start, end = part or (0, version.size)
    if part is not None:
        if start < end:  # an empty part is no range of bytes
            told["Content-Range"] = f"bytes {start}-{end - 1}/{version.size}"
    elif checksums and version.checksums:
        told |= checksum_headers(version)
    told["Content-Length"] = str(end - start)
    return told


def told_encryption(encryption: Encryption | None) -> dict[str, str]:
    """What an answer tells of how a version is encrypted, if that is with a key of the store."""
    return {SSE: ALGORITHM} if encryption is not None and encryption.key_id else {}


def checksum_headers(version: Version, part: Mapping[str, str] | None = None) -> dict[str, str]:
    """Checksums as headers.

    Args:
        version: whose.
        part: those of a part of it, by the names of their algorithms, instead of its own.
    """
    checksums = version.checksums if part is None else part
    if not checksums:
        return {}
    told = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
    return told | {"x-amz-checksum-type": checksum_type(version)}


def checksum_type(version: Version) -> str:
    """Whether the checksums are of all bytes, or of the checksums of parts."""
    parts = any("-" in value for value in version.checksums.values())
    return "COMPOSITE" if parts else "FULL_OBJECT"


def sendable(value: str) -> str:
    """A value as it can stand in a header: what is not ASCII is encoded as RFC 2047 has it."""
    if value.isascii():
        return value
    return f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="


def overrides(parameters: Mapping[str, str]) -> dict[str, str]:
    """The headers that a request wants instead of those of the version.

    Raises:
        S3Error: a value that cannot be a header.
    """
    wanted = {}
    for parameter, name in _OVERRIDES.items():
        value = parameters.get(parameter)
        if value is None:
            continue
        if any(char < " " or char == "\x7f" for char in value):
            raise S3Error("InvalidArgument", ArgumentName=parameter, ArgumentValue=value)
        wanted[name.title()] = sendable(value)
    return wanted
