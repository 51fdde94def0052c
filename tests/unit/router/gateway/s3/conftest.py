"""A whole door without a socket, and callers of all kinds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_door_kit import S3Door
from tests.s3_gate_kit import Seen, bucket_of, open_to_all_kinds


@pytest.fixture(scope="module")
def door() -> Iterator[S3Door]:
    with open_to_all_kinds() as made:
        yield made


@pytest.fixture
def seen(door: S3Door, request: pytest.FixtureRequest) -> Seen:
    return bucket_of(door, request.node.name)
