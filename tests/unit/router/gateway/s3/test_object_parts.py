"""Pages of the parts that an object came in."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.records import Version
from router.gateway.s3.failures import S3Error
from router.gateway.s3.object_parts import part_checksums, parts_tree

RUNS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9)), min_size=1, max_size=5)


def came_in(parts: Any, **kept: Any) -> Version:
    return Version("b", "k", 1, 1, "e-1", 1, (), parts=tuple(parts), **kept)


def told(parts: Any, **headers: str) -> tuple[dict[str, str], list[tuple[int, int]]]:
    named = {f"x-amz-{name.replace('_', '-')}": value for name, value in headers.items()}
    name, children = parts_tree(came_in(parts), named)
    assert name == "ObjectParts"
    fields = {word: value for word, value in children if word != "Part"}
    lines = [dict(value) for word, value in children if word == "Part"]
    return fields, [(int(line["PartNumber"]), int(line["Size"])) for line in lines]


def test_all_of_a_few() -> None:
    fields, lines = told([(2, 8), (1, 3)])
    assert lines == [(1, 8), (2, 8), (3, 3)]
    assert fields == {
        "PartsCount": "3",
        "PartNumberMarker": "0",
        "NextPartNumberMarker": "3",
        "MaxParts": "1000",
        "IsTruncated": "false",
    }


def test_behind_the_last_one_and_none_at_all() -> None:
    fields, lines = told([(2, 8)], part_number_marker="7")
    assert (lines, fields["IsTruncated"], fields["NextPartNumberMarker"]) == ([], "false", "0")
    fields, lines = told([(2, 8)], max_parts="0")
    assert (lines, fields["IsTruncated"]) == ([], "true")


def test_each_part_has_its_own_checksum() -> None:
    digests = [bytes([number]) * 4 for number in range(3)]
    version = came_in([(2, 8), (1, 3)], checksums={"crc32": "x-3"}, digests=b"".join(digests))
    sums = [b64encode(digest).decode() for digest in digests]
    assert [part_checksums(version, number) for number in (1, 2, 3)] == [
        {"crc32": each} for each in sums
    ]
    _, children = parts_tree(version, {"x-amz-part-number-marker": "1"})
    lines = [dict(value) for word, value in children if word == "Part"]
    assert [line["ChecksumCRC32"] for line in lines] == sums[1:]
    assert part_checksums(came_in([(2, 8)], checksums={"crc32": "x"}), 1) == {}


@given(RUNS, st.integers(1, 40))
def test_pages_are_all_parts_in_their_order(parts: list[tuple[int, int]], limit: int) -> None:
    sizes = [size for count, size in parts for _ in range(count)]
    found: list[tuple[int, int]] = []
    marker, more = "0", "true"
    while more == "true":
        fields, lines = told(parts, max_parts=str(limit), part_number_marker=marker)
        assert 1 <= len(lines) <= limit
        found += lines
        marker, more = fields["NextPartNumberMarker"], fields["IsTruncated"]
    assert found == list(enumerate(sizes, 1))


@pytest.mark.parametrize("name", ["max_parts", "part_number_marker"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 20, "٣"])
def test_what_is_no_number(name: str, value: str) -> None:
    with pytest.raises(S3Error) as caught:
        told([(1, 1)], **{name: value})
    assert caught.value.code == "InvalidArgument"
