"""Renaming a file: its bytes are written anew under the new name, then the old one holds nothing.

```
claim the old name ── read what it holds ── write it under the new name ── tombstone of that version
                                             durable, visible               durable, visible
```

So a crash leaves the old name, or both, and never neither; and so does a rebuild, for the new name
has a record of its own before the tombstone has one. The claim keeps other renames of the same file
away, and what is written or deleted there on a condition. What anybody writes there without one
stays: the tombstone names the one version whose bytes the new name has.

A rename with a mark can be sent again: the version that came of it tells which one it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final

from common.checksum import Buffer
from common.errors import PreconditionFailed, PutterError, UsageError, WriteConflict
from common.limits import CLAIM_LEASE_MS
from common.logs import get_logger
from common.names import format_name
from common.records import Acl, Version
from common.tickets import format_id
from common.versions import has_versions, number_of, plain_name
from router.blocks import ChunkSource
from router.claims import NameClaim
from router.object_keys import encrypted, own_key
from router.reads import ReadPath, absent
from router.targets import Sealed, Target, Written
from router.writes import WritePath

_log = get_logger(__name__)
_MARK: Final = "rename"

Check = Callable[[Version], Awaitable[None]]
"""Asked about what shall be renamed; an exception of it ends the call, and nothing changes."""


async def pieces(reads: ReadPath, version: Version) -> AsyncGenerator[Buffer, None]:
    """The bytes of a version, verified, in memory of their own."""
    async with contextlib.aclosing(reads.stream(version, 0, version.size)) as read:
        async for piece in read:
            yield bytes(piece)


def mark_of(token: str, asked: str) -> str:
    """The mark of a rename.

    Args:
        token: digits that name it, without a slash.
        asked: digits of all that it was asked for, without a slash.
    """
    return f"{_MARK}/{token}/{asked}"


def marked(version: Version, token: str) -> tuple[str, str] | None:
    """What a version tells of the rename with this token that it came of; None if of none.

    Returns:
        What was asked for, and the stamp of the version that was renamed, as an ID.
    """
    kind, _, rest = version.upload.partition("/")
    name, _, told = rest.partition("/")
    if kind != _MARK or name != token:
        return None
    asked, _, stamp = told.partition("/")
    return asked, stamp


class Renames:
    """Renames files.

    Args:
        writes: the write path.
        reads: reads what is renamed.
    """

    def __init__(self, writes: WritePath, reads: ReadPath) -> None:
        self._writes = writes
        self._reads = reads

    async def rename(
        self, bucket: str, key: str, target: Target, check: Check | None = None, mark: str = ""
    ) -> Written:
        """Give what a name holds another name; all that belongs to the bytes goes with them.

        An ACL does within a bucket: another one may have none, or none of that kind.

        Args:
            bucket: bucket name.
            key: key.
            target: the new name, and the condition on what it holds.
            check: asked whether this version may be renamed, while nobody else renames it.
            mark: from `mark_of`; "": none.

        Returns:
            What the new name holds; by then the old one does not hold it any more.

        Raises:
            NotFound: the name holds nothing.
            PreconditionFailed: the condition on the new name does not hold.
            UsageError: both names are the same, or a bucket keeps versions.
            WriteConflict: others rename it, or write there on a condition, for too long to wait;
                or it was changed meanwhile. Then the new name has what it held before.
            PutterError: the old name holds it still; perhaps the new one does, too.
        """
        if (bucket, key) == (target.bucket, target.key):
            raise UsageError(f"{format_name(bucket, key)} would be renamed to itself")
        for place, name in ((bucket, key), (target.bucket, target.key)):
            if (await self._writes.meta.versions.latest(place, name)).versioning:
                raise UsageError(
                    f"bucket {place!r} keeps versions: nothing is renamed there",
                    hint="copy the file, and delete the old name",
                )
        async with self._alone(bucket, key):
            version = await self._writes.meta.files.resolve(bucket, key)
            if version is None:
                raise absent(bucket, key)
            if check is not None:
                await check(version)
            written = await self._copy(version, target, mark)
            await self._remove(version)
        return written

    async def finish(self, bucket: str, key: str, stamp: str) -> None:
        """End a rename whose new name is there: let the old one not hold that version any more.

        Args:
            bucket: bucket name.
            key: key.
            stamp: of the version that was renamed, as an ID.

        Raises:
            PutterError: it may hold it still.
        """
        version = await self._writes.meta.files.resolve(bucket, key)
        if version is not None and format_id(version.stamp) == stamp:
            await self._remove(version)

    # -- inside ----------------------------------------------------------------------------

    async def _copy(self, version: Version, target: Target, mark: str) -> Written:
        mark = f"{mark}/{format_id(version.stamp)}" if mark else ""
        sealed = Sealed(version.etag, version.checksums, mark, version.parts, version.digests)
        target = replace(
            target,
            headers=version.headers,
            tags=version.tags,
            # Whom another bucket may let in is for its own rules to say.
            acl=version.acl.name if target.bucket == plain_name(version)[0] else "",
            empty_allowed=True,
            seal=lambda: sealed,
            encryption=version.encryption,
            size=version.size,
        )
        chunks = pieces(self._reads.as_stored(), version)  # no key is asked for
        encrypts = (await self._writes.policies.of(target.bucket)).encrypted
        if encrypts and version.encryption is None:
            key = own_key(self._writes.keyring)
            chunks = encrypted(chunks, key)
            target = replace(target, encryption=key.encryption)
        source = ChunkSource(chunks, self._writes.filler())
        try:
            return await self._writes.write(source, target)
        finally:
            source.close()
            await chunks.aclose()

    async def _remove(self, version: Version) -> None:
        """Let the old name hold nothing, if it holds what was copied.

        Raises:
            WriteConflict: it holds something else, or nothing.
        """
        bucket, key = plain_name(version)
        number = number_of(version) if has_versions(version.bucket) else None
        gone = None
        with contextlib.suppress(PreconditionFailed):
            gone = await self._writes.deletes.version(
                bucket,
                key,
                number,
                lambda held: _told(held) == _told(version),
            )
        if gone is None:
            raise WriteConflict(
                f"{format_name(bucket, key)} was changed while it was renamed: the new name has "
                "what it held before",
                hint="look at both",
            )

    @contextlib.asynccontextmanager
    async def _alone(self, bucket: str, key: str) -> AsyncIterator[None]:
        """Nobody else renames a file, or changes it on a condition.

        Raises:
            NotFound: there is none.
            WriteConflict: somebody does, for too long to wait.
        """
        holder = f"{self._writes.instance}/rename-{secrets.token_hex(8)}"
        claim = NameClaim(self._writes.meta.claims, Target(bucket, key, if_match="*"), holder)
        done = asyncio.Event()
        try:
            await claim.take()
        except PreconditionFailed:
            raise absent(bucket, key) from None
        keeper = asyncio.get_running_loop().create_task(_keep(claim, done))
        try:
            yield
        finally:
            done.set()
            await keeper
            self._writes.in_background(claim.give_back())


def _told(version: Version) -> tuple[int, int, Acl]:
    """What is another one as soon as a version, or what is said of it, changes."""
    return version.stamp, version.tagged, version.acl


async def _keep(claim: NameClaim, done: asyncio.Event) -> None:
    """Keep a claim for as long as it takes to copy."""
    while True:
        try:
            async with asyncio.timeout(CLAIM_LEASE_MS / 3000):
                await done.wait()
        except TimeoutError:
            try:
                await claim.take()
            except PutterError as error:
                _log.info("the claim of a name that is renamed", reason=str(error))
        else:
            return
