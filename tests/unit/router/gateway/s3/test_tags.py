"""Tags of documents and headers: what S3 takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.gateway.s3.documents import document, parsed
from router.gateway.s3.failures import S3Error
from router.gateway.s3.tags import tags_in, tags_of_header, tags_tree


def of(*pairs: tuple[str, str], count_max: int = 10) -> dict[str, str]:
    told = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in pairs)
    return tags_in(
        parsed(f"<Tagging><TagSet>{told}</TagSet></Tagging>".encode(), "Tagging"), count_max
    )


def code(call: Callable[[], object]) -> str:
    with pytest.raises(S3Error) as caught:
        call()
    return caught.value.code


def test_tags_keep_their_order_and_their_blanks() -> None:
    tags = of(("b", " two "), ("a", ""), ("ü é/@+-=._:", "\u00a01"))
    assert list(tags.items()) == [("b", " two "), ("a", ""), ("ü é/@+-=._:", "\u00a01")]
    assert tags_in(parsed(document(tags_tree(tags)), "Tagging"), 10) == tags
    assert of() == {}


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([("k" * 128, "v" * 256)], ""),
        ([("k" * 129, "v")], "InvalidTag"),
        ([("k", "v" * 257)], "InvalidTag"),
        ([("", "v")], "InvalidTag"),
        ([("a", "1"), ("a", "1")], "InvalidTag"),
        ([("aws:x", "1")], "InvalidTag"),
        ([("AWS:x", "1")], "InvalidTag"),
        ([("a*", "1")], "InvalidTag"),
        ([("a", "1?")], "InvalidTag"),
        ([("a", "\t")], "InvalidTag"),
        ([(f"k{n}", "") for n in range(10)], ""),
        ([(f"k{n}", "") for n in range(11)], "BadRequest"),
    ],
)
def test_limits(pairs: list[tuple[str, str]], error: str) -> None:
    if error:
        assert code(lambda: of(*pairs)) == error
    else:
        assert of(*pairs) == dict(pairs)


def test_a_bucket_has_room_for_more() -> None:
    pairs = [(f"k{n}", "v") for n in range(51)]
    assert of(*pairs[:50], count_max=50) == dict(pairs[:50])
    assert code(lambda: of(*pairs, count_max=50)) == "BadRequest"


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<TagSet/><TagSet/>",
        "<TagSet/><Other/>",
        "<Tag><Key>a</Key><Value>b</Value></Tag>",
        "<TagSet><Tag><Key>a</Key></Tag></TagSet>",
        "<TagSet><Tag><Value>a</Value></Tag></TagSet>",
        "<TagSet><Tag><Key>a</Key><Key>b</Key><Value/></Tag></TagSet>",
        "<TagSet><Tag><Key>a</Key><Value>b</Value><More/></Tag></TagSet>",
        "<TagSet><Label><Key>a</Key><Value>b</Value></Label></TagSet>",
    ],
)
def test_another_document_is_refused(inside: str) -> None:
    root = parsed(f"<Tagging>{inside}</Tagging>".encode(), "Tagging")
    assert code(lambda: tags_in(root, 10)) == "MalformedXML"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=&c", {"a": "1", "b": "", "c": ""}),
        ("a+b=%C3%BC%2Bx&&c=d%3De", {"a b": "ü+x", "c": "d=e"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_a_header(text: str, tags: dict[str, str]) -> None:
    assert tags_of_header(text) == tags


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a=1&a=2", "InvalidArgument"),
        ("a=%FF", "InvalidArgument"),
        ("=1", "InvalidTag"),
        ("a=%00", "InvalidTag"),
        ("aws:a=1", "InvalidTag"),
        ("&".join(f"k{n}=v" for n in range(11)), "BadRequest"),
    ],
)
def test_a_header_that_is_refused(text: str, error: str) -> None:
    assert code(lambda: tags_of_header(text)) == error
