"""The wires that the chaos of a cluster cuts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.metadata_kit import free_port
from tests.relay_kit import Relay, Relays

QUIET_S = 0.3


@contextlib.contextmanager
def joined() -> Iterator[tuple[Relay, socket.socket, socket.socket]]:
    """A relay with one connection: of who connected, and of who was connected to."""
    relays = Relays()
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = ("127.0.0.1", free_port())
            relay = relays.add(here, server.getsockname())
            with socket.create_connection(here, timeout=10) as near:
                far, _ = server.accept()
                with far:
                    far.settimeout(10)
                    yield relay, near, far
    finally:
        relays.close()


def nothing_comes(connection: socket.socket) -> None:
    connection.settimeout(QUIET_S)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(10)


def test_it_passes_bytes_and_the_end_of_the_stream() -> None:
    with joined() as (_, near, far):
        near.sendall(b"question")
        assert far.recv(8, socket.MSG_WAITALL) == b"question"
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.sendall(b"answer")
        assert near.recv(6, socket.MSG_WAITALL) == b"answer"


def test_it_holds_one_direction_and_loses_nothing() -> None:
    with joined() as (relay, near, far):
        relay.hold(forth=True, back=False)
        near.sendall(b"late")
        near.shutdown(socket.SHUT_WR)
        far.sendall(b"on time")
        assert near.recv(7, socket.MSG_WAITALL) == b"on time"
        nothing_comes(far)
        relay.hold(forth=False, back=True)
        assert far.recv(4, socket.MSG_WAITALL) == b"late"
        assert far.recv(1) == b""
        far.sendall(b"held")
        nothing_comes(near)
        relay.release()
        assert near.recv(4, socket.MSG_WAITALL) == b"held"


def test_a_reset_is_passed_on() -> None:
    with joined() as (_, near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        with contextlib.suppress(ConnectionResetError):
            assert far.recv(1) == b""
