"""Ports that workers share: theirs alone, from before the first until after the last."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from common.errors import Unavailable
from putter.local.reservation import Reservation

HOST = "127.0.0.1"


@contextlib.contextmanager
def listener(port: int, *, share: bool, host: str = HOST) -> Iterator[socket.socket]:
    """As the event loops open one."""
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.listen()
        yield made


def can_listen(port: int, *, share: bool, host: str = HOST) -> bool:
    try:
        with listener(port, share=share, host=host):
            return True
    except OSError:
        return False


def test_workers_come_and_go_and_nobody_else_gets_in() -> None:
    with Reservation(HOST, 0, "--web-port") as held:
        assert held.port > 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, held.port), 5)
        for _ in range(2):
            assert not can_listen(held.port, share=False)
            assert not can_listen(held.port, share=False, host="0.0.0.0")
            with listener(held.port, share=True), listener(held.port, share=True):
                socket.create_connection((HOST, held.port), 5).close()
                assert not can_listen(held.port, share=False)
        port = held.port
    assert can_listen(port, share=False)


def test_connections_go_to_those_that_listen() -> None:
    with Reservation(HOST, 0, "") as held, listener(held.port, share=True) as worker:
        for _ in range(20):
            with socket.create_connection((HOST, held.port), 5):
                worker.settimeout(30)
                accepted, _ = worker.accept()
                accepted.close()


def test_what_lingers_of_the_process_before_is_in_nobodys_way() -> None:
    with Reservation(HOST, 0, "") as held, listener(held.port, share=True) as worker:
        port = held.port
        with socket.create_connection((HOST, port), 5) as client:
            accepted, _ = worker.accept()
            accepted.close()
            assert client.recv(1) == b""
    with Reservation(HOST, port, "") as again:
        assert again.port == port


@pytest.mark.parametrize("share", [False, True])
def test_a_port_on_which_somebody_listens_is_refused(share: bool) -> None:
    with listener(0, share=share) as other:
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} on {HOST} is already in use") as told:
            Reservation(HOST, port, "--web-port")
        assert "--web-port" in (told.value.hint or "")


def test_of_two_that_want_a_port_one_gets_it() -> None:
    with (
        Reservation(HOST, 0, "") as held,
        pytest.raises(Unavailable, match="is already in use"),
    ):
        Reservation(HOST, held.port, "")


def test_a_host_that_is_not_ours() -> None:
    with pytest.raises(Unavailable, match="is not an address of this machine"):
        Reservation("192.0.2.1", 0, "")
    with pytest.raises(Unavailable, match="is not an address of this machine"):
        Reservation("no such host", 0, "")
