"""The timed model as a conformance target: programs run with data in simulated time, and hazards are errors."""

from __future__ import annotations

from npuvm.hw.conformance.program_target import ProgramTarget
from npuvm.hw.simulator import simulate
from npuvm.isa.conformance import Target

__all__ = ["simpy_target"]


def simpy_target() -> Target:
    """The target `simpy`."""
    return ProgramTarget("simpy", simulate)
