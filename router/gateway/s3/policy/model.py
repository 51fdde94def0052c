"""A policy that was read, and what it is asked. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

from router.gateway.s3.policy.conditions import (
    EXISTING_TAG,
    REQUEST_TAG,
    REQUEST_TAG_KEYS,
    Condition,
)
from router.gateway.s3.policy.patterns import Pattern, Values


@dataclass(frozen=True)
class Who:
    """Somebody with an access key.

    Attributes:
        owner: of the key.
        canonical_id: 64 hex digits that stand for the owner.
    """

    owner: str
    canonical_id: str


@dataclass(frozen=True)
class Question:
    """What somebody wants to do.

    Attributes:
        who: None for somebody without an access key.
        action: without ``s3:``.
        resource: ``bucket``, or ``bucket/key``; the key as it is stored, nothing in it cleaned up.
        values: what else is known of the request.
    """

    who: Who | None
    action: str
    resource: str
    values: Values


@dataclass(frozen=True)
class Principals:
    """Those whom a statement names.

    Attributes:
        anyone: whether that is everybody, also without an access key.
        owners: of access keys, by name.
        canonical_ids: of owners.
    """

    anyone: bool = False
    owners: frozenset[str] = frozenset()
    canonical_ids: frozenset[str] = frozenset()

    def have(self, who: Who | None) -> bool:
        """Whether somebody is among them."""
        if self.anyone:
            return True
        return who is not None and (
            who.owner in self.owners or who.canonical_id in self.canonical_ids
        )


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        allows: or it denies.
        principals: whom it is about.
        others: whom it is about are all but those.
        actions: what it is about.
        other_actions: what it is about are all but those.
        resources: on which it is about.
        other_resources: on all but those.
        conditions: which all have to hold.
    """

    allows: bool
    principals: Principals
    others: bool
    actions: tuple[Pattern, ...]
    other_actions: bool
    resources: tuple[Pattern, ...]
    other_resources: bool
    conditions: tuple[Condition, ...]

    def is_about(self, question: Question) -> bool:
        """Whether it says something of a question."""
        if self.principals.have(question.who) is self.others:
            return False
        action, values = f"s3:{question.action}", question.values
        if any(each.fits(action, values) for each in self.actions) is self.other_actions:
            return False
        resource = question.resource
        if any(each.fits(resource, values) for each in self.resources) is self.other_resources:
            return False
        return all(each.holds(values) for each in self.conditions)


@dataclass(frozen=True)
class Policy:
    """A policy.

    Attributes:
        statements: in their order, which means nothing.
    """

    statements: tuple[Statement, ...]

    @cached_property
    def asks_existing_tags(self) -> bool:
        """Whether it may depend on the tags that an object has."""
        return any(key.startswith(EXISTING_TAG) for key in self._keys)

    @cached_property
    def asks_given_tags(self) -> bool:
        """Whether it may depend on the tags that a request gives."""
        return any(key.startswith((REQUEST_TAG, REQUEST_TAG_KEYS)) for key in self._keys)

    @property
    def _keys(self) -> list[str]:
        return [each.key for statement in self.statements for each in statement.conditions]


class Verdict(enum.Enum):
    """What a policy says to a question."""

    DENY = "deny"
    ALLOW = "allow"
    NOTHING = "nothing"
