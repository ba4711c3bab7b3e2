"""Tiles of products whose operands may lie off blocks of memory, and may be copied to rows at lines: both add up alike."""

from __future__ import annotations

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.problem import CubeTile, ProductSizes
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.tiles.memory_cost import memory_cost
from npuvm.hw.config import NpuConfig

__all__ = ["FILL_CYCLES", "LONGER", "LinedTiles"]

FILL_CYCLES = 1000
"""Cycles until the first tile of a copy is through and after its last, roughly. The barrier behind copies is made up for by
what the product finds in L2 then."""

LONGER = 1.2
"""How much longer a copy may take than its bytes do: cores are not done at one time."""


class LinedTiles:
    """Tiles of a chooser for operands as they lie, with elements of `item` bytes."""

    def __init__(self, chooser: TileChooser, item: int, chip: NpuConfig) -> None:
        self._chooser, self._item = chooser, item
        # Where L2 keeps what is read off blocks, operands are not copied.
        self._line = chip.memory.l2.line_bytes if chip.memory.l2.unaligned_reads == "uncached" else 0
        self._per_byte = memory_cost(chip).per_line / chip.memory.l2.line_bytes

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """The tile with the lowest estimate; where copies pay, of those with the steps over k at L0 that are best with them."""
        tile = self._chooser.choose(sizes)
        m, n, k, batch, a, b = sizes
        a_off, b_off = a % BLOCK_BYTES != 0, b % BLOCK_BYTES != 0
        if not self._line or not (a_off or b_off):
            return tile
        lined = self._chooser.choose(sizes._replace(a_pitch=self._lined(a), b_pitch=self._lined(b)))
        copied = (m * a_off + n * b_off) * k * batch * self._item
        copies = copied * self._per_byte * LONGER + FILL_CYCLES * (a_off + b_off)
        if lined.l0[2] == tile.l0[2] or lined.cycles + copies > tile.cycles:
            return tile
        return self._chooser.choose_in_steps(sizes, lined.l0[2]) or tile

    def _lined(self, pitch: int) -> int:
        """The pitch of rows that are copied to where lines of memory begin."""
        return -(-pitch // self._line) * self._line
