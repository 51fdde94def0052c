"""Objects freed a moment ago."""

from __future__ import annotations

from putter.node.fence import KEPT_S, OBJECTS_MAX, Fence


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_covers_what_was_added_and_nothing_else() -> None:
    fence = Fence(Clock())
    fence.add(["A", "B", "A"])
    assert fence.covers("A")
    assert fence.covers("B")
    assert not fence.covers("C")
    assert not fence.covers("")
    assert len(fence) == 2


def test_forgets_after_a_while() -> None:
    clock = Clock()
    fence = Fence(clock)
    fence.add(["A"])
    clock.now_s = KEPT_S - 1
    fence.add(["B"])
    assert fence.covers("A")
    clock.now_s = KEPT_S
    fence.add(["C"])
    assert not fence.covers("A")
    assert fence.covers("B")


def test_forgets_although_nothing_else_is_freed() -> None:
    clock = Clock()
    fence = Fence(clock)
    fence.add(["A"])
    clock.now_s = KEPT_S
    assert not fence.covers("A")
    assert len(fence) == 0


def test_is_bounded_and_drops_the_oldest() -> None:
    fence = Fence(Clock())
    fence.add(str(n) for n in range(OBJECTS_MAX + 3))
    fence.add(["last"])
    assert len(fence) == OBJECTS_MAX
    assert not fence.covers("0")
    assert fence.covers("last")
