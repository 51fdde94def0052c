"""cp and sync against a store in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from putter.cli.copying import summary
from putter.client.trees import errand, listing
from putter.client.trees.errand import Totals
from tests.shelf_kit import Shelf
from tests.tree_kit import files_below, plant
from tests.web_kit import Reply, Request, as_json

DAY_MS = 86_400_000


@pytest.fixture
def shelf(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf()
    shop.answers(made)
    monkeypatch.setattr(errand, "PAUSES_S", (0.0, 0.0))
    return made


def local(**files: bytes) -> None:
    plant(Path("src"), {name.replace("__", "/"): data for name, data in files.items()})


def below(top: str) -> dict[str, bytes]:
    return files_below(Path(top))


def last(result: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])["summary"]
    return {name: value for name, value in told.items() if value and name != "seconds"}


class TestCpOfOneFile:
    @pytest.mark.parametrize(
        ("target", "name"),
        [
            ("putter:photos", "photos/cat.jpg"),
            ("putter:photos/2026/", "photos/2026/cat.jpg"),
            ("putter:photos/dog", "photos/dog"),
        ],
    )
    def test_into_the_store(self, shop: Any, shelf: Shelf, target: str, name: str) -> None:
        Path("cat.jpg").write_bytes(b"meow")
        result = shop.run("cp", "cat.jpg", target)
        assert result.exit_code == 0, result.output
        assert shelf.names() == {name: b"meow"}
        assert result.stdout.startswith(f"putter:{name}  4 B  ")

    @pytest.mark.parametrize(
        ("target", "path"), [("dog", "dog"), (".", "cat.jpg"), ("sub", "sub/cat.jpg")]
    )
    def test_out_of_it(self, shop: Any, shelf: Shelf, target: str, path: str) -> None:
        Path("sub").mkdir()
        shelf.holds("photos/a/cat.jpg", b"meow")
        assert shop.run("cp", "putter:photos/a/cat.jpg", target).exit_code == 0
        assert Path(path).read_bytes() == b"meow"

    def test_within_it(self, shop: Any, shelf: Shelf) -> None:
        shelf.holds("photos/a/cat.jpg", b"meow")
        told = shop.run("cp", "putter:photos/a/cat.jpg", "putter:pets/", "--json")
        assert json.loads(told.stdout) == {
            "action": "copy",
            "name": "cat.jpg",
            "source": "putter:photos/a/cat.jpg",
            "target": "putter:pets/cat.jpg",
            "size": 4,
        }
        assert shelf.names()["pets/cat.jpg"] == b"meow"
        assert ("GET", "/file/photos/a/cat.jpg") not in shelf.asked

    def test_pipes(self, shop: Any, shelf: Shelf) -> None:
        assert shop.run("cp", "-", "putter:photos/x", stdin=b"\0\xff").exit_code == 0
        assert shop.run("cp", "putter:photos/x", "-").stdout_bytes == b"\0\xff"

    def test_a_dry_run(self, shop: Any, shelf: Shelf) -> None:
        shelf.holds("photos/x", b"meow")
        told = shop.run("cp", "putter:photos/x", "y", "--dry-run")
        assert (told.exit_code, told.stdout) == (0, "copy    y\n")
        assert not Path("y").exists()
        assert shop.run("cp", "putter:photos/none", "y", "--dry-run").exit_code == 3

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("one", "two"), 2),
            (("-", "-"), 2),
            (("-", "putter:photos"), 2),
            (("putter:photos", "x"), 2),
            (("putter:photos/a", "putter:photos/a"), 2),
            (("src", "putter:photos"), 2),
            (("none", "putter:photos"), 3),
            (("putter:photos/none", "x"), 3),
            (("putter:Photos/none", "x"), 2),
            (("-r", "-", "putter:photos"), 2),
            (("-r", "src", "other"), 2),
            (("-r", "putter:photos/a", "putter:photos"), 2),
            (("-r", "none", "putter:photos"), 3),
            (("-r", "putter:none", "x"), 3),
            (("src/a", "putter:photos", "--exclude", "x"), 2),
            (("src/a", "putter:photos", "--jobs", "0"), 2),
        ],
    )
    def test_what_makes_no_sense(
        self, shop: Any, shelf: Shelf, words: tuple[str, ...], code: int
    ) -> None:
        local(a=b"x")
        result = shop.run("cp", *words)
        assert result.exit_code == code, result.output
        assert shelf.names() == {}

    def test_what_is_no_file_is_not_replaced(self, shop: Any, shelf: Shelf) -> None:
        shelf.holds("photos/x", b"meow")
        Path("link").symlink_to("elsewhere")
        result = shop.run("cp", "putter:photos/x", "link")
        assert (result.exit_code, Path("link").is_symlink()) == (1, True)


class TestTrees:
    def test_there_and_back(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"1", dir__b=b"22", dir__deep__c=b"", **{"d e": b"4444"})
        told = shop.run("cp", "-r", "src", "putter:photos/x")
        assert told.exit_code == 0, told.output
        assert told.stdout.startswith("4 copied (7 B); ")
        assert shop.run("cp", "-r", "putter:photos/x", "back").exit_code == 0
        assert below("back") == below("src")

    def test_globs(self, shop: Any, shelf: Shelf) -> None:
        local(**{"a.jpg": b"1", "b.png": b"2", "old__c.jpg": b"3"})
        shop.run("cp", "-r", "src", "putter:photos", "--include", "*.jpg", "--exclude", "old")
        assert shelf.names() == {"photos/a.jpg": b"1"}

    def test_hostile_names(self, shop: Any, shelf: Shelf) -> None:
        for name in ("../up", "good", "a\\b", "b//c", "c/../../d", "file", "file/below"):
            shelf.holds(f"photos/{name}", b"x")
        result = shop.run("cp", "-r", "putter:photos", "sub/top", "--json")
        assert result.exit_code == 1
        assert below(".") == {"sub/top/good": b"x", "sub/top/file/below": b"x"}
        assert last(result) == {"copied": 2, "copied_bytes": 2, "failed": 5}
        assert result.stderr.count("error: ") == 5
        assert "'file' cannot be a file here: other names go on behind it" in result.stderr

    def test_names_that_would_command_the_terminal(self, shop: Any, shelf: Shelf) -> None:
        for name in ("a\x9b31m", "a\x9b31m/b"):
            shelf.holds(f"photos/{name}", b"x")
        shelf.faults["GET", "/file/photos/a\x9b31m/b"] = [
            as_json({"code": "io", "message": "no a\x9b31m/b"}, 500)
        ]
        result = shop.run("cp", "-r", "putter:photos", "got")
        assert (result.exit_code, "\x9b" in result.output) == (1, False)
        assert "error: no a\\x9b31m/b\n" in result.stderr

    def test_a_name_behind_which_only_a_bad_one_goes_on(self, shop: Any, shelf: Shelf) -> None:
        for name in ("a", "a/../b"):
            shelf.holds(f"photos/{name}", b"x")
        assert shop.run("cp", "-r", "putter:photos", "got").exit_code == 1
        assert below("got") == {"a": b"x"}

    def test_names_that_no_key_can_have(self, shop: Any, shelf: Shelf) -> None:
        local(**{"a\nb": b"1", "good": b"2"})
        Path(os.fsdecode(b"src/\xff")).write_bytes(b"3")
        result = shop.run("cp", "-r", "src", "putter:photos", "--json")
        assert result.exit_code == 1, result.output
        assert shelf.names() == {"photos/good": b"2"}
        assert last(result) == {"copied": 1, "copied_bytes": 1, "failed": 2}

    def test_markers_of_directories(self, shop: Any, shelf: Shelf) -> None:
        for name, data in {"dir/": b"", "dir/a": b"x", "odd/": b"y"}.items():
            shelf.holds(f"photos/{name}", data)
        result = shop.run("cp", "-r", "putter:photos", "got", "--json")
        assert (below("got"), last(result)["failed"]) == ({"dir/a": b"x"}, 1)
        assert shop.run("cp", "-r", "putter:photos", "putter:copies").exit_code == 0
        assert {"copies/dir/", "copies/odd/"} <= shelf.names().keys()

    def test_links_within_the_target(self, shop: Any, shelf: Shelf) -> None:
        Path("outside").mkdir()
        Path("top").mkdir()
        Path("top/dir").symlink_to(Path("outside").resolve())
        shelf.holds("photos/dir/a", b"x")
        result = shop.run("cp", "-r", "putter:photos", "top")
        assert (result.exit_code, below("outside")) == (1, {})
        assert "is a link, and there has to be a directory" in result.stderr


class TestSync:
    def test_to_the_store(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"1", b=b"22", c=b"333")
        assert last(shop.run("sync", "src", "putter:pets", "--json"))["copied"] == 3
        for name, ms in {"a": shelf.now_ms + DAY_MS, "b": 0, "c": 0}.items():
            os.utime(f"src/{name}", ns=(ms * 1_000_000, ms * 1_000_000))
        Path("src/b").write_bytes(b"4444")
        # a was touched, b is longer, c has another content of old time: only --checksum sees that.
        Path("src/c").write_bytes(b"444")
        os.utime("src/c", ns=(0, 0))
        asked = len(shelf.asked)
        told = last(shop.run("sync", "src", "putter:pets", "--json"))
        assert told == {"copied": 1, "copied_bytes": 4, "unchanged": 2}
        assert [path for method, path in shelf.asked[asked:] if method == "PUT"] == ["/file/pets/b"]
        told = last(shop.run("sync", "src", "putter:pets", "--json", "--checksum"))
        assert told == {"copied": 1, "copied_bytes": 3, "unchanged": 2}
        assert shelf.names() == {f"pets/{name}": data for name, data in below("src").items()}

    def test_from_the_store(self, shop: Any, shelf: Shelf) -> None:
        kept = [shelf.holds(f"pets/{name}", name.encode()) for name in "abc"]
        assert shop.run("sync", "putter:pets", "got").exit_code == 0
        assert Path("got/a").stat().st_mtime_ns == kept[0].created_ms * 1_000_000
        Path("got/a").write_bytes(b"A")
        os.utime("got/b", (0, 0))
        asked = len(shelf.asked)
        told = last(shop.run("sync", "putter:pets", "got", "--json"))
        assert told == {"copied": 1, "copied_bytes": 1, "unchanged": 2}
        assert [each for each in shelf.asked[asked:] if each[1].startswith("/file/pets/c")] == []
        assert Path("got/b").stat().st_mtime_ns == kept[1].created_ms * 1_000_000
        asked = len(shelf.asked)
        assert last(shop.run("sync", "putter:pets", "got", "--json")) == {"unchanged": 3}
        assert {path for _, path in shelf.asked[asked:]} == {"/metadata"}

    def test_within_the_store(self, shop: Any, shelf: Shelf) -> None:
        for name, etag in {"a": "", "b": "", "c": "md5"}.items():
            shelf.holds(f"pets/{name}", name.encode(), etag)
        shelf.holds("queue/x/b", b"B")
        shelf.holds("queue/x/c", b"c")
        told = last(shop.run("sync", "putter:pets", "putter:queue/x", "--json"))
        assert told == {"copied": 2, "copied_bytes": 2, "unchanged": 1}
        assert shelf.names()["queue/x/b"] == b"b"

    def test_delete(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"1", dir__b=b"2")
        for name in ("a", "gone", "kept.tmp"):
            shelf.holds(f"pets/x/{name}", b"1")
        shelf.holds("pets/xy", b"other")
        words = ("sync", "src", "putter:pets/x", "--delete", "--exclude", "*.tmp")
        dry = shop.run(*words, "--dry-run")
        assert dry.stdout.splitlines()[:-1] == [
            "copy    putter:pets/x/dir/b  1 B",
            "delete  putter:pets/x/gone",
        ]
        assert "pets/x/gone" in shelf.names()
        told = shop.run(*words)
        assert told.exit_code == 0
        assert shelf.names().keys() == {"pets/x/a", "pets/x/dir/b", "pets/x/kept.tmp", "pets/xy"}

    def test_delete_on_a_disk(self, shop: Any, shelf: Shelf) -> None:
        shelf.holds("pets/file", b"1")
        shelf.holds("pets/dir/a", b"2")
        local(file__x=b"old", dir=b"old", deep__er__y=b"old", kept=b"")
        Path("src/link").symlink_to("nowhere")
        told = shop.run("sync", "putter:pets", "src", "--delete", "--exclude", "kept")
        assert told.exit_code == 0, told.output
        assert below("src") == {"file": b"1", "dir/a": b"2", "kept": b""}
        assert Path("src/link").is_symlink()
        assert not Path("src/deep").exists()

    def test_nothing_is_deleted_after_a_failure(self, shop: Any, shelf: Shelf) -> None:
        for name in ("a", "b"):
            shelf.holds(f"pets/{name}", b"x")
        local(gone=b"x")
        body = {"code": "io", "message": "the disk is broken"}
        shelf.faults["GET", "/file/pets/a"] = [as_json(body, 500)]
        told = shop.run("sync", "putter:pets", "src", "--delete", "--json")
        assert (told.exit_code, below("src")) == (1, {"b": b"x", "gone": b"x"})
        assert last(told) == {"copied": 1, "copied_bytes": 1, "failed": 1, "not_deleted": 1}
        assert below("src") == {"b": b"x", "gone": b"x"}

    def test_a_directory_that_cannot_be_read(
        self, shop: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local(a=b"x", shut__b=b"x")
        shelf.holds("pets/shut/b", b"x")
        scandir = os.scandir

        def refuse(path: Path) -> Any:
            if path.name == "shut":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(listing.os, "scandir", refuse)
        told = shop.run("sync", "src", "putter:pets", "--delete", "--json")
        assert (told.exit_code, shelf.names().keys()) == (1, {"pets/a", "pets/shut/b"})
        assert "cannot read src/shut: Permission denied" in told.stderr
        assert last(told)["not_deleted"] == 1

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("-", "putter:pets"), 2),
            (("src", "src2"), 2),
            (("putter:pets", "putter:pets/x"), 2),
            (("src/a", "putter:pets"), 2),
            (("putter:pets", "src/a"), 2),
            (("none", "putter:pets"), 3),
            (("putter:none", "src", "--delete"), 3),
            (("putter:pets/none", "src", "--delete"), 3),
        ],
    )
    def test_what_makes_no_sense(
        self, shop: Any, shelf: Shelf, words: tuple[str, ...], code: int
    ) -> None:
        local(a=b"x")
        shelf.holds("pets/a", b"y")
        assert shop.run("sync", *words).exit_code == code
        assert (below("src"), shelf.names()) == ({"a": b"x"}, {"pets/a": b"y"})

    def test_an_empty_bucket_is_a_source(self, shop: Any, shelf: Shelf) -> None:
        shelf.buckets.add("bare")
        local(a=b"x")
        assert shop.run("sync", "putter:bare", "src", "--delete").exit_code == 0
        assert below(".") == {}


class TestFailures:
    BUSY = as_json({"code": "unavailable", "message": "not now"}, 503)

    def test_a_store_that_is_away_for_a_moment(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"x")
        shelf.faults["PUT", "/file/pets/a"] = [self.BUSY, self.BUSY]
        assert shop.run("sync", "src", "putter:pets").exit_code == 0
        assert shelf.names() == {"pets/a": b"x"}

    def test_a_store_that_stays_away_ends_it(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"x", b=b"x", c=b"x")
        shelf.faults["PUT", "/file/pets/a"] = [self.BUSY] * 3
        result = shop.run("sync", "src", "putter:pets", "--jobs", "1", "--json")
        assert (result.exit_code, last(result)) == (4, {"failed": 1, "not_tried": 2})
        assert shop.run("sync", "src", "putter:pets").exit_code == 0
        assert len(shelf.names()) == 3

    def test_nothing_listens(self, shop: Any) -> None:
        local(a=b"x")
        shop.answers(lambda _: ConnectionRefusedError())
        result = shop.run("sync", "src", "putter:pets")
        assert (result.exit_code, result.stdout) == (4, "")
        assert "nothing listens" in result.stderr

    def test_who_may_not(self, shop: Any, shelf: Shelf) -> None:
        local(a=b"x", b=b"x")
        body = {"code": "not-authorised", "message": "no"}
        shelf.faults["PUT", "/file/pets/a"] = [as_json(body, 401)]
        result = shop.run("sync", "src", "putter:pets", "--jobs", "1")
        assert result.exit_code == 5
        assert result.stdout.startswith("0 copied (0 B), 1 failed, 1 not tried; ")

    def test_wrong_bytes(self, shop: Any, shelf: Shelf) -> None:
        shelf.holds("pets/a", b"x")
        shelf.holds("pets/b", b"y")
        wrong = {"Content-Length": "1", "X-Putter-Blake3": "00" * 32}
        shelf.faults["GET", "/file/pets/a"] = [Reply(200, b"x", wrong)]
        result = shop.run("sync", "putter:pets", "got", "--json")
        assert (result.exit_code, below("got")) == (6, {"b": b"y"})
        assert last(result) == {"copied": 1, "copied_bytes": 1, "failed": 1}

    def test_a_file_that_is_written_to_is_sent_again(self, shop: Any, shelf: Shelf) -> None:
        local(log=b"1")
        sent = []

        def answer(request: Request) -> Reply:
            if request.method == "PUT" and len(sent) < changes:
                sent.append(request.body)
                with Path("src/log").open("ab") as file:
                    file.write(b"+")
            return shelf(request)

        shop.answers(answer)
        changes = 1
        assert shop.run("sync", "src", "putter:pets").exit_code == 0
        assert shelf.names() == {"pets/log": b"1+"}
        changes = 99
        result = shop.run("cp", "-r", "src", "putter:pets")
        assert result.exit_code == 1
        assert "changed while it was sent, 3 times" in result.stderr


def test_a_summary_for_people() -> None:
    assert summary(Totals(copied=2, copied_bytes=2048, seconds=1.26)) == "2 copied (2.0 KiB); 1.3 s"
    told = summary(Totals(1, 2, 3, 4, 5, 6, 7, 8, dry_run=True))
    assert told == (
        "1 would be copied (2 B), 3 would be deleted, 4 unchanged, 5 skipped, 6 failed, "
        "7 not tried, 8 not deleted because of that; 0.0 s"
    )
    moved = Totals(moved=1, moved_bytes=2, failed=3)
    assert summary(moved, "move") == "1 moved (2 B), 3 failed; 0.0 s"
