"""The levels that run programs: where their cases and their bins come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["PROGRAM_LEVELS", "program_bins", "program_cases"]


@dataclass(frozen=True)
class _Provider:
    """Cases of a level for an instruction set and a seed, and apart from them the bins that they ought to cover."""

    cases: Callable[[Isa, int], Iterable[ProgramCase]]
    bins: Callable[[Isa], Iterable[str]]


_PROVIDERS: Mapping[Level, _Provider] = {}

PROGRAM_LEVELS = tuple(_PROVIDERS)
"""The levels whose cases are programs."""


def program_cases(isa: Isa, level: Level, seed: int) -> Iterator[ProgramCase]:
    """The cases of a level that runs programs."""
    yield from _PROVIDERS[level].cases(isa, seed)


def program_bins(isa: Isa, level: Level) -> Iterator[str]:
    """The bins of a level that runs programs."""
    yield from _PROVIDERS[level].bins(isa)
