"""The walk of a program over representative iterations: what a core does, in program order, whatever the trip counts.

A loop is walked at its first, second and last iteration, and where an affine trip count inside begins or ends to change. A
grid is walked over the tiles of an odometer whose counters skip the same way, from the first to the last tile of the core; two
successive tiles differ in the same loops as in the full odometer, so `changed` and `changes` hold where they would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import prod
from typing import TypeAlias

from npuvm.isa.model import Isa, OperandSpec, Pred
from npuvm.isa.verifier.program import Barrier, Block, Grid, Leaf, Loop, Node, SetUp
from npuvm.isa.verifier.reach import Dim, largest, size_at
from npuvm.isa.verifier.static import Tabled
from npuvm.isa.verifier.tables import Affine, Const, DescDef, Point, RegSize, SizeDef, Tables

__all__ = [
    "Act",
    "Begin",
    "Define",
    "End",
    "Item",
    "Iteration",
    "Meet",
    "Region",
    "Tile",
    "Walk",
    "changed_loops",
    "counted_one_by_one",
    "grid_tiles",
    "tile_count",
]

_TRIPS = (0, 1, 2, 3)
"""Trip counts tried for a loop whose trip count is in a register."""


_VISITED = 3
"""Counters at most that the walk visits of a loop with nothing that turns in it."""


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of an on-chip space: `rows` segments of `row_bytes`, `pitch` apart, within [low, high).

    `hull` covers the same bytes in every slot of ring `ring`; outside a ring it is [low, high) and the ring is -1.
    """

    operand: str
    space: str
    ring: int
    hull: tuple[int, int]
    low: int
    high: int
    rows: int
    row_bytes: int
    pitch: int
    reads: bool
    writes: bool


@dataclass(frozen=True, slots=True)
class Act:
    """An instruction of a unit that is switched on. `slots` are its (ring, role) pairs, with the operand's name."""

    leaf: Leaf
    regions: tuple[Region, ...]
    slots: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Define:
    """`ring` or `sem`; `tables` are those after it."""

    step: SetUp
    tables: Tables


@dataclass(frozen=True, slots=True)
class Meet:
    """A barrier."""

    barrier: Barrier


@dataclass(frozen=True, slots=True)
class Begin:
    """A loop or grid begins."""

    node: Loop | Grid


@dataclass(frozen=True, slots=True)
class Iteration:
    """An iteration of a loop ends; `middle` when it is neither the first nor the last."""

    node: Loop
    middle: bool


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of a grid ends; `differs` has a bit per loop that is different in the next one, None after the last."""

    node: Grid
    differs: int | None


@dataclass(frozen=True, slots=True)
class End:
    """A loop or grid ends; `restores` when it must leave every semaphore of the core as it was at its begin."""

    node: Loop | Grid
    restores: bool


Item: TypeAlias = Act | Define | Meet | Begin | Iteration | Tile | End


def tile_count(tables: Tables, trips: Sequence[SizeDef], point: Point) -> int:
    """Number of tiles of a grid whose first len(point) loops stand at `point`."""
    level = len(point)
    if level == len(trips):
        return 1
    count = size_at(tables, trips[level], point)
    if _regular(trips[level + 1 :]):
        return count * prod(size_at(tables, trip, point) for trip in trips[level + 1 :])
    return sum(tile_count(tables, trips, {**point, level: (c, count)}) for c in range(count))


def _regular(trips: Sequence[SizeDef]) -> bool:
    return all(isinstance(trip, Const) for trip in trips)


def counted_one_by_one(tables: Tables, trips: Sequence[SizeDef]) -> int:
    """How many counters of outer loops have to be looked at to count a grid's tiles: those that inner trip counts follow."""
    return prod(largest(tables, trip) for level, trip in enumerate(trips) if not _regular(trips[level + 1 :]))


def _locate(tables: Tables, trips: Sequence[SizeDef], tile: int) -> tuple[int, ...]:
    """Counters of a tile by its linear index."""
    point: dict[int, tuple[int, int]] = {}
    for level, trip in enumerate(trips):
        count = size_at(tables, trip, point)
        if _regular(trips[level + 1 :]):
            inner = tile_count(tables, trips, {**point, level: (0, count)})
            counter, tile = divmod(tile, inner)
        else:
            counter = 0
            while tile >= (inner := tile_count(tables, trips, {**point, level: (counter, count)})):
                counter, tile = counter + 1, tile - inner
        point[level] = (counter, count)
    return tuple(counter for counter, _ in point.values())


def grid_tiles(
    tables: Tables, trips: Sequence[SizeDef], start: int, stop: int, sizes: Sequence[Affine]
) -> list[dict[int, tuple[int, int]]]:
    """Representative tiles of a core's range, in order; `sizes` are the affine trip counts inside the grid."""
    return list(_visited(tables, trips, start, stop, sizes))


def _visited(
    tables: Tables, trips: Sequence[SizeDef], start: int, stop: int, sizes: Sequence[Affine]
) -> Iterator[dict[int, tuple[int, int]]]:
    if start < stop:
        first, last = _locate(tables, trips, start), _locate(tables, trips, stop - 1)
        yield from _tiles(tables, trips, (first, last), (True, True), sizes, {})


def _tiles(
    tables: Tables,
    trips: Sequence[SizeDef],
    ends: tuple[tuple[int, ...], tuple[int, ...]],
    tight: tuple[bool, bool],
    sizes: Sequence[Affine],
    point: dict[int, tuple[int, int]],
) -> Iterator[dict[int, tuple[int, int]]]:
    level = len(point)
    if level == len(trips):
        yield point
        return
    count = size_at(tables, trips[level], point)
    low = ends[0][level] if tight[0] else 0
    high = ends[1][level] if tight[1] else count - 1
    affine = [*sizes, *(trip for trip in trips[level + 1 :] if isinstance(trip, Affine))]
    for counter in _representatives(low, high, _turns(affine, level, point)):
        inner = (tight[0] and counter == low, tight[1] and counter == high)
        yield from _tiles(tables, trips, ends, inner, sizes, {**point, level: (counter, count)})


def _representatives(low: int, high: int, extra: set[int]) -> list[int]:
    return sorted(c for c in {low, low + 1, high} | extra if low <= c <= high)


def _turns(sizes: Sequence[Affine], loop: int, point: Point) -> set[int]:
    """Counters of `loop` around which an affine trip count passes 0, 1, 2 and 3."""
    found: set[int] = set()
    for size in sizes:
        step = sum(s for inner, s in size.steps if inner == loop)
        if step:
            base = size.base + sum(s * point[inner][0] for inner, s in size.steps if inner in point and inner != loop)
            found |= {(value - base) // step + near for value in _TRIPS for near in (0, 1)}
    return found


def _affine_trips(nodes: Sequence[Node], tables: Tables) -> list[Affine]:
    found: list[Affine] = []
    for node in nodes:
        if isinstance(node, Loop):
            trip = tables.sizes[node.trip]
            found += [trip] if isinstance(trip, Affine) else []
            found += _affine_trips(node.body, tables)
    return found


class Walk:
    """Walks one core's program. `ranges` are its tiles per phase; `unknown` stands for trip counts that are in registers."""

    def __init__(self, isa: Isa, steps: Sequence[Tabled], ranges: Sequence[tuple[int, int]], unknown: int) -> None:
        self._isa = isa
        self._steps = steps
        self._ranges = ranges
        self._unknown = unknown
        self._counts: dict[tuple[int, str], int] = {}
        self._tiles: dict[int, list[dict[int, tuple[int, int]]]] = {}
        self._operands: dict[int, list[_Operand]] = {}

    @staticmethod
    def unknowns(steps: Sequence[Tabled]) -> tuple[int, ...]:
        """The trip counts to try for loops whose trip count is in a register; one when there are none."""
        for each in steps:
            if isinstance(each.step, Block) and _has_register_trip(each.step.nodes, each.tables):
                return _TRIPS
        return _TRIPS[-1:]

    def crowded_grid(self, counters: int) -> Grid | None:
        """A grid whose tiles, those that the walk visits, have more than so many counters in all; None when there is none."""
        for each in self._steps:
            for node in each.step.nodes if isinstance(each.step, Block) else ():
                if isinstance(node, Grid) and self._visits_more(node, each.tables, counters // len(node.trips)):
                    return node
        return None

    def _visits_more(self, node: Grid, tables: Tables, tiles: int) -> bool:
        trips = [tables.sizes[index] for index in node.trips]
        turning = _affine_trips(node.body, tables)
        if _VISITED ** len(trips) <= tiles and not turning and not any(isinstance(trip, Affine) for trip in trips):
            return False
        visited = _visited(tables, trips, *self._ranges[node.phase], turning)
        return next(islice(visited, tiles, None), None) is not None

    def signature(self) -> tuple[object, ...]:
        """Equal for two walks of one program that take the same way and touch the same bytes on chip."""
        parts: list[object] = []
        for each in self._steps:
            for node in each.step.nodes if isinstance(each.step, Block) else ():
                if isinstance(node, Grid):
                    seen = _GridView(each.tables, len(node.trips))
                    tiles = self._grid_tiles(node, each.tables)
                    changes = tuple(changed_loops(a, b) for a, b in pairwise(tiles))
                    parts.append((changes, *(seen.of(tile) for tile in tiles)))
        return tuple(parts)

    def items(self) -> Iterator[Item]:
        """Everything the core does, in program order."""
        for each in self._steps:
            step = each.step
            if isinstance(step, Block):
                yield from self._nodes(step.nodes, each.tables, {}, None)
            elif isinstance(step, Barrier):
                yield Meet(step)
            elif step.insn.op in ("ring", "sem"):
                if step.insn.op == "ring":
                    for role in ("producer", "consumer"):
                        self._counts[step.insn.args["ring"], role] = 0
                yield Define(step, each.tables)

    def _nodes(
        self, nodes: Sequence[Node], tables: Tables, point: Point, differ: tuple[int | None, int | None] | None
    ) -> Iterator[Item]:
        for node in nodes:
            if isinstance(node, Leaf):
                if node.unit != "seq" and _holds(node.insn.pred, point, differ):
                    yield self._act(node, tables, point)
            elif isinstance(node, Loop):
                yield from self._loop(node, tables, point, differ)
            else:
                yield from self._grid(node, tables)

    def _loop(
        self, node: Loop, tables: Tables, point: Point, differ: tuple[int | None, int | None] | None
    ) -> Iterator[Item]:
        trip = tables.sizes[node.trip]
        count = self._trip(node, tables, point)
        yield Begin(node)
        turns = _turns(_affine_trips(node.body, tables), node.loop, point)
        for counter in _representatives(0, count - 1, turns):
            yield from self._nodes(node.body, tables, {**point, node.loop: (counter, count)}, differ)
            yield Iteration(node, 0 < counter < count - 1)
        yield End(node, restores=not isinstance(trip, Const))

    def _trip(self, node: Loop, tables: Tables, point: Point) -> int:
        trip = tables.sizes[node.trip]
        if isinstance(trip, RegSize):
            low, high = tables.register_size(trip)
            return max(low, min(high, self._unknown))
        return size_at(tables, trip, point)

    def _grid_tiles(self, node: Grid, tables: Tables) -> list[dict[int, tuple[int, int]]]:
        if node.pc not in self._tiles:
            trips = [tables.sizes[index] for index in node.trips]
            found = grid_tiles(tables, trips, *self._ranges[node.phase], _affine_trips(node.body, tables))
            self._tiles[node.pc] = found
        return self._tiles[node.pc]

    def _grid(self, node: Grid, tables: Tables) -> Iterator[Item]:
        tiles = self._grid_tiles(node, tables)
        yield Begin(node)
        before: int | None = None
        for index, tile in enumerate(tiles):
            after = changed_loops(tile, tiles[index + 1]) if index + 1 < len(tiles) else None
            yield from self._nodes(node.body, tables, tile, (before, after))
            yield Tile(node, after)
            before = after
        yield End(node, restores=True)

    def _act(self, leaf: Leaf, tables: Tables, point: Point) -> Act:
        operands = self._operands.get(leaf.pc)
        if operands is None:
            operands = self._operands[leaf.pc] = [_operand(self._isa, leaf, each, tables) for each in leaf.spec.regions]
        regions: list[Region] = []
        slots: list[tuple[int, str, str]] = []
        for each in operands:
            desc = each.desc
            if desc.role != "none":
                slots.append((desc.ring, desc.role, each.name))
            if desc.space != "gm":
                rows, cols = size_at(tables, each.rows, point), size_at(tables, each.cols, point)
                if rows and cols:
                    regions.append(self._region(each, tables, point, (rows, cols * each.itemsize)))
        self._count(leaf, tables)
        return Act(leaf, tuple(regions), tuple(slots))

    def _count(self, leaf: Leaf, tables: Tables) -> None:
        """Sides of rings go on to their next slot by what an instruction sets."""
        if not leaf.insn.set:
            return
        for number, ring in tables.rings.items():
            if ring.ready in leaf.insn.set:
                self._counts[number, "producer"] += 1
            if ring.free in leaf.insn.set:
                self._counts[number, "consumer"] += 1

    def _region(self, operand: _Operand, tables: Tables, point: Point, shape: tuple[int, int]) -> Region:
        desc = operand.desc
        low = desc.base + sum(stride * point[loop][0] for loop, stride in desc.strides)
        before = after = 0
        if desc.role != "none":
            ring = tables.rings[desc.ring]
            before = self._counts[desc.ring, desc.role] % ring.slots * ring.slot_bytes
            after = (ring.slots - 1) * ring.slot_bytes - before
            low += before
        rows, row_bytes = shape
        if desc.pitch == row_bytes or not desc.pitch:
            rows, row_bytes = 1, row_bytes * (rows if desc.pitch else 1)
        high = low + (rows - 1) * desc.pitch + row_bytes
        if desc.reg_stride:
            ends = [desc.reg_stride * value for value in tables.register_interval(desc.reg)]
            low, high = low + min(ends), high + max(ends)
            rows, row_bytes = 1, high - low
        number = -1 if desc.role == "none" else desc.ring
        hull = low - before, high + after
        roles = operand.reads, operand.writes
        return Region(operand.name, desc.space, number, hull, low, high, rows, row_bytes, desc.pitch, *roles)


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand of an instruction, the same at every point of the walk."""

    name: str
    desc: DescDef
    rows: Dim
    cols: Dim
    itemsize: int
    reads: bool
    writes: bool


def _operand(isa: Isa, leaf: Leaf, operand: OperandSpec, tables: Tables) -> _Operand:
    args = leaf.insn.args
    index = args[operand.name]
    dtype = leaf.spec.region_dtype(isa, operand, leaf.insn.dtype, leaf.insn.dtype2)
    rows, cols = (
        tables.sizes[args[str(dim)]] if (known := leaf.spec.constant(leaf.insn, dim)) is None else known
        for dim in operand.shape
    )
    reads, writes = operand.role != "write", operand.role != "read"
    return _Operand(f"{operand.name}=d{index}", tables.descs[index], rows, cols, dtype.itemsize, reads, writes)


def changed_loops(tile: Point, following: Point) -> int:
    """A bit for each loop whose counter differs between two tiles of a grid."""
    return sum(1 << loop for loop in tile if tile[loop][0] != following[loop][0])


def _holds(pred: Pred | None, point: Point, differ: tuple[int | None, int | None] | None) -> bool:
    """Whether a predicate switches its instruction on. `differ` are the loops changed before and after the tile."""
    if pred is None:
        return True
    if pred.kind in ("changed", "changes"):
        assert differ is not None
        loops = differ[pred.kind == "changes"]
        return loops is None or bool(loops & pred.mask)
    at = [state for loop, state in point.items() if pred.mask >> loop & 1]
    if pred.kind in ("first", "not_first"):
        return all(counter == 0 for counter, _ in at) == (pred.kind == "first")
    return all(counter == trip - 1 for counter, trip in at) == (pred.kind == "last")


def _has_register_trip(nodes: Sequence[Node], tables: Tables) -> bool:
    return any(
        (isinstance(node, Loop) and isinstance(tables.sizes[node.trip], RegSize))
        or (isinstance(node, (Loop, Grid)) and _has_register_trip(node.body, tables))
        for node in nodes
    )


class _GridView:
    """What a program can see of a tile's counters: first and last of each loop, and what sizes and on-chip addresses take."""

    def __init__(self, tables: Tables, loops: int) -> None:
        self._sizes = []
        self._exact = False
        for size in tables.sizes.values():
            if isinstance(size, Affine) and any(loop < loops for loop, _ in size.steps):
                self._sizes.append(size)
                self._exact |= any(loop >= loops for loop, _ in size.steps)
        strides = (
            [(loop, stride) for loop, stride in desc.strides if loop < loops]
            for desc in tables.descs.values()
            if desc.space != "gm"
        )
        self._strides = [each for each in strides if each]
        self._tables = tables

    def of(self, tile: Point) -> tuple[object, ...]:
        """Equal for tiles that a program cannot tell apart."""
        flags = tuple((c == 0, c == trip - 1, trip == 1) for c, trip in tile.values())
        if self._exact:
            return flags, *tile.values()
        sizes = (size_at(self._tables, size, tile) for size in self._sizes)
        offsets = (sum(stride * tile[loop][0] for loop, stride in strides) for strides in self._strides)
        return flags, *sizes, *offsets
