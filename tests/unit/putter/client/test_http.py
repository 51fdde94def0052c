"""The connection: kept, opened again when it must be, and its errors in the store's words."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

import pytest

from common import errors
from common.errors import PutterError, Unavailable, UsageError
from putter.client.http import ERROR_BYTES_MAX, Exchange, connector, error_from_answer
from tests.web_kit import FakeWeb, Reply, Request, Script, as_json


def exchange_of(script: Script, token: str | None = None) -> tuple[Exchange, FakeWeb]:
    web = FakeWeb(script)
    return Exchange("http://h:1", web, token), web


def ok(_: Request) -> Reply:
    return Reply(200)


def once(failure: Exception, then: Reply, at: int = 0) -> Script:
    """Fails at one request, answers all others."""
    count = -1

    def script(_: Request) -> Reply | Exception:
        nonlocal count
        count += 1
        return failure if count == at else then

    return script


DROPPED = http.client.RemoteDisconnected("closed")


def test_one_connection_for_many_requests() -> None:
    exchange, web = exchange_of(ok)
    for _ in range(3):
        exchange.send("GET", "/status")
    assert (web.opened, len(web.requests)) == (1, 3)
    exchange.close()
    exchange.close()
    assert web.closed == 1


def test_the_token_goes_with_every_request() -> None:
    exchange, web = exchange_of(ok, "s3cret")
    exchange.send("GET", "/a", headers={"Range": "bytes=0-"})
    assert web.last.headers == {"Range": "bytes=0-", "Authorization": "Bearer s3cret"}


@pytest.mark.parametrize(
    "failure", [DROPPED, ConnectionResetError(), BrokenPipeError()], ids=lambda each: type(each)
)
def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(failure: Exception) -> None:
    exchange, web = exchange_of(once(failure, Reply(200), at=1))
    exchange.send("GET", "/a")
    assert exchange.send("PUT", "/b", body=b"x").status == 200
    assert [request.path for request in web.requests] == ["/a", "/b", "/b"]
    assert (web.opened, web.closed) == (2, 1)


def test_a_new_connection_that_is_dropped_is_not_tried_again() -> None:
    exchange, web = exchange_of(once(DROPPED, Reply(200)))
    with pytest.raises(Unavailable, match="no answer from http://h:1"):
        exchange.send("GET", "/a")
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("DELETE", {}, None),
        ("PUT", {"If-None-Match": "*"}, b"x"),
        ("PUT", {"If-Match": '"e"'}, b"x"),
        ("PUT", {}, [b"x"]),
    ],
)
def test_what_cannot_be_repeated_gets_a_connection_of_its_own(
    method: str, headers: dict[str, str], body: bytes | list[bytes] | None
) -> None:
    exchange, web = exchange_of(ok)
    exchange.send("GET", "/a")
    exchange.send(method, "/b", headers=headers, body=body)
    assert (web.opened, web.closed) == (2, 1)


def test_the_answer_of_a_router_that_hangs_up_early_counts() -> None:
    exchange, web = exchange_of(ok)
    exchange.send("GET", "/a")
    web.send_error = BrokenPipeError()
    # The fake's next answer stands for what was already on its way back.
    assert exchange.send("GET", "/b").status == 200


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (ConnectionRefusedError(), "nothing listens at http://h:1"),
        (TimeoutError(), "did not answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (http.client.BadStatusLine("junk"), "junk"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
def test_no_answer_is_unavailable(failure: Exception, says: str) -> None:
    exchange, web = exchange_of(lambda _: failure)
    with pytest.raises(Unavailable, match=says) as caught:
        exchange.send("GET", "/a")
    assert caught.value.exit == 4
    assert web.closed == 1


def test_refused_tells_what_to_do() -> None:
    exchange, web = exchange_of(ok)
    web.send_error = ConnectionRefusedError()
    with pytest.raises(Unavailable) as caught:
        exchange.send("GET", "/a")
    assert "putter router" in caught.value.hint


def test_a_header_that_http_cannot_carry() -> None:
    exchange, web = exchange_of(ok)
    web.send_error = ValueError("Invalid header value b'a\\nb'")
    with pytest.raises(UsageError, match="HTTP cannot carry"):
        exchange.send("GET", "/a", headers={"X": "a\nb"})
    assert web.closed == 1


def test_an_interrupt_in_the_middle_costs_the_connection() -> None:
    exchange, web = exchange_of(ok)
    web.send_error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        exchange.send("GET", "/a")
    assert web.closed == 1


class TestErrors:
    @pytest.mark.parametrize(
        "kind",
        [
            errors.NotFound,
            errors.PreconditionFailed,
            errors.NoSpace,
            errors.MetadataUnavailable,
            errors.ChecksumMismatch,
            errors.EmptyObject,
            errors.VersionUnknown,
        ],
    )
    def test_the_routers_error_is_raised_as_it_was(self, kind: type[PutterError]) -> None:
        body = {
            "code": kind.code,
            "message": "what happened",
            "hint": "what to do",
            "request_id": "a-1",
        }
        exchange, _ = exchange_of(lambda _: as_json(body, kind.http))
        with pytest.raises(kind) as caught:
            exchange.send("GET", "/a")
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == ("what happened", "what to do")
        assert caught.value.request_id == "a-1"

    def test_a_code_of_a_newer_router_falls_back_to_the_http_status(self) -> None:
        error = error_from_answer(404, b'{"code": "newer", "message": "m"}', "fallback")
        assert type(error) is errors.NotFound
        assert (error.message, error.hint) == ("m", "")

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, UsageError),
            (401, errors.NotAuthorised),
            (403, errors.NotAuthorised),
            (404, errors.NotFound),
            (412, errors.PreconditionFailed),
            (413, errors.TooLarge),
            (416, errors.RangeInvalid),
            (500, PutterError),
            (502, Unavailable),
            (503, Unavailable),
            (507, errors.NoSpace),
            (302, PutterError),
        ],
    )
    def test_any_other_body(self, status: int, kind: type[PutterError]) -> None:
        exchange, _ = exchange_of(lambda _: Reply(status, b"<html>", reason="Some Reason"))
        with pytest.raises(kind) as caught:
            exchange.send("GET", "/a")
        assert type(caught.value) is kind
        assert caught.value.message == f"http://h:1 answered {status} Some Reason to GET /a"

    def test_head_has_no_body(self) -> None:
        exchange, _ = exchange_of(lambda _: Reply(404))
        with pytest.raises(errors.NotFound):
            exchange.send("HEAD", "/a")

    def test_of_an_endless_error_not_all_is_read(self) -> None:
        exchange, web = exchange_of(lambda _: Reply(500, b"x" * (ERROR_BYTES_MAX + 1)))
        with pytest.raises(errors.ProtocolError, match="more than"):
            exchange.send("GET", "/a")
        assert web.closed == 1


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "kind", "host", "port"),
        [
            ("http://127.0.0.1:5004", http.client.HTTPConnection, "127.0.0.1", 5004),
            ("http://h", http.client.HTTPConnection, "h", 80),
            ("http://[::1]:5/", http.client.HTTPConnection, "::1", 5),
            ("https://h:1", http.client.HTTPSConnection, "h", 1),
        ],
    )
    def test_good_ones(self, url: str, kind: type, host: str, port: int) -> None:
        connection = connector(url, 1.0)()
        assert type(connection) is kind
        assert (connection.host, connection.port) == (host, port)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "url",
        ["", "h:5004", "127.0.0.1", "ftp://h", "http://", "http://h:x", "http://h/a", "http://h?a"],
    )
    def test_bad_ones(self, url: str) -> None:
        with pytest.raises(UsageError, match="is not the URL of a store"):
            connector(url, 1.0)


def test_nothing_but_this_module_knows_http_client() -> None:
    folder = Path(__file__).parents[4] / "putter" / "client"
    knowing = [path.name for path in folder.glob("*.py") if "http.client\n" in path.read_text()]
    assert knowing == ["http.py"]
