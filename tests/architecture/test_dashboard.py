"""The Grafana dashboard asks for metrics that exist, and is told of in the documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

from common.metrics import Metrics

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "docs" / "grafana" / "data-putter.json"


def asked() -> set[str]:
    """The metrics that the panels ask for."""
    panels = json.loads(BOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    return set(re.findall(r"\bputter_\w+", " ".join(expressions)))


def test_every_metric_exists() -> None:
    exists: set[str] = set()
    for family in Metrics("router").registry.collect():
        exists |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    assert asked() <= exists
    assert len(asked()) > 15


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = json.loads(BOARD.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)


def test_the_documents_name_it() -> None:
    assert "grafana/data-putter.json" in (ROOT / "docs" / "howto" / "operate.md").read_text()
