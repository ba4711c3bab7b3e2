"""Products in panels: vector cores copy the operands of the next panel while cube cores multiply the one before.

The first rows of the result in its first columns come first, the corner: few rows and columns have to be copied for it.
Beside it the other rows are copied, beside these rows in the first columns the other columns, and the product of all rows
with these is the last panel. With copies of one operand alone there are two panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from npuvm.compiler.cube.family import CubeFamily, Panel, PanelMade
from npuvm.compiler.native.loading import loaded
from npuvm.compiler.padding.copies import PART, PaddedCopy, part_of_copy
from npuvm.compiler.padding.corners import Corner, Whole, choose_corner, choose_large_corner, may_pay, prepare_corners
from npuvm.compiler.padding.parts import PITCHES, PaddedParts
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.compiler.program.compiled import Launch
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["PanelLaunches", "Step", "edge_axis"]


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
        self._barrier, self._native = chip.core.sync.launch_cycles, loaded()
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
        for edges in self._family.prepare_panels():
            prepare_corners(self._cores, edges)
        for copy in self._copies.values():
            copy.prepare()

    def steps(
        self, sizes: tuple[int, int], values: Sequence[int], pitches: Sequence[int], copies: tuple[float, float]
    ) -> list[Step]:
        """The panels of a result of these sizes, whose operands take `copies` cycles to copy; none where it is one."""
        if not may_pay(copies):
            return []
        (m, n), own = sizes, (*values, *pitches)
        whole = Whole(m, n, self._family.tile(own), copies, self._barrier)
        corner = choose_corner(whole, self._cores)
        large = self._family.large_tiles(own) if min(copies) > 0 else None
        if large is not None:
            corner = choose_large_corner(whole, large, corner, self._native)
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
