"""Pages of a listing against a model: any keys, any delimiter, any way to page."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from common.meta.interface import Entry, Page
from router.gateway.s3.listing import Listing, behind, list_page

LETTERS = "/a+%\0\x7f\ud7ff\uffff\U0010ffff"
KEYS = st.text(alphabet=LETTERS, min_size=1, max_size=6)


class Names:
    """Sorted keys behind the question that the coordinator answers; it counts the questions."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = sorted(keys)
        self.asked = 0

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        assert bucket == "photos"
        assert 1 <= limit <= 1000
        self.asked += 1
        found = [key for key in self.keys if key.startswith(prefix) and key > after]
        more = len(found) > limit
        entries = tuple(Entry(key, 1, "e", 2, 3) for key in found[:limit])
        return Page(entries, found[limit - 1] if more else None)


def model(keys: set[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """All lines behind a marker, in order: keys, and common prefixes once each."""
    lines = []
    for key in sorted(keys):
        if not key.startswith(prefix) or key <= after:
            continue
        rest = key[len(prefix) :]
        line = key
        if delimiter and delimiter in rest:
            line = prefix + rest.partition(delimiter)[0] + delimiter
            if line == after:
                continue
        if line not in lines:
            lines.append(line)
    return lines


def lines_of(listing: Listing) -> list[str]:
    return sorted([*(entry.key for entry in listing.entries), *listing.prefixes])


def listed(names: Names, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
    return asyncio.run(list_page(names, "photos", prefix, delimiter, after, limit))


@given(
    keys=st.sets(KEYS, max_size=20),
    prefix=st.text(alphabet=LETTERS, max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "//", "%", "\U0010ffff"]),
    after=KEYS | st.just(""),
    limit=st.integers(1, 8),
)
@example(keys={"a/b", "a/c", "b"}, prefix="", delimiter="/", after="a/", limit=1)
@example(keys={"a/b", "a/c", "b"}, prefix="", delimiter="/", after="a/b", limit=1)
def test_pages_are_the_model_cut_in_pieces(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    names = Names(keys)
    wanted = model(keys, prefix, delimiter, after)
    found: list[str] = []
    while True:
        asked = names.asked
        page = listed(names, prefix, delimiter, after, limit)
        lines = lines_of(page)
        found += lines
        assert names.asked - asked <= len(lines) + 1
        if not page.more:
            break
        assert len(lines) == limit
        assert page.last == lines[-1]
        after = page.last
    assert found == wanted


@given(prefix=st.text(alphabet=LETTERS, max_size=6), rest=KEYS, other=KEYS)
def test_what_is_behind_a_prefix_is_behind_all_its_keys(prefix: str, rest: str, other: str) -> None:
    assert prefix + rest < behind(prefix)
    assert prefix + "\U0010ffff" * ((1024 - len(prefix.encode())) // 4) < behind(prefix)
    if other > prefix and not other.startswith(prefix):
        assert behind(prefix) < other


def test_no_line_is_no_question() -> None:
    names = Names({"a", "b"})
    assert listed(names, "", "", "", 0) == Listing([], [], more=False, last="")
    assert names.asked == 0


def test_a_page_costs_no_more_in_a_bucket_of_a_million() -> None:
    """Ten directories of many files: the files are jumped over."""
    names = Names({f"d{n}/{m:05}" for n in range(10) for m in range(5_000)})
    page = listed(names, "", "/", "", 1000)
    assert page.prefixes == [f"d{n}/" for n in range(10)]
    assert not page.more
    assert names.asked <= 11
