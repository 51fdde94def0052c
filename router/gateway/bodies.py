"""Small bodies of requests, which are read as a whole."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from aiohttp import web

from common.errors import ProtocolError, TooLarge

BODY_SHA256: Final = web.RequestKey("body sha256", str)
"""Where a request has the hex digest that its body must have; without one, any will do."""


class SignedBody:
    """Holds a body to what was signed, while it comes.

    Args:
        request: whose.
    """

    def __init__(self, request: web.Request) -> None:
        self._wanted: str | None = request.get(BODY_SHA256)
        self._hash = sha256()

    def update(self, data: bytes) -> None:
        """More of it."""
        if self._wanted is not None:
            self._hash.update(data)

    def finish(self) -> None:
        """That was all.

        Raises:
            ProtocolError: it is another one.
        """
        if self._wanted is not None and self._hash.hexdigest() != self._wanted:
            raise ProtocolError("the body is not the one that was signed")


async def small_body(request: web.Request, bytes_max: int, what: str) -> bytes:
    """All of a body.

    Args:
        request: whose.
        bytes_max: how much it may be.
        what: it holds, for people, in the plural.

    Raises:
        TooLarge: it is more.
        ProtocolError: it is not the one that was signed.
    """
    signed = SignedBody(request)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise TooLarge(f"{what} have at most {bytes_max} bytes")
    signed.update(bytes(body))
    signed.finish()
    return bytes(body)
