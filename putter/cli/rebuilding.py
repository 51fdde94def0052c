"""The work of `putter rebuild`; importing it brings the modules of a router."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import filterfalse
from typing import Final

from common.buffers import BufferPool
from common.certificates import certificates_of
from common.errors import MetadataUnavailable, PutterError
from common.keys import Keyring, load_keyring
from common.limits import LIST_PAGE_MAX
from common.meta.interface import Metadata
from common.meta.redis_store import connect
from common.metrics import Metrics
from common.settings import Settings
from common.tls_ports import node_network
from common.transport import TcpNetwork
from common.uploads import is_hidden
from common.wire.handshake import CHALLENGE_BYTES
from common.wire.session import Hello
from putter.cli.process import new_instance, version
from router.catchup import CatchUp, CatchUpOptions, RebuildNeeded
from router.fleet import Fleet
from router.links import LinkOptions
from router.replay import OnProgress, Tally
from router.replicas import Replicas

_PATIENCE_MS: Final = 10_000
_PAUSE_S: Final = 0.2
_BUSY_S: Final = 600.0


@dataclass
class Outcome:
    """What a rebuild did.

    Attributes:
        tallies: of each replay.
        silent: putters that did not answer.
        trouble: why Redis is not complete; None if it is.
        objects: names that hold something now.
    """

    tallies: list[Tally] = field(default_factory=list)
    silent: tuple[str, ...] = ()
    trouble: PutterError | None = None
    objects: int = 0


def run(
    settings: Settings,
    *,
    without: frozenset[str],
    again: bool,
    wait_s: float,
    on_progress: OnProgress,
) -> Outcome:
    """Rebuild, and return when Redis is complete or a putter was silent for too long.

    Raises:
        PutterError: Redis or the putters cannot be reached.
    """
    options = CatchUpOptions(
        auto=True, without=without, again=again, wait_ms=max(1, int(wait_s * 1000))
    )
    return asyncio.run(_run(settings, options, wait_s, on_progress))


async def _run(
    settings: Settings, options: CatchUpOptions, wait_s: float, on_progress: OnProgress
) -> Outcome:
    assert settings.redis is not None
    meta = connect(settings.redis, grace_ms=settings.grace_ms, patience_ms=_PATIENCE_MS)
    try:
        await meta.ping()
        keyring = load_keyring(settings.key_path, create=False)
        fleet, instance = _fleet(settings, meta, keyring)
        fleet.start()
        try:
            replicas = Replicas(fleet, keyring)
            rng = random.SystemRandom()
            catch_up = CatchUp(
                meta, fleet, instance, rng, options, on_progress, mend=replicas.complete
            )
            outcome = await _until_complete(catch_up, wait_s)
        finally:
            await fleet.stop()
        if outcome.trouble is None:
            outcome.objects = await _count(meta)
        return outcome
    finally:
        await meta.close()


async def _until_complete(catch_up: CatchUp, wait_s: float) -> Outcome:
    """Putters that were just started, or that did not find this Redis yet, are given a moment."""
    outcome = Outcome()
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        done = await catch_up.step()
        if catch_up.tally is not None and catch_up.tally not in outcome.tallies:
            outcome.tallies.append(catch_up.tally)
        outcome.silent = catch_up.silent
        if done:
            outcome.trouble = None
            return outcome
        outcome.trouble = catch_up.needs
        waited_s = loop.time() - began
        if isinstance(outcome.trouble, RebuildNeeded):
            if waited_s > wait_s:
                return outcome
        elif waited_s > _BUSY_S:
            raise MetadataUnavailable(
                "another process brings this Redis up to date", hint="see the log of the routers"
            )
        await asyncio.sleep(_PAUSE_S)


async def _count(meta: Metadata) -> int:
    """Names that hold something."""
    count = 0
    for bucket in filterfalse(is_hidden, await meta.files.buckets()):
        after: str | None = ""
        while after is not None:
            page = await meta.files.list(bucket, "", after, LIST_PAGE_MAX)
            count += len(page.entries)
            after = page.next_after
    return count


def _fleet(settings: Settings, meta: Metadata, keyring: Keyring) -> tuple[Fleet, str]:
    """Links to all putters, and the name under which we come."""
    instance = new_instance()
    rng = random.SystemRandom()

    def introduce() -> Hello:
        return Hello(
            role="client",
            node=instance,
            instance=instance,
            frame_bytes=settings.frame_bytes,
            key_ids=tuple(keyring.ids),
            challenge=rng.randbytes(CHALLENGE_BYTES),
            version=version(),
        )

    fleet = Fleet(
        meta.members,
        tuple(_address(node) for node in settings.nodes),
        introduce=introduce,
        keyring=keyring,
        network=node_network(TcpNetwork(), certificates_of(settings)),
        pool=BufferPool(),
        rng=rng,
        metrics=Metrics("router"),
        options=LinkOptions(settings.frame_bytes),
    )
    return fleet, instance


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
