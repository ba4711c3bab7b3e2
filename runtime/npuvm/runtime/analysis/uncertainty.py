"""Uncertainty of a run: its launches replayed on chips drawn from the error bars of the chip's numbers, as a table and as JSON.

The programs stay as they were compiled for the nominal chip, at the same addresses; only the chip's numbers change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from npuvm.hw.config import NpuConfig, class_names
from npuvm.hw.uncertainty import DEFAULT_SAMPLES, DEFAULT_SEED, Influence, Propagated, propagate
from npuvm.runtime.analysis.recording import ALL_LAUNCHES, by_kernel, chip_of, replay
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.scenarios.report import Progress, unwatched
from npuvm.runtime.tables import plain_table

__all__ = ["RunUncertainty", "propagate_launches", "render_uncertainty", "uncertainty_json"]

UNCERTAINTY_VERSION = 1

_TOP = 5
_CLASSES = "core.vector.classes."
_BLOCKS = "core.cube.cycles_per_block."


@dataclass(frozen=True)
class RunUncertainty:
    """Times of each kernel of a run with their bands; `whole` is that of all launches one after another, without the host."""

    chip: str
    samples: int
    seed: int
    kernels: dict[str, Propagated]
    whole: Propagated


def propagate_launches(
    records: Sequence[LaunchRecord],
    *,
    samples: int = DEFAULT_SAMPLES,
    seed: int = DEFAULT_SEED,
    influences: bool = True,
    progress: Progress = unwatched,
) -> RunUncertainty:
    """Propagate the error bars of a chip through the launches of one device, replayed on each chip.

    Without `influences` only the bands are found. Numbers that no instruction of the launches uses (timing classes, operand
    types of the cube) stay as they are. DeviceError without a launch; ConfigError when the error bars contradict the chip's
    rules; SimulationError and TrapError as of `simulate`.
    """
    nominal, groups = chip_of(records), by_kernel(records)

    def measure(chip: NpuConfig) -> dict[str, int]:
        results = replay(records, chip).results
        cycles = {name: sum(results[at].cycles for at in places) for name, places in groups.items()}
        return {**cycles, ALL_LAUNCHES: sum(result.cycles for result in results)}

    found = propagate(
        nominal,
        measure,
        samples=samples,
        seed=seed,
        influences=influences,
        relevant=_used(records),
        progress=progress,
    )
    whole = found.pop(ALL_LAUNCHES)
    return RunUncertainty(nominal.name, samples, seed, found, whole)


def uncertainty_json(run: RunUncertainty) -> dict[str, Any]:
    """The bands and influences as plain JSON values; `version` changes when a key changes its meaning or goes away."""
    return {
        "version": UNCERTAINTY_VERSION,
        "chip": run.chip,
        "samples": run.samples,
        "seed": run.seed,
        "kernels": {name: each.to_json() for name, each in run.kernels.items()},
        "whole": run.whole.to_json(),
    }


def render_uncertainty(run: RunUncertainty, top: int = _TOP) -> RenderableType:
    """A table of bands, and for all launches together (or the only kernel) the `top` numbers that move their time most."""
    title = f"uncertainty of {run.chip}: {run.samples} samples of the error bars of its numbers, seed {run.seed}"
    bands = plain_table(
        [("kernel", False), *((heading, True) for heading in ("cycles", "p5", "p50", "p95", "µs p5 - p95"))]
    )
    rows = dict(run.kernels)
    if len(rows) > 1:
        rows[ALL_LAUNCHES] = run.whole
    for name, each in rows.items():
        cells = (
            f"{each.nominal:,}",
            *(f"{value:,.0f}" for value in (each.cycles.p5, each.cycles.p50, each.cycles.p95)),
        )
        bands.add_row(name, *cells, f"{each.microseconds.p5:,.2f} - {each.microseconds.p95:,.2f}")
    texts, figures = ("moved most by", "trust"), ("value", "range", "time at low", "at high")
    numbers = plain_table([*((heading, False) for heading in texts), *((heading, True) for heading in figures)])
    for influence in run.whole.influences[:top]:
        numbers.add_row(*_influence_cells(influence))
    return Group(Text(title, style="bold"), bands, numbers)


def _influence_cells(influence: Influence) -> tuple[str, ...]:
    low, high = (float(value) for value in influence.parameter.range)
    nominal = influence.nominal_us
    changes = [100 * (us / nominal - 1) for us in (influence.low_us, influence.high_us)]
    return (
        influence.parameter.path,
        influence.parameter.trust,
        f"{float(influence.parameter.value):g}",
        f"{low:g} - {high:g}",
        *(f"{change:+.1f} %" for change in changes),
    )


def _used(records: Sequence[LaunchRecord]) -> Callable[[str], bool]:
    """Whether some launch uses what a field of the chip prices."""
    isa = records[0].isa
    instructions = [isa.instruction(op) for record in records for op in record.result.by_op]
    classes = {name for each in instructions if each.unit == "vector" for name in class_names(isa, each)}
    dtypes = {dtype for record in records for dtype in record.result.work.multiply_adds}

    def used(path: str) -> bool:
        if path.startswith(_CLASSES):
            return path.removeprefix(_CLASSES).partition(".")[0] in classes
        return path.removeprefix(_BLOCKS) in dtypes if path.startswith(_BLOCKS) else True

    return used
