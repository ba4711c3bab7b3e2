"""Which operators of a model the launches of a compiled graph compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.compiler.compiled import Launch
from npuvm.compiler.ir import Graph
from npuvm.compiler.program import family_in_use
from npuvm.compiler.schedule import Pins
from npuvm.compiler.segments import Segment, VectorSegment
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["launch_sources"]


def launch_sources(
    graph: Graph, launches: Sequence[Launch], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> list[tuple[str, ...]]:
    """For each launch the operators of the source (`Node.source`) whose nodes it has, in their order.

    `launches` are those of `npuvm.compiler.compile_kernel` with these pins. A node without a source counts by its own name.
    """
    family = family_in_use(graph, chip, isa, pins)
    found: list[tuple[str, ...]] = []
    for whole_rows in (True, False):
        segments = {each.name: each for each in family.plan(whole_rows=whole_rows).segments}
        named = [_segments_of(each, segments) for each in launches]
        found = [_sources([segments[name] for name in names]) for names in named]
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


def _sources(segments: Sequence[Segment]) -> tuple[str, ...]:
    nodes = [node for each in segments for node in (each.nodes if isinstance(each, VectorSegment) else (each.node,))]
    return tuple(dict.fromkeys(node.source or node.op for node in nodes))
