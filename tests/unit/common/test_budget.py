"""Back-pressure: whoever holds too much waits, and everybody goes on once there is room."""

from __future__ import annotations

import random

from common.budget import Budget, Gate


class Socket:
    """Counts what a gate does to it."""

    def __init__(self) -> None:
        self.paused = False
        self.pauses = self.resumes = 0

    def pause(self) -> None:
        assert not self.paused, "paused twice"
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        assert self.paused, "resumed without a pause"
        self.paused = False
        self.resumes += 1

    def gate(self, budget: Budget, limit: int) -> Gate:
        return Gate(budget, limit, self.pause, self.resume)


class TestOneConnection:
    def test_it_pauses_at_its_limit_and_not_before(self) -> None:
        socket = Socket()
        gate = socket.gate(Budget(10_000), 100)
        gate.take(99)
        assert not socket.paused
        gate.take(1)
        assert socket.paused
        assert gate.held_bytes == 100

    def test_it_goes_on_below_half_of_its_limit(self) -> None:
        socket = Socket()
        gate = socket.gate(Budget(10_000), 100)
        gate.take(150)
        gate.give(100)
        assert socket.paused, "50 of 100: not yet"
        gate.give(1)
        assert not socket.paused
        assert gate.held_bytes == 49

    def test_what_comes_after_the_pause_is_counted_and_pauses_no_second_time(self) -> None:
        """A socket that was paused may still deliver what it had read."""
        socket = Socket()
        budget = Budget(10_000)
        gate = socket.gate(budget, 100)
        for _ in range(3):
            gate.take(100)
        assert (socket.pauses, gate.held_bytes, budget.used_bytes) == (1, 300, 300)
        for _ in range(3):
            gate.give(100)
        assert (socket.resumes, gate.held_bytes, budget.used_bytes) == (1, 0, 0)

    def test_one_message_larger_than_the_limit_passes_alone(self) -> None:
        socket = Socket()
        gate = socket.gate(Budget(10_000), 1)
        for _ in range(2):
            gate.take(500)
            assert socket.paused
            gate.give(500)
            assert not socket.paused

    def test_less_than_the_limit_never_touches_the_socket(self) -> None:
        socket = Socket()
        gate = socket.gate(Budget(10_000), 100)
        for _ in range(10):
            gate.take(99)
            gate.give(99)
        assert (socket.pauses, socket.resumes) == (0, 0)


class TestAllConnections:
    def test_a_full_node_pauses_whoever_sends_next(self) -> None:
        budget = Budget(100)
        one, other = Socket(), Socket()
        first, second = one.gate(budget, 1000), other.gate(budget, 1000)
        first.take(90)
        assert not budget.full
        second.take(10)
        assert budget.full
        assert (one.paused, other.paused) == (False, True)
        first.take(1)
        assert one.paused

    def test_room_wakes_those_who_hold_nothing_themselves(self) -> None:
        budget = Budget(100)
        one, other = Socket(), Socket()
        large, small = one.gate(budget, 1000), other.gate(budget, 1000)
        large.take(100)
        small.take(10)
        small.give(10)
        assert other.paused, "the node is still full"
        large.give(40)
        large.give(11)
        assert not other.paused, "49 of 100: there is room again"

    def test_a_connection_over_its_own_limit_stays_paused_when_the_node_has_room(self) -> None:
        budget = Budget(100)
        greedy, modest = Socket(), Socket()
        own = greedy.gate(budget, 20)
        rest = modest.gate(budget, 1000)
        own.take(30)
        rest.take(80)
        rest.give(75)
        assert greedy.paused
        own.give(25)
        assert not greedy.paused

    def test_waking_one_may_fill_the_node_again(self) -> None:
        """Who is woken and finds no room waits for the next time."""
        budget = Budget(100)
        calls: list[str] = []
        hungry = Socket()
        gate = hungry.gate(budget, 1000)

        def refill() -> None:
            calls.append("first")
            budget.take(100)

        budget.take(100)
        budget.when_free(refill)
        gate.take(1)
        budget.give(60)
        assert calls == ["first"]
        assert hungry.paused, "the first took all the room"
        budget.give(100)
        assert not hungry.paused

    def test_a_waiter_is_called_once(self) -> None:
        budget = Budget(100)
        calls: list[int] = []
        budget.take(100)
        budget.when_free(lambda: calls.append(budget.used_bytes))
        budget.give(50)
        assert calls == [], "half is not less than half"
        budget.give(1)
        budget.take(80)
        budget.give(80)
        assert calls == [49]

    def test_in_the_end_everybody_goes_on_and_nothing_is_held(self) -> None:
        rng = random.Random(1)
        for _ in range(50):
            budget = Budget(1000)
            sockets = [Socket() for _ in range(5)]
            gates = [socket.gate(budget, rng.choice([1, 50, 300])) for socket in sockets]
            held: list[tuple[Gate, int]] = []
            for _ in range(200):
                reading = [g for s, g in zip(sockets, gates, strict=True) if not s.paused]
                if reading and rng.random() < 0.6:
                    gate, size = rng.choice(reading), rng.randint(1, 200)
                    held.append((gate, size))
                    gate.take(size)
                elif held:
                    gate, size = held.pop(rng.randrange(len(held)))
                    gate.give(size)
                assert budget.used_bytes <= 1000 + 5 * 200
            for gate, size in held:
                gate.give(size)
            assert budget.used_bytes == 0
            assert not any(socket.paused for socket in sockets)
