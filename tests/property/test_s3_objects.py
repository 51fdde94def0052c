"""Objects through the whole S3 door, against models: names, listings, ranges, uploads in parts."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.gateway.s3 import completion
from tests.property.test_s3_listing import model
from tests.s3_door_kit import S3Door, answers, head_of, open_door, refused
from tests.s3_kit import KEY_ID, SECRET, Told, completion_of, path_of

SOAK: Final = 50 if os.environ.get("PUTTER_SOAK") else 1
KEYS: Final = frozenset(
    [
        "a",
        "a/",
        "a//",
        "a//b",
        "a/b",
        "a/b/c",
        "a+b",
        "a b",
        "a%2Fb",
        "a%",
        "/",
        "//",
        "/a",
        "../a",
        "./a",
        "a/../b",
        "b",
        "b/\u00e4/c",
        "b/\u00e4/d",
        "b/\ud7ff",
        "b/\uffff",
        "b/\U0010ffff",
        "b/\U0010ffff/x",
        "c\t\r\n\x7f",
        "c&<>\"'",
        "c=?#[]",
        "d" * 1024,
        "\x01",
        "\U0001f600",
    ]
)
NUMBERS: Final = count()
SIZES: Final = (0, 1, 10, 1458, 1459, 5_000)


def data(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_door() as made:
        for bucket in ("names", "sizes"):
            assert made.ask("PUT", f"/{bucket}").status == 200
        for key in KEYS:
            assert made.ask("PUT", path_of("names", key), key.encode()).status == 200
        for size in SIZES:
            assert made.ask("PUT", f"/sizes/{size}", data(size)).status == 200
        yield made


def fresh(door: S3Door) -> str:
    """A bucket that nobody wrote to."""
    name = f"fresh-{next(NUMBERS)}"
    assert door.ask("PUT", f"/{name}").status == 200
    return name


# -- names ---------------------------------------------------------------------------------


def test_each_name_has_its_own_bytes(door: S3Door) -> None:
    for key in KEYS:
        assert door.ask("GET", path_of("names", key)).body == key.encode()


def tell(text: str) -> str:
    """The text of an element; a reference stands for what XML has no room for."""
    text = re.sub("&#x([0-9a-f]+);", lambda found: chr(int(found[1], 16)), text)
    for name, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(name, char)
    return text


def texts(body: bytes, *path: str) -> list[str]:
    """The texts of elements that begin like this."""
    start = "".join(f"<{name}>" for name in path)
    return [tell(each) for each in re.findall(f"{start}([^<]*)<", body.decode())]


@dataclass
class Lister:
    """A way to list: how the pages are asked for, and what names the next one."""

    name: str
    fixed: str
    marker: str
    lines: str

    def after(self, body: bytes, last: str) -> str:
        """What the next page is asked for with."""
        if self.name == "second":
            return texts(body, "NextContinuationToken")[0]
        found = texts(body, "NextKeyMarker" if self.name == "versions" else "NextMarker")
        return found[0] if found else last


LISTERS: Final = [
    Lister("first", "", "marker", "Contents"),
    Lister("second", "list-type=2", "continuation-token", "Contents"),
    Lister("versions", "versions=", "key-marker", "Version"),
]
PREFIXES: Final = st.sampled_from(["", *sorted({key[:n] for key in KEYS for n in (1, 2, 3)})])


@settings(max_examples=80 * SOAK, deadline=None)
@given(
    st.sampled_from(LISTERS),
    PREFIXES,
    st.sampled_from(["", "/", "//", "b", "%", "+", "\u00e4/"]),
    st.integers(1, 12) | st.just(1000),
    st.sampled_from(["", *sorted(KEYS), "b/", "zz"]),
    st.booleans(),
)
def test_pages_are_the_model_cut_in_pieces(
    door: S3Door, lister: Lister, prefix: str, delimiter: str, limit: int, after: str, url: bool
) -> None:
    parameters = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(limit)}
    parameters |= {"encoding-type": "url"} if url else {}
    start = "start-after" if lister.name == "second" else lister.marker
    if after:
        parameters[start] = after
    found: list[str] = []
    while True:
        query = "&".join(f"{name}={quote(text, safe='')}" for name, text in parameters.items())
        told = door.ask("GET", f"/names?{lister.fixed}&{query}")
        assert told.status == 200
        decode = unquote if url else str
        keys = [decode(each) for each in texts(told.body, lister.lines, "Key")]
        prefixes = [decode(each) for each in texts(told.body, "CommonPrefixes", "Prefix")]
        lines = sorted([*keys, *prefixes])
        assert sorted(keys) == keys
        assert len(lines) <= limit
        if lister.name == "second":
            assert texts(told.body, "KeyCount") == [str(len(lines))]
        found += lines
        if texts(told.body, "IsTruncated") == ["false"]:
            break
        assert len(lines) == limit
        parameters.pop(start, None)
        token = lister.after(told.body, lines[-1])
        parameters[lister.marker] = token if lister.name == "second" else decode(token)
    assert found == model(set(KEYS), prefix, delimiter, after)


@settings(max_examples=60 * SOAK, deadline=None)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        | st.sampled_from("/ +%&=?#~*'(){}"),
        min_size=1,
        max_size=20,
    ),
    st.dictionaries(
        st.text(st.sampled_from("abz019-"), min_size=1, max_size=8),
        st.text(st.sampled_from("ab XY,;=\"'\u00e4/+%"), max_size=12).map(str.strip).filter(bool),
        max_size=3,
    ),
    st.binary(max_size=30),
)
def test_what_others_sign_is_stored_under_its_name(
    door: S3Door, key: str, meta: dict[str, str], body: bytes
) -> None:
    """A request as botocore signs and encodes it, with any key and any metadata."""
    bucket = fresh(door)
    target = path_of(bucket, key)
    headers = {f"x-amz-meta-{name}": value for name, value in meta.items()}
    made = AWSRequest("PUT", f"http://127.0.0.1:5003{target}?x-id=PutObject", headers, body)
    made.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", "us-east-1").add_auth(made)
    sent = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in made.prepare().headers.items()
    }
    sent["Host"] = "127.0.0.1:5003"
    [told] = answers(door.raw(head_of("PUT", f"{target}?x-id=PutObject", sent, body) + body))
    assert told.status == 200, told
    listed = door.ask("GET", f"/{bucket}?list-type=2&encoding-type=url")
    assert [unquote(each) for each in texts(listed.body, "Contents", "Key")] == [key]
    assert door.ask("GET", target).body == body


# -- ranges --------------------------------------------------------------------------------


def wanted_range(text: str, size: int) -> tuple[int, int] | str | None:
    """What RFC 9110 makes of a Range header: bytes from and to, all of them, or an error."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text, re.ASCII)
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else "InvalidRange"
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return "InvalidRange"
    return int(first), min(int(last) + 1 if last else size, size)


POSITIONS: Final = st.sampled_from(
    ["", "0", "1", "9", "10", "1457", "1458", "1459", "4999", "5000"]
)


@settings(max_examples=150 * SOAK, deadline=None)
@given(
    st.sampled_from(SIZES),
    st.builds("bytes={}-{}".format, POSITIONS, POSITIONS)
    | st.builds("bytes={}-{}".format, st.integers(0, 6_000), st.integers(0, 10**20))
    | st.sampled_from(["bytes=0-1,3-4", "bytes 0-1", "lines=0-1", "bytes=a-b", "bytes=0--1"]),
    st.sampled_from(["GET", "HEAD"]),
)
@example(0, "bytes=0-", "GET")
@example(0, "bytes=-1", "GET")
def test_ranges_are_those_of_the_rfc(door: S3Door, size: int, text: str, method: str) -> None:
    whole = data(size)
    wanted = wanted_range(text, size)
    told = door.ask(method, f"/sizes/{size}", headers={"range": text})
    if isinstance(wanted, str) or (size == 0 and wanted == (0, 0)):
        assert told.status == 416
        if method == "GET":
            assert told.code == "InvalidRange"
        return
    start, end = wanted or (0, size)
    assert told.status == (206 if wanted else 200)
    assert told.headers["content-length"] == str(end - start)
    assert told.headers.get("content-range") == (
        f"bytes {start}-{end - 1}/{size}" if wanted else None
    )
    if method == "GET":
        assert told.body == whole[start:end]


# -- uploads in parts ----------------------------------------------------------------------


@dataclass
class Parts:
    """An open upload as it should be."""

    bucket: str
    key: str
    upload: str
    parts: dict[int, bytes] = field(default_factory=dict)

    def path(self, more: str = "") -> str:
        return f"/{self.bucket}/{self.key}?{more}uploadId={self.upload}"


def tag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


SHORT: Final = 5
"""Bytes that a part must have here, unless it is the last one."""
STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["begin", "put", "put", "put", "copy", "complete", "complete", "abort"]),
        st.integers(0, 9),
        st.sampled_from([1, 2, 3, 500, 10_000]),
        st.sampled_from([0, 4, 5, 6, 2_000]),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def short_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "PART_BYTES_MIN", SHORT)
        yield


@settings(max_examples=40 * SOAK, deadline=None)
@given(STEPS)
@example([("begin", 0, 1, 0), ("put", 0, 2, 5), ("put", 0, 1, 6), ("complete", 0, 1, 0)])
@example([("begin", 0, 1, 0), ("put", 0, 1, 6), ("copy", 0, 2, 0), ("complete", 1, 1, 0)])
@pytest.mark.usefixtures("short_parts")
def test_uploads_are_the_model(door: S3Door, steps: list[tuple[str, int, int, int]]) -> None:
    bucket = fresh(door)
    opened: list[Parts] = []
    objects: dict[str, list[bytes]] = {}
    for step, (kind, which, number, size) in enumerate(steps):
        if kind == "begin":
            key = f"k{which % 3}"
            told = door.ask("POST", f"/{bucket}/{key}?uploads=")
            opened.append(Parts(bucket, key, texts(told.body, "UploadId")[0]))
            continue
        if not opened:
            continue
        of = opened[which % len(opened)]
        if kind in {"put", "copy"}:
            _put(door, of, kind, number, data(size) if kind == "copy" else data(size + step))
        elif kind == "abort":
            assert door.ask("DELETE", of.path()).status == 204
            opened.remove(of)
            assert refused(door.ask("GET", of.path()))
        else:
            chosen = sorted(of.parts)[: 1 + which]
            told = _complete(door, of, chosen)
            bodies = [of.parts[each] for each in chosen]
            if not chosen or any(len(body) < SHORT for body in bodies[:-1]):
                assert told.code == ("EntityTooSmall" if chosen else "MalformedXML")
            else:
                assert texts(told.body, "Key") == [of.key]
                assert _complete(door, of, chosen).body == told.body, "asked for again"
                objects[of.key] = bodies
                opened.remove(of)
        _check(door, bucket, opened, objects)


def _put(door: S3Door, of: Parts, kind: str, number: int, body: bytes) -> None:
    path = of.path(f"partNumber={number}&")
    if kind == "copy":
        source = 5_000 if len(body) else 0
        headers = {"x-amz-copy-source": f"/sizes/{source}"}
        body = data(source)
        if source and number % 2:
            headers["x-amz-copy-source-range"] = "bytes=7-1999"
            body = body[7:2_000]
        told = door.ask("PUT", path, headers=headers)
        assert texts(told.body, "ETag") == [tag_of(body)]
    else:
        told = door.ask("PUT", path, body)
        assert told.headers["etag"] == tag_of(body)
    of.parts[number] = body


def _complete(door: S3Door, of: Parts, chosen: list[int]) -> Told:
    return door.ask("POST", of.path(), completion_of({n: tag_of(of.parts[n]) for n in chosen}))


def _check(door: S3Door, bucket: str, opened: list[Parts], objects: dict[str, list[bytes]]) -> None:
    listed = door.ask("GET", f"/{bucket}?uploads=").body
    lines = sorted((each.key, each.upload) for each in opened)
    assert texts(listed, "UploadId") == [upload for _, upload in lines]
    for of in opened:
        found: list[Any] = []
        marker = "0"
        while marker:
            told = door.ask("GET", of.path(f"max-parts=2&part-number-marker={marker}&")).body
            found += zip(texts(told, "PartNumber"), texts(told, "ETag"), strict=True)
            more = texts(told, "IsTruncated") == ["true"]
            marker = texts(told, "NextPartNumberMarker")[0] if more else ""
        assert found == [(str(each), tag_of(body)) for each, body in sorted(of.parts.items())]
    held = door.ask("GET", f"/{bucket}?list-type=2").body
    assert texts(held, "Contents", "Key") == sorted(objects)
    for key, bodies in objects.items():
        told = door.ask("GET", f"/{bucket}/{key}")
        assert told.body == b"".join(bodies)
        digests = b"".join(hashlib.md5(body).digest() for body in bodies)
        assert told.headers["etag"] == f'"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"'
        last = door.ask("GET", f"/{bucket}/{key}?partNumber={len(bodies)}")
        assert (last.status, last.body) == (206 if told.body else 200, bodies[-1])
        assert last.headers["x-amz-mp-parts-count"] == str(len(bodies))
