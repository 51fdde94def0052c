"""Versions, objects and tickets as JSON for people and programs."""

from __future__ import annotations

from typing import Any

from common.records import Extent, StoredObject, Version
from common.tickets import format_id
from common.versions import plain_name


def file_summary(version: Version, holders: int | None = None) -> dict[str, Any]:
    """What a write answers.

    Args:
        version: the record.
        holders: putters that hold every byte; counted from the record if None.
    """
    stored = version.objects[0] if len(version.objects) == 1 else None
    written = least_holders(version) if holders is None else holders
    bucket, key = plain_name(version)
    return {
        "bucket": bucket,
        "key": key,
        "size": version.size,
        "etag": version.etag,
        "blake3": stored.blake3.hex() if stored and version.encryption is None else None,
        "object": stored.object_id if stored else None,
        "stamp": version.stamp,
        "version": format_id(version.stamp),
        "nodes_written": written,
        "replicas_wanted": version.replicas,
        "degraded": written < version.replicas,
        "created_ms": version.created_ms,
        "content_type": version.headers.get("content-type", "application/octet-stream"),
    }


def file_details(version: Version) -> dict[str, Any]:
    """What a write answers, and where each byte is."""
    objects = [_object(stored) for stored in version.objects]
    return file_summary(version) | {"objects": objects}


def least_holders(version: Version) -> int:
    """Putters that hold every byte of a version, at the least."""
    counts = [len(extent.nodes) for stored in version.objects for extent in stored.extents]
    return min(counts, default=version.replicas)


def place_of_ticket(version: Version, ticket: int) -> tuple[int, Extent] | None:
    """Where in a version a ticket's bytes start, and the extent they are in; None if nowhere."""
    position = 0
    for stored in version.objects:
        for extent in stored.extents:
            if extent.first <= ticket < extent.first + extent.count:
                return position + (ticket - extent.first) * stored.frame_bytes, extent
            position += extent.size
    return None


def _object(stored: StoredObject) -> dict[str, Any]:
    return {
        "object": stored.object_id,
        "size": stored.size,
        "frame_bytes": stored.frame_bytes,
        "blake3": stored.blake3.hex(),
        "tickets": stored.tickets,
        "extents": [
            {
                "first": format_id(extent.first),
                "last": format_id(extent.first + extent.count - 1),
                "count": extent.count,
                "size": extent.size,
                "nodes": list(extent.nodes),
                "owed": dict(extent.owed),
            }
            for extent in stored.extents
        ],
    }
