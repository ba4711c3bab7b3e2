"""Runs a kernel on the simulator, time only, and says what no tile could have been faster than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from benchmarks.efficiency.kernels import Case

from npuvm.compiler.cube.codegen import MatmulKernel
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.inspection.kernel import Inspected, InspectedSegment, inspect_kernel
from npuvm.compiler.vector.codegen import VectorKernel
from npuvm.hw.config import NpuConfig, class_of
from npuvm.hw.explain import break_down, sum_breakdowns
from npuvm.hw.results.stats import RunResult
from npuvm.isa import Isa
from npuvm.runtime import Device

__all__ = ["Limit", "Measured", "measure", "reasons"]

Limit = tuple[str, float]
"""What sets a limit, and its cycles."""


@dataclass(frozen=True)
class Measured:
    """A kernel that ran: its segments with their runs, and for each three limits of its cycles with what sets them.

    `bounds`: the highest bound of the run (docs/timing-model.md, Bounds), which knows the program as it is. `reachable`: the
    same with main memory as it is when every line opens a row of its bank, as lines of many cores do that stream from places of
    their own. `roofs`: limits of the work alone, which no tile changes. `stream_us` is when the last launch ends, the host's
    launches and start latency included.
    """

    case: Case
    segments: tuple[InspectedSegment, ...]
    runs: tuple[RunResult, ...]
    bounds: tuple[Limit, ...]
    reachable: tuple[Limit, ...]
    roofs: tuple[Limit, ...]
    core_us: float
    stream_us: float

    @property
    def cycles(self) -> int:
        """Core cycles of all launches."""
        return sum(run.cycles for run in self.runs)

    @property
    def bound(self) -> Limit:
        """What sets the longest bound, and the bounds of all launches added up."""
        return max(self.bounds, key=lambda each: each[1])[0], sum(cycles for _, cycles in self.bounds)

    def share(self, limits: Sequence[Limit]) -> float:
        """Share of the cycles that the limits of all launches account for."""
        return sum(cycles for _, cycles in limits) / self.cycles

    @property
    def tiles(self) -> str:
        """The tiles taken."""
        return "; ".join(each.tile for each in self.segments)


def measure(case: Case, chip: NpuConfig) -> Measured:
    """Compile and simulate a case; memory and L2 are fresh."""
    device = Device(chip, timing_only=True)
    found = inspect_kernel(case.kernel, case.shapes, chip, device.isa)
    params = [each for each in found.compiled.tensors if each.kind == "param"]
    device.run(case.kernel, {each.name: device.empty(each.shape, each.dtype) for each in params})
    runs = tuple(record.result for record in device.launches)
    bounds = tuple(_highest({name: float(cycles) for name, cycles in run.bounds.items()}) for run in runs)
    factor = _row_factor(chip)
    reachable = tuple(
        _highest({name: float(cycles) * (factor if name == "hbm" else 1) for name, cycles in run.bounds.items()})
        for run in runs
    )
    roofs = tuple(
        _roof([_limits(each, run, chip, device.isa) for each in _parts(found, launch.segment)])
        for launch, run in zip(found.compiled.launches, runs, strict=True)
    )
    core_us = float(sum((chip.cycles_to_us(run.cycles) for run in runs), Fraction(0)))
    return Measured(case, found.segments, runs, bounds, reachable, roofs, core_us, device.launches[-1].times.end_us)


def _parts(found: Inspected, launch: str) -> list[InspectedSegment]:
    """The segments of a launch: one, or with it what is computed or copied for it."""
    return [each for each in found.segments if each.name == launch or each.name.startswith(f"{launch}.")]


def _row_factor(chip: NpuConfig) -> float:
    """How much longer a channel takes for a line when it opens a row for it."""
    hbm, line = chip.memory.hbm, chip.memory.l2.line_bytes
    cycles = line * hbm.channels / float(chip.hbm_bytes_per_cycle)
    return (cycles + hbm.row_miss_cycles) / cycles if hbm.row_bytes else 1.0


def _highest(limits: Mapping[str, float]) -> Limit:
    return max(limits.items(), key=lambda item: item[1])


def _roof(limits: Sequence[Mapping[str, float]]) -> Limit:
    """The highest of the limits of a launch's parts; products in panels share the cube."""
    cube = sum(each.get("cube", 0.0) for each in limits)
    return max(*(_highest(each) for each in limits), ("cube", cube), key=lambda each: each[1])


def _limits(segment: InspectedSegment, run: RunResult, chip: NpuConfig, isa: Isa) -> Mapping[str, float]:
    """Limits that do not depend on the tile: main memory, the units' work without any start-up, ports."""
    kernel = segment.kernel
    limits = {"hbm": float(run.bounds["hbm"])}
    if isinstance(kernel, VectorKernel):
        limits |= {"vector": _vector_work(kernel, chip, isa), **_ports(kernel, chip)}
    elif isinstance(kernel, MatmulKernel):
        limits["cube"] = _cube_work(kernel, chip)
    return limits


def _vector_work(kernel: VectorKernel, chip: NpuConfig, isa: Isa) -> float:
    """Cycles of the repeats of instructions over whole tiles, on all cores; those on rows and columns alone are left out."""
    elements = prod(kernel.space.sizes)
    whole = (kernel.space.row is not None, True)
    cycles = Fraction(0)
    for insn in kernel.program.insns:
        if insn.shape == whole and insn.when.kind in ("always", "not_first") and insn.op != "asm":
            item = max(DTYPES[use.reg.dtype].item_bytes for use in (insn.dst, *(use for _, use in insn.sources)))
            price = class_of(chip.core.vector, isa, isa.instruction(insn.op))
            cycles += Fraction(elements * item, chip.core.vector.repeat_bytes) * price.cycles_per_repeat
    return float(cycles) / chip.cores_with("vector")


def _ports(kernel: VectorKernel, chip: NpuConfig) -> dict[str, float]:
    """Cycles of the ports that load and store, for every element once."""
    space, cores = kernel.space, chip.cores_with("vector")
    rates = {"load port": chip.core.load.ub_bytes_per_cycle, "store port": chip.core.store.bytes_per_cycle}
    moved = dict(zip(rates, (space.reads, space.writes), strict=True))
    return {
        name: sum(
            each.item * prod(n for dim, n in enumerate(space.sizes) if space.has(each.node, dim))
            for each in moved[name]
        )
        / float(rate)
        / cores
        for name, rate in rates.items()
    }


def _cube_work(kernel: MatmulKernel, chip: NpuConfig) -> float:
    """Cycles of the multiplications at the cube's peak, on all cores."""
    spec, cube = kernel.spec, chip.core.cube
    deep = cube.k_bytes // kernel.problem.item
    blocks = Fraction(prod(spec.batch) * spec.m * spec.n * spec.k, cube.m * cube.n * deep)
    return float(blocks * cube.cycles_per_block[spec.a.dtype]) / chip.cores_with("cube")


def reasons(runs: Sequence[RunResult], most: int = 3) -> str:
    """Where the core cycles of launches went besides the busy time of what works longest, the largest shares first."""
    breakdown = sum_breakdowns(break_down(run) for run in runs)
    shares = [(cycles / breakdown.core_cycles, cause.label) for cause, cycles in breakdown.stack.items()]
    return ", ".join(f"{label} {share:.0%}" for share, label in sorted(shares, reverse=True)[:most])
