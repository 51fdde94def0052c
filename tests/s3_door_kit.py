"""The S3 door without a socket: bytes in, bytes out, on virtual time, with a store behind it.

`open_door` gives a door whose loop stands still between questions, so that one of them serves all
examples of a property test. Whatever the door logs of a request that failed unexpectedly, and any
error that nobody awaited, ends the test.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from structlog.testing import capture_logs

from common.web_port import WebPort
from router.access_keys import Wanted
from router.doors import Doors
from tests.node_kit import RING
from tests.router_kit import Store
from tests.s3_kit import KEY_ID, SECRET, UNSIGNED, Signer, Told
from tests.simulation.loop import VirtualClock, VirtualLoop, World

T = TypeVar("T")
ANSWER_S: Final = 3_600.0
"""Virtual seconds in which an answer comes; silent clients are given up long before."""


class Wire(asyncio.Transport):
    """The door's end of a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = bytearray()
        self.ended = False
        self.held = False

    def write(self, data: Any) -> None:
        if not self.ended:
            self.sent += data

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.held = True

    def resume_reading(self) -> None:
        self.held = False


@dataclass
class S3Door:
    """A door, and the store behind it.

    Attributes:
        loop: on which everything runs.
        store: what is behind.
        port: that is asked.
        failures: of requests that failed unexpectedly, and errors that nobody heard.
    """

    loop: VirtualLoop
    store: Store
    port: WebPort
    failures: list[Any] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the loop do this; what went wrong beside it is an error."""
        self.loop.extend(2 * ANSWER_S)
        with capture_logs() as logged:
            result = self.loop.run_until_complete(work)
        self.failures += [each for each in logged if "exception" in each or "exc_info" in each]
        failures, self.failures[:] = [*self.failures], []
        assert not failures, failures
        return result

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str = UNSIGNED,
    ) -> Told:
        """A signed request, and its answer."""
        sent = self.request(method, path, body, headers, payload=payload)
        return told(self.raw(sent), method)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str = UNSIGNED,
    ) -> bytes:
        """The bytes of a signed request."""
        every, _ = self.signer.signed(method, path, headers, payload=payload)
        return head_of(method, path, every, body) + body

    @property
    def signer(self) -> Signer:
        """Signs with the time of the loop."""
        now_s = self.store.world.clock.now_ms() / 1000
        return Signer(5003, offset_s=now_s - time.time())

    def raw(self, *pieces: bytes) -> bytes:
        """All that is answered to these bytes, after which the client says nothing more."""
        return self.run(self._raw(pieces))

    async def _raw(self, pieces: Sequence[bytes]) -> bytes:
        wire = Wire()
        application = self.port._runner.server
        assert application is not None
        connection = self.port._connect(application, self.port._connections, self.loop)
        connection.connection_made(wire)
        gone = False
        for piece in pieces:
            while wire.held and not wire.ended:
                await asyncio.sleep(0.001)
            if not wire.ended:
                connection.data_received(piece)
            await asyncio.sleep(0)
        while wire.held and not wire.ended:
            await asyncio.sleep(0.001)
        if not wire.ended:
            gone = not connection.eof_received()
        async with asyncio.timeout(ANSWER_S):
            while not (gone or wire.ended):
                await asyncio.sleep(0.01)
        connection.connection_lost(None)
        await asyncio.sleep(0.001)
        return bytes(wire.sent)


def head_of(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The head of a request, with the length of its body unless it says how that ends."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    given = {name.lower() for name in headers}
    if not given & {"content-length", "transfer-encoding"} and (body or method in {"PUT", "POST"}):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def told(raw: bytes, method: str = "") -> Told:
    """The only answer in these bytes."""
    found = answers(raw, method)
    assert len(found) == 1, raw
    return found[0]


def answers(raw: bytes, method: str = "") -> list[Told]:
    """The answers in these bytes to requests of a method, each as HTTP wants it."""
    found = []
    while raw:
        head, blank, raw = raw.partition(b"\r\n\r\n")
        assert blank, head
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/(?:0\.9|1\.[01]) ([1-5]\d\d) [ -~]*", first)
        assert match, first
        pairs = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in pairs}
        assert len(headers) == len(pairs), head
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            size = 1
            while size:
                line, _, raw = raw.partition(b"\r\n")
                size = int(line, 16)
                body += raw[:size]
                assert raw[size : size + 2] == b"\r\n"
                raw = raw[size + 2 :]
        else:
            size = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
            body, raw = raw[:size], raw[size:]
            assert len(body) == size
        found.append(Told(int(match[1]), headers, body))
    return found


def refused(answer: Told) -> bool:
    """Whether this is a refusal; one is told as S3 does, and is never a mistake of ours."""
    if answer.status < 400:
        return False
    assert answer.status < 500 or answer.status in {501, 503}, answer
    if answer.body:
        code = re.search(rb"<Error><Code>([A-Za-z0-9]+)</Code>", answer.body)
        assert code, answer
        assert code[1] != b"InternalError", answer
    return True


class _Heard(logging.Handler):
    """What the libraries below the door say of their own mistakes."""

    def __init__(self, heard: list[Any]) -> None:
        super().__init__(logging.ERROR)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())


@contextmanager
def open_door(putters: int = 1, **options: Any) -> Iterator[S3Door]:
    """A door that answers; nothing of it is left afterwards."""
    loop = VirtualLoop()
    state = random.getstate()
    heard: list[Any] = []
    hearing = _Heard(heard)
    logging.getLogger("aiohttp").addHandler(hearing)
    try:
        started_ms = time.time_ns() // 1_000_000  # so that what others sign counts here too
        world = World(random.Random(1), VirtualClock(loop, started_ms), loop)
        loop.set_exception_handler(lambda _, context: heard.append(context))
        made = loop.run_until_complete(_open(world, putters, options))
        made.failures = heard
        yield made
        made.run(_close(made))
    finally:
        loop.extend(ANSWER_S)
        left = loop.tasks()
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        random.setstate(state)
        loop.close()
        logging.getLogger("aiohttp").removeHandler(hearing)


async def _open(world: World, putters: int, options: dict[str, Any]) -> S3Door:
    store = await Store(world, putters, **options).start()
    await store.router.access_keys.create(Wanted(KEY_ID, SECRET))
    port = Doors(store.router, store.meta, RING, world.clock, None, str, "")._make_s3()
    await port._runner.setup()
    return S3Door(world.loop, store, port)


async def _close(door: S3Door) -> None:
    await door.port.stop()
    await door.store.stop()
