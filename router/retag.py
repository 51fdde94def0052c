"""Changes tags, locks and ACLs of files that are there, without writing their bytes again.

A version is described anew (`common.records.Version.tagged`): the record goes to the putters that
hold its bytes, and is durable before Redis tells what is new. It says where the bytes are, too, as
it was then; whoever finds both this record and one of a repair takes the newer part of each
(`common.records.joined`), so that neither undoes the other. In Redis the description is replaced
only if it is still the one that was changed; else the change is made anew, from what is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from common import records
from common.errors import NodesUnavailable, TooLarge, WriteConflict
from common.limits import COMMIT_RECORD_BYTES_MAX
from common.meta.handoff import Missed
from common.meta.interface import Metadata
from common.names import format_name
from common.records import Version
from common.versions import plain_name
from router.events import TAGGED, of_version
from router.fleet import Fleet
from router.inventory import named
from router.keeping import Keeping
from router.numbers import Numbers
from router.policies import Policies
from router.quorum import Policy
from router.replicas import Replicas

Find = Callable[[], Awaitable[Version]]
Anew = Callable[[Version, int], Version]
"""Describes a version anew, with the stamp of a change; as it is if there is nothing to change."""
_TRIES: Final = 8
"""Each one in vain means that somebody else described the version anew, or wrote another one."""


class Retag:
    """One router's way to describe versions anew.

    Args:
        meta: the coordinator.
        fleet: the putters.
        policies: how many of them a record needs.
        replicas: gives putters records of objects.
        keeping: makes records without an object durable.
        numbers: stamps.
    """

    def __init__(
        self,
        meta: Metadata,
        fleet: Fleet,
        policies: Policies,
        replicas: Replicas,
        keeping: Keeping,
        numbers: Numbers,
    ) -> None:
        self._meta = meta
        self._fleet = fleet
        self._policies = policies
        self._replicas = replicas
        self._keeping = keeping
        self._numbers = numbers

    async def change(self, find: Find, tags: Mapping[str, str], event: str = TAGGED) -> Version:
        """Give a version these tags, in place of those that it has; durable by the return.

        Args:
            find: finds the version; asked again if it was described anew, or is no more.
            tags: all of them, by key.
            event: what those are told who are told of it.

        Returns:
            The version, as it is described now.

        Raises:
            WriteConflict: others change it again and again.
            PutterError: the tags are those of before, or Redis did not answer at the end; after a
                rebuild they may be these.
            Exception: of ``find``.
        """

        def tagged(version: Version, stamp: int) -> Version:
            if version.tags == tags:
                return version
            return msgspec.structs.replace(version, tags=dict(tags), tagged=stamp)

        return await self.describe(find, tagged, event)

    async def describe(self, find: Find, what: Anew, event: str = "") -> Version:
        """Change what is said of a version; durable by the return.

        Args:
            find: as for `change`.
            what: asked for each description that is found; an exception of it ends the call.
            event: what those are told who are told of it; "": nobody is.

        Returns:
            The version, as it is described now.

        Raises:
            WriteConflict, PutterError: as `change`.
            Exception: of ``find``, or ``what``.
        """
        for _ in range(_TRIES):
            wanted = await find()
            found = await self._meta.repairs.at(wanted.bucket, wanted.key)
            if found is None or found.version.stamp != wanted.stamp:
                continue
            stamp = await self._numbers.stamp()
            new = what(found.version, stamp)
            if new is found.version:
                return new
            await self._keep(new)
            policy = await self._policies.of(new.bucket)
            post = of_version(policy, event, new, stamp=stamp) if event else None
            if await self._meta.repairs.amend(found.token, new, post):
                return new
        raise WriteConflict("what it holds is changed again and again", hint="try it again")

    # -- inside ----------------------------------------------------------------------------

    async def _keep(self, version: Version) -> None:
        """Make a description durable on as many putters as the policy asks for.

        Raises:
            PutterError: too few take it.
        """
        if not version.objects:
            await self._keeping.keep([version], f"{version.bucket}/{version.key}")
            return
        body = records.encode(version)
        if len(body) > COMMIT_RECORD_BYTES_MAX:
            raise TooLarge(
                f"the commit record of {format_name(*plain_name(version))} would have "
                f"{len(body)} bytes with that; at most {COMMIT_RECORD_BYTES_MAX} are kept"
            )
        policy = await self._policies.of(version.bucket)
        homes = sorted(named(version))
        there = [node for node in homes if self._replicas.is_up(node)]
        kept = await self._replicas.keep_record(version, there)
        await self._stand_in(version, policy, homes, kept)
        stamp = records.kept_under(version)
        missed = [
            Missed(node, version.bucket, stamp, tuple(kept), body)
            for node in homes
            if node not in kept and node not in self._fleet.left_out
        ]
        if missed:
            await self._meta.handoff.note(missed)

    async def _stand_in(
        self, version: Version, policy: Policy, homes: list[str], kept: list[str]
    ) -> None:
        """Have others hold a record too, as far as too few of those took it that hold the bytes.

        It is dropped there with the object, wherever that lies.

        Raises:
            NodesUnavailable: there are too few even so.
        """
        name = f"{version.bucket}/{version.key}"
        tried = set(homes)
        while len(kept) < policy.write_quorum:
            other = self._fleet.choose_another(name, tried)
            if other is None:
                break
            tried.add(other)
            kept += await self._replicas.keep_record(version, [other])
        if len(kept) < policy.needed(len(kept)):
            raise NodesUnavailable("too few putters take the commit record")
