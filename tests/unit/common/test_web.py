"""What every web port has: who may come in, health, readiness, metrics, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from common.errors import (
    MetadataUnavailable,
    NotAuthorised,
    NotFound,
    PutterError,
    RangeInvalid,
    ShuttingDown,
)
from common.keys import ClusterKey, Keyring
from common.metrics import Metrics
from common.web import (
    Door,
    HostRefused,
    error_response,
    is_loopback,
    json_response,
    make_application,
)

TOKEN = "0123456789abcdef" * 4


@dataclass
class Site:
    """An application without a socket."""

    door: Door
    reason: str = ""
    metrics: Metrics = field(default_factory=lambda: Metrics("putter"))
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.application = make_application(self.metrics, self.door, lambda: self.reason)
        self.application.router.add_get("/work", self._work)
        self.application.freeze()

    async def _work(self, _: web.Request) -> web.StreamResponse:
        if self.error is not None:
            raise self.error
        return json_response({"done": True})

    async def ask(self, path: str, method: str = "GET", **headers: str) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = make_mocked_request(method, path, named, app=self.application)
        response = await self.application._handle(request)
        assert isinstance(response, web.Response)
        return response


def told(response: web.Response) -> Any:
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def text(response: web.Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


@pytest.fixture
def site() -> Site:
    return Site(Door("127.0.0.1", TOKEN))


@pytest.fixture
def far_site() -> Site:
    return Site(Door("0.0.0.0", TOKEN))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "localhost", "LOCALHOST", "::1", "[::1]"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.test", "127.0.0.1.evil.test", "evil"]
)
def test_names_of_others(host: str) -> None:
    assert not is_loopback(host)


class TestOnLoopback:
    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1", "127.0.0.1:5004", "localhost", "localhost:5004", "[::1]", "[::1]:5004"],
    )
    async def test_this_machine_may_come_in_without_a_token(self, site: Site, host: str) -> None:
        assert (await site.ask("/work", Host=host)).status == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.test",
            "evil.test:5004",
            "localhost.evil.test",
            "127.0.0.1.evil.test:5004",
            "10.0.0.1:5004",
            "[2001:db8::1]:5004",
            "evil.test:127.0.0.1",
            ":5004",
            "",
        ],
    )
    async def test_a_page_of_somebody_else_may_not(self, site: Site, host: str) -> None:
        """DNS rebinding: its name leads here, but the browser says the name."""
        response = await site.ask("/work", Host=host)
        assert response.status == 403
        assert told(response)["code"] == "host"
        assert "http://127.0.0.1" in told(response)["hint"]
        assert (await site.ask("/metrics", Host=host)).status == 403

    async def test_not_even_with_the_token(self, site: Site) -> None:
        bearer = f"Bearer {TOKEN}"
        assert (await site.ask("/work", Host="evil.test", Authorization=bearer)).status == 403

    async def test_no_host_at_all(self, site: Site) -> None:
        assert (await site.ask("/work")).status == 403


class TestElsewhere:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_the_token_opens(self, far_site: Site, scheme: str) -> None:
        response = await far_site.ask("/work", Host="store", Authorization=f"{scheme} {TOKEN}")
        assert response.status == 200

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "Bearer",
            "Bearer ",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}0",
            f"Bearer {TOKEN.upper()}",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN} {TOKEN}",
            "Bearer schlüssel",
        ],
    )
    async def test_nothing_else_does(self, far_site: Site, given: str) -> None:
        response = await far_site.ask("/work", Host="localhost", Authorization=given)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert told(response)["code"] == "not-authorised"
        assert TOKEN not in text(response)
        assert (await far_site.ask("/metrics", Authorization=given)).status == 401

    async def test_no_header_at_all(self, far_site: Site) -> None:
        assert (await far_site.ask("/work")).status == 401

    def test_errors_of_the_door_are_refusals(self) -> None:
        with pytest.raises(HostRefused):
            Door("localhost", TOKEN).check({"Host": "evil"})
        with pytest.raises(NotAuthorised):
            Door("10.0.0.1", TOKEN).check({})


def test_the_tokens_of_all_cluster_keys_count_while_one_takes_the_place_of_another() -> None:
    def lets_in(token: str) -> bool:
        try:
            door.check({"Authorization": f"Bearer {token}"})
        except NotAuthorised:
            return False
        return True

    old, new = (ClusterKey.from_material(bytes([n]) * 32) for n in (1, 2))
    ring = Keyring([old])
    door = Door("10.0.0.1", "", ring)
    assert [lets_in(each.token) for each in (old, new)] == [True, False]
    ring.replace(Keyring([new, old]))
    assert [lets_in(each.token) for each in (old, new)] == [True, True]
    ring.replace(Keyring([new]))
    assert [lets_in(each.token) for each in (old, new)] == [False, True]
    assert not lets_in("")
    door = Door("10.0.0.1", TOKEN, ring)
    assert [lets_in(each) for each in (TOKEN, new.token)] == [True, False]


class TestHealth:
    @pytest.mark.parametrize("which", ["site", "far_site"])
    async def test_probes_need_neither_host_nor_token(
        self, request: pytest.FixtureRequest, which: str
    ) -> None:
        site: Site = request.getfixturevalue(which)
        for path in ("/healthz", "/readyz"):
            assert (await site.ask(path, Host="10.1.2.3:8080")).status == 200

    async def test_readiness_says_why_not(self, site: Site) -> None:
        assert text(await site.ask("/readyz")) == "ready\n"
        site.reason = "Redis does not answer"
        response = await site.ask("/readyz")
        assert (response.status, text(response)) == (503, "Redis does not answer\n")
        assert (await site.ask("/healthz")).status == 200, "alive all the same"

    async def test_metrics_count_requests(self, site: Site) -> None:
        await site.ask("/work", Host="localhost")
        await site.ask("/nowhere", Host="localhost")
        await site.ask("/work", Host="evil.test")
        shown = await site.ask("/metrics", Host="localhost")
        assert shown.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = text(shown).splitlines()
        for status in (200, 404, 403):
            assert f'putter_requests_total{{method="GET",status="{status}"}} 1.0' in lines

    async def test_strange_methods_do_not_multiply_metrics(self, site: Site) -> None:
        for number in range(5):
            await site.ask("/work", f"BREW{number}", Host="localhost")
        lines = text(await site.ask("/metrics", Host="localhost"))
        assert 'putter_requests_total{method="other",status="405"} 5.0' in lines
        assert "BREW" not in lines


class TestErrors:
    @pytest.mark.parametrize(
        "error",
        [
            NotFound("there is no file photos/cat", hint="`putter ls photos` lists them"),
            RangeInvalid("bytes 9-9 of 5"),
            MetadataUnavailable("Redis gave no answer"),
        ],
    )
    async def test_ours_are_json_with_their_own_status(
        self, site: Site, error: PutterError
    ) -> None:
        site.error = error
        response = await site.ask("/work", Host="localhost", X_Request_Id="of-the-client")
        assert response.status == error.http
        assert told(response) == {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "request_id": "of-the-client",
        }

    def test_who_may_come_again_is_told_when(self) -> None:
        assert error_response(ShuttingDown("stopping")).headers["Retry-After"] == "1"
        assert "Retry-After" not in error_response(NotFound("no")).headers
        assert "WWW-Authenticate" not in error_response(HostRefused("no")).headers

    async def test_those_of_the_framework_look_alike(self, site: Site) -> None:
        response = await site.ask("/nowhere", Host="localhost")
        assert (response.status, told(response)["code"]) == (404, "not-found")
        response = await site.ask("/work", "PATCH", Host="localhost")
        assert (response.status, told(response)["code"]) == (405, "method-not-allowed")

    async def test_one_error_does_not_change_the_next(self, site: Site) -> None:
        await site.ask("/nowhere", Host="localhost")
        response = error_response(PutterError("plain"))
        assert (response.status, told(response)["code"]) == (500, "error")

    async def test_a_mistake_of_ours_tells_its_kind_and_no_more(self, site: Site) -> None:
        site.error = ValueError("the secret is 42")
        response = await site.ask("/work", Host="localhost")
        assert response.status == 500
        assert told(response)["message"] == "internal error: ValueError"
        assert "42" not in text(response).partition("request_id")[0]

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), ConnectionResetError()])
    async def test_a_client_that_went_away_is_no_error(
        self, site: Site, error: BaseException
    ) -> None:
        site.error = error
        with pytest.raises(type(error)):
            await site.ask("/work", Host="localhost")


def test_json_ends_with_a_line() -> None:
    response = json_response({"a": 1}, 201, ETag='"e"')
    assert (response.status, response.headers["ETag"]) == (201, '"e"')
    assert response.body == b'{"a":1}\n'
