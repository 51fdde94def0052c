"""Metrics of several processes as one text: nothing is lost, nothing is said twice."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from common.metrics import Metrics
from common.metrics_text import merged


def made(written: int, node: str) -> Metrics:
    metrics = Metrics("router")
    metrics.objects_written.inc(written)
    metrics.link_up.labels(node).set(1)
    metrics.write_seconds.observe(0.002)
    return metrics


def test_each_sample_says_whose_it_is() -> None:
    texts = {"0": made(3, "a").render(), "1": made(4, "b").render()}
    families = list(text_string_to_metric_families(merged(texts, "worker").decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "each metric stands in one place"
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["putter_objects_written_total", ("worker", "0")] == 3
    assert samples["putter_objects_written_total", ("worker", "1")] == 4
    assert samples["putter_link_up", ("node", "a"), ("worker", "0")] == 1
    assert samples["putter_link_up", ("node", "b"), ("worker", "1")] == 1
    assert ("putter_link_up", ("node", "a"), ("worker", "1")) not in samples
    alone = list(text_string_to_metric_families(texts["0"].decode()))
    both = {family.name: family for family in families}
    for family in alone:
        assert both[family.name].documentation == family.documentation
        assert both[family.name].type == family.type


def test_labels_with_spaces_and_braces_stay_as_they_are() -> None:
    metrics = Metrics("router")
    metrics.acks_ignored.labels('not "in { flight').inc()
    text = merged({"0": metrics.render()}, "worker").decode()
    [family] = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == "putter_acks_ignored"
    ]
    labels = [s.labels for s in family.samples if s.name.endswith("_total")]
    assert labels == [{"worker": "0", "reason": 'not "in { flight'}]


def test_a_metric_that_only_one_has_is_there() -> None:
    first = b"# HELP a x\n# TYPE a gauge\na 1.0\n"
    second = b'# HELP b y\n# TYPE b gauge\nb{c="d"} 2.0\n# HELP a x\n# TYPE a gauge\na 3.0\n'
    assert merged({"0": first, "1": second}, "worker").decode().splitlines() == [
        "# HELP a x",
        "# TYPE a gauge",
        'a{worker="0"} 1.0',
        'a{worker="1"} 3.0',
        "# HELP b y",
        "# TYPE b gauge",
        'b{worker="1",c="d"} 2.0',
    ]
