"""The short way of ``GET /file/{bucket}/{key}``: what most reads are, with the same answers.

It answers with bytes, or with an error of ours. What has no body (304, an empty file) and what is
rare (416, an access key) is left to `router.gateway.files`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from common import names
from common.checksum import Buffer
from common.errors import PreconditionFailed, PutterError, RangeInvalid
from common.logs import get_logger
from common.metrics import Metrics
from common.plain import Ask
from common.web import Door, count_answer, error_response, note_failure, unexpected
from common.web_lane import Outlet, head
from router.gateway.conditions import Representation, byte_range, check_read
from router.gateway.files import headers_of, name_of
from router.gateway.keyed_door import claims_key
from router.lately import Found, Lately

_log = get_logger(__name__)
_PREFIX: Final = "/file/"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class FileLane:
    """A `common.web_lane.Lane` for files.

    Args:
        lately: what names hold, or held.
        metrics: counters.
        door: lets requests in.
    """

    def __init__(self, lately: Lately, metrics: Metrics, door: Door) -> None:
        self._lately = lately
        self._metrics = metrics
        self._door = door

    def takes(self, path: str) -> bool:
        """Files, and nothing else."""
        return path.startswith(_PREFIX) and len(path) > len(_PREFIX)

    async def answer(self, ask: Ask, out: Outlet) -> bool:
        """Answer a GET; False if `FileRoutes` shall do it."""
        started = time.perf_counter()
        try:
            status = await self._get(ask, out)
        except PutterError as error:
            note_failure(error, ask.path)
            status = _send_whole(error_response(error), out)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the client gets an answer, the log the trace
            status = _send_whole(unexpected(error, ask.path), out)
        if status:
            count_answer(self._metrics, "GET", status, started)
        return status != 0

    async def _get(self, ask: Ask, out: Outlet) -> int:
        """The status of the answer; 0 if there is none."""
        if claims_key(ask.headers):
            return 0
        self._door.check(ask.headers)
        found = await self._lately.find(*name_of(ask.path))
        version, reads, age_s = found
        what = Representation(version.etag, version.created_ms, version.size)
        try:
            if not check_read(ask.headers, what):
                return 0
        except PreconditionFailed as error:
            raise found.undecided(error) from None
        try:
            wanted = byte_range(ask.headers, what)
        except RangeInvalid:
            return 0
        start, end = wanted or (0, version.size)
        if start == end:
            return 0
        status = 200 if wanted is None else 206
        headers = headers_of(version, wanted)
        piece = await reads.short(version, start, end)
        if age_s is not None:
            headers |= self._lately.marks(found)
        if piece is None:
            await self._stream(found, start, end, status, headers, out)
        else:
            try:
                if piece.replicas:
                    headers |= reads.looked_at(version, start, end, piece)
                out.send([head(status, _REASONS[status], headers), *piece.parts])
                await out.drain()
            finally:
                reads.give(piece)
        return status

    async def _stream(
        self,
        found: Found,
        start: int,
        end: int,
        status: int,
        headers: dict[str, str],
        out: Outlet,
    ) -> None:
        version = found.version
        runs = found.reads.runs(version, start, end)
        try:
            # Nothing is promised to the client before the first bytes are there and verified.
            first = await anext(runs)
            headers |= found.reads.looked_at(version, start, end, first)
            out.send([head(status, _REASONS[status], headers), *first.parts])
            await out.drain()
            try:
                async for run in runs:
                    out.send(run.parts)
                    await out.drain()
            except PutterError as error:
                # The status is sent already: a connection cut short of Content-Length is the
                # one way left to tell that the file is not complete.
                _log.error(
                    "a download was cut",
                    name=names.format_name(version.bucket, version.key),
                    reason=str(error),
                )
                out.abort()
                raise ConnectionResetError(str(error)) from error
        finally:
            await runs.aclose()


def _send_whole(response: web.Response, out: Outlet) -> int:
    body = response.body
    assert isinstance(body, bytes)
    headers = dict(response.headers)
    headers.setdefault("Content-Length", str(len(body)))
    parts: Sequence[Buffer] = [head(response.status, response.reason or "", headers), body]
    out.send(parts)
    return response.status
