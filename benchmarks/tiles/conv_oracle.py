"""Convolutions on the simulator with any tile, and the best of many tiles for one shape."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from benchmarks.efficiency.search import simulate_alone
from benchmarks.tiles.conv_shapes import Conv

from npuvm.compiler.conv.codegen import conv_problem
from npuvm.compiler.conv.cost import ConvCost
from npuvm.compiler.conv.family import ConvPrograms, ConvSort
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.spec import ConvSizes, sizes_of
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.isa import Isa

__all__ = ["ConvBest", "ConvOracle", "Space", "estimate", "legal_tiles"]

_BLOCK = 16
"""Elements of fp16 in 32 bytes: numbers of pixels of a part of a row, of filters and of elements are multiples of it."""

_LONGEST = 32
"""Filters, pixels of a part of a row and elements of a step are up to this many blocks."""

_TIMES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Steps in what lies of the kernels in L1, and blocks of channels in what lies there of the image."""

Floats = npt.NDArray[np.float64]
_Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConvBest:
    """The fastest tile found, its cycles, and how many of how many legal tiles were simulated."""

    tile: ConvTile
    cycles: int
    tried: int
    space: int


class ConvOracle:
    """Runs fp16 convolutions, each as one launch with an empty L2, and searches all legal tiles of whole blocks."""

    def __init__(self, chip: NpuConfig, isa: Isa) -> None:
        self._chip, self._isa = chip, isa
        self._choosers: dict[bool, ConvTileChooser] = {}
        self._programs: dict[object, ConvPrograms] = {}
        self._known: dict[tuple[Conv, _Key], int | None] = {}

    def launch_cycles(self, conv: Conv, tile: ConvTile) -> int:
        """Simulated cycles."""
        found = self._cycles(conv, tile, None)
        assert found is not None, "no limit, so no launch is cut off"
        return found

    def _cycles(self, conv: Conv, tile: ConvTile, limit: int | None) -> int | None:
        """Simulated cycles; None where they are more than `limit`."""
        key = conv, _key(tile)
        found = self._known.get(key)
        if found is None and (key not in self._known or limit is None):
            found = self._known[key] = self._simulated(conv, tile, limit)
        return found

    def chooser(self, planes: bool) -> ConvTileChooser:
        """The compiler's own, for channels first or last."""
        found = self._choosers.get(planes)
        if found is None:
            found = self._choosers[planes] = self.new_chooser(planes)
        return found

    def new_chooser(self, planes: bool) -> ConvTileChooser:
        """The same, with nothing remembered."""
        spec = Conv(1, (8, 8), 16, 16, (3, 3), (1, 1), (1, 1), planes).spec()
        problem = conv_problem(spec, self._chip, self._isa, Pins())
        return ConvTileChooser(problem, planes, self._chip.cores_with("cube"))

    def search(self, conv: Conv, sample: int, taken: Iterable[ConvTile]) -> ConvBest:
        """The best of the tiles `taken` and of `sample` others of all legal ones.

        A third of the sample have the lowest estimates of the formulas, a third is drawn, and a third is near the best so
        far: those that are next to it along one edge.
        """
        sizes = sizes_of(conv.spec())
        space = legal_tiles(sizes, self.chooser(conv.planes).cost)
        order = np.argsort(space.estimates, kind="stable")
        rng = random.Random(str(conv))
        third = max(sample // 3, 1)
        rest = order[third:].tolist()
        drawn = rng.sample(rest, min(len(rest), third))
        best: tuple[ConvTile, int] | None = None
        tried: set[_Key] = set()

        def attempt(tile: ConvTile) -> None:
            nonlocal best
            if _key(tile) in tried:
                return
            tried.add(_key(tile))
            cycles = self._cycles(conv, tile, None if best is None else best[1])
            if cycles is not None and (best is None or cycles < best[1]):
                best = tile, cycles

        for tile in taken:
            attempt(tile)
        for at in [*order[:third].tolist(), *drawn]:
            attempt(space.tile(at))
        left = sample - 2 * third
        while left > 0 and best is not None:
            start = best[0]
            for tile in space.near(start):
                if left > 0 and _key(tile) not in tried:
                    left -= 1
                    attempt(tile)
            if best[0] is start:
                break
        assert best is not None
        return ConvBest(*best, len(tried), len(space.depths))

    def _simulated(self, conv: Conv, tile: ConvTile, limit: int | None) -> int | None:
        spec = conv.spec()
        sort = ConvSort(spec)
        key = (sort.key, spec.kernel[0])
        programs = self._programs.get(key)
        if programs is None:
            programs = self._programs[key] = ConvPrograms(sort, 3, self._chip, self._isa)
        image = programs.image("conv", sort.numbers, sizes_of(spec), tile)
        assert image is not None
        pixels, out = conv.size[0] * conv.size[1], conv.out[0] * conv.out[1]
        nbytes = {
            "x": 2 * conv.images * pixels * conv.channels,
            "w": 2 * spec.filters * spec.depth,
            "y": 2 * conv.images * out * conv.filters,
        }
        try:
            return simulate_alone(image, tuple(nbytes), nbytes, self._chip, self._isa, limit).cycles
        except TrapError:
            return None


@dataclass(frozen=True, slots=True)
class Space:
    """All legal tiles of a convolution: their sizes, whether they are whole rows, their accumulators, and what formulas say of
    them: cycles, how many there are, and cycles of a core for each but the first."""

    sizes: ConvSizes
    tiles: Floats
    whole: npt.NDArray[np.bool_]
    depths: Floats
    estimates: Floats
    counts: Floats
    later: Floats

    def tile(self, at: int) -> ConvTile:
        """The tile of a row."""
        rows, cols, filters, block, chunk, step = (int(each[at]) for each in self.tiles)
        return ConvTile(rows, cols, bool(self.whole[at]), filters, block, chunk, step, int(self.depths[at]), 0)

    def near(self, tile: ConvTile) -> Iterator[ConvTile]:
        """The tiles next to one along one of its edges, the others as they are."""
        own = (tile.rows, tile.cols, tile.filters, tile.block, tile.chunk, tile.step)
        table = self.tiles
        same = table == np.array(own)[:, None]
        alike = self.whole == tile.whole
        for axis in (0, 1, 2, 5, 4, 3):
            # What lies in L1 is counted in steps, so it goes with them.
            others = [
                at for at in range(6) if at != axis and not (axis == 5 and at == 4 and tile.chunk < self.sizes.depth)
            ]
            found = np.flatnonzero(alike & same[others].all(axis=0))
            values = table[axis][found]
            for side in (values < own[axis], values > own[axis]):
                if side.any():
                    nearest = found[side][np.argmin(np.abs(values[side] - own[axis]))]
                    yield self.tile(int(nearest))


def legal_tiles(sizes: ConvSizes, cost: ConvCost) -> Space:
    """Every tile of a convolution that fits the buffers.

    Pixels are any number of whole rows, or whole blocks of one row; filters are whole blocks; steps are whole blocks of a
    kernel's elements. In L1 lie all channels of an image with all elements of the kernels or a number of steps, or a number of
    blocks of channels with the elements that go with them.
    """
    (high, wide), depth, channels = sizes.out, sizes.depth, sizes.channels
    filters = _upto(sizes.filters)
    steps = _upto(depth)
    edges = [(float(cols), False) for cols in _upto(wide)] if sizes.kernel[0] <= 100 else []
    if sizes.merges_rows:
        edges += [(float(rows), True) for rows in range(1, high + 1) if rows * wide <= _BLOCK * _BLOCK * _LONGEST]
    inside = [
        (step, chunk)
        for step in steps
        for chunk in {*(step * times for times in _TIMES if step * times < depth), depth}
    ]
    taps = sizes.kernel[0] * sizes.kernel[1]
    rows_of: list[tuple[float, float, float]] = [(channels, chunk, step) for step, chunk in inside]
    for block in (_BLOCK * times for times in _TIMES if _BLOCK * times < channels):
        chunk = block * taps if cost.planes else block
        rows_of += [(block, chunk, step) for step in steps if chunk % step == 0]
    grid = np.array(
        np.meshgrid(np.arange(len(edges)), np.array(filters), np.arange(len(rows_of)), indexing="ij")
    ).reshape(3, -1)
    edge, whole = (np.array(each)[grid[0]] for each in zip(*edges, strict=True))
    whole = whole.astype(bool)
    rows, cols = np.where(whole, edge, 1.0), np.where(whole, float(wide), edge)
    kept = np.array(rows_of, dtype=float)[grid[2]].T
    kernels = cost.kernels(sizes, grid[1].astype(float), *kept)
    # Parts of rows come first.
    areas = cost.areas(sizes, rows, cols[~whole])
    fits, single = cost.accumulators(kernels, areas)
    fits = fits & cost.fits_l0(kernels, areas)
    estimates = cost.cycles(sizes, kernels, areas, single)
    counts, later = cost.later_cycles(sizes, kernels, areas, single)
    table = np.stack([rows, cols, grid[1], *kept])[:, fits]
    return Space(
        sizes, table, whole[fits], np.where(single, 1.0, 2.0)[fits], estimates[fits], counts[fits], later[fits]
    )


def estimate(sizes: ConvSizes, tile: ConvTile, cost: ConvCost) -> float:
    """What the formulas say of one tile."""
    values = (tile.rows, tile.cols, tile.filters, tile.block, tile.chunk, tile.step)
    rows, cols, *others = (np.array([float(each)]) for each in values)
    areas, kernels = cost.areas(sizes, rows, cols[tile.whole :]), cost.kernels(sizes, *others)
    return float(cost.cycles(sizes, kernels, areas, np.array([tile.l0c_depth == 1]))[0])


def _upto(size: int) -> list[int]:
    """Whole blocks below a size, and the size where it is not too long."""
    longest = _LONGEST * _BLOCK
    return [*range(_BLOCK, min(size, longest + 1), _BLOCK), *([size] if size <= longest else [])]


def _key(tile: ConvTile) -> _Key:
    values = tile._replace(cycles=0)
    return (
        values.rows,
        values.cols,
        values.whole,
        values.filters,
        values.block,
        values.chunk,
        values.step,
        values.l0c_depth,
    )
