"""The estimate of a vector segment's tiles as it is used, against the same in plain words of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from random import Random
from typing import Any

import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Graph
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import covered, tiled
from npuvm.compiler.vector.cost import TileCost
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.space import Space, Transfer, largest_dim, make_space
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


def gained() -> Graph:
    """The same with a row that is used at the end."""

    def body(k: Any, x: Any, gain: Any) -> None:
        value = x - k.mean(x, axes=-1, keepdims=True)
        k.store(value * value * gain)

    return build(body, x="fp32[A, B, C]", gain="fp32[C]")


def columns() -> Graph:
    """Over the axis in the middle."""
    return build(lambda k, x: k.store(k.sum(x * x, axes=1)), x="fp32[A, B, C]")


def turned() -> Graph:
    """Read along columns."""
    return build(lambda k, x, y: k.store(k.permute(x, (0, 2, 1)) + y), x="fp16[A, C, B]", y="fp16[A, B, C]")


def plain(space: Space, program: VecProgram, chip: NpuConfig, depth: int, rows: int, cols: int, cores: int) -> float:
    """Cycles: one pass through all units, and what is left of the busiest core, or of what all share."""
    sizes, reduced, memory = space.sizes, space.reduced, chip.memory
    edges = {space.row: rows, space.col: cols}
    counts = [-(-size // edges.get(dim, 1)) for dim, size in enumerate(sizes)]
    steps = prod(count for count, flag in zip(counts, reduced, strict=True) if flag)
    parallel = prod(counts) // steps
    own = -(-parallel // cores) * steps
    rows, cols = min(rows, space.rows), min(cols, space.cols)
    latency = memory.l2.latency_cycles + memory.hbm.latency_cycles
    line, channels = memory.l2.line_bytes, memory.hbm.channels
    of_channel = memory.hbm.interleave_bytes * channels / float(chip.hbm_bytes_per_cycle)
    of_line = (of_channel + (memory.hbm.row_miss_cycles if memory.hbm.row_bytes else 0)) / memory.hbm.interleave_bytes
    past_l2 = memory.l2.unaligned_reads == "uncached"
    load = store = waited = far = near = hot = 0.0
    before = 1.0
    for each in (*space.reads, *space.writes):
        read = each in space.reads
        engine = chip.core.load if read else chip.core.store
        again = min(repeated(space, each.node, counts), own)
        segments, segment, starts, off = moved(space, each, rows, cols)
        counted = segments * max(segment, engine.min_burst_bytes)
        at_once = max(1, engine.chunk_bytes // max(segment, engine.min_burst_bytes))
        requests = segments * -(-segment // engine.chunk_bytes) / at_once
        port = float(chip.core.load.ub_bytes_per_cycle if read else chip.core.store.bytes_per_cycle)
        apart = (latency if read else memory.l2.latency_cycles) / engine.outstanding
        cycles = starts * engine.startup_cycles + max(
            segments * float(engine.row_cycles) + counted / port, requests * apart
        )
        turns = prod(counts) / again
        near += turns * segments * segment / float(chip.l2_bytes_per_cycle)
        if not read:
            store += cycles / again
            continue
        load, waited = load + cycles / again, max(waited, 1 / again)
        dims = [dim for dim in range(len(sizes)) if space.has(each.node, dim)]
        extent = each.item * prod(sizes[dim] for dim in dims)
        lines = segments * (1 + (segment - 1) / line)
        if past_l2 and off:
            far += turns * lines * line * of_line / channels / min(max(extent, line) / (channels * line), 1)
        else:
            reached = 1.0
            if not memory.address_hash and cols < space.cols and is_tile(space, each):
                stripe, pitch = channels * memory.hbm.interleave_bytes, space.cols * each.item
                drift = min(pitch % stripe, stripe - pitch % stripe)
                seen = max(cols * each.item + rows * drift, memory.hbm.interleave_bytes) / stripe
                reached = min(seen * min(cores, parallel), 1)
            far += extent * of_line / channels / reached
        if past_l2 and dims == [space.col] and sizes[space.col] * each.item % 32:
            hot += turns / counts[space.col] * line * of_line
            before = min(before, work_before(program, space.reads.index(each)))
        if memory.l2.same_line_cycles and len(dims) < len(sizes):
            near = max(near, turns * lines * memory.l2.same_line_cycles * line / (extent + line))
    vector = work(program, chip, rows, cols, 1 / steps)
    slowest = max(vector, load, store, (max(load, far / own) + waited * latency + vector) / depth)
    later = (own - 1) * slowest
    apart = max(hot - before * vector, 0)
    return vector + store + latency + max(later + load, far, near) + apart + 0.15 * min(later, far)


def work_before(program: VecProgram, read: int) -> float:
    """The share of the instructions of a tile in front of the first one that a loaded value is an operand of."""
    own = [insn for insn in program.insns if insn.op != "asm" and insn.when.kind != "changed"]
    for at, insn in enumerate(own):
        if any(use.reg.read == read for _, use in insn.sources):
            return at / len(own)
    return 0.0


def is_tile(space: Space, each: Transfer) -> bool:
    """Whether rows of adjacent elements are moved."""
    return space.has(each.node, space.row) and space.has(each.node, space.col) and each.strides[space.col] == 1


def repeated(space: Space, node: Any, counts: Sequence[int]) -> int:
    """Tiles in a row, in the order in which cores walk them, that need the same of a tensor."""
    kept = [dim for dim in (*space.others, space.col, space.row) if dim is not None and not space.reduced[dim]]
    order = [*kept, *(dim for dim, flag in enumerate(space.reduced) if flag)]
    found = 1
    for at in range(len(order)):
        inner = order[at:]
        if all(not space.has(node, dim) or counts[dim] == 1 for dim in inner):
            found = prod(counts[dim] for dim in inner if not space.has(node, dim))
            break
    return found


def moved(space: Space, each: Transfer, rows: int, cols: int) -> tuple[int, int, int, bool]:
    """Segments of a tile's transfer, bytes of one, instructions, and whether it begins or ends off blocks."""
    has_rows, has_cols = space.has(each.node, space.row), space.has(each.node, space.col)
    adjacent = each.strides[space.col] == 1
    row_bytes = space.cols * each.item
    if has_rows and has_cols and adjacent:
        if cols == space.cols and (space.row is None or each.strides[space.row] == space.cols):
            nbytes = rows * row_bytes
            return 1, nbytes, 1, nbytes % 32 != 0
        return rows, cols * each.item, 1, row_bytes % 32 != 0
    if has_cols and adjacent:
        several = sum(space.has(each.node, dim) for dim in range(len(space.sizes))) > 1
        return 1, cols * each.item, 1, several and row_bytes % 32 != 0
    if has_rows and not has_cols and space.row is not None and each.strides[space.row] == 1:
        return 1, rows * each.item, 1, rows * each.item % 32 != 0
    segments = (rows if has_rows else 1) * (cols if has_cols else 1)
    return segments, each.item, rows if has_rows and has_cols else 1, True


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
@pytest.mark.parametrize("make", [chain, norm, gained, columns, turned])
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
