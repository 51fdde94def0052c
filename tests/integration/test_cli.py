"""The command line as a process of its own against a store that runs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.tickets import format_id
from tests.metadata_kit import free_port
from tests.store_kit import Cluster, cluster, digest, eventually
from tests.traffic_kit import (
    Ended,
    at,
    details,
    extents,
    node_ids,
    payload,
    putter,
    ticket_files,
    url,
)

pytestmark = pytest.mark.slow
MIB = 1024 * 1024
NAMES = ("photos/cat.jpg", "photos/猫/größe 🐈‍⬛ №1.jpg", "photos/a b+c%20d?e#f&g='h'\"i\"")
OTHER_NAMES = ("one-segment", "photos/-starts-with-a-dash", "photos/naïve//café/")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One router, one putter, the tree engine."""
    with cluster(tmp_path_factory.mktemp("cli")) as running:
        yield running


def failed(ended: Ended, code: int) -> str:
    """It ended with this code and an explanation; what it said."""
    assert ended.code == code, (ended.code, ended.err)
    assert ended.err.startswith(("error: ", "Usage: ")), ended.err
    assert "Traceback" not in ended.err
    return ended.err


@pytest.mark.parametrize("name", NAMES)
def test_put_get_cat_stat_rm(store: Cluster, tmp_path: Path, name: str) -> None:
    data = payload(100_000, name)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    put = at(store, "put", "--json", str(source), name)
    assert (put.code, put.err) == (0, "")
    assert put.told["size"] == len(data)
    assert put.told["blake3"] == digest(data)
    assert f"{put.told['bucket']}/{put.told['key']}" == name
    got = at(store, "get", name, str(target))
    assert (got.code, got.out, got.err) == (0, b"", "")
    assert target.read_bytes() == data
    assert [each.name for each in tmp_path.iterdir() if each.name not in {"source", "target"}] == []
    assert at(store, "cat", name).out == data
    told = at(store, "stat", "--json", name).told
    assert (told["size"], told["objects"][0]["blake3"]) == (len(data), digest(data))
    listed = at(store, "ls", "photos", "--json")
    keys = [json.loads(line)["key"] for line in listed.text.splitlines()]
    assert name.partition("/")[2] in keys
    assert keys == sorted(keys, key=str.encode)
    assert at(store, "rm", name).code == 0
    failed(at(store, "stat", name), 3)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names(store: Cluster, name: str) -> None:
    data = payload(1000, name)
    put = at(store, "put", "-", name, "--json", stdin=data)
    assert (put.code, put.err) == (0, "")
    bucket, _, key = name.rpartition("/") if "/" not in name else name.partition("/")
    assert (put.told["bucket"], put.told["key"]) == (bucket or "files", key)
    assert at(store, "cat", name).out == data


def test_texts_for_people(store: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "dog.jpg"
    source.write_bytes(payload(70_000, "dog"))
    put = at(store, "put", str(source), "pets/dog.jpg")
    assert put.code == 0
    assert "pets/dog.jpg" in put.text
    assert at(store, "ls").text.splitlines().count("pets") == 1
    assert at(store, "ls", "pets").text == "dog.jpg\n"
    assert "70000" in at(store, "ls", "pets", "--long").text
    assert at(store, "ls", "pets/x").text == ""
    assert "2" in at(store, "stat", "pets/dog.jpg").text
    shown = at(store, "status").text
    assert url(store) in shown
    assert node_ids(store)[0] in shown
    got = at(store, "get", "pets/dog.jpg", cwd=tmp_path / "..")
    assert got.code == 0
    assert (tmp_path / ".." / "dog.jpg").read_bytes() == source.read_bytes()


def test_status_as_json(store: Cluster) -> None:
    told = at(store, "status", "--json").told
    [node] = told["nodes"]
    assert (node["node"], node["link"], node["storage"]) == (node_ids(store)[0], "up", "tree")
    assert told["redis"]["ok"] is True


def test_stat_of_a_ticket(store: Cluster) -> None:
    object_id = store.send(payload(100_000, "ticket")).object_id
    [(tickets, nodes)] = extents(details(store, f"objects/{object_id}"))
    told = at(store, "stat", "--ticket", format_id(max(tickets)), "--json").told
    assert (told["object"], told["offset"], told["size"]) == (object_id, 65_536, 100_000 - 65_536)
    assert set(told["nodes"]) == nodes
    failed(at(store, "stat", "--ticket", "ZZZZZ"), 3)
    failed(at(store, "stat", "--ticket", "not base 36"), 2)


def test_pipes(store: Cluster) -> None:
    data = payload(3 * MIB, "pipe")
    assert at(store, "put", "-", "pipes/in", stdin=data).code == 0
    assert store.read("pipes/in") == data
    assert at(store, "get", "pipes/in", "-").out == data
    assert at(store, "put", "-", "pipes/empty", stdin=b"").code == 0
    assert at(store, "cat", "pipes/empty").out == b""
    words = store.command("cat", "pipes/in", "--url", url(store))
    with (
        subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=store.directory,
            env=store.environment(),
        ) as cat,
        subprocess.Popen(["head", "-c", "1000"], stdin=cat.stdout, stdout=subprocess.PIPE) as head,
    ):
        assert cat.stdout is not None
        assert cat.stderr is not None
        assert head.stdout is not None
        cat.stdout.close()
        assert head.stdout.read() == data[:1000]
        assert cat.wait(30) == 141
        assert cat.stderr.read() == b""


@pytest.mark.parametrize(
    ("span", "part"),
    [
        ("0-0", slice(0, 1)),
        ("65535-65536", slice(65_535, 65_537)),
        ("100-", slice(100, None)),
        ("-7", slice(-7, None)),
    ],
)
def test_ranges(store: Cluster, span: str, part: slice) -> None:
    data = payload(200_000, "range")
    store.http("PUT", "/file/ranges/it", data)
    assert at(store, "cat", "ranges/it", f"--range={span}").out == data[part]


def test_exit_codes(store: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"x")
    # 1: failed.
    assert at(store, "put", str(source), "codes/x", "--new").code == 0
    failed(at(store, "put", str(source), "codes/x", "--new"), 1)
    # 2: makes no sense.
    for words in (
        ("put", str(tmp_path / "missing"), "codes/y"),
        ("put", str(source), "NO/x"),
        ("put", str(source), "codes/a/../b"),
        ("put", str(source), "codes/" + "k" * 1025),
        ("get", "codes/"),
        ("cat", "codes/x", "--range", "9-1"),
        ("rm",),
        ("ls", "Bad_Bucket"),
        ("no-such-command",),
    ):
        done = at(store, *words) if words[0] != "no-such-command" else putter(store, *words)
        failed(done, 2)
    # 3: not there.
    for words in (("get", "codes/none"), ("cat", "codes/none"), ("rm", "codes/none")):
        failed(at(store, *words, cwd=tmp_path), 3)
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    # 4: nobody there.
    away = f"http://127.0.0.1:{free_port()}"
    for words in (("status",), ("get", "codes/x"), ("put", str(source), "codes/x")):
        failed(putter(store, *words, "--url", away, cwd=tmp_path), 4)
    # A range outside of the file.
    assert at(store, "cat", "codes/x", "--range", "5-9").code in {1, 2}


def test_several_names_are_all_tried(store: Cluster) -> None:
    for key in ("one", "two"):
        store.http("PUT", f"/file/several/{key}", b"x")
    done = at(store, "rm", "several/one", "several/none", "several/two")
    assert done.code == 3
    assert "several/none" in done.err
    assert store.names("several") == {}


def test_a_door_that_asks_for_a_token(tmp_path: Path) -> None:
    with cluster(tmp_path / "s", routers=0) as running:
        running.add_router("--replicas", "1", "--host", "0.0.0.0").start()
        key = ("--key-file", "cluster.key")
        door = ("--url", url(running))

        def answers() -> None:
            assert putter(running, "status", *door, *key).code == 0

        eventually(answers)
        other = tmp_path / "other.key"
        other.write_text("ab" * 32 + "\n")
        failed(putter(running, "status", *door, cwd=tmp_path), 5)
        failed(putter(running, "status", *door, "--key-file", str(other)), 5)
        failed(putter(running, "status", *door, "--token", "wrong"), 5)
        token = putter(running, "keys", "token", *key).text.strip()
        assert putter(running, "ls", *door, "--token", token).code == 0
        failed(putter(running, "status", *door, "--key-file", str(tmp_path / "none")), 2)


def test_progress_is_shown_on_a_terminal_only(store: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(payload(8 * MIB, "bar"))
    words = ("put", str(source), "bars/big")
    quiet = at(store, *words)
    assert (quiet.code, quiet.err) == (0, "")
    leader, follower = pty.openpty()
    try:
        with subprocess.Popen(
            store.command(*words, "--url", url(store)),
            stdout=subprocess.PIPE,
            stderr=follower,
            cwd=store.directory,
            env=store.environment() | {"TERM": "xterm"},
        ) as shown:
            assert shown.stdout is not None
            assert b"bars/big" in shown.stdout.read()
            assert shown.wait(30) == 0
        os.set_blocking(leader, False)
        assert b"big" in os.read(leader, 65_536)
    finally:
        os.close(leader)
        os.close(follower)


# -- wrong bytes are never served ----------------------------------------------------------


def flip(path: Path, position: int = -1) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("size", [1000, 12 * MIB])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_flipped_bit_of_the_only_replica(
    store: Cluster, tmp_path: Path, size: int, place: str
) -> None:
    data = payload(size, f"flip {place}")
    source = tmp_path / "source"
    source.write_bytes(data)
    assert at(store, "put", str(source), "flips/it").code == 0
    tickets = sorted(t for span, _ in extents(details(store, "flips/it")) for t in span)
    places = ticket_files(store, 0)
    flip(places[tickets[0] if place == "first" else tickets[-1]] / "obj")
    target = tmp_path / "target"
    told = failed(at(store, "get", "flips/it", str(target)), 6)
    assert "flips/it" in told or "object" in told or "damaged" in told
    assert [each.name for each in tmp_path.iterdir()] == ["source"]
    shown = at(store, "cat", "flips/it")
    assert shown.code == 6, shown.err
    assert data.startswith(shown.out)
    assert len(shown.out) < size
    if size < MIB or place == "first":
        status, _, body = store.http("GET", "/file/flips/it")
        assert (status, json.loads(body)["code"]) == (500, "integrity")
    # What was stored anew is right again.
    assert at(store, "put", str(source), "flips/it").code == 0
    assert at(store, "cat", "flips/it").out == data


def test_of_two_replicas_the_good_one_is_served(tmp_path: Path) -> None:
    data = payload(5 * MIB, "two")
    target = tmp_path / "target"
    with cluster(tmp_path / "s", putters=2) as running:
        assert running.http("PUT", "/file/flips/it", data)[0] == 201
        tickets = sorted(t for span, _ in extents(details(running, "flips/it")) for t in span)
        # Each putter has damage of its own: whole slices, and tickets beside each other.
        for number, damaged in ((0, (0, 7, 8, 32)), (1, (1, 9, 40, 79))):
            places = ticket_files(running, number)
            for at_ticket in damaged:
                flip(places[tickets[at_ticket]] / "obj", 17)
        (places[tickets[50]] / "obj").unlink()
        got = at(running, "get", "flips/it", str(target))
        assert got.code == 0, got.err
        assert target.read_bytes() == data
        for start in (0, 65_536 * 8 + 5, 65_536 * 40 - 1, len(data) - 70_000):
            shown = at(running, "cat", "flips/it", f"--range={start}-{start + 70_000 - 1}")
            assert shown.out == data[start : start + 70_000]


def test_a_replica_that_is_away_is_not_a_damaged_one(tmp_path: Path) -> None:
    data = payload(MIB, "away")
    with cluster(tmp_path / "s", putters=2) as running:
        assert running.http("PUT", "/file/flips/it", data)[0] == 201
        flip(next(iter(ticket_files(running, 0).values())) / "obj")
        assert at(running, "cat", "flips/it").out == data
        running.putters[1].kill()
        eventually(lambda: at(running, "cat", "flips/it").code == 4)
        failed(at(running, "get", "flips/it", str(tmp_path / "no")), 4)
        assert not (tmp_path / "no").exists()
        running.putters[1].start()
        running.wait_ready()
        assert at(running, "cat", "flips/it").out == data
