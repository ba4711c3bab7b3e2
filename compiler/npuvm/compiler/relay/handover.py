"""How blocks of rows go from one part of a relay to the next: rings in global memory, and semaphores of the core group.

Each side keeps count of the slots itself, with a ring whose two semaphores nobody else uses; that a slot is filled or empty,
the other side says with semaphores of the group, a pair for every vector core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.group_signals import signal_group
from npuvm.compiler.emit.handles import Buffer, Loop, Sem

__all__ = ["SLOTS", "Handover", "Side", "make_handovers"]

SLOTS = 2
"""Blocks that may be between two parts: one is worked on while the next is made."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The semaphores of what two parts hand over, by vector core of the group."""

    ready: tuple[Sem, ...]
    free: tuple[Sem, ...]


def make_handovers(b: InstrBuilder, names: Sequence[str], cores: int) -> dict[str, Handover]:
    """Semaphores for each name, made by the one core of a group that has them all; see `Handover`."""
    return {
        name: Handover(
            tuple(b.semaphore(f"{name}{core}.ready", scope="group") for core in range(cores)),
            tuple(b.semaphore(f"{name}{core}.free", SLOTS, "group") for core in range(cores)),
        )
        for name in names
    }


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a handover: `unit` fills slots (role producer) or empties them (consumer) of `ring`.

    Where there are several vector cores, loop `half` of a vector core's grid says which one it is; None on the other side,
    which answers to all of them.
    """

    b: InstrBuilder
    handover: Handover
    ring: Buffer
    unit: str
    role: str

    @staticmethod
    def make(b: InstrBuilder, name: str, handover: Handover, slot_bytes: int, unit: str, role: str) -> Side:
        """A side with a ring of its own."""
        return Side(b, handover, b.ring(f"{name}.{role}", "gm", slot_bytes, SLOTS, unit, unit), unit, role)

    def begin(self, half: Loop | None) -> None:
        """Wait for a slot."""
        waits = self.handover.free if self.role == "producer" else self.handover.ready
        signal_group(self.b, self.unit, half, waits)
        ready, free = self._own()
        if self.role == "producer":
            self.b.sync(self.unit, wait=[free])
        else:
            self.b.sync(self.unit, wait=[free], set=[ready])
            self.b.sync(self.unit, wait=[ready])

    def end(self, half: Loop | None) -> None:
        """Hand the slot on."""
        ready, free = self._own()
        if self.role == "producer":
            self.b.sync(self.unit, set=[ready])
            self.b.sync(self.unit, wait=[ready], set=[free])
        else:
            self.b.sync(self.unit, set=[free])
        sets = self.handover.ready if self.role == "producer" else self.handover.free
        signal_group(self.b, self.unit, half, (), sets)

    def _own(self) -> tuple[Sem, Sem]:
        assert self.ring.ready is not None and self.ring.free is not None
        return self.ring.ready, self.ring.free
