"""The order in which cores walk over tiles: one or more grids, and every core's range in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.compiler.emit.symint import several
from npuvm.compiler.language.pins import Pins, pin_error

__all__ = ["Axis", "GridWalk", "TileDim", "Walk", "plan_walk", "split_evenly"]

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TileDim:
    """A dimension cut into `tiles` tiles; `tail` when the last one is smaller."""

    name: str
    tiles: int
    tail: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One loop of a grid: it moves dimension `dim` by `step` tiles, `trip` times."""

    dim: str
    trip: int
    step: int = 1

    @property
    def moves(self) -> bool:
        """Whether it may have more than one iteration."""
        return several(self.trip)


@dataclass(frozen=True, slots=True)
class GridWalk:
    """A grid: its loops (outermost first, those of one step left out) and the tile where each dimension begins.

    A dimension that has two loops has no smaller last tile in this grid, unless it is `open`: then its tiles may end early, and
    some may lie behind its end.
    """

    axes: tuple[Axis, ...]
    origin: Mapping[str, int]
    open: frozenset[str] = frozenset()

    @property
    def tiles(self) -> int:
        """Tiles of the whole grid."""
        return prod(axis.trip for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Walk:
    """Grids in program order; `ranges[c][g]` is the (start, stop) of core c in grid g."""

    grids: tuple[GridWalk, ...]
    ranges: tuple[tuple[Range, ...], ...]


def split_evenly(total: int, parts: int) -> list[Range]:
    """`total` cut into `parts` ranges in order, the first ones one longer."""
    short, longer = divmod(total, parts)
    stops = [short * (i + 1) + min(i + 1, longer) for i in range(parts)]
    return list(zip([0, *stops[:-1]], stops, strict=True))


def plan_walk(batch: Sequence[TileDim], rows: TileDim, cols: TileDim, cores: int, pins: Pins) -> Walk:
    """Grids and ranges for tiles rows x cols in every batch, on at most `cores` cores, no more than there are tiles.

    A pinned number or grid of cores is launched in full; where there are too few tiles, some cores have none.

    Without a pinned grid of cores, the order is batch, then the pinned order of rows and columns, cut evenly over the cores.
    The last band of a swizzle stands in a grid of its own, after all others, when it is narrower or ends in a smaller tile; so
    does the last of rounds, and the tiles of each of their grids are cut evenly.
    """
    total = prod(dim.tiles for dim in (*batch, rows, cols))
    most = pins.cores or min(cores, total)
    if pins.grid is not None:
        grids, ranges = _core_rectangles(batch, rows, cols, pins.grid, pins.order == "column")
    elif pins.order == "rounds":
        grids = _rounds(batch, rows, cols, max(1, most // rows.tiles))
        ranges = [list(each) for each in zip(*(split_evenly(grid.tiles, most) for grid in grids), strict=True)]
    else:
        if pins.order == "swizzle":
            grids = _bands(batch, rows, cols, pins.swizzle_width or 1)
        else:
            inner = (cols, rows) if pins.order == "column" else (rows, cols)
            grids = [_grid(*(Axis(dim.name, dim.tiles) for dim in (*batch, *inner)))]
        ranges = _cut(grids, split_evenly(total, most))
    return _rotate(grids, ranges, pins)


def _grid(*axes: Axis, **origin: int) -> GridWalk:
    kept = tuple(axis for axis in axes if axis.moves)
    return GridWalk(kept or (Axis(axes[-1].dim, 1),), origin)


def _cut(grids: Sequence[GridWalk], spans: Sequence[Range]) -> list[list[Range]]:
    """Ranges of every grid for spans of the grids put one after another."""
    result = []
    sizes = [grid.tiles for grid in grids]
    for start, stop in spans:
        ranges, base = [], 0
        for size in sizes:
            low, high = max(start - base, 0), min(stop - base, size)
            ranges.append((low, high) if low < high else (0, 0))
            base += size
        result.append(ranges)
    return result


def _bands(batch: Sequence[TileDim], rows: TileDim, cols: TileDim, width: int) -> list[GridWalk]:
    """Bands of `width` row tiles; in each the columns are walked, and at every column the rows of the band."""
    outer = [Axis(dim.name, dim.tiles) for dim in batch]
    whole, rest = divmod(rows.tiles, width)
    if rows.tail and not rest:
        whole, rest = whole - 1, width
    grids = []
    if whole:
        grids.append(_grid(*outer, Axis(rows.name, whole, width), Axis(cols.name, cols.tiles), Axis(rows.name, width)))
    if rest:
        axes = (*outer, Axis(cols.name, cols.tiles), Axis(rows.name, rest))
        grids.append(_grid(*axes, **{rows.name: whole * width}))
    return grids


def _rounds(batch: Sequence[TileDim], rows: TileDim, cols: TileDim, width: int) -> list[GridWalk]:
    """Rounds of `width` columns side by side: a core keeps its row of tiles, and its place in each round."""
    outer = [Axis(dim.name, dim.tiles) for dim in (*batch, rows)]
    whole = (cols.tiles - 1) // width
    rest = _grid(*outer, Axis(cols.name, cols.tiles - whole * width), **{cols.name: whole * width})
    if not whole:
        return [rest]
    return [_grid(*outer, Axis(cols.name, width), Axis(cols.name, whole, width)), rest]


def _core_rectangles(
    batch: Sequence[TileDim], rows: TileDim, cols: TileDim, shape: tuple[int, int], column_order: bool
) -> tuple[list[GridWalk], list[list[Range]]]:
    """Core (i, j) takes a rectangle of tiles. Bands over one dimension make it one range of the odometer.

    The banded dimension is cut into equal bands (the last cores may get a smaller one or none), the other one evenly.
    """
    banded, cut = (rows, cols) if column_order else (cols, rows)
    bands, cuts = shape if column_order else shape[::-1]
    if cuts > cut.tiles or bands > banded.tiles:
        allowed = f"at most {rows.tiles} x {cols.tiles}, the number of tiles"
        pin_error("grid", shape, allowed)
    inner = [Axis(dim.name, dim.tiles) for dim in batch]
    width = -(-banded.tiles // bands)
    whole, rest = divmod(banded.tiles, width)
    if banded.tail and not rest:
        whole, rest = whole - 1, width
    grids = []
    if whole:
        grids.append(
            _grid(Axis(banded.name, whole, width), Axis(cut.name, cut.tiles), Axis(banded.name, width), *inner)
        )
    if rest:
        axes = (Axis(cut.name, cut.tiles), Axis(banded.name, rest), *inner)
        grids.append(_grid(*axes, **{banded.name: whole * width}))
    per_batch = prod(dim.tiles for dim in batch)
    spans = split_evenly(cut.tiles, cuts)
    ranges: list[list[Range]] = []
    for core in range(shape[0] * shape[1]):
        row, col = divmod(core, shape[1])
        band, span = (row, spans[col]) if column_order else (col, spans[row])
        ranges.append(_rectangle(band, span, whole, rest, width, cut.tiles, per_batch))
    return grids, ranges


def _rectangle(
    band: int, span: Range, whole: int, rest: int, width: int, cut_tiles: int, per_batch: int
) -> list[Range]:
    result: list[Range] = []
    if whole:
        base = band * cut_tiles
        low, high = ((base + at) * width * per_batch for at in span)
        result.append((low, high) if band < whole else (0, 0))
    if rest:
        low, high = (at * rest * per_batch for at in span)
        result.append((low, high) if band == whole else (0, 0))
    return result


def _rotate(grids: list[GridWalk], ranges: list[list[Range]], pins: Pins) -> Walk:
    offsets = pins.start_offsets(len(ranges))
    counts = [sum(stop - start for start, stop in each) for each in ranges]
    offsets = tuple(offset % count if count else 0 for offset, count in zip(offsets, counts, strict=True))
    if not any(offsets):
        return Walk(tuple(grids), tuple(tuple(each) for each in ranges))
    rotated = []
    for each, offset in zip(ranges, offsets, strict=True):
        late, early, left = [], [], offset
        for start, stop in each:
            cut = min(start + left, stop)
            left -= cut - start
            early.append((start, cut))
            late.append((cut, stop))
        rotated.append(tuple(late + early))
    return Walk(tuple(grids * 2), tuple(rotated))
