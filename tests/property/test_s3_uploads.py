"""Pages of open uploads against a model: any keys, any delimiter, any way to page."""

from __future__ import annotations

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st

from common.meta.interface import Entry, Page
from common.uploads import upload_name
from router.gateway.s3.uploads import Page as Found
from router.gateway.s3.uploads import page_of_uploads

LETTERS = "/a+%\x02\ud7ff\uffff\U0010ffff"
KEYS = st.text(alphabet=LETTERS, min_size=1, max_size=5)
Line = tuple[str, str]


class Names:
    """Sorted names behind the question that the coordinator answers."""

    def __init__(self, uploads: set[Line]) -> None:
        self.names = sorted(upload_name(*each) for each in uploads)

    async def list(self, bucket: str, prefix: str, after: str, limit: int) -> Page:
        assert bucket == "@uploads.photos"
        assert 1 <= limit <= 1000
        found = [name for name in self.names if name.startswith(prefix) and name > after]
        entries = tuple(Entry(name, 1, "e", 2, 3) for name in found[:limit])
        return Page(entries, found[limit - 1] if len(found) > limit else None)


def model(uploads: set[Line], prefix: str, delimiter: str) -> list[Line]:
    """All lines in order: uploads, and common prefixes once each."""
    lines: list[Line] = []
    for key, upload in sorted(uploads):
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        line = key, upload
        if delimiter and delimiter in rest:
            line = prefix + rest.partition(delimiter)[0] + delimiter, ""
        if line not in lines:
            lines.append(line)
    return lines


def lines_of(page: Found) -> list[Line]:
    names = [(name[:-33], name[-32:]) for name in page.names]
    return sorted([*names, *((prefix, "") for prefix in page.prefixes)])


@given(
    uploads=st.sets(st.tuples(KEYS, st.sampled_from(["a" * 32, "0" * 32, "f" * 32])), max_size=20),
    prefix=st.text(alphabet=LETTERS, max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "//", "%", "0"]),
    limit=st.integers(1, 8),
)
@example(
    uploads={("a/b", "a" * 32), ("a/c", "a" * 32), ("a", "f" * 32)},
    prefix="",
    delimiter="/",
    limit=1,
)
def test_pages_are_the_model_cut_in_pieces(
    uploads: set[Line], prefix: str, delimiter: str, limit: int
) -> None:
    names, after, found = Names(uploads), ("", ""), list[Line]()
    while True:
        page = asyncio.run(page_of_uploads(names, "photos", prefix, delimiter, after, limit))
        lines = lines_of(page)
        found += lines
        if not page.more:
            break
        assert len(lines) == limit
        assert page.last == lines[-1]
        after = page.last
    assert found == model(uploads, prefix, delimiter)


@given(keys=st.sets(KEYS, max_size=10), marker=KEYS)
def test_a_key_alone_leaves_out_all_its_uploads(keys: set[str], marker: str) -> None:
    uploads = {(key, letter * 32) for key in keys for letter in "af"}
    page = asyncio.run(page_of_uploads(Names(uploads), "photos", "", "", (marker, ""), 1000))
    assert lines_of(page) == sorted(each for each in uploads if each[0] > marker)


def test_no_line_is_no_question() -> None:
    page = asyncio.run(page_of_uploads(Names({("a", "a" * 32)}), "photos", "", "", ("", ""), 0))
    assert page == Found()
