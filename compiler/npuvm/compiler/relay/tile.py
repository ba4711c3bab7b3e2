"""Blocks, tiles and runs of a relay: as much as fits the buffers, spread evenly over the core groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from math import inf, prod
from typing import NamedTuple

from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.symint import Function
from npuvm.compiler.relay.handover import SLOTS
from npuvm.compiler.relay.levels import EDGES, FittingTiles, RelayRoom
from npuvm.hw.config import NpuConfig

__all__ = [
    "BLOCK_COST",
    "CUTS",
    "LIKELY",
    "NEAR",
    "TILE_EDGES",
    "Block",
    "BlockChooser",
    "Chosen",
    "ProductShape",
    "RelaySizes",
    "Runs",
    "largest_tile",
    "least_tile",
    "spread",
]

TILE_EDGES = tuple(16 * edge for edge in reversed(EDGES))
"""Sides of a tile of a product, the largest first."""

CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Parts that a core's rows of a block are cut into, as few as fit UB."""

BLOCK_COST = 32
"""What a block costs whatever its size, as so many rows."""

_KEPT = 1024
"""Runs that are kept: blocks of one shape have many in common."""

LIKELY, NEAR = 3, 1.35
"""Blocks that are estimated at most, and how much more rows than the fewest the busiest group may have with them."""


class ProductShape(NamedTuple):
    """Columns and depth of a product, and which of them has to be in one tile."""

    n: int
    k: int
    whole_n: bool
    whole_k: bool


class RelaySizes(NamedTuple):
    """What blocks are chosen for: rows and columns of the vector segment, its batch dims, the products, bytes that a row takes
    between the parts, and those of each product's right operand.
    """

    rows: int
    cols: int
    batch: tuple[int, ...]
    shapes: tuple[ProductShape, ...]
    row_bytes: int
    read: tuple[int, ...]


class Block(NamedTuple):
    """Rows of a block, parts that each vector core cuts its own into, and (n, k) of the tiles of each product."""

    rows: int
    parts: int
    tiles: tuple[tuple[int, int], ...]


class Runs(NamedTuple):
    """How blocks along a dim are cut into runs: their number, blocks in each but the last, and in that."""

    runs: int
    most: int
    tail: int


class Chosen(NamedTuple):
    """A block, how many whole ones a matrix has and how many rows are left, runs of both in so many matrices or batches of
    them, core groups, the cycles that the launch is estimated to take, and by the same rule those of each product alone.
    """

    block: Block
    whole: int
    left: int
    runs: tuple[tuple[int, Runs], tuple[int, Runs]]
    groups: int
    cycles: float
    products: tuple[float, ...]


@dataclass(frozen=True)
class BlockChooser:
    """Chooses blocks that fit a chip. `nbytes` gives the bytes of UB for rows x columns, of which `cores` cores have a part."""

    chip: NpuConfig
    problems: tuple[TileProblem, ...]
    nbytes: Function
    cores: int

    def likely(self, sizes: RelaySizes) -> Iterator[Block]:
        """The blocks that are worth an estimate: those with which the group with most rows has fewest.

        Where L2 has no room for all blocks that are on their way, the smaller ones come first.
        """
        rows, matrices, groups = sizes.rows, prod(sizes.batch), self.groups
        each, room = SLOTS * groups * sizes.row_bytes, self.l2_room
        ordered = []
        for size in self.rows:
            crowded = size * each > room
            rounds = -(-matrices * -(-rows // size) // groups)
            ordered.append((crowded, size if crowded else rounds * (size + BLOCK_COST), -size))
        ordered.sort()
        found, most, too_many = 0, inf, inf
        for crowded, cost, size in ordered:
            if found == LIKELY or (found and (crowded or cost > most)):
                return
            if -size >= too_many:
                continue
            tiles = self._tiles(-size, sizes.shapes)
            if tiles is None:
                too_many = -size
                continue
            block = self._in_parts(-size, sizes.cols, tiles)
            if block is not None:
                found, most = found + 1, min(most, NEAR * cost)
                yield block

    def _tiles(self, size: int, shapes: Sequence[ProductShape]) -> list[tuple[int, int]] | None:
        """The largest tile of each product for so many rows, the first one's beside the least of the other.

        None where not even the least ones fit, so that those of more rows do not either.
        """
        tiles = [least_tile(shape) for shape in shapes]
        if not self.room.holds(size, tiles):
            return None
        for at, (shape, table) in enumerate(zip(shapes, self.fitting, strict=True)):
            found = table.fitting(size, *shape)
            if found is None or not self.room.holds(size, [*tiles[:at], found, *tiles[at + 1 :]]):
                found = largest_tile(self.room, size, tiles, at, shape)
            tiles[at] = found
        return tiles

    def _in_parts(self, size: int, cols: int, tiles: Sequence[tuple[int, int]]) -> Block | None:
        """The block in as few parts as fit; None where none do."""
        room = self.ub_bytes - self._result_bytes(size, tiles) if self._problem.via_ub else self.ub_bytes
        own = size // self.cores
        for parts in CUTS:
            if own % parts == 0 and self.nbytes(own // parts, cols)[0] <= room:
                return Block(size, parts, tuple(tiles))
        return None

    def blocks(self, rows: int, sizes: RelaySizes, edges: Sequence[int]) -> Iterator[Block]:
        """Every block of so many rows, with tiles of these edges, that fits in as few parts as there can be."""
        if rows % (8 * self.cores):
            return
        tiles = [tuple(self._alone(at, rows, sizes.shapes, edges)) for at in range(len(sizes.shapes))]
        for chosen in product(*tiles):
            if not self.room.holds(rows, chosen):
                continue
            block = self._in_parts(rows, sizes.cols, chosen)
            if block is not None:
                yield block

    @cached_property
    def _problem(self) -> TileProblem:
        return self.problems[0]

    @cached_property
    def groups(self) -> int:
        return self.chip.cores_with("cube")

    @cached_property
    def ub_bytes(self) -> int:
        return self.chip.capacity_bytes("ub")

    @cached_property
    def l2_room(self) -> int:
        """Half of L2, in bytes."""
        return self.chip.memory.l2.capacity_mib << 19

    @cached_property
    def room(self) -> RelayRoom:
        """What tiles of the products have to fit."""
        return RelayRoom.of(self.problems)

    @cached_property
    def fitting(self) -> tuple[FittingTiles, ...]:
        """By product the tiles that fit, whatever the shape."""
        return tuple(FittingTiles.of(each, 8 * self.cores) for each in self.problems)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Rows that blocks may have."""
        return tuple(sorted(set.intersection(*(set(each.widest) for each in self.fitting))))

    def _result_bytes(self, size: int, tiles: Sequence[tuple[int, int]]) -> int:
        """Bytes of UB that results take on their way out."""
        return max(
            self._problem.depth("ub.c") * size * align_up(tile[0] * each.out_item)
            for tile, each in zip(tiles, self.problems, strict=True)
        )

    def _alone(
        self, at: int, m: int, shapes: Sequence[ProductShape], edges: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """(n, k) of the tiles of a product that fit with m rows beside the least of others; the same at L1 and at L0."""
        tiles, shape = [least_tile(each) for each in shapes], shapes[at]
        for n in _cut(shape.n, shape.whole_n, edges):
            for k in _cut(shape.k, shape.whole_k, edges):
                tiles[at] = n, k
                if self.room.holds(m, tiles):
                    yield n, k


def _cut(size: int, whole: bool, edges: Sequence[int]) -> list[int]:
    """The sides that a tile may have along a dim, in the order of `edges`."""
    return [size] if whole else list(dict.fromkeys([min(edge, size) for edge in edges]))


def least_tile(shape: ProductShape) -> tuple[int, int]:
    """(n, k) of the smallest tile that a product may have."""
    least = TILE_EDGES[-1]
    return shape.n if shape.whole_n else min(least, shape.n), shape.k if shape.whole_k else min(least, shape.k)


def largest_tile(
    room: RelayRoom, m: int, tiles: Sequence[tuple[int, int]], at: int, shape: ProductShape
) -> tuple[int, int]:
    """(n, k) of the tile of product `at` with most columns, and then the greatest depth, that fits with m rows beside `tiles`.

    There the least one of this product fits.
    """
    before, behind, shallow = tiles[:at], tiles[at + 1 :], least_tile(shape)[1]
    n = next(
        each for each in _cut(shape.n, shape.whole_n, TILE_EDGES) if room.holds(m, [*before, (each, shallow), *behind])
    )
    return n, next(
        each for each in _cut(shape.k, shape.whole_k, TILE_EDGES) if room.holds(m, [*before, (n, each), *behind])
    )


@lru_cache(_KEPT)
def spread(matrices: int, blocks: int, groups: int) -> Runs:
    """Runs of the blocks of each matrix so that the group with the most has as little as can be, with few runs.

    A run costs a block more than it has, in which its parts do not work at the same time.
    """
    best, least = Runs(1, blocks, blocks), -(-matrices // groups) * (blocks + 1)
    # Fewer rounds have no room for two runs of a matrix.
    rounds = max(0, -(-2 * matrices // groups) - 1)
    most = blocks
    while 2 * (rounds + 1) < least and most > 1:
        rounds += 1
        # As many runs as so many rounds have room for.
        most = -(-blocks // max(1, min(blocks, rounds * groups // matrices)))
        count = -(-blocks // most)
        cost = -(-matrices * count // groups) * (most + 1)
        if cost < least:
            best, least = Runs(count, most, blocks - (count - 1) * most), cost
        # No cost of as many runs or more is below their blocks and runs, shared by all groups.
        if matrices * (blocks + count) >= least * groups:
            break
    return best
