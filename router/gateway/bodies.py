"""Small bodies of requests, which are read as a whole."""

from __future__ import annotations

from aiohttp import web

from common.errors import TooLarge


async def small_body(request: web.Request, bytes_max: int, what: str) -> bytes:
    """All of a body.

    Args:
        request: whose.
        bytes_max: how much it may be.
        what: it holds, for people, in the plural.

    Raises:
        TooLarge: it is more.
    """
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > bytes_max:
            raise TooLarge(f"{what} have at most {bytes_max} bytes")
    return bytes(body)
