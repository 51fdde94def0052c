"""Ports of this machine, asked for real."""

from __future__ import annotations

import socket

from putter.local_cluster.ports import any_free, taken


def test_free_ports_are_many_different_ones_and_free() -> None:
    ports = any_free(50)
    assert len(set(ports)) == 50
    assert all(1024 <= port <= 65_535 for port in ports)
    assert any_free(0) == []


def test_a_port_on_which_somebody_listens_is_taken() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as all of ours do
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert taken([port, 0]) == [port]
        with socket.create_connection(("127.0.0.1", port)) as client:
            other, _ = server.accept()
            other.close()
            assert client.recv(1) == b""
    assert taken([port]) == [], "what lingers after a listener does not count"


def test_a_port_of_all_addresses_is_taken_too() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        port = server.getsockname()[1]
        assert taken([port]) == [port]
