"""Encrypted objects through the whole S3 door: every range of them is that of the plain bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.limits import PART_BYTES_MIN
from common.records import Version
from router.object_keys import TRANSFORM_ROOM_BYTES, customer_key, joined
from tests.s3_door_kit import S3Door, open_door
from tests.s3_kit import SSE, Told, completion_of, customer_headers

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
SIZE: Final = 150_001
LONG: Final = PART_BYTES_MIN


def data(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


ANN: Final = customer_headers("ann")
BODIES: Final = {"own": data(SIZE), "customer": data(SIZE), "parts": data(LONG, 1) + data(777, 2)}


def made_of_parts(door: S3Door, path: str, bodies: dict[int, bytes]) -> Told:
    """Upload parts with a client's key, and complete them without it."""
    begun = door.ask("POST", f"{path}?uploads=", headers=ANN)
    upload = begun.field("{http://s3.amazonaws.com/doc/2006-03-01/}UploadId")
    tags = {}
    for number, body in bodies.items():
        part = door.ask("PUT", f"{path}?partNumber={number}&uploadId={upload}", body, ANN)
        assert part.status == 200, part
        tags[number] = part.headers["etag"].strip('"')
    return door.ask("POST", f"{path}?uploadId={upload}", completion_of(tags))


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        assert made.ask("PUT", "/sealed").status == 200
        assert made.ask("PUT", "/sealed/own", BODIES["own"], {SSE: "AES256"}).status == 200
        assert made.ask("PUT", "/sealed/customer", BODIES["customer"], ANN).status == 200
        parts = {2: data(LONG, 1), 7: data(777, 2)}
        assert made_of_parts(made, "/sealed/parts", parts).status == 200
        yield made


@settings(max_examples=60 * SOAK, deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.integers(0, SIZE - 1), st.integers(1, 70_000))
@example("parts", LONG - 1, 2)
@example("parts", LONG, 1)
@example("own", 0, SIZE)
@example("customer", 15, 18)
def test_ranges_are_those_of_the_plain_bytes(
    door: S3Door, name: str, start: int, length: int
) -> None:
    body = BODIES[name]
    if name == "parts" and start != LONG:
        start = max(0, LONG - 35_000 + start % 36_000)
    wanted = body[start : start + length]
    headers = {"range": f"bytes={start}-{start + length - 1}"} | ({} if name == "own" else ANN)
    told = door.ask("GET", f"/sealed/{name}", headers=headers)
    assert (told.status, told.body) == (206, wanted)


@settings(max_examples=100 * SOAK, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.data(),
)
def test_any_pieces_of_any_parts_are_opened(sizes: list[int], draw: st.DataObject) -> None:
    """Whatever was written together, whatever is read together."""
    of = customer_key(bytes(32))
    plain = data(sum(sizes))
    stored, at, parts = b"", 0, []
    for size in sizes:
        key = of.of_part()
        stored += key.transform().bytes_of(plain[at : at + size])
        parts.append(Version("b", "k", 1, size, "e", 0, (), encryption=key.encryption))
        at += size
    whole = type(of)(joined(of.encryption, parts), of.key)
    start = draw.draw(st.integers(0, len(plain)))
    transform = whole.transform(tuple((1, size) for size in sizes), start)
    found = b""
    while start + len(found) < len(plain):
        rest = stored[start + len(found) :]
        piece = rest[: draw.draw(st.integers(1, len(rest)))]
        room = memoryview(bytearray(len(piece) + TRANSFORM_ROOM_BYTES))
        transform.into(piece, room)
        found += bytes(room[: len(piece)])
    assert found == plain[start:]
