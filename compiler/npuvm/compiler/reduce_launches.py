"""Launches of a segment that reduces: one, or two where cores are to share what few results are made of.

Which it is depends on the shape alone: estimates for a number of cores that is not the chip's are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuvm.compiler.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.reduce_family import ChunkFamily, PlannedChunks
from npuvm.compiler.reduce_parts import CHUNKS, EDGE, LENGTH, ReduceParts, reduce_parts
from npuvm.compiler.schedule import Pins
from npuvm.compiler.segments import VectorSegment
from npuvm.compiler.stack_launch import in_one_launch
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.vector_codegen import VectorKernel, compile_vector
from npuvm.compiler.vector_family import VectorFamily, opened
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["ReduceFamily", "Reduced", "joined"]

_JOIN_CYCLES = 800
"""Cycles of a barrier of the launch and of filling the pipeline once more, roughly."""


_SHARED_PINS: Mapping[str, Any] = {"cores": None, "stack": None}
"""Pins that do not tell how a program is written."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """Launches that belong together, and the tensors between them."""

    launches: tuple[Launch, ...]
    tensors: tuple[TensorSpec, ...]


class ReduceFamily:
    """Launches of a segment for all shapes, where cores share its reduces. `names` are the symbols of the kernel."""

    def __init__(
        self, whole: VectorFamily, parts: ReduceParts, names: Sequence[str], chip: NpuConfig, isa: Isa
    ) -> None:
        self._names, self._chip, self._isa = tuple(names), chip, isa
        self._whole, self._parts = whole, parts
        self._chunks = ChunkFamily(parts, names, chip, isa)
        self._join = VectorFamily(parts.join, (*names, CHUNKS), chip, isa)

    @staticmethod
    def of(segment: VectorSegment, whole: VectorFamily, names: Sequence[str]) -> ReduceFamily | None:
        """The family of a segment, of which `whole` makes one launch; None when it has no reduce over tiles."""
        parts = reduce_parts(segment)
        return None if parts is None else ReduceFamily(whole, parts, names, whole.chip, whole.isa)

    def launches(self, values: Sequence[int]) -> Reduced | None:
        """The parts for values of the symbols; None when one launch is no slower."""
        planned = self._planned(values)
        if planned is None:
            return None
        join = self._join.instance((*values, planned.chunks.number))
        assert join is not None
        parts, first = self._parts, planned.instance(values)
        return Reduced(
            (
                Launch(parts.chunks.name, "vector", *first, parts.chunks.written),
                Launch(parts.join.name, "vector", *join, parts.join.written, continues=True),
            ),
            self._tensors(values, planned),
        )

    def pinned(self, binding: Mapping[str, int], pins: Pins) -> Reduced | None:
        """The same for a number of cores; None as well with pins that tell how one program is to be written."""
        values = tuple(binding[name] for name in self._names)
        planned = self._planned(values) if replace(pins, **_SHARED_PINS) == Pins() else None
        if planned is None:
            return None
        parts, chunks = self._parts, planned.chunks
        binding = {**binding, CHUNKS: chunks.number, LENGTH: chunks.length, EDGE: chunks.edge}
        made: list[Launch] = []
        for segment in (parts.chunks, parts.join):
            kernel = compile_vector(segment, binding, self._chip, self._isa, pins)
            assert kernel is not None
            made.append(Launch(segment.name, "vector", kernel.image, kernel.tensors, segment.written, bool(made)))
        return Reduced(tuple(made), self._tensors(values, planned))

    def inspected(self, binding: Mapping[str, int], pins: Pins) -> list[tuple[VectorSegment, VectorKernel]]:
        """The parts opened up, as they are launched; none when there is one launch."""
        values = tuple(binding[name] for name in self._names)
        planned = self._planned(values) if replace(pins, **_SHARED_PINS) == Pins() else None
        if planned is None:
            return []
        parts, chunks = self._parts, planned.chunks
        if pins.cores is not None:
            binding = {**binding, CHUNKS: chunks.number, LENGTH: chunks.length, EDGE: chunks.edge}
            made = [compile_vector(each, binding, self._chip, self._isa, pins) for each in (parts.chunks, parts.join)]
        else:
            seen = self._join.chosen((*values, chunks.number)), self._join.instance((*values, chunks.number))
            made = [
                opened(self._chunks.chosen(planned, values), planned.instance(values), self._chip),
                opened(*seen, self._chip),
            ]
        return [(part, each) for part, each in zip((parts.chunks, parts.join), made, strict=True) if each is not None]

    def _planned(self, values: Sequence[int]) -> PlannedChunks | None:
        whole = self._whole.fair_cycles(values)
        if whole is None or whole < _JOIN_CYCLES:
            return None
        planned = self._chunks.plan(values)
        if planned is None:
            return None
        join = self._join.fair_cycles((*values, planned.chunks.number))
        return planned if join is not None and planned.fair_cycles + join + _JOIN_CYCLES < whole else None

    def _tensors(self, values: Sequence[int], planned: PlannedChunks) -> tuple[TensorSpec, ...]:
        binding = dict(zip(self._names, values, strict=True)) | {CHUNKS: planned.chunks.number}
        return tuple(TensorSpec(t.name, t.kind, t.dtype, evaluate(t.shape, binding)) for t in self._parts.tensors)


def joined(kernel: CompiledKernel, chip: NpuConfig, isa: Isa) -> CompiledKernel:
    """The kernel with each launch that continues another in one with it."""
    if not any(launch.continues for launch in kernel.launches):
        return kernel
    groups: list[list[Launch]] = []
    for launch in kernel.launches:
        if launch.continues:
            groups[-1].append(launch)
        else:
            groups.append([launch])
    made: list[Launch] = []
    for group in groups:
        if len(group) > 1:
            name = group[0].segment
            together = in_one_launch(replace(kernel, name=name, launches=tuple(group)), chip, isa).launches
            made += [replace(each, segment=name.partition(".")[0]) for each in together]
        else:
            made += group
    return replace(kernel, launches=tuple(made))
