"""Large tiles held against each other by rounds alone: what parts of a large product take whose operands are in L2."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["LargeTiles"]

Floats = npt.NDArray[np.float64]


class LargeTiles(NamedTuple):
    """Edges m and n of some tiles, and the cycles that each takes a core but the first, over its blocks.

    Tiles are cut to edges that are multiples of those of a block. `cores` share them.
    """

    m: Floats
    n: Floats
    each: Floats
    cores: int
    block_m: int
    block_n: int

    def cycles(self, rows: Floats, cols: Floats) -> Floats:
        """Cycles of parts of so many rows and columns, 0 for none, in rounds of the tile that is best for each.

        Tiles of a part are as many as its edges ask for, but alike.
        """
        high, wide = rows / self.m[:, None], cols / self.n[:, None]
        np.ceil(high, out=high)
        np.ceil(wide, out=wide)
        found = high * wide
        found /= self.cores
        np.ceil(found, out=found)
        for size, count, block in ((rows, high, self.block_m), (cols, wide, self.block_n)):
            count *= block
            np.maximum(count, 1.0, out=count)
            np.divide(size, count, out=count)
            found *= np.ceil(count, out=count)
        found *= self.each[:, None]
        cycles: Floats = found.min(axis=0)
        return cycles
