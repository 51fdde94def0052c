"""`tools/read_segments.py` sees what the engine sees, whatever happened to the directory.

The tool shares no code with the engine: both read docs/formats/segment.md, and each is held against
the other.
"""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from common.keys import ClusterKey
from common.limits import KIB
from common.meta.interface import Ceilings
from common.tickets import format_id
from common.wire import frames
from putter.storage.disk import RealDisk
from putter.storage.engine import Run
from putter.storage.memory_disk import MemoryDisk
from putter.storage.segments.engine import SegmentsEngine
from putter.storage.segments.packing import AtRest
from tests.storage_kit import PACKED, data_for, put, record
from tests.store_kit import ROOT
from tests.traffic_kit import SOAK
from tools import read_segments as tool

MATERIAL = bytes(range(32))
KEY = ClusterKey.from_material(MATERIAL)
TOOL = ROOT / "tools" / "read_segments.py"
SEGMENT_BYTES = 32 * KIB
ALL = 1 << 20
FRAME_BYTES = (5, 64, 1458, 4096)
SEEDS = range(100 if SOAK else 6)

COMPRESSED = AtRest(compress=True, block_bytes=2000)
View = tuple[dict[tuple[bool, int], bytes], dict[int, tuple[int, str, bytes]]]
"""Data of tickets by (raw, number); stamp, object and body of commit records by number."""


def verify(key_id: str, first: int, frame_bytes: int, rows: bytes) -> bool | None:
    if key_id != KEY.key_id:
        return None
    return not frames.check(memoryview(bytearray(rows)), first, frame_bytes, KEY.checksum).any()


def open_on(disk: MemoryDisk | RealDisk, at_rest: AtRest | None = None) -> SegmentsEngine:
    return SegmentsEngine(disk, segment_bytes=SEGMENT_BYTES, verify=verify, at_rest=at_rest)


def run_of(first: int, data: bytes, frame_bytes: int, object_id: str) -> Run:
    rows = memoryview(bytearray(frames.wire_bytes(len(data), frame_bytes)))
    frames.build(rows, memoryview(data), first, frame_bytes, KEY.checksum)
    return Run(first, rows, frame_bytes, object_id, KEY.key_id)


def seen_by_engine(engine: SegmentsEngine) -> View:
    tickets = {}
    for raw in (False, True):
        for piece in engine.read(0, ALL, raw=raw):
            stride = piece.frame_bytes + 16
            for index in range(piece.count):
                row = memoryview(bytearray(piece.frames))[index * stride :][:stride]
                ticket = piece.first + index
                if not frames.check(row, ticket, piece.frame_bytes, KEY.checksum).any():
                    tickets[raw, ticket] = bytes(row[16:])
    records = {
        each.number: (each.record.stamp, each.record.object_id, bytes(each.record.body))
        for each in engine.records(0, ALL)
    }
    return tickets, records


def seen_by_tool(directory: Path) -> View:
    store = tool.Directory(directory, {KEY.key_id: KEY.checksum})
    tickets = {}
    for header, first, end in store.live(tool.RUN):
        for ticket, data in store.frames(header):
            if data and first <= ticket < end:
                assert (bool(header.flags & 1), ticket) not in tickets
                tickets[bool(header.flags & 1), ticket] = data
    records = {}
    for header, number, _ in store.live(tool.COMMIT):
        body = store.body(header)
        if body is not None:
            records[number] = (header.first, header.object_id, body)
    return tickets, records


def copy_out(disk: MemoryDisk, target: Path) -> Path:
    """What a disk in memory holds, as the tool reads it: no indexes."""
    (target / "segments").mkdir(parents=True)
    for name in disk.names("segments"):
        path = f"segments/{name}"
        if name.endswith(".seg"):
            file = disk.blocks(path)
            (target / path).write_bytes(file.read(0, file.size))
        elif name == "state":
            (target / path).write_bytes(disk.read(path) or b"")
    return target


def live_on(engine: SegmentsEngine, generator: random.Random, step: int) -> None:
    """Something that happens to a store."""
    what = generator.randrange(12)
    first = generator.randrange(0, 4000, 40)
    if what < 6:
        raw = what == 5
        data = data_for(first, generator.choice([1, 40, 3000, 9000]), step)
        run = run_of(first, data, generator.choice(FRAME_BYTES), "" if raw else f"O{first}")
        put(engine, run, raw=raw)
    elif what < 8:
        engine.put_record(record(step + 1, f"O{first}" if what == 6 else ""))
    elif what == 8:
        raw = generator.random() < 0.3
        objects = generator.choice([None, None, {f"O{first}"}])
        engine.free([(first + generator.randrange(40), 1000)], raw=raw, objects=objects)
    elif what == 9:
        engine.drop_records([f"O{first + 40 * each}" for each in range(20)])
    elif what == 10:
        engine.tend(16 * KIB)
    else:
        engine.raise_ceilings(Ceilings(tickets=step))
    if generator.random() < 0.5:
        engine.sync()


@pytest.mark.parametrize(
    ("seed", "at_rest"),
    [*((seed, None) for seed in SEEDS), *((seed, COMPRESSED) for seed in SEEDS[: len(SEEDS) // 2])],
)
def test_the_tool_sees_what_the_engine_sees(
    seed: int, at_rest: AtRest | None, tmp_path: Path
) -> None:
    generator = random.Random(seed)
    disk = MemoryDisk()
    engine = open_on(disk, at_rest)
    for step in range(400):
        live_on(engine, generator, step)
        if generator.random() < 0.03:
            engine.sync()
            assert seen_by_tool(copy_out(disk, tmp_path / f"{step}")) == seen_by_engine(engine)
            way = generator.randrange(3)
            if way == 0:
                engine.close()
            elif way == 1:  # killed, and the power is lost: what was not synced is torn
                live_on(engine, generator, step)
                disk.crash(generator)
            else:
                live_on(engine, generator, step)
            left = copy_out(disk, tmp_path / f"{step}-left")
            engine = open_on(disk)
            assert seen_by_tool(left) == seen_by_engine(engine)
    assert len(list(left.glob("segments/*.seg"))) > 2
    assert all(seen_by_engine(engine))


# -- damage --------------------------------------------------------------------------------


def fill(directory: Path) -> View:
    """Several segments with runs, raw runs, commit records and removals."""
    directory.mkdir()
    engine = open_on(RealDisk(directory))
    for step in range(30):
        first, size = 100 * step, 200 + 577 * (step % 9)
        raw = step % 5 == 4
        data = data_for(first, size)
        frame_bytes = FRAME_BYTES[1 + step % 3]
        put(engine, run_of(first, data, frame_bytes, "" if raw else f"{step % 4}K"), raw=raw)
        engine.put_record(record(step + 1, f"{step % 4}K", data_for(step, 30 * step + 1)))
        if step % 6 == 5:
            engine.free([(first - 200, 2)])
            engine.sync()
    engine.drop_records(["3K"])
    engine.sync()
    seen = seen_by_engine(engine)
    engine.close()
    return seen


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "node")
    return tmp_path / "node"


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def segments(directory: Path) -> list[Path]:
    return sorted((directory / "segments").glob("*.seg"))


def bad_block(path: Path) -> None:
    overwrite(path, 8192, b"\xaa" * 4096)


def bad_first_block(path: Path) -> None:
    overwrite(path, 16, b"\xff" * 8)


def bad_header(path: Path) -> None:
    overwrite(path, 4096 + 40, b"\xff")


def zeros(path: Path) -> None:
    overwrite(path, 12288, bytes(4096))


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20000])


@pytest.mark.parametrize("number", [0, 1, -1])
@pytest.mark.parametrize("damage", [bad_block, bad_first_block, bad_header, zeros, shorter])
def test_both_see_the_same_behind_damage(
    directory: Path, damage: Callable[[Path], None], number: int
) -> None:
    before = seen_by_tool(directory)
    damage(segments(directory)[number])
    for index in (directory / "segments").glob("*.idx"):
        index.unlink()  # the engine would believe it
    tickets, records = seen_by_tool(directory)
    engine = open_on(RealDisk(directory))
    try:
        assert (tickets, records) == seen_by_engine(engine)
    finally:
        engine.close()
    # What a lost removal had freed may be back.
    assert all(before[0].get(key, data) == data for key, data in tickets.items())
    assert len(tickets.keys() & before[0].keys()) > len(before[0]) / 3


# -- the command ---------------------------------------------------------------------------


def call(*words: object, key_file: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    key = ["--key-file", key_file] if key_file else []
    return subprocess.run(
        [sys.executable, "-I", TOOL, *key, *map(str, words)],
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.key"
    path.write_text(
        f"# of the tests\n{'11' * 32}\n{MATERIAL.hex().upper()}  # the one that counts\n"
    )
    return path


def test_what_is_listed(directory: Path) -> None:
    tickets, records = seen_by_tool(directory)
    done = call(directory, "list")
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert sum(int(row[1].split()[0]) for row in rows) == len(tickets)
    assert sum(row[0].startswith("raw:") for row in rows) >= 6
    assert any(row[2] == "object 2K" and row[3] == f"key {KEY.key_id}" for row in rows)
    done = call(directory, "records")
    assert (done.returncode, done.stderr) == (0, b"")
    told = {}
    for line in done.stdout.decode().splitlines():
        number, stamp, name, body = line.split("\t")
        told[int(number)] = (
            int(stamp.removeprefix("stamp ")),
            name.removeprefix("object "),
            ast.literal_eval(body),
        )
    assert told == records


def test_an_object_comes_out_in_the_order_of_its_tickets(
    directory: Path, tmp_path: Path, key_file: Path
) -> None:
    tickets, _ = seen_by_tool(directory)
    mine = [step for step in range(30) if step % 4 == 2 and step % 5 != 4]
    expected = b"".join(
        data for (raw, ticket), data in sorted(tickets.items()) if not raw and ticket // 100 in mine
    )
    out = tmp_path / "out"
    done = call(directory, "extract", "2K", out, key_file=key_file)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    assert out.read_bytes() == expected
    done = call(directory, "extract", "2K", "-")
    assert (done.returncode, done.stdout) == (0, expected)
    again = call(directory, "extract", "2K", out)
    assert (again.returncode, out.read_bytes()) == (2, expected), "nothing is overwritten"


@pytest.mark.parametrize(("raw", "number"), [(False, 305), (True, 400)])
def test_a_ticket_comes_out(directory: Path, raw: bool, number: int) -> None:
    tickets, _ = seen_by_tool(directory)
    name = f"{'raw' if raw else 'ticket'}:{format_id(number)}"
    done = call(directory, "extract", name, "-")
    assert (done.returncode, done.stdout) == (0, tickets[raw, number])


def test_what_is_not_there_is_no_file(directory: Path, tmp_path: Path) -> None:
    done = call(directory, "extract", "NOBODY", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"nothing of NOBODY is here" in done.stderr
    assert not (tmp_path / "out").exists()


def test_verify(directory: Path, key_file: Path) -> None:
    done = call(directory, "verify", key_file=key_file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"30 commit records" in done.stdout
    # One byte of the data of the first run, which only the key can tell.
    data = bytearray(segments(directory)[0].read_bytes())
    data[4096 + 80 + len("0K") + len(KEY.key_id) + 16 + 3] ^= 1
    segments(directory)[0].write_bytes(data)
    assert call(directory, "verify").returncode == 0
    done = call(directory, "verify", key_file=key_file)
    assert done.returncode == 1
    assert done.stderr == b"segment 0000000000000001, byte 4096: ticket 0 is damaged\n"
    done = call(directory, "extract", "0K", "-", key_file=key_file)
    assert done.returncode == 1
    assert b"left out" in done.stderr


def test_a_damaged_segment_is_told_and_the_rest_is_read(directory: Path) -> None:
    bad_block(segments(directory)[1])
    done = call(directory, "list")
    assert done.returncode == 1
    assert b"segment 0000000000000002: bytes " in done.stderr
    assert len(done.stdout.splitlines()) > 15


def test_without_the_state_the_segments_are_enough(directory: Path) -> None:
    before = call(directory, "records").stdout
    (directory / "segments" / "state").unlink()
    done = call(directory, "records")
    assert (done.returncode, done.stdout) == (1, before)
    assert b"state is damaged" in done.stderr


def test_it_writes_nothing(directory: Path, key_file: Path) -> None:
    files = sorted((directory / "segments").iterdir())
    before = [(file, file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    for path in files:
        path.chmod(0o400)
    for command in ("list", "records", "verify"):
        assert call(directory, command, key_file=key_file).returncode == 0
    assert [(file, file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
    assert sorted((directory / "segments").iterdir()) == files


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), b"usage:"),
        (("DIRECTORY",), b"usage:"),
        (("DIRECTORY", "extract", "2K"), b"extract takes what to extract and a file"),
        (("DIRECTORY", "list", "2K"), b"the others nothing"),
        (("DIRECTORY/segments", "list"), b"no DIRECTORY/segments/segments"),
        (("DIRECTORY", "extract", "a/b", "-"), b"a/b"),
        (("--key-file", "DIRECTORY/none", "DIRECTORY", "list"), b"No such file"),
        (("--key-file", "DIRECTORY/bad.key", "DIRECTORY", "list"), b"non-hexadecimal"),
    ],
)
def test_what_cannot_begin_ends_with_2(
    directory: Path, words: tuple[str, ...], told: bytes
) -> None:
    (directory / "bad.key").write_text("not a key\n")
    done = call(*(word.replace("DIRECTORY", str(directory)) for word in words))
    assert done.returncode == 2
    assert told.replace(b"DIRECTORY", str(directory).encode()) in done.stderr


def test_help_has_an_example() -> None:
    done = call("--help")
    assert done.returncode == 0
    assert b"python tools/read_segments.py data/putter extract" in done.stdout


def test_a_store_whose_directory_lies_deeper_is_named(directory: Path) -> None:
    directory.rename(directory.with_name("putter"))
    done = call(directory.parent, "list")
    assert done.returncode == 2
    assert f"{directory.parent}/putter".encode() in done.stderr


def test_it_stands_alone() -> None:
    source = TOOL.read_text("utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    # What is compressed can be extracted where zstandard is; everything else goes without.
    assert imported <= sys.stdlib_module_names | {"blake3", "zstandard"}
    assert "blake3" in imported
    assert not {"importlib", "runpy"} & imported
    assert len(source.splitlines()) < 300


@pytest.fixture
def packed(tmp_path: Path, key_file: Path) -> Path:
    """A run that is compressed, and one that is encrypted and has a commit record."""
    path = tmp_path / "packed"
    path.mkdir()
    for first, at_rest in ((0, COMPRESSED), (100, replace(PACKED, block_bytes=2000))):
        engine = open_on(RealDisk(path), at_rest)
        put(engine, run_of(first, data_for(first, 6000), 500, f"{first}"))
        engine.put_record(record(first + 1, f"{first}"))
        engine.close()
    return path


def test_what_is_compressed_is_extracted(packed: Path, key_file: Path) -> None:
    assert b"raw" not in call(packed, "list").stdout
    done = call(packed, "extract", "0", "-", key_file=key_file)
    assert (done.returncode, done.stdout) == (0, data_for(0, 6000))


def test_what_is_encrypted_is_listed_and_its_bytes_are_verified(
    packed: Path, key_file: Path
) -> None:
    assert call(packed, "list").stdout.count(b"\tobject ") == 2
    done = call(packed, "verify", key_file=key_file)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"2 runs, 2 commit records")
    shown = call(packed, "records").stdout
    assert shown.count(b"body of 1") == 1
    assert shown.count(b"\tencrypted\n") == 1
    done = call(packed, "extract", "100", "-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"is not readable and left out") == 12


def test_damage_in_what_is_packed_is_found(packed: Path, key_file: Path) -> None:
    (segment,) = (packed / "segments").glob("*.seg")
    data = segment.read_bytes()
    store = tool.Directory(packed, {})
    for each in (each for number in store.numbers for each in store.records(number)):
        for at in (each.body_at + 5, each.body_at + each.body_bytes - 3):
            segment.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            done = call(packed, "verify", key_file=key_file)
            assert done.returncode == 1
            assert each.place.encode() in done.stderr


def test_without_zstandard_what_is_compressed_is_not_readable(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(tool, "zstd", None)
    store = tool.Directory(packed, {})
    store.extract("0", str(packed / "out"))
    assert store.damaged
    assert capsysbinary.readouterr().err.count(b"not readable") == 12
