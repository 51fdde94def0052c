"""Print the compose file with another number of putters than the three of compose.yaml.

    python3 docker/compose_with.py 5 > docker/compose-local.yaml
    docker compose --file docker/compose-local.yaml up --detach --wait

Each putter has a service and a volume of its own, so that it keeps its name and its data: replicas
of one service would lose them. What the putters hold that stay is kept when the number changes.
"""
# ruff: noqa: INP001 - a script of its own, no package

from __future__ import annotations

import re
import sys
from pathlib import Path

PUTTERS_MAX = 64
_REPLICAS = 2


def with_putters(text: str, count: int) -> str:
    """The compose file with so many putters.

    Args:
        text: of compose.yaml, which has three.
        count: how many there shall be.

    Raises:
        ValueError: the text is not laid out as it should be.
    """
    words = {1: "one putter", 3: "three putters"}
    text = _once(text, r"three putters", words.get(count, f"{count} putters"))
    if count < _REPLICAS:
        text = _once(text, r"Every object on two of them\.", "Every object on it.")
        for name in ("PUTTER_REPLICAS", "PUTTER_WRITE_QUORUM"):
            text = _once(text, rf'{name}: "{_REPLICAS}"', f'{name}: "{count}"')
    # The services, which routers wait for, and the volumes: each time three alike in a row.
    for part in (
        r"  putter-N:\n(?:    .*\n)+\n",
        r"    putter-N: \{condition: .*\n",
        r"  putter-N: \{\}\n",
    ):
        three = "".join(f"({part.replace('-N', f'-{number}')})" for number in (1, 2, 3))
        found = re.search(three, text)
        if found is None:
            raise ValueError(f"compose.yaml has not three of {part!r}")
        one = found[1]
        rows = (one.replace("putter-1", f"putter-{number}") for number in range(1, count + 1))
        text = text[: found.start()] + "".join(rows) + text[found.end() :]
    return text


def _once(text: str, pattern: str, new: str) -> str:
    changed, times = re.subn(pattern, new, text)
    if times != 1:
        raise ValueError(f"compose.yaml has {times} of {pattern!r}, not one")
    return changed


def main(words: list[str]) -> int:
    """Print it."""
    if len(words) != 1 or not words[0].isdecimal() or not 1 <= int(words[0]) <= PUTTERS_MAX:
        sys.stderr.write(f"error: say how many putters, 1 to {PUTTERS_MAX}: compose_with.py 5\n")
        return 2
    text = Path(__file__).with_name("compose.yaml").read_text("utf-8")
    sys.stdout.write(with_putters(text, int(words[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
