"""What every web port of ours has: health, readiness, metrics, and errors as JSON."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final, Protocol, cast

import msgspec
from aiohttp import web

from common.errors import NotAuthorised, ProtocolError, PutterError, Unavailable
from common.keys import Keyring
from common.logs import get_logger
from common.metrics import Metrics
from common.requests import REQUEST_ID_HEADER, bind_request, current_request, new_request_id

_log = get_logger(__name__)
HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Asked by supervisors: open to everybody, also while the port is full."""
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Connection(Protocol):
    """Where a request came from (`common.web_port.WebConnection`)."""

    def check(self, path: str) -> None:
        """Let a request in.

        Raises:
            Unavailable: this connection may not ask for that.
        """
        ...


class HostRefused(NotAuthorised):
    """The Host header names something else than this machine (DNS rebinding)."""

    code = "host"
    http = 403


def json_response(value: object, status: int = 200, **headers: str) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=msgspec.json.encode(value) + b"\n",
        status=status,
        content_type="application/json",
        headers=headers,
    )


def error_response(error: PutterError, request_id: str | None = None) -> web.Response:
    """The JSON form of an error: ``{code, message, hint, request_id}``.

    Args:
        error: what to tell.
        request_id: of the request; that of this task if None.
    """
    body = {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "request_id": current_request() if request_id is None else request_id,
    }
    headers = {}
    if error.http == NotAuthorised.http:
        headers["WWW-Authenticate"] = 'Bearer realm="data-putter"'
    if error.http == Unavailable.http:
        headers["Retry-After"] = "1"
    return json_response(body, error.http, **headers)


def bare_answer(error: PutterError) -> bytes:
    """The bytes of an error that is the last answer on a connection."""
    request_id = new_request_id()  # bound to nothing: this is no task of its own
    answer = error_response(error, request_id)
    body = answer.body
    assert isinstance(body, bytes)
    headers = dict(answer.headers) | {"Content-Length": str(len(body)), "Connection": "close"}
    headers[REQUEST_ID_HEADER] = request_id
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def speak_tls() -> bytes:
    """What a client is told that speaks in plain to a port with TLS."""
    return bare_answer(
        ProtocolError("this port speaks TLS", hint="use https:// in place of http://")
    )


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether an address or name can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Door:
    """Who may come in: on loopback everybody with an honest Host header, elsewhere by token.

    Args:
        listens_on: the address that the port listens on.
        token: the bearer token; "": those that are derived from the cluster keys.
        keyring: the cluster keys; while one takes the place of another, the tokens of both count.
    """

    def __init__(self, listens_on: str, token: str, keyring: Keyring | None = None) -> None:
        self.loopback: Final = is_loopback(listens_on)
        self._token = token
        self._keyring = keyring

    async def admit(self, request: web.Request) -> None:
        """Let a request in.

        Raises:
            PutterError: as `check`.
        """
        self.check(request.headers)

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Hold the Host header to where the port listens.

        Raises:
            HostRefused: on loopback, a Host that is not this machine.
        """
        if not self.loopback:
            return
        host = headers.get("Host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if not is_loopback(name):
            raise HostRefused(
                f"the Host header names {host[:80]!r}",
                hint="use http://127.0.0.1 or http://localhost",
            )

    def check(self, headers: Mapping[str, str]) -> None:
        """Let a request in.

        Raises:
            HostRefused: on loopback, a Host that is not this machine.
            NotAuthorised: elsewhere, no token or a wrong one.
        """
        self.check_host(headers)
        if self.loopback:
            return
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._knows(given.strip().encode(errors="replace")):
            raise NotAuthorised(
                "this address asks for a bearer token",
                hint="`putter keys token` prints it where the cluster key is",
            )

    def _knows(self, given: bytes) -> bool:
        tokens = [self._token] if self._token else []
        if not tokens and self._keyring is not None:
            tokens = [key.token for key in self._keyring.keys]
        return any(hmac.compare_digest(given, token.encode()) for token in tokens)


def unexpected(error: Exception, path: str) -> web.Response:
    """The answer where our code failed; must be called while the error is handled."""
    _log.exception("a request failed unexpectedly", path=path)
    return error_response(PutterError(f"internal error: {type(error).__name__}"))


def note_failure(error: PutterError, path: str) -> None:
    """Log that a request was answered with an error that is no mistake of the client."""
    if error.http >= PutterError.http:
        _log.info("a request failed", path=path, code=error.code, reason=error.message)


def count_answer(metrics: Metrics, method: str, status: int, started_s: float) -> None:
    """Count an answered request.

    Args:
        metrics: where to.
        method: of the request.
        status: of the answer.
        started_s: `time.perf_counter` when the request was there.
    """
    known = method if method in _METHODS else "other"
    metrics.child(metrics.requests, known, str(status)).inc()
    metrics.child(metrics.request_seconds, known).observe(time.perf_counter() - started_s)


class Vitals(Protocol):
    """What ``/readyz`` and ``/metrics`` tell where one process answers for several."""

    async def trouble(self) -> str:
        """Why the work cannot be done; "" if it can."""
        ...

    async def metrics(self) -> bytes:
        """In the text format of Prometheus."""
        ...


class _Own:
    """The vitals of this process alone."""

    def __init__(self, metrics: Metrics, is_ready: Callable[[], str]) -> None:
        self._metrics = metrics
        self._is_ready = is_ready

    async def trouble(self) -> str:
        return self._is_ready()

    async def metrics(self) -> bytes:
        return self._metrics.render()


def make_application(
    metrics: Metrics, door: Door, is_ready: Callable[[], str], vitals: Vitals | None = None
) -> web.Application:
    """An application with ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        metrics: requests are counted there.
        door: lets requests in.
        is_ready: "" if this process can do its work, else the reason why not.
        vitals: what is told instead of this process's own readiness and metrics.
    """
    told = vitals or _Own(metrics, is_ready)

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        bind_request(request.headers.get(REQUEST_ID_HEADER))
        try:
            if request.path not in HEALTH_PATHS:
                cast("Connection", request.protocol).check(request.path)
                await door.admit(request)
            response = await handler(request)
        except PutterError as error:
            note_failure(error, request.path)
            response = error_response(error)
        except web.HTTPException as error:
            response = error_response(_translated(error))
            response.set_status(error.status)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the client gets an answer, the log the trace
            response = unexpected(error, request.path)
        count_answer(metrics, request.method, response.status, started)
        return response

    async def healthz(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.StreamResponse:
        reason = await told.trouble()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def show_metrics(_: web.Request) -> web.StreamResponse:
        return web.Response(body=await told.metrics(), headers={"Content-Type": _METRICS_TYPE})

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers[REQUEST_ID_HEADER] = current_request()

    application = web.Application(middlewares=[outermost])
    application.on_response_prepare.append(sign)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", show_metrics)
    return application


_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


def _translated(error: web.HTTPException) -> PutterError:
    text = error.reason or "refused"
    translated = PutterError(text)
    translated.code = text.lower().replace(" ", "-")  # type: ignore[misc]
    translated.http = error.status  # type: ignore[misc]
    return translated
