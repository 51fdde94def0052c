"""The key map."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise

import pytest
from redis.crc import key_slot

from common.meta import schema
from common.meta.scripts import script
from common.versions import versions_of

SCRIPTS = sorted(
    each.name.removesuffix(".lua")
    for each in resources.files("common.meta.scripts").iterdir()
    if each.name.endswith(".lua") and not each.name.startswith("_")
)


@pytest.mark.parametrize("bucket", ["photos", "a.b-c", "x" * 63, "bucket-7"])
def test_the_keys_of_a_bucket_share_a_slot(bucket: str) -> None:
    keys = schema.bucket_keys(bucket)
    assert len(set(keys)) == len(keys) == schema.KEYS_OF_BUCKET
    assert len({key_slot(key) for key in keys}) == 1
    assert all(key.startswith(b"putter:{b:" + bucket.encode() + b"}:") for key in keys)


def test_buckets_spread_over_the_slots() -> None:
    slots = {key_slot(schema.bucket_key(f"bucket-{n}", "files")) for n in range(100)}
    assert len(slots) > 90


def test_what_one_script_looks_at_is_in_one_slot() -> None:
    keys = (schema.COUNTERS, schema.MEMBERS, schema.FENCES, schema.DECISIONS, schema.MARKS)
    assert len({key_slot(key) for key in keys}) == 1


def test_no_two_keys_are_the_same() -> None:
    keys = [
        schema.BUCKETS,
        schema.MARKS,
        schema.RUNS,
        schema.COUNTERS,
        schema.MEMBERS,
        schema.FENCES,
        schema.DECISIONS,
        schema.lease_key("janitor"),
        *schema.bucket_keys("counters"),
        *schema.bucket_keys("members"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(b"putter:") for key in keys)


def test_the_map_names_every_key() -> None:
    assert schema.__doc__ is not None
    for noun in (*schema.BUCKET_NOUNS, *schema.SHARED_NOUNS):
        assert f"putter:{{b:<bucket>}}:{noun} " in schema.__doc__
    keys = (schema.BUCKETS, schema.COUNTERS, schema.MARKS, schema.MEMBERS, schema.RUNS)
    for key in (*keys, schema.FENCES, schema.DECISIONS):
        assert f"\n{key.decode()} " in schema.__doc__


def test_scripts_take_their_keys_in_the_order_of_the_map() -> None:
    source = script("commit").source.decode()
    names = re.findall(r"^local ([A-Z, ]+) = KEYS", source, re.MULTILINE)
    twin = [f"t{noun}" for noun in schema.TWIN_NOUNS]
    found = [each.lower() for line in names for each in line.split(", ")]
    own = [*schema.BUCKET_NOUNS, *schema.SHARED_NOUNS]
    assert found == [*twin, *own] or found == [*own, *twin]


@pytest.mark.parametrize("bucket", ["photos", "a.b-c"])
def test_a_bucket_and_its_versions_share_a_slot_and_know_each_other(bucket: str) -> None:
    plain, kept = schema.bucket_keys(bucket), schema.bucket_keys(versions_of(bucket))
    assert len({key_slot(key) for key in (*plain, *kept)}) == 1
    own = len(schema.BUCKET_NOUNS)
    shared = own + len(schema.TWIN_NOUNS)
    assert plain[shared:] == kept[shared:]
    twins = zip(schema.TWIN_NOUNS, plain[own:shared], kept[own:shared], strict=True)
    for noun, to_kept, to_plain in twins:
        at = schema.BUCKET_NOUNS.index(noun)
        assert (to_kept, to_plain) == (kept[at], plain[at])
    assert not set(plain[:own]) & set(kept[:own])
    assert {schema.bucket_of(key) for key in plain[:own]} == {bucket}
    assert {schema.bucket_of(key) for key in kept[:own]} == {versions_of(bucket)}
    assert schema.bucket_of(schema.BUCKETS) == schema.bucket_of(b"PING") == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_use_core_lua_and_declared_keys_only(name: str) -> None:
    source = script(name).source.decode()
    code = re.sub(r"--.*", "", source)
    assert not re.search(r"\b(cmsgpack|cjson|struct|bit|loadstring|math\.random)\b", code)
    assert "putter:" not in code
    first_arguments = re.findall(r"redis\.p?call\(([^)]*?)[,)]\s*([^,)]*)", code)
    for command, key in first_arguments:
        assert command in ("'TIME'", "'INFO'", "command") or re.fullmatch(
            r"[A-Z]+|KEYS\[[12]\]", key
        ), (name, command, key)
    assert all(len(line) <= 100 for line in source.splitlines())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_a_name_for_the_server(name: str) -> None:
    found = script(name)
    assert re.fullmatch(rb"[0-9a-f]{40}", found.sha)
    assert script(name) is found


def test_all_scripts_differ() -> None:
    shas = sorted(script(name).sha for name in SCRIPTS)
    assert all(a != b for a, b in pairwise(shas))
