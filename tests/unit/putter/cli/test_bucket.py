"""``bucket`` for people and for machines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web_kit import Reply, as_json

STORE = {"replicas": 2, "write_quorum": 2, "read_quorum": 1, "consistency": "available"}
NOTHING = dict.fromkeys((*STORE, "quota_bytes", "quota_files"))
INFO = {
    "bucket": "photos",
    "settings": NOTHING | {"replicas": 3, "quota_bytes": 10 << 30, "quota_files": 100},
    "policy": STORE | {"replicas": 3},
    "version": "3F",
    "changed_ms": 1_700_000_000_000,
    "followed": False,
    "others": ["lifecycle"],
    "used": {"bytes": 3 << 29, "files": 12, "upload_bytes": 1 << 20},
}
PLAIN = {
    "bucket": "files",
    "settings": NOTHING,
    "policy": STORE,
    "version": None,
    "changed_ms": None,
    "followed": True,
    "others": [],
    "used": {"bytes": 17, "files": 1, "upload_bytes": 0},
}


def test_one_bucket(shop: Any) -> None:
    shop.answers(lambda _: as_json(INFO))
    lines = shop.run("bucket", "show", "photos").stdout.splitlines()
    assert lines == [
        "bucket:  photos (changed 2023-11-14 22:13:20)",
        "replicas:     3 (of the bucket)",
        "write_quorum: 2 (of the store)",
        "read_quorum:  1 (of the store)",
        "consistency:  available (of the store)",
        "holds:   12 of 100 files, 1.5 GiB of 10.0 GiB, 1.0 MiB in parts of open uploads",
        "others:  lifecycle",
        "files:   those that were there before follow in the background",
    ]
    assert (shop.web.last.method, shop.web.last.path) == ("GET", "/bucket/photos")
    assert json.loads(shop.run("bucket", "show", "photos", "--json").stdout) == INFO
    shop.answers(lambda _: as_json(PLAIN))
    lines = shop.run("bucket", "show", "files").stdout.splitlines()
    assert lines[0] == "bucket:  files (never changed)"
    assert lines[5:] == ["holds:   1 files, 17 B"]


def test_a_change_names_only_what_changes(shop: Any) -> None:
    shop.answers(lambda _: as_json(INFO))
    flags = ("--replicas", "3", "--consistency", "strict", "--unset", "read-quorum")
    flags += ("--quota-bytes", "1.5 GiB", "--unset", "quota-files")
    done = shop.run("bucket", "set", "photos", *flags)
    assert done.exit_code == 0, done.stderr
    assert (shop.web.last.method, shop.web.last.path) == ("PUT", "/bucket/photos")
    sent = json.loads(shop.web.last.body)
    assert sent == {
        "replicas": 3,
        "consistency": "strict",
        "quota_bytes": 3 << 29,
        "read_quorum": None,
        "quota_files": None,
    }
    assert done.stdout.startswith("bucket:  photos")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "name a setting"),
        (("--unset", "colour"), "'colour' is no setting"),
        (("--replicas", "3", "--unset", "replicas"), "given and taken back"),
        (("--quota-bytes", "lots"), "'lots' is not a size"),
        (("--quota-files", "0"), "greater than or equal to 1"),
        (("--replicas", "9"), "less than or equal to 8"),
        (("--replicas", "many"), "integer"),
    ],
)
def test_changes_that_make_no_sense(shop: Any, flags: tuple[str, ...], reason: str) -> None:
    done = shop.run("bucket", "set", "photos", *flags)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_what_the_router_refuses_is_told(shop: Any) -> None:
    body = {"code": "usage", "message": "write_quorum 3 is more than …", "hint": ""}
    shop.answers(lambda _: as_json(body, 400))
    done = shop.run("bucket", "set", "photos", "--write-quorum", "3")
    assert done.exit_code == 2
    assert "write_quorum 3 is more than" in done.stderr


def test_a_bucket_with_an_impossible_name_is_not_asked_for(shop: Any) -> None:
    assert shop.run("bucket", "show", "No").exit_code == 2
    assert shop.run("bucket", "reset", "a..b").exit_code == 2


def test_reset(shop: Any) -> None:
    shop.answers(lambda _: as_json(PLAIN))
    assert json.loads(shop.run("bucket", "reset", "files", "--json").stdout) == PLAIN
    assert (shop.web.last.method, shop.web.last.path) == ("DELETE", "/bucket/files")


def test_all_buckets(shop: Any) -> None:
    told = {"store": STORE, "buckets": [PLAIN, INFO]}

    def answer(request: Any) -> Reply:
        assert request.path == "/buckets"
        return as_json(told)

    shop.answers(answer)
    lines = [line.split() for line in shop.run("bucket", "ls").stdout.splitlines()]
    assert lines == [
        ["bucket", "N", "W", "R", "consistency", "files", "bytes", "state"],
        ["(store)", "2", "2", "1", "available"],
        ["files", "2", "2", "1", "available", "1", "17", "B"],
        [
            *[
                "photos",
                "3*",
                "2",
                "1",
                "available",
                "12",
                "of",
                "100",
                "1.5",
                "GiB",
                "of",
                "10.0",
                "GiB",
                "follow",
            ]
        ],
    ]
    assert json.loads(shop.run("bucket", "ls", "--json").stdout) == told
