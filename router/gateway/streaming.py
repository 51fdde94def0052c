"""A version's bytes as the body of an answer."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from common import names
from common.errors import PutterError
from common.logs import get_logger
from router.lately import Found, Lately

_log = get_logger(__name__)


async def stream_version(
    request: web.Request,
    found: Found,
    span: tuple[int, int],
    status: int,
    headers: Mapping[str, str],
    lately: Lately,
) -> web.StreamResponse:
    """Answer with a part of what a name holds, as it is fetched.

    Args:
        request: what is answered.
        found: what the name holds.
        span: first byte, and the byte after the last one; at least one.
        status: of the answer.
        headers: of the answer; what the read itself has to say is added.
        lately: knows what is to say of an answer that is stale.

    Raises:
        PutterError: nothing was sent yet.
        ConnectionError: the client is gone, or was cut off since not all bytes can be read.
    """
    version, (start, end) = found.version, span
    runs = found.reads.runs(version, start, end)
    try:
        # Nothing is promised to the client before the first bytes are there and verified.
        first = await anext(runs)
        told = dict(headers) | lately.marks(found)
        told |= found.reads.looked_at(version, start, end, first)
        if first.size == end - start:
            return web.Response(body=b"".join(first.parts), status=status, headers=told)
        response = web.StreamResponse(status=status, headers=told)
        await response.prepare(request)
        for part in first.parts:
            await response.write(part)
        try:
            async for run in runs:
                for part in run.parts:
                    await response.write(part)
        except PutterError as error:
            # The status is sent already: a connection cut short of Content-Length is the
            # one way left to tell that the file is not complete.
            _log.error(
                "a download was cut",
                name=names.format_name(version.bucket, version.key),
                reason=str(error),
            )
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError(str(error)) from error
        await response.write_eof()
        return response
    finally:
        await runs.aclose()
