"""Clients: the files of a store over its web door, and raw frames to one putter."""

from putter.client.models import Entry, FileInfo, NodeStatus, StoreStatus, TicketInfo
from putter.client.reader import Reader
from putter.client.store import Store

__all__ = ["Entry", "FileInfo", "NodeStatus", "Reader", "Store", "StoreStatus", "TicketInfo"]
