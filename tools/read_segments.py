"""Read the data directory of a node, layout `segments`, without the program that wrote it.

  list      runs with what is not freed of them, and where they lie
  records   commit records that are not dropped; the body as a literal of Python
  verify    check every record, also of what was freed since
  extract   OBJECT (in the order of its tickets), ticket:TICKET or raw:TICKET into a file, or to -

  python tools/read_segments.py data/putter extract 2K photo.jpg --key-file data/cluster.key

Stop the node before; nothing is written to it. Without a key file, frames only have to stand where
their tickets belong; of what is encrypted (compressed, without zstandard) stored bytes are checked.
Ends with 0; 1 if something is damaged or missing, as standard error tells; 2 if it cannot begin.
See docs/formats/segment.md. Memory: what one segment lists, 60 bytes a record of all, one body.
"""

import os
import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, namedtuple
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from blake3 import blake3

try:
    import zstandard as zstd
except ImportError:
    zstd = None
BLOCK, MIB, MAGIC = 4096, 1 << 20, re.compile(b"PREC")
RUN, COMMIT, FREED, DROPPED = 1, 2, 3, 4
FIRST, RANGE = Struct("<16x Q 24x QQ 24x 32s"), Struct("<qq")
HEADER = Struct("<4sBBBB QQ II qQ IIII 8s")
PACKED, ENTRY, MARK = Struct("<xB2xI24x"), Struct("<IB3x8s"), Struct(">QQI")
Head = namedtuple("Head", "number previous_end end secret")  # noqa: PYI024
Record = namedtuple(  # noqa: PYI024 - names for the struct, and what follows from it
    "Record",
    "magic version kind flags key_length segment sequence epoch commit first number tickets "
    "frame_bytes body_bytes object_length body_sum at object_id key_id body_at end place",
)


class Directory:
    """The segments of a data directory; ``damaged`` once something was found missing."""

    def __init__(self, path: Path, keys: dict[str, bytes]) -> None:
        self.root, self.keys, self.damaged = path / "segments", keys, False
        self.files = {int(f.stem, 16): f for f in sorted(self.root.glob("[0-9a-f]" * 16 + ".seg"))}
        state = self.head(self.root / "state")
        heads = {n: head for n, file in self.files.items() if (head := self.head(file, n))}
        if not (state or heads):
            raise ValueError(f"no {self.root}/state, no whole segment; perhaps in {path}/putter")
        if state is None:
            self.lose(f"{self.root}/state is damaged: the newest segment tells what it knows")
        state = self.state = state or heads[max(heads)]
        heads = {n: head for n, head in heads.items() if head.secret == state.secret}
        self.ends = {n - 1: head.previous_end for n, head in heads.items() if head.previous_end}
        # The newest, without a whole first block and without a record, was never used.
        last = state.number
        self.numbers = [n for n in self.files if n in heads or n <= last or any(self.scan(n))]
        for number in sorted({*self.numbers} - {*heads}):
            self.lose(f"segment {number:016x}: the first block is damaged")
        if last not in [0, *self.numbers]:
            self.lose(f"segment {last:016x}, the newest, is gone")

    def lose(self, text: str, *, harmless: bool = False) -> None:
        """Tell of something that is not there any more."""
        self.damaged = self.damaged or not harmless
        sys.stderr.write(f"{text}\n")

    def read(self, file: Path, offset: int, length: int) -> bytes:
        """Some bytes; fewer at the end of the file, or where the disk cannot read."""
        try:
            with file.open("rb", buffering=0) as raw:
                return os.pread(raw.fileno(), length, offset)
        except OSError as error:
            self.lose(f"{file}, byte {offset}: {error}")
            return b""

    def head(self, file: Path, number: int | None = None) -> Head | None:
        """The first block of a segment, or the state; None if it is damaged."""
        data = self.read(file, 0, BLOCK).ljust(BLOCK)
        head = Head._make(FIRST.unpack_from(data))
        good = data[:12] == b"PUTTRSEG\1\0\0\0" and data[120:128] == sum_of(head.secret, data[:120])
        return head if good and number in (None, head.number) else None

    def header(self, number: int, at: int) -> Record | None:
        """The record that begins there; None if there is none."""
        data = self.read(self.files[number], at, 1024).ljust(80)
        fields = HEADER.unpack_from(data)
        middle, end = 80 + fields[14], 80 + fields[14] + fields[4]
        good = data[:5] in (b"PREC\1", b"PREC\2") and fields[5] == number and fields[14] <= 255
        if not good or data[72:80] != sum_of(self.state.secret, data[:72] + data[80:end]):
            return None
        names, stop = (data[80:middle].decode(), data[middle:end].decode()), at + end + fields[13]
        place = f"segment {number:016x}, byte {at}"
        return Record._make((*fields, at, *names, at + end, stop + -stop % 8, place))

    def scan(self, number: int) -> Iterator[tuple[Record, int]]:
        """Records, and where something begins before each that is none; 0 if nothing is there."""
        file, at, broken, newest = self.files[number], BLOCK, 0, (0, 0)
        size = min(file.stat().st_size, self.ends.get(number, 1 << 63))
        while at + 80 <= size:
            record = self.header(number, at)
            if record is None or record.end > size or (record.epoch, record.commit) < newest:
                pieces = ((base, self.read(file, base, MIB)) for base in range(at + 8, size, MIB))
                hits = (base + m.start() for base, data in pieces for m in MAGIC.finditer(data))
                broken, at = broken or at, next((hit for hit in hits if hit % 8 == 0), size)
                continue
            padded = at == broken + -broken % BLOCK == record.commit * BLOCK
            if padded and not any(self.read(file, broken, at - broken)):
                broken = 0
            yield record, broken
            at, broken, newest = record.end, 0, (record.epoch, record.commit)

    def records(self, number: int) -> Iterator[Record]:
        """The records of a segment that count."""
        found, newest = list(self.scan(number)), number == self.numbers[-1]
        synced = self.ends.get(number, self.state.end if number == self.state.number else 0)
        promised = max([synced + -synced % BLOCK, BLOCK, *(r.commit * BLOCK for r, _ in found)])
        name, stop, torn = f"segment {number:016x}", found[-1][0].end if found else BLOCK, 0
        for record, gap in found:
            if gap:
                torn = max(gap, promised) if record.at > promised else 0
                if not torn or gap < synced or gap + -gap % BLOCK < promised:
                    self.lose(f"{name}: bytes {gap} to {torn or record.at} are damaged")
            known = record.kind != RUN or record.version == 2 or record.key_id in self.keys
            if not torn and record.at >= promised and known and self.faults(record):
                torn = record.at
            if torn:
                self.lose(f"{name}: byte {torn} and on was promised to nobody", harmless=newest)
                return
            yield record
        if stop < synced:
            self.lose(f"{name}: bytes {stop} to {synced} are damaged")

    def faults(self, record: Record) -> list[str]:
        """What of a body is damaged."""
        if record.kind == RUN:
            return [f"ticket {spell(n)}" for n, data in self.frames(record) if data == b""]
        return [f"the body of a record of kind {record.kind}"] if self.body(record) is None else []

    def body(self, record: Record) -> bytes | None:
        """What stands in a record that is no run; None if it is damaged."""
        body = self.read(self.files[record.segment], record.body_at, record.body_bytes)
        return body if sum_of(self.state.secret, body) == record.body_sum else None

    def blocks(self, record: Record) -> Iterator[tuple[int, bytes | None]]:
        """Of a run: length of some frames, and those: empty if damaged, None if not readable."""
        file, at, left = self.files[record.segment], record.body_at, record.number
        if record.version == 1:
            yield record.body_bytes, self.read(file, at, record.body_bytes)
            return
        cipher, rows = PACKED.unpack(self.read(file, at, 32).ljust(32))
        front = self.read(file, at, 32 + 16 * -(-record.tickets // max(rows, 1)))
        if sum_of(self.state.secret, front) != record.body_sum:
            yield left, b""
            return
        at, step = at + len(front), rows * (record.frame_bytes + 16)
        for length, compressed, seal in ENTRY.iter_unpack(front[32:]):
            data: bytes | None = self.read(file, at, length)
            if sum_of(self.state.secret, data) != seal:
                data = b""
            elif cipher or (compressed and zstd is None):
                data = None
            elif compressed:
                try:
                    data = zstd.ZstdDecompressor().decompress(data, min(step, left))
                except zstd.ZstdError:
                    data = b""
            yield min(step, left), data
            at, left = at + length, left - step

    def frames(self, record: Record) -> Iterator[tuple[int, bytes | None]]:
        """Tickets and data: empty if ticket, checksum and data do not fit, None if not readable."""
        stride, key, ticket = record.frame_bytes + 16, self.keys.get(record.key_id), record.first
        for size, data in self.blocks(record):
            for at in range(0, size, stride):
                row = (data or b"")[at : at + stride]
                good = row[:8] == spell(ticket).encode().ljust(8, b"\0")
                good = good and (key is None or row[8:16] == sum_of(key, row[:8] + row[16:]))
                yield ticket, None if data is None else row[16:] if good else b""
                ticket += 1

    def live(self, kind: int) -> Iterator[tuple[Record, int, int]]:
        """Runs with what is left of their tickets, or commit records; the newest first."""
        found = (each for number in self.numbers for each in self.records(number))
        marks = [MARK.pack(each.sequence, each.segment, each.at) for each in found]
        taken: dict[tuple[bool, int], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for _, number, at in map(MARK.unpack, sorted(marks, reverse=True)):
            record = self.header(number, at)
            assert record is not None, "somebody writes to this directory"
            counted = {RUN: [(record.first, record.tickets)], COMMIT: [(record.number, 1)]}
            ranges = counted.get(record.kind, [])
            if record.kind in (FREED, DROPPED):
                for fault in self.faults(record):
                    self.lose(f"{record.place}: {fault} is damaged: what it removed may be back")
                ranges = list(RANGE.iter_unpack(self.body(record) or b""))
            space = taken[record.kind in (COMMIT, DROPPED), record.flags & 1]
            for first, count in ranges:
                parts = take(*space, first, first + count)
                yield from ((record, *part) for part in parts if record.kind == kind)

    def extract(self, wanted: str, out: str) -> None:
        """Write what is here of an object, or one ticket."""
        space, _, name = wanted.rpartition(":")
        number = int(name, 36) + (36 ** len(name) - 36) // 35
        low, high = (number, number + 1) if space else (0, 1 << 63)
        parts = sorted(
            (max(first, low), min(end, high), record)
            for record, first, end in self.live(RUN)
            if first < high and low < end and (record.flags & 1) == (space == "raw")
            if space or record.object_id == name
        )
        if not parts:
            self.lose(f"nothing of {wanted} is here")
            return
        with sys.stdout.buffer if out == "-" else Path(out).open("xb") as file:
            for first, end, record in parts:
                mine = ((n, data) for n, data in self.frames(record) if first <= n < end)
                for ticket, data in mine:
                    file.write(data or b"")
                    if not data:
                        why = "not readable" if data is None else "damaged"
                        self.lose(f"{record.place}: ticket {spell(ticket)} is {why} and left out")

    def show(self, command: str) -> None:
        """Write one of the listings."""
        write, kinds = sys.stdout.write, Counter[int]()
        if command == "list":
            for record, first, end in self.live(RUN):
                span = f"{'raw:' * (record.flags & 1)}{spell(first)}-{spell(end - 1)}"
                names = f"object {record.object_id or '-'}\tkey {record.key_id}\t{record.place}"
                write(f"{span}\t{end - first} of {record.frame_bytes} bytes\t{names}\n")
        elif command == "records":
            for record, number, _ in self.live(COMMIT):
                body, name = self.body(record), record.object_id or "-"
                if body is None:
                    self.lose(f"{record.place}: commit record {number} is damaged")
                else:
                    shown = repr(body) if record.version == 1 else "encrypted"
                    write(f"{number}\tstamp {record.first}\tobject {name}\t{shown}\n")
        else:
            for record in (each for number in self.numbers for each in self.records(number)):
                kinds[record.kind] += 1
                for fault in self.faults(record):
                    self.lose(f"{record.place}: {fault} is damaged")
            write(f"{kinds[1]} runs, {kinds[2]} commit records, {kinds[3] + kinds[4]} removals\n")


def take(starts: list[int], ends: list[int], first: int, end: int) -> list[tuple[int, int]]:
    """Put numbers among the stretches that were taken; those that were not there before."""
    touched = slice(bisect_left(ends, first), bisect_right(starts, end))
    gaps = list(zip([first, *ends[touched]], [*starts[touched], end], strict=True))
    starts[touched], ends[touched] = [min(first, gaps[0][1])], [max(end, gaps[-1][0])]
    return [(max(a, first), min(b, end)) for a, b in gaps if max(a, first) < min(b, end)]


def sum_of(key: bytes, data: bytes) -> bytes:
    """The eight bytes that guard all others."""
    return blake3(data, key=key).digest(8)


def spell(number: int) -> str:
    """A ticket's number as text."""
    front = spell(number // 36 - 1) if number >= 36 else ""
    return front + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 36]


def load_keys(path: Path) -> dict[str, bytes]:
    """Key ids and checksum subkeys of a cluster's key file."""
    found = [bytes.fromhex(line.split("#")[0]) for line in path.read_text().splitlines()]
    uses = ("data-putter 2026 key id", "data-putter 2026 frame checksum")
    pairs = ([blake3(key, derive_key_context=use).digest() for use in uses] for key in found if key)
    return {key_id[:4].hex(): subkey for key_id, subkey in pairs}


def main() -> int:
    """From the arguments to the exit code."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--key-file", metavar="F", type=Path, help="verify frames with these keys")
    parser.add_argument("directory", metavar="DATA_DIR", type=Path)
    parser.add_argument("command", choices=("list", "records", "verify", "extract"))
    parser.add_argument("what", nargs="*", metavar="WHAT OUT", help="of extract")
    given = parser.parse_args()
    if len(given.what) != 2 * (given.command == "extract"):
        parser.error("extract takes what to extract and a file, the others nothing")
    try:
        store = Directory(given.directory, load_keys(given.key_file) if given.key_file else {})
        store.extract(*given.what) if given.what else store.show(given.command)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return int(store.damaged)


if __name__ == "__main__":
    sys.exit(main())
