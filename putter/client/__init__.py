"""Clients: the files of a store over its web door, and raw frames to one putter."""

from putter.client.buckets import BucketInfo, BucketList
from putter.client.keys import IssuedKey, KeyInfo
from putter.client.models import Entry, FileInfo, TicketInfo
from putter.client.reader import Reader
from putter.client.status import NodeScrub, NodeStatus, ScrubFlaw, ScrubState, StoreStatus
from putter.client.store import Store

__all__ = [
    "BucketInfo",
    "BucketList",
    "Entry",
    "FileInfo",
    "IssuedKey",
    "KeyInfo",
    "NodeScrub",
    "NodeStatus",
    "Reader",
    "ScrubFlaw",
    "ScrubState",
    "Store",
    "StoreStatus",
    "TicketInfo",
]
