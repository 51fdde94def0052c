"""Access keys with real processes: made, told, kept without Redis, and in clear nowhere."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from common.errors import NotAuthorised
from putter.client import Store
from tests.s3_kit import SIGNED_CHUNKS, Signer
from tests.store_kit import Cluster, cluster, eventually
from tests.traffic_kit import at, files_with, putter

pytestmark = pytest.mark.slow
SECRET = "secret-of-the-test-that-is-nowhere-else"


def ask(store: Cluster, method: str, path: str, body: Any = None, router: int = 0) -> Any:
    """Status and answer of a JSON request."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = store.http(method, path, sent, router=router)
    return status, json.loads(answer or b"{}")


def test_access_keys_from_end_to_end(tmp_path: Path) -> None:
    with cluster(tmp_path, putters=2, routers=2) as store:
        assert at(store, "keys", "list", "--json").told == []
        pair = ("--access-key", "moved-here", "--secret-key", SECRET)
        made = at(store, "keys", "create", *pair, "--bucket", "photos:read", "--json").told
        assert (made["secret_key"], made["buckets"]) == (SECRET, {"photos": "read"})
        other = at(store, "keys", "create", "--owner", "ann", "--json").told
        again = at(
            store, "keys", "rotate", other["access_key_id"], "--keep-old", "1", "--json"
        ).told
        assert again["secret_key"] != other["secret_key"]
        gone = at(store, "keys", "create", "--json").told
        at(store, "keys", "delete", gone["access_key_id"])

        status, told = ask(store, "GET", "/keys", router=1)
        assert status == 200
        listed = {each["access_key_id"]: each for each in told["keys"]}
        assert set(listed) == {"moved-here", other["access_key_id"]}
        assert "secret_key" not in json.dumps(told)
        assert listed[other["access_key_id"]]["old_secret_until_ms"] > 0
        old = Signer(store.web_ports[0], other["access_key_id"], other["secret_key"])
        assert old.ask("GET", "/keys").status == 200

        # Redis forgets everything: the putters know it.
        for router in store.routers:
            router.stop()
        store.valkey.stop()
        store.valkey.forget()
        store.valkey.start()
        for router in store.routers:
            router._argv = [*router._argv, "--rebuild", "auto"]
            router.start()
        store.wait_ready()

        def restored() -> None:
            assert ask(store, "GET", "/keys") == (200, told)

        eventually(restored)
        assert old.ask("GET", "/keys").status == 200
        assert files_with(tmp_path, "moved-here")
        assert files_with(tmp_path, SECRET, again["secret_key"]) == []


def test_what_makes_no_sense_has_a_clear_answer(tmp_path: Path) -> None:
    with cluster(tmp_path) as store:
        refused = {
            b"{": "no JSON object",
            b"[]": "no JSON object",
            b"[" * 10_000: "no JSON object",
            b"\xff": "no JSON object",
            b'{"colour": 1}': "colour",
            b'{"secret_key": 1}': "secret_key",
            b'{"secret_key": "short"}': "this secret key cannot be used",
            b'{"owner": ""}': "no name of an owner",
            b'{"buckets": {"photos": "all"}}': "'all' is no right",
        }
        for body, reason in refused.items():
            status, told = ask(store, "PUT", "/key/PKONE", body)
            assert (status, told["code"]) == (400, "usage"), body
            assert reason in told["message"], told
        assert ask(store, "PUT", "/key/PKONE", b" " * 200_000)[0] == 413
        assert ask(store, "PUT", "/key/ab")[1]["code"] == "usage"
        status, told = ask(store, "PUT", "/key/PKONE", {"buckets": {"NO": "read"}})
        assert (status, told["code"]) == (400, "invalid-name")
        assert ask(store, "GET", "/keys") == (200, {"keys": []})

        status, headers, body = store.http("PUT", "/key/PKONE", b"")
        assert (status, headers["cache-control"]) == (201, "no-store")
        assert len(json.loads(body)["secret_key"]) == 40
        assert ask(store, "PUT", "/key/PKONE")[0] == 409
        assert ask(store, "PUT", "/key/PKTWO/secret")[0] == 404
        assert ask(store, "DELETE", "/key/PKTWO")[0] == 404
        assert ask(store, "DELETE", "/key/PKONE") == (204, {})
        assert ask(store, "DELETE", "/key/PKONE")[0] == 404


def test_the_same_keys_serve_rest(tmp_path: Path) -> None:
    with cluster(tmp_path) as store:
        status, made = ask(store, "PUT", "/keys/first")
        assert (status, made["owner"], made["buckets"]) == (201, "root", {})
        assert ask(store, "PUT", "/keys/first") == (204, {})
        whole = ask(store, "PUT", "/key/PKALL")[1]["secret_key"]
        narrow = {"buckets": {"photos": "write", "music": "read"}}
        secret = ask(store, "PUT", "/key/PKONE", narrow)[1]["secret_key"]
        assert ask(store, "PUT", "/file/music/song", b"la")[0] == 201
        assert ask(store, "PUT", "/file/other/x", b"x")[0] == 201

        # As curl --user does.
        user = {"Authorization": "Basic " + b64encode(f"PKONE:{secret}".encode()).decode()}
        assert store.http("PUT", "/file/photos/cat", b"meow", user)[0] == 201
        assert store.http("GET", "/file/music/song", headers=user)[2] == b"la"
        assert store.http("GET", "/file/other/x", headers=user)[0] == 403
        assert store.http("DELETE", "/file/music/song", headers=user)[0] == 403
        assert store.http("GET", "/keys", headers=user)[0] == 403
        listed = store.http("GET", "/metadata", headers=user)[2]
        assert json.loads(listed) == {"buckets": ["music", "photos"]}
        wrong = {"Authorization": "Basic " + b64encode(f"PKONE:{whole}".encode()).decode()}
        assert store.http("GET", "/file/photos/cat", headers=wrong)[0] == 401

        # As curl --aws-sigv4 does, which may sign the body, too.
        port = store.web_ports[0]
        signer = Signer(port, "PKONE", secret)
        digest = sha256(b"purr").hexdigest()
        assert signer.ask("PUT", "/file/photos/dog", b"purr", payload=digest).status == 201
        lie = signer.ask("PUT", "/file/photos/dog", b"woof", payload=digest)
        assert (lie.status, json.loads(lie.body)["code"]) == (400, "protocol")
        assert signer.ask("GET", "/file/photos/dog").body == b"purr"
        every = Signer(port, "PKALL", whole)
        wrong_rights = every.ask("PUT", "/key/PKONE/secret", b"{}", payload=digest)
        assert wrong_rights.status == 400
        chunked = signer.ask("PUT", "/file/photos/dog", b"0", payload=SIGNED_CHUNKS)
        assert (chunked.status, json.loads(chunked.body)["code"]) == (400, "usage")

        # The client and the command line.
        url = f"http://127.0.0.1:{port}"
        with Store(url, access_key="PKONE", secret_key=secret) as client:
            client.put("photos/a b+c", b"x")
            assert [each.key for each in client.list("photos")] == ["a b+c", "cat", "dog"]
            with pytest.raises(NotAuthorised):
                client.put("music/new", b"x")
        pair = {"PUTTER_ACCESS_KEY": "PKONE", "PUTTER_SECRET_KEY": secret}
        assert putter(store, "ls", "photos", "--url", url, env=pair).code == 0
        assert putter(store, "keys", "list", "--url", url, env=pair).code == 5
        half = {"PUTTER_ACCESS_KEY": "PKONE"}
        assert putter(store, "ls", "photos", "--url", url, env=half).code == 2
        assert files_with(tmp_path, secret, whole) == [], "in no log either"
