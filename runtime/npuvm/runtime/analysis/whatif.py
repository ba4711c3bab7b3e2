"""What if this were free: recorded launches again on chips on which one thing costs nothing (docs/reference/explain.md).

The programs stay as they were compiled for the real chip, so that a difference is the hardware's and nothing else's. What a
compiler would make of another chip is another question: `npuvm simulate --set`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npuvm.hw.explain import Advice, LaunchBreakdown, advise, break_down, sum_breakdowns
from npuvm.runtime.analysis.idealise import VARIANTS, Variant
from npuvm.runtime.analysis.recording import Replay, by_kernel, chip_of, replay
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.scenarios.report import Progress, unwatched

__all__ = ["REAL", "WHATIF_VERSION", "Outcome", "WhatIf", "what_if", "whatif_json"]

WHATIF_VERSION = 1
REAL = "the chip as it is"
"""What the first outcome is called."""


@dataclass(frozen=True)
class Outcome:
    """The launches on one chip. `variant` is None for the chip as it is; `kernels` are cycles by kernel.

    `bounded_by` is what bounds them there. `stream_us` counts the host's dispatch in.
    """

    variant: Variant | None
    cycles: int
    stream_us: float
    kernels: dict[str, int]
    breakdown: LaunchBreakdown
    bounded_by: Advice


@dataclass(frozen=True)
class WhatIf:
    """The chip as it is, and every variant beside it."""

    chip: str
    real: Outcome
    variants: tuple[Outcome, ...]

    def speedup(self, outcome: Outcome) -> float:
        """Cycles on the chip as it is over those of an outcome."""
        return self.real.cycles / outcome.cycles if outcome.cycles else 1.0

    def helps(self, kernel: str) -> list[tuple[Variant, float]]:
        """The variants that make a kernel faster with their speed-ups, the best first."""
        real = self.real.kernels[kernel]
        gains = [
            (each.variant, real / max(1, each.kernels[kernel])) for each in self.variants if each.variant is not None
        ]
        return sorted((gain for gain in gains if gain[1] > 1), key=lambda gain: -gain[1])

    def stream_speedup(self, outcome: Outcome) -> float:
        """The same of the time with the host's dispatch."""
        return self.real.stream_us / outcome.stream_us if outcome.stream_us else 1.0


def what_if(
    records: Sequence[LaunchRecord],
    variants: Sequence[Variant] = VARIANTS,
    progress: Progress = unwatched,
) -> WhatIf:
    """Replay launches of one device on its chip and on every variant of it.

    A variant that changes nothing of the chip is not simulated again. DeviceError without a launch; SimulationError and
    TrapError as of `simulate`.
    """
    chip = chip_of(records)
    groups = by_kernel(records)
    real: Replay | None = None
    outcomes = []
    asked: list[Variant | None] = [None, *variants]
    for index, each in enumerate(asked):
        progress(index, len(asked), REAL if each is None else each.name)
        changed = chip if each is None else each.chip(chip)
        ran = real if real is not None and changed.chip_hash == chip.chip_hash else replay(records, changed)
        real = real or ran
        outcomes.append(_outcome(each, ran, groups))
    progress(len(asked), len(asked), "done")
    return WhatIf(chip.name, outcomes[0], tuple(outcomes[1:]))


def _outcome(each: Variant | None, ran: Replay, groups: dict[str, list[int]]) -> Outcome:
    breakdown = sum_breakdowns(break_down(result) for result in ran.results)
    kernels = {name: sum(ran.results[at].cycles for at in places) for name, places in groups.items()}
    headline = advise(ran.chip, breakdown, ran.stream_us)[0]
    return Outcome(each, ran.cycles, ran.stream_us, kernels, breakdown, headline)


def whatif_json(result: WhatIf) -> dict[str, Any]:
    """The outcomes as plain JSON values; `version` changes when a key changes its meaning or goes away."""
    return {
        "version": WHATIF_VERSION,
        "chip": result.chip,
        "outcomes": [_outcome_json(result, outcome) for outcome in (result.real, *result.variants)],
    }


def _outcome_json(result: WhatIf, outcome: Outcome) -> dict[str, Any]:
    each = outcome.variant
    return {
        "variant": None if each is None else each.name,
        "title": REAL if each is None else each.title,
        "cycles": outcome.cycles,
        "speedup": result.speedup(outcome),
        "stream_us": outcome.stream_us,
        "stream_speedup": result.stream_speedup(outcome),
        "kernel_cycles": outcome.kernels,
        "bounded_by": {"rule": outcome.bounded_by.rule, "share": outcome.bounded_by.share},
    }
