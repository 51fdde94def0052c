"""Which files of a tree are meant: globs that pick and globs that leave out.

| in a glob | stands for |
|---|---|
| ``*`` | anything without a slash |
| ``**`` | anything |
| ``?`` | one character, no slash |
| ``[abc]``, ``[a-z]``, ``[!a-z]`` | one of these, or none of these |

A glob without a slash is compared with each segment of a name, one with a slash with the whole name
and with each directory above it. So ``node_modules`` and ``build/tmp`` mean all that lies below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def directories(name: str) -> Iterator[str]:
    """The directories above a name: of ``a/b/c`` they are ``a`` and ``a/b``."""
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def expression(glob: str) -> str:
    """A glob as a regular expression."""
    out = ""
    at = 0
    while at < len(glob):
        char = glob[at]
        closing = glob.find("]", at + 2) if char == "[" else -1
        if glob.startswith("**/", at):
            out += "(?:.*/)?"
            at += 3
        elif glob.startswith("**", at):
            out += ".*"
            at += 2
        elif closing > 0:
            inside = glob[at + 1 : closing]
            negated = inside[0] in "!^"
            body = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[negated:])
            out += f"(?!/)[{'^' if negated else ''}{body}]"
            at = closing + 1
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char)
            at += 1
    return out


class Wanted:
    """Picks names of a tree.

    Args:
        include: only what one of these matches; everything if there are none.
        exclude: not what one of these matches, whatever picks it.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = _Globs(include)
        self._exclude = _Globs(exclude)

    def __call__(self, name: str) -> bool:
        """Whether a file is meant."""
        return not self._exclude(name) and (self._include.empty or self._include(name))

    def leaves_out(self, directory: str) -> bool:
        """Whether nothing below a directory is meant, so that nobody has to look."""
        return self._exclude(directory)


class _Globs:
    def __init__(self, globs: Iterable[str]) -> None:
        cleaned = [glob.strip("/") for glob in globs]
        self.empty = not cleaned
        self._segments = _any_of(glob for glob in cleaned if "/" not in glob)
        self._names = _any_of(glob for glob in cleaned if "/" in glob)

    def __call__(self, name: str) -> bool:
        if self._segments and any(self._segments.fullmatch(part) for part in name.split("/")):
            return True
        return self._names is not None and any(
            self._names.fullmatch(each) for each in (name, *directories(name))
        )


def _any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    expressions = [expression(glob) for glob in globs]
    if not expressions:
        return None
    return re.compile("|".join(f"(?:{each})" for each in expressions), re.DOTALL)
