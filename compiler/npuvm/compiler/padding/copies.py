"""Copies of operands to padded rows: those whose rows follow each other are alike in all kernels, and share their programs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.plan.segments import Access, GmTensor, VectorSegment
from npuvm.compiler.plan.views import Layout, contiguous
from npuvm.compiler.vector.family import VectorFamily
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["PaddedCopy"]

_PITCH = "pitch"
_NAMES = ("from", "to")
_KEPT = 64
_FAMILIES: OrderedDict[Hashable, VectorFamily] = OrderedDict()


class PaddedCopy:
    """The program of a segment that copies a tensor to rows `pitch` elements apart; `names` are its symbols, the pitch last."""

    def __init__(
        self, segment: VectorSegment, names: Sequence[str], chip: NpuConfig, isa: Isa, buffering: str | None = None
    ) -> None:
        ((_, source),), ((_, place),) = segment.reads, segment.writes
        self.name, self.written = segment.name, segment.written
        self._tensors = source.tensor.name, place.tensor.name
        dims = source.layout.dims
        alike = source.layout == contiguous(dims) and all(isinstance(each, str) for each in dims)
        self._places: list[int] | None = [*map(names.index, dims), len(names) - 1] if alike else None
        self._family = (
            _shared(source, chip, isa, buffering)
            if alike
            else VectorFamily(segment, names, chip, isa, buffering=buffering)
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


def _shared(source: Access, chip: NpuConfig, isa: Isa, buffering: str | None) -> VectorFamily:
    """The copies of all tensors of a type with so many dims."""
    dtype, rank = source.tensor.dtype, len(source.layout.dims)
    key = dtype, rank, source.cache, chip.chip_hash, isa.hash, buffering
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
        found = _FAMILIES[key] = VectorFamily(segment, (*dims, _PITCH), chip, isa, buffering=buffering)
        if len(_FAMILIES) > _KEPT:
            _FAMILIES.popitem(last=False)
    _FAMILIES.move_to_end(key)
    return found
