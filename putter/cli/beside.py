"""What runs beside a router that was given no Redis: a Valkey, and where none is named a putter.

Nothing here needs the modules of a router: the children start while those are imported.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import msgspec

from common.errors import PutterError, SettingInvalid
from common.logs import get_logger
from common.meta.interface import Members
from common.settings import Settings
from putter.local.children import Child, ChildFailed, Spec, Supervisor
from putter.local.embedded import EmbeddedValkey
from putter.local.environment import environment_of

_log = get_logger(__name__)
_REGISTER_S: Final = 60.0
_POLL_S: Final = 0.02


class Beside:
    """The children of one router.

    Args:
        settings: of the router.

    Attributes:
        settings: with the URL of the Valkey once that is known.
        alone: there is a putter, too, and it is the only one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.alone: Final = not settings.nodes
        self._embedded = EmbeddedValkey(settings.redis_dir, [settings.putter_dir / "lock"])
        self._supervisor = Supervisor()
        self._valkey: Child | None = None
        self._putter: Child | None = None
        self._members: Members | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What every further child must inherit: the next start waits for it."""
        return self._embedded.lock.descriptors

    async def launch(self) -> None:
        """Take the data directory and start the children, whose start goes on by itself.

        Raises:
            PutterError: another store runs on the directory, or it cannot be used.
        """
        if self.alone and self.settings.read_quorum > 1:
            raise SettingInvalid(
                f"read_quorum {self.settings.read_quorum} is more than the one putter of a router "
                f"that runs alone",
                hint="name putters with --nodes, or start a cluster with `putter local`",
            )
        spec = await self._embedded.prepare()
        # It can be no other Redis than ours that is empty.
        self.settings = msgspec.structs.replace(
            self.settings, redis=self._embedded.url, rebuild=self.settings.rebuild or "auto"
        )
        self._valkey = await self._supervisor.launch(spec)
        if self.alone:
            # One putter is all there will be: nobody else can reach this Valkey.
            self.settings = msgspec.structs.replace(self.settings, replicas=1, write_quorum=1)
            self._putter = await self._supervisor.launch(self._putter_spec())

    async def valkey_ready(self) -> None:
        """Wait for the Valkey.

        Raises:
            ChildFailed: it ended, or does not answer.
        """
        assert self._valkey is not None
        await self._valkey.wait_ready()
        _log.info("embedded valkey runs", directory=str(self.settings.redis_dir))

    async def putter_ready(self, members: Members) -> None:
        """Wait for the putter, where there is one, to listen and to be registered.

        Raises:
            ChildFailed: it ended, or does not register.
        """
        if self._putter is not None:
            self._members = members
            await self._putter.wait_ready()

    def hang_up(self) -> None:
        """Let the putter read its files again."""
        if self._putter is not None:
            self._putter.hang_up()

    async def stop(self) -> None:
        """Stop the putter, then the Valkey, and give the directory back."""
        await self._supervisor.stop()
        self._embedded.close()

    def _putter_spec(self) -> Spec:
        env = environment_of(self.settings)
        argv = (sys.executable, "-m", "putter", "server")
        return Spec("putter", argv, self._registered, env, pass_fds=self._embedded.lock.descriptors)

    async def _registered(self, launched_s: float) -> None:
        """Wait for a sign of life that is younger than the process: one from before may be there.

        While Redis cannot be asked, the putter cannot register, and nothing is held against it.
        """
        assert self._members is not None
        loop = asyncio.get_running_loop()
        asked_since_s = loop.time()
        while True:
            age_ms = (loop.time() - launched_s) * 1000
            try:
                seen = await self._members.seen()
            except PutterError as error:
                _log.debug("membership is not to be had", reason=str(error))
                asked_since_s = loop.time()
            else:
                if any(each.member.role == "putter" and each.age_ms < age_ms for each in seen):
                    return
            if loop.time() - asked_since_s > _REGISTER_S:
                raise ChildFailed(f"the putter did not register within {_REGISTER_S:.0f} s")
            await asyncio.sleep(_POLL_S)
