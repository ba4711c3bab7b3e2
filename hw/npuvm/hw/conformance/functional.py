"""The functional interpreter as a conformance target: decoding by `npuvm.isa.codec`, programs by `npuvm.hw.interpreter`."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.hw.conformance.launch import Launch, run_case
from npuvm.hw.interpreter import interpret
from npuvm.isa import DecodeError, Isa, WordClass, decode_at
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
        units = {code: name for name, code in isa.units.items()}
        return [_decode(isa, units, words) for words in programs]

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        """Run a program."""
        return run_case(isa, case, _interpret)


def functional_target() -> Target:
    """The target `functional`."""
    return Functional()


def _decode(isa: Isa, units: dict[int, str], words: Sequence[int]) -> Decoded:
    try:
        insn, length = decode_at(isa, words, 0)
    except DecodeError as exc:
        return Decoded(WordClass(exc.word_class))
    unit = isa.instruction(insn.op).unit
    return Decoded(WordClass.LEGAL, length, insn, units[insn.args["unit"]] if unit == "any" else unit)


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
