"""From a kernel to launches: planned once for each graph and chip, an instance for each shape."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TypedDict

from npuvm.compiler.cube.segment import compile_cube_segment
from npuvm.compiler.graph.ir import Graph
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.language.pins import NO_PINS, Pins, pin_error
from npuvm.compiler.padding.launches import PaddedProduct, Padding
from npuvm.compiler.pick.codegen import compile_pick
from npuvm.compiler.pick.segment import lower_pick
from npuvm.compiler.plan.plan import Plan
from npuvm.compiler.plan.segments import CubeSegment, PickSegment, Segment
from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.program.family import KernelFamily, Mixing
from npuvm.compiler.program.pins import pins_of_segment
from npuvm.compiler.reduce.launches import Reduced, ReduceFamily, joined
from npuvm.compiler.split.launches import SplitProduct
from npuvm.compiler.stack.launch import in_one_launch, plan_workspace, stacked
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.compiler.vector.space import RowsDoNotFit
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = [
    "CompiledKernel",
    "Launch",
    "TensorSpec",
    "compile_segments",
    "family_in_use",
    "forget_plans",
    "kept_plans",
    "linked_segments",
    "padding_of",
    "split_of",
]

_KEPT_FAMILIES = 256
_LAUNCHES = Pins(stack="launches")
_MIX = Pins(stack="mix")
_SEQUENCE = Pins(stack="sequence")


def compile_segments(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins | None = None,
    *,
    linked: bool = True,
) -> CompiledKernel:
    """Programs of the segments of a graph, whatever its kind; see `npuvm.compiler.compile_kernel`.

    Unless they are to be `linked`, parts of a mix have launches of their own: one of several programs stands in no stack.
    """
    if pins is None:
        pins = graph.pins
    if pins is NO_PINS or pins == NO_PINS:
        return _FAMILIES.get(graph, chip, isa, atomic=False, padding="cheaper", split=None, buffering=None).compile(
            shapes
        )
    ways = _ways(pins)
    pins = _without_ways(pins)
    if pins.fusion is not None:
        return _fused(graph, shapes, chip, isa, pins, ways)
    family = _FAMILIES.get(graph, chip, isa, **ways)
    if pins == NO_PINS:
        return family.compile(shapes)
    if pins == _LAUNCHES:
        return _FAMILIES.get(graph, chip, isa, mixing="never", **ways).apart(shapes)
    if pins == _MIX:
        mixed = _FAMILIES.get(graph, chip, isa, mixing="always", **ways)
        return mixed.compile(shapes) if linked else mixed.apart(shapes)
    if pins.stack == "mix":
        name = next(each.name for each in fields(pins) if each.name != "stack" and getattr(pins, each.name))
        allowed = "none beside stack = 'mix', or ktype 'mix', but pad, reduce, split_k and buffering"
        pin_error(name, getattr(pins, name), allowed, graph.name)
    if pins == _SEQUENCE:
        return stacked(family.apart(shapes), chip, isa)
    return _pinned(graph, family, shapes, chip, isa, replace(pins, buffering=ways["buffering"]), ways)


def linked_segments(
    graph: Graph, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, pins: Pins
) -> CompiledKernel | None:
    """What `compile_segments` stacks into one launch, before that; None for pins that segments are written anew for."""
    if _without_ways(pins) != _SEQUENCE:
        return None
    return _FAMILIES.get(graph, chip, isa, **_ways(pins)).apart(shapes)


def _fused(
    graph: Graph, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, pins: Pins, ways: _Ways
) -> CompiledKernel:
    """The kernel as pin fusion wants it, which no other pin goes with."""
    name = next((each.name for each in fields(pins) if each.name != "fusion" and getattr(pins, each.name)), None)
    if name is not None:
        pin_error(
            name,
            getattr(pins, name),
            f"none beside fusion = {pins.fusion!r} but pad, reduce, split_k and buffering",
            graph.name,
        )
    if pins.fusion in ("none", "stack"):
        family = _FAMILIES.get(graph, chip, isa, mixing="never", operators=True, **ways)
    else:
        family = _FAMILIES.get(graph, chip, isa, **ways)
    if pins.fusion in ("none", "pattern") or (pins.fusion == "both" and not family.stacks(shapes)):
        return family.compile(shapes)
    return stacked(family.apart(shapes), chip, isa)


def family_in_use(graph: Graph, chip: NpuConfig, isa: Isa, pins: Pins | None = None) -> KernelFamily:
    """The family that gives the segments of a graph with no pin, or pins of what shares a program and a launch."""
    pins = graph.pins if pins is None else pins
    ways = _ways(pins)
    if pins.fusion in ("none", "stack"):
        return _FAMILIES.get(graph, chip, isa, mixing="never", operators=True, **ways)
    return _FAMILIES.get(graph, chip, isa, **ways)


def _pinned(
    graph: Graph,
    family: KernelFamily,
    shapes: Mapping[str, Sequence[int]],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    ways: _Ways,
) -> CompiledKernel:
    """The kernel written for one shape, as the pins want it; operands are copied and k is split only where pins say so."""
    start = time.perf_counter()
    binding = graph.bind(shapes)
    for plan in family.plans_for(shapes):
        planned = time.perf_counter()
        try:
            launches, between = _launches(plan, family.reduces(plan), binding, chip, isa, pins, ways)
            break
        except RowsDoNotFit as error:
            last = error
    else:
        raise last
    tensors = tuple(TensorSpec(t.name, t.kind, t.dtype, evaluate(t.shape, binding)) for t in plan.tensors) + between
    outputs = tuple(output.name for output in graph.outputs)
    seconds = {"plan": planned - start, "instance": time.perf_counter() - planned}
    if pins.stack == "sequence":
        return in_one_launch(CompiledKernel(graph.name, launches, tensors, outputs, seconds), chip, isa)
    made = CompiledKernel(graph.name, launches, plan_workspace(tensors, launches), outputs, seconds)
    return made if pins.stack == "launches" else joined(made, chip, isa)


def _launches(
    plan: Plan,
    reduces: Mapping[str, ReduceFamily],
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    ways: _Ways,
) -> tuple[tuple[Launch, ...], tuple[TensorSpec, ...]]:
    """The launches, and the tensors between those that share a reduce or copy operands."""
    compiled: list[Launch] = []
    between: tuple[TensorSpec, ...] = ()
    for segment in plan.segments:
        own = pins_of_segment(pins, segment, plan.segments)
        family = reduces.get(segment.name)
        shared = None if family is None else family.pinned(binding, own)
        if isinstance(segment, CubeSegment):
            shared = _product(segment, binding, chip, isa, own, ways)
        if shared is not None:
            compiled += shared.launches
            between += shared.tensors
            continue
        launch = _launch(segment, binding, chip, isa, own)
        if launch is not None:
            compiled.append(launch)
    return tuple(compiled), between


def _product(
    segment: CubeSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins, ways: _Ways
) -> Reduced | None:
    """The launches of a product whose k is split, or whose operands are copied, because a pin says so."""
    names, (padding, parts) = tuple(binding), (ways["padding"], ways["split"])
    always, buffering = padding == "always", pins.buffering
    padded = PaddedProduct.of(segment, names, chip, isa, "always", buffering) if always else None
    found = None if padded is None else padded.pinned(binding, pins)
    if found is not None or parts is None:
        return found
    split = SplitProduct.of(segment, names, chip, isa, parts, buffering)
    return None if split is None else split.written(binding, pins)


def _launch(segment: Segment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins) -> Launch | None:
    if isinstance(segment, CubeSegment):
        made = compile_cube_segment(segment, binding, chip, isa, pins)
        return None if made is None else Launch(segment.name, "cube", *made, segment.written)
    if isinstance(segment, PickSegment):
        rows, args = lower_pick(segment, binding)
        picked = compile_pick(rows, len(args), chip, isa, pins)
        return None if picked is None else Launch(segment.name, "vector", picked.image, args, segment.written)
    result = compile_vector(segment, binding, chip, isa, pins)
    return None if result is None else Launch(segment.name, "vector", result.image, result.tensors, segment.written)


class _Ways(TypedDict):
    """How families of one graph differ, beside in what shares a program."""

    atomic: bool
    padding: Padding
    split: int | None
    buffering: str | None


def _ways(pins: Pins) -> _Ways:
    return {
        "atomic": pins.reduce == "atomic",
        "padding": padding_of(pins),
        "split": split_of(pins),
        "buffering": pins.buffering,
    }


def _without_ways(pins: Pins) -> Pins:
    """The pins that families do not know of."""
    if pins.reduce is None and pins.pad is None and pins.split_k is None and pins.buffering is None:
        return pins
    return replace(pins, reduce=None, pad=None, split_k=None, buffering=None)


def padding_of(pins: Pins) -> Padding:
    """When operands are copied, as the pins want it."""
    return "always" if pins.pad == "always" else "never" if pins.pad == "never" else "cheaper"


def split_of(pins: Pins) -> int | None:
    """In how many parts of k products are computed, as the pins want it: one where they want a mix whatever the estimates."""
    return 1 if pins.split_k is None and pins.stack == "mix" else pins.split_k


class _Families:
    """The most recently used kernels, each planned for one chip."""

    def __init__(self) -> None:
        self._kept: OrderedDict[
            tuple[int, int, str, str, bool, str, int | None, bool, str | None], tuple[Graph, NpuConfig, KernelFamily]
        ] = OrderedDict()

    def get(
        self,
        graph: Graph,
        chip: NpuConfig,
        isa: Isa,
        *,
        atomic: bool,
        padding: Padding,
        split: int | None,
        buffering: str | None,
        mixing: Mixing = "cheaper",
        operators: bool = False,
    ) -> KernelFamily:
        """The family of a graph. An entry keeps graph and chip alive, so that an id names one of them."""
        key = (id(graph), id(chip), isa.hash, mixing, atomic, padding, split, operators, buffering)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found[2]
        family = KernelFamily(
            graph,
            chip,
            isa,
            mixing=mixing,
            atomic=atomic,
            padding=padding,
            split=split,
            operators=operators,
            buffering=buffering,
        )
        self._kept[key] = graph, chip, family
        if len(self._kept) > _KEPT_FAMILIES:
            self._kept.popitem(last=False)
        return family

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self, chip: NpuConfig) -> None:
        """Drop the families of a chip."""
        for key in [key for key, (_, own, _) in self._kept.items() if own is chip]:
            del self._kept[key]


_FAMILIES = _Families()


def kept_plans() -> int:
    """How many kernels are kept that were planned, each for a chip."""
    return len(_FAMILIES)


def forget_plans(chip: NpuConfig) -> None:
    """Drop what is kept of kernels that were planned for this object: for those who go through many chips, each once."""
    _FAMILIES.forget(chip)
