"""Which requests may take the short way, and what is written there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.requests import resume_request
from common.web_lane import HEAD_BYTES_MAX, Ask, head, plain

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


class TestHead:
    def test_is_as_it_stands_on_the_wire(self) -> None:
        resume_request("mine")
        lines = head(206, "Partial Content", {"A": "1", "B": "zwölf"}).split(b"\r\n")
        resume_request("")
        assert lines[:3] == [b"HTTP/1.1 206 Partial Content", b"A: 1", "B: zwölf".encode()]
        assert lines[3].startswith(b"Date: ")
        assert lines[4].startswith(b"Server: ")
        assert lines[5:] == [b"X-Request-Id: mine", b"", b""]

    @pytest.mark.parametrize("value", ["a\r\nB: c", "a\rb", "a\nb", "\0"])
    def test_a_value_cannot_become_a_header(self, value: str) -> None:
        with pytest.raises(ValueError, match="line break"):
            head(200, "OK", {"A": value})
