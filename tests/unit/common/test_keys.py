"""The key file: what it may look like, who can read it, and that no key ever shows."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.errors import NotAuthorised, SettingInvalid
from common.keys import (
    ClusterKey,
    Keyring,
    generate_key_line,
    load_keyring,
    parse_key_file,
    readable_by_others,
)

FIRST, SECOND, THIRD = "11" * 32, "22" * 32, "33" * 32


def key(line: str) -> ClusterKey:
    return ClusterKey.from_material(bytes.fromhex(line))


def test_subkeys_differ_from_each_other_and_from_the_key() -> None:
    made = key(FIRST)
    uses = {made.checksum, made.handshake, bytes.fromhex(made.token), bytes.fromhex(FIRST)}
    assert len(uses) == 4
    assert len(made.key_id) == 8
    assert made == key(FIRST)


def test_a_key_shows_its_id_only() -> None:
    made = key(FIRST)
    assert repr(made) == f"ClusterKey(key_id={made.key_id!r})"
    for secret in (made.token, made.checksum.hex(), made.handshake.hex(), FIRST):
        assert secret not in repr(made) + repr(Keyring([made]))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_material_has_32_bytes(length: int) -> None:
    with pytest.raises(SettingInvalid, match=f"32 bytes, not {length}"):
        ClusterKey.from_material(bytes(length))


def test_the_first_key_writes_and_all_are_found_by_id() -> None:
    ring = parse_key_file(f"{FIRST}\n{SECOND}\n", "cluster.key")
    assert ring.writing == key(FIRST)
    assert ring.keys == (key(FIRST), key(SECOND))
    assert ring.ids == [key(FIRST).key_id, key(SECOND).key_id]
    assert ring.named(key(SECOND).key_id) == key(SECOND)


def test_a_key_that_is_not_in_the_ring_is_not_authorised() -> None:
    with pytest.raises(NotAuthorised, match="is not in this key file") as caught:
        Keyring([key(FIRST)]).named("ffffffff" * 4)
    assert "ffffffffffffffff'" in caught.value.message
    assert "--key-file" in caught.value.hint


def test_the_keys_of_a_ring_are_replaced_where_it_is() -> None:
    ring = Keyring([key(FIRST)])
    told: list[str] = []
    ring.listen(lambda: told.append(ring.writing.key_id))
    ring.replace(Keyring([key(SECOND), key(FIRST)]))
    assert ring.ids == [key(SECOND).key_id, key(FIRST).key_id]
    assert ring.writing == ring.named(key(SECOND).key_id) == key(SECOND)
    ring.replace(Keyring([key(SECOND)]))
    with pytest.raises(NotAuthorised):
        ring.named(key(FIRST).key_id)
    assert told == [key(SECOND).key_id] * 2


def test_the_shared_key_is_the_first_of_the_other_side_that_we_have() -> None:
    ours = Keyring([key(FIRST), key(SECOND)])
    assert ours.shared([key(THIRD).key_id, key(SECOND).key_id]) == key(SECOND)
    assert ours.shared([key(SECOND).key_id, key(FIRST).key_id]) == key(SECOND)
    assert ours.shared([key(THIRD).key_id]) is None
    assert ours.shared([]) is None


def test_a_ring_has_at_least_one_key() -> None:
    with pytest.raises(SettingInvalid):
        Keyring([])


def test_comments_empty_lines_and_blanks_are_skipped() -> None:
    text = f"# the cluster\n\n  {FIRST.upper()}  # since May\r\n\t\n{SECOND}"
    assert parse_key_file(text, "k").ids == [key(FIRST).key_id, key(SECOND).key_id]


@pytest.mark.parametrize("line", [FIRST[:-1], FIRST[:-2], FIRST + "00", "zz" * 32, "hello"])
def test_a_bad_line_is_named_without_telling_it(line: str) -> None:
    with pytest.raises(SettingInvalid, match="k, line 2: a cluster key is 64 hex digits") as caught:
        parse_key_file(f"{SECOND}\n{line}\n", "k")
    assert line not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing"])
def test_a_file_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(SettingInvalid, match="k holds no key"):
        parse_key_file(text, "k")


def test_generated_lines_are_keys_and_differ() -> None:
    lines = {generate_key_line() for _ in range(8)}
    assert len(lines) == 8
    assert all(parse_key_file(line, "k").writing for line in lines)


def test_a_missing_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cluster.key"
    made = load_keyring(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not readable_by_others(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["cluster.key"]
    assert load_keyring(path, create=True).ids == load_keyring(path, create=False).ids == made.ids


def test_starting_many_at_once_gives_one_key(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: load_keyring(path, create=True), range(8)))
    assert len({ring.writing.key_id for ring in rings}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.key"]


def test_a_missing_file_is_an_error_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="there is no key file") as caught:
        load_keyring(tmp_path / "cluster.key", create=False)
    assert "--key-file" in caught.value.hint


@pytest.mark.parametrize("content", [b"\xff" * 64, None], ids=["not ascii", "a directory"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cluster.key"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(SettingInvalid, match="cannot read the key file"):
        load_keyring(path, create=False)


@pytest.mark.parametrize(
    ("mode", "readable"), [(0o600, False), (0o640, True), (0o604, True), (0o620, False)]
)
def test_who_can_read_the_file(tmp_path: Path, mode: int, readable: bool) -> None:
    path = tmp_path / "cluster.key"
    path.write_text(FIRST)
    path.chmod(mode)
    assert readable_by_others(path) is readable
