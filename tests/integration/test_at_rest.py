"""Compression and encryption at rest, with real processes: what lies there, what comes back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.keys import generate_key_line
from tests.store_kit import Cluster, Process, cluster

pytestmark = pytest.mark.slow
NAME = "photos/a-name-that-nobody-should-see.txt"
TEXT = b"".join(
    b"line %d of a text that nobody should read on the disk\n" % n for n in range(40_000)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Cluster]:
    flags = ("--compress", "zstd", "--encrypt", "on")
    with cluster(tmp_path, storage="segments", putter_flags=flags) as running:
        yield running


def put(store: Cluster, name: str, data: bytes) -> None:
    status, _, body = store.http("PUT", f"/file/{name}", data)
    assert status == 201, body


def command(store: Cluster, *words: str) -> str:
    done = subprocess.run(
        store.command(*words, "--url", f"http://127.0.0.1:{store.web_ports[0]}"),
        env=store.environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    return done.stdout.decode()


def lies_in(directory: Path, *words: bytes) -> list[str]:
    """The files that hold some of these."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if any(word in path.read_bytes() for word in words)]


def told(store: Cluster, path: str) -> Any:
    status, _, body = store.http("GET", path)
    assert status == 200
    return json.loads(body)


def test_text_is_stored_small_and_secret_and_comes_back(store: Cluster) -> None:
    put(store, NAME, TEXT)
    node = store.directory / "node0" / "putter"
    assert lies_in(node, TEXT[:40], TEXT[1_000_000:1_000_040], b"name-that-nobody") == []
    assert sorted(path.name for path in node.glob("data-keys*")) == ["data-keys", "data-keys.copy"]
    assert store.read(NAME) == TEXT
    status, _, part = store.http("GET", f"/file/{NAME}", headers={"Range": "bytes=1234567-1235000"})
    assert (status, part) == (206, TEXT[1_234_567:1_235_001])

    text = command(store, "stat", NAME)
    (line,) = [each for each in text.splitlines() if each.startswith("stored:")]
    assert line.startswith("stored:   zstd + aes-256-gcm, "), line
    (first,) = [each["extents"][0]["first"] for each in told(store, f"/metadata/{NAME}")["objects"]]
    (stored,) = told(store, f"/ticket/{first}")["stored"].values()
    assert stored["stored_bytes"] < stored["plain_bytes"] / 3
    assert "zstd + aes-256-gcm" in command(store, "stat", "--ticket", first)
    assert "zstd+aes-256-gcm" in command(store, "status")
    (seen,) = told(store, "/status")["nodes"]
    assert (seen["packing"]["compression"], seen["packing"]["encryption"]) == (
        "zstd",
        "aes-256-gcm",
    )


def restart(store: Cluster, *flags: str) -> None:
    store.putters[0].stop()
    last = store.putters[0]._argv
    at = last.index("--compress")
    store.putters[0]._argv = [*last[:at], "--compress", "off", *flags]
    store.putters[0].start()
    store.wait_ready()


def test_the_cluster_key_is_rotated_and_the_settings_change(store: Cluster) -> None:
    put(store, NAME, TEXT)
    put(store, "photos/small", b"a small secret")
    key_file, node = store.directory / "cluster.key", store.directory / "node0" / "putter"
    old_text = key_file.read_text()
    wrapped = (node / "data-keys").read_bytes()
    key_file.write_text(f"{generate_key_line()}\n{old_text}")
    restart(store, "--encrypt", "on")
    rotated = (node / "data-keys").read_bytes()
    assert len(rotated) == len(wrapped) + 88
    assert rotated == (node / "data-keys.copy").read_bytes()
    put(store, "photos/later", TEXT[:100_000])
    restart(store, "--encrypt", "off")
    put(store, "photos/open", TEXT[:100_000])
    assert lies_in(node, TEXT[:40]) != []
    assert lies_in(node, b"small secret", b"photos/later") == []
    assert store.read(NAME) == TEXT
    assert store.read("photos/small") == b"a small secret"
    assert store.read("photos/later") == store.read("photos/open") == TEXT[:100_000]


def refused(store: Cluster, *words: str) -> str:
    """What a start says that ends with an error."""
    store.putters[0].stop()
    other = Process(
        "refused", store.putters[0]._argv, store.directory / "no.log", store.environment()
    )
    other.start()
    try:
        assert other.wait(60) > 0
    finally:
        other.kill()
    text = other.text()
    for word in words:
        assert word in text, text
    assert "Traceback" not in text
    return text


def test_without_its_keys_a_putter_does_not_start(store: Cluster) -> None:
    put(store, "photos/small", b"a small secret")
    key_id = store.keyring.writing.key_id
    key_file, node = store.directory / "cluster.key", store.directory / "node0" / "putter"
    line = key_file.read_text()
    key_file.write_text(f"{generate_key_line()}\n")
    text = refused(store, f"wrapped with cluster key {key_id}", "key file")
    assert line.strip() not in text
    key_file.write_text(line)
    kept = {path: path.read_bytes() for path in node.glob("data-keys*")}
    for path in kept:
        path.unlink()
    refused(store, "data-keys and data-keys.copy are gone", "restore data-keys")
    assert list(node.glob("data-keys*")) == []
    path, data = kept.popitem()
    path.write_bytes(data)
    store.putters[0].start()
    store.wait_ready()
    assert store.read("photos/small") == b"a small secret"
