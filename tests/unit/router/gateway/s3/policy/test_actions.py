"""The actions of operations."""

from __future__ import annotations

import pytest

from router.gateway.s3.operations import OPERATIONS, WRITES
from router.gateway.s3.policy.actions import ACTIONS, changes, needed, of_version


def test_every_operation_has_actions() -> None:
    assert {*OPERATIONS.values(), "CopyObject", "UploadPartCopy"} <= ACTIONS.keys()


@pytest.mark.parametrize("operation", sorted({*OPERATIONS.values(), *WRITES}))
def test_what_changes_something_needs_an_action_that_does(operation: str) -> None:
    assert any(changes(action) for action in needed(operation)) is (operation in WRITES)


def test_versions() -> None:
    assert needed("HeadObject") == ("GetObject",)
    named = [of_version(action) for action in needed("GetObjectAttributes")]
    assert named == ["GetObjectVersion", "GetObjectVersionAttributes"]
    assert of_version("PutObject") == "PutObject"
    with pytest.raises(KeyError):
        needed("SelectObjectContent")
