"""What the instructions compute that no expression fits: tile movement, matrix products, accumulators out, atomic adds,
rows by index, convolution windows.

Every function takes the tiles of an instruction by operand name, as 2-D arrays in their storage types, the plain operands
(`act`) and sizes, and the data type of the destination; it returns the destination's new tile in that type and changes nothing.
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


def gather_rows(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst[i] = src[index[i]]; src is the table (count, cols), index (rows, 1) of 0 to count - 1."""
    return convert(tiles["src"][tiles["index"][:, 0]], out)


def scatter_rows(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """The table dst (count, cols) with dst[index[i]] = src[i], one after the other."""
    table, index = tiles["dst"].copy(), tiles["index"][:, 0]
    # Of rows with equal indices the last one counts, which numpy says of assignment only as it is today.
    last = len(index) - 1 - np.unique(index[::-1], return_index=True)[1]
    table[index[last]] = convert(tiles["src"][last], out)
    return table


def scatter_add_rows(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """The table dst (count, cols) with dst[index[i]] += src[i], one after the other, each added in the compute type and
    rounded; int32 wraps.
    """
    table, index = tiles["dst"].copy(), tiles["index"][:, 0]
    order = np.argsort(index, kind="stable")
    fresh = np.diff(index[order], prepend=-1) != 0
    # How many earlier rows have the same index: those with equal numbers of them go to different rows of the table.
    earlier = np.arange(len(index)) - np.maximum.accumulate(np.where(fresh, np.arange(len(index)), 0))
    for number in range(int(earlier.max(initial=-1)) + 1):
        rows = order[earlier == number]
        table[index[rows]] = _added(table[index[rows]], tiles["src"][rows], out)
    return table


def im2col_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """Windows of the image src: dst[i, j] is what element start - 1 + j of the kernel meets at output pixel i."""
    return convert(_windows(tiles["src"], plain, plain["rows"], plain["cols"]), out)


def im2col_transposed_tile(tiles: Tiles, plain: Mapping[str, int], out: DType) -> Array:
    """dst[i, j] is what element start - 1 + i of the kernel meets at output pixel j."""
    return convert(_windows(tiles["src"], plain, plain["cols"], plain["rows"]).T, out)


def _windows(image: Array, plain: Mapping[str, int], pixels: int, elements: int) -> Array:
    """What the kernel's elements meet at output pixels (i // width, i % width); 0 outside the image.

    Layout 0: an element of the image is (row, `apart` * column + channel), and the kernel's are counted over rows, columns,
    channels; 1: it is (channel, `apart` * row + column), and they are counted over channels, rows, columns.
    """
    down, right = np.divmod(np.arange(pixels), plain["width"])
    number = plain["start"] - 1 + np.arange(elements)
    if plain.get("layout"):
        channel, tap = np.divmod(number, plain["kernel_h"] * plain["kernel_w"])
    else:
        tap, channel = np.divmod(number, plain["channels"])
    kernel_row, kernel_col = np.divmod(tap, plain["kernel_w"])
    row = down[:, None] * plain["stride_h"] + kernel_row * plain["dilation_h"]
    col = right[:, None] * plain["stride_w"] + kernel_col * plain["dilation_w"] - plain.get("left", 0)
    if plain.get("layout"):
        inside, at = col < plain["apart"], (np.broadcast_to(channel, row.shape), row * plain["apart"] + col)
    else:
        inside, at = np.ones(row.shape, dtype=np.bool_), (row, col * plain["apart"] + channel)
    inside &= (col >= 0) & (at[0] < image.shape[0]) & (at[1] < image.shape[1])
    found = image[np.where(inside, at[0], 0), np.where(inside, at[1], 0)]
    return np.where(inside, found, image.dtype.type(0))


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
        gather_rows,
        scatter_rows,
        scatter_add_rows,
        im2col_tile,
        im2col_transposed_tile,
    )
}
"""Every function that an instruction's `function` may name."""


def tile_function(name: str, where: str | None = None) -> TileFunction:
    """The function of that name; IsaError naming those there are."""
    found = FUNCTIONS.get(name)
    if found is None:
        raise IsaError(f"no function {name!r}; there are: {', '.join(sorted(FUNCTIONS))}", where)
    return found
