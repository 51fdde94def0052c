"""How much buckets hold, in memory: counted whenever somebody asks."""

from __future__ import annotations

from common.meta.memory_state import Bucket, Name, State
from common.quotas import Use, counted, kept_quota
from common.records import Version
from common.versions import versions_of


def use_of(state: State, bucket: str) -> Use:
    """How much a bucket holds, its versions beside the null ones too."""
    total = Use()
    for place in (bucket, versions_of(bucket)):
        for name in state.buckets.get(place, Bucket()).names.values():
            total += counted(name.version)
    return total


def over_quota(state: State, bucket: str, name: Name | None, version: Version) -> bool:
    """Whether the quota of a bucket refuses that a name holds this version.

    Args:
        state: everything.
        bucket: as clients know it.
        name: the name as it is, if it is known; what is newer than the version stays.
        version: what it would hold.
    """
    settings = state.buckets.get(bucket, Bucket()).settings
    quota = kept_quota(settings) if settings is not None else None
    if not quota or (name is not None and name.stamp >= version.stamp):
        return False
    more = counted(version) - counted(name.version if name is not None else None)
    return not quota.allows(use_of(state, bucket), more)
