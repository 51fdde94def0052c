"""Cross-origin rules of a bucket: read from documents, held to S3's limits, matched. Pure.

The first rule that allows an origin, a method and, in a preflight, all headers that are asked for,
decides; there is no merging of rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error

RULES_MAX: Final = 100
METHODS: Final = ("GET", "PUT", "HEAD", "POST", "DELETE")
VARY: Final = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
_ID_CHARS_MAX: Final = 255
_AGE_DIGITS_MAX: Final = 9
_ANY: Final = "*"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTED: Final = re.compile(r"[!-~]+")


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule.

    Attributes:
        origins: allowed, each with one ``*`` at most.
        methods: allowed, of `METHODS`.
        headers: allowed in a preflight, each with one ``*`` at most.
        exposed: headers of answers that a script may see.
        max_age_s: how long a browser may remember a preflight; None: it decides itself.
        name: what its author calls it.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    name: str = ""


def rules_in(root: Element) -> list[Rule]:
    """The rules of a ``CORSConfiguration`` document.

    Args:
        root: its root.

    Raises:
        S3Error: ``MalformedXML``, or ``InvalidRequest`` with what is wrong.
    """
    if not root.children or any(child.name != "CORSRule" for child in root.children):
        raise S3Error("MalformedXML")
    if len(root.children) > RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"The number of CORS rules should not exceed allowed limit of {RULES_MAX} rules.",
        )
    return [_rule(each) for each in root.children]


def rules_tree(rules: Sequence[Rule]) -> Tree:
    """The document of rules."""
    return ("CORSConfiguration", [("CORSRule", _told(rule)) for rule in rules])


def kept(rules: Sequence[Rule]) -> Any:
    """Rules as a setting of their bucket."""
    return msgspec.to_builtins(rules)


def rules_of(value: object) -> list[Rule] | None:
    """The rules in a setting of a bucket; None if they are none that can be understood."""
    try:
        return msgspec.convert(value, list[Rule])
    except msgspec.ValidationError:
        return None


def matching(
    rules: Sequence[Rule], origin: str, method: str, headers: Sequence[str] = ()
) -> Rule | None:
    """The rule that allows a request, None if none does.

    Args:
        rules: of the bucket.
        origin: where the script comes from.
        method: of the request.
        headers: that a preflight asks for, in any case.
    """
    wanted = [each.lower() for each in headers]
    if not _PRINTED.fullmatch(origin):
        return None
    for rule in rules:
        if (
            method in rule.methods
            and any(fits(origin, pattern) for pattern in rule.origins)
            and all(any(fits(w, h.lower()) for h in rule.headers) for w in wanted)
        ):
            return rule
    return None


def fits(text: str, pattern: str) -> bool:
    """Whether a text is what a pattern says, with one ``*`` for anything in it, or nothing."""
    before, star, behind = pattern.partition(_ANY)
    if not star:
        return text == pattern
    room = len(text) >= len(before) + len(behind)
    return room and text.startswith(before) and text.endswith(behind)


def told_headers(rule: Rule, origin: str, headers: Sequence[str] = ()) -> Mapping[str, str]:
    """What an answer tells a browser.

    Args:
        rule: that allows the request.
        origin: where the script comes from.
        headers: that a preflight asks for.
    """
    # Whoever is allowed by name may be so with credentials, and the answer is for him alone.
    anyone = not any(each != _ANY and fits(origin, each) for each in rule.origins)
    told = {
        "Access-Control-Allow-Origin": _ANY if anyone else origin,
        "Access-Control-Allow-Methods": ", ".join(rule.methods),
    }
    if headers:
        told["Access-Control-Allow-Headers"] = ", ".join(each.lower() for each in headers)
    if rule.exposed:
        told["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_s is not None:
        told["Access-Control-Max-Age"] = str(rule.max_age_s)
    if not anyone:
        told["Access-Control-Allow-Credentials"] = "true"
    return told | {"Vary": VARY}


def asked_headers(text: str) -> list[str] | None:
    """The names in ``Access-Control-Request-Headers``; None if one cannot be a header's."""
    names = [each.strip() for each in text.split(",")]
    names = [each for each in names if each]
    return names if all(_TOKEN.fullmatch(each) for each in names) else None


def _rule(element: Element) -> Rule:
    texts: dict[str, list[str]] = {name: [] for name in _ELEMENTS}
    for child in element.children:
        if child.name not in texts or child.children:
            raise S3Error("MalformedXML")
        texts[child.name].append(child.text.strip())
    if not texts["AllowedMethod"] or not texts["AllowedOrigin"]:
        raise S3Error("MalformedXML")
    for name in ("ID", "MaxAgeSeconds"):
        if len(texts[name]) > 1:
            raise S3Error("MalformedXML")
    _check(texts)
    return Rule(
        origins=tuple(texts["AllowedOrigin"]),
        methods=tuple(texts["AllowedMethod"]),
        headers=tuple(texts["AllowedHeader"]),
        exposed=tuple(texts["ExposeHeader"]),
        max_age_s=_seconds(*texts["MaxAgeSeconds"]),
        name=_name(*texts["ID"]),
    )


def _check(texts: Mapping[str, list[str]]) -> None:
    """Refuse what S3 has no room for in a rule.

    Raises:
        S3Error: with what is wrong.
    """
    for method in texts["AllowedMethod"]:
        if method not in METHODS:
            raise _refused(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )
    for name in ("AllowedOrigin", "AllowedHeader"):
        for pattern in texts[name]:
            if pattern.count(_ANY) > 1:
                raise _refused(f'{name} "{pattern}" can not have more than one wildcard.')
            if not _PRINTED.fullmatch(pattern):
                raise _refused(f'{name} "{pattern}" is not valid.')
    for header in texts["ExposeHeader"]:
        if _ANY in header:
            raise _refused(
                f'ExposeHeader "{header}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader."
            )
        if not _TOKEN.fullmatch(header):
            raise _refused(f'ExposeHeader "{header}" is not valid.')


_ELEMENTS: Final = (
    "ID",
    "AllowedHeader",
    "AllowedMethod",
    "AllowedOrigin",
    "ExposeHeader",
    "MaxAgeSeconds",
)


def _told(rule: Rule) -> list[Tree]:
    told: list[Tree] = [("ID", rule.name)] if rule.name else []
    told += [("AllowedHeader", each) for each in rule.headers]
    told += [("AllowedMethod", each) for each in rule.methods]
    told += [("AllowedOrigin", each) for each in rule.origins]
    told += [("ExposeHeader", each) for each in rule.exposed]
    if rule.max_age_s is not None:
        told.append(("MaxAgeSeconds", str(rule.max_age_s)))
    return told


def _seconds(text: str | None = None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _AGE_DIGITS_MAX):
        raise S3Error("MalformedXML")
    return int(text)


def _name(text: str = "") -> str:
    if len(text) > _ID_CHARS_MAX:
        raise _refused(f"The ID of a rule has at most {_ID_CHARS_MAX} characters.")
    return text


def _refused(message: str) -> S3Error:
    return S3Error("InvalidRequest", message)
