"""One kept connection to the web door, and the seam where HTTP's errors become the store's.

The connection is opened with the first request, kept between requests, and opened anew when the
router closed it meanwhile. Nothing else in the client knows `http.client`.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from common import errors
from common.errors import ProtocolError, PutterError, Unavailable, UsageError
from putter.client.signing import Signer

DEFAULT_URL: Final = "http://127.0.0.1:5004"
CHUNK_BYTES: Final = 1024 * 1024
ERROR_BYTES_MAX: Final = 64 * 1024
"""Of the body of an error, no more is read."""

Body = bytes | Iterable[bytes] | None


class Response(Protocol):
    """The part of `http.client.HTTPResponse` that is used."""

    status: int
    reason: str

    def read(self, amt: int | None = None, /) -> bytes:
        """At most ``amt`` bytes of the body; empty at its end."""
        ...

    def getheaders(self) -> list[tuple[str, str]]:
        """All header fields."""
        ...

    def close(self) -> None:
        """Give up the rest of the body."""
        ...


class Connection(Protocol):
    """The part of `http.client.HTTPConnection` that is used."""

    def request(
        self,
        method: str,
        url: str,
        body: Body = None,
        headers: Mapping[str, str] = ...,
        *,
        encode_chunked: bool = False,
    ) -> None:
        """Send one request."""
        ...

    def getresponse(self) -> Response:
        """The head of the answer."""
        ...

    def close(self) -> None:
        """Close the socket."""
        ...


Connect = Callable[[], Connection]


@dataclass(frozen=True)
class Answer:
    """The head of a good answer, and its body still to be read."""

    status: int
    headers: Mapping[str, str]
    body: Response


class _ErrorBody(msgspec.Struct):
    code: str
    message: str
    hint: str = ""
    request_id: str = ""


def connector(url: str, timeout_s: float, tls_ca: Path | None = None) -> Connect:
    """What opens connections to a web door.

    Args:
        url: ``http://host:port`` or ``https://host:port``, without a path.
        timeout_s: patience of each read and write on the socket.
        tls_ca: file of the authorities that an ``https`` store's certificate may come from; the
            system's if None.

    Raises:
        UsageError: the URL is none of that kind.
        SettingInvalid: the file of authorities cannot be used.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not the URL of a store: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query:
        raise UsageError(f"{url!r} is not the URL of a store", hint=f"it looks like {DEFAULT_URL}")
    if parts.scheme == "http":
        return lambda: http.client.HTTPConnection(host, port, timeout=timeout_s)
    from common.certificates import web_client

    context = web_client(tls_ca)
    return lambda: http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


class Exchange:
    """Sends requests one after the other. Not for use by several threads at once."""

    def __init__(
        self, url: str, connect: Connect, token: str | None, signer: Signer | None = None
    ) -> None:
        self._url = url
        self._connect = connect
        self._token = token
        self._signer = signer
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Answer:
        """Send a request and read the head of its answer.

        A kept connection may have been closed by the router meanwhile; a request that can be
        repeated without a difference is then sent once more on a new one. Any other request gets
        a new connection from the start.

        Args:
            method: HTTP method.
            path: path and query, percent-encoded.
            headers: more header fields. With a stream as body either ``Content-Length`` is among
                them or the body goes in chunks.
            body: what to send.

        Raises:
            PutterError: the error that the router answered.
            Unavailable: there was no answer.
            UsageError: a header field that HTTP cannot carry.
        """
        fields = dict(headers or {})
        if self._signer is not None:
            ours = {name: value for name, value in fields.items() if name.startswith("X-Putter-")}
            fields |= self._signer.sign(method, path, _host(self._url), datetime.now(UTC), ours)
        elif self._token is not None:
            fields["Authorization"] = f"Bearer {self._token}"
        streamed = body is not None and not isinstance(body, bytes)
        if streamed and "Content-Length" not in fields:
            fields["Transfer-Encoding"] = "chunked"
        if streamed or method == "DELETE" or not _CONDITIONS.isdisjoint(fields):
            self.close()
        kept = self._connection is not None
        try:
            try:
                response = self._attempt(method, path, fields, body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not kept:
                    raise
                response = self._attempt(method, path, fields, body)
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(error) from error
        return self._checked(method, path, response)

    def text(self, answer: Answer, size_max: int) -> bytes:
        """The body of a short answer, as a whole.

        Raises:
            ProtocolError: it is longer than ``size_max``.
        """
        parts: list[bytes] = []
        left = size_max + 1
        while left and (part := self.read(answer.body, left)):
            parts.append(part)
            left -= len(part)
        if not left:
            self.close()
            raise ProtocolError(f"{self._url} answered with more than {size_max} bytes")
        return b"".join(parts)

    def read(self, body: Response, count: int) -> bytes:
        """The next bytes of an answer, ``count`` or fewer; empty at the end.

        Raises:
            Unavailable: the connection broke.
        """
        try:
            return body.read(count)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unavailable(error) from error

    def _attempt(self, method: str, path: str, fields: dict[str, str], body: Body) -> Response:
        self._connection = connection = self._connection or self._connect()
        chunked = "Transfer-Encoding" in fields
        try:
            # A router that refuses answers before it has taken the whole body, and hangs up.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, fields, encode_chunked=chunked)
            return connection.getresponse()
        except ssl.SSLError:  # one kind of it is a ValueError, too
            self.close()
            raise
        except ValueError as error:
            self.close()
            raise UsageError(f"HTTP cannot carry this request: {error}") from error
        except BaseException:
            # Half a request may have been sent, so this connection is of no more use.
            self.close()
            raise

    def _checked(self, method: str, path: str, response: Response) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers, response)
        if 200 <= response.status < 300:
            return answer
        body = b"" if method == "HEAD" else self.text(answer, ERROR_BYTES_MAX)
        fallback = f"{self._url} answered {response.status} {response.reason} to {method} {path}"
        raise error_from_answer(response.status, body, fallback)

    def _unavailable(self, error: Exception) -> PutterError:
        if isinstance(error, ssl.SSLError):
            from common.tls_ports import tls_error

            return tls_error(error, self._url)
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(
                f"nothing listens at {self._url}",
                hint="start a store with `putter router`, or name another one with --url",
            )
        if isinstance(error, TimeoutError):
            return Unavailable(f"{self._url} did not answer in time")
        return Unavailable(f"no answer from {self._url}: {error or type(error).__name__}")


def _host(url: str) -> str:
    """What the Host header says: without the port where it is the usual one."""
    parts = urlsplit(url)
    usual = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}[parts.scheme]
    name = parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    return name if parts.port in (None, usual) else f"{name}:{parts.port}"


def error_from_answer(status: int, body: bytes, fallback: str) -> PutterError:
    """The exception for an answer that is an error.

    Args:
        status: HTTP status.
        body: JSON ``{code, message, hint, request_id}``, or whatever else came.
        fallback: the message if the body is something else.
    """
    try:
        told = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _BY_HTTP.get(status, PutterError)(fallback)
    kind = _BY_CODE.get(told.code) or _BY_HTTP.get(status, PutterError)
    error = kind(told.message, hint=told.hint)
    error.request_id = told.request_id
    return error


def _kinds(base: type[PutterError]) -> Iterator[type[PutterError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


_CONDITIONS: Final = frozenset({"If-Match", "If-None-Match"})
_BY_CODE: Final[Mapping[str, type[PutterError]]] = {
    kind.code: kind for kind in _kinds(PutterError) if kind.__module__ == errors.__name__
}
_BY_HTTP: Final[Mapping[int, type[PutterError]]] = {
    400: UsageError,
    401: errors.NotAuthorised,
    403: errors.NotAuthorised,
    404: errors.NotFound,
    409: errors.ObjectGone,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    416: errors.RangeInvalid,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: errors.NoSpace,
}
