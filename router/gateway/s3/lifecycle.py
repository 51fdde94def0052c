"""PutBucketLifecycleConfiguration and its kin: rules read from documents, kept, told.

What the rules do: `router.lifecycle`, `router.expiry`. There is one storage class, so a rule that
moves something to another one is refused, whatever else it says.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web

from common.limits import KEY_BYTES_MAX, MIB
from router.gateway.s3.call import Call, answer, iso_date
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.subresources import (
    check_children,
    delete_setting,
    element_of,
    put_setting,
    setting_of,
)
from router.gateway.s3.tags import OBJECT_TAGS_MAX, tags_in
from router.lifecycle import DAY_MS, SETTING, Rule, kept, rules_of

RULES_MAX: Final = 1_000
_ABSENT: Final = "NoSuchLifecycleConfiguration"
_ROOT: Final = "LifecycleConfiguration"
_DOCUMENT_BYTES_MAX: Final = MIB
_NAME_CHARS_MAX: Final = 255
_KEPT_MAX: Final = 100
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER_MAX: Final = 2**31 - 1
_SIZE_MAX: Final = 2**63 - 1
_LEAST_MOVED: Final = {"x-amz-transition-default-minimum-object-size": "all_storage_classes_128K"}
"""What S3 tells of a bucket that says nothing else; as nothing is moved here, nothing else is."""
_FLAGS: Final = {"true": True, "false": False}
_MOVES: Final = frozenset({"Transition", "NoncurrentVersionTransition"})
_ACTIONS: Final = frozenset(
    {"Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"}
)
_PARTS: Final = frozenset({"ID", "Status", "Prefix", "Filter"}) | _ACTIONS
_PREDICATES: Final = frozenset({"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"})


async def put_lifecycle(call: Call) -> web.StreamResponse:
    """PutBucketLifecycleConfiguration: all rules of the bucket, in place of those that it had."""
    root = await element_of(call, _ROOT, _DOCUMENT_BYTES_MAX)
    done = await put_setting(call, SETTING, kept(rules_in(root)))
    done.headers.update(_LEAST_MOVED)
    return done


async def get_lifecycle(call: Call) -> web.StreamResponse:
    """GetBucketLifecycleConfiguration."""
    rules = rules_of(await setting_of(call, SETTING, _ABSENT))
    if rules is None:
        raise S3Error(_ABSENT, BucketName=call.address.bucket)
    return answer(rules_tree(rules), **_LEAST_MOVED)


async def delete_lifecycle(call: Call) -> web.StreamResponse:
    """DeleteBucketLifecycle."""
    return await delete_setting(call, SETTING)


def rules_in(root: Element) -> list[Rule]:
    """The rules of a ``LifecycleConfiguration`` document.

    Args:
        root: its root.

    Raises:
        S3Error: ``MalformedXML``; ``InvalidArgument`` or ``InvalidRequest`` with what is wrong;
            ``NotImplemented`` for other storage classes.
    """
    if not 1 <= len(root.children) <= RULES_MAX:
        raise S3Error("MalformedXML")
    if any(child.name != "Rule" for child in root.children):
        raise S3Error("MalformedXML")
    rules = [_rule(each) for each in root.children]
    names = {rule.name for rule in rules}
    if len(names) < len(rules):
        raise S3Error(
            "InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule"
        )
    return rules


def rules_tree(rules: Sequence[Rule]) -> Tree:
    """The document of rules."""
    return (_ROOT, [("Rule", _told(rule)) for rule in rules])


# -- read ----------------------------------------------------------------------------------


def _rule(element: Element) -> Rule:
    for child in element.children:
        if child.name in _MOVES:
            raise S3Error("NotImplemented", ResourceType=child.name)
    check_children(element, _PARTS)
    name = element.value("ID") or secrets.token_hex(16)
    if len(name) > _NAME_CHARS_MAX:
        raise S3Error("InvalidArgument", "ID length should not exceed allowed limit of 255")
    status = element.value("Status")
    if status not in ("Enabled", "Disabled"):
        raise S3Error("MalformedXML")
    if not _ACTIONS & {child.name for child in element.children}:
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    said: dict[str, Any] = {"name": name, "enabled": status == "Enabled"}
    said |= _about(element)
    for action, read in (
        ("Expiration", _expiration),
        ("NoncurrentVersionExpiration", _noncurrent),
        ("AbortIncompleteMultipartUpload", _abort),
    ):
        for child in element.all(action):
            said |= read(child)
    rule = msgspec.convert(said, Rule)
    _check_rule(rule)
    return rule


def _check_rule(rule: Rule) -> None:
    """Refuse actions on what a rule cannot be about.

    Raises:
        S3Error: with what is wrong.
    """
    for action, there in (
        ("AbortIncompleteMultipartUpload", rule.abort_days is not None),
        ("ExpiredObjectDeleteMarker", rule.markers is not None),
    ):
        if there and rule.is_about_some:
            what = "Tags" if rule.tags else "Object Size"
            raise S3Error("InvalidRequest", f"{action} cannot be specified with {what}.")
    if rule.newer_kept is not None and rule.form == "Prefix":
        raise S3Error(
            "InvalidRequest", "NewerNoncurrentVersions cannot be specified without a Filter."
        )


def _about(rule: Element) -> dict[str, Any]:
    """What a rule is about."""
    filters = rule.all("Filter")
    if (rule.value("Prefix") is None) == (not filters):
        raise S3Error("MalformedXML")
    if not filters:
        return {"form": "Prefix", **_predicates(rule.all("Prefix"))}
    check_children(filters[0], _PREDICATES | {"And"})
    if len(filters[0].children) > 1:
        raise S3Error("MalformedXML")
    both = filters[0].all("And")
    if not both:
        return {"form": "Filter", **_predicates(filters[0].children)}
    check_children(both[0], _PREDICATES, many="Tag")
    if not both[0].children:
        raise S3Error("MalformedXML")
    return {"form": "And", **_predicates(both[0].children)}


def _predicates(elements: Sequence[Element]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tags = [each for each in elements if each.name == "Tag"]
    if tags:
        if len({tag.value("Key") for tag in tags}) < len(tags):
            raise S3Error("InvalidRequest", "Duplicate Tag Keys are not allowed.")
        sets = Element("Tagging", children=[Element("TagSet", children=tags)])
        found["tags"] = tags_in(sets, OBJECT_TAGS_MAX)
    for each in elements:
        if each.name == "Prefix":
            if len(each.text.encode()) > KEY_BYTES_MAX:
                raise S3Error("InvalidRequest", f"The maximum size of a prefix is {KEY_BYTES_MAX}.")
            found["prefix"] = each.text
        elif each.name == "ObjectSizeGreaterThan":
            found["larger"] = _number(each, 0, _SIZE_MAX)
        elif each.name == "ObjectSizeLessThan":
            found["smaller"] = _number(each, 1, _SIZE_MAX)
    if found.get("larger", -1) >= found.get("smaller", _SIZE_MAX + 1):
        raise S3Error(
            "InvalidRequest",
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        )
    return found


def _expiration(element: Element) -> dict[str, Any]:
    check_children(element, ("Days", "Date", "ExpiredObjectDeleteMarker"))
    if len(element.children) != 1:
        raise S3Error("MalformedXML")
    [child] = element.children
    if child.name == "Days":
        return {"days": _days(child, element.name)}
    if child.name == "Date":
        return {"date_ms": _date(child.text.strip())}
    flag = _FLAGS.get(child.text.strip())
    if flag is None:
        raise S3Error("MalformedXML")
    return {"markers": flag}


def _noncurrent(element: Element) -> dict[str, Any]:
    check_children(element, ("NoncurrentDays", "NewerNoncurrentVersions"))
    found: dict[str, Any] = {}
    for child in element.children:
        if child.name == "NoncurrentDays":
            found["noncurrent_days"] = _days(child, element.name)
        else:
            found["newer_kept"] = _number(child, 1, _KEPT_MAX)
    if "noncurrent_days" not in found:
        raise S3Error("MalformedXML")
    return found


def _abort(element: Element) -> dict[str, Any]:
    check_children(element, ("DaysAfterInitiation",))
    if not element.children:
        raise S3Error("MalformedXML")
    return {"abort_days": _days(element.children[0], element.name)}


def _days(element: Element, action: str) -> int:
    text = element.text.strip()
    if not _NUMBER.fullmatch(text):
        raise S3Error("MalformedXML")
    if not 1 <= int(text) <= _NUMBER_MAX:
        raise S3Error(
            "InvalidArgument",
            f"'{element.name}' for {action} action must be a positive integer",
            ArgumentName=element.name,
            ArgumentValue=text,
        )
    return int(text)


def _number(element: Element, least: int, most: int) -> int:
    text = element.text.strip()
    if not _NUMBER.fullmatch(text):
        raise S3Error("MalformedXML")
    if not least <= int(text) <= most:
        raise S3Error(
            "InvalidRequest", f"'{element.name}' must be an integer from {least} to {most}."
        )
    return int(text)


def _date(text: str) -> int:
    """A midnight, milliseconds since 1970."""
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
        raise S3Error("MalformedXML")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        date_ms = int(moment.timestamp()) * 1000
    except (ValueError, OverflowError):
        raise S3Error("MalformedXML") from None
    if date_ms < 0 or date_ms % DAY_MS or moment.microsecond:
        raise S3Error(
            "InvalidArgument",
            "'Date' must be at midnight GMT",
            ArgumentName="Date",
            ArgumentValue=text,
        )
    return date_ms


# -- told ----------------------------------------------------------------------------------


def _told(rule: Rule) -> list[Tree]:
    told: list[Tree] = [("ID", rule.name)]
    predicates = _told_predicates(rule)
    if rule.form == "Prefix":
        told += predicates
    elif rule.form == "And":
        told.append(("Filter", [("And", predicates)]))
    else:
        told.append(("Filter", predicates))
    told.append(("Status", "Enabled" if rule.enabled else "Disabled"))
    if rule.days is not None:
        told.append(("Expiration", [("Days", str(rule.days))]))
    if rule.date_ms is not None:
        told.append(("Expiration", [("Date", iso_date(rule.date_ms))]))
    if rule.markers is not None:
        flag = "true" if rule.markers else "false"
        told.append(("Expiration", [("ExpiredObjectDeleteMarker", flag)]))
    if rule.noncurrent_days is not None:
        inside: list[Tree] = [("NoncurrentDays", str(rule.noncurrent_days))]
        if rule.newer_kept is not None:
            inside.append(("NewerNoncurrentVersions", str(rule.newer_kept)))
        told.append(("NoncurrentVersionExpiration", inside))
    if rule.abort_days is not None:
        days = str(rule.abort_days)
        told.append(("AbortIncompleteMultipartUpload", [("DaysAfterInitiation", days)]))
    return told


def _told_predicates(rule: Rule) -> list[Tree]:
    told: list[Tree] = [] if rule.prefix is None else [("Prefix", rule.prefix)]
    told += [("Tag", [("Key", key), ("Value", value)]) for key, value in rule.tags.items()]
    if rule.larger is not None:
        told.append(("ObjectSizeGreaterThan", str(rule.larger)))
    if rule.smaller is not None:
        told.append(("ObjectSizeLessThan", str(rule.smaller)))
    return told
