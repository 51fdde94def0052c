"""The tables of docs/formats/data-keys.md are what the code packs."""

from __future__ import annotations

import re
from pathlib import Path

from common import keys
from putter.storage import envelope
from putter.storage.segments import packing
from tests.architecture.test_segment_document import Layout, packed

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "data-keys.md").read_text("utf-8")


def fixed(name: str) -> Layout:
    """Offsets and sizes of a table's fields, but for padding and what depends on the number."""
    (rows,) = re.findall(rf"<!-- table: {name} -->\n\|[^\n]*\n\|[-|]*\n((?:\|[^\n]*\n)+)", PAGE)
    cells = re.findall(r"^\| (\d+) \| (\d+) \| (?!zero)", rows, re.MULTILINE)
    return [(int(offset), int(size)) for offset, size in cells]


def test_the_tables() -> None:
    assert fixed("head") == packed(envelope._HEAD)
    assert fixed("key") == packed(envelope._KEY)
    assert f"| {envelope._HEAD.size} | {envelope._KEY.size} · *n* |" in PAGE


def test_words_and_contexts() -> None:
    assert f"magic `{envelope._MAGIC.decode()}`" in PAGE
    assert f"version, {envelope._VERSION} |" in PAGE
    assert f"`{packing._KEY_ID}`" in PAGE
    assert f"`{envelope.MAIN}` and `{envelope.COPY}`" in PAGE
    pages = Path(__file__).parents[2] / "docs" / "formats" / "tickets-and-frames.md"
    assert f"`{keys._ENVELOPE}`" in pages.read_text("utf-8")
