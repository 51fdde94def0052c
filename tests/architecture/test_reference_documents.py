"""The pages of errors, metrics and REST name what the code has, all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from common import errors
from common.errors import PutterError
from common.metrics import Metrics
from router.gateway.openapi import document

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def kinds(base: type[PutterError]) -> Iterator[type[PutterError]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


def test_errors() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| `(\w+)` \| (\d) \| (\d+) \| (\d) \|", page("errors.md"), re.MULTILINE
    )
    expected = {
        (kind.code, kind.__name__, str(int(kind.status)), str(kind.http), str(kind.exit))
        for kind in kinds(PutterError)
    }
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_metrics() -> None:
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in Metrics("router").registry.collect()
        if family.name.startswith("putter_")
    }
    rows = re.findall(r"^\| `(putter_\w+)` \| (\w+) \|", page("metrics.md"), re.MULTILINE)
    assert dict(rows) == families


def test_rest() -> None:
    told = set(re.findall(r"`([A-Z]+) (/[^`?]*)`", page("rest.md")))
    paths = document("0")["paths"]
    expected = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if method != "parameters"
    }
    assert told == expected


def test_the_readme_runs_docker_as_its_page_does() -> None:
    section = (ROOT / "README.md").read_text("utf-8").partition("## Docker")[2].partition("## ")[0]
    howto = (ROOT / "docs" / "howto" / "docker.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) > 10
    assert [line for line in lines if line not in howto] == []
