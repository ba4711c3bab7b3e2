"""Cases of one instruction on data: each instruction, each data type, the edges of the types, each kind of tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from npuvm.isa.conformance.semantics_bins import semantics_bins
from npuvm.isa.conformance.semantics_cube import cube_cases
from npuvm.isa.conformance.semantics_fixpipe import fixpipe_cases
from npuvm.isa.conformance.semantics_im2col import im2col_cases
from npuvm.isa.conformance.semantics_indexed import indexed_cases
from npuvm.isa.conformance.semantics_memory import memory_cases
from npuvm.isa.conformance.semantics_vector import vector_cases
from npuvm.isa.conformance.target import ProgramCase
from npuvm.isa.model import Isa

__all__ = ["bins", "semantics_cases"]


def semantics_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """The cases; `seed` draws what is no edge value."""
    asked = frozenset(semantics_bins(isa))
    makers = (vector_cases, memory_cases, indexed_cases, cube_cases, im2col_cases, fixpipe_cases)
    cases = chain(*(make(isa, seed) for make in makers))
    for case in cases:
        # What a case happens to meet besides is not asked for.
        yield replace(case, bins=tuple(each for each in case.bins if each in asked))


def bins(isa: Isa) -> Iterator[str]:
    """What they ought to cover."""
    yield from semantics_bins(isa)
