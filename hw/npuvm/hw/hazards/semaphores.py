"""Semaphores in the run by order: every unit of a count carries the clock of the set that gave it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

__all__ = ["UNIT_SHIFT", "Counted", "Token", "VectorClock", "unpack"]

VectorClock: TypeAlias = tuple[int, ...]
"""Per unit of a domain of cores, how many of its instructions have surely completed."""

Token: TypeAlias = tuple[VectorClock, int]
"""What the giver knew when it completed, and the number of the set; 0 when the sequencer set the count up."""

UNIT_SHIFT = 40
"""A log entry is (unit << UNIT_SHIFT) + number of the instruction in its unit, from 1."""


def unpack(entry: int) -> tuple[int, int]:
    """Unit and number of a log entry."""
    return entry >> UNIT_SHIFT, entry & ((1 << UNIT_SHIFT) - 1)


class Counted:
    """A counted semaphore since its last set-up. `sets` and `takes` log who signalled and who took, in order; `taken` has the
    numbers of the sets that the takes took. With several setting or waiting units between two barriers it is `loose`: which
    take gets which set depends on time, so its tokens carry no clock.
    """

    __slots__ = ("loose", "number", "scope", "set_up", "sets", "taken", "takes", "tokens")

    def __init__(self, number: int, scope: str) -> None:
        self.number = number
        self.scope = scope
        self.loose = False
        self.tokens: deque[Token] = deque()
        self.sets: list[int] = []
        self.takes: list[int] = []
        self.taken: list[int] = []
        self.set_up: tuple[int, int] | None = None

    def reset(self, count: int, clock: VectorClock, by: tuple[int, int]) -> None:
        """Set the count; `by` is the sequencer and the number of its step."""
        self.tokens = deque([(clock, 0)] * count)
        self.sets, self.takes, self.taken = [], [], []
        self.set_up = by

    def users(self) -> dict[int, int]:
        """The last instruction of every unit that set or took since the set-up."""
        return _last(self.sets) | _later(_last(self.sets), _last(self.takes))

    def numbers_of_sets(self, unit: int) -> Iterator[tuple[int, int]]:
        """(instruction, number of the set) of the sets by one unit."""
        for place, entry in enumerate(self.sets):
            by, instruction = unpack(entry)
            if by == unit:
                yield instruction, place + 1

    def last_taken(self, unit: int, instruction: int) -> int | None:
        """The number of the last set that a unit took up to one of its instructions; None when it took none."""
        found = None
        for entry, number in zip(self.takes, self.taken, strict=True):
            by, taker = unpack(entry)
            if by == unit and taker <= instruction:
                found = number
        return found


def _last(log: Iterable[int]) -> dict[int, int]:
    return dict(unpack(entry) for entry in log)


def _later(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {unit: max(number, one.get(unit, 0)) for unit, number in other.items()}
