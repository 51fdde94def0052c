"""``explain``: where the replicas of a file are."""

from __future__ import annotations

import typer

from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import human_size, human_time, print_json, print_table
from putter.client.explanation import Explanation, Loss, Replica


def explain(
    name: str = typer.Argument(help="bucket/key; without a bucket: files"),
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Tell where each replica of a file is, and what happens if a node is lost.

    Examples:
        putter explain photos/cat.jpg
        putter explain photos/cat.jpg --json
    """
    with open_store(url, token, key_file, tls_ca) as store:
        told = store.explain(name)
    if as_json:
        print_json(told)
    else:
        _print(told)


def _print(told: Explanation) -> None:
    typer.echo(f"file:     {told.bucket}/{told.key} ({human_size(told.size)})")
    typer.echo(f"version:  {told.version}")
    typer.echo(f"copies:   {told.replicas_wanted} wanted")
    if not told.replicas:
        typer.echo("replicas: none; the file has no byte, its commit record is all there is")
        for node in told.record_owed:
            typer.echo(f"owed:     the record to {node}")
        return
    print_table(
        (
            "node",
            "link",
            "bytes",
            "tickets",
            "held",
            "verified",
            "disk verified",
            "if it is lost",
        ),
        [_row(each, told.if_lost[each.node]) for each in told.replicas],
        left=2,
    )
    for missing in told.owed:
        held = f"; {missing.held_by} holds it meanwhile" if missing.held_by else ""
        typer.echo(f"owed:     {human_size(missing.bytes)} to {missing.node}{held}")


def _row(replica: Replica, loss: Loss) -> tuple[str, ...]:
    verified = "not yet" if replica.verified is False else _when(replica.verified_ms) or "-"
    disk = _when(replica.disk_verified_ms) or ("never" if replica.link == "up" else "-")
    return (
        replica.node,
        replica.link,
        human_size(replica.bytes),
        str(replica.tickets),
        "-" if replica.held is None else str(replica.held),
        verified,
        disk,
        _fate(loss),
    )


def _when(ms: int | None) -> str:
    return f"{human_time(ms)}Z".replace(" ", "T") if ms else ""


def _fate(loss: Loss) -> str:
    if not loss.copies_left:
        return f"{human_size(loss.lost_bytes)} are lost"
    copies = "1 copy is" if loss.copies_left == 1 else f"{loss.copies_left} copies are"
    return f"{copies} left{', copied again' if loss.copied_again else ''}"
