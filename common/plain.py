"""Requests that leave nothing to interpretation, read from the bytes of a connection. Pure.

`plain` and `plain_begin` know requests that are as most clients write them, with headers from a
short list, each once: what a `common.web_lane` may answer. `request_bytes` tells of any other
request where the next one begins, as far as its head says that beyond doubt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.checksum import Buffer
from common.limits import KIB
from common.requests import REQUEST_ID_HEADER

HEAD_BYTES_MAX: Final = 2 * KIB
"""Of a plain request."""
BODY_BYTES_MAX: Final = 16 * KIB
"""Of a plain request."""
_END: Final = b"\r\n\r\n"
_PLAIN: Final = re.compile(
    rb"(GET|PUT) (/[0-9A-Za-z_~/-][0-9A-Za-z._~/-]*) HTTP/1\.1\r\n"
    rb"((?:[0-9A-Za-z-]+: *[!-~][ -~]*\r\n)+)\r\n"
)
_HOST: Final = re.compile(r"[0-9A-Za-z.:\[\]-]+")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,6}")
_LENGTH: Final = "Content-Length"
_LENGTH_LINE: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,15}) *\r\n")
_UNCLEAR: Final = (b"\r\ntransfer-encoding", b"\r\nupgrade", b"\r\n ", b"\r\n\t")
PLAIN_HEADERS: Final[Mapping[str, str]] = {
    name.lower(): name
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Host",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "If-Unmodified-Since",
        "Pragma",
        "Range",
        "User-Agent",
        REQUEST_ID_HEADER,
    )
}
"""What a plain GET may have, by names in lower case: nothing that changes how it is read."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A plain request.

    Attributes:
        path: as in the request line; nothing in it needs decoding, and it has no query.
        headers: by their usual names, each once.
        body: of a PUT, whole.
    """

    path: str
    headers: Mapping[str, str]
    body: Buffer | None = None

    @property
    def method(self) -> str:
        """GET, or PUT where there is a body, be it empty."""
        return "GET" if self.body is None else "PUT"


@dataclass(frozen=True, slots=True)
class Puts:
    """Which PUTs are plain.

    Attributes:
        names: of the headers that they may have, by their names in lower case.
        prefix: of further ones, in lower case; they keep their names in lower case.
    """

    names: Mapping[str, str]
    prefix: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A plain PUT whose head is there.

    Attributes:
        ask: what it is, but for its body.
        head_bytes: where the body begins.
        whole_bytes: where it ends.
    """

    ask: Ask
    head_bytes: int
    whole_bytes: int

    def whole(self, data: bytes) -> Ask:
        """The request, once so many bytes of it are there; its body is a view of them."""
        body = memoryview(data)[self.head_bytes : self.whole_bytes]
        return Ask(self.ask.path, self.ask.headers, body)


def plain(data: bytes, names: Mapping[str, str] = PLAIN_HEADERS) -> Ask | None:
    """The GET that these bytes are, if they are exactly one and a plain one.

    Args:
        data: as received.
        names: of the headers that it may have, by their names in lower case.
    """
    if len(data) > HEAD_BYTES_MAX:
        return None
    match = _PLAIN.fullmatch(data)
    if match is None or match[1] != b"GET":
        return None
    return _ask(match, names)


def plain_begin(data: bytes, puts: Puts) -> Begun | None:
    """The PUT that these bytes are, or begin, if it is a plain one and nothing is behind it.

    Args:
        data: as received.
        puts: which are plain.
    """
    match = _PLAIN.match(data, 0, HEAD_BYTES_MAX)
    if match is None or match[1] != b"PUT":
        return None
    ask = _ask(match, puts.names, puts.prefix)
    if ask is None:
        return None
    text = ask.headers.get(_LENGTH, "")
    if not _SIZE.fullmatch(text) or int(text) > BODY_BYTES_MAX:
        return None
    whole_bytes = match.end() + int(text)
    if len(data) > whole_bytes:
        return None
    return Begun(ask, match.end(), whole_bytes)


def request_bytes(data: bytes) -> int | None:
    """How many bytes the request has that begins here, if its head says so beyond doubt.

    Args:
        data: the first bytes of a request, or more than all of it.
    """
    end = data.find(_END)
    if end == -1:
        return None
    end += len(_END)
    head = data[:end].lower()
    if head.count(b"\n") != head.count(b"\r\n") or any(each in head for each in _UNCLEAR):
        return None
    lengths = head.count(b"\r\ncontent-length")
    if not lengths:
        return end
    match = _LENGTH_LINE.search(head)
    return end + int(match[1]) if lengths == 1 and match is not None else None


def _ask(match: re.Match[bytes], names: Mapping[str, str], prefix: str = "") -> Ask | None:
    path = match[2].decode()
    if "/." in path:
        return None
    headers: dict[str, str] = {}
    for line in match[3].decode().split("\r\n")[:-1]:
        word, _, value = line.partition(":")
        word = word.lower()
        name = names.get(word)
        if name is None:
            if not prefix or not word.startswith(prefix):
                return None
            name = word
        if name in headers:
            return None
        headers[name] = value.strip(" ")
    if headers.get("Connection", "keep-alive").lower() != "keep-alive":
        return None
    if not _HOST.fullmatch(headers.get("Host", "")):
        return None
    return Ask(path, headers)
