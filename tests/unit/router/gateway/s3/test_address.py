"""What a request is about: nothing of a path is cleaned up, and what cannot be is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.s3.address import (
    address_of,
    bucket_of_host,
    checked_bucket,
    checked_key,
    copy_source,
)
from router.gateway.s3.failures import S3Error


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        ("/", "", ""),
        ("/photos", "photos", ""),
        ("/photos/", "photos", ""),
        ("/photos/a", "photos", "a"),
        ("/photos//a", "photos", "/a"),
        ("/photos/a//b/", "photos", "a//b/"),
        ("/photos/../a/./b", "photos", "../a/./b"),
        ("/photos/a+b%2Bc", "photos", "a+b+c"),
        ("/photos/a%2Fb%25", "photos", "a/b%"),
        ("/photos/%C3%BC%E7%8C%AB", "photos", "ü猫"),
        ("/photos/%00%01", "photos", "\0\1"),
        ("//photos", "", "photos"),
    ],
)
def test_path_style(target: str, bucket: str, key: str) -> None:
    found = address_of(target, "127.0.0.1:5003", "s3.example.com")
    assert (found.bucket, found.key, found.path) == (bucket, key, target)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("photos.s3.example.com", "photos"),
        ("photos.S3.Example.com:5003", "photos"),
        ("a.b.c.s3.example.com", "a.b.c"),
        ("s3.example.com", ""),
        ("s3.example.com.", ""),
        ("photos.other.com", ""),
        ("xs3.example.com", ""),
        ("[::1]", ""),
        ("[::1]:5003", ""),
        ("", ""),
    ],
)
def test_a_host_may_name_the_bucket(host: str, bucket: str) -> None:
    assert bucket_of_host(host, "s3.example.com") == bucket
    assert bucket_of_host(host, "") == ""
    found = address_of("/photos/a", host, "s3.example.com")
    assert (found.bucket, found.key) == ((bucket, "photos/a") if bucket else ("photos", "a"))


def test_the_query_is_decoded_and_keeps_its_order() -> None:
    found = address_of("/b?prefix=a+b%2B&&x&prefix=2&y=", "", "")
    assert list(found.query) == [("prefix", "a b+"), ("x", ""), ("prefix", "2"), ("y", "")]
    assert found.parameters["prefix"] == "a b+", "the first counts"


@pytest.mark.parametrize("target", ["*", "http://h/b", "/b/%ff", "/%ff", "/b?x=%ff", ""])
def test_what_is_no_address(target: str) -> None:
    with pytest.raises(S3Error) as caught:
        address_of(target, "", "")
    assert caught.value.code == "InvalidURI"


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30))
def test_every_key_survives_its_way(key: str) -> None:
    assert address_of(f"/photos/{quote(key)}", "", "").key == key
    assert copy_source(f"photos/{quote(key)}") == ("photos", key, None)
    assert copy_source(f"/photos/{quote(key, safe='')}") == ("photos", key, None)


def test_names_that_cannot_be() -> None:
    assert checked_key("ü" * 512) == "ü" * 512
    with pytest.raises(S3Error) as long:
        checked_key("ü" * 512 + "a")
    assert (long.value.code, long.value.fields["Size"]) == ("KeyTooLongError", "1025")
    with pytest.raises(S3Error) as bucket:
        checked_bucket("No")
    assert bucket.value.code == "InvalidBucketName"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("photos", "InvalidArgument"),
        ("photos/", "InvalidArgument"),
        ("photos/a?versionId=", "InvalidArgument"),
        ("photos/a?versionId", "InvalidArgument"),
        ("photos/a?other=3", "InvalidArgument"),
        ("P/a", "InvalidBucketName"),
        ("photos/%ff", "InvalidURI"),
    ],
)
def test_sources_that_cannot_be(source: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        copy_source(source)
    assert caught.value.code == code
    assert copy_source("photos/a?versionId=null") == ("photos", "a", "null")
    assert copy_source("photos/a?versionId=A%20B") == ("photos", "a", "A B")
