"""The best tile that a search by simulation finds for a segment, against the one that the compiler takes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.efficiency.kernels import Case

from npuvm.compiler import CompileError, Pins
from npuvm.compiler.cube.codegen import MatmulKernel, compile_matmul
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.plan import candidate_tiles
from npuvm.compiler.inspection.kernel import Inspected, InspectedSegment, inspect_kernel
from npuvm.compiler.plan.segments import CubeSegment, VectorSegment
from npuvm.compiler.vector.codegen import VectorKernel, compile_vector
from npuvm.compiler.vector.tile import least_tile
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate, timing_engine
from npuvm.isa import Image, Isa

__all__ = ["Searched", "search", "simulate_alone"]

_ALIGN = 512
_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096)
"""Sizes of vector tiles that are tried along each dim, beside the whole of it."""

_SMALLEST = 64
"""Tiles of the grid have at least this part of the elements of the tile taken."""


@dataclass(frozen=True)
class Searched:
    """A segment's cycles alone on a chip with an empty L2, with the tile taken and with the best one found.

    `tried` of `space` tiles were simulated.
    """

    name: str
    taken: str
    cycles: int
    best: str
    best_cycles: int
    tried: int
    space: int
    run: RunResult

    @property
    def reached(self) -> float:
        """The best found over what the tile taken needs; 1 when nothing better was found."""
        return self.best_cycles / self.cycles


def search(case: Case, chip: NpuConfig, isa: Isa, sample: int, seed: int = 0) -> list[Searched]:
    """Search tiles of every segment of a case, each in a launch of its own.

    Where there are more than `sample`, half of those tried have the lowest estimates, half are drawn with the seed.
    """
    found = inspect_kernel(case.kernel, case.shapes, chip, isa, Pins(stack="launches"))
    return [_search(found, segment, chip, isa, sample, seed) for segment in found.segments]


def _search(found: Inspected, segment: InspectedSegment, chip: NpuConfig, isa: Isa, sample: int, seed: int) -> Searched:
    sizes = {each.name: each.nbytes for each in found.compiled.tensors}
    taken = simulate_alone(segment.image, segment.args, sizes, chip, isa)
    every = _tiles(segment, chip)
    tiles = _sampled(every, sample, seed)
    best, best_cycles = segment.tile, taken.cycles
    tried = 0
    for tile in tiles:
        image = _with_tile(found, segment, tile, chip, isa)
        if image is None:
            continue
        tried += 1
        try:
            cycles = simulate_alone(image, segment.args, sizes, chip, isa, limit=best_cycles).cycles
        except TrapError:  # it takes longer than the best one so far
            continue
        if cycles < best_cycles:
            best, best_cycles = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in tile.items()), cycles
    return Searched(segment.name, segment.tile, taken.cycles, best, best_cycles, tried, len(every), taken)


Tile = Mapping[str, tuple[int, ...]]


def _tiles(segment: InspectedSegment, chip: NpuConfig) -> list[Tile]:
    """The tiles that the segment could have; none for those whose tile is no pin."""
    if isinstance(segment.kernel, MatmulKernel):
        return _cube_tiles(segment.kernel, chip)
    return _vector_tiles(segment, segment.kernel) if isinstance(segment.kernel, VectorKernel) else []


def _cube_tiles(kernel: MatmulKernel, chip: NpuConfig) -> list[Tile]:
    """All candidates of the tile choice, the lowest estimate first."""
    table, _, cycles = candidate_tiles(kernel.problem, kernel.spec, chip.cores_with("cube"))
    order = cycles.argsort(kind="stable")
    return [{"l1": tuple(row[:3]), "l0": tuple(row[3:])} for row in table[order].tolist()]


def _vector_tiles(segment: InspectedSegment, kernel: VectorKernel) -> list[Tile]:
    """Candidates of the tile choice, and a grid over both dims; those that do not fit are refused when they are compiled."""
    space = kernel.space
    least_rows, least_cols = least_tile(space)
    rows = sorted({space.rows, *(edge for edge in _EDGES if least_rows <= edge < space.rows)})
    cols = sorted({space.cols, *(edge for edge in _EDGES if least_cols <= edge < space.cols)})
    known = [tuple(int(n) for n in each.tile.split(" x ")) for each in segment.candidates]
    # Far smaller tiles than the one taken only cost simulation.
    least = kernel.tile.rows * kernel.tile.cols // _SMALLEST
    grid = [(row, col) for row in rows for col in cols if row * col >= least]
    return [{"vector": tile} for tile in dict.fromkeys([*known, *grid])]


def _sampled(tiles: Sequence[Tile], sample: int, seed: int) -> list[Tile]:
    if len(tiles) <= sample:
        return list(tiles)
    first = list(tiles[: sample // 2])
    return first + random.Random(seed).sample(list(tiles[sample // 2 :]), sample - len(first))


def _with_tile(found: Inspected, segment: InspectedSegment, tile: Tile, chip: NpuConfig, isa: Isa) -> Image | None:
    """The segment's program with another tile; None when that does not fit."""
    pins = replace(Pins(), tile=tile)
    try:
        if isinstance(segment.segment, CubeSegment):
            spec, args = lower_cube(segment.segment, {**found.binding, **segment.pitches})
            product = compile_matmul(spec, len(args), chip, isa, pins)
            return None if product is None else product.image
        if not isinstance(segment.segment, VectorSegment):
            return None
        kernel = compile_vector(segment.segment, {**found.binding, **segment.pitches}, chip, isa, pins)
    except CompileError:
        return None
    return None if kernel is None else kernel.image


def simulate_alone(
    image: Image, args: Sequence[str], sizes: Mapping[str, int], chip: NpuConfig, isa: Isa, limit: int | None = None
) -> RunResult:
    """One launch on its own with an empty L2, time only; tensors lie one after the other, `sizes` are their bytes by name.

    TrapError when it takes more than `limit` cycles.
    """
    windows, at = [], 0
    for name in args:
        windows.append((at, sizes[name]))
        at += -(-sizes[name] // _ALIGN) * _ALIGN
    addresses = [address for address, _ in windows]
    return simulate(
        chip,
        isa,
        image,
        addresses=addresses,
        windows=windows,
        data=False,
        cycle_limit=limit,
        engine=timing_engine(),
    )
