"""Bodies in the ``aws-chunked`` framing: bytes in, views of the data out.

```
body     = chunk* last-chunk [trailer*] CRLF
chunk    = hex-size [";chunk-signature=" 64 hex digits] CRLF data CRLF
last     = "0"      [";chunk-signature=" 64 hex digits] CRLF
trailer  = name ":" value CRLF
signed   : the last trailer is "x-amz-trailer-signature:" 64 hex digits
```

With signed chunks each size line has its signature; with a trailer the names that ``x-amz-trailer``
announced come once each. As in the reference's own example, a trailer may end in LF, or in LF CRLF,
and an extra CRLF may close the body.

The data of a chunk is handed out before its signature can be checked: nothing may become visible
before `AwsChunked.finish` returned.

(AWS: S3 API reference, "Transferring Payload in Multiple Chunks" and "Including Trailing
Headers".)
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NoReturn

from common.limits import S3_CHUNK_BYTES_MIN, S3_CHUNK_LINE_BYTES_MAX
from router.gateway.s3.chunk_signatures import ChunkSignatures
from router.gateway.s3.failures import S3Error
from router.gateway.s3.sigv4_claim import Payload

_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_SIGNATURE: Final = b"x-amz-trailer-signature"
_NOTHING: Final = sha256(b"").hexdigest()


class _Expects(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    END = enum.auto()


class AwsChunked:
    """Decodes one body. Any thread may feed it, one at a time.

    Args:
        payload: how the body is framed; one that is `Payload.chunked`.
        length: data bytes, as ``x-amz-decoded-content-length`` announced them.
        trailers: names of the trailers, in lower case.
        signatures: checks those of chunks and trailer; needed where they are signed.
    """

    def __init__(
        self,
        payload: Payload,
        length: int,
        trailers: Sequence[str] = (),
        signatures: ChunkSignatures | None = None,
    ) -> None:
        if not payload.chunked or (payload is Payload.CHUNKS_TRAILER) != (signatures is None):
            raise ValueError("signed chunks need a signature's chain, unsigned ones have none")
        self._trailing = payload is not Payload.CHUNKS_SIGNED
        self._signatures = signatures
        self._names = frozenset(trailers)
        self._length = length
        self._left = length
        self._expects = _Expects.SIZE
        self._line = bytearray()
        self._chunks = 0
        self._chunk_bytes = 0
        self._chunk_left = 0
        self._chunk_signature = b""
        self._chunk_hash = sha256()
        self._trailers: dict[str, str] = {}
        self._signed_lines = b""
        self._trailer_signature = b""

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """Take bytes of the body as they come.

        Args:
            data: any number of bytes.

        Returns:
            Views into ``data``, in their order: the object's bytes among them.

        Raises:
            S3Error: the framing is wrong, or a signature is; the body cannot be read on.
        """
        view = memoryview(data)
        found: list[memoryview] = []
        at = 0
        while at < len(view):
            if self._expects is _Expects.DATA:
                piece = view[at : at + self._chunk_left]
                at += len(piece)
                self._take(piece)
                found.append(piece)
                continue
            end = self._line_end(view, at)
            if end is None:
                break
            at = end
            line = bytes(self._line)
            self._line.clear()
            self._read(line)
        return found

    def finish(self) -> dict[str, str]:
        """The body is over.

        Returns:
            The trailers, by names in lower case.

        Raises:
            S3Error: it ended early.
        """
        if self._expects is not _Expects.END or self._line:
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly")
        return self._trailers

    def _line_end(self, view: memoryview, start: int) -> int | None:
        room = S3_CHUNK_LINE_BYTES_MAX - len(self._line)
        piece = bytes(view[start : start + room])
        end = piece.find(b"\n")
        if end >= 0:
            self._line += piece[: end + 1]
            return start + end + 1
        if len(piece) == room:
            _malformed("a line is too long")
        self._line += piece
        return None

    def _read(self, line: bytes) -> None:
        if self._expects is _Expects.TRAILER:
            self._read_trailer(line.rstrip(b"\r\n"))
            return
        if not line.endswith(b"\r\n"):
            _malformed("a line does not end in CR LF")
        line = line[:-2]
        if self._expects is _Expects.SIZE:
            self._read_size(line)
        elif line:
            _malformed("data goes on where it should end")
        elif self._expects is _Expects.DATA_END:
            self._expects = _Expects.END if self._chunk_bytes == 0 else _Expects.SIZE

    def _read_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if match is None or (match[2] is None) != (self._signatures is None):
            _malformed("a chunk's first line is not its size and signature")
        size = int(match[1], 16)
        if size and self._chunks and self._chunk_bytes < S3_CHUNK_BYTES_MIN:
            raise S3Error(
                "InvalidChunkSizeError",
                Chunk=str(self._chunks),
                BadChunkSize=str(self._chunk_bytes),
            )
        if size > self._left or (not size and self._left):
            raise S3Error(
                "IncompleteBody",
                "The chunks do not add up to what the x-amz-decoded-content-length header says",
            )
        self._chunks += 1
        self._chunk_bytes = self._chunk_left = size
        self._chunk_signature = match[2] or b""
        if size:
            self._expects = _Expects.DATA
            return
        self._check_chunk(_NOTHING)
        self._expects = _Expects.TRAILER if self._trailing else _Expects.DATA_END

    def _take(self, piece: memoryview) -> None:
        if self._signatures is not None:
            self._chunk_hash.update(piece)
        self._left -= len(piece)
        self._chunk_left -= len(piece)
        if not self._chunk_left:
            self._check_chunk(self._chunk_hash.hexdigest())
            self._chunk_hash = sha256()
            self._expects = _Expects.DATA_END

    def _check_chunk(self, digest: str) -> None:
        if self._signatures is not None:
            self._signatures.chunk(self._chunk_signature, digest)

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            signed = self._signatures is None or bool(self._trailer_signature)
            if signed and len(self._trailers) == len(self._names):
                self._expects = _Expects.END
                return
            # The line feed of the reference's example: one, between a trailer and the signature.
            if self._signed_lines and self._signatures is not None and not signed:
                return
            raise S3Error("MalformedTrailerError")
        name, colon, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if not colon or self._trailer_signature:
            raise S3Error("MalformedTrailerError")
        if name == _SIGNATURE and self._signatures is not None:
            self._signatures.trailer(value, self._signed_lines)
            self._trailer_signature = value
            return
        key = name.decode("latin-1")
        if key not in self._names or key in self._trailers:
            raise S3Error("MalformedTrailerError")
        self._signed_lines += name + b":" + value + b"\n"
        self._trailers[key] = value.decode("latin-1")


def _malformed(what: str) -> NoReturn:
    raise S3Error("InvalidRequest", f"The aws-chunked body is malformed: {what}")
