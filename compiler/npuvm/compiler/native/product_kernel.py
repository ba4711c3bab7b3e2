"""Chooses tiles of matrix products with the operations of `npuvm.compiler.cube.chooser`, in the same order."""

from __future__ import annotations

from math import hypot

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.chooser import TINY
from npuvm.compiler.native.compiling import FLAG, FLOAT, FLOATS, INT, LINES, kernel

__all__ = ["choose_product_tile"]

Floats = npt.NDArray[np.float64]


@kernel(INT, LINES, FLOATS, FLOATS, INT, INT, INT, INT, INT, INT, INT, FLAG, FLAG, INT, FLOAT, FLOATS)
def choose_product_tile(
    lines: Floats,
    per_m: Floats,
    per_n: Floats,
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
    """The number of the best of the first `end` candidates; its estimate is written to `cycles`.

    `lines` are bases and slopes over k, by field and candidate; `served` and `far` are the numbers of these fields, -1 where
    they do not matter, and the last two fields are those of what is new to a core. `has_more_rows`, `has_more_cols`: some come
    behind the first round.
    """
    fields = lines.shape[1]
    depth, share = float(k), batch / cores
    best, least = 0, np.inf
    for at in range(end):
        columns = np.ceil(per_n[at] * (n - TINY))
        rows = np.ceil(per_m[at] * (m - TINY))
        tiles = columns * float(batch) * rows
        first = lines[0, 0, at] + depth * lines[1, 0, at]
        if has_more_cols:
            new_cols = lines[0, fields - 1, at] + depth * lines[1, fields - 1, at]
            first += max(per_n[at] * (n * batch / cores) - 1.0, 0.0) * new_cols
        later = lines[0, 1, at] + depth * lines[1, 1, at]
        total = np.ceil(tiles * per_core) * later + first
        if has_more_rows:
            new_rows = lines[0, fields - 2, at] + depth * lines[1, fields - 2, at]
            total += max(rows * share - 1.0, 0.0) * new_rows
        if served >= 0:
            total = max(total, tiles * (lines[0, served, at] + depth * lines[1, served, at]))
        if far >= 0:
            total = hypot(total, tiles * (lines[0, far, at] + depth * lines[1, far, at]))
        if total < least:
            best, least = at, total
    cycles[0] = least
    return best
