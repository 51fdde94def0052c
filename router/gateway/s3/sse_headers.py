"""Names of the headers about encryption, and the operations that read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SSE: Final = "x-amz-server-side-encryption"
CUSTOMER: Final = f"{SSE}-customer"
SOURCE_CUSTOMER: Final = "x-amz-copy-source-server-side-encryption-customer"
ALGORITHM: Final = "AES256"
KMS: Final = frozenset({"aws:kms", "aws:kms:dsse"})

_OBJECTS: Final = frozenset({"CopyObject", "CreateMultipartUpload", "PostObject", "PutObject"})
_WITH_KEY: Final = _OBJECTS | {
    "CompleteMultipartUpload",
    "GetObject",
    "GetObjectAttributes",
    "HeadObject",
    "ListParts",
    "UploadPart",
    "UploadPartCopy",
}
_COPIES: Final = frozenset({"CopyObject", "UploadPartCopy"})
_NO_HEADERS: Final[frozenset[str]] = frozenset()


def is_about_encryption(name: str) -> bool:
    """Whether a parameter of a query would be one of these headers; it would count nowhere."""
    return name.lower().startswith((SSE, SOURCE_CUSTOMER))


def asked_for(given: Mapping[str, str]) -> dict[str, str]:
    """What policies may ask about the encryption of what a request writes, by names of headers.

    Args:
        given: its headers, or the fields of a form.
    """
    return {name: given[name] for name in (SSE, f"{CUSTOMER}-algorithm") if name in given}


def _of_key(prefix: str) -> frozenset[str]:
    return frozenset({f"{prefix}-algorithm", f"{prefix}-key", f"{prefix}-key-md5"})


_CUSTOMERS: Final = _of_key(CUSTOMER)
_SOURCES: Final = _of_key(SOURCE_CUSTOMER)


def sse_headers(operation: str) -> frozenset[str]:
    """The headers about encryption that an operation reads, in lower case."""
    own = frozenset({SSE}) if operation in _OBJECTS else _NO_HEADERS
    customers = _CUSTOMERS if operation in _WITH_KEY else _NO_HEADERS
    return own | customers | (_SOURCES if operation in _COPIES else _NO_HEADERS)
