"""Parameters of listings, and their documents."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.meta.interface import Entry
from router.gateway.s3.documents import NAMESPACE
from router.gateway.s3.failures import S3Error
from router.gateway.s3.listing import Listing
from router.gateway.s3.pages import asked_of, page_document, read_token, token_of

ENTRY = Entry("a/b +ü", 3, "tag", 5, 1_700_000_000_123)


def told(parameters: dict[str, str], page: Listing, owner: str | None = None) -> ET.Element:
    return ET.fromstring(page_document("photos", asked_of(parameters), page, owner))


def text(root: ET.Element, path: str) -> str | None:
    return root.findtext("/".join(f"{{{NAMESPACE}}}{name}" for name in path.split("/")))


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_a_token_leads_back_to_its_name(last: str) -> None:
    assert read_token(token_of(last)) == last


@pytest.mark.parametrize("token", ["", "x", "====", "ü", "YWJj\n", "gICA", "YWI"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(S3Error) as caught:
        read_token(token)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    "parameters",
    [
        {"max-keys": "-1"},
        {"max-keys": "x"},
        {"max-keys": "99999999999"},
        {"max-keys": "¹"},
        {"list-type": "3"},
        {"encoding-type": "rot13"},
        {"list-type": "2", "continuation-token": ""},
    ],
)
def test_what_cannot_be_meant(parameters: dict[str, str]) -> None:
    with pytest.raises(S3Error) as caught:
        asked_of(parameters)
    assert caught.value.code == "InvalidArgument"


def test_where_a_page_begins() -> None:
    assert asked_of({"marker": "m", "start-after": "s"}).after == "m"
    second = {"list-type": "2", "marker": "m", "start-after": "s"}
    assert asked_of(second).after == "s"
    assert asked_of(second | {"continuation-token": token_of("t")}).after == "t"
    assert asked_of({"max-keys": "5000"}).limit == 1000
    assert asked_of({"max-keys": "0"}).limit == 0
    with pytest.raises(S3Error) as long:
        asked_of({"prefix": "x" * 1025})
    assert long.value.code == "KeyTooLongError"


def test_a_page_of_the_first_version() -> None:
    page = Listing([ENTRY], ["c<d/"], more=True, last="c<d/")
    root = told({"delimiter": "/", "prefix": "", "max-keys": "2"}, page, "ann")
    assert text(root, "Contents/Key") == "a/b +ü"
    assert text(root, "Contents/ETag") == '"tag"'
    assert text(root, "Contents/LastModified") == "2023-11-14T22:13:20.000Z"
    assert text(root, "Contents/Owner/DisplayName") == "ann"
    assert text(root, "CommonPrefixes/Prefix") == "c<d/"
    assert (text(root, "IsTruncated"), text(root, "NextMarker")) == ("true", "c<d/")
    assert text(root, "KeyCount") is None
    assert text(told({}, page), "NextMarker") is None, "only behind a delimiter"


def test_a_page_of_the_second_version_with_encoded_names() -> None:
    page = Listing([ENTRY], [], more=True, last=ENTRY.key)
    asked = {"list-type": "2", "encoding-type": "url", "start-after": "a b", "prefix": "a/"}
    root = told(asked, page)
    assert text(root, "Contents/Key") == "a/b%20%2B%C3%BC"
    assert text(root, "StartAfter") == "a%20b"
    assert text(root, "KeyCount") == "1"
    assert read_token(text(root, "NextContinuationToken") or "") == ENTRY.key
    assert text(root, "Contents/Owner/ID") is None
    assert text(root, "Marker") is None
