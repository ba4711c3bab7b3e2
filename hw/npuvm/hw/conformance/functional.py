"""The functional interpreter as a conformance target: programs run without time."""

from __future__ import annotations

from npuvm.hw.conformance.program_target import ProgramTarget
from npuvm.hw.functional.interpreter import interpret
from npuvm.isa.conformance import Target

__all__ = ["functional_target"]


def functional_target() -> Target:
    """The target `functional`."""
    return ProgramTarget("functional", interpret)
