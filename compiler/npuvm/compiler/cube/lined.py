"""Tiles of products whose operands may lie off blocks of memory, and may be copied to rows at lines: both add up alike."""

from __future__ import annotations

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem, cycles_per_mac
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["FILL_CYCLES", "LEAST", "LONGER", "LinedTiles"]

FILL_CYCLES = 1000
"""Cycles until the first tile of a copy is through and after its last, roughly. The barrier behind copies is made up for by
what the product finds in L2 then."""

LEAST = 2 * FILL_CYCLES
"""Products that take less get no copies."""

LONGER = 1.2
"""How much longer a copy may take than its bytes do: cores are not done at one time."""


class LinedTiles:
    """Tiles of a chooser for products of a sort on `cores` cores, for operands as they lie."""

    def __init__(self, chooser: TileChooser, problem: TileProblem, cores: int) -> None:
        self._chooser, self._item = chooser, problem.item
        l2 = problem.chip.memory.l2
        # Where L2 keeps what is read off blocks, operands are not copied.
        self._line = l2.line_bytes if l2.unaligned_reads == "uncached" else 0
        self._per_byte = memory_cost(problem.chip).per_line / l2.line_bytes
        self._per_mac = cycles_per_mac(problem) / cores

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The tile with the lowest estimate; where copies pay, of those with the steps over k at L0 that are best with them."""
        tile = self._chooser.choose(sizes)
        m, n, k, batch, a, b = sizes
        a_off, b_off = a % BLOCK_BYTES != 0, b % BLOCK_BYTES != 0
        if not self._line or not (a_off or b_off) or tile.cycles < LEAST:
            return tile
        copied = (m * a_off + n * b_off) * k * batch * self._item
        copies = copied * self._per_byte * LONGER + FILL_CYCLES * (a_off + b_off)
        if copies + self._per_mac * (m * n * k * batch) > tile.cycles:
            return tile
        lined = self._chooser.choose(sizes._replace(a_pitch=align_up(a, self._line), b_pitch=align_up(b, self._line)))
        if lined.l0[2] == tile.l0[2] or lined.cycles + copies > tile.cycles:
            return tile
        return self._chooser.choose_in_steps(sizes, lined.l0[2]) or tile
