"""Products in panels: vector cores copy the operands of the next panel while cube cores multiply the one before.

The first rows of the result in its first columns come first, the corner: few rows and columns have to be copied for it.
Beside it the other rows are copied, beside these rows in the first columns the other columns, and the product of all rows
with these is the last panel. With copies of one operand alone there are two panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from npuvm.compiler.cube.family import CubeFamily, Panel, PanelMade
from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.padding.copies import PART, PaddedCopy, part_of_copy
from npuvm.compiler.padding.parts import PITCHES, PaddedParts
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.program.compiled import Launch
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["Corner", "PanelLaunches", "Step", "choose_corner", "edge_axis"]

_JOIN_CYCLES = 1700
"""Cycles of filling the pipeline once more behind a barrier, and of cores that wait for the last one, roughly."""

_WORTH = 1.015
"""How many times as fast a product must be in panels, by estimates."""

_LEAST = 5_000
"""Cycles that panels save at least, by estimates: the host takes as long again for a shape in panels."""

_ROUNDS = (1, 2)
"""Tiles of a corner for each core."""

_FILLED = 0.3
"""Share of a round that cores wait for the first tile of the corner."""

_SURE = 1.01
"""How many times as fast two rounds must be than one by estimates: more copies before the corner are sure."""


class Corner(NamedTuple):
    """How many rows and columns of the result the corner has, and the estimated cycles of all panels with their copies."""

    rows: int
    cols: int
    cycles: float


def choose_corner(
    m: int, n: int, tile: CubeTile, copies: tuple[float, float], cores: int, barrier: int
) -> Corner | None:
    """The corner of a product of m x n whose operands take `copies` cycles to copy, 0 where one is read as it lies.

    `tile` is that of the product as one, with its cycles, and `cores` how many share its tiles. Panels are `barrier` cycles
    apart. All rows or columns are in the corner where their operand is not copied. None where copies before the product are no
    slower.
    """
    m1, n1, _ = tile.l1
    rows, cols = -(-m // m1), -(-n // n1)
    a, b = copies
    whole = tile.cycles + a + b
    least, best = min(whole / _WORTH, whole - _LEAST), None
    if tile.cycles > least:
        return None
    per_round, join = tile.cycles / -(-rows * cols // cores), _JOIN_CYCLES + barrier
    for high, wide in _corners(cores, rows if a == 0 else 0, cols if b == 0 else 0):
        if high > rows or wide > cols or (high == rows and wide == cols):
            continue
        part_a, part_b = a * high / rows, b * wide / cols
        corner, left, right = (-(-each // cores) for each in (high * wide, (rows - high) * wide, rows * (cols - wide)))
        cycles = part_a + part_b + max((corner + _FILLED) * per_round, a - part_a if left else b - part_b)
        if left:
            cycles += max(left * per_round, b - part_b) + join
        if right:
            cycles += right * per_round + join
        if corner > 1:
            cycles *= _SURE
        if cycles < least:
            least, best = cycles, (high, wide)
    return None if best is None else Corner(min(best[0] * m1, m), min(best[1] * n1, n), least)


@lru_cache(256)
def _corners(cores: int, rows: int, cols: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of tiles of corners that have whole rounds of the cores; `rows` or `cols` are given where not 0."""
    if rows and cols:
        return ()
    if rows or cols:
        given = rows or cols
        others = sorted({-(-cores * times // given) for times in _ROUNDS})
        return tuple((rows, each) if rows else (each, cols) for each in others)
    whole = (cores * times for times in _ROUNDS)
    return tuple((high, tiles // high) for tiles in whole for high in range(1, tiles + 1) if tiles % high == 0)


class Step(NamedTuple):
    """A panel with its name, and what is copied for it: operands with the values of PART."""

    name: str
    panel: Panel
    copies: tuple[tuple[str, int, int], ...]


class PanelLaunches:
    """The launches of a product of one matrix in panels, and of the copies for each of them.

    `names` are the symbols of the kernel; `family` makes the programs of the product for these and PITCHES of `operands`.
    """

    def __init__(
        self,
        parts: PaddedParts,
        operands: Sequence[str],
        names: Sequence[str],
        family: CubeFamily,
        chip: NpuConfig,
        isa: Isa,
        buffering: str | None,
    ) -> None:
        product = parts.segment
        assert isinstance(product, CubeSegment)
        self._name, self._written, self._family = product.name, product.written, family
        self._operands, self._cores = tuple(operands), chip.cores_with("cube")
        self._barrier = chip.core.sync.launch_cycles
        copied = list(zip(operands, parts.copies, strict=True))
        self.segments = {operand: part_of_copy(copy, edge_axis(product, operand)) for operand, copy in copied}
        """By operand the copy of a part of it, for the symbols with those of PART behind them."""
        self._copies = {
            operand: PaddedCopy(
                copy, (*names, PITCHES[operand], *PART), chip, isa, buffering, edge_axis(product, operand)
            )
            for operand, copy in copied
        }

    def prepare(self) -> None:
        """Make what almost any shape in panels needs."""
        self._family.prepare_panels()
        for copy in self._copies.values():
            copy.prepare()

    def steps(
        self, sizes: tuple[int, int], values: Sequence[int], pitches: Sequence[int], copies: tuple[float, float]
    ) -> list[Step]:
        """The panels of a result of these sizes, whose operands take `copies` cycles to copy; none where it is one."""
        if sum(copies) <= _LEAST:
            return []
        m, n = sizes
        corner = choose_corner(m, n, self._family.tile((*values, *pitches)), copies, self._cores, self._barrier)
        return [] if corner is None else _steps(m, n, corner, self._operands)

    def copy_name(self, step: Step, operand: str) -> str:
        """The name of the copy of an operand for a panel."""
        name = self.segments[operand].name
        return f"{name}.{step.name}" if step.panel.row or step.panel.col else name

    def program(self, step: Step, values: Sequence[int], pitches: Sequence[int]) -> PanelMade | None:
        """The program of a panel; None where no tile adds up in the steps of the whole product."""
        return self._family.panel(f"{self._name}.{step.name}", (*values, *pitches), step.panel)

    def launches(
        self, steps: Sequence[Step], values: Sequence[int], pitches: Sequence[int]
    ) -> tuple[Launch, ...] | None:
        """The launches in order; None where a panel cannot have a program of its own."""
        pitch = dict(zip(self._operands, pitches, strict=True))
        found: list[Launch] = []
        for number, step in enumerate(steps):
            for operand, first, size in step.copies:
                copy = self._copies[operand]
                image, tensors = copy.instance((*values, pitch[operand], first, size))
                name = self.copy_name(step, operand)
                # What was not there for the panel before is copied beside that one.
                found.append(Launch(name, "vector", image, tensors, copy.written, bool(found), number > 0))
            made = self.program(step, values, pitches)
            if made is None:
                return None
            found.append(Launch(made.image.name, "cube", made.image, self._family.tensors, self._written, True))
        return tuple(found)


def _steps(m: int, n: int, corner: Corner, operands: Sequence[str]) -> list[Step]:
    """The panels of a result of m x n with this corner."""
    high, wide, _ = corner
    first = {"a": high, "b": wide}
    found = [Step("corner", Panel(0, high, 0, wide), tuple([(each, 0, first[each]) for each in operands]))]
    if high < m:
        found.append(Step("rows", Panel(high, m - high, 0, wide), (("a", high, m - high),)))
    if wide < n:
        found.append(Step("columns", Panel(0, m, wide, n - wide), (("b", wide, n - wide),)))
    return found


def edge_axis(product: CubeSegment, operand: str) -> int:
    """The dim of an operand of one matrix that is a dim of the result."""
    return int(product.transpose_a) if operand == "a" else int(not product.transpose_b)
