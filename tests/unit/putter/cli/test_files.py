"""put, get, cat, ls, rm, stat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from common.errors import UsageError
from putter.cli.files import parse_range
from tests.web_kit import Reply, Request, as_json, served, stored


def not_found(_: Request) -> Reply:
    return as_json({"code": "not-found", "message": "no file photos/cat", "hint": ""}, 404)


PACKED = {
    "compression": "zstd",
    "encryption": "aes-256-gcm",
    "plain_bytes": 1024,
    "stored_bytes": 200,
}


class TestPut:
    def test_a_file(self, shop: Any) -> None:
        Path("cat.jpg").write_bytes(b"meow")
        shop.answers(lambda request: as_json(stored(request.body), 201))
        result = shop.run("put", "cat.jpg", "photos/cat", "--content-type", "image/jpeg")
        assert result.exit_code == 0, result.output
        assert shop.web.last.body == b"meow"
        assert shop.web.last.headers["Content-Type"] == "image/jpeg"
        assert result.stdout.startswith("photos/cat  4 B  ")
        assert "degraded" not in result.stdout

    def test_standard_input(self, shop: Any) -> None:
        shop.answers(lambda request: as_json(stored(request.body), 201))
        assert shop.run("put", "-", "photos/cat", stdin=b"\0\xffmeow").exit_code == 0
        assert shop.web.last.body == b"\0\xffmeow"

    def test_json(self, shop: Any) -> None:
        Path("f").write_bytes(b"x")
        shop.answers(lambda request: as_json(stored(request.body), 201))
        told = json.loads(shop.run("put", "f", "photos/cat", "--json").stdout)
        assert (told["key"], told["size"]) == ("cat", 1)

    def test_a_degraded_write_is_told(self, shop: Any) -> None:
        Path("f").write_bytes(b"x")
        shop.answers(lambda _: as_json(stored(b"x", degraded=True, nodes_written=1)))
        assert "(degraded: 1 of 2 nodes)" in shop.run("put", "f", "photos/cat").stdout

    def test_only_new(self, shop: Any) -> None:
        Path("f").write_bytes(b"x")
        body = {"code": "precondition", "message": "photos/cat exists"}
        shop.answers(lambda _: as_json(body, 412))
        result = shop.run("put", "f", "photos/cat", "--new")
        assert (result.exit_code, result.stderr) == (1, "error: photos/cat exists\n")
        assert shop.web.last.headers["If-None-Match"] == "*"

    def test_a_local_file_that_is_not_there(self, shop: Any) -> None:
        result = shop.run("put", "none", "photos/cat")
        assert result.exit_code == 2
        assert result.stderr == "error: cannot read none: No such file or directory\n"

    def test_a_bad_name(self, shop: Any) -> None:
        Path("f").write_bytes(b"x")
        result = shop.run("put", "f", "Photos/cat")
        assert result.exit_code == 2
        assert "bucket 'Photos'" in result.stderr


class TestGet:
    @pytest.mark.parametrize(
        ("arguments", "path"),
        [((), "cat"), (("other",), "other"), (("sub",), "sub/cat"), (("sub/x",), "sub/x")],
    )
    def test_where_it_goes(self, shop: Any, arguments: tuple[str, ...], path: str) -> None:
        Path("sub").mkdir()
        shop.answers(lambda _: served(b"meow"))
        result = shop.run("get", "photos/2026/cat", *arguments)
        assert (result.exit_code, result.output) == (0, "")
        assert Path(path).read_bytes() == b"meow"

    def test_to_standard_output(self, shop: Any) -> None:
        shop.answers(lambda _: served(b"\0\xff"))
        assert shop.run("get", "photos/cat", "-").stdout_bytes == b"\0\xff"

    def test_wrong_bytes_leave_nothing(self, shop: Any) -> None:
        shop.answers(lambda _: served(b"meow", **{"X-Putter-Blake3": "00" * 32}))
        result = shop.run("get", "photos/cat")
        assert result.exit_code == 6
        assert list(Path().iterdir()) == []

    def test_absent(self, shop: Any) -> None:
        shop.answers(not_found)
        result = shop.run("get", "photos/cat")
        assert (result.exit_code, result.stderr) == (3, "error: no file photos/cat\n")

    def test_a_name_that_ends_with_a_slash_needs_a_target(self, shop: Any) -> None:
        assert shop.run("get", "photos/a/").exit_code == 2


class TestCat:
    def test_bytes_unchanged(self, shop: Any) -> None:
        data = bytes(range(256)) * 10_000
        shop.answers(lambda _: served(data))
        assert shop.run("cat", "photos/cat").stdout_bytes == data

    def test_a_range(self, shop: Any) -> None:
        headers = {"Content-Length": "2", "Content-Range": "bytes 3-4/10"}
        shop.answers(lambda _: Reply(206, b"ab", headers))
        assert shop.run("cat", "photos/cat", "--range", "3-4").stdout == "ab"
        assert shop.web.last.headers["Range"] == "bytes=3-4"

    def test_wrong_bytes_are_told_by_the_exit_code(self, shop: Any) -> None:
        shop.answers(lambda _: served(b"meow", **{"X-Putter-Blake3": "00" * 32}))
        result = shop.run("cat", "photos/cat")
        assert result.exit_code == 6
        assert "other bytes" in result.stderr

    @pytest.mark.parametrize(
        ("text", "span"),
        [
            (None, (None, None)),
            ("0-0", (0, 1)),
            ("3-4", (3, 5)),
            ("3-", (3, None)),
            ("-5", (-5, None)),
        ],
    )
    def test_parse_range(self, text: str | None, span: tuple[int | None, int | None]) -> None:
        assert parse_range(text) == span

    @pytest.mark.parametrize("text", ["", "-", "3", "a-b", "4-3", "1-2-3", "٣-٤", " 1-2", "--5"])
    def test_what_is_no_range(self, text: str) -> None:
        with pytest.raises(UsageError, match="is not a-b, a- or -n"):
            parse_range(text)


class TestLs:
    ENTRIES: ClassVar = {
        "entries": [
            {"key": "a\u001b[31m", "size": 5, "created_ms": 1_700_000_000_000, "version": "7"},
            {"key": "b c", "size": 1024},
        ],
        "next_after": None,
    }

    def test_buckets(self, shop: Any) -> None:
        shop.answers(lambda _: as_json({"buckets": ["files", "photos"]}))
        assert shop.run("ls").stdout == "files\nphotos\n"
        assert json.loads(shop.run("ls", "--json").stdout) == ["files", "photos"]

    def test_keys_that_cannot_command_the_terminal(self, shop: Any) -> None:
        shop.answers(lambda _: as_json(self.ENTRIES))
        assert shop.run("ls", "photos/a/b").stdout == "a\\x1b[31m\nb c\n"
        assert "bucket=photos&prefix=a%2Fb" in shop.web.last.path

    def test_long(self, shop: Any) -> None:
        shop.answers(lambda _: as_json(self.ENTRIES))
        first, second = shop.run("ls", "photos", "--long").stdout.splitlines()
        assert first.split() == ["2023-11-14", "22:13:20", "5", "a\\x1b[31m"]
        assert second.split() == ["-", "1024", "b", "c"]

    def test_json_is_one_object_a_line(self, shop: Any) -> None:
        shop.answers(lambda _: as_json(self.ENTRIES))
        lines = shop.run("ls", "photos", "--json").stdout.splitlines()
        assert [json.loads(line)["size"] for line in lines] == [5, 1024]

    def test_a_place_that_is_none(self, shop: Any) -> None:
        assert shop.run("ls", "Photos").exit_code == 2


class TestRm:
    def test_every_name_is_tried(self, shop: Any) -> None:
        shop.answers(lambda request: not_found(request) if "cat" in request.path else Reply(204))
        result = shop.run("rm", "photos/cat", "photos/dog")
        assert (result.exit_code, result.stderr) == (3, "error: no file photos/cat\n")
        assert [request.path for request in shop.web.requests] == [
            "/file/photos/cat",
            "/file/photos/dog",
        ]

    def test_done(self, shop: Any) -> None:
        shop.answers(lambda _: Reply(204))
        result = shop.run("rm", "photos/cat")
        assert (result.exit_code, result.output) == (0, "")

    @pytest.mark.parametrize("arguments", [(), ("photos/cat", "--ticket", "3F")])
    def test_either_names_or_tickets(self, shop: Any, arguments: tuple[str, ...]) -> None:
        assert shop.run("rm", *arguments).exit_code == 2


class TestStat:
    def test_a_file(self, shop: Any) -> None:
        extent = {"first": "0A", "last": "0B", "count": 2, "size": 4, "nodes": ["N1", "N2"]}
        told = {
            "object": "3F",
            "size": 4,
            "frame_bytes": 1458,
            "blake3": "00" * 32,
            "tickets": 2,
            "extents": [extent],
        }
        lying = {"N1": PACKED, "N2": {"plain_bytes": 2048, "stored_bytes": 2048}}
        ticket = {"ticket": "0A", "object": "3F", "state": "written", "stored": lying}

        def script(request: Request) -> Reply:
            if request.path.startswith("/ticket/"):
                assert request.path == "/ticket/0A"
                return as_json(ticket)
            return as_json(stored(b"meow", objects=[told]))

        shop.answers(script)
        text = shop.run("stat", "photos/cat").stdout
        assert "name:     photos/cat\n" in text
        assert "size:     4 (4 B)\n" in text
        assert "replicas: 2 of 2\n" in text
        assert "object:   3F  4 B, 2 tickets of 1.4 KiB\n" in text
        *_, extents, one, two = text.splitlines()
        assert extents.split() == ["0A", "0B", "N1", "N2", "2", "4"]
        assert one == "stored:   zstd + aes-256-gcm, 200 B for 1.0 KiB (the run of 0A on N1)"
        assert two == "stored:   plain, 2.0 KiB for 2.0 KiB (the run of 0A on N2)"
        assert json.loads(shop.run("stat", "photos/cat", "--json").stdout)["objects"] == [told]

    def test_a_file_whose_putters_do_not_answer(self, shop: Any) -> None:
        extent = {"first": "0A", "last": "0B", "count": 2, "size": 4, "nodes": ["N1"]}
        told = {"object": "3F", "size": 4, "frame_bytes": 9, "tickets": 2, "extents": [extent]}
        told["blake3"] = "00" * 32

        def script(request: Request) -> Reply:
            if request.path.startswith("/ticket/"):
                return not_found(request)
            return as_json(stored(b"meow", objects=[told]))

        shop.answers(script)
        result = shop.run("stat", "photos/cat")
        assert result.exit_code == 0
        assert "stored:" not in result.stdout

    def test_a_ticket_tells_how_it_is_stored(self, shop: Any) -> None:
        told = {"ticket": "0A", "object": "3F", "state": "written", "stored": {"N1": PACKED}}
        shop.answers(lambda _: as_json(told))
        text = shop.run("stat", "--ticket", "0A").stdout
        assert text.endswith("zstd + aes-256-gcm, 200 B for 1.0 KiB (the run of 0A on N1)\n")
        shop.answers(lambda _: as_json(told | {"stored": {"N1": {}}}))
        assert "stored:" not in shop.run("stat", "--ticket", "0A").stdout

    def test_a_ticket(self, shop: Any) -> None:
        told = {"ticket": "0A", "object": "3F", "state": "writing", "size": 4, "nodes": ["N1"]}
        shop.answers(lambda _: as_json(told))
        text = shop.run("stat", "--ticket", "0A").stdout
        assert "state:    writing\n" in text
        assert "file:     -\n" in text
        assert json.loads(shop.run("stat", "--ticket", "0A", "--json").stdout)["state"] == "writing"

    def test_no_ticket(self, shop: Any) -> None:
        result = shop.run("stat", "--ticket", "0a")
        assert result.exit_code == 2
        assert "is not base 36" in result.stderr

    @pytest.mark.parametrize("arguments", [(), ("photos/cat", "--ticket", "3F")])
    def test_either_a_name_or_a_ticket(self, shop: Any, arguments: tuple[str, ...]) -> None:
        assert shop.run("stat", *arguments).exit_code == 2
