"""Read the data directory of a node, layout `segments`, without the program that wrote it.

A second implementation of docs/formats/segment.md. It reads the ``.seg`` files and
``segments/state``, never an index, and writes nothing there. Memory: what one segment lists,
60 bytes for each record of all, and one body. Stop the node before.
"""

import argparse
import os
import re
import struct
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, namedtuple
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

try:
    import zstandard as zstd
except ImportError:
    zstd = None
HELP = """Read a node's data directory of the layout `segments` without the node's program.

  list      runs with what is not freed of them, and where they lie
  records   commit records that are not dropped; the body as a literal of Python
  verify    check every record, also of what was freed since
  extract   OBJECT (in the order of its tickets), ticket:TICKET or raw:TICKET into a file, or to -

  python tools/read_segments.py --key-file data/cluster.key data/putter verify
  python tools/read_segments.py data/putter extract 2K photo.jpg

Without a key file, frames are only checked to stand where their tickets belong. Of what is
encrypted (and, without the package zstandard, compressed) only the stored bytes are checked. Ends
with 0; with 1 if something is damaged or missing, as standard error tells; 2 if it cannot begin."""
BLOCK, MIB = 4096, 1 << 20
RUN, COMMIT, FREED, DROPPED = 1, 2, 3, 4
FIRST = struct.Struct("<8sI4x Q 24x QQ 24x 32s")
HEADER = struct.Struct("<4sBBBB QQ II qQ IIII 8s")
PACKED, ENTRY = struct.Struct("<xB2xI24x"), struct.Struct("<IB3x8s")
Head = namedtuple("Head", "magic version number previous_end end secret")  # noqa: PYI024
Record = namedtuple(  # noqa: PYI024 - names for the struct, and what follows from it
    "Record",
    "magic version kind flags key_length segment sequence epoch commit first number tickets "
    "frame_bytes body_bytes object_length body_sum at object_id key_id body_at end place",
)


class Directory:
    """The segments of a data directory; ``damaged`` once something was found missing."""

    def __init__(self, path: Path, keys: dict[str, bytes]) -> None:
        self.root, self.keys, self.damaged = path / "segments", keys, False
        if not self.root.is_dir():
            raise ValueError(f"no {self.root}; a store that runs alone has it in {path}/putter")
        found = sorted(int(file.stem, 16) for file in self.root.glob("[0-9a-f]" * 16 + ".seg"))
        state_file = self.root / "state"
        state = decode_head(state_file.read_bytes()) if state_file.exists() else None
        whole = [(number, decode_head(self.read(number, 0, BLOCK))) for number in found]
        heads = {number: head for number, head in whole if head and head.number == number}
        if not (state or heads):
            raise ValueError(f"neither {state_file} nor any segment tells the secret of the sums")
        if state is None:
            self.lose(f"{state_file} is damaged: the newest segment tells what it knows")
        self.state = state or heads[max(heads)]
        self.heads = {n: head for n, head in heads.items() if head.secret == self.state.secret}
        self.numbers = []
        for number in found:
            # The newest, without a whole first block and without a record, was never used.
            if number in self.heads or number <= self.state.number or any(self.scan(number)):
                self.numbers.append(number)
                if number not in self.heads:
                    self.lose(f"segment {number:016x}: the first block is damaged")
        if self.state.number not in [0, *self.numbers]:
            self.lose(f"segment {self.state.number:016x}, the newest, is gone")

    def lose(self, text: str) -> None:
        """Tell of something that is not there any more."""
        self.damaged = True
        sys.stderr.write(f"{text}\n")

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Some bytes of a segment; fewer at its end, or where the disk cannot read."""
        try:
            with (self.root / f"{number:016x}.seg").open("rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            self.lose(f"segment {number:016x}, byte {offset}: {error}")
            return b""

    def header(self, number: int, at: int) -> Record | None:
        """The record that begins there; None if there is none."""
        data = self.read(number, at, 1024).ljust(80)
        fields = HEADER.unpack_from(data)
        middle, end = 80 + fields[14], 80 + fields[14] + fields[4]
        good = data[:5] in (b"PREC\1", b"PREC\2") and fields[5] == number and fields[14] <= 255
        if not good or data[72:80] != sum_of(self.state.secret, data[:72] + data[80:end]):
            return None
        names, stop = (data[80:middle].decode(), data[middle:end].decode()), at + end + fields[13]
        place = f"segment {number:016x}, byte {at}"
        return Record._make((*fields, at, *names, at + end, stop + -stop % 8, place))

    def scan(self, number: int, limit: int = 1 << 63) -> Iterator[Record | tuple[int, int]]:
        """Records, and from where to where something is that is none."""
        size = min(limit, (self.root / f"{number:016x}.seg").stat().st_size)
        at, broken, ended, newest = BLOCK, 0, False, (0, 0)
        while at + 80 <= size:
            record = self.header(number, at)
            if record is None or record.end > size or (record.epoch, record.commit) < newest:
                if not broken:
                    broken, ended = at, not any(self.read(number, at, -at % BLOCK))
                at = self.find(number, at + 8, size)
                continue
            fresh = broken + -broken % BLOCK
            if broken and not (ended and at == fresh == record.commit * BLOCK):
                yield broken, at
            broken, newest = 0, (record.epoch, record.commit)
            yield record
            at = record.end

    def find(self, number: int, at: int, size: int) -> int:
        """Where the next record may begin."""
        for base in range(at, size, MIB):
            for hit in re.finditer(b"PREC", self.read(number, base, MIB)):
                if hit.start() % 8 == 0:
                    return base + hit.start()
        return size

    def records(self, number: int) -> Iterator[Record]:
        """The records of a segment that count."""
        name, following = f"segment {number:016x}", self.heads.get(number + 1)
        end = following.previous_end if following else 0
        synced = end or (self.state.end if number == self.state.number else 0)
        found = list(self.scan(number, end or 1 << 63))
        commits = [each.commit * BLOCK for each in found if isinstance(each, Record)]
        promised, stop, torn = max([synced + -synced % BLOCK, BLOCK, *commits]), BLOCK, 0
        for each in found:
            if not isinstance(each, Record):
                torn = max(each[0], promised) if each[1] > promised else 0
                if not torn or each[0] < synced or each[0] + -each[0] % BLOCK < promised:
                    self.lose(f"{name}: bytes {each[0]} to {torn or each[1]} are damaged")
            elif each.at >= promised and (
                each.kind != RUN or each.version == 2 or each.key_id in self.keys
            ):
                torn = each.at if any(self.faults(each)) else 0
            if torn:
                sys.stderr.write(f"{name}: what follows byte {torn} was promised to nobody\n")
                self.damaged = self.damaged or number != self.numbers[-1]
                return
            if isinstance(each, Record):
                stop = each.end
                yield each
        if stop < synced:
            self.lose(f"{name}: bytes {stop} to {synced} are damaged")

    def faults(self, record: Record) -> Iterator[str]:
        """What of a body is damaged."""
        if record.kind != RUN and self.body(record) is None:
            yield f"{record.place}: the body of a record of kind {record.kind} is damaged"
        if record.kind == RUN:
            frames = self.frames(record, record.first, record.first + record.tickets)
            bad = (number for number, data in frames if data == b"")
            yield from (f"{record.place}: ticket {spell(number)} is damaged" for number in bad)

    def body(self, record: Record) -> bytes | None:
        """What stands in a record that is no run; None if it is damaged."""
        body = self.read(record.segment, record.body_at, record.body_bytes)
        return body if sum_of(self.state.secret, body) == record.body_sum else None

    def blocks(self, record: Record) -> Iterator[tuple[int, bytes, int]]:
        """Of a run: plain length, stored bytes (none if damaged); 1 compressed, 2 encrypted."""
        segment, at, left = record.segment, record.body_at, record.number
        if record.version == 1:
            yield record.body_bytes, self.read(segment, at, record.body_bytes), 0
            return
        cipher, rows = PACKED.unpack(self.read(segment, at, 32).ljust(32))
        front = self.read(segment, at, 32 + 16 * -(-record.tickets // max(rows, 1)))
        if sum_of(self.state.secret, front) != record.body_sum:
            yield left, b"", 0
            return
        at, step = at + len(front), rows * (record.frame_bytes + 16)
        for length, bits, seal in ENTRY.iter_unpack(front[32:]):
            data = self.read(segment, at, length)
            whole = data if sum_of(self.state.secret, data) == seal else b""
            yield min(step, left), whole, bits | 2 * (cipher > 0)
            at, left = at + length, left - step

    def frames(self, record: Record, first: int, end: int) -> Iterator[tuple[int, bytes | None]]:
        """Tickets and data: empty if ticket, checksum and data do not fit, None if not readable."""
        stride, key, ticket = record.frame_bytes + 16, self.keys.get(record.key_id), record.first
        for size, data, bits in self.blocks(record):
            rows = plain(data, size, bits)
            for at in range(0, size, stride):
                row = (rows or b"")[at : at + stride]
                good = row[:8] == spell(ticket).encode().ljust(8, b"\0")
                good = good and (key is None or row[8:16] == sum_of(key, row[:8] + row[16:]))
                if first <= ticket < end:
                    yield ticket, None if rows is None else row[16:] if good else b""
                ticket += 1

    def live(self, kind: int) -> Iterator[tuple[Record, int, int]]:
        """Runs with what is left of their tickets, or commit records; the newest first."""
        marks: list[int] = []
        for number in self.numbers:
            marks += (each.sequence << 96 | number << 32 | each.at for each in self.records(number))
        taken: dict[tuple[bool, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for mark in sorted(marks, reverse=True):
            record = self.header(mark >> 32 & (1 << 64) - 1, mark & (1 << 32) - 1)
            assert record is not None, "somebody writes to this directory"
            counted = {RUN: [(record.first, record.tickets)], COMMIT: [(record.number, 1)]}
            ranges = counted.get(record.kind, [])
            if record.kind in (FREED, DROPPED):
                for fault in self.faults(record):
                    self.lose(f"{fault}: what it removed may be back")
                ranges = list(struct.iter_unpack("<qq", self.body(record) or b""))
            space = taken[record.kind in (COMMIT, DROPPED), record.flags & 1]
            for first, count in ranges:
                parts = take(*space, first, first + count)
                yield from ((record, *part) for part in parts if record.kind == kind)


def take(starts: list[int], ends: list[int], first: int, end: int) -> list[tuple[int, int]]:
    """Put numbers among the stretches that were taken; those that were not there before."""
    touched = slice(bisect_left(ends, first), bisect_right(starts, end))
    gaps = list(zip([first, *ends[touched]], [*starts[touched], end], strict=True))
    starts[touched], ends[touched] = [min(first, gaps[0][1])], [max(end, gaps[-1][0])]
    return [(max(a, first), min(b, end)) for a, b in gaps if max(a, first) < min(b, end)]


def plain(data: bytes, size: int, bits: int) -> bytes | None:
    """The frames of a block that is whole; None if this program cannot read it."""
    if data and (bits & 2 or (bits & 1 and zstd is None)):
        return None
    try:
        return zstd.ZstdDecompressor().decompress(data, size) if data and bits & 1 else data
    except zstd.ZstdError:
        return b""


def sum_of(key: bytes, data: bytes) -> bytes:
    """The eight bytes that guard all others."""
    return blake3(data, key=key).digest(8)


def spell(number: int) -> str:
    """A ticket's number as text."""
    text, number = "", number + 1
    while number:
        number, digit = divmod(number - 1, 36)
        text = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + text
    return text


def decode_head(data: bytes) -> Head | None:
    """The first block of a segment; None if it is damaged."""
    head = Head._make(FIRST.unpack_from(data.ljust(BLOCK)))
    good = data[:12] == b"PUTTRSEG\1\0\0\0" and data[120:128] == sum_of(head.secret, data[:120])
    return head if good else None


def load_keys(path: Path) -> dict[str, bytes]:
    """Key ids and checksum subkeys of a cluster's key file."""
    keys = {}
    for line in path.read_text().splitlines():
        if material := bytes.fromhex(line.split("#")[0]):
            key_id = blake3(material, derive_key_context="data-putter 2026 key id").hexdigest(4)
            subkey = blake3(material, derive_key_context="data-putter 2026 frame checksum")
            keys[key_id] = subkey.digest()
    return keys


def extract(store: Directory, wanted: str, out: str) -> None:
    """Write what is here of an object, or one ticket."""
    space, _, name = wanted.rpartition(":")
    number = int(name, 36) + (36 ** len(name) - 36) // 35
    low, high = (number, number + 1) if space else (0, 1 << 63)
    parts = sorted(
        (max(first, low), min(end, high), record)
        for record, first, end in store.live(RUN)
        if first < high and low < end and (record.flags & 1) == (space == "raw")
        if space or record.object_id == name
    )
    if not parts:
        store.lose(f"nothing of {wanted} is here")
        return
    with sys.stdout.buffer if out == "-" else Path(out).open("xb") as file:
        for first, end, record in parts:
            for ticket, data in store.frames(record, first, end):
                file.write(data or b"")
                if not data:
                    why = "not readable" if data is None else "damaged"
                    store.lose(f"{record.place}: ticket {spell(ticket)} is {why} and left out")


def show(store: Directory, command: str) -> None:
    """Write one of the listings."""
    write, kinds = sys.stdout.write, Counter[int]()
    if command == "list":
        for record, first, end in store.live(RUN):
            tickets = f"{'raw:' * (record.flags & 1)}{spell(first)}-{spell(end - 1)}\t{end - first}"
            names = f"object {record.object_id or '-'}\tkey {record.key_id}"
            write(f"{tickets} of {record.frame_bytes} bytes\t{names}\t{record.place}\n")
    elif command == "records":
        for record, number, _ in store.live(COMMIT):
            body, name = store.body(record), record.object_id or "-"
            if body is None:
                store.lose(f"{record.place}: commit record {number} is damaged")
            else:
                shown = repr(body) if record.version == 1 else "encrypted"
                write(f"{number}\tstamp {record.first}\tobject {name}\t{shown}\n")
    else:
        for record in (each for number in store.numbers for each in store.records(number)):
            kinds[record.kind] += 1
            for fault in store.faults(record):
                store.lose(fault)
        write(f"{kinds[1]} runs, {kinds[2]} commit records, {kinds[3] + kinds[4]} removals\n")


def main() -> int:
    """From the arguments to the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=HELP, formatter_class=raw)
    parser.add_argument("--key-file", metavar="F", type=Path, help="verify frames with these keys")
    parser.add_argument("directory", metavar="DATA_DIR", type=Path)
    parser.add_argument("command", choices=("list", "records", "verify", "extract"))
    parser.add_argument("what", nargs="*", metavar="WHAT OUT", help="of extract")
    given = parser.parse_args()
    if len(given.what) != 2 * (given.command == "extract"):
        parser.error("extract takes what to extract and a file, the others nothing")
    try:
        store = Directory(given.directory, load_keys(given.key_file) if given.key_file else {})
        extract(store, *given.what) if given.what else show(store, given.command)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return int(store.damaged)


if __name__ == "__main__":
    sys.exit(main())
