"""The conformance suite: cases from the resolved instruction set and from hand-written data, run on any target."""

from __future__ import annotations

from npuvm.isa.conformance.target import ENTRY_POINTS, Decoded, Level, Outcome, ProgramCase, Target

__all__ = ["ENTRY_POINTS", "Decoded", "Level", "Outcome", "ProgramCase", "Target"]
