"""The page on counted starts shows what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from putter.storage.block_file import BLOCK_BYTES
from putter.storage.starts import MAGIC, encode

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "starts.md"


def test_the_example_is_what_is_written() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?){16})$", page, re.MULTILINE)
    shown = bytes.fromhex("".join(rows))
    assert shown == encode(7)[:32]
    assert not any(encode(7)[32:])


def test_the_numbers_of_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert f"two blocks of {BLOCK_BYTES}" in page
    assert f"{2 * BLOCK_BYTES} bytes" in page
    assert MAGIC == b"DPSTART\x01"
    sizes = [int(size) for size in re.findall(r"^\| \d+ \| (\d+) \|", page, re.MULTILINE)]
    assert sum(sizes) == BLOCK_BYTES
