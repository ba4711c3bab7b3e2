"""Runs the kernel of a row on a chip and reads off what was measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from benchmarks.validation.builders import Case, find_builder
from benchmarks.validation.rows import Row

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate
from npuvm.hw.uncertainty import Band, sample_chips, uncertain_parameters
from npuvm.isa import Isa, load_isa

__all__ = ["ENGINES", "Engine", "Outcome", "band_of", "chip_of", "default_engine", "simulate_on", "simulate_row"]

Engine = Literal["simpy", "compiled"]
ENGINES: tuple[Engine, ...] = ("simpy", "compiled")

PIPES = {
    "vec_us": "vector",
    "mac_us": "cube",
    "mte1_us": "move",
    "mte2_us": "load",
    "mte3_us": "store",
    "fixpipe_us": "fixpipe",
}
"""The profiler's pipes and the units that stand for them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row's kernel takes on the chip.

    `value` is what the row compares. `pipes` are microseconds by the profiler's names: the time in which the unit was occupied
    or its port waited for memory, averaged over the cores that have the unit. The profiler counts a pipe as active until
    its instructions are complete, so where they do not overlap it shows more: a latency for each. `band` is what the
    error bars of the chip's numbers make of `value`; None where nobody asked.
    """

    row: Row
    value: float
    cycles: int
    l2_hit_percent: float | None
    pipes: Mapping[str, float]
    band: Band | None = None

    @property
    def error(self) -> float:
        """simulated / measured - 1."""
        return self.value / self.row.value - 1


def isa_of(chip: NpuConfig) -> Isa:
    """The instruction set that a chip runs."""
    return load_isa(chip.isa.base, chip.isa.extensions)


@cache
def chip_of(name: str, overrides: tuple[str, ...]) -> NpuConfig:
    """A shipped chip with overrides; read once."""
    return load_chip(name, overrides)


def case_of(row: Row, chip: NpuConfig) -> Case:
    """What the row runs on a chip."""
    assert row.kernel is not None and row.params is not None, row.id
    return find_builder(row.kernel)(chip, isa_of(chip), row.params)


def run_case(case: Case, chip: NpuConfig, engine: Engine) -> list[RunResult]:
    """The launches of a case, the second time round unless it is measured cold."""
    l2 = l2_state(chip)
    results: list[RunResult] = []
    for _ in range(1 if case.cold else 2):
        results = [
            simulate(chip, isa_of(chip), each.image, addresses=each.addresses, data=False, l2=l2, engine=engine)
            for each in case.launches
        ]
    return results


def simulate_row(row: Row, engine: Engine, overrides: Sequence[str] = ()) -> Outcome:
    """Run a row that is not excluded."""
    return simulate_on(row, chip_of(row.chip, tuple(overrides)), engine)


def simulate_on(row: Row, chip: NpuConfig, engine: Engine) -> Outcome:
    """Run a row's kernel on any chip."""
    case = case_of(row, chip)
    return outcome_of(row, case, chip, run_case(case, chip, engine))


def band_of(row: Row, engine: Engine, samples: int, overrides: Sequence[str] = ()) -> Band:
    """5th to 95th percentile of the row's value over chips drawn from the error bars of its chip; the same at every call."""
    chip = chip_of(row.chip, tuple(overrides))
    drawn = sample_chips(chip, uncertain_parameters(chip), samples, seed=1)
    return Band.of([simulate_on(row, each, engine).value for each in drawn])


def outcome_of(row: Row, case: Case, chip: NpuConfig, results: Sequence[RunResult]) -> Outcome:
    """What the launches' results say in the terms of the row."""
    cycles = sum(result.cycles for result in results)
    if row.compare == "cycles":
        value = cycles / case.operations
    elif row.compare == "task_us":
        value = float(chip.cycles_to_us(cycles)) + float(chip.host.start_latency_us)
    else:
        ends = sum(sum(core.cycles for core in result.cores) / len(result.cores) for result in results)
        value = ends / float(1000 * chip.clock_ghz)
    read = sum(result.bytes["hbm_read"] for result in results)
    hits = sum(result.bytes["l2"] for result in results)
    return Outcome(row, value, cycles, 100 * hits / (hits + read) if hits + read else None, _pipes(chip, results))


def _pipes(chip: NpuConfig, results: Sequence[RunResult]) -> dict[str, float]:
    times = {}
    for pipe, unit in PIPES.items():
        stats = [core.units[unit] for result in results for core in result.cores if unit in core.units]
        if any(each.instructions for each in stats):
            spent = sum(each.busy + each.stalls.get("memory", 0) + each.stalls.get("bank", 0) for each in stats)
            times[pipe] = float(chip.cycles_to_us(spent)) * len(results) / len(stats)
    return times


def default_engine() -> Engine:
    """The compiled engine where it is installed."""
    return "compiled" if importlib.util.find_spec("npuvm.hw.compiled") else "simpy"
