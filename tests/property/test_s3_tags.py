"""Tags come back as they were given, from documents and from headers."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.tags import tags_in, tags_of_header, tags_tree

CHARS = st.characters(categories=("L", "N", "Zs"), include_characters="+-=._:/@")
KEYS = st.text(CHARS, min_size=1, max_size=128).filter(lambda key: key[:4].lower() != "aws:")
TAGS = st.dictionaries(KEYS, st.text(CHARS, max_size=256), max_size=10)


@given(TAGS)
def test_documents(tags: dict[str, str]) -> None:
    told = parsed(document(tags_tree(tags)), "Tagging")
    assert list(tags_in(told, 10).items()) == list(tags.items())


@given(TAGS, st.sampled_from([quote, quote_plus]))
def test_headers(tags: dict[str, str], encode: type[str]) -> None:
    text = "&".join(
        f"{encode(key, safe='')}={encode(value, safe='')}" for key, value in tags.items()
    )
    assert tags_of_header(text) == tags


@given(st.text(max_size=60))
def test_a_header_is_understood_or_refused(text: str) -> None:
    try:
        tags = tags_of_header(text)
    except S3Error:
        return
    assert len(tags) <= 10
    assert all(1 <= len(key) <= 128 and len(value) <= 256 for key, value in tags.items())
