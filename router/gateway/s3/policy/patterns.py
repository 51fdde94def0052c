"""Texts of a policy that are compared with those of a request: wildcards and variables. Pure.

```
*  any characters, also none, also "/"      ${aws:username}          the value of that key
?  exactly one                              ${aws:username, 'none'}  or this, if it has none
                                            ${*}  ${?}  ${$}         these characters themselves
```

What stands for a variable is taken literally: a ``*`` in it is a ``*``. A pattern with a variable
that a request has no value for fits nothing. The time of a comparison is linear, but for what
stands between two ``*`` with a ``?`` in it: that is compared at each place of the text. So it can
have no variable, which is as long as a request likes, and `Pattern.searched` tells how much of it
there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

Values = Mapping[str, Sequence[str]]
"""What is known of a request: values by the name of the condition key in lower case."""

_TOKEN: Final = re.compile(r"\$\{([^}]*)\}|[*?]|[^*?$]+|\$", re.DOTALL)
_VARIABLE: Final = re.compile(r"\s*([A-Za-z0-9:/_.-]+)\s*(?:,\s*'([^']*)'\s*)?")
_LITERALS: Final = frozenset("*?$")


@dataclass(frozen=True)
class Variable:
    """Stands for what a request has under a key.

    Attributes:
        key: in lower case.
        default: if it has nothing; None: then the pattern fits nothing.
    """

    key: str
    default: str | None = None


ANY: Final = None
"""Any characters."""
_ONE: Final = ""
"""One character: no literal is empty."""
Part = str | Variable | None


class PatternInvalid(ValueError):
    """A text that is no pattern; the message says why."""


@dataclass(frozen=True)
class Pattern:
    """What a text may be.

    Attributes:
        parts: literals, variables, and what stands for wildcards.
        lowered: whether upper and lower case are the same; then literals are in lower case.
    """

    parts: tuple[Part, ...]
    lowered: bool = False

    @property
    def fixed(self) -> bool:
        """Whether it is one text, whatever is asked."""
        return all(isinstance(part, str) and part for part in self.parts)

    @property
    def variables(self) -> list[str]:
        """The keys of its variables."""
        return [part.key for part in self.parts if isinstance(part, Variable)]

    @property
    def searched(self) -> int:
        """Characters that are compared at each place of a text."""
        return _searched(self.parts)

    def fits(self, text: str, values: Values) -> bool:
        """Whether a text is as this says.

        Args:
            text: the text.
            values: of the request, for variables.
        """
        runs = self._static
        if runs is None:
            resolved = self._resolved(values)
            if resolved is None:
                return False
            runs = _runs(resolved)
        return _fits(runs, text.lower() if self.lowered else text)

    @cached_property
    def _static(self) -> tuple[_Run, ...] | None:
        return None if self.variables else _runs(self.parts)

    def _resolved(self, values: Values) -> list[Part] | None:
        resolved: list[Part] = []
        for part in self.parts:
            if not isinstance(part, Variable):
                resolved.append(part)
                continue
            held = values.get(part.key)
            value = held[0] if held else part.default
            if value is None:
                return None
            if value:
                resolved.append(value.lower() if self.lowered else value)
        return resolved


def pattern_of(
    text: str, *, wildcards: bool = True, variables: bool = False, lowered: bool = False
) -> Pattern:
    """Read a pattern.

    Args:
        text: as the policy has it.
        wildcards: whether ``*`` and ``?`` are some.
        variables: whether ``${…}`` is one.
        lowered: whether upper and lower case are the same.

    Raises:
        PatternInvalid: a variable that is none, or is where none can be.
    """
    parts: list[Part] = []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if variables and token[1] is not None:
            parts.append(_variable(token[1], lowered=lowered))
        elif wildcards and word == "*":
            parts.append(ANY)
        elif wildcards and word == "?":
            parts.append(_ONE)
        else:
            parts.append(word.lower() if lowered else word)
    _searched(parts)
    return Pattern(tuple(parts), lowered)


# -- inside --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What stands between two ``*``: so many characters.

    Attributes:
        parts: literals, and what stands for ``?``.
    """

    parts: tuple[str, ...]

    @cached_property
    def length(self) -> int:
        """How many."""
        return sum(len(part) or 1 for part in self.parts)

    @cached_property
    def _shape(self) -> re.Pattern[str]:
        """Only for what is searched: it takes long to make of what requests bring."""
        shape = "".join(re.escape(part) if part else "." for part in self.parts)
        return re.compile(shape, re.DOTALL)

    def at(self, text: str, place: int) -> bool:
        for part in self.parts:
            if not text.startswith(part, place):
                return False
            place += len(part) or 1
        return place <= len(text)

    def find(self, text: str, place: int) -> int:
        if _ONE not in self.parts:
            return text.find("".join(self.parts), place)
        found = self._shape.search(text, place)
        return -1 if found is None else found.start()


def _variable(inside: str, *, lowered: bool) -> Part:
    if inside in _LITERALS:
        return inside
    match = _VARIABLE.fullmatch(inside)
    if match is None:
        raise PatternInvalid(f"${{{inside[:64]}}} is no policy variable")
    default = match[2]
    return Variable(match[1].lower(), default.lower() if lowered and default else default)


def _split(parts: Iterable[Part]) -> list[list[Part]]:
    """What stands before, between and behind the ``*``."""
    split: list[list[Part]] = [[]]
    for part in parts:
        if part is ANY:
            split.append([])
        else:
            split[-1].append(part)
    return split


def _searched(parts: Iterable[Part]) -> int:
    """The characters of what stands between two ``*`` and has a ``?``.

    Raises:
        PatternInvalid: it has a variable, too.
    """
    count = 0
    for run in _split(parts)[1:-1]:
        for part in run if _ONE in run else ():
            if isinstance(part, Variable):
                raise PatternInvalid("A variable and a ? cannot stand between the same two *")
            count += len(part or "?")
    return count


def _runs(parts: Iterable[Part]) -> tuple[_Run, ...]:
    """The runs between the ``*``; the first and the last may be empty."""
    return tuple(
        _Run(tuple(part for part in run if isinstance(part, str))) for run in _split(parts)
    )


def _fits(runs: Sequence[_Run], text: str) -> bool:
    first, last = runs[0], runs[-1]
    if len(runs) == 1:
        return len(text) == first.length and first.at(text, 0)
    end = len(text) - last.length
    if first.length > end or not first.at(text, 0) or not last.at(text, end):
        return False
    place = first.length
    for run in runs[1:-1]:
        place = run.find(text, place)
        if place < 0:
            return False
        place += run.length
    return place <= end
