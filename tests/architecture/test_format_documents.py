"""The examples in docs/formats are what the code writes, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from common import records, tickets
from common.keys import ClusterKey, Keyring
from common.records import (
    Abort,
    AccessKey,
    BucketSettings,
    Extent,
    Members,
    Peer,
    StoredObject,
    Tombstone,
    Version,
)
from common.wire import acks, frames, session
from common.wire.handshake import ClientHandshake, Identity, ServerHandshake
from common.wire.status import Status

FORMATS = Path(__file__).parents[2] / "docs" / "formats"
PAGES = ("tickets-and-frames.md", "session.md", "commit-records.md")
EXAMPLE = re.compile(r"<!-- example: ([\w-]+) -->\n```\n(.*?)```\n", re.DOTALL)

MATERIAL = bytes(range(32))
KEY = ClusterKey.from_material(MATERIAL)
DATA = b"hello, store\n"
TICKET = tickets.parse_ticket("3F9")
DIGEST = bytes.fromhex("ce5854ea426b8ffd5dd4963bc92f5e2526a095fe74b41ca987dd05d01b4b52a7")
STAMP = 1_700_000_000_000_000


def frame() -> bytes:
    out = bytearray(frames.wire_bytes(len(DATA), 1458))
    frames.build(memoryview(out), memoryview(DATA), TICKET, 1458, KEY.checksum)
    return bytes(out)


def three_acks() -> bytes:
    statuses = np.array([0, 0, Status.NO_SPACE], np.uint8)
    return acks.encode(tickets.encode_range(tickets.parse_ticket("ZZ"), 3), statuses)


def greeting() -> list[session.Message]:
    """Hello, Welcome, Proof, Ready of one greeting."""
    keyring = Keyring([KEY])
    hello = session.Hello(
        role="router",
        node="a1b2c3d4e5f6",
        instance="a1b2c3d4e5f6",
        frame_bytes=65_536,
        key_ids=(KEY.key_id,),
        challenge=bytes(range(16)),
        ack_host="",
        ack_port=5002,
        version="0.1.0",
    )
    identity = Identity("3f9a0c52d17e", "0123456789ab", "0.1.0", "tree")
    server = ServerHandshake(keyring, identity, bytes(range(16, 32)))
    client = ClientHandshake(keyring, hello)
    welcome = server.receive(hello)
    proof = client.receive(welcome)  # type: ignore[arg-type]
    assert proof is not None
    ready = server.receive(proof)  # type: ignore[arg-type]
    return [hello, welcome, proof, ready]


def stored() -> StoredObject:
    extent = Extent(TICKET, 1, len(DATA), ("3f9a0c52d17e", "77b0e1d2c4a8"))
    return StoredObject("2K", len(DATA), 65_536, DIGEST, (extent,))


def version() -> bytes:
    return records.encode(
        Version(
            bucket="objects",
            key="2K",
            stamp=STAMP,
            size=len(DATA),
            etag=f"{DIGEST[:16].hex()}-1",
            created_ms=STAMP // 1000,
            objects=(stored(),),
            replicas=2,
        )
    )


def batch() -> bytes:
    run = frame()
    record = records.encode(Tombstone("notes", "a.txt", STAMP, STAMP // 1000))
    message = session.Batch(
        (session.RunHeader(TICKET, len(run), "2K"),),
        (session.RecordHeader(7, len(record), STAMP, ""),),
    )
    return session.encode(message, len(run) + len(record)) + run + record


EXAMPLES: dict[str, Callable[[], bytes]] = {
    "key-id": lambda: bytes.fromhex(KEY.key_id),
    "checksum-subkey": lambda: KEY.checksum,
    "handshake-subkey": lambda: KEY.handshake,
    "token": lambda: bytes.fromhex(KEY.token),
    "frame": frame,
    "acks": three_acks,
    "hello": lambda: session.GREETING + session.encode(greeting()[0]),
    "welcome": lambda: session.GREETING + session.encode(greeting()[1]),
    "proof": lambda: session.encode(greeting()[2]),
    "ready": lambda: session.encode(greeting()[3]),
    "refused": lambda: session.encode(session.Refused(Status.NOT_AUTHORISED, "no", "")),
    "ping": lambda: session.encode(session.Ping(9)),
    "done": lambda: session.encode(session.Done(9, 0)),
    "batch": batch,
    "records-done": lambda: session.encode(session.RecordsDone(((7, 0),))),
    "version": version,
    "tombstone": lambda: records.encode(Tombstone("notes", "a.txt", STAMP, STAMP // 1000)),
    "abort": lambda: records.encode(Abort("objects", "2K", STAMP + 1, "2K", STAMP)),
    "bucket": lambda: records.encode(
        BucketSettings("notes", STAMP, STAMP // 1000, {"replicas": 3})
    ),
    "key": lambda: records.encode(
        AccessKey(
            records.KEYS_BUCKET,
            "AKIAIOSFODNN7EXAMPLE",
            STAMP,
            STAMP // 1000,
            bytes(range(12)) + bytes(range(100, 124)),
            KEY.key_id,
            "ann",
            buckets={"notes": "read"},
        )
    ),
    "members": lambda: records.encode(
        Members(STAMP, (Peer("3f9a0c52d17e", "10.0.0.11:5000"), Peer("77b0e1d2c4a8", "n2:5000")))
    ),
}


def dump(data: bytes) -> str:
    """Sixteen bytes a line, in hex and as text."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:04x}  {part.hex(' '):47}  {text}".rstrip())
    return "\n".join(lines) + "\n"


def shown() -> dict[str, str]:
    pages = "".join((FORMATS / page).read_text("utf-8") for page in PAGES)
    return dict(EXAMPLE.findall(pages))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_code_writes(name: str) -> None:
    assert shown()[name] == dump(EXAMPLES[name]())


def test_every_example_is_checked() -> None:
    assert set(shown()) == set(EXAMPLES)


def test_the_numbers_of_tickets() -> None:
    page = (FORMATS / "tickets-and-frames.md").read_text("utf-8")
    pairs = re.findall(r"^\| ([\d ]+) \| `([0-9A-Z]+)` \|$", page, re.MULTILINE)
    assert len(pairs) > 6
    for number, text in pairs:
        assert tickets.format_id(int(number.replace(" ", ""))) == text


def test_the_table_of_messages() -> None:
    """Each message with its fields in their order; only the first column names a message."""
    page = (FORMATS / "session.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| [→←↔].*? \| (.*?) \|$", page, re.MULTILINE)
    told = {tag: re.findall(r"`(\w+)`", fields) for tag, fields in rows}
    kinds: tuple[Any, ...] = get_args(session.AnyMessage)
    expected = {kind.__struct_config__.tag: list(kind.__struct_fields__) for kind in kinds}
    assert told == expected


def test_the_table_of_statuses() -> None:
    page = (FORMATS / "tickets-and-frames.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d) \| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert {int(number): name for number, name in rows} == {s.value: s.name for s in Status}


if __name__ == "__main__":  # print them all, to be put into the pages
    for example, make in EXAMPLES.items():
        print(f"<!-- example: {example} -->\n```\n{dump(make())}```\n")  # noqa: T201
