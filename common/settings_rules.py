"""Relations between settings that have to hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_TLS: Final = ("tls_cert", "tls_key", "tls_ca")


def contradiction(values: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """The first relation between settings that does not hold.

    Args:
        values: every field with its value.

    Returns:
        What is wrong, and the fields that take part in it; None if all is well.
    """
    for name in ("write_quorum", "read_quorum"):
        if values[name] > values["replicas"]:
            wrong = f"{name} {values[name]} is more than replicas {values['replicas']}"
            return wrong, (name, "replicas")
    given = [name for name in _TLS if values[name] is not None]
    if given and len(given) < len(_TLS):
        missing = next(name for name in _TLS if name not in given)
        return f"{given[0]} is given, and {missing} is not: they go together", _TLS
    websites, api = values["s3_website_domain"], values["s3_domain"]
    if websites and api and f".{api}".lower().endswith(f".{websites}".lower()):
        names = ("s3_domain", "s3_website_domain")
        return f"s3_domain {api} is, or is below, s3_website_domain {websites}", names
    taken: dict[int, str] = {}
    for name in (name for name in values if name.endswith("_port")):
        port = values[name]
        if port in taken:
            return f"{taken[port]} and {name} are both {port}", (taken[port], name)
        if port:
            taken[port] = name
    return None
