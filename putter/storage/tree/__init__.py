"""The layout ``tree``: every ticket is a plain file at a path that is its TicketID.

The format, and the order of writes that makes it safe, are in ``docs/formats/tree.md``.
"""

from putter.storage.tree.engine import TreeEngine

__all__ = ["TreeEngine"]
