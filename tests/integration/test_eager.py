"""A listener that reads at once: its edges. `tests/contract/test_transport.py` has the rest."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from common import eager
from common.eager import EagerServer, EagerTransport
from tests.simulation.recorder import BufferedRecorder, Recorder

Scene = Callable[[socket.socket, Any], Awaitable[None]]


def with_pair(scene: Scene, kind: Callable[[], Any] = BufferedRecorder) -> None:
    """One end as a plain socket, the other with its protocol."""

    async def main() -> None:
        here, there = socket.socketpair()
        protocol = kind()
        there.setblocking(False)
        protocol.through = EagerTransport(
            asyncio.get_running_loop(), there, ("10.0.0.7", 1), protocol
        )
        try:
            async with asyncio.timeout(20):
                await scene(here, protocol)
        finally:
            here.close()
            protocol.through.abort()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_whole_stream_is_heard_in_one_turn() -> None:
    async def scene(here: socket.socket, protocol: Any) -> None:
        here.sendall(b"all of it")
        here.shutdown(socket.SHUT_WR)
        protocol.through.begin()
        assert protocol.events == ["made", "bytes", "eof"]
        assert bytes(protocol.received) == b"all of it"
        assert protocol.through.get_extra_info("peername") == ("10.0.0.7", 1)

    with_pair(scene)


def test_an_answer_leaves_at_once_and_the_connection_is_gone() -> None:
    async def scene(here: socket.socket, protocol: Any) -> None:
        here.shutdown(socket.SHUT_WR)
        protocol.through.begin()
        protocol.through.write(b"answer")
        protocol.through.close()
        assert here.recv(100) == b"answer"
        assert here.recv(100) == b""
        assert await protocol.lost is None
        assert protocol.through.get_extra_info("socket", "none") == "none"

    with_pair(scene)


def test_nothing_is_read_from_who_says_so_when_it_is_made() -> None:
    class Careful(BufferedRecorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def scene(here: socket.socket, protocol: Any) -> None:
        here.sendall(b"bytes")
        protocol.through.begin()
        await asyncio.sleep(0)
        assert protocol.events == ["made"]
        protocol.through.resume_reading()
        assert await protocol.has(5) == b"bytes"

    with_pair(scene, Careful)


def test_one_that_sends_much_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "_READ_BYTES", 1000)

    async def scene(here: socket.socket, protocol: Any) -> None:
        here.sendall(bytes(20_000))
        protocol.through.begin()
        assert len(protocol.received) == 4000
        assert await protocol.has(20_000) == bytes(20_000)

    with_pair(scene, Recorder)


@pytest.mark.parametrize(
    "broken", ["connection_made", "buffer_updated", "eof_received", "resume_writing"]
)
def test_a_protocol_that_fails_ends_its_connection_and_is_told(broken: str) -> None:
    class Broken(BufferedRecorder):
        pass

    def fail(self: Any, *_: object) -> None:
        raise ZeroDivisionError(broken)

    setattr(Broken, broken, fail)

    async def scene(here: socket.socket, protocol: Any) -> None:
        with capture_logs() as logs:
            here.sendall(b"bytes")
            if broken == "resume_writing":
                protocol.through.begin()
                protocol.through.write(bytes(4_000_000))
                here.settimeout(0)
                while not logs:
                    try:
                        here.recv(1 << 20)
                    except BlockingIOError:
                        await asyncio.sleep(0)
            else:
                here.shutdown(socket.SHUT_WR)
                protocol.through.begin()
            error = await protocol.lost
        assert isinstance(error, ZeroDivisionError)
        assert [line["event"] for line in logs] == ["a connection ends, as its protocol failed"]

    with_pair(scene, Broken)


class Accepts:
    """A listening socket that does as it is told."""

    def __init__(self, *answers: OSError | tuple[socket.socket, object]) -> None:
        self.answers = list(answers)

    def accept(self) -> Any:
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def close(self) -> None:
        pass


class Loop:
    """What a server needs of one."""

    def __init__(self) -> None:
        self.watched: list[object] = []
        self.later: list[Callable[[], None]] = []

    def add_reader(self, sock: object, *_: object) -> None:
        self.watched.append(sock)

    def remove_reader(self, sock: object) -> None:
        self.watched.remove(sock)

    def call_later(self, _: float, call: Callable[..., None], *args: object) -> None:
        self.later.append(lambda: call(*args))

    def time(self) -> float:
        return 0.0


def test_without_descriptors_it_rests_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    spent = OSError(errno.EMFILE, "Too many open files")
    listener: Any = Accepts(spent, spent)
    server = EagerServer([listener], BufferedRecorder)
    with capture_logs() as logs:
        for _ in range(2):
            server._accept(listener)
            assert loop.watched == []
            loop.later.pop()()
            assert loop.watched == [listener]
    assert [line["event"] for line in logs] == ["cannot accept a connection"], "once a minute"
    server.close()
    assert loop.watched == []
    server.close()


def test_a_server_that_was_closed_while_it_rested_stays_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    listener: Any = Accepts(OSError(errno.ENFILE, "Too many open files in system"))
    server = EagerServer([listener], BufferedRecorder)
    with capture_logs():
        server._accept(listener)
    server._sockets.clear()
    loop.later.pop()()
    assert loop.watched == []
