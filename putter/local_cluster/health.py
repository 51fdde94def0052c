"""What a process of the cluster says on its web port."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final

import msgspec

from common.errors import Unavailable
from common.limits import MIB
from putter.client.status import StoreStatus

_ANSWER_S: Final = 3.0
_ANSWER_BYTES_MAX: Final = 4 * MIB
_REASON_CHARS_MAX: Final = 200


async def trouble_at(port: int) -> str:
    """Why the process behind a web port of this machine is not ready; "" if it is."""
    answer = await _get(port, "/readyz")
    if answer is None:
        return "no answer yet"
    status, body = answer
    if status == HTTPStatus.OK:
        return ""
    return " ".join(body.decode(errors="replace").split())[:_REASON_CHARS_MAX] or "not ready"


async def status_at(port: int) -> StoreStatus | None:
    """How a router sees the cluster; None if it does not tell."""
    answer = await _get(port, "/status")
    if answer is None or answer[0] != HTTPStatus.OK:
        return None
    try:
        return msgspec.json.decode(answer[1], type=StoreStatus)
    except msgspec.MsgspecError:
        return None


async def first_key_at(port: int) -> bytes:
    """The first access key of a new store as JSON (`common.pairs.Pair`); empty for none.

    Raises:
        Unavailable: the router behind a web port of this machine did not make one.
    """
    answer = await _ask(port, "PUT", "/keys/first")
    if answer is None or answer[0] not in (HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
        raise Unavailable(f"no answer at port {port}" if answer is None else f"{answer[0]}")
    return answer[1]


async def _get(port: int, path: str) -> tuple[int, bytes] | None:
    return await _ask(port, "GET", path)


async def _ask(port: int, method: str, path: str) -> tuple[int, bytes] | None:
    """Status and body of an answer; None if there is none in time."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            answer = await _exchange(port, method, path)
    except OSError:
        return None  # a time-out, too
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdigit() else None


async def _exchange(port: int, method: str, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        length = "" if method == "GET" else "Content-Length: 0\r\n"
        request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}"
        writer.write(f"{request}Connection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _ANSWER_BYTES_MAX and (more := await reader.read(MIB)):
            answer += more
        return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
