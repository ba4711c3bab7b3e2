"""In how many parts of k cores share a product: estimates in core cycles, of the product as it is and of its parts."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import NamedTuple

from npuvm.compiler.cube.chooser import TileChooser, chooser_of
from npuvm.compiler.cube.codegen import check_types, problem_of
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem, cycles_per_mac
from npuvm.compiler.cube.spec import normalise
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.split.parts import SYMBOLS, SplitParts
from npuvm.compiler.tiles.memory_cost import memory_cost
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["WHOLE", "Split", "SplitCost"]

_JOIN_CYCLES = 450
"""Cycles of a sum until its first tile is through, beside the chip's barrier and an instruction for each part, seen in
simulated runs."""

_SERVED = 0.72
"""Share of L2's rate that a sum of parts reaches, seen in simulated runs."""

_HIDDEN = 0.5
"""Share of the time of what follows a product that a mix hides behind it, seen in simulated runs; behind a sum nothing does."""

_SPREAD = 1.3
_SPREAD_WITHOUT_ROWS = 1.15
"""How much longer main memory takes for operands of which cores read many places at a time, seen in simulated runs; and where
its channels have no rows to open."""

_BESIDE = (1.0, 1.1, 1.4)
"""How much longer than estimated products of parts take in one round of tiles, in two and in more, seen in simulated runs.

Of a later tile the estimate takes what it reads to be in L2, but parts of k share no operands.
"""

_WORTH = 1.05
"""How many times as fast a product must be in parts, by estimates."""

_NEAR = 1.15
"""How much longer than the whole the first number of parts that is tried may take for fewer parts to be tried."""

_FAR = 0.4
"""Share of the whole's cycles below which the first number of parts is taken at once, where others leave a rest."""

_LEAST = 64
"""Of k that a part has at least: less does not fill the pipeline of a core."""

_MOST_ROUNDS = 2
"""Rounds of tiles beyond which a product is left whole."""

_NARROW = 16
"""Columns below which rows are too short for vector code that works row by row, as that of a bias and of mixes does."""

_WAYS = (4, 6, 8, 12, 16, 24), (3, 2)
_WAYS_WITH_REST = (12,), (4,)
"""About how many parts are tried: more as long as more are better, and fewer where they are not. With a rest any number can be
had, so that fewer are asked for."""

_ENOUGH = (4, 12)
"""Where there is a number like each of these that leaves no rest, no others are tried."""

_LIKE = 0.5
"""Share of a number of parts that others which leave no rest have at least, or at most as its inverse, to be tried for it."""

_KEPT = 256


class Split(NamedTuple):
    """A product in `parts` parts of k, each `length` long, and one of the `rest`; and its estimated cycles."""

    parts: int
    length: int
    rest: int
    cycles: float

    def pieces(self) -> list[tuple[int, int, int, int, int]]:
        """Values of `split.parts.SYMBOLS` for the product of the parts, and for that of the rest where there is one."""
        parts, length, rest = self[:3]
        if not rest:
            return [(parts, parts, length, 0, 0)]
        return [(parts + 1, parts, length, 0, 0), (parts + 1, 1, rest, parts, parts * length)]


WHOLE = Split(1, 0, 0, 0.0)
"""The product as it is, whose estimate is its own."""


class SplitCost:
    """The choice for all sizes of a product; `symbols` are the names whose values they are made from.

    CompileError when the chip cannot compute the product.
    """

    def __init__(
        self,
        product: CubeSegment,
        parts: SplitParts,
        symbols: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        buffering: str | None = None,
    ) -> None:
        cores, self._pins = chip.cores_with("cube"), Pins(buffering=buffering)
        problem, self._sizes = _problem(product, symbols, chip, isa, self._pins)
        self._whole = chooser_of(problem, cores, product.name)
        self._parts, self._symbols, self._chip, self._isa = parts, symbols, chip, isa
        self._cores = cores
        self._out, self._acc = problem.out_item, problem.acc_item
        load = chip.core.load
        self._per_mac = cycles_per_mac(problem) / cores
        memory = memory_cost(chip)
        spread = _SPREAD if memory.missed or cores == 1 else _SPREAD_WITHOUT_ROWS
        self._per_element = spread * problem.item * memory.per_byte
        ports = chip.cores_with("vector") * load.ub_bytes_per_cycle
        self._per_sum = 1 / (_SERVED * min(float(chip.l2_bytes_per_cycle), ports))
        self._vectors = chip.cores_with("vector")
        simple = chip.core.vector.classes["valu"]
        self._per_part = simple.startup_cycles + simple.latency_cycles
        self._per_row = _HIDDEN * parts.following * self._per_part
        self._join_cycles = _JOIN_CYCLES + chip.core.sync.launch_cycles
        repeat = self._acc * float(simple.cycles_per_repeat) / chip.core.vector.repeat_bytes
        self._per_result = _HIDDEN * parts.following * repeat / self._vectors
        self._block = BLOCK_BYTES // problem.item if chip.memory.l2.unaligned_reads == "uncached" else 1
        self._most = cores * chip.capacity_bytes("l0c") // self._acc
        self._by_rows = product.bias is not None or parts.following > 0
        self._known: OrderedDict[tuple[int, ...], Split] = OrderedDict()
        self._last: tuple[object, Split] = (None, WHOLE)
        """Values that were asked for last, and what they are split in: all that weigh a launch ask for the same."""

    def prepare(self) -> None:
        """Make what every shape that may be split needs."""
        _ = self._shortest
        self._chooser_of_parts[0].prepare_parts()

    def best(self, values: Sequence[int]) -> Split:
        """The split with the lowest estimate for values of the symbols."""
        asked, found = self._last
        if asked is values:
            return found
        numbers = self._sizes(*values)
        known = self._known.get(numbers)
        if known is None:
            known = self._searchable(values, numbers)
        if isinstance(values, tuple):  # nobody changes it
            self._last = values, known
        return known

    def _searchable(self, values: Sequence[int], numbers: tuple[int, ...]) -> Split:
        m, n, k, batch, _, _ = numbers
        if k < 2 * _LEAST or not 0 < m * n * batch <= self._most:
            return WHOLE
        found = self._known[numbers] = self._found(values, ProductSizes(m, n, k, batch, *numbers[4:]))
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found

    def depth(self, values: Sequence[int]) -> int:
        """k, or 0 where the product has nothing to add up or no elements."""
        m, n, k, batch, *_ = self._sizes(*values)
        return k if m * n * batch else 0

    def whole_cycles(self, values: Sequence[int]) -> float:
        """The estimate of the product as it is, which has elements."""
        return self._whole.choose(ProductSizes(*self._sizes(*values))).cycles

    def pinned(self, values: Sequence[int], parts: int) -> Split:
        """So many parts, at most k, whatever they begin at where they leave no rest."""
        sizes = ProductSizes(*self._sizes(*values))
        even = sizes.k % parts == 0
        return self._split(values, sizes, parts, 1 if even else self._block_of(sizes.k))

    def _found(self, values: Sequence[int], sizes: ProductSizes) -> Split:
        """The choice for sizes that are not known. Most are left after a few multiplications: every new shape asks."""
        tile = self._whole.choose(sizes)
        if self._tiles(sizes, tile) > _MOST_ROUNDS * self._cores or (sizes.n < _NARROW and self._by_rows):
            return WHOLE
        least = max(self._bound(sizes), self._shortest)
        if _WORTH * (least + self._join(sizes, 2)) > tile.cycles:
            return WHOLE
        return self._searched(values, sizes, tile.cycles)

    def _searched(self, values: Sequence[int], sizes: ProductSizes, whole: float) -> Split:
        """The best of the numbers of parts that are tried, or none."""
        most = min(2 * self._cores, sizes.k // _LEAST)
        block = self._block_of(sizes.k)
        even = [parts for parts in range(2, most + 1) if sizes.k % (parts * block) == 0]

        enough = all(any(_is_like(each, way) for each in even) for way in _ENOUGH)
        more, fewer = _WAYS if enough else _WAYS_WITH_REST
        if not even and most < fewer[-1]:
            return WHOLE

        def tried(way: int) -> Split:
            parts = _nearest(even, way) if even else 0
            return self._split(values, sizes, parts if enough or _is_like(parts, way) else min(way, most), block)

        best = first = tried(more[0])
        if best.cycles > _NEAR * whole:
            return WHOLE
        if not enough and best.cycles < _FAR * whole:
            return best
        for ways in (more[1:], fewer):
            for way in ways if best is first else ():
                found = tried(way)
                if found.parts == best.parts:
                    continue
                if found.cycles * (_WORTH if found.rest and not best.rest else 1) >= best.cycles:
                    break
                best = found
        return best if best.cycles * _WORTH <= whole else WHOLE

    def _block_of(self, k: int) -> int:
        """What parts are multiples of, lest they begin off blocks and go past L2, unless all rows do anyway."""
        return self._block if k % self._block == 0 else 1

    def _split(self, values: Sequence[int], sizes: ProductSizes, parts: int, block: int) -> Split:
        length = sizes.k // (parts * block) * block or sizes.k // parts
        found = Split(parts, length, sizes.k - parts * length, 0.0)
        return found._replace(cycles=self._cycles(values, sizes, found))

    def _cycles(self, values: Sequence[int], sizes: ProductSizes, split: Split) -> float:
        chooser, of_parts = self._chooser_of_parts
        own = ProductSizes(*of_parts(*values, *split.pieces()[0]))
        tile = chooser.choose(own)
        rounds = -(-self._tiles(own, tile) // self._cores)
        cycles = max(tile.cycles * _BESIDE[min(rounds, len(_BESIDE)) - 1], self._bound(sizes))
        if not split.rest:
            return cycles + self._join(sizes, split.parts)
        written = sizes.m * sizes.n * sizes.batch * self._acc * self._per_sum
        return cycles + self._shortest + written + self._join(sizes, split.parts + 1)

    @staticmethod
    def _tiles(sizes: ProductSizes, tile: CubeTile) -> int:
        m1, n1, _ = tile.l1
        return -(-sizes.m // m1) * -(-sizes.n // n1) * sizes.batch

    @cached_property
    def _shortest(self) -> float:
        """Cycles of the shortest part of the smallest product."""
        return self._whole.choose(ProductSizes(1, 1, _LEAST, 1, 0, 0)).cycles

    @cached_property
    def _chooser_of_parts(self) -> tuple[TileChooser, Function]:
        """The chooser of products of parts, and their sizes."""
        symbols = (*self._symbols, *SYMBOLS)
        problem, sizes = _problem(self._parts.product, symbols, self._chip, self._isa, self._pins)
        return chooser_of(problem, self._cores), sizes

    def _bound(self, sizes: ProductSizes) -> float:
        """Cycles that the cube and main memory need at least, however the product is split."""
        m, n, k, batch, *_ = sizes
        return max(m * n * k * batch * self._per_mac, (m + n) * k * batch * self._per_element)

    def _join(self, sizes: ProductSizes, parts: int) -> float:
        """Cycles of adding the parts up, and of what a mix would have hidden behind the product."""
        rows = sizes.m * sizes.batch
        each = (parts * self._acc + self._out) * self._per_sum + self._per_result
        through = self._join_cycles + parts * self._per_part
        return through + rows * sizes.n * each - (-rows // self._vectors) * self._per_row


def _is_like(parts: int, way: int) -> bool:
    """Whether a number of parts may be tried for another."""
    return _LIKE * way <= parts <= way / _LIKE


def _nearest(numbers: Sequence[int], way: int) -> int:
    """The one of ascending numbers that is nearest to `way`, the smaller of two."""
    at = bisect_left(numbers, way)
    if at == len(numbers) or (at > 0 and way - numbers[at - 1] <= numbers[at] - way):
        at -= 1
    return numbers[at]


def _problem(
    product: CubeSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, pins: Pins
) -> tuple[TileProblem, Function]:
    """What the choice of its tile depends on, and a function from values of the symbols to its ProductSizes."""
    binding = {name: SymInt.variable(name) for name in symbols}
    spec = normalise(lower_cube(product, binding)[0])
    check_types(spec, chip, isa)
    problem = problem_of(spec, chip, isa, pins)
    sizes = (spec.m, spec.n, spec.k, prod(spec.batch), problem.a.pitch, problem.b.pitch)
    return problem, compile_values(symbols, sizes, "sizes")
