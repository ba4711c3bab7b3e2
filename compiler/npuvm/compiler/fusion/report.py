"""What was fused for some sizes and what was not, with the numbers that decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.plan.segments import Access, CubeSegment, PickSegment, Segment, VectorSegment
from npuvm.compiler.program.family import KernelFamily, Looked
from npuvm.compiler.program.joint_launches import RelayLaunches, mix_of
from npuvm.compiler.program.segment_launches import PickLaunches
from npuvm.compiler.vector.launches import CutLaunches, VectorLaunches, Weighed
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["Decision", "FusionReport", "Program", "fusion_report"]


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
class Decision:
    """Segments that can share a program, and whether they do: estimated cycles of that, and of the parts behind each other.

    `kind` is relay, mix or vector. `together` is 0 where there is no program for these sizes, `apart` where none of the parts
    has one. `saved` are bytes of tensors that one program does not read and write, `ub` the bytes of UB that the tile of the
    program has, where it is known, and that of each part.
    """

    name: str
    kind: str
    operators: tuple[str, ...]
    taken: bool
    together: float
    apart: float
    saved: int
    ub: int | None
    ub_apart: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class FusionReport:
    """The programs of a kernel for some sizes, and what was decided for them. `linked`: all programs are going to be one
    launch. `room` are the bytes of UB.
    """

    kernel: str
    chip: str
    sizes: Mapping[str, int]
    linked: bool
    room: int
    programs: tuple[Program, ...]
    decisions: tuple[Decision, ...]

    @property
    def declined(self) -> tuple[Decision, ...]:
        """What could share a program and does not."""
        return tuple(each for each in self.decisions if not each.taken)

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
        lines += [self._told(each) for each in self.decisions]
        return "\n".join(lines)

    def _told(self, each: Decision) -> str:
        """A decision in a line."""
        if not each.together:
            numbers = f"no program for these sizes, apart {each.apart:,.0f} cycles"
        elif not each.apart:
            numbers = f"{each.together:,.0f} cycles, no programs apart for these sizes"
        else:
            numbers = f"{each.together:,.0f} cycles, apart {each.apart:,.0f}"
        shares = [None if nbytes is None else f"{nbytes / self.room:.0%}" for nbytes in (each.ub, *each.ub_apart)]
        room = "" if shares[0] is None else f", {shares[0]} of UB"
        apart = [share or "-" for share in shares[1:]]
        room += f", apart {' and '.join(apart)}" if set(apart) - {"-"} else ""
        verb = "shared" if each.taken else "declined"
        saved = f"{each.saved / 1024:,.1f} KiB {'saved' if each.taken else 'more'}"
        return f"{verb}: {each.kind} {each.name} ({', '.join(each.operators)}): {numbers}; {saved}{room}"


def fusion_report(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    chip: NpuConfig,
    isa: Isa,
    *,
    linked: bool = False,
    buffering: str | None = None,
) -> FusionReport:
    """The report for shapes of the parameters; `linked` where all programs are going to be one launch. CompileError.

    `buffering` is that of `Pins`.
    """
    found = KernelFamily(graph, chip, isa, buffering=buffering).looked(shapes, linked=linked)
    alone = KernelFamily(graph, chip, isa, mixing="never", operators=True, buffering=buffering).looked(shapes)
    return _Report(graph, chip, found, alone, linked).made()


class _Report:
    def __init__(self, graph: Graph, chip: NpuConfig, found: Looked, alone: Looked, linked: bool) -> None:
        self._graph, self._chip, self._found, self._linked = graph, chip, found, linked
        self._cost = LaunchCost.of(chip, linked=linked)
        self._programs: list[Program] = []
        self._decisions: list[Decision] = []
        self._own = {f"%{node.id}": f"{node.op}_{node.id}" for node in graph.nodes}
        self._alone: dict[str, list[tuple[float | None, int]]] = {}
        for number, segment in enumerate(alone.segments):
            names = self._operators(segment)
            if names:
                cycles = self._cycles(alone, number)
                self._alone.setdefault(names[0], []).append((cycles, self._nbytes(segment)))

    def made(self) -> FusionReport:
        for number, segment in enumerate(self._found.segments):
            launches = self._found.launches.of(number)
            if isinstance(segment, RelaySegment):
                assert isinstance(launches, RelayLaunches)
                self._weighed(segment, "relay", launches.weighed(self._found.values, linked=self._linked))
            elif isinstance(segment, CutSegment):
                assert isinstance(launches, CutLaunches)
                self._weighed(segment, "vector", launches.weighed(self._found.values, linked=self._linked))
            elif isinstance(segment, MixSegment):
                assert not isinstance(launches, VectorLaunches | CutLaunches | PickLaunches | RelayLaunches)
                mix = mix_of(launches)
                assert mix is not None
                # Copies of operands and parts of k, in one launch with it, have a mix for themselves.
                shared = any(launch.segment.startswith(segment.name) for launch in self._found.kernel.launches)
                weighed = mix.weighed(self._found.values, linked=self._linked)
                self._weighed(segment, "mix", weighed._replace(taken=shared))
            else:
                self._programs.append(self._program([segment], _kind(segment), self._cycles(self._found, number)))
        return FusionReport(
            self._graph.name,
            self._chip.name,
            self._found.binding,
            self._linked,
            self._chip.capacity_bytes("ub"),
            tuple(self._programs),
            tuple(self._decisions),
        )

    def _weighed(self, segment: MixSegment | RelaySegment | CutSegment, kind: str, weighed: Weighed) -> None:
        """The programs of a segment that may be one, and the decision."""
        parts = _apart(segment, len(weighed.apart)) if weighed.apart else []
        whole = [segment.whole] if isinstance(segment, CutSegment) else segment.parts
        saved = sum(self._nbytes(each, own) for own in parts for each in own) - sum(
            self._nbytes(each, whole) for each in whole
        )
        names, apart = tuple(self._operators(segment)), self._cost(weighed.apart)
        self._decisions.append(
            Decision(
                segment.name, kind, names, weighed.taken, weighed.together, apart, saved, weighed.ub, weighed.ub_apart
            )
        )
        if weighed.taken:
            self._programs.append(self._program(whole, kind, weighed.together))
            return
        for own, cycles in zip(parts, weighed.apart, strict=True):
            self._programs.append(self._program(own, "mix" if len(own) > 1 else _kind(own[0]), cycles))

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


def _apart(segment: MixSegment | RelaySegment | CutSegment, count: int) -> list[list[Segment]]:
    """The parts of what may be one program, those that stay together in one list: of `count` programs."""
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
    elif isinstance(segment, CutSegment):
        yield from segment.whole.nodes
    elif isinstance(segment, VectorSegment):
        yield from (node for node, access in segment.reads if access.picks is not None)
        yield from segment.nodes
    else:
        yield segment.node


def _accesses(segment: Segment | Joint) -> Iterator[Access]:
    if isinstance(segment, MixSegment | RelaySegment):
        for part in segment.parts:
            yield from _accesses(part)
    elif isinstance(segment, CutSegment):
        yield from _accesses(segment.whole)
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
