"""Candidates of a product's tile, and what they cost for its k."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.core_cost import CoreLoads
from npuvm.compiler.cube.costs import CostLines
from npuvm.compiler.cube.fetched import Fetched, MainMemory
from npuvm.compiler.cube.meets import TINY, Edges, Met, MetByCores, Shared
from npuvm.compiler.cube.problem import ProductSizes

__all__ = ["TAIL", "TAIL_LEAST", "Asked", "By", "Candidates", "Costed", "Grid", "Interval", "Weighed", "beyond_one"]

TAIL, TAIL_LEAST = 1.15, 0.05
"""Rounds that take what whole rounds leave: more than its share, as smaller tiles load more for what they compute."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Weighed(NamedTuple):
    """Candidates for products that differ in m, and their cycles.

    Those of a core until its first tile is done, less what it has in common with later ones, and for each later one. `served`
    is what L2 takes for a tile where it may be too slow, `far` what is read past it, where anything is; `new` what a tile takes
    longer with rows of the left operand that no core has read, and `new_cols` with columns of the right one, which is in
    `first`. `fetched` is what main memory takes; `met` is all but `far` where rows may meet in parts of memory.
    """

    interval: Interval
    first: Floats
    later: Floats
    served: Floats | None
    far: Floats | None
    new: Floats | None
    new_cols: Floats | None
    fetched: Fetched | None
    met: Met | MetByCores | None


class Interval(NamedTuple):
    """Candidates of use between two values of k, ordered by m.

    `tiles` are m, n, k at L1, k at L0 and accumulators. `ends` has, for each edge m that tiles have, the number of candidates
    up to it. `whole` are edges n, steps over k at L0 and at L1, and the most rows for which a candidate is of use; `sides` one
    over the edges m and n, these edges themselves, and k at L1; `edges` are the same.
    """

    numbers: Ints
    tiles: list[list[int]]
    ends: list[int]
    whole: Ints
    sides: Floats
    edges: Edges


class Candidates(NamedTuple):
    """Candidates of an interval, and their costs for operands that lie in some way: those of cores first.

    `served` and `far` say which ones of them are those of `Weighed`, -1 where they do not matter. From `loads` on there are
    those of `CoreLoads` where `shared` asks for them; else the last three are those of what is new to `cores`, and what is
    left behind loads. Of up to `one_round` columns none are new behind the first round.
    """

    interval: Interval
    costs: CostLines
    served: int
    far: int
    cores: int
    one_round: int
    loads: int
    memory: MainMemory
    shared: Shared | None

    def at(self, sizes: ProductSizes) -> Weighed:
        """The candidates for k."""
        costs = self.costs.at(sizes.k)
        first, later = costs[0], costs[1]
        served, far = (None if at < 0 else costs[at] for at in (self.served, self.far))
        interval, shared = self.interval, self.shared
        if shared is not None:
            loads = CoreLoads(*costs[self.loads :])
            met = shared.met(sizes, interval.edges, first + later, later, loads)
            return Weighed(interval, first, later, served, far, None, None, None, met)
        rows, cols, behind = costs[-3:]
        fetched = self.memory.fetched(sizes, interval.edges, later, (rows, cols), behind)
        if sizes.n * sizes.batch > self.one_round:
            # Each column is new to one core, and waits for main memory there; in the first round that is charged.
            first += beyond_one(interval.sides[1] * (sizes.n * sizes.batch / self.cores), cols)
        return Weighed(interval, first, later, served, far, rows, cols, fetched, None)


def beyond_one(counts: Floats, each: Floats) -> Floats:
    """Cycles for all but one of so many; the counts become these."""
    counts -= 1.0
    np.maximum(counts, 0.0, out=counts)
    counts *= each
    return counts


class Grid(NamedTuple):
    """For the first candidates of an interval: rows of tiles, tiles of all matrices, and rounds in which cores take them."""

    rows: Floats
    tiles: Floats
    rounds: Floats

    def tailed(self, cores: int, per_core: float) -> Floats:
        """Rounds where whole ones are of rows or columns of tiles, and smaller tiles do what is left; infinite where none are.

        For one product; `per_core` is one over the cores, or less by what a quotient may be off.
        """
        rows, tiles, _ = self
        found, taken = np.full(len(tiles), np.inf), np.floor(tiles * per_core) * cores
        for across in (tiles / rows, rows):
            whole = np.floor((taken + TINY) / across)
            left = (tiles - whole * across) * per_core * TAIL + TAIL_LEAST
            own = np.ceil(whole * across * per_core) + left
            np.minimum(found, np.where(whole >= 1.0, own, np.inf), out=found)
        return found


class By(IntEnum):
    """What is lowest for the best tile of a part of a product: its rounds alone, as the pipeline is full before; or the
    estimate for whole rounds of rows or columns of tiles if smaller ones do what is left."""

    ROUNDS = 0
    TAILED = 1


class Asked(NamedTuple):
    """Which candidates are wanted for a part of a product: with steps over k at L0 of `l0_k` and others at L1, up to edges m
    and n, with a measure below `limit`."""

    by: By
    l0_k: int
    most_m: int
    most_n: int
    limit: float


class Costed(NamedTuple):
    """A candidate (m, n, k at L1, k at L0, accumulators), its measure, what it takes beside its rounds, and each round.

    A round takes longer by `new_cols` and `new_rows` with columns and rows that no core has read. `fetched` is what main memory
    takes at least.
    """

    tile: list[int]
    measure: float
    once: float
    later: float
    new_cols: float
    new_rows: float
    fetched: float
