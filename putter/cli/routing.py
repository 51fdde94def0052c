"""The router of a process as settings want it.

Importing this takes most of the start of a router: see `putter.cli.route`.
"""

from __future__ import annotations

import random

from common.callers import CallerLimits
from common.certificates import Certificates
from common.clock import SystemClock
from common.event_targets import parse_targets
from common.keys import Keyring
from common.meta.redis_store import RedisMetadata, connect
from common.settings import Settings
from common.siblings import Siblings
from common.transport import TcpNetwork
from common.wire.handshake import Identity
from putter.cli.process import new_instance, version
from router.app import Router
from router.options import RouterOptions
from router.quorum import Policy


def make_metadata(settings: Settings) -> RedisMetadata:
    """The coordinator that the settings name."""
    assert settings.redis is not None
    return connect(
        settings.redis, grace_ms=settings.grace_ms, patience_ms=settings.redis_patience_ms
    )


def make_router(
    settings: Settings,
    keyring: Keyring,
    metadata: RedisMetadata,
    siblings: Siblings | None = None,
    certificates: Certificates | None = None,
) -> Router:
    """A router made of settings; a worker of one if it has siblings."""
    instance = new_instance()
    return Router(
        RouterOptions(
            host=settings.host,
            ingest_port=settings.ingest_port,
            ack_port=settings.ack_port,
            web_port=settings.web_port,
            s3_port=settings.s3_port,
            s3_domain=settings.s3_domain or "",
            s3_website_domain=settings.s3_website_domain or "",
            reuse_ports=siblings is not None,
            advertise_host=settings.advertise_host or "",
            nodes=tuple(_address(node) for node in settings.nodes),
            policy=Policy(
                settings.replicas,
                settings.write_quorum,
                settings.consistency,
                settings.read_quorum,
            ),
            frame_bytes=settings.frame_bytes,
            write_timeout_ms=settings.write_timeout_ms,
            idle_ms=settings.idle_timeout_ms,
            callers=CallerLimits(settings.connections_max, settings.connections_per_address),
            stale_reads_ms=settings.stale_reads_s * 1000,
            local_reads=settings.local_reads == "on",
            rebuild_auto=settings.rebuild == "auto",
            repair_bytes_per_s=settings.repair_bytes_per_s,
            lifecycle_period_ms=settings.lifecycle_period_s * 1000,
            audit_period_ms=settings.audit_period_hours * 3_600_000,
            rebalance_percent=settings.rebalance_percent,
            replace_after_ms=settings.replace_after_s * 1000,
            token=settings.token or "",
            event_targets=parse_targets(settings.notify_targets),
        ),
        Identity(instance, instance, version()),
        keyring,
        TcpNetwork(),
        metadata,
        SystemClock(),
        random.SystemRandom(),
        metadata.address,
        siblings,
        certificates,
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
