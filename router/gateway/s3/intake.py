"""The body of a request: received, decoded, counted and held to what was announced of it.

Nothing is held but what is being hashed. The end of the bytes is told to the write path only when
they turned out to be what the headers, the signature and the trailer say: else the write fails, as
if the client had gone, and nothing of it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from common.limits import OBJECT_BYTES_MAX
from common.metrics import Metrics
from router.gateway.s3 import checksums
from router.gateway.s3.announced import Announced, Found, announced, expected_trailers
from router.gateway.s3.aws_chunked import AwsChunked
from router.gateway.s3.checksums import Buffer
from router.gateway.s3.failures import S3Error
from router.gateway.s3.hashing import Hashing
from router.gateway.s3.sigv4 import Verified
from router.targets import Sealed

_DIGITS_MAX: Final = 15
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class Framing:
    """How the bytes of a body come.

    Attributes:
        announced: what is said of their checksums.
        length: how many they are.
        decoder: takes them out of their chunks; None: they come as they are.
    """

    announced: Announced
    length: int
    decoder: AwsChunked | None


def framing(headers: Mapping[str, str], trailers: Sequence[str], verified: Verified) -> Framing:
    """Read what the headers of a request say of its body.

    Args:
        headers: by names in lower case.
        trailers: the values of ``x-amz-trailer``.
        verified: how the request's signature binds the body.

    Raises:
        S3Error: they contradict each other, or announce too much.
    """
    payload = verified.claim.payload
    names = expected_trailers(trailers)
    if names and not payload.chunked:
        raise S3Error("InvalidRequest", "x-amz-trailer without a chunked body means nothing")
    said = announced(headers, names)
    decoder: AwsChunked | None = None
    if payload.chunked:
        length = _length(headers.get("x-amz-decoded-content-length"))
        decoder = AwsChunked(payload, length, names, verified.chunks)
    elif "transfer-encoding" in headers:
        raise S3Error("NotImplemented", Header="Transfer-Encoding")
    else:
        length = _length(headers.get("content-length"))
    if length > OBJECT_BYTES_MAX:
        raise S3Error(
            "EntityTooLarge", ProposedSize=str(length), MaxSizeAllowed=str(OBJECT_BYTES_MAX)
        )
    return Framing(said, length, decoder)


class Body:
    """The body of one request.

    Args:
        request: whose.
        verified: how its signature binds it.
        metrics: counts its bytes.
        idle_ms: silence after which it fails.
        summed: whether checksums in its headers are the body's, and not an object's that it
            speaks of.

    Raises:
        S3Error: its headers contradict each other, or announce too much.
    """

    def __init__(
        self,
        request: web.Request,
        verified: Verified,
        metrics: Metrics,
        idle_ms: int,
        *,
        summed: bool = True,
    ) -> None:
        self._request = request
        self._idle_s = idle_ms / 1000
        self._count = metrics.ingest_bytes.labels("s3").inc
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not summed:
            headers = {n: value for n, value in headers.items() if n not in checksums.BY_HEADER}
        found = framing(headers, request.headers.getall("x-amz-trailer", []), verified)
        self.announced: Final = found.announced
        self.length: Final = found.length
        self._decoder = found.decoder
        self.trailers: dict[str, str] = {}

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        """The object's bytes as they come; they are all there when it ends.

        Raises:
            S3Error: it broke off, is longer or shorter than announced, or is framed wrongly.
        """
        await go_on(self._request)
        received = 0
        while chunk := await next_chunk(self._request, self._idle_s):
            self._count(len(chunk))
            pieces = [chunk] if self._decoder is None else self._decoder.feed(chunk)
            for piece in pieces:
                received += len(piece)
                yield piece
        if self._decoder is not None:
            self.trailers = self._decoder.finish()
        if received != self.length:
            raise S3Error("IncompleteBody")

    async def read(self, bytes_max: int) -> bytes:
        """All of a short body, such as a document.

        Raises:
            S3Error: it is longer, or not what was announced.
        """
        if self.length > bytes_max:
            raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=str(bytes_max))
        return b"".join([bytes(piece) async for piece in self.chunks()])


class Hashed:
    """The bytes of a body, hashed on their way.

    Args:
        chunks: the bytes.
        trailers: asked for what came behind them, once they have ended.
        hashing: computes their checksums.
    """

    def __init__(
        self,
        chunks: AsyncIterator[Buffer],
        trailers: Callable[[], Mapping[str, str]],
        hashing: Hashing,
    ) -> None:
        self._chunks = chunks
        self._trailers = trailers
        self._hashing = hashing
        self._found: Found | None = None

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        """The bytes; it ends only if they are what was announced.

        Raises:
            S3Error: they are not.
        """
        async for chunk in self._chunks:
            await self._hashing.feed(chunk)
            yield chunk
        self._found = await self._hashing.finish(self._trailers())

    def sealed(self) -> Sealed:
        """What the write path keeps of the checksums, once all bytes have come."""
        assert self._found is not None
        return sealed(self._found)


def sealed(found: Found) -> Sealed:
    """What the write path keeps of the checksums of a body.

    Args:
        found: what it turned out to have, its MD5 among them.
    """
    assert found.md5 is not None
    kept = {}
    if found.algorithm is not None and found.digest is not None:
        kept[found.algorithm.value.lower()] = checksums.encode(found.digest)
    return Sealed(checksums.etag(found.md5), kept)


async def go_on(request: web.Request) -> None:
    """Give a client that waits for it leave to send its body.

    Only when that is wanted: who may not come in, or asks for what cannot be, sends nothing in
    vain.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0


async def next_chunk(request: web.Request, idle_s: float) -> bytes:
    """The next bytes of a body; empty at its end.

    Raises:
        S3Error: there was silence for too long, or it broke off.
    """
    try:
        async with asyncio.timeout(idle_s):
            return await request.content.readany()
    except TimeoutError:
        raise S3Error("RequestTimeout") from None
    except (aiohttp.ClientPayloadError, web.RequestPayloadError, OSError) as error:
        raise S3Error("IncompleteBody") from error


def content_length(request: web.Request) -> int:
    """How long a body is said to be.

    Raises:
        S3Error: nothing is said, or no length.
    """
    return _length(request.headers.get("Content-Length"))


def _length(text: str | None) -> int:
    if text is None:
        raise S3Error("MissingContentLength")
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise S3Error("InvalidArgument", ArgumentName="Content-Length", ArgumentValue=text)
    return int(text)
