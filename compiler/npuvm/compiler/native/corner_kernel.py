"""Chooses corners of products in panels with the operations of `npuvm.compiler.padding.corners`, in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.compiling import FLOAT, FLOATS, INT, NAMED, TABLE, kernel, part
from npuvm.compiler.padding.corners import FILLED, SURE

__all__ = ["choose_corner"]

Floats = npt.NDArray[np.float64]


@part
def _cycles(
    high: Floats, wide: Floats, each: Floats, cores: int, blocks: tuple[int, int], rows: float, cols: float
) -> float:
    """`LargeTiles.cycles`"""
    least = np.inf
    for at in range(len(each)):
        down, across = np.ceil(rows / high[at]), np.ceil(cols / wide[at])
        found = np.ceil(down * across / cores)
        found *= np.ceil(rows / max(down * blocks[0], 1.0))
        found *= np.ceil(cols / max(across * blocks[1], 1.0))
        least = min(least, found * each[at])
    return least


@kernel(NAMED, TABLE, *(FLOATS, FLOATS, FLOATS, INT, INT, INT), *(FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT))
def choose_corner(
    corners: Floats,
    high: Floats,
    wide: Floats,
    each: Floats,
    cores: int,
    block_m: int,
    block_n: int,
    m: float,
    n: float,
    cycles: float,
    a: float,
    b: float,
    join: float,
) -> tuple[int, float]:
    """`_best`: the corner with the lowest estimate, and this estimate. What cannot be the lowest is left halfway."""
    blocks = (block_m, block_n)
    scale = cycles / _cycles(high, wide, each, cores, blocks, m, n)
    best, least = 0, np.inf
    for at in range(corners.shape[1]):
        if corners[3, at] > m or corners[4, at] > n:
            continue
        rows, cols, rounds = corners[0, at], corners[1, at], corners[2, at]
        part_a, part_b = rows * (a / m), cols * (b / n)
        corner = rows * cols * (cycles / (m * n)) * (1.0 + FILLED / rounds)
        done = max(corner, a - part_a if rows < m else b - part_b) + (part_a + part_b)
        if done >= least:
            continue
        if rows < m:
            below = _cycles(high, wide, each, cores, blocks, m - rows, cols) * scale
            done += max(below, (n - cols) * (b / n)) + join
        if cols < n and done < least:
            done += _cycles(high, wide, each, cores, blocks, m, n - cols) * scale + join
        if rounds > 1:
            done *= SURE
        if done < least:
            best, least = at, done
    return best, least
