"""Which N, W, R and consistency count for a bucket: its own settings, else the store's.

The settings of a bucket are in Redis. A router keeps what it read for at most two seconds: so long
a change may take until all routers go by it. While a bucket is used, its settings are read again in
the background after one second, so that hardly anybody waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from common.errors import UsageError
from common.locks import NO_DEFAULT, default_of
from common.logs import get_logger
from common.meta.buckets import Buckets
from common.quotas import NAMES as QUOTA_NAMES
from common.quotas import kept_quota
from common.uploads import kept_like
from common.versions import versioning_of
from router.events import rules_of
from router.object_keys import SETTING
from router.quorum import Consistency, Policy
from router.recent import STALE_S, Recent

_log = get_logger(__name__)
_TRIES: Final = 3
"""So many times a small object may wait for its putters and for Redis before it is published."""
_REMEMBERED_MAX: Final = 4_096
"""Buckets; those beyond are asked for each time."""

_Count = Annotated[int, Meta(ge=1, le=8)]


class OwnPolicy(msgspec.Struct, frozen=True):
    """What a bucket's settings say of N, W, R and consistency; None: as the store."""

    replicas: _Count | None = None
    write_quorum: _Count | None = None
    read_quorum: _Count | None = None
    consistency: Consistency | None = None


NAMES: Final = OwnPolicy.__struct_fields__
"""The settings of a bucket that are known here."""
OPERATORS: Final = (*NAMES, *QUOTA_NAMES)
"""Those that an operator makes: they outlive the bucket."""


def own_policy(settings: Mapping[str, Any]) -> OwnPolicy:
    """What settings say; other names are passed over.

    Raises:
        UsageError: a value that cannot be.
    """
    try:
        return msgspec.convert({n: settings[n] for n in NAMES if n in settings}, OwnPolicy)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"settings of a bucket: {error}",
            hint="replicas, write_quorum and read_quorum are 1…8, consistency is available or "
            "strict; null is the store's value",
        ) from error


def policy_of(store: Policy, own: OwnPolicy) -> Policy:
    """What counts for a bucket. A quorum is never larger than the replicas."""
    replicas = own.replicas or store.replicas
    return Policy(
        replicas,
        min(own.write_quorum or store.write_quorum, replicas),
        own.consistency or store.consistency,
        min(own.read_quorum or store.read_quorum, replicas),
    )


def check_quorums(store: Policy, own: OwnPolicy) -> None:
    """Refuse quorums of a bucket that are larger than its replicas.

    Raises:
        UsageError: one is.
    """
    replicas = own.replicas or store.replicas
    whose = "the bucket's" if own.replicas else "the store's"
    for name in ("write_quorum", "read_quorum"):
        quorum = getattr(own, name)
        if quorum is not None and quorum > replicas:
            raise UsageError(f"{name} {quorum} is more than {whose} replicas {replicas}")


def settled_s(timeout_ms: int) -> float:
    """How long after a change writers may publish what the settings before it described.

    Args:
        timeout_ms: how long a step of a write may stand still.
    """
    return STALE_S + _TRIES * timeout_ms / 1000


class Policies:
    """The policies of all buckets, as one router knows them.

    Args:
        buckets: knows the settings.
        store: of the store as a whole.
    """

    def __init__(self, buckets: Buckets, store: Policy) -> None:
        self.store: Final = store
        self._buckets = buckets
        self._recent: Recent[Policy] = Recent(
            self._read, "the settings of a bucket", _REMEMBERED_MAX
        )

    def known(self, bucket: str) -> Policy | None:
        """The policy of a bucket if it was read lately; else ask `of`."""
        return self._recent.known(kept_like(bucket), None)

    def last(self, bucket: str) -> Policy | None:
        """What was last read of a bucket, however long ago."""
        return self._recent.last(kept_like(bucket), None)

    async def of(self, bucket: str) -> Policy:
        """The policy of a bucket.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        return await self._recent.of(kept_like(bucket))

    def changed(self, bucket: str) -> None:
        """The settings of a bucket were changed here: what was read before counts no more."""
        self._recent.changed(bucket)

    async def stop(self) -> None:
        """End what is under way."""
        await self._recent.stop()

    # -- inside ----------------------------------------------------------------------------

    async def _read(self, bucket: str) -> Policy:
        configured = await self._buckets.get(bucket)
        if configured is None:
            return self.store
        settings = configured.record.settings
        encrypted = SETTING in settings
        try:
            policy = policy_of(self.store, own_policy(settings))
            return replace(
                policy,
                versioning=versioning_of(settings),
                quota=kept_quota(configured.record),
                locks=default_of(settings) or NO_DEFAULT,
                events=rules_of(bucket, settings),
                encrypted=encrypted,
            )
        except UsageError as error:
            _log.error("a bucket goes by the store's settings", bucket=bucket, why=str(error))
            return replace(self.store, encrypted=encrypted)
