"""Launches of vector segments, and of those that may be cut in two; what all launches of segments are made for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.padding.launches import Padding
from npuvm.compiler.plan.joint import CutSegment
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.compiler.reduce.launches import Reduced, ReduceFamily
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.compiler.vector.cost import steady_elements
from npuvm.compiler.vector.family import Rows, VectorFamily
from npuvm.compiler.vector.memory import memory_rates
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["CutLaunches", "VectorLaunches", "Ways", "Weighed", "in_order"]


_SURE = 0.85
"""Share of the cycles of one vector program that two may take, so that they are sure to be faster."""


class Weighed(NamedTuple):
    """Whether segments share a program for some sizes, with the estimates for that and for a program of each part.

    `together` is 0 where there is no program for all of them. `ub` are bytes of UB of the tile of that program, and of each
    part's, where they are known.
    """

    taken: bool
    together: float
    apart: tuple[float, ...]
    ub: int | None = None
    ub_apart: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Ways:
    """What launches are made for, and how: with `always` segments share a program wherever they can.

    For the others see `KernelFamily`.
    """

    names: tuple[str, ...]
    chip: NpuConfig
    isa: Isa
    atomic: bool = False
    always: bool = False
    padding: Padding = "cheaper"
    split: int | None = None
    buffering: str | None = None


class VectorLaunches:
    """Launches of a vector segment."""

    def __init__(self, segment: VectorSegment, ways: Ways) -> None:
        self._segment, self._names, self._chip, self._isa = segment, ways.names, ways.chip, ways.isa
        self._family = VectorFamily(segment, ways.names, ways.chip, ways.isa, buffering=ways.buffering)
        self._pins = Pins(buffering=ways.buffering)
        self._written = segment.written
        self._prepared = False
        self.name, self.reduces = segment.name, ReduceFamily.of(segment, self._family, ways.names, atomic=ways.atomic)

    def launch(self, values: Sequence[int]) -> Launch | Reduced | None:
        if not self._prepared:
            self.prepare()
        shared = self.reduces.launches(values) if self.reduces is not None else None
        if shared is not None:
            return shared
        made = self._family.instance(values)
        if made is not None:
            return Launch(self._segment.name, "vector", *made, self._written)
        binding = dict(zip(self._names, values, strict=True))
        kernel = compile_vector(self._segment, binding, self._chip, self._isa, self._pins)
        if kernel is None:
            return None
        return Launch(self._segment.name, "vector", kernel.image, kernel.tensors, self._written)

    def prepare(self) -> None:
        """Make what almost any shape needs, so that none of them waits for it. Raises what `launch` does."""
        self._prepared = True
        if not self._family.empty:
            self._family.prepare()
            if self.reduces is not None:
                self.reduces.prepare()

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch; see `VectorFamily.cycles`."""
        return self._family.cycles(values)

    def ub_bytes(self, values: Sequence[int]) -> int | None:
        """Bytes of UB of the tile that is chosen for these values."""
        found = self._family.located(values)
        if found is None:
            return None
        (_, rows, cols), way = found[0].choose(found[1])
        return int(way.chooser.nbytes(rows, cols)[0])

    @property
    def rows(self) -> Rows | None:
        """What the last launch was made by."""
        return self._family.rows


class CutLaunches:
    """Launches of a vector segment that can be cut in two: one, but where a shape leaves it too little room in UB."""

    def __init__(self, segment: CutSegment, ways: Ways) -> None:
        self._segment, self._ways = segment, ways
        self.whole = VectorLaunches(segment.whole, ways)
        self._costs = tuple(LaunchCost.of(ways.chip, linked=linked) for linked in (False, True))
        self._steady: dict[int, float] = {}
        dims = [dim for tensor in segment.handed for dim in tensor.shape]
        named = [SymInt.variable(dim) if isinstance(dim, str) else dim for dim in dims]
        self._dims: Function = compile_values(ways.names, named)
        domain = evaluate(segment.whole.domain, {name: SymInt.variable(name) for name in ways.names})
        self._elements: Function = compile_values(ways.names, (prod(domain),))
        # No estimate of a part is lower than what memory takes for its elements.
        far, near = memory_rates(ways.chip)
        self._for_element = [max(_bytes(each, far=True) / far, _bytes(each) / near) for each in segment.parts]

    def launch(self, values: Sequence[int], *, linked: bool = False) -> Launch | Reduced | None:
        """The launches, two where UB holds tiles so small that these are estimated to be faster."""
        made = self.whole.launch(values)
        if not isinstance(made, Launch) or not self._is_crowded(linked) or self._pays(values, linked):
            return made
        return self._cut(values)

    def weighed(self, values: Sequence[int], *, linked: bool = False) -> Weighed:
        """What is known of both ways."""
        together, made = self.whole.cycles(values), self.whole.launch(values)
        apart = tuple([each.cycles(values) for each in self._apart])
        room = tuple([each.ub_bytes(values) for each in self._apart])
        crowded = isinstance(made, Launch) and self._is_crowded(linked)
        taken = not crowded or self._pays(values, linked)
        return Weighed(taken, together, apart, self.whole.ub_bytes(values), room)

    def cycles(self, values: Sequence[int]) -> float:
        """Estimated cycles of the launch, or of those of the parts behind each other."""
        found = self.weighed(values)
        return found.together if found.taken else self._costs[False](found.apart)

    def alike(self, values: Sequence[int]) -> bool:
        """Whether the launches are the same where they are going to be linked with others and where not."""
        return self.weighed(values).taken == self.weighed(values, linked=True).taken

    def _is_crowded(self, linked: bool) -> bool:
        """Whether UB holds tiles so small that what goes before instructions is much of what the last instance takes."""
        rows = self.whole.rows
        found = None if rows is None else rows.last
        if found is None:
            return False
        (cycles, high, wide), way = found
        if cycles <= self._costs[linked].least(2):
            return False
        steady = self._steady.get(id(way))
        if steady is None:
            steady = self._steady[id(way)] = steady_elements(way.program, self._ways.chip, self._ways.isa)
        return high * wide < steady and not way.chooser.fits(2 * high, wide)

    def _pays(self, values: Sequence[int], linked: bool) -> bool:
        """Whether one launch is estimated to take no longer than one of each part, by more than estimates may be wrong."""
        enough = _SURE * self.whole.cycles(values)
        (elements,) = self._elements(*values)
        if enough <= self._costs[linked]([elements * each for each in self._for_element]):
            return True
        return enough <= self._costs[linked]([each.cycles(values) for each in self._apart])

    def _cut(self, values: Sequence[int]) -> Reduced:
        found = in_order([each.launch(values) for each in self._apart])
        dims, at = self._dims(*values), 0
        tensors: list[TensorSpec] = []
        for each in self._segment.handed:
            tensors.append(TensorSpec(each.name, each.kind, each.dtype, tuple(dims[at : at + len(each.shape)])))
            at += len(each.shape)
        return Reduced(found.launches, (*found.tensors, *tensors))

    @cached_property
    def _apart(self) -> tuple[VectorLaunches, ...]:
        return tuple(VectorLaunches(each, self._ways) for each in self._segment.parts)


def _bytes(segment: VectorSegment, *, far: bool = False) -> int:
    """Bytes that are moved for each element of the domain, or those of them that come from main memory."""
    moved = [node for node, access in segment.reads if not (far and access.tensor.name in segment.near)]
    moved += [] if far else [node for node, _ in segment.writes]
    return sum(DTYPES[node.type.dtype].item_bytes for node in moved if node.type.shape == segment.domain)


def in_order(made: Iterable[Launch | Reduced | None]) -> Reduced:
    """Launches of several segments, in order."""
    parts = [Reduced((each,), ()) if isinstance(each, Launch) else each for each in made if each is not None]
    return Reduced(
        tuple(launch for each in parts for launch in each.launches),
        tuple(tensor for each in parts for tensor in each.tensors),
    )
