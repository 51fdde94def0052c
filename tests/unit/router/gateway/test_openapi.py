"""The OpenAPI document against the routes that the web door really has."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from aiohttp import web

from common.metrics import Metrics
from common.web import Door, make_application
from common.wire.handshake import Identity
from router.gateway.buckets import BucketRoutes
from router.gateway.cluster import ClusterRoutes
from router.gateway.drain import DrainRoutes
from router.gateway.explain import ExplainRoutes
from router.gateway.files import FileRoutes
from router.gateway.keys import KeyRoutes
from router.gateway.openapi import document
from router.gateway.repair import RepairRoutes

NOBODY = cast("Any", None)
DOCUMENT = document("1.2.3")


def application() -> web.Application:
    made = make_application(Metrics("router"), Door("127.0.0.1", ""), lambda: "")
    FileRoutes(NOBODY, NOBODY, NOBODY, 1000).add_to(made)
    identity = Identity("r", "r")
    ExplainRoutes(NOBODY, NOBODY, NOBODY, NOBODY).add_to(made)
    BucketRoutes(NOBODY, NOBODY, NOBODY).add_to(made)
    KeyRoutes(NOBODY).add_to(made)
    RepairRoutes(NOBODY, NOBODY, NOBODY).add_to(made)
    DrainRoutes(NOBODY, NOBODY, NOBODY, NOBODY).add_to(made)
    ClusterRoutes(NOBODY, NOBODY, NOBODY, NOBODY, identity, "", lambda: 0).add_to(made)
    return made


def routes() -> set[tuple[str, str]]:
    """``(method, path)``, with the names that the document uses for the parts of a name."""
    found = set()
    for route in application().router.routes():
        assert route.resource is not None
        path = route.resource.canonical.replace("{name}", "{bucket}/{key}")
        # aiohttp adds HEAD to every GET; the document names it where it is of use.
        if route.method != "HEAD" or path.startswith("/file/"):
            found.add((route.method, path))
    return found


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    verbs = {"get", "head", "put", "delete", "post", "patch", "options"}
    return {
        (verb.upper(), path): operation
        for path, item in DOCUMENT["paths"].items()
        for verb, operation in item.items()
        if verb in verbs
    }


def test_it_names_exactly_the_routes() -> None:
    assert set(operations()) == routes()


def test_it_is_json_of_version_3_1_and_of_this_release() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_parameter_of_a_path_is_described() -> None:
    for path, item in DOCUMENT["paths"].items():
        described = {p["name"]: p for p in item.get("parameters", ()) if p["in"] == "path"}
        assert set(described) == set(re.findall(r"{(\w+)}", path))
        assert all(p["required"] and p["schema"] for p in described.values())


@pytest.mark.parametrize("operation", operations().values(), ids=map(str, operations()))
def test_every_operation_says_what_it_does_and_answers(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["responses"]
    for status, answer in operation["responses"].items():
        assert 200 <= int(status) < 600
        assert answer["description"]
        if int(status) >= 400:
            schema = answer["content"]["application/json"]["schema"]
            assert schema["required"] == ["code", "message", "hint", "request_id"]


def test_only_put_has_a_body() -> None:
    with_body = {
        verb for (verb, _), operation in operations().items() if "requestBody" in operation
    }
    assert with_body == {"PUT"}
