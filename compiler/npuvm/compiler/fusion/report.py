"""What was fused for some sizes and what was not, with the numbers that decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.ir import Graph, Node
from npuvm.compiler.joint_segments import Joint, MixSegment, RelaySegment
from npuvm.compiler.kernel_family import KernelFamily, Looked
from npuvm.compiler.segment_launches import (
    PickLaunches,
    RelayLaunches,
    SegmentLaunches,
    VectorLaunches,
    Weighed,
    mix_of,
)
from npuvm.compiler.segments import Access, CubeSegment, PickSegment, Segment, VectorSegment
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.types import DTYPES
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["Declined", "FusionReport", "Program", "fusion_report"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program and the operators of the source in it, beside a program for each of these.

    `cycles` are estimates, `apart` with what the launches take behind each other; None where there is no estimate, as for rows
    moved by index. `nbytes` are read and written in tensors: what parts of a program hand to each other is not among them.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    cycles: float | None
    apart: float | None
    nbytes: int
    nbytes_apart: int
    launches_apart: int


@dataclass(frozen=True, slots=True)
class Declined:
    """Segments that could share a program and do not: estimated cycles of that, and of the parts behind each other."""

    name: str
    kind: str
    operators: tuple[str, ...]
    together: float
    apart: float


@dataclass(frozen=True, slots=True)
class FusionReport:
    """The programs of a kernel for some sizes, and what was declined. `linked`: all programs are going to be one launch."""

    kernel: str
    chip: str
    sizes: Mapping[str, int]
    linked: bool
    programs: tuple[Program, ...]
    declined: tuple[Declined, ...]

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        operators = len({name for each in self.programs for name in each.operators})
        lines = [
            f"fusion of {self.kernel} on {self.chip}{' for ' + sizes if sizes else ''}: {operators} operators in "
            f"{len(self.programs)} programs{', in one launch' if self.linked else ''}",
            f"{'program':14} {'kind':7} {'cycles':>9} {'apart':>9} {'launches apart':>14} {'KiB':>9} {'apart':>9}  operators",
        ]
        for each in self.programs:
            cycles, apart = ("-" if value is None else f"{value:,.0f}" for value in (each.cycles, each.apart))
            space = f"{each.nbytes / 1024:9,.1f} {each.nbytes_apart / 1024:9,.1f}"
            names = ", ".join(each.operators)
            lines.append(
                f"{each.name:14} {each.kind:7} {cycles:>9} {apart:>9} {each.launches_apart:14} {space}  {names}"
            )
        for none in self.declined:
            cycles = (
                f"{none.together:,.0f} cycles, apart {none.apart:,.0f}"
                if none.together
                else "no program for these sizes"
            )
            lines.append(f"declined: {none.kind} {none.name} ({', '.join(none.operators)}): {cycles}")
        return "\n".join(lines)


def fusion_report(
    graph: Graph, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, *, linked: bool = False
) -> FusionReport:
    """The report for shapes of the parameters; `linked` where all programs are going to be one launch. CompileError."""
    found = KernelFamily(graph, chip, isa).looked(shapes, linked=linked)
    alone = KernelFamily(graph, chip, isa, mixing="never", operators=True).looked(shapes)
    return _Report(graph, chip, found, alone, linked).made()


class _Report:
    def __init__(self, graph: Graph, chip: NpuConfig, found: Looked, alone: Looked, linked: bool) -> None:
        self._graph, self._chip, self._found, self._linked = graph, chip, found, linked
        self._cost = LaunchCost.of(chip, linked=linked)
        self._own = {f"%{node.id}": f"{node.op}_{node.id}" for node in graph.nodes}
        self._alone: dict[str, list[tuple[float | None, int]]] = {}
        for number, segment in enumerate(alone.segments):
            names = self._operators(segment)
            if names:
                cycles = self._cycles(alone, number)
                self._alone.setdefault(names[0], []).append((cycles, self._nbytes(segment)))

    def made(self) -> FusionReport:
        programs: list[Program] = []
        declined: list[Declined] = []
        for number, segment in enumerate(self._found.segments):
            launches = self._found.launches.of(number)
            if isinstance(segment, RelaySegment):
                assert isinstance(launches, RelayLaunches)
                self._relay(segment, launches, programs, declined)
            elif isinstance(segment, MixSegment) and not self._is_one(segment):
                names = tuple(self._operators(segment))
                weighed = _weighed(launches, self._found.values, self._linked)
                declined.append(Declined(segment.name, "mix", names, weighed.together, self._cost(weighed.apart)))
                cycles = zip(segment.parts, weighed.apart, strict=True)
                programs += [self._program([part], _kind(part), each) for part, each in cycles]
            elif isinstance(segment, MixSegment):
                programs.append(self._program(segment.parts, "mix", self._cycles(self._found, number)))
            else:
                programs.append(self._program([segment], _kind(segment), self._cycles(self._found, number)))
        return FusionReport(
            self._graph.name, self._chip.name, self._found.binding, self._linked, tuple(programs), tuple(declined)
        )

    def _is_one(self, segment: MixSegment) -> bool:
        """Whether a product has a program together with what follows it, for these sizes."""
        return any(launch.segment.startswith(segment.name) for launch in self._found.kernel.launches)

    def _relay(
        self, segment: RelaySegment, launches: RelayLaunches, programs: list[Program], declined: list[Declined]
    ) -> None:
        weighed = launches.weighed(self._found.values, linked=self._linked)
        if weighed.taken:
            programs.append(self._program(segment.parts, "relay", weighed.together))
            return
        names = tuple(self._operators(segment))
        declined.append(Declined(segment.name, "relay", names, weighed.together, self._cost(weighed.apart)))
        parts = _apart(segment, len(weighed.apart))
        for own, cycles in zip(parts, weighed.apart, strict=True):
            programs.append(self._program(own, "mix" if len(own) > 1 else _kind(own[0]), cycles))

    def _program(self, parts: Sequence[Segment], kind: str, cycles: float | None) -> Program:
        names = list(dict.fromkeys(name for part in parts for name in self._operators(part)))
        alone = [each for name in names for each in self._alone.get(name, ())]
        known = [each for each, _ in alone if each is not None]
        apart = self._cost(known) if len(known) == len(alone) and known else None
        nbytes = sum(self._nbytes(each, parts) for each in parts)
        name = "+".join(each.name for each in parts)
        return Program(
            name, kind, tuple(names), cycles, apart, nbytes, sum(each for _, each in alone), max(1, len(alone))
        )

    def _operators(self, segment: Joint) -> list[str]:
        """Names of the operators of a segment, in order; those without a name are called after what they do."""
        sources = dict.fromkeys(node.source for node in _nodes(segment) if node.op != "iota")
        return [self._own.get(source, source) for source in sources]

    def _cycles(self, looked: Looked, number: int) -> float | None:
        launches = looked.launches.of(number)
        cycles = getattr(launches, "cycles", None)
        return None if cycles is None else float(cycles(looked.values))

    def _nbytes(self, segment: Segment | Joint, parts: Sequence[Segment] = ()) -> int:
        """Bytes of what a segment reads and writes, without what other `parts` of its program give it or take."""
        handed = _handed(parts)
        return sum(
            prod(evaluate(access.layout.dims, self._found.binding)) * DTYPES[access.tensor.dtype].item_bytes
            for access in _accesses(segment)
            if access.tensor.name not in handed
        )


def _weighed(launches: SegmentLaunches, values: Sequence[int], linked: bool) -> Weighed:
    """What is known of a product and what follows it."""
    assert not isinstance(launches, VectorLaunches | PickLaunches | RelayLaunches)
    mix = mix_of(launches)
    assert mix is not None
    return mix.weighed(values, linked=linked)


def _apart(segment: RelaySegment, count: int) -> list[list[Segment]]:
    """The parts of a declined relay, those that stay together in one list: of `count` programs."""
    parts: list[list[Segment]] = [[each] for each in segment.parts]
    while len(parts) > count:
        at = next(at for at, own in enumerate(parts) if isinstance(own[-1], CubeSegment))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _kind(segment: Joint) -> str:
    if isinstance(segment, VectorSegment):
        return "vector" if segment.nodes else "copy"
    return "rows" if isinstance(segment, PickSegment) else "cube"


def _nodes(segment: Joint) -> Iterator[Node]:
    if isinstance(segment, MixSegment | RelaySegment):
        for part in segment.parts:
            yield from _nodes(part)
    elif isinstance(segment, VectorSegment):
        yield from (node for node, access in segment.reads if access.picks is not None)
        yield from segment.nodes
    else:
        yield segment.node


def _accesses(segment: Segment | Joint) -> Iterator[Access]:
    if isinstance(segment, MixSegment | RelaySegment):
        for part in segment.parts:
            yield from _accesses(part)
    elif isinstance(segment, VectorSegment):
        yield from (access for _, access in (*segment.reads, *segment.writes))
    elif isinstance(segment, PickSegment):
        yield from (segment.index, segment.rows, segment.rows)
    else:
        yield from (each for each in (segment.a, segment.b, segment.bias, segment.c) if each is not None)


def _handed(parts: Sequence[Segment]) -> set[str]:
    """Tensors that one part writes and another reads, and nobody else needs: those of the workspace."""
    written = {access.tensor.name for part in parts for access in _accesses(part) if access.tensor.kind == "workspace"}
    return {
        name for name in written if sum(any(each.tensor.name == name for each in _accesses(part)) for part in parts) > 1
    }
