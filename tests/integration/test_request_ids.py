"""One id finds everything that a router's log says about a request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store_kit import Answer, Cluster, Process, cluster, eventually, read_line
from tests.traffic_kit import connect, payload

pytestmark = pytest.mark.slow
WAIT_S = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One whose putter has died, with a file of before."""
    home = tmp_path_factory.mktemp("ids")
    with cluster(
        home, storage="memory", router_flags=("--log-format", "json", "--write-timeout-ms", "2000")
    ) as running:
        assert running.http("PUT", "/file/photos/cat", payload(300_000))[0] == 201
        running.putters[0].kill()

        def noticed() -> None:
            nodes = json.loads(running.http("GET", "/status")[2])["nodes"]
            assert [node["link"] for node in nodes] == ["down"]

        eventually(noticed, WAIT_S)
        yield running


def lines(store: Cluster, process: Process | None = None, **wanted: str) -> list[dict[str, Any]]:
    """The lines of the router's log that have these fields, once there are some.

    Or of another process's log.
    """
    found: list[dict[str, Any]] = []

    def there() -> None:
        found[:] = []
        for text in (process or store.routers[0]).text().splitlines():
            line = json.loads(text) if text.startswith("{") else {}
            if wanted.items() <= line.items():
                found.append(line)
        assert found

    eventually(there, WAIT_S)
    return found


@pytest.mark.parametrize("way", [{}, {"X-Long-Way": "1"}], ids=["short", "long"])
def test_of_a_download_that_failed(store: Cluster, way: dict[str, str]) -> None:
    name = f"find-me.{len(way)}"
    status, headers, body = store.http(
        "GET", "/file/photos/cat", headers=way | {"X-Request-Id": name}
    )
    assert status == 503
    assert headers["x-request-id"] == json.loads(body)["request_id"] == name
    [line] = lines(store, request_id=name, event="a request failed")
    assert (line["path"], line["code"]) == ("/file/photos/cat", "no-putters")


def test_of_an_upload_that_failed(store: Cluster) -> None:
    status, headers, body = store.http("PUT", "/file/photos/dog", payload(300_000))
    assert status == 503
    given = headers["x-request-id"]
    assert json.loads(body)["request_id"] == given
    assert lines(store, request_id=given, event="a request failed")


def test_of_a_raw_stream_that_failed(store: Cluster) -> None:
    with connect(store.ingest_ports[0]) as client:
        own = str(client.getsockname())
        client.sendall(payload(300_000))
        client.shutdown(socket.SHUT_WR)
        code = Answer(read_line(client)).code
    [line] = lines(store, event="a raw stream failed", peer=own)
    assert line["code"] == code
    assert {each["logger"] for each in lines(store, request_id=line["request_id"])} <= {
        "router.ingest",
        "router.writes",
        "router.upload",
    }


def test_the_putter_that_has_no_room_names_it(tmp_path: Path) -> None:
    form = ("--log-format", "json")
    full = ("--reserve-bytes", str(1 << 60))
    with cluster(tmp_path, router_flags=form, putter_flags=(*form, *full)) as store:
        for size in (300_000, 100):
            name = f"find-me.{size}"
            headers = {"X-Request-Id": name}
            status, _, _ = store.http("PUT", f"/file/photos/{size}", payload(size), headers)
            assert status >= 500

            def named(name: str = name) -> None:
                told = lines(store, process=store.putters[0], event="something is refused")
                found = [line for line in told if name in line["requests"]]
                assert found
                assert {line["why"] for line in found} == {"no space"}

            eventually(named, WAIT_S)
