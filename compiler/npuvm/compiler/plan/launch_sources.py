"""Which operators of a model the launches of a compiled graph compute, program by program, and what part of each they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import COMPARES
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.segments import Segment, VectorSegment
from npuvm.compiler.program.compiled import Launch
from npuvm.compiler.program.kernels import family_in_use
from npuvm.compiler.stack.launch import linked_parts
from npuvm.compiler.stack.work import product_blocks
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["LaunchedProgram", "SourceWork", "launch_programs", "launch_sources"]

Words = tuple[tuple[int, int], ...]

_PRIMITIVES = {
    "select": "where",
    "rsqrt": "sqrt",
    "reciprocal": "div",
    **{f"reduce_{op}": f"{op}_last" for op in ("sum", "max", "min", "prod", "argmax")},
    "cumsum": "cumsum_last",
}
"""Primitives of instructions, for operations that have another name; what is in neither is moved, as by a copy."""


@dataclass(frozen=True, slots=True)
class SourceWork:
    """What operators of the source have in a program, as estimates that count beside each other.

    `products` are cycles of the cube for the blocks of matrix products and convolutions; `passes` those of the vector unit for
    one pass over the largest operand of each operation, at the rate of its timing class.
    """

    products: Mapping[str, float]
    passes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class LaunchedProgram:
    """A program of a launch: its segments, and the words of the image that it is, (first, one after the last) each.

    `name` is the launch's name for it.
    """

    name: str
    kind: str
    segments: tuple[Segment, ...]
    words: Words

    @property
    def sources(self) -> tuple[str, ...]:
        """The operators of the source whose nodes it has, in their order."""
        return _sources(self.segments)

    def work(self, binding: Mapping[str, int], chip: NpuConfig, isa: Isa) -> SourceWork:
        """What each operator of the source has in it, for values of the symbols."""
        products: dict[str, float] = {}
        passes: dict[str, float] = {}
        for segment in self.segments:
            for node in _nodes(segment):
                name = node.source or node.op
                if node.op in CUBE_OPS:
                    products[name] = products.get(name, 0.0) + product_blocks(node, binding, chip)
                else:
                    passes[name] = passes.get(name, 0.0) + _pass_cycles(node, binding, chip, isa)
        return SourceWork(products, passes)


def launch_sources(
    graph: Graph, launches: Sequence[Launch], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> list[tuple[str, ...]]:
    """For each launch the operators of the source (`Node.source`) whose nodes it has, in their order.

    `launches` are those of `npuvm.compiler.compile_kernel` with these pins. A node without a source counts by its own name.
    """
    return [_sources(each) for each in _segments(graph, launches, chip, isa, pins)]


def launch_programs(
    graph: Graph,
    launches: Sequence[Launch],
    shapes: Mapping[str, Sequence[int]],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins | None = None,
) -> list[tuple[LaunchedProgram, ...]]:
    """For each launch its programs. `launches` are those of `npuvm.compiler.compile_kernel` for the shapes with these pins.

    A launch of several programs whose words are not known to be theirs counts as one.
    """
    parts = _linked(graph, launches, shapes, chip, isa, pins)
    inside = [part for each in parts for part, _ in each]
    segments = iter(_segments(graph, inside, chip, isa, pins))
    return [
        tuple(LaunchedProgram(part.segment, part.kind, tuple(next(segments)), words) for part, words in each)
        for each in parts
    ]


def _linked(
    graph: Graph,
    launches: Sequence[Launch],
    shapes: Mapping[str, Sequence[int]],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins | None,
) -> list[list[tuple[Launch, Words]]]:
    """The launches that each one was linked of, with their words in it."""
    alone: list[list[tuple[Launch, Words]]] = [[(each, ((0, len(each.image.words)),))] for each in launches]
    stacked = (graph.pins if pins is None else pins).fusion in ("stack", "both")
    if not stacked or not any(each.kind == "stack" for each in launches):
        return alone
    linked = linked_parts(family_in_use(graph, chip, isa, pins).apart(shapes), chip, isa)
    if [each.segment for each, _ in linked] != [each.segment for each in launches]:
        return alone
    return [
        [(each.launch, each.words) for each in parts] if np.array_equal(made.image.words, launch.image.words) else own
        for (made, parts), launch, own in zip(linked, launches, alone, strict=True)
    ]


def _segments(
    graph: Graph, launches: Sequence[Launch], chip: NpuConfig, isa: Isa, pins: Pins | None
) -> list[list[Segment]]:
    """The segments in each launch."""
    family = family_in_use(graph, chip, isa, pins)
    found: list[list[Segment]] = []
    for plan in family.plans():
        segments = {each.name: each for each in plan.segments}
        named = [_segments_of(each, segments) for each in launches]
        found = [[segments[name] for name in names] for names in named]
        if all(named):
            break
    return found


def _segments_of(launch: Launch, segments: Mapping[str, Segment]) -> list[str]:
    """Names of the segments in a launch: `c0+v1`, or from the first to the last, `c0..v9`, and those that it writes for."""
    order = list(segments)
    first, ranged, last = launch.segment.partition("..")
    ends = [name for name in (first.split("+")[0], last.split("+")[-1]) if name in segments]
    if ranged and len(ends) == 2:
        low, high = sorted(map(order.index, ends))
        # What is handed over on chip is written to no memory, and has no other launch.
        return [
            name
            for at, name in enumerate(order)
            if low <= at <= high or not set(launch.writes).isdisjoint(segments[name].written)
        ]
    parts = [name.split(".")[0] for name in launch.segment.split("+")]
    return [name for name in order if name in parts]


def _nodes(segment: Segment) -> list[Node]:
    """The operations of a segment; of rows picked by index on the way, what picks them."""
    if not isinstance(segment, VectorSegment):
        return [segment.node]
    picked = [node for node, access in segment.reads if access.picks is not None]
    if segment.nodes or picked:
        return [*picked, *segment.nodes]
    return [node for node, _ in segment.writes if node.source]


def _sources(segments: Sequence[Segment]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.source or node.op for each in segments for node in _nodes(each)))


def _pass_cycles(node: Node, binding: Mapping[str, int], chip: NpuConfig, isa: Isa) -> float:
    vector = chip.core.vector
    nbytes = max(
        prod(evaluate(each.type.shape, binding)) * DTYPES[each.type.dtype].item_bytes for each in (node, *node.inputs)
    )
    primitive = "compare" if node.op in COMPARES else _PRIMITIVES.get(node.op, node.op)
    timing = isa.primitive_timing.get(primitive, isa.primitive_timing["copy"])
    return nbytes / vector.repeat_bytes * float(vector.classes[timing].cycles_per_repeat)
