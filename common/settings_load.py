"""Where settings come from.

A value is looked for in this order; the first place that has one wins:

1. the flag, ``--frame-bytes``;
2. the environment, ``PUTTER_FRAME_BYTES`` (an empty variable counts as unset), and
   ``REDIS_HOSTPORT=host:port`` behind ``PUTTER_REDIS``;
3. the file ``putter.toml``: a flat table with the names of the fields, ``frame_bytes = 65536``;
4. the default.

A value that cannot be used is never repaired: the error names the place it came from, what is
wrong with it, and what is allowed.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from common.errors import SettingInvalid
from common.event_targets import parse_targets
from common.settings import (
    FIELDS,
    Settings,
    allowed,
    contradiction,
    flag_of,
    shown,
    variable_of,
)

_LISTS: Final = frozenset({"nodes", "notify_targets"})
"""Fields of which text may hold several values, separated by commas."""
CONFIG_FILE: Final = "putter.toml"
REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")

_OTHER_VARIABLES: Final = frozenset({"PUTTER_URL", "PUTTER_CONFIG", "PUTTER_ADDRESS"})
"""Variables of the command line that are no settings of a process."""


class _Given(msgspec.Struct, frozen=True):
    """A value as it was found.

    Attributes:
        origin: the place, in words.
        value: what stood there.
        text: whether it is text that may spell a number; in TOML ``"5000"`` is not ``5000``.
    """

    origin: str
    value: object
    text: bool


def load(
    flags: Mapping[str, object], environ: Mapping[str, str], file: Path | str | None = None
) -> Settings:
    """Gather the settings from flags, environment and file.

    Args:
        flags: field name to value; None stands for a flag that was not given.
        environ: the environment variables.
        file: the path of a ``putter.toml`` that must exist, or its text, or None for no file.

    Raises:
        SettingInvalid: a value cannot be used, values contradict each other, or the file cannot
            be read or names a setting that does not exist.
    """
    given = {**_from_file(file), **_from_environment(environ), **_from_flags(flags)}
    values = {name: field.default for name, field in FIELDS.items()}
    values |= {name: _converted(name, found) for name, found in given.items()}
    if "write_quorum" not in given:
        values["write_quorum"] = min(values["write_quorum"], values["replicas"])
    wrong = contradiction(values)
    if wrong is not None:
        text, names = wrong
        origins = [given[name].origin if name in given else f"default of {name}" for name in names]
        raise SettingInvalid(f"{text} ({'; '.join(origins)})")
    return Settings(**values)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A warning for each ``PUTTER_…`` variable that names no setting; most are misspelt."""
    known = {variable_of(name) for name in FIELDS} | _OTHER_VARIABLES
    return [
        f"environment variable {name} is not a setting{_did_you_mean(name, known)}"
        for name in sorted(environ)
        if name.startswith("PUTTER_") and name not in known
    ]


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    unknown = flags.keys() - FIELDS.keys()
    if unknown:
        raise SettingInvalid(f"no setting belongs to the flag {flag_of(min(unknown))}")
    return {
        name: _Given(f"flag {flag_of(name)}", value, text=True)
        for name, value in flags.items()
        if value is not None
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    address = environ.get("REDIS_HOSTPORT")
    if address:
        origin = "environment variable REDIS_HOSTPORT"
        _check_address(origin, address)
        given["redis"] = _Given(origin, f"redis://{address}", text=True)
    for name in FIELDS:
        value = environ.get(variable_of(name))
        if value:
            given[name] = _Given(f"environment variable {variable_of(name)}", value, text=True)
    return given


def _from_file(file: Path | str | None) -> dict[str, _Given]:
    if file is None:
        return {}
    origin = str(file) if isinstance(file, Path) else CONFIG_FILE
    try:
        table = tomllib.loads(file.read_text("utf-8") if isinstance(file, Path) else file)
    except OSError as error:
        raise SettingInvalid(f"cannot read {origin}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{origin} is not TOML: {error}") from error
    for name in table:
        if name not in FIELDS:
            raise SettingInvalid(
                f"{origin}: {name!r} is not a setting{_did_you_mean(name, FIELDS)}",
                hint="docs/reference/settings.md lists all settings",
            )
    return {name: _Given(f"{origin}, {name}", value, text=False) for name, value in table.items()}


def _converted(name: str, given: _Given) -> Any:
    """The value in the field's type."""
    value = given.value
    if name in _LISTS and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        converted = msgspec.convert(
            value, FIELDS[name].type, strict=not given.text, dec_hook=_decode_path
        )
    except (msgspec.ValidationError, NotImplementedError) as error:
        raise SettingInvalid(
            f"{given.origin}: {shown(name, given.value)} is not allowed; "
            f"{name} takes {allowed(name)}"
        ) from error
    check = _CHECKS.get(name)
    if check is not None:
        check(given.origin, converted)
    return converted


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise NotImplementedError


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _check_address(origin: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
        raise SettingInvalid(f"{origin}: {address!r} is not host:port, like 127.0.0.1:5000")


def _check_nodes(origin: str, nodes: tuple[str, ...]) -> None:
    for number, node in enumerate(nodes):
        _check_address(origin, node)
        if node in nodes[:number]:
            raise SettingInvalid(f"{origin}: {node!r} is named twice")


def _check_redis(origin: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or not (parts.netloc or parts.path):
        raise SettingInvalid(
            f"{origin}: {shown('redis', url)} is not a URL that begins with "
            + ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES),
            hint="for host:port alone set REDIS_HOSTPORT, or write redis://host:port",
        )


def _check_targets(origin: str, pairs: tuple[str, ...]) -> None:
    try:
        parse_targets(pairs)
    except SettingInvalid as error:
        raise SettingInvalid(f"{origin}: {error.message}", hint=error.hint) from None


_CHECKS: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "nodes": _check_nodes,
    "notify_targets": _check_targets,
    "redis": _check_redis,
}
