"""Processes in network namespaces of their own, joined by a bridge, to be cut off from each other.

```
hub ── br0 (10.99.0.254: clients, Valkey) ─┬─ eth0 10.99.0.1 of the first
                                           ├─ eth0 10.99.0.2 of the second …
```
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HUB_ADDRESS = "10.99.0.254"
_CLONE_NEWNET = 0x40000000
_COMMAND_S = 20.0


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=_COMMAND_S)


def why_not() -> str:
    """Why namespaces cannot be used here; "" if they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    try:
        with namespaces(1) as made:
            made.cut(0, incoming=True, outgoing=True)
    except (subprocess.SubprocessError, OSError) as error:
        return f"network namespaces are not permitted: {error}"
    return ""


class Namespaces:
    """Some of them.

    Args:
        count: how many beside the hub.
    """

    def __init__(self, count: int) -> None:
        self._prefix = f"dp{os.getpid()}"
        self.hub = f"{self._prefix}hub"
        self.names = [f"{self._prefix}n{number}" for number in range(count)]

    def make(self) -> None:
        """Make and join them."""
        _run("ip", "netns", "add", self.hub)
        _run("ip", "-n", self.hub, "link", "set", "lo", "up")
        _run("ip", "-n", self.hub, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self.hub, "addr", "add", f"{HUB_ADDRESS}/24", "dev", "br0")
        _run("ip", "-n", self.hub, "link", "set", "br0", "up")
        for number, name in enumerate(self.names):
            near = f"v{number}"
            _run("ip", "netns", "add", name)
            veth = ("link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "-n", self.hub, *veth)
            _run("ip", "-n", self.hub, "link", "set", near, "master", "br0", "up")
            address = f"{self.address(number)}/24"
            _run("ip", "-n", name, "addr", "add", address, "dev", "eth0")
            for device in ("lo", "eth0"):
                _run("ip", "-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        """Remove whatever was made."""
        for name in (*self.names, self.hub):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", name)

    def address(self, number: int) -> str:
        """Of the process in it."""
        return f"10.99.0.{number + 1}"

    def inside(self, number: int, argv: list[str]) -> list[str]:
        """The command that runs another one in a namespace, as the same process."""
        return ["ip", "netns", "exec", self.names[number], *argv]

    def cut(self, number: int, *, incoming: bool, outgoing: bool) -> None:
        """Drop all packets to it, from it, or both."""
        inside = ("ip", "netns", "exec", self.names[number], "iptables")
        if incoming:
            _run(*inside, "-A", "INPUT", "-i", "eth0", "-j", "DROP")
        if outgoing:
            _run(*inside, "-A", "OUTPUT", "-o", "eth0", "-j", "DROP")

    def heal(self, number: int) -> None:
        """Let everything through again."""
        _run("ip", "netns", "exec", self.names[number], "iptables", "-F")

    @contextlib.contextmanager
    def at_the_hub(self) -> Iterator[None]:
        """This thread, and what it starts, is at the hub."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            (Path("/run/netns") / self.hub).open("rb") as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[Namespaces]:
    """Some that are removed in the end."""
    made = Namespaces(count)
    try:
        made.make()
        yield made
    finally:
        made.remove()
