"""Listings against a sorted list, with any keys that Unicode can spell."""

from __future__ import annotations

import asyncio

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import ManualClock
from common.meta.files import lex_bounds
from common.meta.interface import Metadata
from common.meta.memory import MemoryMetadata
from common.meta.redis_store import RedisMetadata
from tests.metadata_kit import BUCKET, commit_of, complete, tombstone, version

# Few letters, so that prefixes are shared; the borders of UTF-8's lengths and of its bytes.
LETTERS = "\0 /az\x7f\x80\xff\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
KEYS = st.text(alphabet=LETTERS, min_size=1, max_size=5) | st.text(min_size=1, max_size=20)
PREFIXES = st.text(alphabet=LETTERS, max_size=3)


def make(kind: str) -> Metadata:
    if kind == "memory":
        return MemoryMetadata(ManualClock())
    return RedisMetadata(fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer()))


async def pages(store: Metadata, prefix: str, after: str, limit: int) -> list[str]:
    """All keys, page by page."""
    found: list[str] = []
    while True:
        page = await store.files.list(BUCKET, prefix, after, limit)
        assert len(page.entries) <= limit
        found += [entry.key for entry in page.entries]
        if page.next_after is None:
            return found
        assert page.entries
        after = page.next_after


@pytest.mark.parametrize("kind", ["memory", "fakeredis"])
@settings(max_examples=40, deadline=None)
@given(
    keys=st.sets(KEYS, max_size=12),
    gone=st.sets(KEYS, max_size=3),
    prefix=PREFIXES,
    after=KEYS | st.just(""),
    limit=st.integers(1, 5),
)
def test_a_listing_is_a_slice_of_all_keys(
    kind: str, keys: set[str], gone: set[str], prefix: str, after: str, limit: int
) -> None:
    async def compare() -> None:
        store = make(kind)
        await complete(store)
        all_keys = keys | gone
        await asyncio.gather(
            *(store.objects.commit(commit_of(version(key, 10))) for key in all_keys)
        )
        await asyncio.gather(*(store.files.delete(tombstone(key, 20)) for key in gone))
        await asyncio.gather(
            *(store.objects.commit(commit_of(version(key, 30))) for key in keys & gone)
        )
        ordered = sorted(keys, key=str.encode)
        expected = [
            key for key in ordered if key.startswith(prefix) and key.encode() > after.encode()
        ]
        assert await pages(store, prefix, after, limit) == expected
        assert await pages(store, "", "", limit) == ordered
        await store.close()

    asyncio.run(compare())


@given(KEYS, PREFIXES, KEYS | st.just(""))
def test_bounds_hold_what_they_should(key: str, prefix: str, after: str) -> None:
    low, high = lex_bounds(prefix, after)
    raw = key.encode()
    above = low == b"-" or (raw >= low[1:] if low[:1] == b"[" else raw > low[1:])
    assert high[:1] == b"("
    inside = above and raw < high[1:]
    assert inside is (key.startswith(prefix) and raw > after.encode())
