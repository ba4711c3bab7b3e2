"""What a relay costs: an estimate from the chip's rates, to be held against that of its parts in launches of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from npuvm.compiler.cube.meets import begun_in
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.relay.tile import Block, RelaySizes, Runs
from npuvm.compiler.tiles.formula_terms import Term, Value, compile_terms, largest, least, pick, same
from npuvm.compiler.vector.cost import RowsCost, RowsForm, rows_terms
from npuvm.hw.config import NpuConfig

__all__ = ["HIDDEN", "Estimate", "Memory", "RelayCost", "RunTerms"]

_VISIBLE = 0.12
"""Share of the second slowest unit's work that the slowest does not hide, as for products."""


HIDDEN = 0.15
"""Share of what main memory or the cores take beside the slower of both that is not hidden behind it, as for segments."""

_KEPT = 64
"""Formulas that are kept, by rates."""


class _Product(NamedTuple):
    """A product of a relay: bytes of an element, and whether rows of its right operand lie along k."""

    item: int
    is_flipped: bool
    problem: TileProblem


BlockRuns = tuple[tuple[int, Runs], tuple[int, Runs]]
"""For each grid, in how many matrices or batches of them there are such runs."""

Estimate = Callable[[Block, BlockRuns, int], tuple[float, tuple[float, ...]]]
"""For a block, its runs in both grids and the number of core groups: cycles of the launch, and those of each product alone in
such blocks, by the same rule."""


class Memory(NamedTuple):
    """Cycles to L2 and to main memory, bytes that L2 holds, bytes a cycle of both, and whether L2 spreads addresses."""

    near: int
    far: int
    l2_bytes: int
    l2_rate: float
    hbm_rate: float
    spreads: bool
    line: int
    slices: int


class RelayCost:
    """Cycles of a relay's launch. `vector` is the estimate of one core's rows of a block of its vector segment."""

    def __init__(self, chip: NpuConfig, problems: Sequence[TileProblem], vector: RowsCost, cores: int) -> None:
        self._cores = cores
        memory = chip.memory
        near = memory.l2.latency_cycles
        self.memory = Memory(
            near,
            near + memory.hbm.latency_cycles,
            chip.capacity_bytes("l2"),
            float(chip.l2_bytes_per_cycle),
            float(chip.hbm_bytes_per_cycle),
            memory.address_hash,
            memory.l2.line_bytes,
            memory.l2.slices,
        )
        self._products = tuple(_Product(each.item, each.b.flipped, each) for each in problems)
        rates = tuple(_rates(chip, each) for each in problems)
        # One core may do the work of both.
        self.form = vector.form, rates, near, len(chip.group_core_types) == 1
        self._runs = _run_cycles(*self.form)
        self.numbers = vector.numbers

    def of(self, sizes: RelaySizes) -> Estimate:
        """The estimate for blocks of these sizes.

        Products and the vector segment work at the same time where they have units of their own cores, on one core one after
        the other: it issues the instructions of both in order, and only the first product waits.
        """
        rows, cores, least = sizes.rows, self._cores, self._memory(sizes.read)
        edges = [edge for n, k, *_ in sizes.shapes for edge in (n, k)]
        run = self._runs(sizes.cols, *self.numbers, *edges)
        bound = sum(least)

        def cycles(block: Block, runs: BlockRuns, groups: int) -> tuple[float, tuple[float, ...]]:
            size, parts, tiles = block
            (matrices, (count, most, _)), (batches, (rests, most_rests, _)) = runs
            edges = [edge for tile in tiles for edge in tile]
            # What only one block of rows reads comes from main memory.
            way = self.memory.near if rows > size else self.memory.far
            own = size // cores
            part = own // parts
            # Runs of both sorts are cut as one list over the groups, those of whole blocks first.
            whole, left = matrices * count, batches * rests
            turns = -(-(whole + left) // groups)
            total, last, taken, blocks = 0.0, 0.0, 0, 0
            alike: Sequence[float] = ()
            if count:
                each_run, *alike = run(most, size, own, part, way, *edges)
                taken = min(turns, whole)
                total = last = taken * each_run
                blocks = taken * most
            if rests:
                height = rows % size or size
                mine = min(own, height)
                each_run, *products = run(most_rests, height, mine, min(part, mine), way, *edges)
                fewer = min(turns - taken, left)
                total, last = total + fewer * each_run, max(last, min(turns, left) * each_run)
                blocks += fewer * most_rests
                alike = list(map(max, alike, products)) if alike else products
            together = tuple([max(blocks * each + each, low) for each, low in zip(alike, least, strict=True)])
            met = 0.0 if self.memory.spreads else self._met(block, sizes, runs)
            total = max(total, last, met) + self.memory.far
            return max(total, bound) + HIDDEN * min(total, bound), together

        return cycles

    def terms(self) -> RunTerms:
        """What a run is estimated by."""
        return _run_terms(*self.form)

    def _met(self, block: Block, sizes: RelaySizes, runs: BlockRuns) -> float:
        """Cycles of L2 for the right operands, where it spreads no addresses: all groups read the same columns at one time."""
        line, slices = self.memory.line, self.memory.slices
        blocks, met = sum(matrices * each.runs * each.most for matrices, each in runs), 0.0
        for product, shape, (n, k) in zip(self._products, sizes.shapes, block.tiles, strict=True):
            row, part = (shape.k, k) if product.is_flipped else (shape.n, n)
            pitch, part = row * product.item, min(part, row) * product.item
            reached = min(begun_in(pitch, slices, line) * -(-part // line) / slices, 1.0)
            met += shape.n * shape.k * product.item / reached
        return blocks * met / self.memory.l2_rate

    def _memory(self, read: Sequence[int]) -> tuple[float, ...]:
        """Cycles in which so many bytes come from memory; none where L2 keeps them from the call before."""
        if sum(read) <= self.memory.l2_bytes:
            return (0.0,) * len(read)
        return tuple([nbytes / self.memory.hbm_rate for nbytes in read])


class _Rates(NamedTuple):
    """Of a product's units on a core: cycles before each instruction, bytes and blocks a cycle, and slots of its rings."""

    block: tuple[int, int, int]
    block_cycles: float
    multiply_start: int
    move_start: int
    move_a: float
    move_b: float
    load_start: int
    load: float
    burst: int
    fix_start: int
    fix: float
    slots: int
    in_turn: bool
    item: int
    out_item: int


def _rates(chip: NpuConfig, problem: TileProblem) -> _Rates:
    core = chip.core
    cube, move, load, fix = core.cube, core.move, core.load, core.fixpipe
    return _Rates(
        (cube.m, cube.n, max(1, cube.k_bytes // problem.item)),
        float(cube.cycles_per_block[problem.dtype]),
        cube.startup_cycles + cube.latency_cycles,
        2 * (move.startup_cycles + move.latency_cycles),
        float(move.l0a_bytes_per_cycle),
        float(move.l0b_bytes_per_cycle),
        load.l1_startup_cycles,
        float(load.l1_bytes_per_cycle),
        load.min_burst_bytes,
        fix.startup_cycles + fix.latency_cycles,
        float(max(1, fix.ub_bytes_per_cycle if problem.via_ub else fix.gm_bytes_per_cycle)),
        min(problem.depth("l1.a"), problem.depth("l1.b")),
        problem.depth("l0a") == 1,
        problem.item,
        problem.out_item,
    )


class RunTerms(NamedTuple):
    """Variables of a shape, those of a run and its tiles, and cycles of the run and of each product for one of its blocks."""

    first: list[str]
    then: list[str]
    values: list[Value]


@lru_cache(_KEPT)
def _run_cycles(
    form: RowsForm, products: tuple[_Rates, ...], near: int, alone: bool
) -> Callable[..., Callable[..., tuple[float, ...]]]:
    return compile_terms(*_run_terms(form, products, near, alone))


def _run_terms(form: RowsForm, products: tuple[_Rates, ...], near: int, alone: bool) -> RunTerms:
    """The variables come in the order of the vector segment's numbers, and n and k of each product.

    Those of a run are the number of its blocks, their rows, those of a vector core, and of a part of them, the cycles of the
    way to memory, and n and k of a tile of each product.
    """
    names, (first, later) = rows_terms(form)
    numbers = range(len(products))
    alike = [_product_cycles(rates, at) for at, rates in enumerate(products)]
    blocks, cube = Term("blocks"), sum(alike[1:], start=alike[0])
    if alone:
        run = blocks * (cube + later) + first - later
    else:
        # The products of a block wait for the vector cores two blocks before.
        around = (cube + first + 2 * near) / 2
        run = cube + first + (blocks - 1) * largest(largest(cube, later), around)
    known = [name for at in numbers for name in (f"all_n{at}", f"all_k{at}")]
    tiles = [name for at in numbers for name in (f"tile_n{at}", f"tile_k{at}")]
    return RunTerms([*names, *known], ["blocks", "size", "height", "rows", "memory", *tiles], [run, *alike])


def _product_cycles(rates: _Rates, at: int) -> Value:
    """Cycles of product number `at` for one block of rows."""
    n_of_all, k_of_all, rows, memory = Term(f"all_n{at}"), Term(f"all_k{at}"), Term("size"), Term("memory")
    n, k = least(Term(f"tile_n{at}"), n_of_all), least(Term(f"tile_k{at}"), k_of_all)
    columns, steps = -(-n_of_all // n), -(-k_of_all // k)
    m0, n0, k0 = rates.block
    # Products of the last columns and steps are as much smaller as these are.
    width, depth = n_of_all / columns, k_of_all / steps
    left, right = rows * align_up(k * rates.item), width * depth * rates.item
    multiply = rates.multiply_start + -(-rows // m0) * (width / n0) * (depth / k0) * rates.block_cycles
    move = rates.move_start + left / rates.move_a + right / rates.move_b
    single = same(steps, 1)
    sent = pick(single, left, rows * largest(k * rates.item, rates.burst))
    of_left = rates.load_start + sent / rates.load
    load = rates.load_start + right / rates.load + pick(single, of_left / columns, of_left)
    # Tiles are alike at L0 and L1, whose slots are free when they are moved.
    turn = (memory + load + move) / rates.slots
    out = (rates.fix_start + rows * width * rates.out_item / rates.fix) / steps
    if rates.in_turn:
        # What shares the only slot of a ring works in turn: moves with products, and products with their way out.
        units: tuple[Value, ...] = (multiply + move + out, 0.0, load, turn, out)
    else:
        units = (multiply, move, load, turn, out)
    ordered = Term("sorted(({0}, {1}, {2}, {3}, {4}))", units)
    slow, slowest = Term("{0}[3]", (ordered,)), Term("{0}[4]", (ordered,))
    return columns * steps * (slowest + _VISIBLE * slow) + multiply + move + out
