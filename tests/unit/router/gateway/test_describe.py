"""Versions as people and programs see them."""

from __future__ import annotations

import json

from common.records import Extent, StoredObject, Version
from router.gateway.describe import file_details, file_summary, least_holders, place_of_ticket

DIGEST = bytes(range(32))
ONE = StoredObject(
    "3F", 45, 10, DIGEST, (Extent(36, 3, 30, ("n1", "n2")), Extent(200, 2, 15, ("n3",)))
)
TWO = StoredObject("3G", 7, 10, DIGEST, (Extent(500, 1, 7, ("n1", "n2")),))


def version(*objects: StoredObject, **fields: object) -> Version:
    base: dict[str, object] = {
        "bucket": "photos",
        "key": "cat",
        "stamp": 36,
        "size": sum(each.size for each in objects),
        "etag": "e",
        "created_ms": 1_700_000_000_000,
        "objects": objects,
        "replicas": 2,
    }
    return Version(**(base | fields))  # type: ignore[arg-type]


def test_a_summary_says_what_was_written_and_where_the_name_is() -> None:
    told = file_summary(version(ONE, headers={"content-type": "image/png"}))
    assert told == {
        "bucket": "photos",
        "key": "cat",
        "size": 45,
        "etag": "e",
        "blake3": DIGEST.hex(),
        "object": "3F",
        "stamp": 36,
        "version": "00",
        "nodes_written": 1,
        "replicas_wanted": 2,
        "degraded": True,
        "created_ms": 1_700_000_000_000,
        "content_type": "image/png",
    }
    assert json.loads(json.dumps(told)) == told


def test_the_least_copies_of_any_byte_count() -> None:
    assert least_holders(version(ONE)) == 1
    assert least_holders(version(TWO)) == 2
    assert least_holders(version(TWO, ONE)) == 1
    assert least_holders(version()) == 2, "no byte is missing anywhere"


def test_who_counted_the_holders_knows_better() -> None:
    told = file_summary(version(TWO), holders=1)
    assert (told["nodes_written"], told["degraded"]) == (1, True)
    told = file_summary(version(TWO))
    assert (told["nodes_written"], told["degraded"]) == (2, False)


def test_a_file_without_a_byte_or_of_several_objects_has_no_single_hash() -> None:
    for objects in ((), (ONE, TWO)):
        told = file_summary(version(*objects))
        assert (told["blake3"], told["object"]) == (None, None)
    assert file_summary(version())["content_type"] == "application/octet-stream"


def test_details_name_every_ticket_and_node() -> None:
    told = file_details(version(ONE, TWO))
    assert told["size"] == 52
    first, second = told["objects"]
    assert (first["object"], first["tickets"], first["frame_bytes"]) == ("3F", 5, 10)
    assert first["extents"][0] == {
        "first": "00",
        "last": "02",
        "count": 3,
        "size": 30,
        "nodes": ["n1", "n2"],
        "owed": {},
    }
    assert [extent["first"] for extent in second["extents"]] == ["CW"]


def test_the_place_of_a_ticket() -> None:
    both = version(ONE, TWO)
    assert place_of_ticket(both, 36) == (0, ONE.extents[0])
    assert place_of_ticket(both, 38) == (20, ONE.extents[0])
    assert place_of_ticket(both, 39) is None
    assert place_of_ticket(both, 200) == (30, ONE.extents[1])
    assert place_of_ticket(both, 201) == (40, ONE.extents[1])
    assert place_of_ticket(both, 202) is None
    assert place_of_ticket(both, 500) == (45, TWO.extents[0])
    assert place_of_ticket(version(), 0) is None
