"""What rows off the blocks of memory cost a product, and what copies of its operands would: estimates in core cycles.

The times of what a product does anyway, of its reads past L2 and of the copies are compared by the rates of the chip alone.
Only their differences matter: how well a tile is estimated otherwise is not asked here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import gcd, prod
from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES
from npuvm.compiler.cube_chooser import chooser_of
from npuvm.compiler.cube_codegen import check_types, problem_of
from npuvm.compiler.cube_lower import lower_cube
from npuvm.compiler.cube_problem import CubeTile, ProductSizes
from npuvm.compiler.cube_spec import MatView, Side, normalise
from npuvm.compiler.padding_parts import OPERANDS
from npuvm.compiler.schedule import Pins
from npuvm.compiler.segments import CubeSegment
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.symint import Function, SymInt, compile_values
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["PaddingCost", "ProductReads"]

_JOIN_CYCLES = 800
"""Cycles of a barrier of the launch and of filling the pipeline once more, roughly."""

_FILL_CYCLES = 1000
"""Cycles until the first tile of a copy is through and after its last, roughly."""

_WORTH = 1.1
"""How many times as fast a product must be with copies, by these rough estimates."""

_VISIBLE = 0.4
"""Share of the shorter of two things at one time that the longer does not hide, seen in simulated runs."""

_LONGER = 1.2
"""How much longer a copy may take than its bytes do: cores are not done at one time."""


_MEMORY = 1 / 16
"""Share of main memory that the copy of an operand may take."""

_FIXED = 8
"""Numbers of a product before those of the places where rows begin."""

_WAYS = (("a",), ("b",), OPERANDS)
"""What may be copied."""


class ProductReads(NamedTuple):
    """A product of known sizes: cycles without any reads past L2, cycles of main memory for these by operand, and cycles that
    copies of operands take at least."""

    busy: float
    past: dict[str, float]
    copied: dict[str, float]

    @property
    def plain(self) -> float:
        """Cycles of the product as its operands lie."""
        return _beside(self.busy, sum(self.past.values()))

    def padded(self, operands: Collection[str]) -> float:
        """Cycles with copies of these operands."""
        left = sum(cycles for name, cycles in self.past.items() if name not in operands)
        return _beside(self.busy, left) + sum(self.copied[name] for name in operands) + _JOIN_CYCLES


class PaddingCost:
    """Estimates for all sizes of a product; `symbols` are the names whose values they are made from.

    CompileError when the chip cannot compute the product.
    """

    def __init__(self, product: CubeSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        binding = {name: SymInt.variable(name) for name in symbols}
        spec = normalise(lower_cube(product, binding)[0])
        check_types(spec, chip, isa)
        self._problem = problem = problem_of(spec, chip, isa, Pins())
        rows = (spec.k if problem.a.flipped else spec.m, spec.n if problem.b.flipped else spec.k)
        places = [
            _places(side, view, (count, *spec.batch))
            for side, view, count in zip((problem.a, problem.b), (spec.a, spec.b), rows, strict=True)
        ]
        self._counts = [len(each) for each in places]
        self._sizes: Function = compile_values(
            symbols,
            (
                *(spec.m, spec.n, spec.k, prod(spec.batch), problem.a.pitch, problem.b.pitch),
                *(prod(evaluate(each.layout.dims, binding)) for each in (product.a, product.b)),
                *(number for each in places for number in each),
            ),
            "sizes",
        )
        self._made = [each.tensor.kind == "workspace" for each in (product.a, product.b)]
        self._cores = chip.cores_with("cube")
        self._chooser = chooser_of(problem, self._cores)
        l2, hbm, load, cube = chip.memory.l2, chip.memory.hbm, chip.core.load, chip.core.cube
        self._channels = hbm.channels
        self._room = chip.capacity_bytes("gm") * _MEMORY
        self._line, self._capacity = l2.line_bytes, chip.capacity_bytes("l2")
        rate = float(chip.hbm_bytes_per_cycle)
        # Lines of many cores open a row of their channel each, or are asked for by several of them in turn.
        missed = hbm.row_miss_cycles if hbm.row_bytes else 0
        self._line_cycles = l2.line_bytes / rate + missed / hbm.channels
        self._past_cycles = l2.line_bytes / rate + max(missed, hbm.same_line_cycles) / hbm.channels
        self._port, self._burst = float(load.l1_bytes_per_cycle), load.min_burst_bytes
        self._block = cube.m, cube.n, cube.k_bytes // problem.item
        self._block_cycles = float(cube.cycles_per_block[problem.dtype])

    def off_blocks(self, values: Sequence[int]) -> tuple[str, ...]:
        """The operands some of whose rows begin off a block of memory; none where there is nothing to add up."""
        numbers = self._sizes(*values)
        if 0 in numbers[:4]:
            return ()
        return tuple(name for name, step in zip(OPERANDS, self._steps(numbers), strict=True) if step)

    def worth(self, values: Sequence[int]) -> tuple[str, ...]:
        """The operands to copy: those with which the product takes the least time, none where that saves too little."""
        numbers = self._sizes(*values)
        m, n, k, batch, a_pitch, b_pitch = numbers[:6]
        nbytes = [elements * self._problem.item for elements in numbers[6:_FIXED]]
        # What launches of the kernel itself wrote is in L2, which serves reads of it wherever they begin.
        near = [made and size <= self._capacity / 2 for made, size in zip(self._made, nbytes, strict=True)]
        steps = [0 if there else step for there, step in zip(near, self._steps(numbers), strict=True)]
        if steps == [0, 0] or m * n * k * batch == 0:
            return ()
        sizes = ProductSizes(m, n, k, batch, a_pitch, b_pitch)
        ways = [each for each, wanted in zip(_WAYS, self._allowed(steps, nbytes), strict=True) if wanted]
        if not ways:
            return ()
        tile = self._chooser.choose(sizes)
        if tile.cycles < _WORTH * (_JOIN_CYCLES + _FILL_CYCLES):
            return ()
        reads = self._reads(sizes, tile, steps, nbytes)
        best = min(ways, key=reads.padded)
        return best if reads.padded(best) * _WORTH <= reads.plain else ()

    def _allowed(self, steps: Sequence[int], nbytes: Sequence[int]) -> tuple[bool, bool, bool]:
        """For each of _WAYS, whether what it copies is off blocks and leaves room in main memory for others."""
        a, b = (step > 0 and size <= self._room for step, size in zip(steps, nbytes, strict=True))
        return a, b, a and b

    def _steps(self, numbers: Sequence[int]) -> list[int]:
        """By operand, how many bytes off blocks lie the places where its rows begin; 0 where all are at blocks."""
        found, at = [], _FIXED
        for count in self._counts:
            offset, *dims = numbers[at : at + count]
            steps = [step for step, size in zip(dims[::2], dims[1::2], strict=True) if size > 1]
            found.append(gcd(offset, *steps, BLOCK_BYTES) % BLOCK_BYTES)
            at += count
        return found

    def _reads(self, sizes: ProductSizes, tile: CubeTile, steps: Sequence[int], wholes: Sequence[int]) -> ProductReads:
        m, n, k, batch = sizes[:4]
        item, (m1, n1, k1) = self._problem.item, tile.l1
        cuts_m, cuts_n, steps1 = -(-m // m1), -(-n // n1), -(-k // k1)
        tiles = cuts_m * cuts_n * batch
        rounds = -(-tiles // self._cores)
        # Of the tiles of a row the operand that stays is loaded once.
        a_times = cuts_n if steps1 > 1 else -(-cuts_n // max(1, min(cuts_n, tiles // self._cores)))
        a = _pass(self._problem.a.flipped, (m, m1, cuts_m), (k, min(k1, k), steps1))
        b = _pass(not self._problem.b.flipped, (n, n1, cuts_n), (k, min(k1, k), steps1))
        past, copied = {}, {}
        bm, bn, bk = self._block
        busy = -(-min(m1, m) // bm) * -(-min(n1, n) // bn) * -(-k // bk) * self._block_cycles
        load = 0.0
        for name, each, times, whole, pitch, step in (
            ("a", a, a_times, wholes[0], sizes.a_pitch, steps[0]),
            ("b", b, cuts_m, wholes[1], sizes.b_pitch, steps[1]),
        ):
            nbytes = each.length * item
            moved = each.rows * times * batch
            load += moved * max(nbytes, self._burst) / self._port / self._cores
            # Of a line with the end of one row and the begin of the next, both are fetched at once.
            lines = 1 + (nbytes - 1) / self._line
            if pitch:  # a matrix of one row has none
                lines = min(lines, pitch / self._line)
            # Whole rows of a tile are read as one, which begins where the tile does.
            off = gcd(each.in_tile * pitch, BLOCK_BYTES) if step and nbytes == pitch else step
            share = 1 - off / BLOCK_BYTES if off % BLOCK_BYTES else 0
            once = whole / self._line * self._line_cycles
            # Cores that want the same few lines wait for the few channels that have them.
            waits = self._channels / min(self._channels, each.at_once * lines)
            fetch = self._past_cycles if times > 1 else self._line_cycles
            past[name] = max(moved * share * lines * waits * fetch, once)
            crossings = 1 if whole <= self._capacity / 2 else 3
            copied[name] = once * crossings * _LONGER + _FILL_CYCLES
        return ProductReads(max(rounds * busy, load), past, copied)


def _beside(one: float, other: float) -> float:
    """Cycles of two things that go on at one time, which hide each other in part."""
    return max(one, other) + _VISIBLE * min(one, other)


def _places(side: Side, view: MatView, sizes: Sequence[int]) -> list[int]:
    """What the places where rows begin are made of: the first, and for each dim its stride, both in bytes, and its size."""
    dims = zip((side.pitch, *side.batch), sizes, strict=True)
    return [view.offset * side.item, *(number for dim in dims for number in dim)]


class _Pass(NamedTuple):
    """One pass over an operand: the parts of rows that it reads, the elements of each, how many are in a tile, and how many
    different ones are read at a time.
    """

    rows: int
    length: int
    in_tile: int
    at_once: int


def _pass(across: bool, edge: tuple[int, int, int], depth: tuple[int, int, int]) -> _Pass:
    """A pass in tiles.

    `edge` and `depth` are the whole size, a tile's, and the number of tiles; rows run `across` the edge, or along k.
    """
    (size, part, cuts), (k, k1, steps) = edge, depth
    part = min(part, size)
    return _Pass(k * cuts, part, k1, k1 * cuts) if across else _Pass(size * steps, k1, part, size)
