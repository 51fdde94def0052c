"""The file beside a sealed segment that says what is in it.

```
block   content
0       magic, version (2 if there are packed runs, else 1), segment number, counts and bounds,
        checksums (below)
1…      columns, each beginning at a multiple of 8: runs by ticket, raw runs by ticket, commit
        records by number, their stamps and objects in order, removals, key ids
```

It is written once and never changed; a damaged one is made again from its segment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from common.checksum import CHECKSUM_BYTES, Buffer
from common.errors import StorageError
from putter.storage.block_file import BLOCK_BYTES
from putter.storage.segments.formats import aligned, seal_of
from putter.storage.segments.open_index import OpenIndex

_MAGIC: Final = b"PUTTRIDX"
_VERSION: Final = 1
_PACKED_VERSION: Final = 2
PACKED: Final = 1 << 31
"""Set in the `frame_bytes` of a packed run, in a file of version 2."""
_FIXED: Final = struct.Struct("<8sIIQQQqQ")
_I8: Final = np.dtype("<i8")
_U8: Final = np.dtype("<u8")
_U4: Final = np.dtype("<u4")
_RUN: Final = np.dtype(
    [
        ("record", "<u4"), ("length", "<u4"), ("count", "<u4"), ("body", "<u4"),
        ("body_bytes", "<u4"), ("frame_bytes", "<u4"), ("sequence", "<u8"), ("object", "<u8"),
        ("key", "<u2"),
    ]
)  # fmt: skip
_RECORD: Final = np.dtype(
    [
        ("record", "<u4"), ("length", "<u4"), ("stamp", "<u8"), ("object", "<u8"),
        ("sequence", "<u8"),
    ]
)  # fmt: skip
_REMOVAL: Final = np.dtype(
    [
        ("record", "<u4"), ("length", "<u4"), ("sequence", "<u8"), ("first", "<i8"),
        ("count", "<i8"), ("kind", "u1"),
    ]
)  # fmt: skip
COLUMNS: Final[tuple[tuple[str, np.dtype[Any]], ...]] = (
    ("run_first", _I8),
    ("run", _RUN),
    ("raw_first", _I8),
    ("raw", _RUN),
    ("number", _U8),
    ("record", _RECORD),
    ("stamp", _U8),
    ("by_stamp", _U4),
    ("object", _U8),
    ("by_object", _U4),
    ("removal", _REMOVAL),
    ("key", np.dtype("u1")),
)
BOUNDS: Final = ("run", "raw", "number", "stamp", "object")
_BOUND: Final = struct.Struct("<QQ")
_NONE: Final = (1, 0)

Column = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class IndexHead:
    """The first block of an index file.

    Attributes:
        segment: number of the segment.
        used_bytes: of the segment, up to the end of its last record.
        live_bytes: of it, when it was sealed.
        highest_sequence: of its records; -1 if it has none.
        highest_number: of its commit records; 0 if it has none.
        counts: items of each column.
        bounds: lowest and highest of what is looked for; lowest > highest where there is nothing.
        body_sum: checksum of all behind the first block.
    """

    segment: int
    used_bytes: int
    live_bytes: int
    highest_sequence: int
    highest_number: int
    counts: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]
    body_sum: bytes


def encode_index(index: OpenIndex, segment: int, used_bytes: int, secret: bytes) -> bytes:
    """The file for an index that does not grow any more."""
    columns: dict[str, Column] = {}
    keys: dict[str, int] = {}
    packed = False
    bounds: dict[str, tuple[int, int]] = {}
    for name, raw in (("run", False), ("raw", True)):
        places = list(index.all_runs(raw=raw))
        columns[f"{name}_first"] = np.array([place.first for place in places], _I8)
        columns[name] = np.array(
            [
                (
                    place.record, place.length, place.count, place.body, place.body_bytes,
                    place.frame_bytes | PACKED * place.packed, place.sequence, place.object_key,
                    keys.setdefault(place.key_id, len(keys)),
                )
                for place in places
            ],
            _RUN,
        )  # fmt: skip
        bounds[name] = (places[0].first, places[-1].end - 1) if places else _NONE
        packed = packed or any(place.packed for place in places)
    records = index.after(0, 1 << 62)
    columns["number"] = np.array([place.number for place in records], _U8)
    columns["record"] = np.array(
        [(p.record, p.length, p.stamp, p.object_key, p.sequence) for p in records], _RECORD
    )
    for name in ("stamp", "object"):
        values = columns["record"][name]
        order = np.argsort(values, kind="stable")
        columns[name] = values[order].astype(_U8)
        columns[f"by_{name}"] = order.astype(_U4)
    for name in ("number", "stamp", "object"):
        values = columns[name]
        bounds[name] = (int(values[0]), int(values[-1])) if len(values) else _NONE
    columns["removal"] = np.array(
        [
            (each.record, each.length, each.sequence, first, count, each.raw + 2 * each.dropped)
            for each in index.removals
            for first, count in each.ranges
        ],
        _REMOVAL,
    )
    columns["key"] = np.frombuffer("\n".join(keys).encode(), np.uint8)
    body = b"".join(
        columns[name].tobytes().ljust(aligned(columns[name].nbytes), b"\0") for name, _ in COLUMNS
    )
    head = _FIXED.pack(
        _MAGIC,
        _PACKED_VERSION if packed else _VERSION,
        0,
        segment,
        used_bytes,
        index.live_bytes,
        index.highest_sequence,
        index.highest_number,
    )
    head += struct.pack(f"<{len(COLUMNS)}Q", *(len(columns[name]) for name, _ in COLUMNS))
    head += b"".join(_BOUND.pack(*bounds[name]) for name in BOUNDS)
    head += seal_of(secret, body)
    head += seal_of(secret, head)
    return head.ljust(BLOCK_BYTES, b"\0") + body


def decode_head(data: Buffer, secret: bytes) -> IndexHead | None:
    """The head of an index file; None if it is damaged."""
    counts_size = 8 * len(COLUMNS)
    size = _FIXED.size + counts_size + _BOUND.size * len(BOUNDS) + CHECKSUM_BYTES
    if len(data) < BLOCK_BYTES:
        return None
    head = bytes(data[: size + CHECKSUM_BYTES])
    if head[size:] != seal_of(secret, head[:size]):
        return None
    magic, version, _, segment, used, live, sequence, number = _FIXED.unpack_from(head)
    if magic != _MAGIC or version not in (_VERSION, _PACKED_VERSION):
        return None
    counts = struct.unpack_from(f"<{len(COLUMNS)}Q", head, _FIXED.size)
    at = _FIXED.size + counts_size
    bounds = tuple(_BOUND.iter_unpack(head[at : size - CHECKSUM_BYTES]))
    body_sum = head[size - CHECKSUM_BYTES : size]
    return IndexHead(segment, used, live, sequence, number, counts, bounds, body_sum)


class DamagedIndexError(StorageError):
    """The file is not what was written.

    Attributes:
        segment: number of the segment that it is about.
    """

    def __init__(self, segment: int) -> None:
        super().__init__(f"the index of segment {segment:016x} is damaged")
        self.segment = segment
