"""S3 clients of the store that a module runs for its tests, in its fixture ``store``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.s3_kit import s3
from tests.store_kit import Cluster


@pytest.fixture
def client(store: Cluster) -> Iterator[Any]:
    with s3(store.s3_ports[0]) as made:
        yield made


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"b-{random.randrange(10**12)}"
    client.create_bucket(Bucket=name)
    return name
