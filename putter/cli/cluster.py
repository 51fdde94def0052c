"""Commands on the store as a whole: status, keys."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from common.errors import UsageError
from common.keys import readable_by_others
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, key_path, keyring, open_store
from putter.cli.access_keys import create_key, delete_key, list_keys, rotate_key, update_key
from putter.cli.output import (
    held_cells,
    human_age,
    human_size,
    human_time,
    packed_as,
    print_json,
    print_table,
)
from putter.cli.raw import DEFAULT_PUTTER, Putter, parse_address, session_certificates
from putter.cli.shell import Shell, help_of, warn
from putter.client.buckets import BucketInfo, BucketPolicy
from putter.client.models import Stored
from putter.client.status import ScrubState, StoreStatus

_REASONS_SHOWN = 5
_INTERVAL_S: Final = 2.0

keys = typer.Typer(cls=Shell, help="Access keys, and the cluster key.", no_args_is_help=True)


def status(
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            help=f"With --watch: seconds between two looks; else {_INTERVAL_S:g}.",
            min=0.1,
            max=3600,
            metavar="SECONDS",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell how the cluster is: Redis, putters, links, tickets, what is owed.

    Examples:
        putter status
        putter status --watch
        putter status --json | python -m json.tool
    """
    if interval is not None and not watch:
        raise UsageError("--interval is for --watch")
    if watch:
        from putter.cli import watch as live  # needs more of rich than the others do

        with open_store(url, token, key_file, tls_ca, timeout_s=live.ANSWER_S) as store:
            live.watch(
                store,
                url,
                _INTERVAL_S if interval is None else interval,
                lambda told: _print_status(url, told),
                as_json=as_json,
            )
        return
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.status()
    if as_json:
        print_json(told)
    else:
        _print_status(url, told)


def print_token(key_file: KeyFile = None) -> None:
    """Print the bearer token of the web door.

    Examples:
        curl -H "Authorization: Bearer $(putter keys token)" http://store:5004/status
    """
    typer.echo(keyring(key_file).writing.token)


def show_keys(key_file: KeyFile = None, as_json: Json = False) -> None:
    """List the ids of the keys in the key file; the first one writes, all verify.

    Examples:
        putter keys show --key-file data/cluster.key
    """
    ids = keyring(key_file).ids
    path = key_path(key_file)
    if readable_by_others(path):
        warn(f"others can read {path}; chmod 600 {path}")
    if as_json:
        print_json([{"id": key_id, "writes": at == 0} for at, key_id in enumerate(ids)])
        return
    for at, key_id in enumerate(ids):
        typer.echo(f"{key_id}  {'writes' if at == 0 else 'verifies'}")


def show_needed_keys(
    putter: Putter = DEFAULT_PUTTER, key_file: KeyFile = None, as_json: Json = False
) -> None:
    """List the ids of the cluster keys that checksums on a putter's disk were made with.

    And those that files are encrypted with over S3 whose commit records it holds. It looks through
    all tickets but raw ones, and all records, which takes some seconds per million.

    Examples:
        putter keys needed --putter 10.0.0.11:5000
    """
    from putter.client.session import keys_needed

    ring = keyring(key_file)
    host, port = parse_address(putter)
    needed = keys_needed(host, port, ring, session_certificates())
    if as_json:
        print_json([{"id": key_id, "here": key_id in ring.ids} for key_id in needed])
        return
    for key_id in needed:
        place = "" if key_id in ring.ids else "  not in this key file"
        typer.echo(f"{key_id}{place}")


keys.command("token", help=help_of(print_token))(print_token)
keys.command("show", help=help_of(show_keys))(show_keys)
keys.command("needed", help=help_of(show_needed_keys))(show_needed_keys)
keys.command("create", help=help_of(create_key))(create_key)
keys.command("list", help=help_of(list_keys))(list_keys)
keys.command("update", help=help_of(update_key))(update_key)
keys.command("rotate", help=help_of(rotate_key))(rotate_key)
keys.command("delete", help=help_of(delete_key))(delete_key)


def _used_cell(each: BucketInfo) -> str:
    """What a bucket with a quota holds."""
    files, size = held_cells(each)
    return f"; {files} files, {size}" if each.used is not None else ""


def _print_status(url: str, told: StoreStatus) -> None:
    redis = f"{'ok' if told.redis.ok else 'down'} {told.redis.address}".strip()
    used, most = told.numbers.get("tickets_used", 0), told.numbers.get("tickets_max", 0)
    typer.echo(f"router:   {url} (version {told.version})")
    typer.echo(f"redis:    {redis}")
    if told.workers:
        answer = sum(each.answers for each in told.workers)
        typer.echo(f"workers:  {answer} of {len(told.workers)} answer")
    if most:
        typer.echo(f"tickets:  {used} of {most} ({100 * used / most:.2g} %)")
    if told.policy is not None:
        typer.echo(f"policy:   {_policy_cell(told.policy)}")
    for each in told.buckets:
        follow = "" if each.followed else "; what it holds already follows"
        cell = f"{_policy_cell(each.policy)}{_used_cell(each)}{follow}"
        typer.echo(f"bucket:   {each.bucket}: {cell}")
    for state, count in told.objects.items():
        typer.echo(f"objects:  {count} {state}")
    if not told.nodes:
        typer.echo("nodes:    none")
        return
    for node in told.nodes:
        if node.reason:
            typer.echo(f"no link:  {node.node or '?'} at {node.address}: {node.reason}")
    print_table(
        (
            "node", "address", "state", "storage", "link", "seen", "free", "size", "in flight",
            "packed", "scrubbed", "scrub", "damaged",
        ),
        [
            (
                node.node,
                node.address,
                node.state,
                node.storage,
                node.link,
                human_age(node.age_ms),
                human_size(node.free_bytes),
                human_size(node.capacity_bytes),
                human_size(node.inflight_bytes),
                _packed_cell(node.packing),
                *_scrub_cells(node.scrub),
            )
            for node in told.nodes
        ],
        left=5,
    )  # fmt: skip
    _print_repair(told)


def _print_repair(told: StoreStatus) -> None:
    """What is owed to putters and targets, and what cannot be healed; nothing if all is well."""
    found = told.audit.found
    if told.audit.running and found is not None:
        missing = found.objects + found.records + found.bare
        typer.echo(f"compared: {found.names} names so far, {missing} things are missing")
    if told.repair:
        typer.echo("\nowed to putters:")
        print_table(
            ("node", "objects", "records", "bytes", "rate", "done in", "stuck"),
            [
                (
                    "any" if each.node == "*" else each.node,
                    str(each.objects),
                    str(each.records),
                    human_size(each.bytes),
                    f"{human_size(each.bytes_per_s)}/s" if each.bytes_per_s else "-",
                    "-" if each.eta_s is None else f"{each.eta_s} s",
                    str(len(each.stuck)),
                )
                for each in told.repair
            ],
            left=1,
        )
        for each in told.repair:
            for stuck in each.stuck[:_REASONS_SHOWN]:
                typer.echo(f"  object {stuck.object}: {stuck.reason}")
    if told.balance is not None and told.balance.left_bytes:
        typer.echo(f"uneven:   {human_size(told.balance.left_bytes)} move to other putters next")
    for queue in told.events:
        typer.echo(
            f"events:   {queue.waiting} of bucket {queue.bucket} wait for {queue.target}"
            + (f", {queue.dropped} were dropped" if queue.dropped else "")
            + (f": {queue.trouble}" if queue.trouble else "")
        )
    for wound in told.incurable:
        typer.echo(
            f"damaged:  {wound.count} tickets from {wound.first} of object {wound.object} on "
            f"{wound.node}: {wound.reason}"
        )


def _policy_cell(policy: BucketPolicy) -> str:
    return (
        f"N = {policy.replicas}, W = {policy.write_quorum}, R = {policy.read_quorum}, "
        f"{policy.consistency}"
    )


def _packed_cell(packing: Stored | None) -> str:
    """How new data is stored, and how many bytes went into each stored one since the start."""
    if packing is None:
        return "-"
    cell = packed_as(packing).replace(" ", "")
    if packing.compression and packing.stored_bytes:
        cell += f" {packing.plain_bytes / packing.stored_bytes:.2f}x"
    return cell


def _scrub_cells(scrub: ScrubState | None) -> tuple[str, str, str]:
    """When the last whole pass ended, how far the present one is, and what is damaged."""
    if scrub is None:
        return "-", "-", "-"
    ended = f"{human_time(scrub.last.ended_ms)}Z".replace(" ", "T") if scrub.last else "never"
    progress = "-"
    if scrub.running:
        progress = human_size(scrub.verified_bytes)
        if scrub.total_bytes:
            progress = f"{min(100, 100 * scrub.verified_bytes // scrub.total_bytes)} %"
    return ended, progress, str(scrub.damaged_tickets + scrub.damaged_others)
