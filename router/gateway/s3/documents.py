"""XML documents: answers are written from plain trees, requests are read into plain trees.

A tree is a name with a text or with children. What is read is bounded in size, depth, number of
elements and of attributes, which mean nothing here, and may not define anything (a DTD could name
files, or grow without end).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from common.limits import KIB
from router.gateway.s3.failures import S3Error

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
CONTENT_TYPE: Final = "application/xml"
_DEPTH_MAX: Final = 8
_ELEMENTS_MAX: Final = 12_000
_ATTRIBUTES_MAX: Final = 10_000
_TAG_BYTES_MAX: Final = 64 * KIB
"""Of one tag, or of one comment: what is in it is told by the parser at once."""
_PIECE_BYTES: Final = 16 * KIB
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL: Final = re.compile('[&<>"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

Tree = tuple[str, "str | Sequence[Tree]"]
"""An element of an answer: its name, with attributes behind it, and its text or its children."""


@dataclass
class Element:
    """An element of a request.

    Attributes:
        name: without the prefix of a namespace.
        text: characters directly in it.
        children: in their order.
    """

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """The children of that name."""
        return [child for child in self.children if child.name == name]

    def value(self, name: str) -> str | None:
        """The text of the only child of that name, as it is; None if there is none.

        Raises:
            S3Error: there are several.
        """
        found = self.all(name)
        if len(found) > 1:
            raise S3Error("MalformedXML")
        return found[0].text if found else None


def document(root: Tree, namespace: str = NAMESPACE) -> bytes:
    """The document of a tree.

    Args:
        root: its root element.
        namespace: of all elements; "" for none.
    """
    parts = [_HEAD]
    _write(root, f' xmlns="{namespace}"' if namespace else "", parts)
    return "".join(parts).encode()


def escaped(text: str) -> str:
    """Text between tags. Characters that XML has no room for are references, as S3 writes them.

    Bytes of a request that are no UTF-8 (to Python surrogates) become U+FFFD.
    """
    return _SPECIAL.sub(_reference, text)


def parsed(body: bytes, root: str, elements_max: int = _ELEMENTS_MAX) -> Element:
    """The tree of a request's document.

    Args:
        body: the document; its length is bounded by whoever received it.
        root: the name that the root element must have.
        elements_max: how many elements it may have.

    Raises:
        S3Error: it is no XML, something else, too deep or too much, or it defines something.
    """
    reader = _Reader(elements_max)
    # Without namespaces: expat would write that of a prefix, which may be long, into each name.
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.buffer_text = True
    try:
        for first in range(0, len(body), _PIECE_BYTES):
            if first - parser.CurrentByteIndex > _TAG_BYTES_MAX:
                raise S3Error("MalformedXML")
            parser.Parse(body[first : first + _PIECE_BYTES])
        parser.Parse(b"", True)  # noqa: FBT003 - expat takes no names
    except (expat.ExpatError, UnicodeError, LookupError, ValueError) as error:
        raise S3Error("MalformedXML") from error
    found = reader.root
    if found is None or found.name != root:
        raise S3Error("MalformedXML")
    return found


def _reference(match: re.Match[str]) -> str:
    char = match[0]
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return _NAMED.get(char) or f"&#x{ord(char):x};"


class _Reader:
    """Builds the tree while expat reads."""

    def __init__(self, elements_max: int) -> None:
        self.root: Element | None = None
        self._elements_max = elements_max
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0
        self._attributes = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._count += 1
        self._attributes += len(attributes)
        if len(self._open) >= _DEPTH_MAX or self._count > self._elements_max:
            raise S3Error("MalformedXML")
        if self._attributes > _ATTRIBUTES_MAX:
            raise S3Error("MalformedXML")
        element = Element(name.rpartition(":")[2])
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def end(self, _: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def characters(self, text: str) -> None:
        self._texts[-1].append(text)

    def refuse(self, *_: object) -> None:
        raise S3Error("MalformedXML")


def _write(tree: Tree, attribute: str, parts: list[str]) -> None:
    name, inside = tree
    if not inside:
        parts.append(f"<{name}{attribute}/>")
        return
    parts.append(f"<{name}{attribute}>")
    if isinstance(inside, str):
        parts.append(escaped(inside))
    else:
        for child in inside:
            _write(child, "", parts)
    parts.append(f"</{name.partition(' ')[0]}>")
