"""Checks the pins of a matrix product against its sizes, its tile and the chip."""

from __future__ import annotations

from math import prod

from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.hw.config import NpuConfig

__all__ = ["check_cube_pins", "check_tile_pins"]

_ACCESSES = ("a", "b", "bias", "c")


def check_cube_pins(pins: Pins, spec: MatmulSpec, problem: TileProblem, chip: NpuConfig) -> None:
    """CompileError for pins that no tile of this product could honour."""
    rings = ["l1.a", "l1.b", "l0a", "l0b", "l0c"]
    if problem.bias_item:
        rings.append("l1.bias")
    if problem.via_ub:
        rings.append("ub.c")
    pins.check_names("ring_depth", rings, spec.name)
    pins.check_names("address", [*rings, "ones"] if problem.bias_item else rings, spec.name)
    accesses = [name for name in _ACCESSES if name in spec.views]
    pins.check_names("cache", accesses, spec.name)
    pins.check_names("transfer", [name for name in accesses if name in ("a", "b")], spec.name)
    if pins.repeat is not None:
        pin_error("repeat", pins.repeat, "nothing for a matrix product: it has no vector instructions", spec.name)
    if "vector" in pins.tile:
        pin_error("tile.vector", pins.tile["vector"], "tile.l1 and tile.l0 for a matrix product", spec.name)
    most = chip.cores_with("cube")
    for pin, cores in (("cores", pins.cores), ("grid", pins.grid and prod(pins.grid))):
        if cores is not None and cores > most:
            pin_error(pin, getattr(pins, pin), f"at most {most} cores with a cube on {chip.name}", spec.name)
    if pins.part is not None and pins.grid is not None:
        _check_part(pins.part, pins.grid, spec)
    if (pins.l1_k or pins.l0c_parts) and not {"l1", "l0"} <= set(pins.tile):
        pin, value = ("l1_k", pins.l1_k) if pins.l1_k else ("l0c_parts", pins.l0c_parts)
        pin_error(pin, value, "it together with tile.l1 and tile.l0", spec.name)
    if pins.l0c_parts is not None and (spec.bias is not None or problem.via_ub or "l0c" in pins.ring_depth):
        allowed = "it for a product without bias that leaves L0C for global memory, without ring_depth.l0c"
        pin_error("l0c_parts", pins.l0c_parts, allowed, spec.name)


def check_tile_pins(pins: Pins, spec: MatmulSpec, tile: CubeTile) -> None:
    """CompileError for pins that do not go with the pinned tile."""
    (m, n, k), (m0, n0, k0) = tile.l1, tile.l0
    lengths = {name: pins.l1_k.get(name, k) for name in ("a", "b")}
    short, long = sorted(lengths.values())
    if short != long and (long % short or spec.k % short or short % k0):
        allowed = f"multiples of the k of {k0} at L0, one a multiple of the other, the shorter a divisor of {spec.k}"
        pin_error("l1_k", dict(pins.l1_k), allowed, spec.name)
    if pins.l0c_parts is None or pins.l0c_parts == 1:
        return
    if (m, n) != (m0, n0) or m % pins.l0c_parts:
        allowed = f"a divisor of the {m} rows of a tile that is the same at L1 and L0"
        pin_error("l0c_parts", pins.l0c_parts, allowed, spec.name)
    if min(short, spec.k) <= k0 or (spec.k > long and spec.k % long):
        allowed = f"it where tiles at L1 have more than one step of {k0} along k and cut the {spec.k} evenly"
        pin_error("l0c_parts", pins.l0c_parts, allowed, spec.name)


def _check_part(part: tuple[int, int], grid: tuple[int, int], spec: MatmulSpec) -> None:
    """Every core of the grid gets a part."""
    most = (-(-spec.m // part[0]), -(-spec.n // part[1]))
    if grid[0] > most[0] or grid[1] > most[1]:
        pin_error("grid", grid, f"at most {most[0]} x {most[1]}, the number of parts of {part}", spec.name)
