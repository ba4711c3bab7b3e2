"""What the instructions compute that no expression fits: tile movement, matrix products, accumulators out, atomic adds.

Every function takes the tiles of an instruction by operand name, as 2-D arrays in their storage types, the plain operands
(`act`), and the data type of the destination; it returns the destination's new tile in that type and changes nothing.
Call them under `np.errstate(all="ignore")`: infinities and NaN are results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.isa.errors import IsaError
from npuvm.isa.model import DType
from npuvm.isa.numerics import COMPUTE_DTYPES, convert

__all__ = ["FUNCTIONS", "TileFunction", "tile_function"]

Array: TypeAlias = NDArray[Any]
Tiles: TypeAlias = Mapping[str, Array]
TileFunction: TypeAlias = Callable[[Tiles, Mapping[str, int], DType], Array]


def copy_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = src, converted when the types differ."""
    return convert(tiles["src"], out)


def transpose_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst[i, j] = src[j, i]."""
    return convert(tiles["src"].T, out)


def matmul(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = a @ b in the accumulator's type; a is (m, k), b is (k, n)."""
    return _narrow(_product(tiles), out)


def matmul_accumulate(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = dst + a @ b in the accumulator's type; dst is (m, n)."""
    return _narrow(tiles["dst"] + _product(tiles), out)


def fixpipe_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = src, with negative values cleared when act is relu (1), converted."""
    return convert(_activated(tiles["src"], plain), out)


def fixpipe_add_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = dst + activated src, added in the compute type and rounded once."""
    return _added(tiles["dst"], _activated(tiles["src"], plain), out)


def atomic_add_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst = dst + src, added in the compute type and rounded once; int32 wraps."""
    return _added(tiles["dst"], tiles["src"], out)


def _product(tiles: Tiles) -> Array:
    """a @ b in double: products are exact, and the sum's rounding stays below that of the accumulator whatever its order."""
    product: Array = tiles["a"].astype(np.float64) @ tiles["b"].astype(np.float64)
    return product


def _narrow(values: Array, out: DType) -> Array:
    """Double to the accumulator's type: fp32 rounds, int32 wraps (double holds sums of int8 products exactly)."""
    if out.kind != "int":
        return values.astype(out.numpy)
    return values.astype(np.int64).astype(out.numpy)


def _activated(values: Array, plain: Mapping[str, int]) -> Array:
    return np.maximum(values, values.dtype.type(0)) if plain.get("act") else values


def _added(old: Array, addend: Array, out: DType) -> Array:
    kind = COMPUTE_DTYPES[out.compute]
    return convert(old.astype(kind) + addend.astype(kind), out)


FUNCTIONS: Mapping[str, TileFunction] = {
    f.__name__: f
    for f in (
        copy_tile,
        transpose_tile,
        matmul,
        matmul_accumulate,
        fixpipe_tile,
        fixpipe_add_tile,
        atomic_add_tile,
    )
}
"""Every function that an instruction's `function` may name."""


def tile_function(name: str, where: str | None = None) -> TileFunction:
    """The function of that name; IsaError naming those there are."""
    found = FUNCTIONS.get(name)
    if found is None:
        raise IsaError(f"no function {name!r}; there are: {', '.join(sorted(FUNCTIONS))}", where)
    return found
