"""Costs of loading a tile's image, with the operations of `npuvm.compiler.conv.loads` in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.compiling import inlined
from npuvm.compiler.native.conv_layout import Field, Rate, Shape

__all__ = ["Load", "image_load"]

Floats = npt.NDArray[np.float64]
Load = tuple[float, float, float, float, float, float, float]
"""Numbers of `npuvm.compiler.conv.loads.Load`; what is read past L2 is 0 where nothing is."""

_PER_BLOCK = 1 / BLOCK_BYTES


@inlined
def _is_off(nbytes: float) -> bool:
    """Whether bytes end off blocks; dividing by their number is exact."""
    blocks = nbytes * _PER_BLOCK
    return blocks != np.floor(blocks)


@inlined
def _are_rows_off(shape: Shape, rates: Floats, rows: float, pixels: float) -> bool:
    """Whether rows of an image begin or end off blocks."""
    if _is_off(shape.pitch):
        return True
    if rates[Rate.IS_PLANES] == 0.0 or not (shape.parts > 0 or _is_off(shape.line_bytes)):
        return False
    if _is_off(pixels * rates[Rate.ITEM]):
        return True
    return _is_off(shape.step_bytes) and _is_off(rows * shape.step_bytes)


@inlined
def _crowded(times: float, is_dense: bool, row: float, unit: float) -> float:
    """`npuvm.compiler.conv.loads._crowded`"""
    return 1.0 if is_dense else max(times / max(np.ceil(row / unit), 1.0), 1.0)


@inlined
def image_load(
    table: Floats, shape: Shape, rates: Floats, high: float, pixels: float, fresh: float, is_part: bool, at: int
) -> Load:
    """`ConvLoads.image` of a candidate, for tiles of so many rows."""
    times, pitch = shape.kernel_h if is_part else 1.0, shape.pitch
    each = pixels / times
    if rates[Rate.IS_PLANES] != 0.0:
        rows, row = table[at, Field.BLOCK], each * rates[Rate.ITEM]
        is_dense = row == pitch
    else:
        rows, row, is_dense = each, table[at, Field.PIXEL_BYTES], table[at, Field.IS_DENSE] != 0.0
    nbytes = rows * row
    if is_dense:
        rows, row = 1.0, nbytes
    sent, served, requests = max(row, rates[Rate.BURST]), nbytes, np.ceil(row * rates[Rate.PER_CHUNK])
    if row < rates[Rate.SHORT]:
        served = rows * max(row, rates[Rate.ACCESS])
        if rates[Rate.IS_TOGETHER] != 0.0 and requests <= 1.0:
            requests = 1.0 / np.floor(rates[Rate.CHUNK] / min(sent, rates[Rate.CHUNK]))
    issue, requests = rows * (sent * rates[Rate.PER_PORT] + rates[Rate.ROW]), requests * rows
    line = rates[Rate.LINE]
    crossed = np.ceil(row / line) * line if shape.are_lines_whole else row + line
    fetched = max(min(crossed, pitch) * rows, nbytes) * rates[Rate.PER_BYTE]
    if shape.slices > 1.0:
        served = served * np.sqrt(_crowded(shape.slices, is_dense, row, line))
    if shape.channels > 1.0:
        fetched = fetched * _crowded(shape.channels, is_dense, row, rates[Rate.INTERLEAVE])
    start = rates[Rate.START]
    far = max(max(issue, requests * rates[Rate.FAR]), fetched) + start
    near = max(max(issue, requests * rates[Rate.NEAR]), served * rates[Rate.PER_L2]) + start
    past = 0.0
    if rates[Rate.IS_UNCACHED] != 0.0 and not is_dense and _are_rows_off(shape, rates, high, pixels):
        lines = rows * min(1.0 + min(row / line, 1.0), shape.per_pitch)
        near, past = far, lines * times * rates[Rate.PER_LINE]
    issue = issue + start
    fetched = min(fetched * times, fresh * table[at, Field.PIXEL_BYTES] * rates[Rate.PER_BYTE])
    return issue * times, requests * times, near * times, far * times, fetched, served * times, past
