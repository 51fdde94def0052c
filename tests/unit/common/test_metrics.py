"""Metrics: what is declared, described and rendered."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.metrics import CONTENT_TYPE, Metrics
from common.wire.status import Status


def families(metrics: Metrics) -> dict[str, float]:
    """Every sample with its labels, as it would be scraped."""
    text = metrics.render().decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("role", ["router", "putter"])
def test_what_is_rendered_can_be_scraped(role: str) -> None:
    metrics = Metrics(role)  # type: ignore[arg-type]
    assert families(metrics)[f"putter_info[('role', '{role}')]"] == 1
    assert CONTENT_TYPE.startswith("text/plain")


def test_processes_do_not_share_numbers() -> None:
    one, other = Metrics("router"), Metrics("router")
    one.objects_written.inc(3)
    assert families(one)["putter_objects_written_total[]"] == 3
    assert families(other)["putter_objects_written_total[]"] == 0


def test_the_names_that_were_promised() -> None:
    metrics = Metrics("router")
    metrics.ingest_bytes.labels("5001").inc(1458)
    metrics.objects_failed.labels("reset").inc()
    metrics.acks_ignored.labels("not in flight").inc(2)
    metrics.frames_resent.inc(4)
    metrics.link_up.labels("N1").set(1)
    metrics.inflight_bytes.labels("N1").set(5)
    metrics.connections.labels("5001").set(6)
    metrics.group_commit_seconds.observe(0.001)
    metrics.stored_bytes.inc(7)
    metrics.fsyncs.inc(8)
    metrics.refused.labels("5001", "full").inc(9)
    samples = families(metrics)
    assert samples["putter_ingest_bytes_total[('port', '5001')]"] == 1458
    assert samples["putter_objects_failed_total[('code', 'reset')]"] == 1
    assert samples["putter_acks_ignored_total[('reason', 'not in flight')]"] == 2
    assert samples["putter_frames_resent_total[]"] == 4
    assert samples["putter_link_up[('node', 'N1')]"] == 1
    assert samples["putter_inflight_bytes[('node', 'N1')]"] == 5
    assert samples["putter_connections[('port', '5001')]"] == 6
    assert samples["putter_group_commit_seconds_count[]"] == 1
    assert samples["putter_stored_bytes_total[]"] == 7
    assert samples["putter_fsync_total[]"] == 8
    assert samples["putter_refused_total[('port', '5001'), ('reason', 'full')]"] == 9


def test_acks_are_counted_by_the_batch_under_the_names_of_their_status() -> None:
    metrics = Metrics("router")
    metrics.count_acks({Status.WRITTEN: 100, Status.NO_SPACE: 2})
    metrics.count_acks({Status.WRITTEN: 50, 99: 1, 100: 1})
    samples = families(metrics)
    assert samples["putter_acks_total[('status', 'written')]"] == 150
    assert samples["putter_acks_total[('status', 'no_space')]"] == 2
    assert samples["putter_acks_total[('status', 'unknown')]"] == 2


def test_a_child_is_the_one_that_the_library_gives() -> None:
    metrics = Metrics("router")
    for _ in range(2):
        metrics.child(metrics.requests, "GET", "200").inc()
        metrics.child(metrics.request_seconds, "GET").observe(0.5)
    metrics.requests.labels("GET", "200").inc()
    samples = families(metrics)
    assert samples["putter_requests_total[('method', 'GET'), ('status', '200')]"] == 3
    assert samples["putter_request_seconds_count[('method', 'GET')]"] == 2


def test_every_metric_is_an_attribute_that_the_class_describes() -> None:
    attributes = {n for n in vars(Metrics("router")) if n != "role" and not n.startswith("_")}
    assert Metrics.__doc__ is not None
    described = set(re.findall(r"^        (\w+): ", Metrics.__doc__, re.MULTILINE))
    assert described == attributes
