"""The hardware's own levels as data: what each one loops over, what it loads, computes and stores, and where its tiles lie.

Tiles grow from the lowest level up: those of a level are whole multiples of tiles of the level below that fit its buffers. No
tensor's shape takes part. After Vortex's recursive abstraction (arXiv 2409.01075): at a level, parallel loops around spatial
ones around a reduction; each step of the reduction loads, runs the level below, and the result is stored behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = ["Analysis", "Level", "Loop", "grow", "measured_below"]

Ints = npt.NDArray[np.int64]

Fits = Callable[["Level", Ints], npt.NDArray[np.bool_]]
"""Which tiles of a level fit its buffers with as many slots as their rings have."""


_KEPT = 64
"""Tiles of first levels that are kept, by block and multiples."""


class Loop(Enum):
    """What a loop of a level does: parallel over units, one after the other, or over what is added up."""

    PARALLEL = "parallel"
    SPATIAL = "spatial"
    REDUCTION = "reduction"


class Analysis(Enum):
    """How costs of a level are known: measured on the simulator, or by formulas from the chip's rates."""

    EMPIRICAL = "empirical"
    ANALYTIC = "analytic"


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the hardware: its loops by axis, and the units that load, compute and store for it.

    `multiples` are the sizes of its tiles along each axis, in tiles of the level below; `buffers` are where they lie. A level
    without multiples cuts whatever there is.
    """

    name: str
    loops: Mapping[str, Loop]
    load: str
    compute: str
    store: str
    buffers: tuple[str, ...] = ()
    multiples: Mapping[str, tuple[int, ...]] | None = None
    analysis: Analysis = Analysis.ANALYTIC


def measured_below(levels: Sequence[Level], name: str | None) -> tuple[Level, ...]:
    """The levels with all up to the one called `name` measured and those above it analytic; none measured for None."""
    names = [level.name for level in levels]
    last = -1 if name is None else names.index(name)
    return tuple(
        replace(level, analysis=Analysis.EMPIRICAL if at <= last else Analysis.ANALYTIC)
        for at, level in enumerate(levels)
    )


def grow(levels: Sequence[Level], block: Sequence[int], fits: Fits) -> Ints:
    """Tiles of all levels that have multiples, from `block`, the sizes of the lowest one, up.

    One row for each way to nest them: the axes of the first level that has multiples, then those of the next, and so on. Rows
    are different from each other.
    """
    first, *others = [level for level in levels if level.multiples is not None]
    tiles = _above(tuple(block), _multiples(first))
    axes = len(block)
    tiles = tiles[fits(first, tiles)]
    for level in others:
        factors = np.array(list(product(*_multiples(level))), dtype=np.int64)
        below = tiles[:, None, -axes:] * factors
        before = np.repeat(tiles, len(factors), axis=0)
        tiles = np.concatenate([before, below.reshape(-1, axes)], axis=1)
        tiles = np.unique(tiles[fits(level, tiles[:, -axes:])], axis=0)
    return tiles


def _multiples(level: Level) -> tuple[tuple[int, ...], ...]:
    assert level.multiples is not None
    return tuple(map(tuple, level.multiples.values()))


@lru_cache(_KEPT)
def _above(block: tuple[int, ...], multiples: tuple[tuple[int, ...], ...]) -> Ints:
    """Every tile of the first level over a block, sorted; whether it fits is not asked."""
    tiles = np.unique(np.array(list(product(*multiples)), dtype=np.int64) * np.array(block), axis=0)
    tiles.flags.writeable = False
    return tiles
