"""What tests with real processes ask of a store: its disks, its Redis, its command line."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from common.meta.schema import BUCKETS, bucket_key
from common.tickets import parse_id
from tests.store_kit import Cluster, eventually

SOAK = bool(os.environ.get("PUTTER_SOAK"))
COMMAND_S = 60.0
EXPIRE_AFTER_S = 1.5


def payload(size: int, seed: object = 0) -> bytes:
    """Bytes that nobody else sends."""
    return random.Random(f"{seed}/{size}").randbytes(size)


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def told(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def putter(
    store: Cluster,
    *words: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = COMMAND_S,
) -> Ended:
    """One command of the command line."""
    done = subprocess.run(
        store.command(*words),
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        cwd=cwd or store.directory,
        env=store.environment() | (env or {}),
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr.decode())


def url(store: Cluster, router: int = 0) -> str:
    """Its web door."""
    return f"http://127.0.0.1:{store.web_ports[router]}"


def at(
    store: Cluster,
    *words: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout_s: float = COMMAND_S,
) -> Ended:
    """One command that goes to the store's web door."""
    return putter(store, *words, "--url", url(store), stdin=stdin, cwd=cwd, timeout_s=timeout_s)


# -- Redis -------------------------------------------------------------------------------


@contextlib.contextmanager
def redis(store: Cluster) -> Iterator[Redis]:
    """A client of its coordinator."""
    client = Redis(port=store.valkey.port, socket_timeout=5)
    try:
        yield client
    finally:
        client.close()


def object_values(store: Cluster) -> dict[tuple[str, str], list[str]]:
    """The object values of all buckets: ``(bucket, ObjectID)`` → state, number, router, nodes, …"""
    found = {}
    with redis(store) as client:
        for name in client.smembers(BUCKETS):
            bucket = name.decode()
            for object_id, value in client.hgetall(bucket_key(bucket, "objects")).items():
                found[bucket, object_id.decode()] = value.decode().split(" ", 4)
    return found


def expire_leases(store: Cluster) -> None:
    """End the leases of all objects that are being written, as time would without their router."""
    with redis(store) as client:
        for (bucket, object_id), value in object_values(store).items():
            if value[0] == "w":
                client.zadd(bucket_key(bucket, "writing"), {object_id: 1}, xx=True)


# -- disks -------------------------------------------------------------------------------


def node_ids(store: Cluster) -> list[str]:
    """The identities of the putters, in their order (engine ``tree``)."""
    return [
        json.loads((store.directory / f"node{n}" / "putter" / "node.json").read_text())["identity"]
        for n in range(len(store.putters))
    ]


def ticket_files(store: Cluster, number: int, root: str = "tickets") -> dict[int, Path]:
    """The tickets on one putter's disk and their directories (engine ``tree``)."""
    top = store.directory / f"node{number}" / "putter" / root
    found = {}
    for place, _, names in os.walk(top):
        if "sum" in names:
            found[parse_id("".join(Path(place).relative_to(top).parts))] = Path(place)
    return found


def on_disk(store: Cluster, root: str = "tickets") -> dict[str, set[int]]:
    """The tickets on each putter's disk, by its identity."""
    return {
        node: set(ticket_files(store, number, root)) for number, node in enumerate(node_ids(store))
    }


def records_on_disk(store: Cluster) -> dict[str, list[str]]:
    """The ObjectIDs of the commit records on each putter's disk; "" where there is none."""
    found = {}
    for number, node in enumerate(node_ids(store)):
        top = store.directory / f"node{number}" / "putter" / "commits"
        found[node] = [record_object(path) for path in top.rglob("record")]
    return found


def record_object(path: Path) -> str:
    """The ObjectID of a commit record's file (see docs/formats/tree.md)."""
    data = path.read_bytes()
    assert data[:4] == b"DPre"
    return data[40 : 40 + data[5]].decode()


def details(store: Cluster, name: str, router: int = 0) -> dict[str, Any]:
    """Everything the store tells of a file."""
    status, _, body = store.http("GET", f"/metadata/{name}", router=router)
    assert status == 200, body
    told: dict[str, Any] = json.loads(body)
    return told


def everything(store: Cluster, router: int = 0) -> dict[str, dict[str, Any]]:
    """The details of all files of all buckets, by name."""
    buckets = json.loads(store.http("GET", "/metadata", router=router)[2])["buckets"]
    return {
        f"{bucket}/{key}": details(store, f"{bucket}/{key}", router)
        for bucket in buckets
        for key in store.names(bucket, router=router)
    }


def extents(told: dict[str, Any]) -> Iterator[tuple[set[int], set[str]]]:
    """The tickets and the nodes of each extent of a file."""
    for stored in told["objects"]:
        for extent in stored["extents"]:
            first = parse_id(extent["first"])
            assert parse_id(extent["last"]) == first + extent["count"] - 1
            yield set(range(first, first + extent["count"])), set(extent["nodes"])


def check_disks(
    store: Cluster,
    router: int = 0,
    *,
    exact: bool = False,
    acknowledged: Container[str] | None = None,
) -> None:
    """Every file's tickets are on its nodes, and no disk holds anything else.

    Args:
        store: of the engine ``tree``.
        router: whom to ask.
        exact: no stray copies either that only the object's value in Redis knows of.
        acknowledged: names of files whose every replica must be whole; all if None. Of others,
            whose router died, one replica may be missing.
    """
    values = object_values(store)
    wanted: dict[str, set[int]] = {node: set() for node in node_ids(store)}
    allowed: dict[str, set[int]] = {node: set() for node in wanted}
    disks = on_disk(store)
    for name, told in everything(store, router).items():
        whole = acknowledged is None or name in acknowledged
        strays = values[told["bucket"], told["object"]][3]
        suspects = set() if strays == "-" else set(strays.split(","))
        for _, nodes in extents(told):
            suspects |= nodes
        for tickets, nodes in extents(told):
            assert tickets <= set().union(*(disks[node] for node in nodes)), name
            for node in nodes:
                (wanted if whole else allowed)[node].update(tickets)
            # A run that took a detour may lie where other runs of its object are.
            for node in () if exact else suspects:
                allowed[node] |= tickets
    for node, found in disks.items():
        assert not wanted[node] - found, f"{node} lacks tickets {sorted(wanted[node] - found)[:9]}"
        orphans = found - wanted[node] - allowed[node]
        assert not orphans, f"{node} has orphan tickets {sorted(orphans)[:9]} of {len(orphans)}"
    written = {object_id for _, object_id in values} | {""}
    for node, objects in records_on_disk(store).items():
        assert set(objects) <= written, f"{node} has records of {set(objects) - written}"


def check_clean(
    store: Cluster, router: int = 0, acknowledged: Container[str] | None = None
) -> None:
    """Nothing is being written or waits to be freed, and no disk holds an orphan."""
    states = {value[0] for value in object_values(store).values()}
    assert states <= {"c"}, states
    with redis(store) as client:
        for name in client.smembers(BUCKETS):
            for noun in ("writing", "trash", "versions"):
                kind = client.type(bucket_key(name.decode(), noun))
                assert kind == b"none", (name, noun)
    check_disks(store, router, acknowledged=acknowledged)


def eventually_clean(
    store: Cluster,
    router: int = 0,
    timeout_s: float = 60.0,
    acknowledged: Container[str] | None = None,
) -> None:
    """`check_clean`, in time. Nobody writes any more: what lost its router may be decided."""
    patient_until = time.monotonic() + EXPIRE_AFTER_S

    def check() -> None:
        if time.monotonic() > patient_until and not SOAK:
            expire_leases(store)
        check_clean(store, router, acknowledged)

    eventually(check, timeout_s, every_s=0.5)


# -- sockets -----------------------------------------------------------------------------


def connect(port: int, timeout_s: float = 60.0, host: str = "127.0.0.1") -> socket.socket:
    """A TCP connection to a port, of this machine if no host is named."""
    return socket.create_connection((host, port), timeout=timeout_s)


def answer_from(client: socket.socket) -> bytes:
    """One answer of a web port, head and body, without its date."""
    out = b""
    while b"\r\n\r\n" not in out:
        out += client.recv(1)
    head, _, _ = out.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    missing = int(length[1]) if length and b" 304 " not in head[:20] else 0
    while missing:
        part = client.recv(min(missing, 1 << 20))
        assert part, f"{missing} bytes are missing"
        missing -= len(part)
        out += part
    return re.sub(rb"\r\nDate: [^\r]*", b"", out)


def reset(client: socket.socket) -> None:
    """End a connection with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def files_with(directory: Path, *needles: str) -> list[Path]:
    """The files below a directory that hold one of these texts."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
                if any(data.find(each.encode()) >= 0 for each in needles):
                    found.append(path)
    return found
