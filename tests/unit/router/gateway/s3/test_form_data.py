"""Forms as browsers and clients send them, whole and in pieces, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.limits import S3_FORM_BYTES_MAX
from router.gateway.s3.failures import S3Error
from router.gateway.s3.form_data import FormData, boundary_of

LINE = b"--frontier\r\n"
LAST = b"--frontier--\r\n"


def field(name: str, value: str) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"\r\n\r\n'
    return LINE + head.encode() + value.encode() + b"\r\n"


def file(data: bytes, disposition: str = 'name="file"; filename="cat.jpg"') -> bytes:
    head = f"Content-Disposition: form-data; {disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    return LINE + head.encode() + data + b"\r\n"


def read(form: bytes, *cuts: int) -> tuple[FormData, bytes]:
    reader = FormData(b"frontier")
    ends = sorted({min(cut, len(form)) for cut in cuts} | {len(form)})
    found, at = b"", 0
    for end in ends:
        found += bytes(reader.feed(form[at:end]))
        at = end
    reader.finish()
    return reader, found


def refusal(form: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        read(form)
    return caught.value.code


def test_fields_and_a_file() -> None:
    form = field("Key", "a/${filename}") + field("empty", "") + file(b"\x00meow\r\n") + LAST
    reader, data = read(form)
    assert reader.fields == {"key": "a/${filename}", "empty": ""}
    assert (reader.filename, data, reader.complete) == ("cat.jpg", b"\x00meow\r\n", True)


def test_what_comes_behind_the_file_is_not_looked_at() -> None:
    reader, data = read(file(b"x") + field("key", "late") + b"\xff" * 100_000)
    assert (reader.fields, data) == ({}, b"x")


def test_a_file_without_a_byte_and_without_a_name() -> None:
    reader, data = read(file(b"", 'name="file"') + LAST)
    assert (reader.filename, data, reader.complete) == ("", b"", True)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"; filename="a b.txt"', "a b.txt"),
        ('filename=plain.txt; name="file"', "plain.txt"),
        ('name=file; filename="a;b=c.txt"', "a;b=c.txt"),
        ('name="file"; filename="say %22hi%22.txt"', 'say "hi".txt'),
        ('name="file"; filename="say \\"hi\\".txt"', 'say "hi".txt'),
        ('name="file"; filename="C:\\dir\\x.txt"', "x.txt"),
        ('name="file"; filename="/home/ann/x.txt"', "x.txt"),
        ('name="FILE"; filename="猫.txt"', "猫.txt"),
    ],
)
def test_names_of_files(disposition: str, name: str) -> None:
    assert read(file(b"x", disposition) + LAST)[0].filename == name


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (b"", "MalformedPOSTRequest"),
        (b"hello", "MalformedPOSTRequest"),
        (b"preamble\r\n" + file(b"x") + LAST, "MalformedPOSTRequest"),
        (file(b"x"), "MalformedPOSTRequest"),
        (field("key", "a"), "MalformedPOSTRequest"),
        (field("key", "a") + LAST, "IncorrectNumberOfFilesInPostRequest"),
        (LAST, "IncorrectNumberOfFilesInPostRequest"),
        (b"--frontierX" + file(b"x") + LAST, "MalformedPOSTRequest"),
        (LINE + b"\r\n\r\nx\r\n" + LAST, "MalformedPOSTRequest"),
        (LINE + b"Content-Disposition: form-data\r\n\r\nx\r\n" + LAST, "MalformedPOSTRequest"),
        (LINE + b'Content-Disposition: x; name="a"\r\n\r\nx\r\n' + LAST, "MalformedPOSTRequest"),
        (field("key", "a") + field("KEY", "b") + file(b"x") + LAST, "InvalidArgument"),
        (field("key", "a").replace(b"\r\na\r\n", b"\r\n\xff\r\n") + LAST, "MalformedPOSTRequest"),
        (field("key", "a" * S3_FORM_BYTES_MAX), "MaxPostPreDataLengthExceededError"),
        (field("key", "a" * S3_FORM_BYTES_MAX) + file(b""), "MaxPostPreDataLengthExceededError"),
        (LINE + b"a: " + b"b" * S3_FORM_BYTES_MAX, "MaxPostPreDataLengthExceededError"),
    ],
)
def test_what_is_no_form(form: bytes, code: str) -> None:
    if form == file(b"x"):
        form = form[:-2]  # it ends in the middle of the file
    assert refusal(form) == code


@given(
    st.dictionaries(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), st.text()),
    st.lists(st.sampled_from([b"\r", b"\n", b"--", b"frontier", b"\r\n--frontie", b"x" * 50])),
    st.lists(st.integers(0, 3_000), max_size=20),
)
def test_it_does_not_matter_how_it_is_cut(
    fields: dict[str, str], parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts).replace(b"\r\n--frontier", b"")
    wanted = {name.lower(): value for name, value in fields.items() if name.lower() != "file"}
    wanted = {name: value for name, value in wanted.items() if "\r\n--frontier" not in value}
    form = b"".join(field(name, value) for name, value in wanted.items()) + file(data) + LAST
    reader, found = read(form, *cuts)
    assert (reader.fields, found, reader.complete) == (wanted, data, True)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_garbage_is_refused_or_read(garbage: bytes, cuts: list[int]) -> None:
    try:
        read(garbage, *cuts)
    except S3Error as error:
        assert error.status == 400  # noqa: PT017 - or it is read


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=frontier", b"frontier"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b:c"', b"a b:c"),
        (
            "multipart/form-data;boundary=----WebKitFormBoundary7MA4; x=y",
            b"----WebKitFormBoundary7MA4",
        ),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("", "RequestIsNotMultiPartContent"),
        ("application/x-www-form-urlencoded", "RequestIsNotMultiPartContent"),
        ("multipart/mixed; boundary=x", "RequestIsNotMultiPartContent"),
        ("multipart/form-data", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=", "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=" + "x" * 71, "MalformedPOSTRequest"),
        ("multipart/form-data; boundary=\u00e9", "MalformedPOSTRequest"),
    ],
)
def test_no_boundary(content_type: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        boundary_of(content_type)
    assert caught.value.code == code
