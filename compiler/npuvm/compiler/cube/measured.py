"""What the chip's library has measured of the tiles of a product."""

from __future__ import annotations

from npuvm.compiler.cube.levels import l0c_slots
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.tiles.library import Kernels, TileLibrary, find_library

__all__ = ["are_costs_pinned", "measured_tiles", "sort_name"]


def are_costs_pinned(pins: Pins) -> bool:
    """Whether pins change what tiles take one core."""
    rings = pins.l1_depth, pins.l1_k, pins.l0c_parts, pins.ring_depth
    # Libraries are measured with two slots.
    return any((pins.tile, pins.order, pins.cache, pins.transfer, *rings)) or pins.buffering == "single"


def sort_name(problem: TileProblem) -> str:
    """What products have in common whose tiles are measured once: bytes of an element, and cycles of a block."""
    block = float(problem.chip.core.cube.cycles_per_block[problem.dtype])
    return f"products of {problem.item}-byte elements, {block:g} cycles a block"


def measured_tiles(problem: TileProblem) -> tuple[TileLibrary, Kernels] | None:
    """The chip's library and its tiles that fit, where it has such products and no pin changes what they cost."""
    library = None if are_costs_pinned(problem.pins) else find_library(problem.chip, problem.isa)
    found = None if library is None else library.sorts.get(sort_name(problem))
    if library is None or found is None:
        return None
    room = found.tiles[:, 4] <= l0c_slots(problem, found.table)
    return (library, found.some(room)) if room.any() else None
