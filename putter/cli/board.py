"""The live view of a cluster, drawn from what a router told lately. Pure.

Rates that a router does not tell, those of scrubs, follow from the answers of the last minute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from putter.cli.output import human_age, human_size, human_time, plain
from putter.client.status import NodeStatus, Refill, ScrubState, StoreStatus

_WINDOW_S: Final = 60.0
_BAR: Final = 6
_REASONS_SHOWN: Final = 5
_STYLES: Final = {
    "live": "green",
    "joining": "yellow",
    "suspect": "yellow",
    "draining": "cyan",
    "down": "red",
    "gone": "red",
}
_AWAY: Final = frozenset({"down", "gone"})


@dataclass(frozen=True)
class Sample:
    """What a router told.

    Attributes:
        at_s: when, by a clock that only goes forward.
        told: what.
    """

    at_s: float
    told: StoreStatus


class History:
    """What was told in the last minute, and whether anything is told now.

    Attributes:
        trouble: why the last question had no answer; "" if it had one.
        since_s: when that began.
    """

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()
        self.trouble = ""
        self.since_s = 0.0

    @property
    def last(self) -> Sample | None:
        """The newest answer; None before the first."""
        return self._samples[-1] if self._samples else None

    def answered(self, told: StoreStatus, now_s: float) -> None:
        """One more answer."""
        self.trouble = ""
        self._samples.append(Sample(now_s, told))
        while now_s - self._samples[0].at_s > _WINDOW_S:
            self._samples.popleft()

    def failed(self, reason: str, now_s: float) -> None:
        """No answer."""
        if not self.trouble:
            self.since_s = now_s
        self.trouble = reason

    def scrub_rate(self, node: str) -> float:
        """Bytes per second that a putter's pass under way has verified lately; 0: unknown."""
        running = [
            (sample.at_s, scrub)
            for sample in self._samples
            if (scrub := _scrub_of(sample.told, node)) is not None and scrub.running
        ]
        same = [each for each in running if each[1].number == running[-1][1].number]
        if len(same) < 2:
            return 0.0
        (first_s, first), (last_s, last) = same[0], same[-1]
        gained = last.verified_bytes - first.verified_bytes
        return gained / (last_s - first_s) if last_s > first_s and gained > 0 else 0.0


def page(url: str, history: History, now_s: float, now_ms: int) -> RenderableType:
    """Everything on one screen.

    Args:
        url: of the router.
        history: what it told.
        now_s: by the clock of the history.
        now_ms: for people, milliseconds since 1970.
    """
    parts: list[RenderableType] = [_head(url, history, now_s, now_ms)]
    last = history.last
    if last is not None:
        told = last.told
        parts += [_summary(told), Text(), _nodes(told, history)]
        if told.repair:
            parts += [Text(), _repair(told.repair)]
        parts += _remarks(told)
    parts += [Text(), Text("Ctrl-C leaves", style="dim")]
    return Group(*parts)


def headline(url: str, history: History, now_s: float, now_ms: int) -> str:
    """One line: who was asked, and whether it answers."""
    when = f"{human_time(now_ms)}Z".replace(" ", "T")
    if not history.trouble:
        return f"{when}  {url}"
    away = human_age(round(1000 * (now_s - history.since_s)))
    line = f"{when}  {url} does not answer for {away}: {plain(history.trouble)}"
    last = history.last
    if last is not None:
        line += f"; what follows is {human_age(round(1000 * (now_s - last.at_s)))} old"
    return line


def _head(url: str, history: History, now_s: float, now_ms: int) -> Text:
    style = "bold red" if history.trouble else "bold"
    return Text(headline(url, history, now_s, now_ms), style=style)


def _summary(told: StoreStatus) -> Text:
    size = sum(each.capacity_bytes for each in told.nodes)
    free = sum(each.free_bytes for each in told.nodes)
    up = sum(each.link == "up" for each in told.nodes)
    words = [
        f"redis {'ok' if told.redis.ok else 'DOWN'}",
        f"{up} of {len(told.nodes)} putters connected",
        f"{sum(each.state == 'live' for each in told.routers)} routers",
        f"{human_size(size - free)} of {human_size(size)} used",
        f"{human_size(sum(each.inflight_bytes for each in told.nodes))} in flight",
        f"{told.objects.get('writing', 0)} objects under way",
    ]
    if told.workers:
        answer = sum(each.answers for each in told.workers)
        words.insert(3, f"{answer} of {len(told.workers)} workers")
    owed_objects = sum(each.objects for each in told.repair)
    owed_bytes = sum(each.bytes for each in told.repair)
    if owed_objects or owed_bytes:
        words.append(f"under-replicated: {owed_objects} objects, {human_size(owed_bytes)}")
    else:
        words.append("nothing under-replicated")
    well = told.redis.ok and up == len(told.nodes)
    return Text("  ·  ".join(words), style="" if well else "yellow")


def _nodes(told: StoreStatus, history: History) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "state", "disk", "in flight", "scrub"):
        table.add_column(name, justify="right" if name == "in flight" else "left", no_wrap=True)
    for node in told.nodes:
        table.add_row(
            node.node or node.address,
            _state(node),
            _disk(node),
            human_size(node.inflight_bytes),
            _scrub(node.scrub, history.scrub_rate(node.node)),
        )
    return table


def _repair(owed: Sequence[Refill]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    for name in ("hand-off to", "objects", "records", "bytes", "rate", "done in", "stuck"):
        table.add_column(name, justify="left" if name == "hand-off to" else "right", no_wrap=True)
    for each in owed:
        table.add_row(
            "any putter" if each.node == "*" else each.node,
            str(each.objects),
            str(each.records),
            human_size(each.bytes),
            f"{human_size(each.bytes_per_s)}/s" if each.bytes_per_s else "-",
            _eta(each.eta_s),
            Text(str(len(each.stuck)), style="red" if each.stuck else ""),
        )
    return table


def _remarks(told: StoreStatus) -> list[RenderableType]:
    lines = [
        f"no link: {each.node or '?'} at {each.address}: {plain(each.reason)}"
        for each in told.nodes
        if each.reason
    ]
    if told.balance is not None and told.balance.left_bytes:
        lines.append(f"uneven: {human_size(told.balance.left_bytes)} move to other putters next")
    stuck = [each for refill in told.repair for each in refill.stuck]
    lines += [f"stuck: object {each.object}: {plain(each.reason)}" for each in stuck]
    lines += [
        f"damaged: {each.count} tickets from {each.first} of object {each.object} on "
        f"{each.node}: {plain(each.reason)}"
        for each in told.incurable
    ]
    more = len(lines) - _REASONS_SHOWN
    shown = [Text(line, style="yellow") for line in lines[:_REASONS_SHOWN]]
    if more > 0:
        shown.append(Text(f"and {more} more: putter status tells all", style="dim"))
    return [Text(), *shown] if shown else []


def _state(node: NodeStatus) -> Text:
    text = Text(node.state, style=_STYLES.get(node.state, ""))
    if node.link != "up" and node.state not in _AWAY:
        text.append(", no link", style="red")
    return text


def _disk(node: NodeStatus) -> Text:
    if not node.capacity_bytes:
        return Text("-")
    part = 1 - node.free_bytes / node.capacity_bytes
    filled = min(_BAR, max(0, round(part * _BAR)))
    style = "red" if part > 0.95 else "yellow" if part > 0.85 else "green"
    bar = Text("█" * filled, style=style)
    bar.append("░" * (_BAR - filled), style="dim")
    return bar.append(f" {part:.0%} of {human_size(node.capacity_bytes)}", style="none")


def _scrub(scrub: ScrubState | None, rate: float) -> Text:
    if scrub is None:
        return Text("-")
    words = ""
    if scrub.running:
        words = human_size(scrub.verified_bytes)
        if scrub.total_bytes:
            words = f"{min(100, 100 * scrub.verified_bytes // scrub.total_bytes)}%"
            if rate:
                left_s = max(0, scrub.total_bytes - scrub.verified_bytes) / rate
                words += f", {_eta(round(left_s))} left"
    elif scrub.last is not None:
        words = f"ended {human_time(scrub.last.ended_ms)[:10]}"
    else:
        words = "never"
    text = Text(words)
    damaged = scrub.damaged_tickets + scrub.damaged_others
    if damaged:
        text.append(f", {damaged} bad", style="red")
    return text


def _scrub_of(told: StoreStatus, node: str) -> ScrubState | None:
    return next((each.scrub for each in told.nodes if each.node == node), None)


def _eta(eta_s: int | None) -> str:
    return "-" if eta_s is None else human_age(1000 * eta_s)
