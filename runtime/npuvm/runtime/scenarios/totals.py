"""From the results of launches to the totals that a report shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from npuvm.compiler import DTYPES, Graph
from npuvm.compiler.graph.ops_conv import CUBE_OPS, product_sizes
from npuvm.hw.config import NpuConfig
from npuvm.hw.results.stats import RunResult
from npuvm.runtime.scenarios.report import Totals

__all__ = ["cube_cycles", "totals_of"]

_IDLE = ("tail", "idle", "drain", "imbalance")
"""Not stalls: the unit, or the sequencer, had finished its part of the launch."""

_WAIT = re.compile(r"wait \d+ \((\w+)\)")


def totals_of(
    chip: NpuConfig, graph: Graph, binding: Mapping[str, int], results: Sequence[RunResult], compile_us: float
) -> Totals:
    """Totals of the launches that one run of a kernel made; `binding` gives the values of the graph's symbols.

    Utilisation counts all cores of the chip, also those that the launch left idle.
    """
    cores = Counter(unit for core_type in chip.core_types() for unit in chip.units(core_type))
    cycles = sum(result.cycles for result in results)
    busy: Counter[str] = Counter()
    stalls: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    bounds: dict[str, float] = {}
    limits: dict[str, float] = {}
    for result in results:
        nbytes.update(result.bytes)
        name, bound = result.bound
        bounds[name] = bounds.get(name, 0.0) + float(bound)
        for name, bound in result.bounds.items():
            limits[name] = limits.get(name, 0.0) + float(bound)
        for core in result.cores:
            for unit, stats in core.units.items():
                busy[unit] += stats.busy
                if stats.instructions:
                    stalls.update(_stalls(unit, stats.stalls))
    shared = {
        "cube": cube_cycles(chip, graph, binding),
        "vector": busy["vector"] / cores["vector"],
        "hbm": limits.get("hbm", 0.0),
        "l2": limits.get("l2", 0.0),
    }
    return Totals(
        launches=len(results),
        instructions=sum(result.instructions for result in results),
        cycles=cycles,
        microseconds=float(chip.cycles_to_us(cycles)),
        bytes=dict(nbytes),
        busy=dict(busy),
        available={unit: count * cycles for unit, count in cores.items()},
        stalls=dict(stalls),
        bounds=bounds,
        limits=limits,
        roofline_cycles=max(shared.values()),
        compile_us=compile_us,
    )


def _stalls(unit: str, stalls: Mapping[str, int]) -> Counter[str]:
    """Cycles by "unit cause", waits named by the unit that they wait for."""
    found: Counter[str] = Counter()
    for cause, cycles in stalls.items():
        if cause not in _IDLE:
            wait = _WAIT.fullmatch(cause)
            found[f"{unit} awaits {wait[1]}" if wait else f"{unit} {_in_words(cause)}"] += cycles
    return found


def _in_words(cause: str) -> str:
    return cause.replace("queue_full:", "blocked by ").replace("_", " ")


def cube_cycles(chip: NpuConfig, graph: Graph, binding: Mapping[str, int]) -> float:
    """Cycles that all cubes of the chip together need for the multiply-adds of a graph's products, at their peak rate."""
    cube = chip.core.cube
    cycles = 0.0
    for node in graph.nodes:
        if node.op in CUBE_OPS:
            dtype = node.inputs[0].type.dtype
            depth = cube.k_bytes // DTYPES[dtype].item_bytes
            per_block = cube.cycles_per_block.get(dtype)
            if per_block is not None:
                cycles += prod(product_sizes(node, binding)) / (cube.m * cube.n * depth) * per_block
    return cycles / chip.cores_with("cube")
