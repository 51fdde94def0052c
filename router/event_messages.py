"""Events as S3 tells them: the message structure of event notifications. Pure.

Each event is a message of its own, one JSON document with one record. (S3 user guide, "Event
message structure".)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote_plus

import msgspec

from router.events import PREFIX, TEST, Event

_VERSION: Final = "2.1"
_SOURCE: Final = "putter:s3"
_NOBODY: Final = "anonymous"


@dataclass(frozen=True)
class Message:
    """An event on its way.

    Attributes:
        number: its place in the outbox.
        name: of the event, with ``s3:``.
        subject: the file, ``bucket/key``; messages of one are delivered in order.
        body: JSON.
    """

    number: int
    name: str
    subject: str
    body: bytes


def message(number: int, event: Event, owner: str) -> Message:
    """The message of an event.

    Args:
        number: its place in the outbox.
        event: what happened.
        owner: who created the bucket; "": nobody did.
    """
    told = _test(event) if event.name == TEST else {"Records": [_record(event, owner)]}
    subject = f"{event.bucket}/{event.key}"
    return Message(number, PREFIX + event.name, subject, msgspec.json.encode(told))


def sequencer(stamp: int) -> str:
    """Text by which events of a key sort as the changes were made."""
    return f"{stamp:016X}"


def _test(event: Event) -> dict[str, Any]:
    return {
        "Service": "Amazon S3",
        "Event": PREFIX + TEST,
        "Time": _time(event.at_ms),
        "Bucket": event.bucket,
        "RequestId": event.request,
    }


def _record(event: Event, owner: str) -> dict[str, Any]:
    told: dict[str, Any] = {"key": quote_plus(event.key, safe="/")}
    if event.etag:
        told |= {"size": event.size, "eTag": event.etag}
    if event.version:
        told["versionId"] = event.version
    told["sequencer"] = sequencer(event.stamp)
    return {
        "eventVersion": _VERSION,
        "eventSource": _SOURCE,
        "awsRegion": "",
        "eventTime": _time(event.at_ms),
        "eventName": event.name,
        "userIdentity": {"principalId": event.principal or _NOBODY},
        "requestParameters": {"sourceIPAddress": event.address},
        "responseElements": {"x-amz-request-id": event.request},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": event.rule,
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": {"principalId": owner},
                "arn": f"arn:aws:s3:::{event.bucket}",
            },
            "object": told,
        },
    }


def _time(ms: int) -> str:
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"
