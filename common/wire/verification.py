"""Session messages by which a putter verifies tickets where they lie, and tells their checksums.

So a reader learns that a second replica is whole without a second copy of the bytes on the wire.
"""

from __future__ import annotations

from common.wire.message import Message, RequestId


class Verify(Message, tag="verify", frozen=True):
    """Client → putter: verify these tickets, and tell their checksums with this key.

    ``request_id`` is for the log.
    """

    request: int
    first: int
    count: int
    key_id: str
    request_id: RequestId = ""


class Sums(Message, tag="sums", frozen=True):
    """Putter → client: checksums of consecutive tickets in the payload, 8 bytes each.

    What they are of was read and verified for this answer. ``size`` counts the data bytes. The last
    message of an answer has ``more`` unset and may be empty; tickets that were left out are not
    there. ``status`` is 0, or says why the answer ends early.
    """

    request: int
    first: int
    count: int
    frame_bytes: int
    size: int
    more: bool
    status: int = 0
    reason: str = ""
