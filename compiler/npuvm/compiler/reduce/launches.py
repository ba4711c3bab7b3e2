"""Launches of a segment that reduces: one, or two where cores are to share what few results are made of.

Which it is depends on the shape alone: estimates for a number of cores that is not the chip's are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.native.chunk_layout import Decided
from npuvm.compiler.native.loading import loaded
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.reduce.family import ChunkedShape, ChunkFamily, PlannedChunks
from npuvm.compiler.reduce.native import NativeReduce
from npuvm.compiler.reduce.parts import CHUNKS, EDGE, LENGTH, ReduceParts, reduce_parts
from npuvm.compiler.reduce.scan_parts import scan_parts
from npuvm.compiler.stack.launch import joined_launches
from npuvm.compiler.vector.codegen import VectorKernel, compile_vector
from npuvm.compiler.vector.family import VectorFamily, opened
from npuvm.compiler.vector.transfer import ATOMIC_STORE
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa
from npuvm.isa.records import quick_record

__all__ = ["ReduceFamily", "Reduced", "joined", "joined_parts"]

_JOIN_CYCLES = 200
"""Cycles of a barrier of the launch and of filling the pipeline once more, roughly."""

_WORTH = 1.1
"""How many times as fast the parts must be by their estimates, which are rough for narrow tiles."""

_SURE = 0.999
"""Bounds are lowered by more than what sums of floats in another order differ by."""

_SHARED_PINS: Mapping[str, Any] = {"cores": None, "stack": None, "reduce": None, "buffering": None}
"""Pins that do not tell how a program is written, or that families know of."""


_SOME = 2
"""Any number of chunks."""

_ONE = int(Decided.ONE)


_Planned = Mapping[str, PlannedChunks]
"""The same chunks for all segments that are cut, by their names."""


@quick_record
@dataclass(frozen=True, slots=True)
class Reduced:
    """Launches that belong together, and the tensors between them."""

    launches: tuple[Launch, ...]
    tensors: tuple[TensorSpec, ...]


class ReduceFamily:
    """Launches of a segment for all shapes, where cores share its reduces. `names` are the symbols of the kernel.

    `whole` makes one launch of the segment. CompileError when there is no atomic store for a part that needs one.
    """

    def __init__(self, whole: VectorFamily, parts: ReduceParts, names: Sequence[str]) -> None:
        chip, isa, buffering = whole.chip, whole.isa, whole.buffering
        self._names, self._chip, self._isa = tuple(names), chip, isa
        self._whole, self._parts = whole, parts
        if parts.atomic:
            _check_atomic(parts, isa)
        cut = [each for each in parts.segments if each.chunked is not None]
        others = [each for each in parts.segments if each.chunked is None]
        self._chunks = {each.name: ChunkFamily(each, names, chip, isa, buffering) for each in cut}
        self._last = cut[-1].name
        self._others = {
            each.name: VectorFamily(each, (*names, CHUNKS), chip, isa, buffering=buffering) for each in others
        }
        # Every part waits for memory once.
        self._waits = len(parts.segments) * (chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles)
        self._joint: _Joint | None = None
        if loaded() is not None and len(cut) == 1 and len(others) == 1 and not parts.atomic:
            self._joint = _Joint(whole, self._others[others[0].name])

    def prepare(self) -> None:
        """Make what almost any shape needs, so that none of them waits for it."""
        prepares = [each.prepare for each in self._chunks.values()] + [each.prepare for each in self._others.values()]
        for prepare in prepares:
            with suppress(CompileError):  # the shape that needs what there is not will say why
                prepare()

    @staticmethod
    def of(
        segment: VectorSegment, whole: VectorFamily, names: Sequence[str], *, atomic: bool = False
    ) -> ReduceFamily | None:
        """The family of a segment; None when it has neither a reduce nor prefix sums over tiles."""
        parts = reduce_parts(segment, atomic=atomic) or scan_parts(segment)
        return None if parts is None else ReduceFamily(whole, parts, names)

    def launches(self, values: Sequence[int]) -> Reduced | None:
        """The parts for values of the symbols; None when one launch is no slower."""
        planned = self.planned(values)
        return None if planned is None else self.launches_of(values, planned)

    @property
    def cut_names(self) -> tuple[str, ...]:
        """The segments that are cut."""
        return tuple(self._chunks)

    def chunked(self, values: Sequence[int]) -> Mapping[str, ChunkedShape]:
        """What there is to cut, by segment."""
        found = {name: family.at(values) for name, family in self._chunks.items()}
        return {name: each for name, each in found.items() if each is not None}

    def launches_of(self, values: Sequence[int], planned: Mapping[str, PlannedChunks]) -> Reduced:
        """The parts with these chunks for each segment that is cut."""
        made: list[Launch] = []
        for segment in self._parts.segments:
            image = self._instance(segment, values, planned)
            assert image is not None
            made.append(Launch(segment.name, "vector", *image, segment.written, bool(made)))
        return Reduced(tuple(made), self._tensors(values, planned))

    def pinned(self, binding: Mapping[str, int], pins: Pins) -> Reduced | None:
        """The same for a number of cores; None as well with pins that tell how one program is to be written."""
        values, planned = self._planned_with(binding, pins)
        if planned is None:
            return None
        made: list[Launch] = []
        for segment, kernel in self._compiled(binding, pins, planned):
            made.append(Launch(segment.name, "vector", kernel.image, kernel.tensors, segment.written, bool(made)))
        return Reduced(tuple(made), self._tensors(values, planned))

    def inspected(self, binding: Mapping[str, int], pins: Pins) -> list[tuple[VectorSegment, VectorKernel]]:
        """The parts opened up, as they are launched; none when there is one launch."""
        values, planned = self._planned_with(binding, pins)
        if planned is None:
            return []
        if pins.cores is not None:
            return self._compiled(binding, pins, planned)
        made = []
        for segment in self._parts.segments:
            if segment.name in planned:
                chosen = self._chunks[segment.name].chosen(planned[segment.name], values)
            else:
                found = self._others[segment.name].chosen((*values, self._count(planned)))
                assert found is not None
                chosen = found
            kernel = opened(chosen, self._instance(segment, values, planned), self._chip)
            assert kernel is not None
            made.append((segment, kernel))
        return made

    def _planned_with(self, binding: Mapping[str, int], pins: Pins) -> tuple[tuple[int, ...], _Planned | None]:
        values = tuple(binding[name] for name in self._names)
        return values, self.planned(values) if replace(pins, **_SHARED_PINS) == Pins() else None

    def _compiled(
        self, binding: Mapping[str, int], pins: Pins, planned: _Planned
    ) -> list[tuple[VectorSegment, VectorKernel]]:
        """The parts written for the pins."""
        chunks = planned[self._last].chunks
        made = []
        for segment in self._parts.segments:
            number = self._count(planned) if segment.chunked is None else chunks.number
            sizes = {**binding, CHUNKS: number, LENGTH: chunks.length, EDGE: chunks.edge}
            kernel = compile_vector(segment, sizes, self._chip, self._isa, pins)
            assert kernel is not None
            made.append((segment, kernel))
        return made

    def _count(self, planned: _Planned) -> int:
        """What CHUNKS is in segments that are not cut, and in tensors."""
        return planned[self._last].chunks.number + self._parts.further

    def _instance(
        self, segment: VectorSegment, values: Sequence[int], planned: _Planned
    ) -> tuple[Image, tuple[str, ...]] | None:
        if segment.name in planned:
            return planned[segment.name].instance(values)
        return self._others[segment.name].instance((*values, self._count(planned)))

    def planned(self, values: Sequence[int]) -> _Planned | None:
        """The chunks by segment; None where they are not worth it. That is decided alike for all numbers of cores."""
        last = self._chunks[self._last].at(values)
        if last is None or not last.enough():
            return None
        if self._joint is not None:
            decided = self._joint(values, last, _SURE * self._least(last))
            if decided is not Decided.UNKNOWN:
                return None if decided is Decided.ONE else {self._last: decided}
        whole = self._whole.fair_cycles(values)
        if whole is None or whole < _SURE * self._least(last):
            return None
        found = last.plan(limit=whole / (_SURE * _WORTH) - self._joins)
        if found is None:
            return None
        planned = {self._last: found}
        for name, family in self._chunks.items():
            if name != self._last:
                here = family.at(values)
                each = None if here is None else here.plan(found.chunks)
                if each is None:
                    return None
                planned[name] = each
        cycles = sum(each.fair_cycles for each in planned.values())
        for other in self._others.values():
            cycles += (other.fair_cycles((*values, self._count(planned))) or 0.0) + _JOIN_CYCLES
        return planned if _WORTH * cycles <= whole else None

    @property
    def _joins(self) -> int:
        """Cycles between the parts."""
        return _JOIN_CYCLES * len(self._others)

    def _least(self, last: ChunkedShape) -> float:
        """Cycles below which the parts are never worth it, whatever the chunks are."""
        return _WORTH * (last.least_cycles() + self._joins + self._waits)

    def _tensors(self, values: Sequence[int], planned: _Planned) -> tuple[TensorSpec, ...]:
        binding = dict(zip(self._names, values, strict=True)) | {CHUNKS: self._count(planned)}
        return tuple(TensorSpec(t.name, t.kind, t.dtype, evaluate(t.shape, binding)) for t in self._parts.tensors)


class _Joint:
    """Decides by machine code about a segment whose chunks one segment joins."""

    def __init__(self, whole: VectorFamily, join: VectorFamily) -> None:
        self._whole, self._join = whole, join
        self._made: dict[tuple[object, ...], NativeReduce | None] = {}

    def __call__(
        self, values: Sequence[int], chunks: ChunkedShape, bound: float
    ) -> PlannedChunks | Literal[Decided.ONE, Decided.UNKNOWN]:
        """The chunks where they are worth it, ONE where not, UNKNOWN where Python has to find out."""
        # How many chunks there are is in one size of the join.
        whole, join = self._whole.located(values), self._join.located((*values, _SOME))
        if whole is None or join is None:
            return Decided.UNKNOWN
        (rows, sizes), (join_rows, join_sizes) = whole, join
        key = rows, chunks.rows, join_rows
        if key not in self._made:
            self._made[key] = chunks.rows.decider(rows, join_rows, _WORTH, _JOIN_CYCLES, _SURE * _WORTH)
        native = self._made[key]
        if native is None:
            return Decided.UNKNOWN
        found = native.decide((*sizes, *chunks.sizes, *join_sizes), bound)
        if found is None:
            return Decided.UNKNOWN
        decided, which, fair, cycles, high, wide, *_ = found
        if decided == _ONE:
            rows.take(sizes, which, fair, cycles, high, wide)
            return Decided.ONE
        planned = chunks.rows.decided(chunks.sizes, found[6:13])
        at = native.number
        join_rows.take((*join_sizes[:at], planned.chunks.number, *join_sizes[at + 1 :]), *found[13:])
        return planned


def _check_atomic(parts: ReduceParts, isa: Isa) -> None:
    allowed = [dtype for dtype, _ in isa.instruction(ATOMIC_STORE).dtypes]
    for node, access in (each for segment in parts.segments for each in segment.writes):
        if access.adds and node.type.dtype not in allowed:
            message = (
                f'there is no atomic store of {node.type.dtype}; pin reduce = "atomic" is for {", ".join(allowed)}'
            )
            raise CompileError(message, node.where or None)


def joined_parts(made: Reduced, kinds: Mapping[str, str], chip: NpuConfig, isa: Isa) -> tuple[Launch, ...]:
    """The launches with each that continues another in one with it; `kinds` are those of tensors by name."""
    if not any(each.continues for each in made.launches):
        return made.launches
    between = {each.name: each for each in made.tensors}
    names = dict.fromkeys(name for launch in made.launches for name in launch.args)
    # Of a tensor that is not between these launches nothing counts but what it is.
    tensors = tuple([between.get(name) or TensorSpec(name, kinds[name], "fp16", ()) for name in names])
    return joined(CompiledKernel("", made.launches, tensors, (), {}), chip, isa).launches


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
        if len(group) == 1:
            made += group
            continue
        name = group[0].segment
        own = name.partition(".")[0]
        for each in joined_launches(name, kernel.tensors, group, chip, isa):
            made.append(Launch(own, each.kind, each.image, each.args, each.writes, each.continues))
    return CompiledKernel(kernel.name, tuple(made), kernel.tensors, kernel.outputs, kernel.seconds)
