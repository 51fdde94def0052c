"""Settings: where a value comes from, which values are refused, and what the refusal says."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from common import limits
from common.errors import SettingInvalid
from common.settings import (
    FIELDS,
    Settings,
    allowed,
    description,
    flag_of,
    markdown,
    shown,
    variable_of,
)
from common.settings_load import load, unknown_variables

GOOD = {
    "host": "0.0.0.0",
    "advertise_host": "node-7",
    "data_dir": "/srv/putter",
    "key_file": "/etc/cluster.key",
    "token": "s3cret",
    "s3_domain": "s3.example.com",
    "s3_website_domain": "web.example.com",
    "redis": "redis://h:6379/0",
    "nodes": "a:5000,b:5000",
    "notify_targets": "hook=https://t0ken@h/,log=redis:?stream=told",
    "zone": "rack-7",
    "compress": "zstd",
    "scrub_bytes_per_s": "1000000",
    "repair_bytes_per_s": "2000000",
    "audit_period_hours": "6",
    "lifecycle_period_s": "3600",
    "replace_after_s": "600",
    "rebalance_percent": "25",
    "scrub_period_days": "30",
    "encrypt": "on",
    "storage": "memory",
    "local_reads": "off",
    "rebuild": "auto",
    "consistency": "strict",
    "log_format": "json",
    "log_level": "debug",
    "replicas": "3",
    "write_quorum": "3",
    "read_quorum": "2",
    "stale_reads_s": "60",
    "frame_bytes": "1458",
    "connections_max": "7",
    "workers": "4",
    "tls_cert": "/etc/putter/node.pem",
    "tls_key": "/etc/putter/node.key",
    "tls_ca": "/etc/putter/ca.pem",
    "connections_per_address": "3",
}


_TLS = ("tls_cert", "tls_key", "tls_ca")
TOGETHER: dict[str, dict[str, object]] = {
    "write_quorum": {"replicas": 3},
    **{name: {other: GOOD[other] for other in _TLS if other != name} for name in _TLS},
}
"""What a setting cannot do without."""


def test_nothing_given_gives_the_defaults() -> None:
    settings = load({}, {})
    assert settings == Settings()
    assert (settings.ingest_port, settings.frame_bytes, settings.replicas) == (5001, 65536, 2)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_reads_from_flag_variable_and_file_alike(name: str) -> None:
    text = GOOD.get(name, "1234")
    quoted = text if text.isdigit() else f'"{text}"'
    base = TOGETHER.get(name, {})
    from_flag = load({**base, name: text}, {})
    from_variable = load(base, {variable_of(name): text})
    from_file = load(base, {}, f"{name} = {quoted}")
    assert from_flag == from_variable == from_file
    assert getattr(from_flag, name) != FIELDS[name].default


def test_flag_wins_over_variable_over_file_over_default() -> None:
    flags: dict[str, object] = {"ingest_port": 1}
    environ = {"PUTTER_INGEST_PORT": "2", "PUTTER_ACK_PORT": "2"}
    file = "ingest_port = 3\nack_port = 3\nweb_port = 3"
    settings = load({**flags, "web_port": None}, environ, file)
    assert (settings.ingest_port, settings.ack_port, settings.web_port) == (1, 2, 3)
    assert settings.putter_port == 5000


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({}, {"PUTTER_TOKEN": "", "REDIS_HOSTPORT": ""}) == Settings()


def test_redis_by_host_and_port_stands_behind_its_url() -> None:
    assert load({}, {"REDIS_HOSTPORT": "h:1"}).redis == "redis://h:1"
    both = {"REDIS_HOSTPORT": "h:1", "PUTTER_REDIS": "unix:///run/valkey.sock"}
    assert load({}, both).redis == "unix:///run/valkey.sock"
    assert load({}, {"REDIS_HOSTPORT": "h:1"}, 'redis = "redis://file"').redis == "redis://h:1"


def test_targets_of_events_are_a_list_by_commas_and_nothing_tells_their_secrets() -> None:
    pairs = ("hook=https://t0ken@h/", "log=redis:?stream=told")
    settings = load({"notify_targets": ",".join(pairs)}, {})
    assert settings.notify_targets == pairs
    assert "t0ken" not in repr(settings)
    for wrong in ("https://t0ken@h/", "hook=t0ken", "hook=https://t0ken@h/,hook=http://h"):
        with pytest.raises(SettingInvalid, match="environment variable") as caught:
            load({}, {"PUTTER_NOTIFY_TARGETS": wrong})
        assert "t0ken" not in str(caught.value) + str(caught.value.hint)


def test_nodes_are_a_list_by_commas_or_of_the_file() -> None:
    expected = ("a:1", "[::1]:2")
    assert load({"nodes": "a:1, [::1]:2,"}, {}).nodes == expected
    assert load({}, {}, 'nodes = ["a:1", "[::1]:2"]').nodes == expected


def test_the_file_may_be_a_path(tmp_path: Path) -> None:
    path = tmp_path / "putter.toml"
    path.write_text("replicas = 4")
    assert load({}, {}, path).replicas == 4


def test_a_quorum_that_is_not_given_follows_the_replicas() -> None:
    assert load({"replicas": 1}, {}).write_quorum == 1
    assert load({"replicas": 5}, {}).write_quorum == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ingest_port", "65536"),
        ("ingest_port", "-1"),
        ("ingest_port", "http"),
        ("ingest_port", "1.5"),
        ("frame_bytes", str(limits.FRAME_DATA_BYTES_MIN - 1)),
        ("frame_bytes", str(limits.FRAME_DATA_BYTES_MAX + 1)),
        ("replicas", "0"),
        ("replicas", "9"),
        ("write_quorum", "0"),
        ("storage", "segment"),
        ("storage", "TREE"),
        ("consistency", "eventual"),
        ("log_level", "loud"),
        ("grace_ms", "-1"),
        ("write_timeout_ms", "0"),
        ("connections_max", str(limits.CONNECTIONS_MAX + 1)),
        ("host", "a b"),
        ("zone", "rack 7"),
        ("token", "a b"),
    ],
)
def test_a_bad_value_says_where_it_came_from_and_what_is_allowed(name: str, value: str) -> None:
    places = {
        f"flag {flag_of(name)}": ({name: value}, {}),
        f"environment variable {variable_of(name)}": ({}, {variable_of(name): value}),
    }
    for place, (flags, environ) in places.items():
        with pytest.raises(SettingInvalid) as caught:
            load(flags, environ)
        assert caught.value.message.startswith(place + ": ")
        assert caught.value.message.endswith(f"{name} takes {allowed(name)}")


@pytest.mark.parametrize(
    "line",
    ['ingest_port = "5001"', "ingest_port = 5001.5", "data_dir = 5", "nodes = [1]", "host = ''"],
)
def test_the_file_has_types_of_its_own(line: str) -> None:
    with pytest.raises(SettingInvalid, match=r"putter\.toml, \w+: "):
        load({}, {}, line)


@pytest.mark.parametrize("flags", [{"host": ""}, {"data_dir": ""}, {"key_file": ""}])
def test_an_empty_flag_is_no_value(flags: dict[str, object]) -> None:
    with pytest.raises(SettingInvalid, match="flag --"):
        load(flags, {})


@pytest.mark.parametrize("node", ["a", "a:", ":1", "a:0", "a:65536", "a:x", "a:+1"])
def test_nodes_are_host_and_port(node: str) -> None:
    with pytest.raises(SettingInvalid, match="is not host:port"):
        load({"nodes": f"ok:1,{node}"}, {})


def test_a_node_is_named_once() -> None:
    with pytest.raises(SettingInvalid, match="named twice"):
        load({"nodes": "a:1,b:1,a:1"}, {})


def test_a_bad_redis_address_names_its_variable() -> None:
    with pytest.raises(SettingInvalid, match="environment variable REDIS_HOSTPORT: 'h'"):
        load({}, {"REDIS_HOSTPORT": "h"})


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://u:p@h:1/2",
        "unix:///run/redis.sock",
        "redis+sentinel://h:26379/name",
        "redis+cluster://h:1,i:1",
    ],
)
def test_redis_urls(url: str) -> None:
    assert load({"redis": url}, {}).redis == url


@pytest.mark.parametrize("url", ["h:6379", "http://h", "redis://", "h"])
def test_what_is_no_redis_url(url: str) -> None:
    with pytest.raises(SettingInvalid, match="redis://") as caught:
        load({"redis": url}, {})
    assert "REDIS_HOSTPORT" in caught.value.hint


def test_a_name_in_the_file_that_is_no_setting() -> None:
    with pytest.raises(SettingInvalid, match=r"'replica' is not a setting.*mean replicas\?"):
        load({}, {}, "replica = 2")
    with pytest.raises(SettingInvalid, match=r"'xyzzy' is not a setting$"):
        load({}, {}, "xyzzy = 2")


def test_a_table_in_the_file_is_no_setting() -> None:
    with pytest.raises(SettingInvalid, match="'router' is not a setting"):
        load({}, {}, "[router]\nreplicas = 2")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="No such file"):
        load({}, {}, tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"a = \xff")
    with pytest.raises(SettingInvalid, match="is not TOML"):
        load({}, {}, bad)
    with pytest.raises(SettingInvalid, match="is not TOML"):
        load({}, {}, "replicas = ")


def test_a_flag_of_no_setting() -> None:
    with pytest.raises(SettingInvalid, match="--no-such-thing"):
        load({"no_such_thing": 1}, {})


def test_relations_name_the_places_of_both_values() -> None:
    with pytest.raises(SettingInvalid) as caught:
        load({"write_quorum": 3}, {"PUTTER_REPLICAS": "2"})
    assert caught.value.message == (
        "write_quorum 3 is more than replicas 2 "
        "(flag --write-quorum; environment variable PUTTER_REPLICAS)"
    )
    for api in ("web.example", "s3.Web.example"):
        with pytest.raises(SettingInvalid, match=r"is below, s3_website_domain web\.example"):
            load({"s3_website_domain": "web.example", "s3_domain": api}, {})
    assert load({"s3_website_domain": "web.s3.example", "s3_domain": "s3.example"}, {})
    with pytest.raises(SettingInvalid, match=r"ingest_port and ack_port are both 5002 .*default"):
        load({"ingest_port": 5002}, {})


def test_no_more_replicas_are_verified_than_there_are() -> None:
    with pytest.raises(SettingInvalid, match=r"read_quorum 3 is more than replicas 2 .*default of"):
        load({"read_quorum": 3}, {})
    assert load({"read_quorum": 2}, {}).read_quorum == 2


def test_relations_hold_for_settings_made_in_code_too() -> None:
    with pytest.raises(SettingInvalid, match="more than replicas"):
        Settings(replicas=1)
    assert Settings(replicas=1, write_quorum=1).replicas == 1


def test_any_number_of_ports_may_be_free_ones() -> None:
    settings = load({name: 0 for name in FIELDS if name.endswith("_port")}, {})
    assert settings.ingest_port == settings.ack_port == settings.web_port == 0


def test_unknown_variables_are_warned_of() -> None:
    environ = {"PUTTER_INGST_PORT": "1", "PUTTER_INGEST_PORT": "1", "PUTTER_URL": "x", "HOME": "/"}
    assert unknown_variables(environ) == [
        "environment variable PUTTER_INGST_PORT is not a setting; did you mean PUTTER_INGEST_PORT?"
    ]


def test_secrets_stay_out_of_messages_and_representations() -> None:
    with pytest.raises(SettingInvalid) as caught:
        load({"token": "my secret"}, {})
    assert "my secret" not in caught.value.message
    with pytest.raises(SettingInvalid) as caught:
        load({"redis": "http://user:pass@h"}, {})
    assert "pass" not in caught.value.message
    text = repr(Settings(token="abcdef", redis="redis://user:pass@h:1/0"))
    assert "abcdef" not in text
    assert "pass" not in text
    assert "redis='redis://***@h:1/0'" in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("token", None, "None"),
        ("token", "x", "***"),
        ("redis", "user:pw@h:1", "'***@h:1'"),
        ("redis", "redis://h:1", "'redis://h:1'"),
        ("data_dir", Path("/x"), "'/x'"),
        ("nodes", ("a:1",), "('a:1',)"),
    ],
)
def test_shown(name: str, value: object, text: str) -> None:
    assert shown(name, value) == text


def test_directories_and_key_lie_in_the_data_directory() -> None:
    settings = Settings(data_dir=Path("/srv/p"))
    assert settings.key_path == Path("/srv/p/cluster.key")
    assert settings.putter_dir == Path("/srv/p/putter")
    assert settings.redis_dir == Path("/srv/p/redis")
    assert Settings(key_file=Path("/etc/k")).key_path == Path("/etc/k")


def test_the_advertised_host() -> None:
    assert Settings().advertised_host == "127.0.0.1"
    assert Settings(host="10.0.0.1").advertised_host == "10.0.0.1"
    assert Settings(host="0.0.0.0", advertise_host="n7").advertised_host == "n7"
    assert Settings(host="0.0.0.0").advertised_host == socket.gethostname()
    assert Settings(host="::").advertised_host == socket.gethostname()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("node-7", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback is loopback


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_described_in_the_table(name: str) -> None:
    assert description(name)
    row = next(line for line in markdown().splitlines() if line.startswith(f"| `{name}` |"))
    assert row.count(" | ") == 5
    assert flag_of(name) in row
    assert description(name) in row


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ingest_port", "0…65535"),
        ("storage", "segments, tree or memory"),
        ("log_level", "debug, info, warning or error"),
        ("reserve_bytes", "0 or more"),
        ("data_dir", "a path"),
        ("key_file", "a path"),
        ("token", "text without spaces"),
        ("nodes", "a list of host:port"),
    ],
)
def test_allowed(name: str, text: str) -> None:
    assert allowed(name) == text
