"""Which requests leave nothing to interpretation, and where others end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.plain import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    Ask,
    Puts,
    plain,
    plain_begin,
    request_bytes,
)

GET = b"GET /file/a/b HTTP/1.1\r\n"
HOST = b"Host: localhost:5004\r\n"
END = b"\r\n"


class TestPlain:
    @pytest.mark.parametrize(
        ("lines", "headers"),
        [
            (b"", {}),
            (b"range: bytes=0-1\r\n", {"Range": "bytes=0-1"}),
            (b"RANGE:bytes=0-1  \r\n", {"Range": "bytes=0-1"}),
            (
                b"User-Agent: a b/c (d)\r\nAccept: */*\r\nConnection: Keep-Alive\r\n",
                {"User-Agent": "a b/c (d)", "Accept": "*/*", "Connection": "Keep-Alive"},
            ),
            (b'If-None-Match: "x", W/"y"\r\n', {"If-None-Match": '"x", W/"y"'}),
        ],
    )
    def test_that_leave_nothing_to_interpretation(
        self, lines: bytes, headers: dict[str, str]
    ) -> None:
        asked = plain(GET + HOST + lines + END)
        assert asked == Ask("/file/a/b", {"Host": "localhost:5004"} | headers)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            GET + END,
            GET + HOST,
            GET + HOST + END + b"x",
            GET + HOST + END + GET + HOST + END,
            END + GET + HOST + END,
            GET + HOST + HOST + END,
            GET + HOST + b"Connection: close\r\n" + END,
            GET + HOST + b"Content-Length: 0\r\n" + END,
            GET + HOST + b"Transfer-Encoding: chunked\r\n" + END,
            GET + HOST + b"Expect: 100-continue\r\n" + END,
            GET + HOST + b"Upgrade: h2c\r\n" + END,
            GET + HOST + b"X-Else: 1\r\n" + END,
            GET + HOST + b"Range : bytes=0-1\r\n" + END,
            GET + HOST + b"Range: bytes=0-1\r\n folded\r\n" + END,
            GET + HOST + b"Range: bytes=0-1\n" + END,
            GET + HOST + b"Range: \r\n" + END,
            GET + HOST + b"Range:\tbytes=0-1\r\n" + END,
            GET + HOST + b"Accept: \xc3\xa4\r\n" + END,
            GET + HOST + b"Accept: a\x7f\r\n" + END,
            GET + b"Host: a b\r\n" + END,
            GET + b"Host: a@b\r\n" + END,
            GET + HOST + b"Accept: " + b"x" * HEAD_BYTES_MAX + b"\r\n" + END,
            (GET + HOST + END).replace(b"GET", b"HEAD"),
            (GET + HOST + END).replace(b"GET", b"get"),
            (GET + HOST + END).replace(b"1.1", b"1.0"),
            (GET + HOST + END).replace(b"GET ", b"GET  "),
            (GET + HOST + END).replace(b"\r\n", b"\n"),
            (GET + HOST + END).replace(b"/a/b", b"/a?b"),
            (GET + HOST + END).replace(b"/a/b", b"/a#b"),
            (GET + HOST + END).replace(b"/a/b", b"/a/%62"),
            (GET + HOST + END).replace(b"/a/b", b"/a/../b"),
            (GET + HOST + END).replace(b"/a/b", b"/./b"),
            (GET + HOST + END).replace(b"/file", b"http://localhost/file"),
            (GET + HOST + END).replace(b"/file/a/b", b"*"),
        ],
    )
    def test_all_others_do_not(self, data: bytes) -> None:
        assert plain(data) is None

    @given(st.integers(0, len(GET + HOST + END) - 1))
    def test_nor_does_a_part_of_one(self, size: int) -> None:
        assert plain((GET + HOST + END)[:size]) is None
        assert plain((GET + HOST + END)[size:]) is None or size == 0

    @given(st.binary(max_size=200), st.integers(0, 60))
    def test_any_bytes_give_an_answer(self, noise: bytes, at: int) -> None:
        whole = GET + HOST + END
        for data in (noise, whole[:at] + noise + whole[at:], whole[:at] + noise):
            asked = plain(data)
            assert asked is None or (data.startswith(b"GET /") and data.endswith(b"\r\n\r\n"))
            assert asked is None or data.count(b"\r\n\r\n") == 1


PUT = b"PUT /b/k HTTP/1.1\r\n"
LENGTH = b"Content-Length: 3\r\n"
WHOLE = PUT + HOST + LENGTH + END + b"abc"
NAMES = ("Authorization", "Connection", "Content-Length", "Host")
PUTS = Puts({name.lower(): name for name in NAMES}, "x-meta-")


class TestPlainBegin:
    @pytest.mark.parametrize("there", [0, 1, 3])
    def test_the_body_may_come_later(self, there: int) -> None:
        head_bytes = len(WHOLE) - 3
        begun = plain_begin(WHOLE[: head_bytes + there], PUTS)
        assert begun is not None
        assert (begun.head_bytes, begun.whole_bytes) == (head_bytes, len(WHOLE))
        headers = {"Host": "localhost:5004", "Content-Length": "3"}
        assert begun.ask == Ask("/b/k", headers)
        asked = begun.whole(WHOLE)
        assert asked == Ask("/b/k", headers, b"abc")
        assert asked.method == "PUT"

    def test_headers_of_a_family_keep_their_names(self) -> None:
        begun = plain_begin(PUT + HOST + LENGTH + b"X-Meta-Who: ann\r\n" + END, PUTS)
        assert begun is not None
        assert begun.ask.headers["x-meta-who"] == "ann"

    def test_a_body_may_be_empty_and_has_a_bound(self) -> None:
        for size, known in ((0, True), (BODY_BYTES_MAX, True), (BODY_BYTES_MAX + 1, False)):
            data = PUT + HOST + b"Content-Length: %d\r\n" % size + END
            assert (plain_begin(data, PUTS) is not None) == known

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"P",
            PUT + HOST + LENGTH,
            PUT + HOST + END,
            WHOLE + b"d",
            WHOLE + WHOLE,
            PUT + HOST + LENGTH + LENGTH + END + b"abc",
            PUT + HOST + LENGTH + b"Expect: 100-continue\r\n" + END,
            PUT + HOST + LENGTH + b"Transfer-Encoding: chunked\r\n" + END + b"abc",
            PUT + HOST + LENGTH + b"Connection: close\r\n" + END + b"abc",
            PUT + HOST + LENGTH + b"X-Else: 1\r\n" + END + b"abc",
            PUT + HOST + LENGTH + b"X-Meta-Who: 1\r\nx-meta-who: 2\r\n" + END + b"abc",
            PUT + HOST + LENGTH + b"Authorization: " + b"x" * HEAD_BYTES_MAX + b"\r\n" + END,
            WHOLE.replace(b"Length: 3", b"Length: 03"),
            WHOLE.replace(b"Length: 3", b"Length: +3"),
            WHOLE.replace(b"Length: 3", b"Length: -3"),
            WHOLE.replace(b"Length: 3", b"Length: 3, 3"),
            WHOLE.replace(b"Length: 3", b"Length: 3 3"),
            WHOLE.replace(b"Length: 3", b"Length: 0x3"),
            WHOLE.replace(b"Length: 3", b"Length: 30000000000"),
            WHOLE.replace(b"PUT", b"POST"),
            WHOLE.replace(b"PUT", b"GET"),
            WHOLE.replace(b"/b/k", b"/b/k?acl"),
            WHOLE.replace(b"/b/k", b"/b/%6b"),
            WHOLE.replace(b"/b/k", b"/b/../k"),
        ],
    )
    def test_all_others_are_not_plain(self, data: bytes) -> None:
        assert plain_begin(data, PUTS) is None
        assert plain(data) is None

    @given(st.integers(0, len(WHOLE)), st.binary(max_size=40))
    def test_any_bytes_give_an_answer(self, at: int, noise: bytes) -> None:
        for data in (noise, WHOLE[:at] + noise + WHOLE[at:], WHOLE[:at] + noise):
            begun = plain_begin(data, PUTS)
            if begun is None:
                continue
            size = int(begun.ask.headers["Content-Length"])
            assert data[: begun.head_bytes].endswith(b"\r\n\r\n")
            assert data.count(b"\r\n\r\n", 0, begun.head_bytes) == 1
            assert begun.whole_bytes == begun.head_bytes + size >= len(data)
            assert request_bytes(data) == begun.whole_bytes


class TestRequestBytes:
    @pytest.mark.parametrize(
        ("data", "size"),
        [
            (GET + HOST + END, len(GET + HOST + END)),
            (GET + HOST + END + WHOLE, len(GET + HOST + END)),
            (WHOLE, len(WHOLE)),
            (WHOLE[:-2], len(WHOLE)),
            (WHOLE + GET, len(WHOLE)),
            (WHOLE.replace(b"Content-Length: 3", b"CONTENT-LENGTH:3 "), len(WHOLE)),
            (WHOLE.replace(b"Length: 3", b"Length: 99999"), len(WHOLE) + 4 + 99996),
        ],
    )
    def test_that_the_head_tells(self, data: bytes, size: int) -> None:
        assert request_bytes(data) == size

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            GET + HOST,
            PUT + HOST + LENGTH + LENGTH + END,
            PUT + HOST + LENGTH + b"content-length : 4\r\n" + END,
            PUT + HOST + b"Content-Length: 3,3\r\n" + END,
            PUT + HOST + b"Content-Length:\t3\r\n" + END,
            PUT + HOST + b"Content-Length: 3\r\n 4\r\n" + END,
            PUT + HOST + b"Content-Length: 3\n" + END,
            PUT + HOST + LENGTH + b"Transfer-Encoding: chunked\r\n" + END,
            PUT + HOST + b"transfer-encoding : chunked\r\n" + END,
            GET + HOST + b"Upgrade: h2c\r\n" + END,
        ],
    )
    def test_that_it_does_not(self, data: bytes) -> None:
        assert request_bytes(data) is None
