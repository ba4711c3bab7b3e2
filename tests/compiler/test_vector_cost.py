"""The estimate of a vector segment's tiles as it is used, against the same in plain words of numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from random import Random
from typing import Any

import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Graph
from npuvm.compiler.plan import make_plan
from npuvm.compiler.schedule import Pins
from npuvm.compiler.segments import VectorSegment
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_codegen import covered, tiled
from npuvm.compiler.vector_cost import TileCost
from npuvm.compiler.vector_lower import VecProgram
from npuvm.compiler.vector_space import Space, largest_dim, make_space
from npuvm.hw.config import NpuConfig, class_of


def chain() -> Graph:
    """Element-wise, with a row that all rows share."""
    return build(lambda k, x, y: k.store(k.cast(k.exp(x), "fp32") * y), x="fp16[A, B, C]", y="fp32[C]")


def norm() -> Graph:
    """Over the last axis."""

    def body(k: Any, x: Any, scale: Any) -> None:
        value = x - k.mean(x, axes=-1, keepdims=True)
        k.store(value * scale)

    return build(body, x="fp32[A, B, C]", scale="fp32[A, 1, 1]")


def columns() -> Graph:
    """Over the axis in the middle."""
    return build(lambda k, x: k.store(k.sum(x * x, axes=1)), x="fp32[A, B, C]")


def turned() -> Graph:
    """Read along columns."""
    return build(lambda k, x, y: k.store(k.permute(x, (0, 2, 1)) + y), x="fp16[A, C, B]", y="fp16[A, B, C]")


def plain(space: Space, program: VecProgram, chip: NpuConfig, depth: int, rows: int, cols: int, cores: int) -> float:
    """Cycles: rounds of the busiest core times the slowest unit, and one pass through the others."""
    sizes, reduced = space.sizes, space.reduced
    edges = {space.row: rows, space.col: cols}
    counts = [-(-size // edges.get(dim, 1)) for dim, size in enumerate(sizes)]
    steps = prod(count for count, flag in zip(counts, reduced, strict=True) if flag)
    parallel = prod(counts) // steps
    rows, cols = min(rows, space.rows), min(cols, space.cols)
    memory = float(chip.hbm_bytes_per_cycle) / min(cores, parallel)
    latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
    load, store, waited = 0.0, 0.0, 0.0
    for each in (*space.reads, *space.writes):
        engine, read = (chip.core.load, True) if each in space.reads else (chip.core.store, False)
        port = float(getattr(engine, "ub_bytes_per_cycle" if read else "bytes_per_cycle"))
        has_rows, has_cols = space.has(each.node, space.row), space.has(each.node, space.col)
        again = prod(count for dim, count in enumerate(counts) if not space.has(each.node, dim))
        lines, width = rows if has_rows else 1, cols if has_cols else 1
        if has_cols and each.strides[space.col] != 1:
            lines, width = lines * width, 1
        nbytes: float = width * each.item
        dense = has_cols and cols == space.cols and each.strides[space.col] == 1
        if has_rows and not dense:
            nbytes = max(nbytes, engine.min_burst_bytes)
        cycles = engine.startup_cycles + lines * (float(engine.row_cycles) + nbytes / min(port, memory))
        if read:
            load, waited = load + cycles / again, max(waited, 1 / again)
        else:
            store += cycles / again
    vector = work(program, chip, rows, cols, 1 / steps)
    slowest = max(vector, load, store, (load + waited * latency + vector) / depth)
    return -(-parallel // cores) * steps * slowest + max(0.0, vector + load + store - slowest)


def work(program: VecProgram, chip: NpuConfig, rows: int, cols: int, once: float) -> float:
    """Cycles of the vector unit, one instruction after the other."""
    total, latency, fence = 0.0, 0, 0
    cycles: float
    written: dict[Any, int] = {}
    for at, insn in enumerate(program.insns):
        if insn.op == "asm":
            continue
        waits = any(written.get(use.reg, -1) >= fence for _, use in insn.sources)
        fence, written[insn.dst.reg] = at if waits else fence, at
        cost = class_of(chip.core.vector, the_isa(), the_isa().instruction(insn.op))
        cycles = cost.startup_cycles + (latency + 1 if waits else 0)
        latency = cost.latency_cycles
        uses = [insn.dst, *(use for _, use in insn.sources)]
        item = max(DTYPES[use.reg.dtype].item_bytes for use in uses)
        has_rows, has_cols = insn.shape
        lines = rows if has_rows and has_cols else 1
        width = (cols if has_cols else rows if has_rows else 1) * item
        repeat = chip.core.vector.repeat_bytes
        repeats = lines * -(-width // repeat)
        if insn.shape == (True, True) and all(use.how == "plain" for use in uses) and width % 32 == 0:
            repeats = -(-lines * width // repeat)
        cycles += repeats * float(cost.cycles_per_repeat) + lines * float(cost.row_cycles)
        shares = {"changed": 0.0, "first": once, "last": once, "not_first": 1 - once, "not_last": 1 - once}
        total += cycles * shares.get(insn.when.kind, 1.0)
    return total


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("make", [chain, norm, columns, turned])
@pytest.mark.parametrize("chip", CHIPS)
def test_estimates_are_those_of_plain_numbers(chip: str, make: Callable[[], Graph], whole: bool) -> None:
    source, config = Random(f"{chip} {make.__name__} {whole}"), the_chip(chip)
    for segment in make_plan(make(), CASTS, whole_rows=whole).segments:
        assert isinstance(segment, VectorSegment)
        for _ in range(20):
            binding = {name: round(300 ** source.random()) for name in "ABC"}
            space = make_space(segment, binding, largest_dim)
            program, storage = tiled(
                covered(segment, space, config, the_isa(), again=True), space, binding, the_isa(), Pins(), 2, config
            )
            cores = source.choice((1, 7, 48))
            rows, cols = source.randint(1, space.rows), source.randint(1, space.cols)
            estimate = TileCost(space, program, config, the_isa(), 5, storage.depth).of(space.sizes, cores)
            expected = plain(space, program, config, storage.depth, rows, cols, cores)
            assert estimate(rows, cols) == pytest.approx(expected, rel=1e-12)
