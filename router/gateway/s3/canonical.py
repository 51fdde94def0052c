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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM: Final = "AWS4-HMAC-SHA256"

_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._~]*")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9\-._~/]+")
_BLANKS: Final = re.compile(r"[ \t\r\n]+")


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

    def values(self, name: str) -> list[str]:
        """The values of one header, by its name in lower case."""
        return [value for key, value in self.headers if key.lower() == name]


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


def canonical_headers(headers: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """The lines of the signed headers; one that the request lacks has an empty value."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for key, value in headers:
        values = found.get(key.lower())
        if values is not None:
            values.append(_BLANKS.sub(" ", value).strip(" "))
    return "".join(f"{name}:{','.join(found[name])}\n" for name in names)


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
        f"{canonical_headers(request.headers, signed_headers)}\n"
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


def _recoded(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return encoded(unquote_to_bytes(_octets(text.replace("+", " "))))


def _octets(text: str) -> bytes:
    # The servers decode header bytes that are not UTF-8 to lone surrogates: back to those bytes.
    return text.encode("utf-8", "surrogateescape")
