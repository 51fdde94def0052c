"""The client of the web door: what it sends, what it makes of answers, what it never accepts."""

from __future__ import annotations

import io
import os
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from common import errors
from common.errors import IntegrityError, ProtocolError, StorageError, UsageError
from putter.client import Entry, Store
from tests.web_kit import FakeWeb, Reply, Request, Script, as_json, served, stored


def store_of(script: Script, **more: str) -> tuple[Store, FakeWeb]:
    web = FakeWeb(script)
    return Store("http://h:1", connect=web, **more), web


def echo(request: Request) -> Reply:
    """Stores whatever comes."""
    return as_json(stored(request.body), 201)


class TestPut:
    def test_bytes_go_with_their_length_and_come_back_as_a_file(self) -> None:
        store, web = store_of(echo)
        info = store.put("photos/cat", b"meow", content_type="text/plain")
        assert (info.name, info.size, info.version, info.degraded) == ("photos/cat", 4, "7", False)
        assert (web.last.method, web.last.path, web.last.body) == (
            "PUT",
            "/file/photos/cat",
            b"meow",
        )
        assert web.last.headers == {"Content-Type": "text/plain"}
        assert not web.last.chunked

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("cat", "/file/files/cat"),
            ("photos/a//b/", "/file/photos/a//b/"),
            ("photos/a b?c#d%e", "/file/photos/a%20b%3Fc%23d%25e"),
            ("photos/猫", "/file/photos/%E7%8C%AB"),
        ],
    )
    def test_names_are_percent_encoded(self, name: str, path: str) -> None:
        store, web = store_of(echo)
        store.put(name, b"x")
        assert web.last.path == path

    def test_a_path_goes_with_the_length_of_its_file(self, tmp_path: Path) -> None:
        data = os.urandom(3 * 1024 * 1024 + 5)
        (tmp_path / "f").write_bytes(data)
        store, web = store_of(echo)
        seen: list[tuple[int, int | None]] = []
        store.put("photos/cat", tmp_path / "f", progress=lambda *done: seen.append(done))
        assert web.last.body == data
        assert web.last.headers == {"Content-Length": str(len(data))}
        assert seen[-1] == (len(data), len(data))
        assert len(seen) == 4

    def test_an_open_file_goes_from_where_it_stands(self) -> None:
        file = io.BytesIO(b"0123456789")
        file.seek(4)
        store, web = store_of(echo)
        store.put("photos/cat", file)
        assert (web.last.body, web.last.headers["Content-Length"]) == (b"456789", "6")
        assert not file.closed

    def test_a_pipe_goes_in_chunks(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"from a pipe")
        os.close(writing)
        store, web = store_of(echo)
        with os.fdopen(reading, "rb") as pipe:
            store.put("photos/cat", pipe)
        assert web.last.body == b"from a pipe"
        assert web.last.chunked
        assert web.last.headers == {"Transfer-Encoding": "chunked"}

    def test_an_empty_file_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "f").touch()
        store, web = store_of(echo)
        assert store.put("photos/cat", tmp_path / "f").size == 0
        assert web.last.headers == {"Content-Length": "0"}

    def test_conditions_and_headers(self) -> None:
        store, web = store_of(echo)
        store.put("photos/cat", b"x", if_none_match="*", headers={"X-Amz-Meta-A": "b"})
        assert web.last.headers == {"If-None-Match": "*", "X-Amz-Meta-A": "b"}
        store.put("photos/cat", b"x", if_match="e1")
        assert web.last.headers == {"If-Match": '"e1"'}
        store.put("photos/cat", b"x", if_match='"e1"')
        assert web.last.headers == {"If-Match": '"e1"'}

    def test_the_router_received_other_bytes(self) -> None:
        store, _ = store_of(lambda _: as_json(stored(b"other")))
        with pytest.raises(IntegrityError, match="was stored with BLAKE3"):
            store.put("photos/cat", b"mine")
        with pytest.raises(IntegrityError, match="was stored with BLAKE3"):
            store.put("photos/cat", io.BytesIO(b"mine"))

    def test_a_file_that_became_shorter(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(b"x" * 3_000_000)
        store, web = store_of(echo)
        with pytest.raises(StorageError, match="became shorter while it was sent"):
            store.put("photos/cat", path, progress=lambda *_: os.truncate(path, 10))
        assert web.closed == 1

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        store, web = store_of(echo)
        with pytest.raises(UsageError, match=r"cannot read .*No such file"):
            store.put("photos/cat", tmp_path / "none")
        assert web.requests == []

    def test_a_bad_name_is_refused_before_anything_is_sent(self) -> None:
        store, web = store_of(echo)
        with pytest.raises(errors.NameInvalid):
            store.put("photos/../x", b"x")
        assert web.opened == 0


class TestGet:
    def test_all_bytes_with_what_the_headers_tell(self) -> None:
        store, web = store_of(lambda _: served(b"meow"))
        with store.open("photos/cat") as reader:
            assert reader.read() == b"meow"
        info = reader.info
        assert (info.size, info.etag, info.object, info.version) == (4, "e1", "3F", "7")
        assert info.created_ms == 1_700_000_000_000
        assert info.content_type == "text/plain"
        assert "Range" not in web.last.headers

    def test_an_empty_file(self) -> None:
        store, _ = store_of(lambda _: served(b""))
        assert store.get("photos/cat") == b""

    @pytest.mark.parametrize(
        ("start", "end", "field"),
        [
            (0, 5, "bytes=0-4"),
            (3, None, "bytes=3-"),
            (None, 5, "bytes=0-4"),
            (-5, None, "bytes=-5"),
        ],
    )
    def test_a_range(self, start: int | None, end: int | None, field: str) -> None:
        def part(request: Request) -> Reply:
            assert request.headers["Range"] == field
            headers = {"Content-Length": "2", "Content-Range": "bytes 0-1/10"}
            return Reply(206, b"ab", headers | {"X-Putter-Blake3": "00" * 32})

        store, _ = store_of(part)
        with store.open("photos/cat", start, end) as reader:
            assert reader.read() == b"ab"
            assert (reader.length, reader.info.size) == (2, 10)

    @pytest.mark.parametrize(("start", "end"), [(5, 5), (5, 4), (None, 0), (-3, 2)])
    def test_a_range_that_is_none(self, start: int | None, end: int | None) -> None:
        store, web = store_of(lambda _: served(b"meow"))
        with pytest.raises(errors.RangeInvalid):
            store.get("photos/cat", start, end)
        assert web.requests == []

    def test_a_server_that_does_not_know_ranges_is_not_believed(self) -> None:
        store, _ = store_of(lambda _: served(b"meow"))
        with pytest.raises(ProtocolError, match="request for a range"):
            store.get("photos/cat", 1, 2)

    def test_wrong_bytes_are_never_returned(self) -> None:
        wrong = served(b"meow", **{"X-Putter-Blake3": "00" * 32})
        store, _ = store_of(lambda _: wrong)
        with pytest.raises(IntegrityError, match="other bytes"):
            store.get("photos/cat")

    def test_a_short_body(self) -> None:
        store, web = store_of(lambda _: served(b"meow", **{"Content-Length": "9"}))
        with pytest.raises(IntegrityError, match="ended after 4 of 9 bytes"):
            store.get("photos/cat")
        assert web.closed == 1

    def test_a_connection_that_breaks(self) -> None:
        broken = served(b"meow", **{"Content-Length": "9"})
        broken.breaks = ConnectionResetError("reset")
        store, _ = store_of(lambda _: broken)
        with pytest.raises(errors.Unavailable, match="reset"):
            store.get("photos/cat")

    def test_giving_up_early_costs_the_connection_only_then(self) -> None:
        store, web = store_of(lambda _: served(b"meow"))
        with store.open("photos/cat"):
            pass
        assert web.closed == 1
        store.get("photos/cat")
        store.get("photos/cat")
        assert (web.opened, web.closed) == (2, 1)

    def test_iter_yields_chunks(self) -> None:
        store, _ = store_of(lambda _: served(b"x" * 3_000_000))
        assert [len(chunk) for chunk in store.iter("photos/cat")] == [1048576, 1048576, 902848]

    @pytest.mark.parametrize(
        "headers", [{"Content-Length": "many"}, {"Last-Modified": "yesterday"}]
    )
    def test_headers_that_make_no_sense(self, headers: dict[str, str]) -> None:
        store, _ = store_of(lambda _: served(b"meow", **headers))
        with pytest.raises(ProtocolError, match="make no sense"):
            store.get("photos/cat")

    def test_a_store_without_a_hash_still_serves(self) -> None:
        headers = {"Content-Length": "1", "Last-Modified": formatdate(0, usegmt=True)}
        store, _ = store_of(lambda _: Reply(200, b"x", headers))
        assert store.get("photos/cat") == b"x"


class TestDownload:
    def test_the_file_appears_whole(self, tmp_path: Path) -> None:
        store, _ = store_of(lambda _: served(b"meow"))
        seen: list[tuple[int, int | None]] = []
        info = store.download("photos/cat", tmp_path / "cat", lambda *done: seen.append(done))
        assert (tmp_path / "cat").read_bytes() == b"meow"
        assert info.size == 4
        assert seen == [(4, 4)]

    @pytest.mark.parametrize(
        "headers", [{"X-Putter-Blake3": "00" * 32}, {"Content-Length": "9"}], ids=["hash", "short"]
    )
    def test_nothing_is_left_when_bytes_are_wrong(
        self, tmp_path: Path, headers: dict[str, str]
    ) -> None:
        (tmp_path / "cat").write_bytes(b"old")
        store, _ = store_of(lambda _: served(b"meow", **headers))
        with pytest.raises(IntegrityError):
            store.download("photos/cat", tmp_path / "cat")
        with pytest.raises(IntegrityError):
            store.download("photos/cat", tmp_path / "new")
        assert [path.name for path in tmp_path.iterdir()] == ["cat"]
        assert (tmp_path / "cat").read_bytes() == b"old"

    def test_a_file_that_is_replaced_keeps_its_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "cat").write_bytes(b"old")
        (tmp_path / "cat").chmod(0o640)
        store, _ = store_of(lambda _: served(b"meow"))
        store.download("photos/cat", tmp_path / "cat")
        assert (tmp_path / "cat").stat().st_mode & 0o777 == 0o640

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        store, _ = store_of(lambda _: served(b"meow"))
        with pytest.raises(StorageError, match="cannot write"):
            store.download("photos/cat", tmp_path / "none" / "cat")


class TestMetadata:
    def test_stat_tells_the_objects(self) -> None:
        extent = {"first": "0", "last": "9", "count": 10, "size": 4, "nodes": ["N1", "N2"]}
        told = {
            "object": "3F",
            "size": 4,
            "frame_bytes": 65536,
            "blake3": "00" * 32,
            "tickets": 10,
            "extents": [extent],
        }
        store, web = store_of(lambda _: as_json(stored(b"meow", objects=[told], news="unknown")))
        info = store.stat("photos/a b")
        assert web.last.path == "/metadata/photos/a%20b"
        assert info.objects[0].extents[0].nodes == ("N1", "N2")

    def test_list_asks_for_pages_as_they_are_needed(self) -> None:
        def pages(request: Request) -> Reply:
            if "after=" not in request.path:
                return as_json({"entries": [{"key": "a&b", "size": 1}], "next_after": "a&b"})
            return as_json({"entries": [{"key": "c", "size": 2}], "next_after": None})

        store, web = store_of(pages)
        listing = store.list("photos", "a b")
        assert web.requests == []
        assert next(listing) == Entry("a&b", 1)
        assert len(web.requests) == 1
        assert list(listing) == [Entry("c", 2)]
        assert [request.path for request in web.requests] == [
            "/metadata?bucket=photos&prefix=a+b&limit=1000",
            "/metadata?bucket=photos&prefix=a+b&limit=1000&after=a%26b",
        ]

    def test_a_listing_that_goes_in_circles_ends(self) -> None:
        store, _ = store_of(lambda _: as_json({"entries": [], "next_after": "a"}))
        with pytest.raises(ProtocolError, match="in circles"):
            list(store.list("photos"))

    def test_buckets(self) -> None:
        store, web = store_of(lambda _: as_json({"buckets": ["files", "photos"]}))
        assert store.buckets() == ("files", "photos")
        assert web.last.path == "/metadata"

    def test_copy(self) -> None:
        store, web = store_of(lambda _: as_json(stored(b"meow"), 201))
        assert store.copy("cat", "photos/a b").size == 4
        assert (web.last.method, web.last.path, web.last.body) == ("PUT", "/file/photos/a%20b", b"")
        assert web.last.headers == {"X-Putter-Copy-Source": "/files/cat"}
        with pytest.raises(UsageError):
            store.copy("photos/../x", "photos/a")

    def test_move(self) -> None:
        store, web = store_of(lambda _: as_json(stored(b"meow"), 201))
        assert store.move("cat", "photos/a b").size == 4
        assert (web.last.method, web.last.path, web.last.body) == ("PUT", "/file/photos/a%20b", b"")
        assert web.last.headers == {"X-Putter-Move-Source": "/files/cat"}
        with pytest.raises(UsageError):
            store.move("photos/../x", "photos/a")

    def test_head(self) -> None:
        told = served(b"meow").headers
        store, web = store_of(lambda _: Reply(200, b"", told))
        info = store.head("photos/cat")
        assert (info.size, info.etag, info.version) == (4, "e1", "7")
        assert info.blake3 == told["X-Putter-Blake3"]
        assert (web.last.method, web.last.path) == ("HEAD", "/file/photos/cat")
        store, _ = store_of(lambda _: Reply(404))
        with pytest.raises(errors.NotFound):
            store.head("photos/cat")

    def test_delete(self) -> None:
        store, web = store_of(lambda _: Reply(204))
        store.delete("photos/cat")
        assert (web.last.method, web.last.path) == ("DELETE", "/file/photos/cat")

    def test_ticket(self) -> None:
        told = {"ticket": "3F", "object": "1", "state": "written", "nodes": ["N1"], "offset": 9}
        store, web = store_of(lambda _: as_json(told))
        assert store.ticket("3F").offset == 9
        assert web.last.path == "/ticket/3F"
        with pytest.raises(errors.TicketInvalid):
            store.ticket("3f/../x")

    def test_status(self) -> None:
        told = {
            "version": "0.1.0",
            "router": "R1",
            "redis": {"ok": True, "address": "h:1"},
            "nodes": [{"node": "N1", "link": "up", "age_ms": 5}],
            "numbers": {"tickets_used": 5, "tickets_max": 10},
        }
        store, _ = store_of(lambda _: as_json(told))
        status = store.status()
        assert status.redis.ok
        assert status.nodes[0].link == "up"

    @pytest.mark.parametrize(
        ("arguments", "request_line"),
        [
            ({}, ("GET", "/scrub")),
            ({"action": "start"}, ("PUT", "/scrub")),
            ({"action": "start", "rate": 0}, ("PUT", "/scrub?rate=0")),
            ({"action": "stop", "nodes": ["N1", "N&2"]}, ("DELETE", "/scrub?node=N1&node=N%262")),
            ({"rate": 5}, ("GET", "/scrub")),
        ],
    )
    def test_scrub(self, arguments: Any, request_line: tuple[str, str]) -> None:
        flaw = {"part": "tickets", "first": "3F", "last": "3F", "count": 1, "of tomorrow": 1}
        scrub = {"number": 3, "running": True, "damaged_tickets": 1, "flaws": [flaw]}
        told = {"nodes": [{"node": "N1", "scrub": scrub}, {"node": "N2", "scrub": None}]}
        store, web = store_of(lambda _: as_json(told))
        first, second = store.scrub(**arguments)
        assert (web.last.method, web.last.path) == request_line
        assert first.scrub is not None
        assert first.scrub.damaged
        assert first.scrub.flaws[0].first == "3F"
        assert second.scrub is None

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"size": "x"}', b"\xff"])
    def test_answers_that_no_router_gives(self, body: bytes) -> None:
        store, _ = store_of(lambda _: Reply(200, body))
        with pytest.raises(ProtocolError, match="no router answers"):
            store.stat("photos/cat")
