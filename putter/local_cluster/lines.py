"""What the processes say, as lines with a name before them. Bytes in, lines out; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

LINE_BYTES_MAX: Final = 16 * 1024
"""A longer line is shown in pieces."""
_COLOURS: Final = ("36", "32", "33", "35", "34", "96", "92", "93", "95", "94")
_SUPERVISOR: Final = "1"
_RESET: Final = "\x1b[0m"


class LineCutter:
    """Cuts a stream into lines, wherever its parts begin and end."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete with these bytes, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_BYTES_MAX:
            lines.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        return [piece for line in lines for piece in _pieces(line)]

    def end(self) -> list[str]:
        """What is left when nothing follows."""
        rest, self._rest = self._rest, b""
        return _pieces(rest) if rest else []


class Prefix:
    """Puts the name of a process before its lines.

    Args:
        names: of all processes, the supervisor's first.
        colours: whether each name has a colour of its own.
    """

    def __init__(self, names: Sequence[str], *, colours: bool) -> None:
        width = max(map(len, names))
        self._heads = {name: f"{name:<{width}} | " for name in names}
        if colours:
            self._heads = {
                name: f"\x1b[{code}m{self._heads[name]}{_RESET}"
                for name, code in _codes(names).items()
            }

    def line(self, name: str, text: str) -> str:
        """The line as it is shown."""
        return self._heads[name] + text


def wants_colours(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour: on a terminal that can, unless ``NO_COLOR`` is set to anything."""
    return terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _codes(names: Sequence[str]) -> dict[str, str]:
    first, *others = names
    codes = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(others)}
    return {first: _SUPERVISOR} | codes


def _pieces(line: bytes) -> list[str]:
    cuts = range(0, max(len(line), 1), LINE_BYTES_MAX)
    return [_printable(line[at : at + LINE_BYTES_MAX].decode(errors="replace")) for at in cuts]


def _printable(text: str) -> str:
    """The text without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
