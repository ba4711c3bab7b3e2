"""How often the cores of an image signal each other, by the values of a form (`npuvm.isa.verifier.counts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from npuvm.isa.model import Isa
from npuvm.isa.verifier.counts import Around, executions
from npuvm.isa.verifier.sites import Extent, ProgramSites

__all__ = ["Signals"]

_Counts: TypeAlias = Mapping[int, tuple[int, int]]
"""By semaphore: how often it is signalled at most, and waited for at least."""


class Signals:
    """What the cores of a launch do to semaphores that several of them share. `programs` gives that of each core."""

    def __init__(self, isa: Isa, programs: Sequence[ProgramSites], groups: Sequence[int]) -> None:
        self._isa = isa
        self._programs = programs
        self._groups = groups

    def enough(self, values: Sequence[int], lengths: Sequence[Sequence[int]]) -> bool:
        """Whether no semaphore must run out; `lengths` are the tiles of each core's ranges, by phase."""
        known: dict[tuple[int, tuple[int, ...]], _Counts] = {}
        domains: dict[int, list[_Counts]] = {}
        for program, group, tiles in zip(self._programs, self._groups, lengths, strict=True):
            key = id(program), tuple(tiles)
            if key not in known:
                known[key] = self._counts(program, values, tiles)
            domains.setdefault(group, []).append(known[key])
        everything = [counts for each in domains.values() for counts in each]
        checked = {tuple(map(id, each)): each for each in domains.values()}
        return all(self._hold(each, "group") for each in checked.values()) and self._hold(everything, "launch")

    def _hold(self, cores: Sequence[_Counts], scope: str) -> bool:
        signals: dict[int, int] = {}
        waits: dict[int, int] = {}
        for counts in cores:
            for number, (most, least) in counts.items():
                if self._isa.semaphore_scope(number) == scope:
                    signals[number] = signals.get(number, 0) + most
                    waits[number] = waits.get(number, 0) + least
        return all(waits[number] <= signals[number] for number in waits)

    def _counts(self, program: ProgramSites, values: Sequence[int], tiles: Sequence[int]) -> _Counts:
        signals: dict[int, int] = {}
        waits: dict[int, int] = {}
        for number, value in program.given:
            signals[number] = signals.get(number, 0) + value
        for each in program.signals:
            around: Around = tuple((loops, _bounds(trip, values, tiles)) for loops, trip in each.around)
            low, high = executions(each.insn.pred, around)
            for number in each.insn.set:
                signals[number] = signals.get(number, 0) + high
            for number in each.insn.wait:
                waits[number] = waits.get(number, 0) + low
        return {number: (signals.get(number, 0), waits.get(number, 0)) for number in {*signals, *waits}}


def _bounds(trip: Extent | int, values: Sequence[int], tiles: Sequence[int]) -> tuple[int, int]:
    if isinstance(trip, int):
        return tiles[trip], tiles[trip]
    ends = values[trip.full], values[trip.tail]
    return min(ends), max(ends)
