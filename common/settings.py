"""The settings of the router and of the putter: one documented struct.

Where the values come from (flag, environment, ``putter.toml``, default) is the business of
`common.settings_load`; the table in ``docs/reference/settings.md`` is made by `markdown`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from common import limits
from common.errors import SettingInvalid
from common.settings_rules import contradiction as contradiction

SECRETS: Final = frozenset({"notify_targets", "token"})
"""Fields whose values never appear in a message."""

_DAY_MS: Final = 86_400_000
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not bound

_Port = Annotated[int, Meta(ge=0, le=65535)]
_Duration = Annotated[int, Meta(ge=1, le=_DAY_MS)]
_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(pattern=r"^[\x21-\x7e]+$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator may change. Port 0 stands for any free port.

    The fields are documented by their ``Meta`` descriptions, from which
    ``docs/reference/settings.md`` is made.
    """

    host: Annotated[_Text, Meta(description="address that every port listens on")] = "127.0.0.1"
    advertise_host: Annotated[
        _Text | None,
        Meta(
            description="name or address under which the other processes reach this one; without "
            "it the host, or the machine's name where the host stands for all addresses"
        ),
    ] = None
    putter_port: Annotated[_Port, Meta(description="putter: frames in")] = 5000
    ingest_port: Annotated[_Port, Meta(description="router: raw byte streams in")] = 5001
    ack_port: Annotated[_Port, Meta(description="router: acks in")] = 5002
    s3_port: Annotated[_Port, Meta(description="router: S3")] = 5003
    web_port: Annotated[_Port, Meta(description="router: REST, health, metrics")] = 5004
    putter_web_port: Annotated[_Port, Meta(description="putter: health, metrics")] = 5010
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.WORKERS_MAX,
            description="processes of a router that share its ports; more than 1 on Linux only",
        ),
    ] = 1
    data_dir: Annotated[Path, Meta(description="directory of everything that is kept")] = Path(
        "data"
    )
    key_file: Annotated[
        Path | None,
        Meta(description="file of the cluster key; without it `cluster.key` in the data directory"),
    ] = None
    token: Annotated[
        _Text | None,
        Meta(description="bearer token of the web door; without it derived from the cluster key"),
    ] = None
    s3_domain: Annotated[
        _Text | None,
        Meta(
            description="domain under which buckets have host names of their own on the S3 port, "
            "`bucket.domain`; without it they stand in the path alone"
        ),
    ] = None
    s3_website_domain: Annotated[
        _Text | None,
        Meta(description="domain of the websites of buckets on the S3 port; without it none"),
    ] = None
    redis: Annotated[
        _Text | None,
        Meta(
            description="URL of Redis or Valkey (`redis://`, `rediss://`, `unix://`, "
            "`redis+sentinel://`, `redis+cluster://`), or `REDIS_HOSTPORT=host:port`; without it "
            "a router alone starts one of its own"
        ),
    ] = None
    nodes: Annotated[
        tuple[_Text, ...],
        Meta(
            description="addresses `host:port` of the putters, separated by commas; without any "
            "a router alone starts one of its own"
        ),
    ] = ()
    zone: Annotated[
        _Text | None, Meta(description="where a putter stands; replicas prefer different zones")
    ] = None
    storage: Annotated[
        Literal["segments", "tree", "memory"] | None,
        Meta(
            description="engine of a putter: what its data directory holds, `segments` in a new one"
        ),
    ] = None
    frame_bytes: Annotated[
        int,
        Meta(
            ge=limits.FRAME_DATA_BYTES_MIN,
            le=limits.FRAME_DATA_BYTES_MAX,
            description="data bytes of one ticket in new objects",
        ),
    ] = limits.FRAME_DATA_BYTES_DEFAULT
    replicas: Annotated[int, Meta(ge=1, le=8, description="putters that hold each extent (N)")] = 2
    write_quorum: Annotated[
        int,
        Meta(
            ge=1,
            le=8,
            description="putters on which a write is durable before it is answered (W), at most "
            "`replicas`; if it is not given, the smaller of 2 and `replicas`",
        ),
    ] = 2
    read_quorum: Annotated[
        int,
        Meta(
            ge=1,
            le=8,
            description="replicas that are verified before a read gives bytes out (R), at most "
            "`replicas`",
        ),
    ] = 1
    consistency: Annotated[
        Literal["available", "strict"],
        Meta(
            description="with fewer than W putters alive: `available` writes to every live one "
            "and refills later, `strict` refuses; with fewer than R alive of those that hold it: "
            "`available` reads from those that are there, `strict` refuses"
        ),
    ] = "available"
    local_reads: Annotated[
        Literal["on", "off"],
        Meta(
            description="whether a router reads large objects from the files of putters that run "
            "on its machine as its user, instead of asking them for the bytes"
        ),
    ] = "on"
    rebuild: Annotated[
        Literal["auto", "manual"] | None,
        Meta(
            description="what a router does with a Redis that is empty beside putters that hold "
            "data: `auto` restores it as soon as all putters are there, `manual` waits for `putter "
            "rebuild`; without it `manual`, but `auto` with a Redis of its own"
        ),
    ] = None
    write_timeout_ms: Annotated[
        _Duration, Meta(description="how long a write waits for acks before it fails")
    ] = 30_000
    idle_timeout_ms: Annotated[
        _Duration,
        Meta(description="silence of a sender of raw bytes or frames after which it is given up"),
    ] = 60_000
    redis_patience_ms: Annotated[
        _Duration, Meta(description="how long a request waits for Redis before it fails")
    ] = 30_000
    stale_reads_s: Annotated[
        int,
        Meta(
            ge=0,
            le=86_400,
            description="seconds for which reads of a name go on after Redis last confirmed it, "
            "while Redis is away, under `available`; 0: never",
        ),
    ] = limits.STALE_READS_S
    grace_ms: Annotated[
        int,
        Meta(ge=0, le=_DAY_MS, description="time between a deletion and the freeing of its bytes"),
    ] = 60_000
    reserve_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="free disk space that new bytes leave; the layout `segments` leaves "
            "at least 9 MiB, so that a full disk can be emptied",
        ),
    ] = 256 * limits.MIB
    compress: Annotated[
        Literal["off", "zstd"],
        Meta(description="whether a putter compresses what it stores from now on, where it pays"),
    ] = "off"
    encrypt: Annotated[
        Literal["off", "on"],
        Meta(
            description="whether a putter encrypts what it stores from now on, with data keys of "
            "its own that the cluster key wraps"
        ),
    ] = "off"
    scrub_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            description="rate at which a putter verifies its disk in the background; 0: only when "
            "`putter scrub` asks for it",
        ),
    ] = 16 * limits.MIB
    scrub_period_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3_650,
            description="days from the end of one verification of a putter's disk to the next",
        ),
    ] = 14
    replace_after_s: Annotated[
        int,
        Meta(
            ge=0,
            description="seconds a putter may be away before others get copies of what it held; "
            "0: for ever",
        ),
    ] = limits.REPLACE_AFTER_S
    repair_bytes_per_s: Annotated[
        int,
        Meta(
            ge=0,
            description="rate at which a router gives putters what they missed while nobody writes "
            "through it; an eighth of it while somebody does; 0: no bound",
        ),
    ] = limits.REPAIR_BYTES_PER_S
    audit_period_hours: Annotated[
        int,
        Meta(
            ge=0,
            description="hours between two comparisons of what putters hold with what they "
            "should; 0: none but what `putter repair` asks for",
        ),
    ] = limits.AUDIT_PERIOD_S // 3_600
    lifecycle_period_s: Annotated[
        int,
        Meta(
            ge=0,
            description="seconds from one pass over the lifecycle rules of buckets to the next, "
            "counted from midnight UTC; 0: none, and nothing expires",
        ),
    ] = limits.LIFECYCLE_PERIOD_S
    notify_targets: Annotated[
        tuple[_Text, ...],
        Meta(
            description="targets of events of buckets, `NAME=URL` separated by commas: webhooks "
            "(`https://[TOKEN@]host/path`, `http://`), streams of a Redis "
            "(`redis://host?stream=KEY`) or of the store's own (`redis:?stream=KEY`)"
        ),
    ] = ()
    rebalance_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="percent of its share of all bytes that a putter may hold too much or too "
            "little before some move; 0: nothing moves to even putters out",
        ),
    ] = limits.REBALANCE_PERCENT
    connections_max: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.CONNECTIONS_MAX,
            description="connections that one port serves at a time; further ones are refused",
        ),
    ] = limits.CONNECTIONS_MAX
    connections_per_address: Annotated[
        _Count | None,
        Meta(
            description="of them, those of one remote address (of IPv6 the first 64 bits); 0: no "
            f"bound; without it {limits.ADDRESS_CONNECTIONS_MAX}, and no bound on this machine",
        ),
    ] = None
    tls_cert: Annotated[
        Path | None,
        Meta(
            description="PEM file of this process's certificate, those between it and the "
            "authority behind it; with it sessions, acks and the web ports are encrypted"
        ),
    ] = None
    tls_key: Annotated[
        Path | None, Meta(description="PEM file of its private key, readable by nobody else")
    ] = None
    tls_ca: Annotated[
        Path | None,
        Meta(description="PEM file of the authorities whose certificates are accepted"),
    ] = None
    log_format: Annotated[
        Literal["console", "json"], Meta(description="form of the log on standard error")
    ] = "console"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="least important kind of line that is logged"),
    ] = "info"

    def __repr__(self) -> str:
        """All fields, secrets masked."""
        parts = (f"{name}={shown(name, getattr(self, name))}" for name in FIELDS)
        return f"Settings({', '.join(parts)})"

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, wherever they were made."""
        wrong = contradiction(msgspec.structs.asdict(self))
        if wrong is not None:
            raise SettingInvalid(wrong[0])

    @property
    def key_path(self) -> Path:
        """The key file that counts."""
        return self.key_file or self.data_dir / "cluster.key"

    @property
    def putter_dir(self) -> Path:
        """Data of the putter that a lone router starts."""
        return self.data_dir / "putter"

    @property
    def redis_dir(self) -> Path:
        """Data of the Valkey that a lone router starts."""
        return self.data_dir / "redis"

    @property
    def advertised_host(self) -> str:
        """The host that other processes are told to connect to."""
        if self.advertise_host:
            return self.advertise_host
        return socket.gethostname() if self.host in _ANY_ADDRESS else self.host

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect, so that no token is asked for."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


FIELDS: Final[Mapping[str, msgspec.structs.FieldInfo]] = {
    field.name: field for field in msgspec.structs.fields(Settings)
}

_IN_WORDS: Final[Mapping[str, str]] = {
    "redis": "a URL",
    "nodes": "a list of host:port",
    "notify_targets": "a list of NAME=URL",
    "host": "a host name or address",
    "advertise_host": "a host name or address",
}


def flag_of(name: str) -> str:
    """The flag of a field: ``--frame-bytes`` for ``frame_bytes``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a field: ``PUTTER_FRAME_BYTES`` for ``frame_bytes``."""
    return "PUTTER_" + name.upper()


def allowed(name: str) -> str:
    """What a field accepts, in words: ``0…65535``, ``tree or memory``, ``a path``."""
    return _IN_WORDS.get(name) or _allowed_by(FIELDS[name].type)


def shown(name: str, value: object) -> str:
    """A value for people: secrets and the password of a URL are masked."""
    if name in SECRETS and value is not None:
        return "***"
    if name == "redis" and isinstance(value, str) and "@" in value:
        account, _, address = value.rpartition("@")
        scheme, found, _ = account.partition("://")
        return repr(f"{scheme}://***@{address}" if found else f"***@{address}")
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def description(name: str) -> str:
    """What a field is for, one phrase."""
    return next(meta.description for meta in _metas(FIELDS[name].type) if meta.description)


def markdown() -> str:
    """The settings as a Markdown table, one row a field, in the order of the struct."""
    rows = [
        "| setting | flag | variable | allowed | default | what it is |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in FIELDS.items():
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        rows.append(
            f"| `{name}` | `{flag_of(name)}` | `{variable_of(name)}` | {allowed(name)} "
            f"| {default} | {description(name)} |"
        )
    return "\n".join(rows) + "\n"


def _metas(kind: object) -> list[Meta]:
    if get_origin(kind) is Annotated:
        return [arg for arg in get_args(kind) if isinstance(arg, Meta)]
    return []


def _allowed_by(kind: object) -> str:
    if get_origin(kind) is Annotated:
        metas = _metas(kind)
        low = next((meta.ge for meta in metas if meta.ge is not None), None)
        high = next((meta.le for meta in metas if meta.le is not None), None)
        if low is None:
            return _allowed_by(get_args(kind)[0])
        return f"{low} or more" if high is None else f"{low}…{high}"
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    if get_origin(kind) in (Union, UnionType):
        return _allowed_by(get_args(kind)[0])
    return "a path" if kind is Path else "text without spaces"
