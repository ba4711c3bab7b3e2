"""What is said of a hazard: both instructions, the bytes, and what orders them in no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from npuvm.hw.errors import SimulationError

__all__ = ["MOST_REPORTED", "Hazard", "HazardError", "HazardKind", "Party"]

MOST_REPORTED = 50
"""Hazards of a launch that are described; further ones of other pairs of program words are only counted."""

HazardKind: TypeAlias = Literal["read after write", "write after read", "write after write", "set-up in use"]

_SHOWN = 4
"""Hazards that an error spells out."""


class HazardError(SimulationError):
    """A program lets instructions touch the same data in an order that nothing but timing decides.

    `hazards` are those that were described, `more` counts further pairs. The message tells the first, a few lines each.
    """

    def __init__(self, hazards: Sequence[Hazard], more: int = 0) -> None:
        untold = max(0, len(hazards) - _SHOWN) + more
        parts = [str(hazard) for hazard in hazards[:_SHOWN]] + ([f"and {untold} more pairs"] if untold else [])
        super().__init__("\n".join(parts))
        self.hazards = tuple(hazards)
        self.more = more

    def __reduce__(self) -> tuple[type[HazardError], tuple[tuple[Hazard, ...], int]]:
        """Pickle by what it was made of, so that worker processes can raise it."""
        return HazardError, (self.hazards, self.more)


@dataclass(frozen=True)
class Party:
    """One of two instructions: where it stands, its disassembly, and the cycles of its start and completion in this run.

    `unit` is "sequencer" for scalar loads and for set-up of semaphores.
    """

    core: int
    unit: str
    pc: int
    text: str
    start: int
    complete: int

    def __str__(self) -> str:
        return f"{self.unit} of core {self.core}, word {self.pc}, cycles {self.start} to {self.complete}: {self.text}"


@dataclass(frozen=True)
class Hazard:
    """Two instructions that touch the same bytes, at least one writing, with no order that synchronisation proves.

    `earlier` is the first in the program, or, of two cores, the first to start in this run. `low` and `high` bound the bytes
    of `space` that both touch (for "set-up in use" the number of the semaphore). `overlapped` says whether the two were under
    way at the same time in this run. `missing` says in words what would order them. `count` pairs of instructions of the same
    two program words were found; the parties are the first of them.
    """

    kind: HazardKind
    space: str
    low: int
    high: int
    earlier: Party
    later: Party
    missing: str
    count: int = 1

    @property
    def overlapped(self) -> bool:
        """Whether the two were under way at the same time in this run."""
        return self.earlier.start < self.later.complete and self.later.start < self.earlier.complete

    @property
    def where(self) -> str:
        """The bytes, or the semaphore, for messages."""
        if self.kind == "set-up in use":
            return f"of semaphore {self.low}"
        return f"in {self.space} bytes {self.low:#x} to {self.high:#x}"

    def __str__(self) -> str:
        times = f", {self.count} times" if self.count > 1 else ""
        in_time = "at the same time in this run" if self.overlapped else "apart in this run"
        return (
            f"{self.kind} {self.where}{times}, {in_time}\n  {self.earlier}\n  {self.later}\n  missing: {self.missing}"
        )
