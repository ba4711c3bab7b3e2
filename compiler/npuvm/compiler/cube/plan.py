"""The tile of a matrix product: what the chooser takes, or what pins leave."""

from __future__ import annotations

from math import prod
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.chooser import TileChooser, chooser_of
from npuvm.compiler.cube.levels import Table, fitting, l0c_depths, used_bytes
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.language.pins import pin_error

__all__ = ["candidate_tiles", "choose_tile", "sizes_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DEPTHS = (1, 2, 4, 8, 16)
"""Times that k of a pinned L0 tile is taken at L1."""


def _pinned_table(problem: TileProblem) -> Table:
    """Candidates for a pinned L1 or L0 tile; the other level is filled in."""
    l1, l0 = problem.pins.tile.get("l1"), problem.pins.tile.get("l0")
    cube = problem.chip.core.cube
    k_block = max(cube.k_bytes, BLOCK_BYTES) // problem.item
    if l1 is not None and l0 is not None:
        return np.array([[*l1, *l0]], dtype=np.int64)
    if l0 is not None:
        m0, n0, k0 = l0
        return np.array([[m0, n0, k0 * depth, m0, n0, k0] for depth in _DEPTHS], dtype=np.int64)
    assert l1 is not None
    m, n, k = l1
    choices = [
        [
            part
            for part in {-(-size // cut) for cut in (*range(1, 9), 16, 32, 64)}
            if part == size or _whole(size, part, block)
        ]
        for size, block in ((m, cube.m), (n, max(cube.n, BLOCK_BYTES // problem.item)), (k, k_block))
    ]
    return np.array([[m, n, k, *inner] for inner in _product(choices)], dtype=np.int64)


def _whole(size: int, part: int, block: int) -> bool:
    return size % part == 0 and part % block == 0


def _product(choices: list[list[int]]) -> list[tuple[int, int, int]]:
    return [(m, n, k) for m in choices[0] for n in choices[1] for k in choices[2]]


def _check_divides(problem: TileProblem, spec: MatmulSpec) -> None:
    """A pinned L0 tile must cut its L1 tile into whole, aligned parts."""
    l1, l0 = problem.pins.tile.get("l1"), problem.pins.tile.get("l0")
    if l1 is None or l0 is None:
        return
    sizes = (spec.m, spec.n, spec.k)
    steps = {
        "m": BLOCK_BYTES // problem.item if problem.a.flipped else 1,
        "n": BLOCK_BYTES // (4 if problem.b.flipped else min(problem.item, 4)),
        "k": 1 if problem.a.flipped and not problem.b.flipped else BLOCK_BYTES // problem.item,
    }
    for at, (dim, step) in enumerate(steps.items()):
        if l0[at] >= l1[at] == l0[at]:
            continue
        if l0[at] > l1[at] or (l1[at] % l0[at] and sizes[at] > l1[at]) or l0[at] % step:
            allowed = f"an L0 {dim} that divides the L1 {dim} of {l1[at]}" + (
                f" and is a multiple of {step}" if step > 1 else ""
            )
            pin_error("tile.l0", l0, allowed)


def choose_tile(problem: TileProblem, spec: MatmulSpec, cores: int) -> CubeTile:
    """The cheapest candidate for these sizes on `cores` cores; CompileError when none fits the chip's buffers."""
    if not _is_pinned(problem):
        return chooser_of(problem, cores, spec.name).choose(sizes_of(problem, spec))
    table, depths, cycles = candidate_tiles(problem, spec, cores)
    best = int(np.argmin(cycles))
    m, n, k, m0, n0, k0 = table[best].tolist()
    return CubeTile((m, n, k), (m0, n0, k0), int(depths[best]), int(cycles[best]))


def candidate_tiles(problem: TileProblem, spec: MatmulSpec, cores: int) -> tuple[Table, Ints, Floats]:
    """The candidates of `choose_tile`, the slots of their accumulator rings, and their estimated cycles."""
    sizes = sizes_of(problem, spec)
    if not _is_pinned(problem):
        return chooser_of(problem, cores, spec.name).candidates(sizes)
    _check_divides(problem, spec)
    given = fitting(problem, _pinned_table(problem))
    if not len(given[0]):
        _refuse_pinned(problem)
    return TileChooser(problem, cores, given).estimates(sizes)


def sizes_of(problem: TileProblem, spec: MatmulSpec) -> ProductSizes:
    """What a product's estimate depends on besides its sort."""
    return ProductSizes(spec.m, spec.n, spec.k, prod(spec.batch), problem.a.pitch, problem.b.pitch)


def _is_pinned(problem: TileProblem) -> bool:
    return bool({"l1", "l0"} & set(problem.pins.tile))


def _refuse_pinned(problem: TileProblem) -> NoReturn:
    level = "l1" if "l1" in problem.pins.tile else "l0"
    table = _pinned_table(problem)
    used = used_bytes(problem, table, min(l0c_depths(problem)))
    over = []
    for space, values in used.items():
        needed, capacity = int(np.min(values)), problem.chip.capacity_bytes(space)
        if needed > capacity:
            over.append(f"at most {capacity} bytes of {space}, not {needed}")
    pin_error(
        f"tile.{level}", problem.pins.tile[level], ", ".join(over) or "a tile whose parts fit the buffers together"
    )
