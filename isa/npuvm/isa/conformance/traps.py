"""Cases that end in a trap."""

from __future__ import annotations

from collections.abc import Iterator

from npuvm.isa.conformance.target import ProgramCase
from npuvm.isa.model import Isa

__all__ = ["bins", "trap_cases"]


def trap_cases(isa: Isa) -> Iterator[ProgramCase]:
    """Every trap, alone and together with others."""
    yield from ()


def bins(isa: Isa) -> Iterator[str]:
    """What they ought to cover: every trap of the instruction set."""
    yield from (f"traps/any/{trap}/alone" for trap in isa.traps)
