"""What a tile of a product takes a core of a chip, run on the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isqrt

import numpy as np

from npuvm.compiler.cube.codegen import problem_of
from npuvm.compiler.cube.family import ProductPrograms, ProductSort
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.resident import resident_chip
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.tiles.library import STEPS, USUAL
from npuvm.hw.config import NpuConfig
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate, timing_engine
from npuvm.isa import Isa, load_isa

__all__ = ["TileMeter", "meter_of"]

_ALIGN = 4096
"""Operands begin at multiples of this many bytes."""

_MORE = 5
"""Tiles in a row that a core has."""


class TileMeter:
    """Runs tiles of products; `simulations` counts the launches.

    `measured` says what takes time: "l0" the cube and its moves alone, as if all operands were at L1, "l1" one core, "core" all
    cores at once, each with tiles of its own.
    Operands of `dtype` lie row by row: those of a tight, others at lines and wider than they are. Results have their type.
    """

    def __init__(self, dtype: str, chip: NpuConfig, isa: Isa, measured: str = USUAL) -> None:
        chip = resident_chip(chip) if measured == "l0" else chip
        self._dtype, self._chip, self._isa = dtype, chip, isa
        self._cores = chip.cores_with("cube") if measured == "core" else 1
        # Cores lie over the result as near to a square as they can.
        self._down = max(rows for rows in range(1, isqrt(self._cores) + 1) if self._cores % rows == 0)
        self._item = isa.dtypes[dtype].itemsize
        spec = self._spec(64, 64, 64)
        self.problem: TileProblem = problem_of(spec, chip, isa, Pins())
        # The unit that results leave the core by.
        self._last = "store" if self.problem.via_ub else "fixpipe"
        self._programs = ProductPrograms(ProductSort(spec), 3, chip, isa, cores=self._cores)
        self.simulations = 0

    def cycles(self, tile: Sequence[int]) -> list[int]:
        """Cycles of m, n, k at L1, k at L0, accumulators: until the first tile is done, then those of each later one.

        Each for every number of steps over k in `STEPS`. The first tile finds nothing in L2, later ones all. On one core one
        launch tells both.
        """
        m, n, k1, k0, slots = tile
        taken = CubeTile((m, n, k1), (m, n, k0), slots, 0)
        high, wide = m * self._down, n * (self._cores // self._down)
        found = [
            self._in_one(m, n, k1 * steps, taken) if self._cores == 1 else self._apart(high, wide, k1 * steps, taken)
            for steps in STEPS
        ]
        return [first for first, _ in found] + [max(1, ceil(later)) for _, later in found]

    def run(self, m: int, n: int, k: int, tile: CubeTile, known: int) -> RunResult:
        """Simulate a product. L2 has the columns from `known` on, of the right operand and of the result; from 0 on, all."""
        spec = self._spec(m, n, k)
        l2 = l2_state(self._chip)
        lines: list[int] = []
        windows, at = [], 0
        for view, rows in ((spec.a, m), (spec.b, k), (spec.c, m)):
            pitch = view.row * self._item
            windows.append((at, rows * pitch))
            if known == 0:
                lines += range(at // l2.line_bytes, (at + rows * pitch) // l2.line_bytes)
            elif view is not spec.a:
                within = np.arange(-(-known * self._item // l2.line_bytes), pitch // l2.line_bytes)
                lines += (
                    (at // l2.line_bytes + np.arange(rows)[:, None] * (pitch // l2.line_bytes) + within)
                    .ravel()
                    .tolist()
                )
            at += -(-rows * pitch // _ALIGN) * _ALIGN
        l2.lines.update(dict.fromkeys(lines[: l2.capacity], False))
        self.simulations += 1
        return simulate(
            self._chip,
            self._isa,
            self._programs.image("tile", ProductSort(spec).numbers, (m, n, k, 1), tile),
            addresses=[base for base, _ in windows],
            windows=windows,
            data=False,
            l2=l2,
            engine=timing_engine(),
        )

    def _in_one(self, m: int, n: int, k: int, tile: CubeTile) -> tuple[int, float]:
        """Cycles of a first tile and of a later one, in a launch of several of which L2 has all but the first."""
        run = self.run(m, n * _MORE, k, tile, known=n)
        last = run.cores[0].units[self._last]
        # The first result leaves when its unit starts, and reaches memory as long after as the last one does.
        first = last.stalls.get("startup", 0) + ceil(last.busy / _MORE) + last.stalls.get("tail", 0)
        return first, (run.cycles - first) / (_MORE - 1)

    def _apart(self, m: int, n: int, k: int, tile: CubeTile) -> tuple[int, float]:
        """The same where all cores have tiles, in launches of their own."""
        first = self.run(m, n, k, tile, known=n).cycles
        one, more = (self.run(m, wide, k, tile, known=0).cycles for wide in (n, n * _MORE))
        return first, (more - one) / (_MORE - 1)

    def _spec(self, m: int, n: int, k: int) -> MatmulSpec:
        # An odd number of lines apart, so that rows begin in all servers of memory.
        line = self._chip.memory.l2.line_bytes
        wide = (n * self._item // line + 1 | 1) * line // self._item
        a, b, c = (MatView(arg, self._dtype, row, 1) for arg, row in enumerate((k, wide, wide)))
        return MatmulSpec(m, n, k, a, b, c)


_METERS: dict[tuple[str, str, str], TileMeter] = {}


def meter_of(dtype: str, chip: NpuConfig, measured: str = USUAL) -> TileMeter:
    """The meter of a dtype in this process."""
    key = dtype, chip.chip_hash, measured
    found = _METERS.get(key)
    if found is None:
        found = _METERS[key] = TileMeter(dtype, chip, load_isa(chip.isa.base, chip.isa.extensions), measured)
    return found
