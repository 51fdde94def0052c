"""What names held lately: reads of them go on while Redis is away, in ``available`` buckets.

```
Redis answers            the name is resolved there, and what it holds is remembered
it does not for 2 s      what is remembered is served, marked as stale, for all names of the bucket;
                         names that are not remembered wait, as all do under ``strict``
it answers again         the first answer for the bucket ends that
```

Each process remembers for itself, so that a worker does not know what another one changed. A name
is remembered with the moment in which Redis confirmed it; after ``kept_ms`` it is not used
any more. Its bytes are those of that version or none: tickets are never used for anything else,
and every frame is verified. If they were freed meanwhile, through a router that can reach Redis,
the read fails as if nothing were remembered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from common.clock import Clock
from common.errors import (
    MetadataUnavailable,
    PreconditionFailed,
    PutterError,
    RangeInvalid,
    ShuttingDown,
    Unavailable,
)
from common.limits import LATELY_BYTES_MAX, LATELY_NAMES_MAX, STALE_AFTER_MS
from common.logs import get_logger
from common.meta.interface import Files
from common.names import format_name
from common.records import Version
from common.versions import has_versions, number_of, plain_name
from router.policies import Policies
from router.reads import ASK_AGAIN, ReadPath, absent

_log = get_logger(__name__)
_LOOK_MS: Final = 500
_ENTRY_BYTES: Final = 2_048
_EXTENT_BYTES: Final = 512


class Found(NamedTuple):
    """What a name holds.

    Attributes:
        version: the record.
        reads: how its bytes are read.
        age_s: None if Redis says so now; else how many seconds ago it did.
    """

    version: Version
    reads: ReadPath
    age_s: int | None = None

    def undecided(self, error: PreconditionFailed | RangeInvalid) -> PutterError:
        """What to answer where a condition or a range does not fit the version.

        A newer version may have another entity tag, or more bytes.
        """
        if self.age_s is None:
            return error
        return MetadataUnavailable(
            f"what this version is asked for does not fit, and a newer one is not known: {error}",
            hint=ASK_AGAIN,
        )


@dataclass(slots=True)
class _Entry:
    """A name; without a version it was deleted, which nothing older may undo."""

    version: Version | None
    stamp: int
    at_ms: int
    size: int


def _bytes_of(version: Version) -> int:
    """About what remembering it takes, rather more than less."""
    texts = len(version.key) + sum(map(len, version.headers.values()))
    extents = sum([len(stored.extents) for stored in version.objects])
    texts += len(version.encryption.nonces) if version.encryption is not None else 0
    return _ENTRY_BYTES + texts + extents * _EXTENT_BYTES


class Lately:
    """The names that one router resolved lately.

    Args:
        files: of Redis.
        policies: know which buckets are ``available``.
        clock: measures ages.
        reads: reads versions that Redis confirms.
        kept_ms: how long a name may be used after Redis confirmed it; 0: never.
    """

    def __init__(
        self, files: Files, policies: Policies, clock: Clock, reads: ReadPath, kept_ms: int
    ) -> None:
        self.reads: Final = reads
        self._files = files
        self._policies = policies
        self._clock = clock
        self._kept_ms = kept_ms
        self._stale_reads = reads.unconfirmed()
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0
        self._away: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """How many names are remembered, and about how many bytes that takes."""
        return len(self._entries), self._bytes

    async def stop(self) -> None:
        """Ask Redis no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def find(self, bucket: str, key: str) -> Found:
        """What a name holds now; while Redis is away, what it held lately.

        Raises:
            NotFound: nothing.
            Unavailable: Redis does not answer, and the name is not remembered.
        """
        if self._usable(bucket, key) is None:
            version = await self._files.resolve(bucket, key)
        elif bucket in self._away:
            return self._stale(bucket, key)
        else:
            try:
                version = await self._files.resolve(bucket, key, patience_ms=STALE_AFTER_MS)
            except ShuttingDown:
                raise
            except Unavailable as error:
                self._goes_away(bucket, key, error)
                return self._stale(bucket, key)
        if self._away:
            self._comes_back(bucket)
        if self._kept_ms and self._policies.last(bucket) is None:
            await self._policies.of(bucket)
        if version is None:
            self._forget((bucket, key))
            raise absent(bucket, key)
        self.holds(version)
        return Found(version, self.reads)

    def marks(self, found: Found) -> dict[str, str]:
        """The headers by which an answer says that it is stale; counts it."""
        if found.age_s is None:
            return {}
        self.reads.metrics.stale_reads.inc()
        return {
            "Age": str(found.age_s),
            "Warning": '110 - "Response is Stale"',
            "X-Putter-Stale": "true",
        }

    def holds(self, version: Version) -> None:
        """A name was seen to hold a version, or holds it since a moment ago."""
        if self._kept_ms:
            self._put(plain_name(version), version, number_of(version), _bytes_of(version))

    def deleted(self, bucket: str, key: str, stamp: int) -> None:
        """A name holds nothing since a moment ago."""
        if self._kept_ms:
            self._put((bucket, key), None, stamp, _ENTRY_BYTES)

    # -- inside ----------------------------------------------------------------------------

    def _put(self, name: tuple[str, str], version: Version | None, stamp: int, size: int) -> None:
        entry = self._entries.get(name)
        now_ms = self._clock.monotonic_ms()
        if entry is None:
            self._entries[name] = _Entry(version, stamp, now_ms, size)
            self._bytes += size
        elif stamp < entry.stamp:
            # An answer that was overtaken by a change; or the newest version was deleted for good,
            # and nobody remembers what that lets be seen again.
            both = (entry.version, version)
            if entry.version is not None and any(
                each and has_versions(each.bucket) for each in both
            ):
                self._forget(name)
                self._put(name, None, entry.stamp, _ENTRY_BYTES)
            return
        else:
            self._bytes += size - entry.size
            entry.version, entry.stamp, entry.at_ms, entry.size = version, stamp, now_ms, size
            self._entries.move_to_end(name)
        while self._bytes > LATELY_BYTES_MAX or len(self._entries) > LATELY_NAMES_MAX:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size

    def _forget(self, name: tuple[str, str]) -> None:
        entry = self._entries.get(name)
        if entry is not None and entry.version is not None:
            del self._entries[name]
            self._bytes -= entry.size

    def _usable(self, bucket: str, key: str) -> _Entry | None:
        entry = self._entries.get((bucket, key))
        if entry is None or entry.version is None:
            return None
        policy = self._policies.last(bucket)
        if policy is None or policy.consistency == "strict":
            return None
        return entry if self._clock.monotonic_ms() - entry.at_ms < self._kept_ms else None

    def _stale(self, bucket: str, key: str) -> Found:
        entry = self._usable(bucket, key)
        if entry is None or entry.version is None:
            name = format_name(bucket, key)
            raise MetadataUnavailable(f"{name} is not remembered any more", hint=ASK_AGAIN)
        age_s = (self._clock.monotonic_ms() - entry.at_ms) // 1000
        return Found(entry.version, self._stale_reads, age_s)

    def _goes_away(self, bucket: str, key: str, why: Unavailable) -> None:
        if not self._away:
            _log.warning("reads go on with what names held lately", bucket=bucket, why=str(why))
        self._away[bucket] = key
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def _comes_back(self, bucket: str) -> None:
        if self._away.pop(bucket, None) is not None and not self._away:
            _log.info("reads ask Redis again", bucket=bucket)

    async def _look(self) -> None:
        """Find out when Redis is back, for all readers."""
        try:
            while self._away:
                await asyncio.sleep(_LOOK_MS / 1000)
                await asyncio.gather(*(self._ask(*each) for each in list(self._away.items())))
        except Exception:  # noqa: BLE001 - the next reader finds out
            _log.exception("Redis cannot be asked")
            self._away.clear()
        finally:
            self._looking = None

    async def _ask(self, bucket: str, key: str) -> None:
        try:
            await self._files.resolve(bucket, key, patience_ms=STALE_AFTER_MS)
        except PutterError as error:
            _log.debug("Redis is away", bucket=bucket, why=str(error))
        else:
            self._comes_back(bucket)
