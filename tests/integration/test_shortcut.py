"""Unix sockets beside loopback ports: found by who looks, and never in the way."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from common.shortcut import Shortcuts
from common.transport import TcpNetwork

HOST = "127.0.0.1"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of a name that is short enough for sockets, as those below ``tmp_path`` may not be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name) / "near"


class Guest(asyncio.Protocol):
    """Either end; it closes when the other one does."""

    open: ClassVar[set[Guest]] = set()

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        Guest.open.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        Guest.open.discard(self)


@pytest.fixture
def network(directory: Path) -> TcpNetwork:
    return TcpNetwork(Shortcuts(directory))


async def family(network: TcpNetwork, host: str, port: int) -> int:
    """How a connection to an address goes."""
    transport, _ = await network.connect(Guest, host, port, timeout_ms=5_000)
    found = transport.get_extra_info("socket").family
    await ended(transport)
    return int(found)


async def ended(transport: asyncio.Transport) -> None:
    """Close a connection once it was accepted, and wait for both ends."""
    async with asyncio.timeout(30):
        while len(Guest.open) < 2:
            await asyncio.sleep(0)
        transport.close()
        while Guest.open:
            await asyncio.sleep(0)


def named(directory: Path) -> list[str]:
    return sorted(path.name.split("-", 1)[1] for path in directory.iterdir())


@pytest.mark.parametrize("host", [HOST, "localhost", "127.0.0.2"])
async def test_a_loopback_port_has_one(network: TcpNetwork, directory: Path, host: str) -> None:
    listener = await network.listen(Guest, host, 0, shortcut=True)
    assert await family(network, host, listener.port) == socket.AF_UNIX
    assert directory.stat().st_mode & 0o777 == 0o700
    await listener.close()
    assert named(directory) == [], "it leaves nothing behind"
    await listener.close()


async def test_a_port_on_all_addresses_has_one_for_this_machine(
    network: TcpNetwork, directory: Path
) -> None:
    listener = await network.listen(Guest, "0.0.0.0", 0, shortcut=True)
    assert named(directory) == [f"{HOST}-{listener.port}"]
    assert await family(network, HOST, listener.port) == socket.AF_UNIX
    await listener.close()


async def test_nobody_gets_one_who_did_not_ask(network: TcpNetwork, directory: Path) -> None:
    listener = await network.listen(Guest, HOST, 0)
    assert await family(network, HOST, listener.port) == socket.AF_INET
    assert not directory.exists()
    await listener.close()


async def test_what_a_killed_process_left_is_passed_by_and_replaced(
    network: TcpNetwork, directory: Path
) -> None:
    listener = await network.listen(Guest, HOST, 0)
    other = await network.listen(Guest, HOST, 0, shortcut=True)
    (path,) = directory.iterdir()
    left = path.with_name(path.name.replace(str(other.port), str(listener.port)))
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(left))
    dead.close()
    assert await family(network, HOST, listener.port) == socket.AF_INET
    await listener.close()
    again = await network.listen(Guest, HOST, listener.port, shortcut=True)
    assert await family(network, HOST, listener.port) == socket.AF_UNIX
    await again.close()
    await other.close()


async def test_one_that_closes_late_leaves_the_socket_of_its_successor(
    network: TcpNetwork, directory: Path
) -> None:
    first = await network.listen(Guest, HOST, 0, shortcut=True)
    shortcuts = Shortcuts(directory)
    second = await shortcuts.listen(Guest, HOST, first.port, 10)
    assert second is not None
    await first.close()
    transport = await shortcuts.connect(Guest, HOST, first.port)
    assert transport is not None
    await ended(transport)
    second.close()
    assert named(directory) == []


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
async def test_a_directory_that_others_can_enter_is_not_used(
    network: TcpNetwork, directory: Path, mode: int
) -> None:
    directory.mkdir()
    directory.chmod(mode)
    listener = await network.listen(Guest, HOST, 0, shortcut=True)
    assert [*directory.iterdir()] == []
    assert await family(network, HOST, listener.port) == socket.AF_INET
    await listener.close()


async def test_a_link_in_its_place_is_not_followed(directory: Path) -> None:
    real = directory.parent / "real"
    real.mkdir(mode=0o700)
    directory.symlink_to(real)
    network = TcpNetwork(Shortcuts(directory))
    listener = await network.listen(Guest, HOST, 0, shortcut=True)
    assert [*real.iterdir()] == []
    await listener.close()


async def test_a_directory_whose_name_is_too_long_is_done_without(tmp_path: Path) -> None:
    network = TcpNetwork(Shortcuts(tmp_path / ("x" * 120)))
    listener = await network.listen(Guest, HOST, 0, shortcut=True)
    assert await family(network, HOST, listener.port) == socket.AF_INET
    await listener.close()


async def test_one_that_is_not_on_loopback_is_never_looked_for(directory: Path) -> None:
    shortcuts = Shortcuts(directory)
    for host in ("10.0.0.1", "example.org", "1127.0.0.1", "::"):
        assert await shortcuts.connect(Guest, host, 5000) is None
    assert await shortcuts.listen(Guest, "10.0.0.1", 5000, 10) is None
    assert not directory.exists()


def test_each_user_has_a_directory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Shortcuts()._directory
    assert found is not None
    assert found.name == f"data-putter-{os.geteuid()}"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    other = Shortcuts()._directory
    assert other is not None
    assert other.name == "data-putter-4711"


async def test_where_nothing_can_be_written_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a file system that can only be read."""

    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    network = TcpNetwork()
    listener = await network.listen(Guest, HOST, 0, shortcut=True)
    assert await family(network, HOST, listener.port) == socket.AF_INET
    await listener.close()
