"""Copies of operands to padded rows: those whose rows follow each other are alike in all kernels, and share their programs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.plan.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous
from npuvm.compiler.vector.family import VectorFamily
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["PART", "PaddedCopy", "part_of_copy"]

PART = "first__of__part", "size__of__part"
"""Symbols of the copy of a part: the first row or column of the result whose operand it copies, and their number."""

_PITCH = "pitch"
_NAMES = ("from", "to")
_KEPT = 64
_FAMILIES: OrderedDict[Hashable, VectorFamily] = OrderedDict()


class PaddedCopy:
    """The program of a segment that copies a tensor to rows `pitch` elements apart; `names` are its symbols, the pitch last.

    With `axis` it copies a part along that dim, and PART are its symbols too, behind the pitch.
    """

    def __init__(
        self,
        segment: VectorSegment,
        names: Sequence[str],
        chip: NpuConfig,
        isa: Isa,
        buffering: str | None = None,
        axis: int | None = None,
    ) -> None:
        ((_, source),), ((_, place),) = segment.reads, segment.writes
        self.name, self.written = segment.name, segment.written
        self._tensors = source.tensor.name, place.tensor.name
        dims = source.layout.dims
        alike = source.layout == contiguous(dims) and all(isinstance(each, str) for each in dims)
        own = 1 if axis is None else 1 + len(PART)
        places = [*map(names.index, dims), *range(len(names) - own, len(names))] if alike else None
        self._places: list[int] | None = places
        self._family = (
            _shared(source, axis, chip, isa, buffering)
            if alike
            else VectorFamily(part_of_copy(segment, axis), names, chip, isa, buffering=buffering)
        )

    def prepare(self) -> None:
        """Make what almost any shape needs."""
        self._family.prepare()

    def instance(self, values: Sequence[int]) -> tuple[Image, tuple[str, ...]]:
        """The image for values of the symbols, of which none is 0, and the tensors whose addresses it takes."""
        own = values if self._places is None else [values[at] for at in self._places]
        found = self._family.instance(own)
        assert found is not None, "what is copied has elements"
        image, tensors = found
        if self._places is None:
            return image, tensors
        tensors = tuple([self._tensors[_NAMES.index(each)] for each in tensors])
        return (
            Image(self.name, image.isa_hash, image.words, image.entries, image.relocs, image.n_args, image.grids),
            tensors,
        )


def part_of_copy(copy: VectorSegment, axis: int | None) -> VectorSegment:
    """A copy of the part of its tensor that PART say along a dim; None of all."""
    if axis is None:
        return copy
    first, size = PART
    dims = tuple(size if at == axis else dim for at, dim in enumerate(copy.domain))
    starts = [sum_of(first) if at == axis else Sum() for at in range(len(dims))]

    def part(access: Access) -> Access:
        return replace(access, layout=access.layout.part(starts, dims, [1] * len(dims)))

    ((value, source),), ((_, place),) = copy.reads, copy.writes
    value = replace(value, type=TensorType(value.type.dtype, dims))
    off = frozenset([source.tensor.name])
    return replace(copy, domain=dims, reads=[(value, part(source))], writes=[(value, part(place))], off=off)


def _shared(source: Access, axis: int | None, chip: NpuConfig, isa: Isa, buffering: str | None) -> VectorFamily:
    """The copies of all tensors of a type with so many dims, or of parts of them along one."""
    dtype, rank = source.tensor.dtype, len(source.layout.dims)
    key = dtype, rank, axis, source.cache, chip.chip_hash, isa.hash, buffering
    found = _FAMILIES.get(key)
    if found is None:
        dims = tuple([f"d{at}" for at in range(rank)])
        shape = (*dims[:-1], _PITCH)
        read, written = (
            GmTensor(name, "workspace", dtype, each) for name, each in zip(_NAMES, (dims, shape), strict=True)
        )
        value = Node(0, "load", (), {"param": read.name}, TensorType(dtype, dims))
        reads = [(value, replace(source, tensor=read, layout=contiguous(dims)))]
        writes = [(value, Access(written, Layout(dims, contiguous(shape).strides)))]
        segment = VectorSegment("copy", dims, reads=reads, writes=writes)
        names = (*dims, _PITCH, *(() if axis is None else PART))
        found = VectorFamily(part_of_copy(segment, axis), names, chip, isa, buffering=buffering)
        _FAMILIES[key] = found
        if len(_FAMILIES) > _KEPT:
            _FAMILIES.popitem(last=False)
    _FAMILIES.move_to_end(key)
    return found
