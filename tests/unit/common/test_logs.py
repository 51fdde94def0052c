"""Logs: one form for every line, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from common import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = logging.getLogger("aiohttp.access").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(quiet)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_has_event_level_logger_time_and_fields() -> None:
    out = io.StringIO()
    logs.configure(form="json", stream=out)
    logs.get_logger("router.links").info("link up", node="N1", raw=b"\xff")
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "link up",
        "level": "info",
        "logger": "router.links",
        "node": "N1",
        "raw": "b'\\xff'",
    }


def test_a_console_line_is_for_people() -> None:
    out = io.StringIO()
    logs.configure(stream=out)
    logs.get_logger("router.links").warning("link down", node="N1")
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "link down" in text
    assert "node=N1" in text
    assert "\x1b" not in text


def test_lines_of_other_libraries_have_the_same_form() -> None:
    out = io.StringIO()
    logs.configure(form="json", stream=out)
    logging.getLogger("aiohttp.server").error("bad request from %s", "::1")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == (
        "bad request from ::1",
        "error",
        "aiohttp.server",
    )


def test_less_important_lines_are_dropped() -> None:
    out = io.StringIO()
    logs.configure(form="json", level="warning", stream=out)
    logs.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    logs.get_logger("a").warning("yes")
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_single_requests_are_no_news() -> None:
    out = io.StringIO()
    logs.configure(form="json", level="info", stream=out)
    logging.getLogger("aiohttp.access").info("GET /")
    assert out.getvalue() == ""


def test_configuring_again_replaces_what_was_there() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = logs.get_logger("a")
    logs.configure(form="json", stream=first)
    logger.info("one")
    logs.configure(form="json", level="error", stream=second)
    logger.info("two")
    logger.error("three")
    assert [line["event"] for line in lines(first)] == ["one"]
    assert [line["event"] for line in lines(second)] == ["three"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_logged_without_local_variables(form: Any) -> None:
    out = io.StringIO()
    logs.configure(form=form, stream=out)

    def fail() -> None:
        material = "very" + "-" + "secret"
        raise ValueError(len(material))

    try:
        fail()
    except ValueError:
        logs.get_logger("a").exception("it failed")
        logging.getLogger("b").exception("it failed")
    text = out.getvalue()
    assert text.count("ValueError") >= 2
    assert "very-secret" not in text


def test_warnings_become_lines() -> None:
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure(form="json", stream=out)
        warnings.warn("old thing", UserWarning, stacklevel=1)
    (line,) = lines(out)
    assert "old thing" in line["event"]
    assert line["logger"] == "py.warnings"


@pytest.mark.parametrize(
    "name",
    ["key", "token", "proof", "secret", "password", "web_token", "Authorization", "X-Auth-Token"],
)
def test_secret_fields_are_masked_wherever_they_lie(name: str) -> None:
    out = io.StringIO()
    logs.configure(form="json", stream=out)
    logs.get_logger("a").info(
        "seen",
        **{name: "hidden"},
        headers={name: "hidden", "host": "shown"},
        pairs=[{name: b"hidden"}],
        nested=({"deep": {name: "hidden"}},),
    )
    text = out.getvalue()
    assert "hidden" not in text
    assert "shown" in text
    assert text.count(logs.MASK) == 4


@pytest.mark.parametrize("name", ["key_id", "keys", "monkey", "tokens_used", "ticket", "keyed"])
def test_other_fields_are_shown(name: str) -> None:
    event = {"event": "seen", name: "value"}
    assert logs.mask_secrets(None, "info", dict(event)) == event


def test_the_absence_of_a_secret_is_shown() -> None:
    assert logs.mask_secrets(None, "info", {"token": None}) == {"token": None}


def test_accounts_in_urls_are_masked_even_in_text() -> None:
    event = logs.mask_secrets(
        None, "info", {"event": "no answer from redis://u:p@h:1/0", "url": "redis://h:1/a@b"}
    )
    assert event == {"event": "no answer from redis://***@h:1/0", "url": "redis://h:1/a@b"}


def test_masking_leaves_the_values_of_the_caller_alone() -> None:
    headers = {"token": "x"}
    logs.mask_secrets(None, "info", {"headers": headers})
    assert headers == {"token": "x"}


class TestRepeats:
    def test_one_a_period_and_the_count_of_the_others(self) -> None:
        repeats = logs.Repeats(period_s=60)
        told = [repeats.due("a", now_s) for now_s in (5.0, 5.0, 30.0, 64.9, 65.0, 66.0, 200.0)]
        assert told == [{}, None, None, None, {"held_back": 3}, None, {"held_back": 1}]

    def test_each_subject_for_itself(self) -> None:
        repeats = logs.Repeats(period_s=60)
        assert [repeats.due(name, 0) for name in "abab"] == [{}, {}, None, None]
        again = [repeats.due(name, 70) for name in "cab"]
        assert again == [{}, {"held_back": 1}, {"held_back": 1}]

    def test_many_subjects_cost_no_more_than_few(self) -> None:
        repeats = logs.Repeats(period_s=60, subjects_max=3)
        for number in range(1000):
            assert repeats.due(str(number), 0) == {}
        assert len(repeats._seen) == 3
        assert repeats.due("999", 1) is None
        assert repeats.due("0", 1) == {}, "forgotten"
