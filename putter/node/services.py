"""What all connections of a node share."""

from __future__ import annotations

import random
from concurrent.futures import Executor
from dataclasses import dataclass

from common.budget import Budget
from common.buffers import BufferPool
from common.keys import Keyring
from common.metrics import Metrics
from common.wire.handshake import Identity
from putter.node.acks import AckLinks
from putter.node.admission import Admission
from putter.node.committer import Committer
from putter.node.fence import Fence
from putter.node.scrub import Scrubber
from putter.node.verify import NodeCheck
from putter.storage.engine import Engine


@dataclass(frozen=True)
class Services:
    """Made once by `putter.node.app`.

    Attributes:
        identity: of the node.
        keyring: the cluster keys.
        engine: for reading; everything that changes it goes through the committer.
        committer: the way to the disk.
        readers: threads that read from the disk.
        pool: memory for payloads.
        budget: bytes in memory that are not yet durable.
        acks: the ways back to the routers.
        admission: whether sessions may begin.
        fence: objects whose late bytes are refused.
        scrubber: verifies what is at rest.
        check: verifies frames.
        metrics: counters.
        rng: challenges and jitter.
    """

    identity: Identity
    keyring: Keyring
    engine: Engine
    committer: Committer
    readers: Executor
    pool: BufferPool
    budget: Budget
    acks: AckLinks
    admission: Admission
    fence: Fence
    scrubber: Scrubber
    check: NodeCheck
    metrics: Metrics
    rng: random.Random
