"""PutBucketNotificationConfiguration and its kin: rules read from documents, kept, told.

What the rules do: `router.events`, `router.delivery`. A rule names a target that the operator has
named in ``notify_targets``, whether it stands as a queue or as a topic. There are no functions to
call, and no other bus.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Final, Literal

from aiohttp import web

from common.event_targets import EventTarget, by_arn
from common.limits import KEY_BYTES_MAX, KIB
from common.requests import current_request
from router.events import KINDS, NAMES, PREFIX, SETTING, Rule, Rules, kept, of_test, rules_of
from router.gateway.s3.address import checked_bucket
from router.gateway.s3.call import Call, answer, no_bucket
from router.gateway.s3.documents import Element, Tree
from router.gateway.s3.failures import S3Error
from router.gateway.s3.subresources import check_children, element_of, put_setting

RULES_MAX: Final = 100
SKIP: Final = "x-amz-skip-destination-validation"
_ROOT: Final = "NotificationConfiguration"
_DOCUMENT_BYTES_MAX: Final = 256 * KIB
_NAME_CHARS_MAX: Final = 255
_FORMS: Final[Mapping[str, Literal["Queue", "Topic"]]] = {
    "QueueConfiguration": "Queue",
    "TopicConfiguration": "Topic",
}
_NOT_HERE: Final = frozenset(
    {"CloudFunctionConfiguration", "EventBridgeConfiguration", "LambdaFunctionConfiguration"}
)
_NEVER: Final = (
    "IntelligentTiering",
    "LifecycleTransition",
    "ObjectAnnotation:",
    "ObjectRestore:",
    "ReducedRedundancyLostObject",
    "Replication:",
)
"""What events of S3 begin with that nothing here ever makes."""
_SIDES: Final = frozenset({"prefix", "suffix"})


async def put_notification(call: Call) -> web.StreamResponse:
    """PutBucketNotificationConfiguration: all rules of the bucket, in place of those it had.

    The targets are told of it; an empty document takes all rules away.
    """
    root = await element_of(call, _ROOT, _DOCUMENT_BYTES_MAX, sum_needed=False)
    rules = rules_in(root, call.store.event_targets)
    done = await put_setting(call, SETTING, kept(rules) or None)
    if call.headers.get(SKIP, "").lower() != "true":
        bucket, now_ms = call.address.bucket, call.store.writes.clock.now_ms()
        first = {rule.target: rule for rule in reversed(rules)}
        posts = [of_test(rule, bucket, now_ms, current_request()) for rule in first.values()]
        await call.store.meta.outbox.post(bucket, posts)
    return done


async def get_notification(call: Call) -> web.StreamResponse:
    """GetBucketNotificationConfiguration."""
    name = checked_bucket(call.address.bucket)
    bucket = await call.store.directory.find(name)
    if bucket is None:
        raise no_bucket(name)
    return answer(rules_tree(rules_of(name, bucket.settings)))


def rules_in(root: Element, targets: Mapping[str, EventTarget]) -> Rules:
    """The rules of a ``NotificationConfiguration`` document.

    Args:
        root: its root.
        targets: that there are, by name.

    Raises:
        S3Error: ``MalformedXML``; ``InvalidArgument`` with what is wrong; ``NotImplemented`` for
            functions, and for events that nothing here makes.
    """
    if len(root.children) > RULES_MAX:
        raise _invalid(f"A bucket has at most {RULES_MAX} notification configurations.")
    rules = tuple(_rule(each, targets) for each in root.children)
    if len({rule.name for rule in rules}) < len(rules):
        raise _invalid("Same ID used for multiple configurations. IDs must be unique.")
    if any(one.overlaps(other) for one, other in combinations(rules, 2)):
        raise _invalid(
            "Configurations overlap. Configurations on the same bucket cannot share a common event "
            "type for keys that both are about."
        )
    return rules


def rules_tree(rules: Sequence[Rule]) -> Tree:
    """The document of rules."""
    return (_ROOT, [(f"{rule.form}Configuration", _told(rule)) for rule in rules])


def _rule(element: Element, targets: Mapping[str, EventTarget]) -> Rule:
    if element.name in _NOT_HERE:
        raise S3Error("NotImplemented", ResourceType=element.name)
    form = _FORMS.get(element.name)
    if form is None:
        raise S3Error("MalformedXML")
    check_children(element, ("Id", form, "Event", "Filter"), many="Event")
    name = element.value("Id") or secrets.token_hex(16)
    if len(name) > _NAME_CHARS_MAX:
        raise _invalid(f"ID length should not exceed allowed limit of {_NAME_CHARS_MAX}")
    events = tuple(dict.fromkeys(each.text.strip() for each in element.all("Event")))
    arn = (element.value(form) or "").strip()
    if not events or not arn:
        raise S3Error("MalformedXML")
    for event in events:
        _check_event(event)
    target = by_arn(targets, arn)
    if target is None:
        raise _invalid("Unable to validate the following destination configurations", form, arn)
    sides = _sides(element)
    return Rule(name, target.name, arn, events, form, sides.get("prefix"), sides.get("suffix"))


def _check_event(event: str) -> None:
    name = event.removeprefix(PREFIX)
    if name == event or name not in NAMES | KINDS:
        if name != event and name.startswith(_NEVER):
            raise S3Error("NotImplemented", ResourceType=event)
        raise _invalid("A specified event is not supported for notifications.", "Event", event)


def _sides(rule: Element) -> dict[str, str]:
    """What keys begin and end with that a rule is about."""
    found: dict[str, str] = {}
    for each in rule.all("Filter"):
        check_children(each, ("S3Key",))
        for keys in each.all("S3Key"):
            check_children(keys, ("FilterRule",), many="FilterRule")
            for side in keys.children:
                check_children(side, ("Name", "Value"))
                name, value = (side.value("Name") or "").strip().lower(), side.value("Value") or ""
                if name not in _SIDES:
                    raise _invalid("filter rule name must be either prefix or suffix")
                if name in found:
                    raise _invalid(f"Cannot specify more than one {name} rule in a filter.")
                if len(value.encode()) > KEY_BYTES_MAX:
                    raise _invalid(f"The maximum size of a {name} is {KEY_BYTES_MAX}.")
                found[name] = value
    return found


def _told(rule: Rule) -> list[Tree]:
    told: list[Tree] = [("Id", rule.name), (rule.form, rule.arn)]
    told += [("Event", event) for event in rule.events]
    sides: list[Tree] = [
        ("FilterRule", [("Name", name), ("Value", value)])
        for name, value in (("prefix", rule.prefix), ("suffix", rule.suffix))
        if value is not None
    ]
    if sides:
        told.append(("Filter", [("S3Key", sides)]))
    return told


def _invalid(message: str, argument: str = "", value: str = "") -> S3Error:
    if not argument:
        return S3Error("InvalidArgument", message)
    return S3Error("InvalidArgument", message, ArgumentName=argument, ArgumentValue=value)
