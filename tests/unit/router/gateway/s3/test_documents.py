"""XML: what is written is read back, and what is dangerous or malformed is refused."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.documents import NAMESPACE, Element, Tree, document, escaped, parsed
from router.gateway.s3.failures import S3Error

TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20
)


@given(TEXTS, TEXTS)
def test_what_is_written_is_read_back(one: str, two: str) -> None:
    body = document(("Root", [("One", one), ("Deep", [("Two", two)]), ("Empty", "")]))
    root = ET.fromstring(body)
    assert root.tag == f"{{{NAMESPACE}}}Root"
    assert [child.text or "" for child in root] == [one, "", ""]
    assert root[1][0].text == (two or None)
    ours = parsed(body, "Root")
    assert ours.value("One") == one
    assert ours.all("Deep")[0].value("Two") == two
    assert ours.value("None") is None


def test_attributes_stand_behind_a_name_once() -> None:
    tree: Tree = ('A x="1"', [("B", "c")])
    assert document(tree, "").endswith(b'\n<A x="1"><B>c</B></A>')


def test_characters_that_xml_has_no_room_for_are_references() -> None:
    assert escaped('a&<>"\r\n\x01\uffff') == "a&amp;&lt;&gt;&quot;&#xd;&#xa;&#x1;&#xffff;"


def test_with_or_without_namespace() -> None:
    for attribute in ("", f' xmlns="{NAMESPACE}"'):
        body = f"<Delete{attribute}><Object><Key> a </Key></Object></Delete>".encode()
        assert parsed(body, "Delete") == Element(
            "Delete", "", [Element("Object", "", [Element("Key", " a ")])]
        )


def test_a_prefix_is_left_out_and_never_spelt_out() -> None:
    """Each name with a prefix would else cost as much as its namespace is long."""
    body = b"<q:Delete><q:Object>one<Key/>two</q:Object></q:Delete>"
    assert parsed(body, "Delete") == Element(
        "Delete", "", [Element("Object", "onetwo", [Element("Key")])]
    )


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>
<Delete><Object><Key>&b;</Key></Object></Delete>"""
FILE = b"""<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete>&x;</Delete>"""


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        FILE,
        b"<!DOCTYPE Delete><Delete/>",
        b"",
        b"no xml",
        b"<Delete>",
        b"<Delete></Delete><Delete/>",
        b"<Other/>",
        b"<Delete>\xff</Delete>",
        b"<Delete>\x01</Delete>",
        b'<?xml version="1.0" encoding="klingon"?><Delete/>',
        b"<Delete>" + b"<a>" * 20 + b"</a>" * 20 + b"</Delete>",
        b"<Delete>" + b"<a/>" * 20_000 + b"</Delete>",
        b"<Delete>&nbsp;</Delete>",
    ],
)
def test_what_is_malformed_or_dangerous_is_refused(body: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parsed(body, "Delete")
    assert caught.value.code == "MalformedXML"


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read(body: bytes) -> None:
    code = ""
    try:
        assert parsed(body, "Delete").name == "Delete"
    except S3Error as error:
        code = error.code
    assert code in ("", "MalformedXML")


def test_a_thing_that_is_there_twice_is_not_guessed() -> None:
    with pytest.raises(S3Error):
        parsed(b"<D><Key>a</Key><Key>b</Key></D>", "D").value("Key")


def attributes(count: int, value: str = "") -> str:
    return "".join(f' a{n}="{value}"' for n in range(count))


@pytest.mark.parametrize(
    "body",
    [
        f"<r{attributes(30_000)}/>",
        f"<r{attributes(30_000, '>')}/>",
        f"<r>{f'<x{attributes(50)}/>' * 500}</r>",
        f"<r>{f'<x{attributes(5_000)}/>' * 3}</r>",
        f"<r>{' ' * 100_000}<!--{'x' * 100_000}--></r>",
        f"<r{' ' * 100_000}/>",
    ],
    ids=["one tag", "with signs in it", "many tags", "long tags", "comment", "blanks"],
)
def test_what_is_read_at_once_has_bounds(body: str) -> None:
    """A router does nothing else meanwhile."""
    with pytest.raises(S3Error, match="MalformedXML"):
        parsed(body.encode(), "r")


def test_what_is_long_and_means_something_is_read() -> None:
    """However the pieces cut it."""
    part = f'<x xmlns="{NAMESPACE}">ü&amp;{"y" * 97}</x>'
    body = f"<r>{' ' * 100_000}{part * 5_000}<![CDATA[{'z' * 200_000}]]></r>"
    root = parsed(body.encode(), "r")
    assert [child.text for child in root.children] == [f"ü&{'y' * 97}"] * 5_000
    assert root.text == " " * 100_000 + "z" * 200_000
    whole = parsed(body.encode("utf-16"), "r")
    assert [child.text for child in whole.children] == [child.text for child in root.children]
