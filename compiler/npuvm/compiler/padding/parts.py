"""Operands of a product that are first copied to rows that begin at lines of memory: the copies, and what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import Access, CubeSegment, GmTensor, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous
from npuvm.hw.config import NpuConfig

__all__ = ["OPERANDS", "PITCHES", "PaddedParts", "padded_parts", "padded_pitch", "prepare_pitches", "product_of"]

OPERANDS = ("a", "b")

_ROWS, _CROWDED = 128, 4
"""Rows of a tile, and how many times as many as their share may lie in one slice of L2."""

_KEPT_PITCHES = 1024

_COMMON = 128
"""Lines from row to row below which it is known beforehand whether rows meet."""

PITCHES = {"a": "pitch__of__a", "b": "pitch__of__b"}
"""By operand, the symbol for how many elements its rows lie apart in the workspace."""


@dataclass(frozen=True, slots=True)
class PaddedParts:
    """The segments that copy operands to the workspace tensors, in the order of both, and the one that reads them there.

    The last knows the symbols of PITCHES for these operands.
    """

    copies: tuple[VectorSegment, ...]
    segment: CubeSegment | MixSegment
    tensors: tuple[GmTensor, ...]


def product_of(segment: CubeSegment | MixSegment) -> CubeSegment:
    """The product of a segment."""
    return segment.product if isinstance(segment, MixSegment) else segment


def padded_parts(segment: CubeSegment | MixSegment, operands: Sequence[str]) -> PaddedParts:
    """The parts of a segment with copies of these operands of its product."""
    product = product_of(segment)
    accesses: Mapping[str, Access] = {"a": product.a, "b": product.b}
    copies, tensors, moved = [], [], {}
    for operand in operands:
        access, name = accesses[operand], f"{segment.name}.pad_{operand}"
        dims = access.layout.dims
        shape = (*dims[:-1], PITCHES[operand])
        tensor = GmTensor(name, "workspace", access.tensor.dtype, shape)
        place = Access(tensor, Layout(dims, contiguous(shape).strides))
        value = Node(0, "load", (), {"param": access.tensor.name}, TensorType(tensor.dtype, dims), product.node.where)
        copies.append(VectorSegment(name, dims, reads=[(value, access)], writes=[(value, place)]))
        tensors.append(tensor)
        moved[operand] = place
    own = replace(product, a=moved.get("a", product.a), b=moved.get("b", product.b))
    whole = replace(segment, product=own) if isinstance(segment, MixSegment) else own
    return PaddedParts(tuple(copies), whole, tuple(tensors))


def padded_pitch(cols: int, item: int, chip: NpuConfig) -> int:
    """How many elements of `item` bytes rows of `cols` lie apart in the workspace.

    Rows longer than a line of L2 begin at lines, an odd number of them apart where memory is picked by the address alone, and
    else not as many as meet in few slices, so that the rows of a tile do not meet in one part of it. Shorter ones begin at
    blocks.
    """
    line = chip.memory.l2.line_bytes
    if cols * item <= line:
        return align_up(cols * item) // item
    pitch = align_up(cols * item, max(line, BLOCK_BYTES))
    if chip.memory.address_hash:
        return _spread(pitch // line, chip.memory.l2.slices) * line // item
    if pitch // line % 2 == 0:
        pitch += line
    return pitch // item


def prepare_pitches(chip: NpuConfig) -> None:
    """Look for the pitches of rows that are not very long, so that no shape waits for that."""
    if chip.memory.address_hash:
        _crowded(chip.memory.l2.slices)


@lru_cache(_KEPT_PITCHES)
def _spread(lines: int, slices: int) -> int:
    """So many lines or some more, with which rows do not meet in few slices where addresses are hashed."""
    crowded = _crowded(slices)
    for pitch in range(lines, lines + slices):
        if not (crowded[pitch] if pitch < _COMMON else _are_crowded(range(pitch, pitch + 1), slices)[0]):
            return pitch
    return lines


@lru_cache
def _crowded(slices: int) -> list[bool]:
    """By pitch in lines, whether rows meet in few slices."""
    return _are_crowded(range(_COMMON), slices)


def _are_crowded(pitches: range, slices: int) -> list[bool]:
    """The same for pitches in a row.

    The hash is that of docs/timing-model.md ("Where a line lies"). With 31 or 33 lines 128 rows lie in two of 32 slices.
    """
    rows = np.outer(pitches, np.arange(_ROWS))
    mixed = rows ^ rows >> 5 ^ rows >> 10 ^ rows >> 15 ^ rows >> 20
    places = mixed % slices + slices * np.arange(len(pitches))[:, None]
    counts = np.bincount(places.ravel(), minlength=len(pitches) * slices).reshape(-1, slices)
    found: list[bool] = (counts.max(axis=1) * slices > _CROWDED * _ROWS).tolist()
    return found
