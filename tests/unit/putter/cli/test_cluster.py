"""status, keys, and how a command shows that it may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.keys import load_keyring
from tests.web_kit import Reply, Request, as_json

STATUS = {
    "version": "0.1.0",
    "router": "R1",
    "redis": {"ok": True, "address": "127.0.0.1:6379"},
    "nodes": [
        {
            "node": "N1",
            "address": "127.0.0.1:5000",
            "state": "live",
            "age_ms": 340,
            "storage": "tree",
            "capacity_bytes": 1024**4,
            "free_bytes": 1024**3,
            "link": "up",
            "reason": "",
            "version": "0.1.0",
            "zone": "rack-7",
            "inflight_bytes": 0,
            "scrub": {
                "number": 7,
                "running": True,
                "demanded": False,
                "started_ms": 1_700_000_100_000,
                "verified_bytes": 300,
                "total_bytes": 1200,
                "findings": 0,
                "last": {
                    "number": 6,
                    "started_ms": 1_700_000_000_000,
                    "ended_ms": 1_700_000_001_000,
                    "verified_bytes": 1000,
                    "findings": 2,
                    "mended": 1,
                },
                "damaged_tickets": 3,
                "damaged_others": 1,
                "flaws": [],
            },
            "packing": {
                "compression": "",
                "encryption": "",
                "plain_bytes": 0,
                "stored_bytes": 0,
            },
        }
    ],
    "routers": [
        {
            "router": "R1",
            "address": "127.0.0.1:5001",
            "age_ms": 12,
            "version": "0.1.0",
            "state": "live",
        }
    ],
    "workers": [],
    "objects": {"writing": 3},
    "policy": {"replicas": 2, "write_quorum": 2, "read_quorum": 1, "consistency": "available"},
    "buckets": [
        {
            "bucket": "photos",
            "settings": {
                "replicas": 3,
                "write_quorum": None,
                "read_quorum": None,
                "consistency": None,
                "quota_bytes": 10_000,
                "quota_files": None,
            },
            "policy": {
                "replicas": 3,
                "write_quorum": 2,
                "read_quorum": 1,
                "consistency": "available",
            },
            "version": "3F",
            "changed_ms": 5,
            "followed": False,
            "others": [],
            "used": {"bytes": 5_000, "files": 2, "upload_bytes": 0},
        }
    ],
    "numbers": {"tickets_used": 50, "tickets_max": 100},
    "repair": [],
    "incurable": [],
    "events": [],
    "balance": None,
    "audit": {"running": False, "wanted": [], "found": None, "last": None},
}


def test_status_for_people(shop: Any) -> None:
    shop.answers(lambda _: as_json(STATUS))
    text = shop.run("status").stdout
    assert "router:   http://127.0.0.1:5004 (version 0.1.0)\n" in text
    assert "redis:    ok 127.0.0.1:6379\n" in text
    assert "tickets:  50 of 100 (50 %)\n" in text
    assert "objects:  3 writing\n" in text
    assert "policy:   N = 2, W = 2, R = 1, available\n" in text
    assert (
        "bucket:   photos: N = 3, W = 2, R = 1, available; 2 files, 4.9 KiB of 9.8 KiB; "
        "what it holds already follows\n" in text
    )
    assert text.splitlines()[-1].split()[:7] == [
        "N1", "127.0.0.1:5000", "live", "tree", "up", "340", "ms",
    ]  # fmt: skip


def test_status_tells_of_workers_where_there_are_several(shop: Any) -> None:
    shop.answers(lambda _: as_json(STATUS))
    assert "workers:" not in shop.run("status").stdout
    workers = [{"worker": 0, "router": "R1", "answers": True}, {"worker": 1, "answers": False}]
    shop.answers(lambda _: as_json(STATUS | {"workers": workers}))
    assert "\nworkers:  1 of 2 answer\n" in shop.run("status").stdout


def test_status_tells_of_events_that_wait(shop: Any) -> None:
    queue = {"bucket": "photos", "target": "hook", "waiting": 3, "dropped": 0, "trouble": ""}
    stuck = queue | {"target": "log", "dropped": 2, "trouble": "it answers 503"}
    shop.answers(lambda _: as_json(STATUS | {"events": [queue, stuck]}))
    text = shop.run("status").stdout
    assert "events:   3 of bucket photos wait for hook\n" in text
    assert "3 of bucket photos wait for log, 2 were dropped: it answers 503\n" in text


def test_status_tells_what_is_owed_and_what_cannot_be_healed(shop: Any) -> None:
    stuck = [{"object": "3F", "reason": "there is no further putter"}]
    owed = [
        {"node": "*", "objects": 2, "bytes": 2048, "bytes_per_s": 0, "eta_s": None, "stuck": stuck},
        {
            "node": "N2",
            "objects": 7,
            "records": 3,
            "bytes": 9000,
            "bytes_per_s": 1024,
            "eta_s": 9,
            "stuck": [],
        },
    ]
    wound = {"node": "N1", "object": "4G", "first": "A0", "count": 3, "reason": "right on none"}
    shop.answers(lambda _: as_json(STATUS | {"repair": owed, "incurable": [wound]}))
    lines = shop.run("status").stdout.splitlines()
    at = lines.index("owed to putters:")
    assert lines[at + 2].split() == ["any", "2", "0", "2.0", "KiB", "-", "-", "1"]
    assert lines[at + 3].split() == ["N2", "7", "3", "8.8", "KiB", "1.0", "KiB/s", "9", "s", "0"]
    assert lines[at + 4] == "  object 3F: there is no further putter"
    assert lines[-1] == "damaged:  3 tickets from A0 of object 4G on N1: right on none"


def test_status_tells_what_moves_to_even_putters_out(shop: Any) -> None:
    balance = {"uneven_bytes": 9000, "left_bytes": 2048, "nodes": []}
    shop.answers(lambda _: as_json(STATUS | {"balance": balance}))
    assert "\nuneven:   2.0 KiB move to other putters next\n" in shop.run("status").stdout
    for quiet in (None, balance | {"left_bytes": 0}):
        shop.answers(lambda _, quiet=quiet: as_json(STATUS | {"balance": quiet}))
        assert "uneven" not in shop.run("status").stdout


def test_status_tells_how_the_disks_are(shop: Any) -> None:
    shop.answers(lambda _: as_json(STATUS))
    lines = shop.run("status").stdout.splitlines()
    assert lines[-2].split()[-4:] == ["packed", "scrubbed", "scrub", "damaged"]
    assert lines[-1].endswith("  2023-11-14T22:13:21Z   25 %        4")


@pytest.mark.parametrize(
    ("packing", "told"),
    [
        ({"plain_bytes": 300, "stored_bytes": 400}, ["plain"]),
        ({"encryption": "aes-256-gcm", "plain_bytes": 300}, ["aes-256-gcm"]),
        ({"compression": "zstd", "plain_bytes": 300, "stored_bytes": 80}, ["zstd", "3.75x"]),
        ({"compression": "zstd", "encryption": "aes-256-gcm"}, ["zstd+aes-256-gcm"]),
    ],
)
def test_status_tells_how_data_is_stored(
    shop: Any, packing: dict[str, Any], told: list[str]
) -> None:
    node = {"node": "N1", "scrub": None, "packing": packing}
    shop.answers(lambda _: as_json({"version": "0.1.0", "nodes": [node]}))
    words = shop.run("status").stdout.splitlines()[-1].split()
    assert words[-3 - len(told) : -3] == told


def test_status_of_a_putter_without_a_sign_of_life(shop: Any) -> None:
    node = {"node": "N1", "scrub": None, "packing": None}
    shop.answers(lambda _: as_json({"version": "0.1.0", "nodes": [node]}))
    assert shop.run("status").stdout.splitlines()[-1].split()[-4:] == ["-"] * 4


def test_status_of_a_putter_that_does_not_tell(shop: Any) -> None:
    node = {"node": "N1", "scrub": None}
    shop.answers(lambda _: as_json({"version": "0.1.0", "nodes": [node]}))
    assert shop.run("status").stdout.splitlines()[-1].split()[-3:] == ["-", "-", "-"]


def test_status_tells_why_a_link_is_down(shop: Any) -> None:
    reason = "h:5000 is putter N2, not N1"
    node = {"node": "N1", "address": "h:5000", "state": "down", "reason": reason}
    shop.answers(lambda _: as_json({"version": "0.1.0", "nodes": [node]}))
    assert f"no link:  N1 at h:5000: {reason}" in shop.run("status").stdout.splitlines()


def test_status_tells_that_inventories_are_compared(shop: Any) -> None:
    found = {"names": 1234, "objects": 5, "bare": 6, "records": 7}
    audit = {"running": True, "wanted": [], "found": found, "last": None}
    shop.answers(lambda _: as_json(STATUS | {"audit": audit}))
    lines = shop.run("status").stdout.splitlines()
    assert "compared: 1234 names so far, 18 things are missing" in lines


def test_status_without_nodes(shop: Any) -> None:
    shop.answers(lambda _: as_json({"version": "0.1.0"}))
    text = shop.run("status").stdout
    assert "redis:    down\n" in text
    assert "nodes:    none\n" in text


def test_status_for_machines(shop: Any) -> None:
    shop.answers(lambda _: as_json(STATUS))
    assert json.loads(shop.run("status", "--json").stdout) == STATUS


def test_a_store_that_is_not_there(shop: Any) -> None:
    shop.answers(lambda _: ConnectionRefusedError())
    result = shop.run("status", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: nothing listens at http://127.0.0.1:9\nhint: ")


class TestToken:
    @pytest.fixture
    def made(self, shop: Any) -> str:
        """The token of a key file in the default place."""
        shop.answers(lambda _: as_json(STATUS))
        return load_keyring(Path("data/cluster.key"), create=True).writing.token

    def test_from_the_key_file_that_is_there(self, shop: Any, made: str) -> None:
        shop.run("status")
        assert shop.stores == [("http://127.0.0.1:5004", made)]
        assert shop.web.last.headers["Authorization"] == f"Bearer {made}"

    def test_from_the_key_file_in_the_data_directory(
        self, shop: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop.answers(lambda _: as_json(STATUS))
        monkeypatch.setenv("PUTTER_DATA_DIR", "elsewhere")
        token = load_keyring(Path("elsewhere/cluster.key"), create=True).writing.token
        shop.run("status")
        assert shop.stores[0][1] == token

    def test_flag_wins_over_variable_over_key_file(
        self, shop: Any, made: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PUTTER_TOKEN", "of-variable")
        monkeypatch.setenv("PUTTER_URL", "http://h:1")
        shop.run("status")
        shop.run("status", "--token", "of-flag", "--url", "http://i:2")
        assert shop.stores == [("http://h:1", "of-variable"), ("http://i:2", "of-flag")]
        assert made not in dict(shop.stores).values()

    def test_none_where_no_key_file_is(self, shop: Any) -> None:
        shop.answers(lambda _: as_json(STATUS))
        shop.run("status")
        assert shop.stores[0][1] is None

    def test_a_key_file_that_was_named_must_be_there(self, shop: Any) -> None:
        result = shop.run("status", "--key-file", "none.key")
        assert result.exit_code == 2
        assert "there is no key file none.key" in result.stderr

    def test_a_wrong_one(self, shop: Any) -> None:
        def refuse(_: Request) -> Reply:
            return as_json({"code": "not-authorised", "message": "wrong token"}, 401)

        shop.answers(refuse)
        result = shop.run("status", "--token", "x")
        assert (result.exit_code, result.stderr) == (5, "error: wrong token\n")


class TestKeys:
    def test_token(self, shop: Any) -> None:
        ring = load_keyring(Path("k"), create=True)
        assert shop.run("keys", "token", "--key-file", "k").stdout == ring.writing.token + "\n"

    def test_show_tells_ids_only(self, shop: Any) -> None:
        Path("k").write_text("11" * 32 + "\n" + "22" * 32 + "\n")
        Path("k").chmod(0o600)
        first, second = load_keyring(Path("k"), create=False).ids
        result = shop.run("keys", "show", "--key-file", "k")
        assert result.output == f"{first}  writes\n{second}  verifies\n"
        assert json.loads(shop.run("keys", "show", "--key-file", "k", "--json").stdout) == [
            {"id": first, "writes": True},
            {"id": second, "writes": False},
        ]

    def test_show_warns_of_a_file_that_others_can_read(self, shop: Any) -> None:
        load_keyring(Path("k"), create=True)
        Path("k").chmod(0o644)
        result = shop.run("keys", "show", "--key-file", "k")
        assert result.exit_code == 0
        assert result.stderr == "warning: others can read k; chmod 600 k\n"

    def test_no_key_file(self, shop: Any) -> None:
        assert shop.run("keys", "token").exit_code == 2
