"""ListObjectVersions against a model: any versions, delimiters and pages."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from common.clock import ManualClock
from common.meta.memory import MemoryMetadata
from common.records import BucketSettings, Version
from common.versions import version_name, versions_of
from router.gateway.s3.listing import rolled_up
from router.gateway.s3.versions import versions_page
from tests.metadata_kit import commit_of

BUCKET = "photos"
KEYS = st.text(st.sampled_from("ab/\x01"), min_size=1, max_size=4)
Line = tuple[str, int | None]


@given(
    held=st.dictionaries(KEYS, st.integers(1, 4), max_size=8),
    nulls=st.sets(KEYS, max_size=4),
    prefix=st.text(st.sampled_from("ab/"), max_size=2),
    delimiter=st.sampled_from(["", "/", "a"]),
    limit=st.integers(1, 5),
)
def test_pages_hold_each_line_once(
    held: dict[str, int], nulls: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    stored = [(key, n + 1) for key, count in held.items() for n in range(count)]
    lines: list[Line] = []
    every = [*((key, 100 + n) for key, n in stored), *((key, 1) for key in nulls)]
    for key, number in sorted(every, key=lambda each: (each[0], -each[1])):
        if not key.startswith(prefix):
            continue
        group = rolled_up(key, prefix, delimiter)
        line: Line = (key, number) if group is None else (group, None)
        if line not in lines:
            lines.append(line)

    async def pages() -> list[Line]:
        store = MemoryMetadata(ManualClock())
        for key in sorted(nulls):
            null = Version(BUCKET, key, 1, 0, "e", 0, ())
            await store.objects.commit(commit_of(null))
        await store.buckets.change(BucketSettings(BUCKET, 50, 0, {"versioning": "Enabled"}))
        for key, n in stored:
            name = version_name(key, 100 + n)
            made = Version(versions_of(BUCKET), name, 100 + n, 0, "e" * (n % 2), 0, ())
            await store.objects.commit(commit_of(made))
        found: list[Line] = []
        after: Line = ("", None)
        while True:
            page = await versions_page(store.versions, BUCKET, prefix, delimiter, after, limit)
            rows: list[Line] = [(each.key, each.number) for each in page.entries]
            rows += [(each, None) for each in page.prefixes]
            rows.sort(key=lambda row: (row[0], -(row[1] or 0)))
            assert len(rows) <= limit
            found += rows
            if not page.more:
                return found
            assert rows
            assert page.last == rows[-1]
            after = page.last

    assert asyncio.run(pages()) == lines
