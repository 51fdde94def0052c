"""Access keys: who may sign requests, with what secret, and what they may do.

A key is changed as everything is: a commit record first, then Redis. Its secret is encrypted in
both, with the cluster key that writes; when another one does, it is encrypted anew.

A router uses what it read for at most two seconds (`router.recent`): so long a key that was deleted
or rotated through another router may still count here.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec

from common.clock import Clock
from common.errors import NotFound, PutterError, UsageError, WriteConflict
from common.keys import Keyring
from common.limits import ACCESS_KEYS_MAX
from common.logs import get_logger
from common.meta.interface import Metadata
from common.pairs import (
    FIRST_PAIR,
    Pair,
    is_id,
    new_id,
    new_secret,
)
from common.records import KEYS_BUCKET, AccessKey
from common.sealing import seal, unseal
from router.keeping import Keeping
from router.numbers import Numbers
from router.recent import Recent
from router.rights import Issued, Key, RightsChange, Wanted, check
from router.rounds import Rounds
from router.turns import turn

_log = get_logger(__name__)

KEEP_OLD_S_MAX: Final = 90 * 24 * 3600
"""How long a secret may count that was replaced."""
_REMEMBERED_MAX: Final = 4_096
_LEASE: Final = "keys"
_RESEAL_S: Final = 60.0


class AccessKeys:
    """One router's view of all access keys, and its way to change them.

    Args:
        meta: knows them.
        keyring: encrypts the secrets.
        keeping: makes records durable.
        numbers: stamps.
        clock: dates changes.
        instance: of this router.
    """

    def __init__(
        self,
        meta: Metadata,
        keyring: Keyring,
        keeping: Keeping,
        numbers: Numbers,
        clock: Clock,
        instance: str,
    ) -> None:
        self._meta = meta
        self._keyring = keyring
        self._keeping = keeping
        self._numbers = numbers
        self._clock = clock
        self._instance = instance
        self._changes = 0
        self._recent: Recent[Key | None] = Recent(self._read, "an access key", _REMEMBERED_MAX)
        self._first: asyncio.Task[Issued | None] | None = None
        self.answers: Final = {FIRST_PAIR: self.first_told}
        """What a worker answers its parent."""
        self._rounds = Rounds(self.reseal, _RESEAL_S, "sealing access keys anew")
        keyring.listen(self._recent.clear)

    def start(self) -> None:
        """Begin to encrypt anew what is encrypted with a cluster key that writes no more."""
        self._rounds.start()

    async def stop(self) -> None:
        """End that, and what is asked for."""
        await self._rounds.stop()
        await self._recent.stop()
        if self._first is not None:
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)

    async def find(self, access_key_id: str) -> Key | None:
        """The key of an id, as it was at most two seconds ago; None: there is none.

        Raises:
            MetadataUnavailable: Redis does not answer.
            NotAuthorised: the cluster key that its secret is encrypted with is not here.
            IntegrityError: its secret is damaged.
        """
        if not is_id(access_key_id):
            return None
        return await self._recent.of(access_key_id)

    async def every(self) -> list[AccessKey]:
        """The records of all keys that there are, by id.

        Raises:
            MetadataUnavailable: Redis does not answer.
        """
        return [each for each in await self._meta.access.every() if each.sealed]

    async def create(self, wanted: Wanted) -> Issued:
        """Make a key.

        Returns:
            It, durable, with its secret.

        Raises:
            UsageError: it cannot be so, or there are too many.
            WriteConflict: there is one with this id, or it is changed right now.
            PutterError: nothing changed, unless Redis did not answer at the end: then look.
        """
        check(wanted)
        async with self._turn():
            keys = await self._meta.access.every()
            if any(each.key == wanted.access_key_id and each.sealed for each in keys):
                raise WriteConflict(
                    f"there is an access key {wanted.access_key_id!r} already",
                    hint="give it a new secret with putter keys rotate, or delete it first",
                )
            if sum(bool(each.sealed) for each in keys) >= ACCESS_KEYS_MAX:
                raise UsageError(f"there are {ACCESS_KEYS_MAX} access keys: delete some first")
            return await self._issue(wanted)

    async def first(self) -> Issued | None:
        """Make a key for the owner of a new store.

        Returns:
            It with its secret; None: there are keys already, or were.

        Raises:
            PutterError: as `create`.
        """
        if await self._meta.access.every():
            return None
        async with self._turn():
            if await self._meta.access.every():
                return None
            return await self._issue(Wanted(new_id()))

    async def first_told(self) -> bytes:
        """The same as JSON (`common.pairs.Pair`), empty for none; the same again to a second call.

        Whoever asked and got no answer in time asks again, and nothing is lost.

        Raises:
            PutterError: as `create`.
        """
        if self._first is None or (self._first.done() and self._first.exception()):
            self._first = asyncio.get_running_loop().create_task(self.first())
        issued = await asyncio.shield(self._first)
        if issued is None:
            return b""
        return msgspec.json.encode(Pair(issued.record.key, issued.secret))

    async def rotate(
        self, access_key_id: str, secret: str | None = None, *, keep_old_s: int = 0
    ) -> Issued:
        """Give a key a new secret; its rights stay.

        Args:
            access_key_id: its id.
            secret: the new one; None: a random one.
            keep_old_s: how long the present one counts beside it, seconds. One from before that
                ends at once.

        Raises:
            NotFound: there is no such key.
            PutterError: as `create`.
        """
        if not 0 <= keep_old_s <= KEEP_OLD_S_MAX:
            raise UsageError(f"an old secret is kept for 0…{KEEP_OLD_S_MAX} s, not {keep_old_s}")
        async with self._turn():
            held = await self._get(access_key_id)
            rights = held.owner, held.read_only, held.buckets
            wanted = Wanted(access_key_id, secret, *rights)
            check(wanted)
            return await self._issue(wanted, held if keep_old_s else None, keep_old_s)

    async def update(self, access_key_id: str, change: RightsChange) -> AccessKey:
        """Change whose a key is and what it may; its secret stays.

        Returns:
            It, durable.

        Raises:
            NotFound: there is no such key.
            PutterError: as `create`.
        """
        async with self._turn():
            held = await self._get(access_key_id)
            check(
                Wanted(
                    access_key_id,
                    owner=held.owner if change.owner is None else change.owner,
                    buckets=held.buckets if change.buckets is None else change.buckets,
                )
            )
            record = await self._stamped(change.of(held))
            await self._keep(record)
            _log.info("the rights of an access key changed", access_key_id=access_key_id)
            return record

    async def delete(self, access_key_id: str) -> AccessKey:
        """Take a key away; after two seconds it counts nowhere.

        Returns:
            The record that says so, durable.

        Raises:
            NotFound: there is no such key.
            PutterError: as `create`.
        """
        async with self._turn():
            await self._get(access_key_id)
            stamp = await self._numbers.stamp()
            record = AccessKey(KEYS_BUCKET, access_key_id, stamp, self._clock.now_ms())
            await self._keep(record)
            _log.info("an access key was deleted", access_key_id=access_key_id)
            return record

    async def reseal(self) -> int:
        """Encrypt anew with the cluster key that writes what another one was used for.

        Returns:
            How many secrets.

        Raises:
            PutterError: as `create`.
        """
        writing = self._keyring.writing.key_id
        if all(_sealed_with(each) <= {writing} for each in await self.every()):
            return 0
        done = 0
        async with self._turn():
            for held in await self.every():
                if _sealed_with(held) != {writing} and held.sealed_with in self._keyring.ids:
                    secret, former = self._secret_of(held), self._former_of(held)
                    await self._keep(await self._sealed(held, secret, former))
                    done += 1
        if done:
            _log.info("secrets of access keys were encrypted anew", count=done, key=writing)
        return done

    # -- inside ----------------------------------------------------------------------------

    def _turn(self) -> AbstractAsyncContextManager[None]:
        self._changes += 1
        return turn(self._meta, _LEASE, f"{self._instance}/{self._changes}", "the access keys")

    async def _get(self, access_key_id: str) -> AccessKey:
        held = await self._meta.access.get(access_key_id)
        if held is None or not held.sealed:
            raise NotFound(f"there is no access key {access_key_id[:128]!r}")
        return held

    async def _issue(
        self, wanted: Wanted, former: AccessKey | None = None, keep_old_s: int = 0
    ) -> Issued:
        secret = wanted.secret if wanted.secret is not None else new_secret()
        until_ms = self._clock.now_ms() + 1000 * keep_old_s if former is not None else 0
        record = await self._sealed(
            AccessKey(
                KEYS_BUCKET,
                wanted.access_key_id,
                0,
                0,
                owner=wanted.owner,
                read_only=wanted.read_only,
                buckets=dict(wanted.buckets),
                former_until_ms=until_ms,
            ),
            secret,
            "" if former is None else self._secret_of(former),
        )
        await self._keep(record)
        _log.info("an access key was issued", access_key_id=record.key, owner=record.owner)
        return Issued(record, secret)

    async def _sealed(self, record: AccessKey, secret: str, former: str = "") -> AccessKey:
        key = self._keyring.writing
        return msgspec.structs.replace(
            await self._stamped(record),
            sealed=seal(key, record.key, secret),
            sealed_with=key.key_id,
            former=seal(key, record.key, former) if former else b"",
            former_with=key.key_id if former else "",
            former_until_ms=record.former_until_ms if former else 0,
        )

    async def _stamped(self, record: AccessKey) -> AccessKey:
        stamp = await self._numbers.stamp()
        return msgspec.structs.replace(record, stamp=stamp, created_ms=self._clock.now_ms())

    async def _keep(self, record: AccessKey) -> None:
        await self._keeping.keep([record], f"{record.bucket}/{record.key}")
        changed = await self._meta.access.change(record)
        self._recent.changed(record.key)
        if not changed:
            raise WriteConflict(
                f"access key {record.key!r} was changed meanwhile", hint="putter keys list"
            )

    def _secret_of(self, record: AccessKey) -> str:
        return unseal(self._keyring.named(record.sealed_with), record.key, record.sealed)

    def _former_of(self, record: AccessKey) -> str:
        """The secret before the present one; "" if it counts no more."""
        over = self._clock.now_ms() >= record.former_until_ms
        if not record.former or over or record.former_with not in self._keyring.ids:
            return ""
        return unseal(self._keyring.named(record.former_with), record.key, record.former)

    async def _read(self, access_key_id: str) -> Key | None:
        record = await self._meta.access.get(access_key_id)
        if record is None or not record.sealed:
            return None
        try:
            secret, former = self._secret_of(record), self._former_of(record)
        except PutterError as error:
            _log.error("a secret cannot be read", access_key_id=access_key_id, why=str(error))
            raise
        rights = record.owner, record.read_only, record.buckets
        return Key(record.key, secret, *rights, former, record.former_until_ms if former else 0)


def _sealed_with(record: AccessKey) -> set[str]:
    """The cluster keys that secrets of an access key are encrypted with."""
    return {record.sealed_with} | ({record.former_with} if record.former else set())
