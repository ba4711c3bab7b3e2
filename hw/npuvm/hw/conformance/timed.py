"""The timed model as a conformance target: programs run with data in simulated time, and hazards are errors."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.hw.conformance.decode import decode_programs
from npuvm.hw.conformance.launch import Launch, run_case
from npuvm.hw.simulator import simulate
from npuvm.isa import Isa
from npuvm.isa.conformance import Decoded, Level, Outcome, ProgramCase, Target

__all__ = ["Simpy", "simpy_target"]


class Simpy:
    """Runs programs on the discrete-event model, and decodes with the codec with which the model reads programs."""

    name = "simpy"

    def levels(self) -> frozenset[Level]:
        """All that take a target."""
        return frozenset(Level) - {Level.LINT}

    def unavailable(self) -> str | None:
        """It needs nothing."""
        return None

    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        """Decode what stands at word 0 of each program."""
        return decode_programs(isa, programs)

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        """Run a program."""
        return run_case(isa, case, _simulate)


def simpy_target() -> Target:
    """The target `simpy`."""
    return Simpy()


def _simulate(launch: Launch) -> None:
    simulate(
        launch.chip,
        launch.isa,
        launch.image,
        memory=launch.memory,
        addresses=launch.addresses,
        windows=launch.windows,
        cycle_limit=launch.cycle_limit,
    )
