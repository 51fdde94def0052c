"""What the short way writes of an answer's head."""

from __future__ import annotations

import pytest

from common.requests import resume_request
from common.web_lane import head


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
