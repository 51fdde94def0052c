from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from common.errors import DataDirectoryInUse, NotAuthorised, SettingInvalid, StorageError
from common.keys import ClusterKey, Keyring
from common.wire.status import Status
from putter.storage.engine import Engine
from putter.storage.envelope import COPY, MAIN
from putter.storage.factory import LAYOUTS, Protection, open_engine, open_notes
from tests.storage_kit import merged, put, record, run_of, scrubbed, split, stored, verify

RING = Keyring([ClusterKey.from_material(bytes(range(32)))])


def test_a_tree_keeps_its_identity_and_data(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path)
    identity = engine.identity
    assert len(identity) == 12
    put(engine, run_of(0, b"data"))
    engine.close()
    engine = open_engine("tree", tmp_path)
    assert engine.identity == identity
    assert stored(engine, 0, 1) == {0: b"data"}
    engine.close()


def test_memory_is_a_new_node_each_time_and_touches_no_disk(tmp_path: Path) -> None:
    path = tmp_path / "none"
    source = random.Random(3)
    first = open_engine("memory", path, random_bytes=source.randbytes)
    second = open_engine("memory", path, random_bytes=source.randbytes)
    assert first.identity != second.identity
    assert len(first.identity) == 12
    assert not path.exists()


def test_the_directory_is_locked_until_the_engine_is_closed(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path)
    with pytest.raises(DataDirectoryInUse):
        open_engine("tree", tmp_path)
    engine.close()
    open_engine("tree", tmp_path).close()


def test_an_engine_that_does_not_open_lets_go(tmp_path: Path) -> None:
    open_engine("tree", tmp_path).close()
    (tmp_path / "ceilings").write_bytes(b"rot")
    for _ in range(2):
        with pytest.raises(StorageError, match="ceilings"):
            open_engine("tree", tmp_path)


def test_the_reserve_reaches_the_engine(tmp_path: Path) -> None:
    engine = open_engine("tree", tmp_path, reserve_bytes=1 << 60)
    assert put(engine, run_of(0, b"data")) == [Status.NO_SPACE]
    assert engine.capacity().free_bytes == 0
    engine.close()


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as caught:
        open_engine("floppy", tmp_path)
    assert all(layout in caught.value.hint for layout in LAYOUTS)


def test_a_new_directory_gets_segments_and_keeps_its_layout(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path / "new", verify=verify)
    assert engine.layout == "segments"
    put(engine, run_of(0, b"data"))
    engine.sync()
    identity = engine.identity
    engine.close()
    engine = open_engine("segments", tmp_path / "new", verify=verify)
    assert engine.identity == identity
    assert stored(engine, 0, 1) == {0: b"data"}
    engine.close()
    with pytest.raises(SettingInvalid):
        open_engine("tree", tmp_path / "new")
    open_engine("tree", tmp_path / "old").close()
    engine = open_engine(None, tmp_path / "old")
    assert engine.layout == "tree"
    engine.close()


def test_segments_are_locked_and_let_go_when_they_do_not_open(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path)
    with pytest.raises(DataDirectoryInUse):
        open_engine(None, tmp_path)
    put(engine, run_of(0, b"data"))
    engine.close()
    for path in (tmp_path / "segments").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    for _ in range(2):
        with pytest.raises(StorageError, match="damaged"):
            open_engine(None, tmp_path)


def test_the_reserve_reaches_the_segments(tmp_path: Path) -> None:
    engine = open_engine(None, tmp_path, reserve_bytes=1 << 60)
    assert put(engine, run_of(0, b"data")) == [Status.NO_SPACE]
    assert engine.capacity().free_bytes == 0
    engine.close()


TEXT = b"what nobody should read on the disk; " * 4000


def protected(
    path: Path, *, compress: bool = False, encrypt: bool = False, ring: Keyring = RING
) -> Engine:
    return open_engine(
        None,
        path,
        verify=verify,
        protection=Protection(compress=compress, encrypt=encrypt, keyring=ring),
    )


def on_the_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in (path / "segments").glob("*.seg"))


def node_of(path: Path) -> dict[str, object]:
    node = json.loads((path / "node.json").read_text())
    return {name: node.get(name) for name in ("format", "data_keys")}


def write(engine: Engine, first: int) -> None:
    assert set(put(engine, run_of(first, TEXT, frame_bytes=4000))) == {Status.WRITTEN}
    engine.put_record(record(first + 1, body=b"the name of a file"))
    engine.close()


def test_a_directory_that_was_never_packed_stays_as_older_versions_know_it(tmp_path: Path) -> None:
    write(protected(tmp_path), 0)
    assert node_of(tmp_path) == {"format": 1, "data_keys": None}
    assert TEXT[:50] in on_the_disk(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "node.json", "segments"]


def test_settings_may_change_at_every_start(tmp_path: Path) -> None:
    for first, (compress, encrypt, told) in enumerate(
        [
            (False, False, (1, None)),
            (True, False, (2, None)),
            (True, True, (2, True)),
            (False, True, (2, True)),
            (False, False, (2, True)),
        ]
    ):
        write(protected(tmp_path, compress=compress, encrypt=encrypt), first * 1000)
        assert tuple(node_of(tmp_path).values()) == told
    engine = protected(tmp_path)
    parts = [split(first * 1000, TEXT, 4000) for first in range(5)]
    assert stored(engine, 0, 10_000) == merged(*parts)
    assert {each.record.body for each in engine.records(0, 10)} == {b"the name of a file"}
    engine.close()


def test_what_is_encrypted_is_not_on_the_disk(tmp_path: Path) -> None:
    write(protected(tmp_path, encrypt=True), 0)
    data = on_the_disk(tmp_path)
    assert b"nobody should read" not in data
    assert b"name of a file" not in data
    assert len(data) >= len(TEXT)


def test_what_is_compressed_takes_less(tmp_path: Path) -> None:
    engine = protected(tmp_path, compress=True)
    for first in range(0, 100_000, 1000):
        put(engine, run_of(first, TEXT, frame_bytes=4000))
    engine.sync()
    assert engine._writer.log.end < 100 * len(TEXT) / 10  # type: ignore[attr-defined]
    engine.close()


def test_keys_that_were_there_must_stay(tmp_path: Path) -> None:
    write(protected(tmp_path, encrypt=True), 0)
    kept = {name: (tmp_path / name).read_bytes() for name in (MAIN, COPY)}
    for name in kept:
        (tmp_path / name).unlink()
    for encrypt in (False, True):
        with pytest.raises(StorageError, match="are gone: what this node encrypted"):
            protected(tmp_path, encrypt=encrypt)
    assert not (tmp_path / MAIN).exists()
    (tmp_path / COPY).write_bytes(kept[COPY])
    engine = protected(tmp_path)
    assert stored(engine, 0, 1000) == split(0, TEXT, 4000)
    engine.close()


def test_another_cluster_key_is_taken_over_and_the_old_one_is_named_if_it_is_missing(
    tmp_path: Path,
) -> None:
    write(protected(tmp_path, encrypt=True), 0)
    fresh = ClusterKey.from_material(bytes(32))
    with pytest.raises(NotAuthorised, match=RING.writing.key_id):
        protected(tmp_path, ring=Keyring([fresh]))
    write(protected(tmp_path, encrypt=True, ring=Keyring([fresh, *RING.keys])), 1000)
    engine = protected(tmp_path, encrypt=True, ring=Keyring([fresh]))
    parts = [split(first * 1000, TEXT, 4000) for first in range(2)]
    assert stored(engine, 0, 10_000) == merged(*parts)
    engine.close()


def test_the_files_with_data_keys_are_verified_and_made_again(tmp_path: Path) -> None:
    engine = protected(tmp_path, encrypt=True)
    write(engine, 0)
    engine = protected(tmp_path, encrypt=True)
    whole = (tmp_path / "data-keys").read_bytes()
    for name in ("data-keys", "data-keys.copy"):
        (tmp_path / name).write_bytes(b"garbage")
    found = scrubbed(engine)[0]
    assert [each.place for each in found] == ["data-keys", "data-keys.copy"]
    assert all(engine.mend(each) for each in found)
    assert scrubbed(engine)[0] == []
    for name in ("data-keys", "data-keys.copy"):
        assert (tmp_path / name).read_bytes() == whole
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    engine.close()


def test_without_a_cluster_key_nothing_is_encrypted_or_decrypted(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="needs a cluster key"):
        open_engine(None, tmp_path, protection=Protection(encrypt=True))
    write(protected(tmp_path, encrypt=True), 0)
    with pytest.raises(SettingInvalid, match="needs a cluster key"):
        open_engine(None, tmp_path)


@pytest.mark.parametrize("layout", ["tree", "memory"])
@pytest.mark.parametrize("wanted", [Protection(compress=True), Protection(encrypt=True)])
def test_other_layouts_protect_nothing_and_say_so(
    tmp_path: Path, layout: str, wanted: Protection
) -> None:
    with pytest.raises(SettingInvalid, match=f"{layout!r} neither compresses nor encrypts"):
        open_engine(layout, tmp_path, protection=wanted)
    open_engine(layout, tmp_path).close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_notes_lie_beside_the_engine(tmp_path: Path, layout: str) -> None:
    engine = open_engine(layout, tmp_path)
    notes = open_notes(engine.layout, tmp_path)
    notes.save("scrub", b"{}")
    assert notes.load("scrub") == b"{}"
    assert (tmp_path / "scrub.json").exists() == (layout != "memory")
    notes.close()
    engine.close()
    if layout != "memory":
        open_engine(None, tmp_path).close()
