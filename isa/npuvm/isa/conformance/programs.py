"""The levels that run programs: where their cases and their bins come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from npuvm.isa.conformance import chips, semantics, sequences, traps
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa
from npuvm.isa.resources import list_resources

__all__ = ["program_bins", "program_cases"]


@dataclass(frozen=True)
class _Provider:
    """Cases of a level for an instruction set and a seed, and apart from them the bins that they ought to cover."""

    cases: Callable[[Isa, int], Iterable[ProgramCase]]
    bins: Callable[[Isa], Iterable[str]]


_PROVIDERS: Mapping[Level, _Provider] = {
    Level.SEMANTICS: _Provider(semantics.semantics_cases, semantics.bins),
    Level.SEQUENCES: _Provider(lambda isa, _seed: sequences.sequence_cases(isa), sequences.bins),
    Level.TRAPS: _Provider(lambda isa, _seed: traps.trap_cases(isa), traps.bins),
    Level.CHIPS: _Provider(lambda isa, _seed: chips.chip_cases(isa, list_resources("chip")), chips.bins),
}


def program_cases(isa: Isa, level: Level, seed: int) -> Iterator[ProgramCase]:
    """The cases of a level that runs programs."""
    yield from _PROVIDERS[level].cases(isa, seed)


def program_bins(isa: Isa, level: Level) -> Iterator[str]:
    """The bins of a level that runs programs."""
    yield from _PROVIDERS[level].bins(isa)
