"""What the settings of a bucket say of who may."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import patch

import pytest

from common.meta.buckets import Configured
from common.records import BucketSettings
from router.gateway.s3 import gate
from router.gateway.s3.gate import AllRules
from router.gateway.s3.policy.model import Question, Who
from router.gateway.s3.rules import ALL, ENFORCED, Block, Rights, Rules, rules_of

POLICY = json.dumps(
    {
        "Statement": {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::b-1", "arn:aws:s3:::b-1/*"],
        }
    }
)
CREATED = {"created": {"ms": 1, "owner": "ann", "location": ""}}


def may(rules: Rules, owner: str | None, action: str, *, own: bool = False) -> bool:
    who = None if owner is None else Who(owner, "0" * 64)
    question = Question(who, action, "b-1", {})
    return rules.let(Rights(owner, own, read_only=False), question)


def test_of_nothing_all_is_shut() -> None:
    rules = rules_of("b-1", 5, CREATED)
    assert rules == Rules("b-1", 5, "ann")
    assert (rules.block, rules.ownership, rules.acl) == (ALL, ENFORCED, "private")
    assert rules.plain
    assert not rules.shares


def test_what_was_taken_away() -> None:
    rules = rules_of("b-1", 5, {"public_access_block": {}, "ownership_controls": ""})
    assert (rules.block, rules.ownership) == (Block(), "")


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": 5},
        {"policy": "{}"},
        {"policy": POLICY.replace("s3:*", "s3:OfTomorrow")},
        {"policy": POLICY.replace("b-1", "b-2")},
        {"policy": POLICY, "public_access_block": {"OfTomorrow": True}},
        {"policy": POLICY, "public_access_block": {"BlockPublicAcls": "yes"}},
        {"policy": POLICY, "public_access_block": True},
        {"policy": POLICY, "ownership_controls": "OfTomorrow"},
        {"policy": POLICY, "public_access_block": {}, "acl": "of-tomorrow"},
    ],
)
def test_what_is_not_understood_shuts_the_bucket(settings: dict[str, Any]) -> None:
    rules = rules_of("b-1", 5, CREATED | settings)
    assert not rules.plain
    for owner, own in ((None, False), ("bob", True), ("ann", True), ("root", True)):
        for action in ("GetObject", "ListBucket", "PutObject", "DeleteBucket"):
            assert not may(rules, owner, action, own=own)
    assert may(rules, "ann", "PutBucketPolicy", own=True)
    assert may(rules, "root", "PutBucketPublicAccessBlock", own=True)
    assert not may(rules, "bob", "PutBucketPolicy", own=True)
    assert not may(rules, "ann", "PutBucketPolicy", own=False)


def test_a_bucket_that_nobody_created_is_of_root() -> None:
    rules = rules_of("b-1", 5, {})
    assert may(rules, "root", "PutBucketPolicy", own=True)
    assert not may(rules, "ann", "PutBucketPolicy", own=True)
    assert may(rules, "ann", "PutObject", own=True)


class Buckets:
    """Settings of buckets, and how often they were asked for."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.stamp = 1
        self.settings = settings
        self.asked: list[str] = []

    async def get(self, bucket: str) -> Configured | None:
        self.asked.append(bucket)
        policy = POLICY.replace("b-1", bucket)
        return Configured(BucketSettings(bucket, self.stamp, 0, {"policy": policy}), 0)


async def test_a_policy_is_read_once_for_each_stamp() -> None:
    buckets = Buckets({})
    rules = AllRules(buckets)  # type: ignore[arg-type]
    with patch.object(gate, "rules_of", wraps=rules_of) as read:
        first = await rules.of("b-1")
        assert await rules.of("b-1") is first
        rules.changed("b-1")
        again = await rules.of("b-1")
        assert (again.stamp, read.call_count) == (1, 2)
        assert buckets.asked == ["b-1", "b-1"]
        assert (await rules.of("@keys")).plain
        assert (await rules.of("No Bucket")).plain
    assert len(buckets.asked) == 2
    await rules.stop()


async def test_what_is_remembered_is_bounded() -> None:
    buckets = Buckets({})
    rules = AllRules(buckets)  # type: ignore[arg-type]
    with patch.object(gate, "RULES_BYTES_MAX", 3 * len(POLICY)):
        for number in range(3):
            await rules.of(f"b-{number}")
        await rules.of("b-0")
        assert buckets.asked == ["b-0", "b-1", "b-2"]
        await rules.of("b-3")
        await asyncio.gather(*(rules.of(f"b-{number}") for number in range(3)))
    assert len(buckets.asked) == 7
    await rules.stop()
