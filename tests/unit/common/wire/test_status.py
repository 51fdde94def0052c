"""The status byte: its numbers stand in documents and in programs of others."""

from __future__ import annotations

from common.wire.status import Status


def test_the_numbers_never_change() -> None:
    assert {status.name: int(status) for status in Status} == {
        "WRITTEN": 0,
        "CHECKSUM_MISMATCH": 1,
        "NO_SPACE": 2,
        "IO_ERROR": 3,
        "TICKET_TAKEN": 4,
        "NOT_AUTHORISED": 5,
        "SHUTTING_DOWN": 6,
        "MALFORMED": 7,
    }
