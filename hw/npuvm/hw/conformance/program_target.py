"""What the targets of this package share: they decode with the codec, and run programs by one function each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from npuvm.hw.conformance.decode import decode_programs
from npuvm.hw.conformance.launch import Launch, run_case
from npuvm.isa.conformance import Decoded, Level, Outcome, ProgramCase

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.functional.state import GlobalMemory
    from npuvm.isa import Image, Isa

__all__ = ["Execute", "ProgramTarget"]


class Execute(Protocol):
    """Runs one launch on the data of `memory`, as `npuvm.hw.simulator.simulate` does."""

    def __call__(
        self,
        chip: NpuConfig,
        isa: Isa,
        image: Image,
        *,
        memory: GlobalMemory,
        addresses: Sequence[int],
        windows: Sequence[tuple[int, int]],
        cycle_limit: int | None,
    ) -> object: ...


class ProgramTarget:
    """Decodes with the codec, with which both models read programs, and runs programs by `execute`."""

    def __init__(self, name: str, execute: Execute) -> None:
        self.name = name
        self._execute = execute

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
        return run_case(isa, case, self._launch)

    def _launch(self, launch: Launch) -> None:
        self._execute(
            launch.chip,
            launch.isa,
            launch.image,
            memory=launch.memory,
            addresses=launch.addresses,
            windows=launch.windows,
            cycle_limit=launch.cycle_limit,
        )
