"""Deletion and compaction under a slow reader: it gets its version, and then the space returns.

96 MiB, 1 GiB with ``PUTTER_SOAK=1``. The reader takes a little at a time, while the file is
overwritten or deleted and the segments around it are compacted.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tests.books_kit import no_traceback, small_disk
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import SOAK, payload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MIB = 1024 * 1024
SIZE = (1024 if SOAK else 96) * MIB
DISK_BYTES = 4 * SIZE
FLAGS = ("--grace-ms", "500")
OTHERS = 24
OTHER_BYTES = SIZE // OTHERS
SIP_BYTES = 256 * 1024


def blocks(name: str) -> Iterator[bytes]:
    """A large file's bytes, block by block."""
    block = payload(MIB, name)
    for number in range(SIZE // MIB):
        yield number.to_bytes(8) + block[8:]


def put_large(store: Cluster, name: str) -> None:
    headers = {"content-length": str(SIZE)}
    status, _, body = store.http("PUT", f"/file/photos/{name}", blocks(name), headers)
    assert status in {200, 201}, body


def used(place: Path) -> int:
    """Bytes of the disk that are taken, as ``df`` tells."""
    state = os.statvfs(place)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


@pytest.mark.parametrize("how", ["overwritten", "deleted"])
def test_a_slow_reader_gets_its_version_and_the_space_returns(tmp_path: Path, how: str) -> None:
    home = tmp_path / "s"
    disk = home / "node0"
    with (
        small_disk(disk, DISK_BYTES),
        cluster(home, storage="segments", router_flags=FLAGS) as store,
    ):
        put_large(store, "large")
        reader = http.client.HTTPConnection("127.0.0.1", store.web_ports[0], timeout=120)
        with contextlib.closing(reader):
            reader.request("GET", "/file/photos/large")
            response = reader.getresponse()
            assert response.status == 200
            found = blake3()

            def sip() -> None:
                found.update(response.read(SIP_BYTES))

            def compacted() -> bool:
                sip()
                return store.putters[0].text().count("is free again") >= 4

            sip()
            if how == "overwritten":
                assert store.http("PUT", "/file/photos/large", b"something else")[0] == 200
            else:
                assert store.http("DELETE", "/file/photos/large")[0] == 204
            # Other files come and go meanwhile, so that segments around it are compacted.
            for number in range(OTHERS):
                data = payload(OTHER_BYTES, number)
                assert store.http("PUT", f"/file/photos/{number}", data)[0] == 201
                sip()
            for number in range(OTHERS):
                if number % 4:
                    assert store.http("DELETE", f"/file/photos/{number}")[0] == 204
            eventually(compacted, 60, every_s=0.5)
            held = used(disk)
            assert held > SIZE, "nothing of it is freed under the reader"
            while part := response.read(MIB):
                found.update(part)
        wanted = blake3()
        for block in blocks("large"):
            wanted.update(block)
        assert found.digest() == wanted.digest()
        eventually(lambda: used(disk) < held - SIZE // 2, 120)
        for number in range(0, OTHERS, 4):
            assert store.read(f"photos/{number}") == payload(OTHER_BYTES, number)
        status, _, body = store.http("GET", "/file/photos/large")
        left = (200, b"something else") if how == "overwritten" else (404, body)
        assert (status, body) == left
        no_traceback(store)


def test_a_putter_killed_while_it_compacts_keeps_what_is_read(tmp_path: Path) -> None:
    """Each start finds the segments in the middle of something."""
    home = tmp_path / "s"
    disk = home / "node0"
    with (
        small_disk(disk, 256 * MIB),
        cluster(home, storage="segments", router_flags=FLAGS) as store,
    ):
        kept: dict[str, bytes] = {}
        for number in range(48):
            name, data = f"photos/{number}", payload(2 * MIB, number)
            assert store.http("PUT", f"/file/{name}", data)[0] == 201
            kept[name] = data
        for number in range(48):
            if number % 5:
                assert store.http("DELETE", f"/file/photos/{number}")[0] == 204
                del kept[f"photos/{number}"]
        process = store.putters[0]
        for _ in range(4 if SOAK else 2):
            before = process.text().count("is free again")
            eventually(lambda n=before: process.text().count("is free again") > n, 60)
            process.kill()
            process.start()
            store.wait_ready()
            for name, data in kept.items():
                assert store.read(name) == data
        eventually(lambda: used(disk) < 120 * MIB, 120)
        assert {f"photos/{key}" for key in store.names("photos")} == set(kept)
        no_traceback(store)
