"""The same programs on several chips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuvm.isa.conformance.target import ProgramCase
from npuvm.isa.model import Isa

__all__ = ["bins", "chip_cases"]


def chip_cases(isa: Isa, chips: Sequence[str]) -> Iterator[ProgramCase]:
    """A set of programs for every chip, on as many cores as are of interest."""
    yield from ()


def bins(isa: Isa) -> Iterator[str]:
    """What they ought to cover."""
    yield from ()
