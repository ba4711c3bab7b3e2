"""The functional interpreter as a conformance target: decoding by `npuvm.isa.codec`, programs by `npuvm.hw.interpreter`."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.hw.conformance.decode import decode_programs
from npuvm.hw.conformance.launch import Launch, run_case
from npuvm.hw.interpreter import interpret
from npuvm.isa import Isa
from npuvm.isa.conformance import Decoded, Level, Outcome, ProgramCase, Target

__all__ = ["Functional", "functional_target"]


class Functional:
    """Decodes with the codec and runs programs without time."""

    name = "functional"

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
        return run_case(isa, case, _interpret)


def functional_target() -> Target:
    """The target `functional`."""
    return Functional()


def _interpret(launch: Launch) -> None:
    interpret(
        launch.chip,
        launch.isa,
        launch.image,
        memory=launch.memory,
        addresses=launch.addresses,
        windows=launch.windows,
        cycle_limit=launch.cycle_limit,
    )
