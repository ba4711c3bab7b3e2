"""Chooses tiles of matrix products with the operations of `npuvm.compiler.cube.chooser`, in the same order."""

from __future__ import annotations

from math import hypot

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.chooser import TINY
from npuvm.compiler.native.compiling import BOTH, FLAG, FLOAT, FLOATS, INT, ROWS, TABLE, kernel

__all__ = ["choose_product_tile"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@kernel(INT, BOTH, TABLE, ROWS, INT, INT, INT, INT, INT, INT, INT, INT, FLAG, FLAG, INT, FLOAT, FLOATS)
def choose_product_tile(
    both: Floats,
    inverse: Floats,
    whole: Ints,
    step: int,
    m: int,
    n: int,
    k: int,
    batch: int,
    end: int,
    served: int,
    far: int,
    has_more_rows: bool,
    has_more_cols: bool,
    cores: int,
    per_core: float,
    cycles: Floats,
) -> int:
    """The number of the best of the first `end` candidates, -1 where there is none; its estimate is written to `cycles`.

    `both` are bases and slopes over k, by field and candidate: first those of candidates that cut the columns, then those of
    the same where they are as wide as the operands. Of candidates, `inverse` are one over the edges m and n, `whole` the edges
    n and the steps over k at L0; with a `step` it is chosen among those that take such steps. `served` and `far` are the
    numbers of these fields, -1 where they do not matter, and the last two fields are those of what is new to a core.
    `has_more_rows`, `has_more_cols`: some come behind the first round.
    """
    fields = both.shape[2]
    depth, share = float(k), batch / cores
    best, least = -1, np.inf
    for at in range(end):
        if step > 0 and min(whole[1, at], max(k, 1)) != step:
            continue
        way = 1 if whole[0, at] >= n else 0
        columns = np.ceil(inverse[1, at] * (n - TINY))
        rows = np.ceil(inverse[0, at] * (m - TINY))
        tiles = columns * float(batch) * rows
        first = both[way, 0, 0, at] + depth * both[way, 1, 0, at]
        if has_more_cols:
            new_cols = both[way, 0, fields - 1, at] + depth * both[way, 1, fields - 1, at]
            first += max(inverse[1, at] * (n * batch / cores) - 1.0, 0.0) * new_cols
        later = both[way, 0, 1, at] + depth * both[way, 1, 1, at]
        total = np.ceil(tiles * per_core) * later + first
        if has_more_rows:
            new_rows = both[way, 0, fields - 2, at] + depth * both[way, 1, fields - 2, at]
            total += max(rows * share - 1.0, 0.0) * new_rows
        if served >= 0:
            total = max(total, tiles * (both[way, 0, served, at] + depth * both[way, 1, served, at]))
        if far >= 0 and total < least:
            total = hypot(total, tiles * (both[way, 0, far, at] + depth * both[way, 1, far, at]))
        if total < least:
            best, least = at, total
    cycles[0] = least
    return best
