"""``keys create|list|update|rotate|delete`` for people and for machines."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from tests.web_kit import Reply, as_json

KEY = {
    "access_key_id": "PKONE",
    "owner": "ann",
    "read_only": False,
    "buckets": {},
    "changed_ms": 1_700_000_000_000,
    "version": "3F",
    "sealed_with": "0a1b2c3d",
    "old_secret_until_ms": 0,
}
ISSUED = KEY | {"secret_key": "very-secret"}


def test_a_new_key_is_shown_once(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED, 201))
    done = shop.run("keys", "create", "--owner", "ann")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "access key:  PKONE",
        "secret key:  very-secret",
        "owner:       ann",
        "may:         read and write",
        "The secret is shown only now.",
    ]
    assert shop.web.last.method == "PUT"
    assert re.fullmatch(r"/key/PK[A-Z2-7]{18}", shop.web.last.path)
    assert json.loads(shop.web.last.body) == {"owner": "ann", "read_only": False, "buckets": {}}
    assert json.loads(shop.run("keys", "create", "--json").stdout) == ISSUED


def test_a_pair_may_be_given(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED | {"buckets": {"b-c": "read", "a-b": "write"}}, 201))
    rights = ("--bucket", "a-b", "--bucket", "b-c:read", "--bucket", "c-d:write", "--read-only")
    pair = ("--access-key", "PKONE", "--secret-key", "very-secret")
    done = shop.run("keys", "create", *pair, *rights)
    assert done.exit_code == 0, done.stderr
    assert "may:         a-b:write, b-c:read\n" in done.stdout
    assert shop.web.last.path == "/key/PKONE"
    assert json.loads(shop.web.last.body) == {
        "secret_key": "very-secret",
        "read_only": True,
        "buckets": {"a-b": "write", "b-c": "read", "c-d": "write"},
    }


def test_a_new_key_may_be_a_line_for_a_shell(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED | {"secret_key": "it's $HOME"}, 201))
    done = shop.run("keys", "create", "--env")
    assert done.exit_code == 0, done.stderr
    assert shlex.split(done.stdout) == [
        "export",
        "AWS_ACCESS_KEY_ID=PKONE",
        "AWS_SECRET_ACCESS_KEY=it's $HOME",
        "AWS_DEFAULT_REGION=us-east-1",
    ]


def test_a_line_for_a_shell_is_no_json(shop: Any) -> None:
    done = shop.run("keys", "create", "--env", "--json")
    assert done.exit_code == 2
    assert "--env" in done.stderr
    assert shop.web.requests == []


def test_a_secret_may_come_from_standard_input(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED, 201))
    done = shop.run("keys", "create", "--secret-key", "-", stdin=b"from a file\n")
    assert done.exit_code == 0, done.stderr
    assert json.loads(shop.web.last.body)["secret_key"] == "from a file"
    done = shop.run("keys", "rotate", "PKONE", "--secret-key", "-", stdin=b"\n")
    assert done.exit_code == 2
    assert "no secret on standard input" in done.stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--bucket", "a-b:all"), "does not end in :read or :write"),
        (("--bucket", "a-b:"), "does not end in :read or :write"),
        (("--bucket", "a-b", "--bucket", "a-b:read"), "named twice"),
    ],
)
def test_rights_that_make_no_sense(shop: Any, flags: tuple[str, ...], reason: str) -> None:
    done = shop.run("keys", "create", *flags)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_all_keys(shop: Any) -> None:
    other = KEY | {"access_key_id": "PKTWO", "read_only": True, "buckets": {"photos": "write"}}
    third = KEY | {"access_key_id": "PKTHREE", "read_only": True}
    shop.answers(lambda _: as_json({"keys": [KEY, other, third]}))
    done = shop.run("keys", "list")
    assert done.exit_code == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert re.split(r"\s{2,}", header.strip())[:3] == ["access key", "owner", "may"]
    assert "read and write" in rows[0]
    assert "photos:read" in rows[1]
    assert re.search(r"PKTHREE\s+ann\s+read\s+2023-11-14 22:13:20\s+0a1b2c3d", rows[2])
    assert (shop.web.last.method, shop.web.last.path) == ("GET", "/keys")
    assert json.loads(shop.run("keys", "list", "--json").stdout) == [KEY, other, third]


def test_another_secret(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED))
    done = shop.run("keys", "rotate", "PKONE")
    assert done.exit_code == 0, done.stderr
    assert "secret key:  very-secret\n" in done.stdout
    assert (shop.web.last.method, shop.web.last.path) == ("PUT", "/key/PKONE/secret")
    assert json.loads(shop.web.last.body) == {}


def test_another_secret_beside_the_old_one(shop: Any) -> None:
    shop.answers(lambda _: as_json(ISSUED | {"old_secret_until_ms": 1_700_000_000_000}))
    done = shop.run("keys", "rotate", "PKONE", "--keep-old", "24")
    assert done.exit_code == 0, done.stderr
    assert "old secret:  counts until 2023-11-14 22:13:20\n" in done.stdout
    assert json.loads(shop.web.last.body) == {"keep_old_s": 86_400}
    assert shop.run("keys", "rotate", "PKONE", "--keep-old", "-1").exit_code == 2


def test_other_rights(shop: Any) -> None:
    shop.answers(lambda _: as_json(KEY | {"buckets": {"a-b": "read"}}))
    flags = ("--bucket", "a-b:read", "--owner", "ann", "--read-write")
    done = shop.run("keys", "update", "PKONE", *flags)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == ["owner:       ann", "may:         a-b:read"]
    assert (shop.web.last.method, shop.web.last.path) == ("PUT", "/key/PKONE/rights")
    told = {"owner": "ann", "read_only": False, "buckets": {"a-b": "read"}}
    assert json.loads(shop.web.last.body) == told
    assert shop.run("keys", "update", "PKONE", "--all-buckets", "--json").exit_code == 0
    assert json.loads(shop.web.last.body) == {"buckets": {}}
    for wrong in ((), ("--all-buckets", "--bucket", "a-b")):
        assert shop.run("keys", "update", "PKONE", *wrong).exit_code == 2


def test_a_key_is_deleted(shop: Any) -> None:
    shop.answers(lambda _: Reply(204))
    done = shop.run("keys", "delete", "PK/ONE")
    assert (done.exit_code, done.stdout) == (0, "")
    assert (shop.web.last.method, shop.web.last.path) == ("DELETE", "/key/PK%2FONE")
    missing = {"code": "not-found", "message": "there is no such key", "hint": ""}
    shop.answers(lambda _: as_json(missing, 404))
    done = shop.run("keys", "delete", "PKONE")
    assert done.exit_code == 3
    assert "there is no such key" in done.stderr
