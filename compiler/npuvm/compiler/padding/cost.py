"""Whether copies of a product's operands pay whose rows lie off the blocks of memory, by estimates in core cycles.

Both are estimates of the chooser, each of the best tile for operands that lie so; copies take what memory does.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, inf, prod

from npuvm.compiler.cube.chooser import chooser_of
from npuvm.compiler.cube.codegen import check_types, problem_of
from npuvm.compiler.cube.lined import FILL_CYCLES, LEAST, LONGER
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.problem import ProductSizes, cycles_per_mac
from npuvm.compiler.cube.spec import MatView, Side, normalise
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.padding.parts import OPERANDS
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.tiles.memory_cost import memory_cost
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["PaddingCost"]

_MEMORY = 1 / 16
"""Share of main memory that the copy of an operand may take."""

_FEWER = 0.9
"""Share of the product's own time with all copies that it takes at least with fewer: a copy of short rows may be longer."""

_FIXED = 8
"""Numbers of a product before those of the places where rows begin."""

_WAYS = {(True, True): ((0, 1), (0,), (1,)), (True, False): ((0,),), (False, True): ((1,),), (False, False): ()}
"""Which operands are copied, by which of them may be; all of them first."""


class PaddingCost:
    """Estimates for all sizes of a product; `symbols` are the names whose values they are made from.

    CompileError when the chip cannot compute the product.
    """

    def __init__(
        self, product: CubeSegment, symbols: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        binding = {name: SymInt.variable(name) for name in symbols}
        spec = normalise(lower_cube(product, binding)[0])
        check_types(spec, chip, isa)
        self._problem = problem = problem_of(spec, chip, isa, Pins(buffering=buffering))
        rows = (spec.k if problem.a.flipped else spec.m, spec.n if problem.b.flipped else spec.k)
        places = [
            _places(side, view, (count, *spec.batch))
            for side, view, count in zip((problem.a, problem.b), (spec.a, spec.b), rows, strict=True)
        ]
        at = _FIXED
        self._places: list[tuple[int, list[tuple[int, int]]]] = []
        """By operand, which numbers are the place of the first row, and strides and sizes of dims."""
        for each in places:
            self._places.append((at, [(place, place + 1) for place in range(at + 1, at + len(each), 2)]))
            at += len(each)
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
        self._chooser = chooser_of(problem, self._cores, spec.name)
        self._chooser.prepare()
        self._per_mac = cycles_per_mac(problem) / self._cores
        self._item = problem.item
        self._room = chip.capacity_bytes("gm") * _MEMORY
        self._line, self._capacity = chip.memory.l2.line_bytes, chip.capacity_bytes("l2")
        self._line_cycles = memory_cost(chip).per_line

    def off_blocks(self, values: Sequence[int]) -> tuple[str, ...]:
        """The operands some of whose rows begin off a block of memory; none where there is nothing to add up."""
        numbers = self._sizes(*values)
        if 0 in numbers[:4]:
            return ()
        return tuple(name for name, step in zip(OPERANDS, self._steps(numbers), strict=True) if step)

    def worth(self, values: Sequence[int], other: float = inf) -> tuple[str, ...]:
        """The operands to copy: those with which the product takes the least time, none where that saves nothing.

        `other` is what it takes in another way, which reads the operands as they lie.
        """
        numbers = self._sizes(*values)
        m, n, k, batch, a_pitch, b_pitch, a_items, b_items = numbers[:_FIXED]
        if m * n * k * batch == 0:
            return ()
        nbytes = a_items * self._item, b_items * self._item
        a, b = self._steps(numbers)
        # What launches of the kernel itself wrote is in L2, which serves reads of it wherever they begin.
        if self._made[0] and nbytes[0] <= self._capacity / 2:
            a = 0
        if self._made[1] and nbytes[1] <= self._capacity / 2:
            b = 0
        if a == b == 0:
            return ()
        estimate = self._chooser.cycles
        apart = self._pitch(a_pitch, a), self._pitch(b_pitch, b)
        plain = min(estimate(ProductSizes(m, n, k, batch, *apart)), other)
        if plain < LEAST:
            return ()
        may_be = a > 0 and nbytes[0] <= self._room, b > 0 and nbytes[1] <= self._room
        spent = self._copied(nbytes[0]), self._copied(nbytes[1])
        copied = self._lined(a_pitch), self._lined(b_pitch)
        least, best, floor = plain, tuple[int, ...](), self._per_mac * (m * n * k * batch)
        for way in _WAYS[may_be]:
            cycles = (0.0 if 0 not in way else spent[0]) + (0.0 if 1 not in way else spent[1])
            if cycles + floor < least:
                pitches = copied[0] if 0 in way else apart[0], copied[1] if 1 in way else apart[1]
                product = estimate(ProductSizes(m, n, k, batch, *pitches))
                if len(way) == len(OPERANDS):
                    floor = max(floor, _FEWER * product)
                if cycles + product < least:
                    least, best = cycles + product, way
        return tuple([OPERANDS[at] for at in best])

    def _pitch(self, pitch: int, step: int) -> int:
        """A pitch with which an operand is read like one that lies `step` bytes off blocks."""
        if step == 0:
            return self._lined(pitch) if pitch % BLOCK_BYTES else pitch
        return pitch if pitch % BLOCK_BYTES else pitch + step

    def _lined(self, pitch: int) -> int:
        """The pitch of rows that are copied to where lines of memory begin."""
        return align_up(pitch, self._line)

    def streamed(self, nbytes: int) -> float:
        """Cycles that main memory takes for what a copy reads."""
        return nbytes / self._line * self._line_cycles

    def _copied(self, nbytes: int) -> float:
        """Cycles of a copy; what half of L2 does not hold is written to memory and read again."""
        crossings = 1 if nbytes <= self._capacity / 2 else 3
        return self.streamed(nbytes) * crossings * LONGER + FILL_CYCLES

    def _steps(self, numbers: Sequence[int]) -> list[int]:
        """By operand, how many bytes off blocks lie the places where its rows begin; 0 where all are at blocks."""
        found = []
        for offset, dims in self._places:
            step = numbers[offset]
            for stride, size in dims:
                if numbers[size] > 1:
                    step = gcd(step, numbers[stride])
            found.append(gcd(step, BLOCK_BYTES) % BLOCK_BYTES)
        return found


def _places(side: Side, view: MatView, sizes: Sequence[int]) -> list[int]:
    """What the places where rows begin are made of: the first, and for each dim its stride, both in bytes, and its size."""
    dims = zip((side.pitch, *side.batch), sizes, strict=True)
    return [view.offset * side.item, *(number for dim in dims for number in dim)]
