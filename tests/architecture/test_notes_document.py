"""The examples of the page on notes are what the code writes.

After a change: ``python -m tests.architecture.test_notes_document`` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from putter.node.passes import LastPass, Pass, Position
from putter.node.scrub import NOTE
from putter.storage.damage import Damage
from putter.storage.marked import DAMAGE
from putter.storage.memory_disk import MemoryDisk
from putter.storage.notes import DiskNotes
from putter.storage.scrub import Finding, Part

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "notes.md"
EXAMPLE = re.compile(r"(<!-- example: (\w+) -->\n```json\n)(.*?)\n(```\n)")
STARTED_MS = 1_700_000_000_000


def written() -> dict[str, str]:
    """Both files, as a node writes them."""
    disk = MemoryDisk()
    notes = DiskNotes(disk)
    position = Position(
        number=3,
        now=Pass(
            3, STARTED_MS + 9_000, demanded=True, rate=67_108_864, cursor="12.4.1.61455.90210",
            verified_bytes=402_653_184, total_bytes=1_503_238_553, findings=1,
            stood=[("12.2.0.0.90210", STARTED_MS + 9_400)],
        ),
        last=LastPass(2, STARTED_MS, STARTED_MS + 5_000, 1_500_000_000, 0,
            stood=[("9.5.0.0.70111", STARTED_MS + 2_000)], end="9.10.0.0.70111",
        ),
    )  # fmt: skip
    notes.save(NOTE, msgspec.json.encode(position))
    damage = Damage()
    where = "segments/0000000000000004.seg, byte 81920"
    damage.add(Finding(Part.TICKETS, 61_440, 1, "2K", where, "they rot"), 3)
    damage.add(Finding(Part.RECORD, 17, 1, "2K", where, "it is damaged"), 2)
    notes.save(DAMAGE, damage.encode())
    found = {name: disk.read(f"{name}.json") for name in (NOTE, DAMAGE)}
    return {name: (data or b"").decode().rstrip("\n") for name, data in found.items()}


def test_the_examples_are_what_is_written() -> None:
    shown = {name: text for _, name, text, _ in EXAMPLE.findall(PAGE.read_text("utf-8"))}
    assert shown == written(), "run: python -m tests.architecture.test_notes_document"


def test_every_field_and_part_is_told() -> None:
    page = PAGE.read_text("utf-8")
    fields = [
        field.name for kind in (Position, Pass, LastPass) for field in msgspec.structs.fields(kind)
    ]
    assert [name for name in [*fields, *Part] if f"`{name}`" not in page] == []


if __name__ == "__main__":
    files = written()
    text = PAGE.read_text("utf-8")
    PAGE.write_text(EXAMPLE.sub(lambda m: m[1] + files[m[2]] + "\n" + m[4], text), "utf-8")
