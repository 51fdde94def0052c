"""The command that has putters verify their disks, and says what is damaged."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer

from common.errors import IntegrityError, NodesUnavailable, UsageError
from putter.cli.access import URL, Json, KeyFile, TlsCa, Token, Url, open_store
from putter.cli.output import human_size, human_time, plain, print_json, print_table, progress_bar
from putter.cli.shell import warn
from putter.client.sources import Progress
from putter.client.status import NodeScrub, ScrubFlaw
from putter.client.store import Store

_POLL_S: Final = 0.5
_PATIENCE_S: Final = 60.0
"""How long a putter may be away while it is waited for."""


class ScrubReport(msgspec.Struct, frozen=True):
    """What `scrub` prints with --json.

    Attributes:
        complete: whether every putter came to the end of its pass.
        damaged: whether anything is damaged.
        nodes: what each putter told last.
    """

    complete: bool
    damaged: bool
    nodes: tuple[NodeScrub, ...]


def scrub(
    url: Url = URL,
    token: Token = None,
    key_file: KeyFile = None,
    tls_ca: TlsCa = None,
    node: Annotated[
        list[str] | None,
        typer.Option("--node", help="Only this putter; else all.", metavar="NODE"),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the end of the passes.")
    ] = True,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            help="Bytes per second and putter: 500K, 64M, 1G; 0 as fast as can be. Else 64M.",
            metavar="BYTES",
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Begin nothing; tell what is known.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Give up the passes under way.")] = False,
    as_json: Json = False,
) -> None:
    """Verify everything that the putters store, and say what is damaged.

    It ends with 6 if anything is damaged. Putters do the same by themselves every two weeks; what
    is damaged stays marked, and is not served, until it was freed, written anew or found whole.

    Examples:
        putter scrub
        putter scrub --node 3f9a0c52d17e --rate 20M
        putter scrub --no-wait
        putter scrub --status --json
    """
    if status and stop:
        raise UsageError("--status and --stop exclude each other")
    speed = None if rate is None else _bytes_of(rate)
    nodes = tuple(node or ())
    with open_store(url, token, key_file, tls_ca) as store:
        if stop or status:
            found = store.scrub("stop" if stop else "status", nodes)
        else:
            found = store.scrub("start", nodes, speed)
        began = {each.node: each.scrub.number for each in found if each.scrub is not None}
        if wait and not (stop or status):
            found = _until_done(store, nodes, began)
        else:
            began = {}
    _tell(found, began, as_json=as_json)


def _tell(found: tuple[NodeScrub, ...], began: dict[str, int], *, as_json: bool) -> None:
    """Print what is known, and end as it is.

    Args:
        found: of each putter.
        began: numbers of the passes that were waited for.
        as_json: print JSON.

    Raises:
        NodesUnavailable: nobody, or not everybody, could be asked.
    """
    damaged = any(each.scrub is not None and each.scrub.damaged for each in found)
    away = [f"{each.node} ({each.reason})" for each in found if each.scrub is None]
    ended = {each.node: _last_of(each) for each in found}
    complete = all(ended.get(node, 0) >= number for node, number in began.items())
    if as_json:
        print_json(ScrubReport(complete and not away, damaged, found))
    else:
        _print(found)
    if damaged:
        raise typer.Exit(IntegrityError.exit)
    if away or not found:
        told = "these putters could not be asked: " + ", ".join(away) if away else "there is none"
        raise NodesUnavailable(told, hint="see `putter status`")
    if not complete:
        warn("a pass was given up before its end: somebody stopped it, or began another")
        raise typer.Exit(1)


def _until_done(
    store: Store, nodes: tuple[str, ...], began: dict[str, int]
) -> tuple[NodeScrub, ...]:
    """Ask until every pass that was begun has ended.

    Raises:
        NodesUnavailable: a putter was away for too long.
    """
    seen_s = dict.fromkeys(began, time.monotonic())
    with progress_bar("scrub") as advance:
        while True:
            found = store.scrub("status", nodes)
            told = {each.node: each for each in found if each.scrub is not None}
            now_s = time.monotonic()
            seen_s |= dict.fromkeys(told, now_s)
            waiting = [
                node
                for node, number in began.items()
                if node not in told or not _is_done(told[node], number)
            ]
            if not waiting:
                return found
            for node in waiting:
                if now_s - seen_s[node] > _PATIENCE_S:
                    raise NodesUnavailable(
                        f"putter {node} went away", hint="its pass goes on when it is back"
                    )
            _advance(advance, list(told.values()))
            time.sleep(_POLL_S)


def _last_of(node: NodeScrub) -> int:
    """The number of the last pass that came to its end; 0 if none did."""
    return node.scrub.last.number if node.scrub is not None and node.scrub.last is not None else 0


def _is_done(node: NodeScrub, number: int) -> bool:
    """Whether the pass came to an end: its own, or somebody's who stopped it or began another."""
    if node.scrub is None:
        return False
    ended = _last_of(node) >= number
    return ended or not node.scrub.running or node.scrub.number > number


def _advance(advance: Progress | None, told: list[NodeScrub]) -> None:
    if advance is None:
        return
    done = total = 0
    known = True
    for each in told:
        if each.scrub is None:
            continue
        if each.scrub.running:
            done += each.scrub.verified_bytes
            known &= each.scrub.total_bytes is not None
            total += max(each.scrub.total_bytes or 0, each.scrub.verified_bytes)
        elif each.scrub.last is not None:
            done += each.scrub.last.verified_bytes
            total += each.scrub.last.verified_bytes
    advance(done, total if known else None)


def _print(found: tuple[NodeScrub, ...]) -> None:
    rows: list[tuple[str, ...]] = []
    for each in found:
        told = each.scrub
        if told is None:
            rows.append((each.node, each.address, "away", "-", "-", "-", "-", "-"))
            continue
        state = "idle"
        if told.running:
            state = "running"
            if told.total_bytes:
                state = f"{min(100, 100 * told.verified_bytes // told.total_bytes)} %"
        last = told.last
        rows.append(
            (
                each.node,
                each.address,
                state,
                human_time(last.ended_ms).replace(" ", "T") if last is not None else "never",
                human_size(last.verified_bytes) if last is not None else "-",
                str(told.damaged_tickets),
                str(told.damaged_others),
                str(last.mended) if last is not None else "-",
            )
        )
    print_table(
        (
            "node",
            "address",
            "scrub",
            "last pass",
            "verified",
            "bad tickets",
            "bad others",
            "mended",
        ),
        rows,
        left=4,
    )
    flaws = [(each.node, flaw) for each in found if each.scrub for flaw in each.scrub.flaws]
    if flaws:
        typer.echo("")
        print_table(
            ("node", "damaged", "object", "file", "place", "reason"),
            [
                (
                    node,
                    _what(flaw),
                    flaw.object or "-",
                    plain(flaw.file or "-"),
                    flaw.place.replace(", byte ", ":"),
                    plain(flaw.reason),
                )
                for node, flaw in flaws
            ],
            left=6,
        )


def _what(flaw: ScrubFlaw) -> str:
    if flaw.first is not None and flaw.last is not None:
        name = flaw.first if flaw.count == 1 else f"{flaw.first}-{flaw.last}"
        kind = "raw ticket" if flaw.raw else "ticket"
        return f"{kind}:{name}".replace(" ", "-") + ("" if flaw.part == "tickets" else ":header")
    return f"record:{flaw.record}" if flaw.record is not None else flaw.part


def _bytes_of(text: str) -> int:
    """A number of bytes as people write it: ``500K``, ``64M``, ``1G`` (powers of 1024).

    Raises:
        UsageError: it is none.
    """
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    digits = text.rstrip("KMGkmg")
    unit = text[len(digits) :].upper()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12) or unit not in units:
        raise UsageError(f"--rate {text!r} is no number of bytes", hint="like --rate 64M")
    return int(digits) * units[unit]
