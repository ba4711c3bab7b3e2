"""What a mix takes beyond its product: an estimate from the chip's rates, to be held against launches of their own."""

from __future__ import annotations

from npuvm.compiler.mix.cores import MixCores, VectorPart
from npuvm.compiler.vector.cost import RowsCost, least_cycles
from npuvm.compiler.vector.space import Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["MixCost"]

_AHEAD = 0.5
"""Share of the vector unit's queue that stands behind the slow instructions of a band, so that the next tile's product goes on
meanwhile. Measured on `edge`, whose queue has 8 places: 0.4 to 0.6 for bands of 6 to 48 instructions."""


class MixCost:
    """Cycles of the vector unit's part that its product does not hide, for tiles cut into bands."""

    def __init__(self, space: Space, part: VectorPart, cores: MixCores, chip: NpuConfig, isa: Isa) -> None:
        self._rows = RowsCost(space, part.program, chip, isa, part.storage.depth)
        self._together = cores.together
        self._instructions = max(1, len(part.program.insns))
        self._queued = _AHEAD * chip.core.sequencer.queue_depth
        # A tile goes to memory and comes back, and its group is told of both.
        self._handover = 0.0 if cores.together else float(chip.memory.l2.latency_cycles)
        self._groups, self._vectors = cores.groups, cores.vectors
        self._latency = chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles
        self._for_element = least_cycles(space, part.program, chip, isa)
        self._known: dict[tuple[int, int, int], tuple[float, float]] = {}

    def behind(self, product: float, tiles: int, elements: int, cut: tuple[int, int, int]) -> float:
        """Cycles beyond the `product` for so many tiles on all core groups, of so many elements of the result in all.

        `cut` is how a vector core has a tile: rows, bands of so many rows, columns.

        Cores of their own work on a tile while the cube has the next: what they take longer, and the last tile, remain. One
        core issues the instructions of both in order, and goes on to the next tile when no more are left than its queue holds.
        """
        rows, bands, cols = cut
        found = self._known.get(cut)
        if found is None:
            found = self._known[cut] = self._tile(rows, bands, cols)
        first, later = found
        turns = -(-tiles // self._groups)
        # The last tiles of rows and columns are smaller.
        later *= min(1.0, elements / (tiles * rows * bands * cols * self._vectors))
        if self._together:
            hidden = min(1.0, self._queued / (self._instructions * bands))
            return first - later + turns * later * (1.0 - hidden)
        return (turns - 1) * max(0.0, later - product / turns) + first + self._handover

    def alone(self, elements: int) -> float:
        """Cycles that a launch of the vector unit's part takes at least, for so many elements of the result."""
        return self._latency + elements * self._for_element

    def _tile(self, rows: int, bands: int, cols: int) -> tuple[float, float]:
        first, later = self._rows.of(cols)(rows * bands, rows)
        return float(first), float(later)
