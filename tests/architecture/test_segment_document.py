"""The tables of docs/formats/segment.md are what the code packs."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from putter.storage import block_file
from putter.storage.segments import engine, files, formats, index_file, packing, writer
from tests.storage_kit import KEY
from tools import read_segments as tool

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "segment.md").read_text("utf-8")
TABLE = re.compile(r"<!-- table: (\w+) -->\n\|[^\n]*\n\|[-|]*\n((?:\|[^\n]*\n)+)")
ITEMS = {"i8": "<i8", "u8": "<u8", "u4": "<u4", "u2": "<u2", "u1": "|u1"}
Layout = list[tuple[int, int]]


def tables() -> dict[str, list[list[str]]]:
    """Cells of the rows of each marked table."""
    return {
        name: [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]
        for name, rows in TABLE.findall(PAGE)
    }


def fixed(name: str) -> Layout:
    """Offsets and sizes of a table's fields, up to the first whose place depends on others."""
    rows = [(offset, size) for offset, size, _ in tables()[name]]
    return [(int(offset), int(size)) for offset, size in rows if (offset + size).isdigit()]


def packed(layout: struct.Struct) -> Layout:
    """The same of a struct."""
    out, at = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        if code == "x":
            at += int(count or 1)
            continue
        times = 1 if code == "s" else int(count or 1)
        size = struct.calcsize(f"<{count if code == 's' else ''}{code}")
        for _ in range(times):
            out.append((at, size))
            at += size
    assert at == layout.size
    return out


def test_every_table_is_checked() -> None:
    packed = {"packed", "entry", "bound"}
    assert set(tables()) == {"first", "header", "kinds", "index", "columns", "rows"} | packed
    assert PAGE.count("<!-- table:") == len(tables())


def test_the_first_block() -> None:
    end = formats._FIRST.size
    assert fixed("first") == [*packed(formats._FIRST), (end, 8)]
    assert f"| sum of bytes 0…{end - 1} |" in PAGE


def test_the_header_of_a_record() -> None:
    end = formats._HEADER.size
    assert fixed("header") == [*packed(formats._HEADER), (end, 8)]
    assert [row[0] for row in tables()["header"][-3:]] == ["80", "80 + *o*", "80 + *o* + *k*"]
    assert end + 8 == formats.HEADER_BYTES == 80
    assert "length / 80" in PAGE
    assert f"at most {formats.NAME_BYTES_MAX} |" in PAGE


def test_packed_bodies() -> None:
    end = packing.HEAD_BYTES
    assert _padded(tables()["packed"]) == [*packed(packing._HEAD), (end, packing.ENTRY_BYTES)]
    assert _padded(tables()["entry"]) == packed(packing._ENTRY)
    assert _padded(tables()["bound"]) == packed(packing._BOUND)
    for context in (packing._RECORD_KEY, packing._KEY_ID):
        assert f"`{context}`" in PAGE
    assert f"more than {packing.BLOCK_PLAIN_BYTES_MAX >> 20} MiB of plain bytes" in PAGE
    told = re.findall(r"version, (\d), or (\d) if", PAGE)
    assert told == [
        (str(formats._VERSION), str(formats._PACKED_VERSION)),
        (str(index_file._VERSION), str(index_file._PACKED_VERSION)),
    ]


def _padded(rows: list[list[str]]) -> Layout:
    """Offsets and sizes of what is no padding, up to the first place that depends on others."""
    fields = [
        (offset, size.removesuffix(" · *n*")) for offset, size, name in rows if name != "zero"
    ]
    return [(int(offset), int(size)) for offset, size in fields if (offset + size).isdigit()]


def test_the_first_block_of_an_index() -> None:
    counts, bounds = 8 * len(index_file.COLUMNS), index_file._BOUND.size * len(index_file.BOUNDS)
    rows = packed(index_file._FIXED)
    at = index_file._FIXED.size
    for size in (counts, bounds, 8, 8):
        rows.append((at, size))
        at += size
    assert fixed("index") == rows
    assert f"each of the {len(index_file.COLUMNS)} columns" in PAGE
    (told,) = re.findall(r"five pairs .*? each: (.*?);", PAGE)
    assert tuple(re.findall(r"`(\w+)`", told)) == index_file.BOUNDS


def test_magic_words_and_versions() -> None:
    words = re.findall(r"\| 0 \| \d \| magic `(\w+)` \|\n\| \d \| \d \| version, (\d)", PAGE)
    assert words == [
        (formats._MAGIC.decode(), str(formats._VERSION)),
        (formats.RECORD_MAGIC.decode(), str(formats._VERSION)),
        (index_file._MAGIC.decode(), str(index_file._VERSION)),
    ]


def test_the_kinds() -> None:
    told = {int(number): name.strip("`") for number, name, _ in tables()["kinds"]}
    assert told == {kind.value: kind.name for kind in formats.Kind}
    assert formats._PAIR.format == "<qq"
    assert list(formats.Kind) == [tool.RUN, tool.COMMIT, tool.FREED, tool.DROPPED]


def test_the_columns_of_an_index() -> None:
    rows = {"run": index_file._RUN, "record": index_file._RECORD, "removal": index_file._REMOVAL}
    told = [(name.strip("`"), item) for name, item, _ in tables()["columns"]]
    known = [
        (name, next((each for each in rows if rows[each] == kind), kind.str.strip("<|")))
        for name, kind in index_file.COLUMNS
    ]
    assert told == known
    assert [row[0] for row in tables()["rows"]] == list(rows)


@pytest.mark.parametrize("item", ["run", "record", "removal"])
def test_the_rows_of_an_index(item: str) -> None:
    kind = {"run": index_file._RUN, "record": index_file._RECORD, "removal": index_file._REMOVAL}
    (row,) = [row for row in tables()["rows"] if row[0] == item]
    fields = [(name, ITEMS[size]) for name, size in re.findall(r"`(\w+)` (\w\d)", row[2])]
    assert np.dtype(fields) == kind[item]
    assert int(row[1]) == kind[item].itemsize


def test_the_limits() -> None:
    mib, kib = 1 << 20, 1 << 10
    assert f"A *block* has {block_file.BLOCK_BYTES} bytes" in PAGE
    low, high = files.SEGMENT_BYTES_MIN // mib, files.SEGMENT_BYTES_USUAL // mib
    assert f"segments of {low} to {high} MiB" in PAGE
    most, wanted = files.SEGMENT_BYTES_MAX // mib >> 10, files.SEGMENTS_WANTED_MAX
    assert f"as many as make {wanted:_} segments, at most {most} GiB".replace("_", " ") in PAGE
    assert f"closed at {writer._ENTRIES_MAX:_}".replace("_", " ") in PAGE
    assert f"{engine._REMOVAL_PAIRS} pairs in a removal" in PAGE
    assert f"The last {writer._REMOVAL_ROOM // kib} KiB of a segment" in PAGE


def test_a_sum_is_what_the_document_says() -> None:
    """Of the code and of the tool, which share none."""
    assert formats.seal_of(KEY, b"some ", b"bytes") == tool.sum_of(KEY, b"some bytes")
    assert tool.HEADER.format == formats._HEADER.format
    assert tool.FIRST.size == formats._FIRST.size
