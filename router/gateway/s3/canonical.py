"""The canonical form of a request, which both sides of Signature Version 4 compute.

```
canonical request = method LF path LF query LF
                    (header ":" value LF)* LF signed-header-names LF payload-hash
string to sign    = "AWS4-HMAC-SHA256" LF timestamp LF scope LF hex(sha256(canonical request))
```

As S3 does it: the path is percent-encoded once and otherwise left alone (no segment is normalised
away), the query's parameters are sorted by their encoded names, then values, and header values are
trimmed with runs of blanks made one. (AWS: "Create a signed AWS API request", and the S3 API
reference, "Signature Calculations for the Authorization Header".)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM: Final = "AWS4-HMAC-SHA256"

_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._~]*")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9\-._~/]+")
_BLANK: Final = " \t\r\n"
_RUN: Final = re.compile(r"[\t\r\n][ \t\r\n]*| [ \t\r\n]+")
"""Of blanks, where it is not one blank already."""


@dataclass(frozen=True)
class SignedRequest:
    """What a signature covers beside the body.

    Attributes:
        method: in upper case.
        raw_path: the path as the request line has it, not decoded, without the query.
        raw_query: what followed the question mark, not decoded.
        headers: names (in any case) and values in the order of the request.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: Sequence[tuple[str, str]]

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[str]]:
        """The values of each header, by its name in lower case."""
        found: dict[str, list[str]] = {}
        for key, value in self.headers:
            found.setdefault(key.lower(), []).append(value)
        return found

    @cached_property
    def pairs(self) -> Sequence[tuple[str, str]]:
        """The parameters of the query, see `query_pairs`."""
        return query_pairs(self.raw_query)

    def values(self, name: str) -> Sequence[str]:
        """The values of one header, by its name in lower case."""
        return self.by_name.get(name, ())


def encoded(text: bytes, safe: str = "") -> str:
    """Percent-encode as RFC 3986: all but letters, digits, ``-._~`` and ``safe``."""
    return quote_from_bytes(text, safe)


def canonical_path(raw: str) -> str:
    """The path: decoded and encoded again, the slashes kept."""
    if _PLAIN_PATH.fullmatch(raw):
        return raw
    return encoded(unquote_to_bytes(_octets(raw)), "/") or "/"


def query_pairs(raw: str) -> list[tuple[str, str]]:
    """The parameters of a query in their order, each name and value encoded canonically.

    A ``+`` stands for a blank, as the clients that write one sign it.
    """
    pairs = []
    for item in raw.split("&"):
        if item:
            name, _, value = item.partition("=")
            pairs.append((_recoded(name), _recoded(value)))
    return pairs


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """The query of parameters that are encoded already."""
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_headers(headers: Mapping[str, Sequence[str]], names: Sequence[str]) -> str:
    """The lines of the signed headers; one that the request lacks has an empty value.

    Args:
        headers: values by names in lower case.
        names: of those that are signed.
    """
    lines = []
    for name in names:
        values = headers.get(name, ())
        text = _trimmed(values[0]) if len(values) == 1 else ",".join(map(_trimmed, values))
        lines.append(f"{name}:{text}\n")
    return "".join(lines)


def canonical_request(
    request: SignedRequest,
    pairs: Iterable[tuple[str, str]],
    signed_headers: Sequence[str],
    payload_hash: str,
) -> bytes:
    """The whole canonical request.

    Args:
        request: the request.
        pairs: its query parameters from `query_pairs`, without the signature.
        signed_headers: names in lower case, in the order of the signature.
        payload_hash: the text in the place of the body's hash.
    """
    return _octets(
        f"{request.method}\n{canonical_path(request.raw_path)}\n{canonical_query(pairs)}\n"
        f"{canonical_headers(request.by_name, signed_headers)}\n"
        f"{';'.join(signed_headers)}\n{payload_hash}"
    )


def string_to_sign(timestamp: str, scope: str, request: bytes) -> str:
    """What the signature signs.

    Args:
        timestamp: ``YYYYMMDDTHHMMSSZ``.
        scope: ``YYYYMMDD/region/s3/aws4_request``.
        request: the canonical request.
    """
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256(request).hexdigest()}"


def _trimmed(value: str) -> str:
    value = value.strip(_BLANK)
    return value if _RUN.search(value) is None else _RUN.sub(" ", value)


def _recoded(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return encoded(unquote_to_bytes(_octets(text.replace("+", " "))))


def _octets(text: str) -> bytes:
    # The servers decode header bytes that are not UTF-8 to lone surrogates: back to those bytes.
    return text.encode("utf-8", "surrogateescape")
