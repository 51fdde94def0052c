"""The cluster keys, read again: what is taken, and what would harm somebody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from common.keys import Keyring, generate_key_line, load_keyring
from common.records import Encryption, Version, encode
from putter.cli.rereading import KeyReader, in_use_on
from putter.storage.engine import Record
from putter.storage.memory import MemoryEngine
from tests.storage_kit import KEY_ID, data_for, run_of

FIRST, SECOND, THIRD = (generate_key_line() for _ in range(3))


def write(path: Path, *lines: str) -> list[str]:
    """The ids of the keys that stand there now."""
    path.write_text("\n".join(lines) + "\n")
    return load_keyring(path, create=False).ids


async def read(reader: KeyReader) -> list[str]:
    """What the log says of it."""
    with structlog.testing.capture_logs() as lines:
        reader.read()
        assert reader._task is not None
        await reader._task
    return [f"{line['event']} {line.get('reason', '')}" for line in lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.key"
    write(path, FIRST)
    return path


@pytest.fixture
def ring(path: Path) -> Keyring:
    return load_keyring(path, create=False)


async def test_a_key_is_added_then_writes_then_the_old_one_goes(path: Path, ring: Keyring) -> None:
    reader = KeyReader(path, ring)
    for lines in ((FIRST, SECOND), (SECOND, FIRST), (SECOND,)):
        ids = write(path, *lines)
        await read(reader)
        assert ring.ids == ids


async def test_a_key_that_is_new_may_not_write_at_once(path: Path, ring: Keyring) -> None:
    before = ring.ids
    write(path, SECOND, FIRST)
    (said,) = await read(KeyReader(path, ring))
    assert "is new to this process" in said
    assert ring.ids == before


@pytest.mark.parametrize("text", ["", "no key\n", "abc\n"])
async def test_a_file_that_is_none_changes_nothing(path: Path, ring: Keyring, text: str) -> None:
    before = ring.ids
    path.write_text(text)
    (said,) = await read(KeyReader(path, ring))
    assert said.startswith("the cluster keys were not replaced")
    path.unlink()
    (said,) = await read(KeyReader(path, ring))
    assert "there is no key file" in said
    assert ring.ids == before


async def test_a_key_that_is_in_use_does_not_go(path: Path, ring: Keyring) -> None:
    write(path, FIRST, SECOND)
    old = ring.writing.key_id
    engine = MemoryEngine()
    for number in range(5_000):
        engine.put(run_of(2 * number, b"x", key_id=old if number == 4_321 else KEY_ID))
    with ThreadPoolExecutor(1) as readers:
        reader = KeyReader(path, ring, in_use_on(engine, readers, readers))
        await read(reader)
        write(path, SECOND, FIRST)
        await read(reader)
        ids = write(path, SECOND)
        (said,) = await read(reader)
        assert f"lacks {old}, which checksums on this disk were made with" in said
        assert old in ring.ids
        engine.free([(2 * 4_321, 1)])
        await read(reader)
        assert ring.ids == ids


async def test_a_key_that_files_are_encrypted_with_does_not_go(path: Path, ring: Keyring) -> None:
    write(path, FIRST, SECOND)
    old = ring.writing.key_id
    engine = MemoryEngine()
    for number in range(1, 500):
        key_id = old if number == 432 else "" if number % 2 else KEY_ID
        version = Version("b", "k", number, 1, "e", 0, (), encryption=Encryption(key_id, bytes(16)))
        engine.put_record(Record(number, f"{number}", encode(version)))
    with ThreadPoolExecutor(1) as disk:
        reader = KeyReader(path, ring, in_use_on(engine, disk, disk))
        await read(reader)
        write(path, SECOND, FIRST)
        await read(reader)
        ids = write(path, SECOND)
        (said,) = await read(reader)
        assert f"lacks {old}" in said
        assert old in ring.ids
        engine.drop_records(["432"])
        await read(reader)
        assert ring.ids == ids


async def test_signals_that_come_together_are_heeded_by_the_last_file(
    path: Path, ring: Keyring
) -> None:
    reader = KeyReader(path, ring)
    write(path, FIRST, SECOND)
    reader.read()
    ids = write(path, FIRST, SECOND, THIRD)
    reader.read()
    assert reader._task is not None
    await reader._task
    assert ring.ids == ids
    await reader.stop()


async def test_only_what_was_asked_for_is_told() -> None:
    engine = MemoryEngine()
    engine.put(run_of(0, data_for(0, 100), key_id="aaaaaaaa"))
    with ThreadPoolExecutor(1) as readers:
        in_use = in_use_on(engine, readers, readers)
        assert await in_use(frozenset({"aaaaaaaa", "bbbbbbbb"})) == {"aaaaaaaa"}
        assert await in_use(frozenset({"bbbbbbbb"})) == frozenset()
