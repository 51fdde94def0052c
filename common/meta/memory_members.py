"""The register of members of the coordinator in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from common.limits import MEMBER_LOST_MS
from common.membership import Decision, Refusal, Verdict
from common.meta.members import SILENT_ROUTER_KEPT_MS
from common.meta.memory_state import State
from common.meta.recovery import Mark
from common.meta.register import Member, Seen

if TYPE_CHECKING:
    from common.meta.memory import MemoryMetadata


class MemoryMembers:
    """`common.meta.register.Members` in memory."""

    def __init__(self, store: MemoryMetadata) -> None:
        self._store = store

    async def heartbeat(self, member: Member, *, asks: bool = False) -> Verdict:
        """Register, or renew with fresh numbers, unless somebody else speaks for the node."""

        def effect(state: State) -> Verdict:
            if member.role == "putter":
                verdict = self._judge(state, member, asks=asks)
                if not verdict.taken:
                    return verdict
                self._fence(state, member)
            state.members[member.node] = (self._store.clock.now_ms(), member)
            return Verdict()

        return await self._store.visit(effect)

    async def leave(self, node: str, instance: str = "") -> None:
        """A clean stop: not seen any more; what is known of a putter's directory is kept."""

        def effect(state: State) -> None:
            _, last = state.fences.get(node, (0, None))
            if last is not None and instance not in ("", last.instance):
                return
            if last is not None:
                state.fences[node] = (0, last)
            state.members.pop(node, None)

        await self._store.visit(effect)

    async def seen(self) -> list[Seen]:
        """All that registered and did not leave, sorted by node."""

        def effect(state: State) -> list[Seen]:
            now_ms = self._store.clock.now_ms()
            seen = [
                Seen(
                    member,
                    max(0, now_ms - last_ms),
                    state.decisions.get(node),
                    member.role == "router" or self._applied(state, node),
                )
                for node, (last_ms, member) in sorted(state.members.items())
            ]
            for each in seen:
                if each.member.role == "router" and each.age_ms > SILENT_ROUTER_KEPT_MS:
                    del state.members[each.member.node]
            return [each for each in seen if each.member.node in state.members]

        return await self._store.visit(effect)

    async def declare(self, node: str, decision: Decision | None) -> bool:
        """Note what the operator decided of a putter; None takes it back."""

        def effect(state: State) -> bool:
            before = state.decisions.get(node)
            known = any(node in t for t in (state.members, state.fences, state.marks))
            if before is None and not known:
                return False
            if before is Decision.GONE and decision is Decision.DRAINING:
                return False
            if decision is Decision.GONE:
                state.marks.pop(node, None)
            elif before is Decision.GONE:
                state.marks.pop(node, None)
                state.members.pop(node, None)
                if node in state.fences:
                    # It may still believe that it speaks for the node.
                    last_ms, last = state.fences[node]
                    unknown = msgspec.structs.replace(last, starts=0, records=0)
                    state.fences[node] = (last_ms, unknown)
            if decision is None:
                state.decisions.pop(node, None)
            else:
                state.decisions[node] = decision
            return True

        return await self._store.visit(effect)

    async def redeclare(self, decisions: Mapping[str, Decision]) -> bool:
        """Put decisions in force again that records tell of."""

        def effect(state: State) -> bool:
            lost = decisions.keys() - state.decisions.keys()
            for node in lost:
                state.decisions[node] = decisions[node]
                if decisions[node] is Decision.GONE:
                    state.marks.pop(node, None)
            return bool(lost)

        return await self._store.visit(effect)

    async def decisions(self) -> Mapping[str, Decision]:
        """What was decided, by node; also of nodes that are not seen."""
        return await self._store.visit(lambda state: dict(state.decisions))

    # -- inside ----------------------------------------------------------------------------

    def _judge(self, state: State, member: Member, *, asks: bool) -> Verdict:
        node = member.node
        last_ms, last = state.fences.get(node, (0, None))
        same = last is not None and last.instance == member.instance
        gone = state.decisions.get(node) is Decision.GONE
        if gone and (member.records or same):
            return Verdict(Refusal.GONE)
        if last is None and not gone and asks:
            return Verdict(Refusal.UNKNOWN)
        if same:
            return Verdict()
        alive = self._store.clock.now_ms() - last_ms < MEMBER_LOST_MS
        if last is not None and alive and last.address != member.address:
            return Verdict(Refusal.CLONE, last.address)
        if gone:
            del state.decisions[node]
            state.marks.pop(node, None)
        elif last is not None and 0 < last.starts >= member.starts:
            return Verdict(Refusal.STARTS, str(last.starts))
        elif last is not None and member.records < last.records:
            return Verdict(Refusal.RECORDS, str(last.records))
        applied = state.marks.get(node, Mark()).number
        if member.records < applied:
            return Verdict(Refusal.RECORDS, str(applied))
        return Verdict()

    def _fence(self, state: State, member: Member) -> None:
        records = member.records
        _, last = state.fences.get(member.node, (0, None))
        if last is not None and last.instance == member.instance:
            records = max(records, last.records)
        told = msgspec.structs.replace(member, records=records)
        state.fences[member.node] = (self._store.clock.now_ms(), told)

    def _applied(self, state: State, node: str) -> bool:
        return state.marks.get(node, Mark()).epoch == self._store.epoch
