"""Data keys: wrapped twice, rotated with the cluster key, never made again by accident."""

from __future__ import annotations

import errno
import logging
import random
from contextlib import suppress
from pathlib import Path

import pytest

from common.checksum import object_digest
from common.errors import NotAuthorised, StorageError
from common.keys import ClusterKey, Keyring
from putter.storage.disk import RealDisk
from putter.storage.envelope import COPY, MAIN, DataKeys, open_data_keys
from putter.storage.memory_disk import CHANGES, MemoryDisk
from putter.storage.segments.packing import key_id_of

OLD, NEW, THIRD = (ClusterKey.from_material(bytes([each]) * 32) for each in (1, 2, 3))
NODE = "0123456789ab"


def opened(
    disk: MemoryDisk | RealDisk,
    *keys: ClusterKey,
    encrypt: bool = True,
    expected: bool = False,
    node: str = NODE,
) -> DataKeys | None:
    return open_data_keys(
        disk, node, Keyring(list(keys or (OLD,))), encrypt=encrypt, expected=expected
    )


def made(disk: MemoryDisk | RealDisk, *keys: ClusterKey) -> DataKeys:
    found = opened(disk, *keys)
    assert found is not None
    return found


def replace_file(disk: MemoryDisk, path: str, data: bytes | None) -> None:
    disk.unlink(path)
    if data is not None:
        disk.sync_files([disk.create(path, data)])


def test_a_node_that_does_not_encrypt_has_none() -> None:
    disk = MemoryDisk()
    assert opened(disk, encrypt=False) is None
    assert disk.names("") == []


def test_they_are_made_once() -> None:
    disk = MemoryDisk()
    first = made(disk)
    assert list(first.keys) == [first.writing]
    assert len(first.keys[first.writing]) == 32
    assert key_id_of(first.keys[first.writing]) == first.writing
    assert made(disk) == first
    assert opened(disk, encrypt=False) == first
    assert made(MemoryDisk()).writing != first.writing


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    made(RealDisk(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == [MAIN, COPY]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in (MAIN, COPY)} == {0o600}


def test_neither_key_is_in_a_file_or_a_representation() -> None:
    disk = MemoryDisk()
    keys = made(disk)
    data_key = keys.keys[keys.writing]
    for path in (MAIN, COPY):
        data = disk.read(path) or b""
        assert data_key not in data
        assert OLD.envelope not in data
    assert repr(data_key) not in repr(keys)


def test_a_new_cluster_key_wraps_all_and_brings_a_new_data_key() -> None:
    disk = MemoryDisk()
    before = made(disk, OLD)
    after = made(disk, NEW, OLD)
    assert after.writing != before.writing
    assert dict(after.keys) == {**before.keys, after.writing: after.keys[after.writing]}
    assert made(disk, NEW) == after  # the old cluster key is needed no more
    assert made(disk, NEW, OLD) == after


def test_a_cluster_key_that_is_replaced_wraps_all_at_once() -> None:
    disk, ring = MemoryDisk(), Keyring([OLD])
    before = open_data_keys(disk, NODE, ring, encrypt=True, expected=False)
    assert before is not None
    ring.replace(Keyring([NEW, OLD]))
    assert before.files.damaged() == []
    assert opened(disk, NEW, encrypt=False) == before, "the old cluster key is needed no more"
    content = disk.read(MAIN)
    ring.replace(Keyring([NEW]))
    assert disk.read(MAIN) == content
    assert made(disk, NEW).writing != before.writing, "a new data key comes with the next start"


def test_a_node_that_only_reads_wraps_anew_and_makes_its_key_later() -> None:
    disk = MemoryDisk()
    before = made(disk, OLD)
    assert opened(disk, NEW, OLD, encrypt=False) == before
    assert opened(disk, NEW, encrypt=False) == before
    assert made(disk, NEW).writing != before.writing


def test_a_missing_cluster_key_is_named_and_nothing_is_changed() -> None:
    disk = MemoryDisk()
    made(disk, OLD)
    before = disk.read(MAIN), disk.read(COPY)
    with pytest.raises(NotAuthorised, match=f"cluster key {OLD.key_id}") as caught:
        opened(disk, NEW)
    assert NEW.key_id in str(caught.value)
    assert "key file" in caught.value.hint
    assert (disk.read(MAIN), disk.read(COPY)) == before


@pytest.mark.parametrize("lost", [MAIN, COPY])
@pytest.mark.parametrize("damage", ["gone", "short", "flipped", "empty"])
def test_one_of_the_two_files_is_enough(
    lost: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    disk = MemoryDisk()
    keys = made(disk)
    data = disk.read(lost) or b""
    changed = {
        "gone": None,
        "short": data[:-1],
        "flipped": data[:30] + bytes([data[30] ^ 1]) + data[31:],
        "empty": b"",
    }
    replace_file(disk, lost, changed[damage])
    with caplog.at_level(logging.WARNING):
        assert opened(disk, expected=True) == keys
    assert lost in caplog.text
    assert disk.read(MAIN) == disk.read(COPY) == data


@pytest.mark.parametrize("data", [None, b"", b"garbage" * 30])
def test_when_both_are_lost_it_says_so_and_changes_nothing(data: bytes | None) -> None:
    disk = MemoryDisk()
    made(disk)
    for path in (MAIN, COPY):
        replace_file(disk, path, data)
    for encrypt in (False, True):
        with pytest.raises(StorageError, match="cannot be read") as caught:
            opened(disk, encrypt=encrypt, expected=True)
        assert "backup" in caught.value.hint
    assert (disk.read(MAIN), disk.read(COPY)) == (data, data)


def test_a_file_of_another_version_is_not_replaced() -> None:
    disk = MemoryDisk()
    made(disk)
    body = (disk.read(MAIN) or b"")[:-8]
    newer = body[:8] + b"\2\0\0\0" + body[12:]
    newer += object_digest(newer)[:8]
    for path in (MAIN, COPY):
        replace_file(disk, path, newer)
    with pytest.raises(StorageError):
        opened(disk)
    assert disk.read(MAIN) == newer


def test_the_keys_of_another_node_do_not_open() -> None:
    disk = MemoryDisk()
    made(disk)
    with pytest.raises(StorageError, match="not of this node"):
        opened(disk, node="ba9876543210")


class PowerLossError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("last", range(14))
def test_a_power_cut_at_any_change_loses_no_key(last: int) -> None:
    disk = MemoryDisk()
    before = made(disk, OLD)
    left = last

    def hook(operation: str, path: str) -> None:
        nonlocal left
        if operation in CHANGES:
            left -= 1
            if left < 0:
                raise PowerLossError

    disk.before = hook
    done = None
    with suppress(PowerLossError):
        done = made(disk, NEW, OLD)
    disk.before = lambda operation, path: None
    disk.crash(random.Random(last))
    after = made(disk, NEW, OLD)
    assert before.keys.items() <= after.keys.items()
    if done is not None:
        assert after == done
    assert made(disk, NEW) == after


def test_the_cut_test_reaches_the_end() -> None:
    disk = MemoryDisk()
    made(disk, OLD)
    changes = 0

    def hook(operation: str, path: str) -> None:
        nonlocal changes
        changes += operation in CHANGES

    disk.before = hook
    made(disk, NEW, OLD)
    assert 4 < changes < 14


# -- while a node runs ---------------------------------------------------------------------


def three_keys(disk: MemoryDisk) -> DataKeys:
    """Made under three cluster keys, one after the other."""
    made(disk, OLD)
    made(disk, NEW, OLD)
    return made(disk, THIRD, NEW)


@pytest.mark.parametrize("harmed", [(MAIN,), (COPY,), (MAIN, COPY)])
@pytest.mark.parametrize("data", [None, b"", b"garbage" * 30], ids=["gone", "empty", "garbage"])
def test_damaged_files_are_told_and_written_again(
    harmed: tuple[str, ...], data: bytes | None
) -> None:
    disk = MemoryDisk()
    files = three_keys(disk).files
    whole = disk.read(MAIN)
    assert files.damaged() == []
    for path in harmed:
        replace_file(disk, path, data)
    told = files.damaged()
    assert told == [(path, "it is gone" if data is None else "it is damaged") for path in harmed]
    for path, _ in told:
        files.restore(path)
    assert files.damaged() == []
    assert disk.read(MAIN) == disk.read(COPY) == whole
    disk.crash(random.Random(1))
    assert disk.read(MAIN) == disk.read(COPY) == whole


def test_an_older_copy_is_damage_too() -> None:
    disk = MemoryDisk()
    made(disk, OLD)
    older = disk.read(COPY)
    files = made(disk, NEW, OLD).files
    replace_file(disk, COPY, older)
    assert files.damaged() == [(COPY, "it is damaged")]


def test_a_file_that_cannot_be_read_is_told() -> None:
    disk = MemoryDisk()
    files = made(disk).files

    def refuse(operation: str, path: str) -> None:
        if operation == "read" and path == COPY:
            raise OSError(errno.EIO, "Input/output error")

    disk.before = refuse
    ((path, reason),) = files.damaged()
    assert path == COPY
    assert "Input/output error" in reason


def test_old_keys_that_nobody_uses_go_from_both_files() -> None:
    disk = MemoryDisk()
    keys = three_keys(disk)
    oldest, middle = (each for each in list(keys.keys)[::-1] if each != keys.writing)
    assert keys.files.old_ids == {oldest, middle}
    assert keys.files.prune({middle, b"whatever"}) == [oldest]
    assert keys.files.old_ids == {middle}
    assert keys.files.damaged() == []
    after = made(disk, THIRD)
    assert after.keys == {each: keys.keys[each] for each in (keys.writing, middle)}
    assert disk.read(MAIN) == disk.read(COPY)


def test_the_first_key_stays_although_nothing_names_it() -> None:
    disk = MemoryDisk()
    keys = three_keys(disk)
    assert len(keys.files.prune(())) == 2
    assert keys.files.prune(()) == []
    assert made(disk, THIRD).keys == {keys.writing: keys.keys[keys.writing]}


@pytest.mark.parametrize("last", range(11))
def test_a_power_cut_while_keys_are_removed_leaves_what_is_used(last: int) -> None:
    disk = MemoryDisk()
    keys = three_keys(disk)
    used = min(keys.files.old_ids)
    left = last

    def hook(operation: str, path: str) -> None:
        nonlocal left
        if operation in CHANGES:
            left -= 1
            if left < 0:
                raise PowerLossError

    disk.before = hook
    done: list[bytes] = []
    with suppress(PowerLossError):
        done = keys.files.prune({used})
    assert (last == 10) == bool(done), "the last of these cuts comes after all changes"
    disk.before = lambda operation, path: None
    disk.crash(random.Random(last))
    after = made(disk, THIRD)
    assert {used, keys.writing} <= after.keys.keys() <= keys.keys.keys()
    assert after.writing == keys.writing
    if done:
        assert len(after.keys) == 2
