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

_SCOPES = ("group", "launch")


class Signals:
    """What the cores of a launch do to semaphores that several of them share. `programs` gives that of each core."""

    def __init__(self, isa: Isa, programs: Sequence[ProgramSites], groups: Sequence[int]) -> None:
        self._programs = programs
        self._groups = groups
        self._scopes = {number: isa.semaphore_scope(number) for number in range(isa.limits["semaphores"])}

    def enough(self, values: Sequence[int], lengths: Sequence[Sequence[int]]) -> bool:
        """Whether no semaphore must run out; `lengths` are the tiles of each core's ranges, by phase."""
        known: dict[tuple[int, tuple[int, ...]], tuple[_Counts, _Counts]] = {}
        cores: list[tuple[_Counts, _Counts]] = []
        domains: dict[int, list[_Counts]] = {}
        for program, group, tiles in zip(self._programs, self._groups, lengths, strict=True):
            key = id(program), tuple(tiles)
            if key not in known:
                known[key] = self._counts(program, values, tiles)
            cores.append(known[key])
            domains.setdefault(group, []).append(known[key][0])
        alike = {tuple(map(id, each)): each for each in domains.values()}
        return all(map(_hold, alike.values())) and _hold([launch for _, launch in cores if launch])

    def _counts(self, program: ProgramSites, values: Sequence[int], tiles: Sequence[int]) -> tuple[_Counts, _Counts]:
        """Those of a core, of group and of launch scope."""
        signals: dict[int, int] = {}
        waits: dict[int, int] = {}
        for number, value in program.given:
            signals[number] = signals.get(number, 0) + value
        for each in program.signals:
            around: Around = tuple([(loops, _bounds(trip, values, tiles)) for loops, trip in each.around])
            low, high = executions(each.insn.pred, around)
            for number in each.insn.set:
                signals[number] = signals.get(number, 0) + high
            for number in each.insn.wait:
                waits[number] = waits.get(number, 0) + low
        group, launch = (
            {n: (signals.get(n, 0), waits.get(n, 0)) for n in {*signals, *waits} if self._scopes[n] == scope}
            for scope in _SCOPES
        )
        return group, launch


def _hold(cores: Sequence[_Counts]) -> bool:
    """Whether these cores signal each semaphore as often as they wait for it."""
    spare: dict[int, int] = {}
    for counts in cores:
        for number, (most, least) in counts.items():
            spare[number] = spare.get(number, 0) + most - least
    return all(each >= 0 for each in spare.values())


def _bounds(trip: Extent | int, values: Sequence[int], tiles: Sequence[int]) -> tuple[int, int]:
    if isinstance(trip, int):
        return tiles[trip], tiles[trip]
    ends = values[trip.full], values[trip.tail]
    return min(ends), max(ends)
