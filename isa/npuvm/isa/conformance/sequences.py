"""Cases of several instructions: rings, waits, predicates, grids, loops, registers; and programs that must be refused."""

from __future__ import annotations

from collections.abc import Iterator

from npuvm.isa.conformance.program_files import refused_programs
from npuvm.isa.conformance.sequence_bins import sequence_bins
from npuvm.isa.conformance.sequence_programs import legal_programs
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa
from npuvm.isa.verifier import RULES

__all__ = ["bins", "sequence_cases"]

_NOT_EXPRESSIBLE = frozenset({"hash"})
"""Rules that no assembly text can break: an assembled image is always one of the instruction set it was assembled for."""


def sequence_cases(isa: Isa) -> Iterator[ProgramCase]:
    """Legal programs with what they compute, and refused ones with the rule that they break."""
    legal = {case.id.rpartition("/")[2]: case for case in legal_programs()}
    yield from legal.values()
    for refused in refused_programs():
        yield ProgramCase(
            id=f"sequences/refused/{refused.rule}/{refused.name.replace(' ', '-')}",
            level=Level.SEQUENCES,
            chip=refused.chip,
            text=refused.text,
            arguments=legal[refused.base].arguments,
            refused=refused.rule,
            bins=(f"sequences/verifier/{refused.rule}/refused",),
        )


def bins(isa: Isa) -> Iterator[str]:
    """What sequences ought to cover: every rule of the verifier by a program that breaks it, every kind of event."""
    yield from sequence_bins(isa)
    yield from (f"sequences/verifier/{rule}/refused" for rule in RULES if rule not in _NOT_EXPRESSIBLE)
