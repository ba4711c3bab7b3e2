"""Expansion of a core's program into regions: streams of dispatched instructions, barriers, scalar loads, the halt.

Cores of a launch that run the same program without scalar instructions are expanded together. Otherwise each core is expanded
for itself: loops that hold scalar instructions are walked one iteration at a time, all others for many iterations at once
(`bodies`), in runs of bounded size. How a program is cut into streams has no influence on its instructions, their
order, their operands and their times.

A *context* is one iteration of a loop body (`contexts`). The counter of a loop that is not open reads as 0; a tail
size or a predicate over such a loop is an error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.expansion.bodies import END_WORDS, Body, Machine, build_body, expand_body, passed_words, tile_range
from npuvm.hw.expansion.contexts import (
    Ints,
    child_contexts,
    evaluate_size,
    grid_slice,
    predicate_holds,
    root_context,
    size_bound,
)
from npuvm.hw.expansion.plan import BlockPlan
from npuvm.hw.expansion.program import (
    BarrierStep,
    Block,
    Grid,
    Leaf,
    Loop,
    Node,
    Program,
    ProgramText,
    Scalar,
    SemaphoreStep,
    Step,
    place,
)
from npuvm.hw.expansion.stream import Barrier, Halt, Region, Regions, ScalarLoad, SetSemaphores, Stream
from npuvm.hw.timing import SequencerCosts
from npuvm.isa.image import Entry, Image, Reloc
from npuvm.isa.model import Isa
from npuvm.isa.semantics import parse_semantics

__all__ = ["DEFAULT_LIMIT", "Expansions", "expansions_of"]

DEFAULT_LIMIT = 1 << 16
"""Instructions that a stream should not exceed, so that memory stays bounded."""

_TOGETHER_LIMIT = 4 * DEFAULT_LIMIT
"""Instructions of all cores up to which they are expanded together."""

_PAUSE_CYCLES = 1 << 16
"""Cycles without a dispatch after which the engine is told of them, so that it can hold them against a cycle limit."""

_KEPT_IMAGES = 256

_Ranges: TypeAlias = Sequence[tuple[int, int]]

_shared: OrderedDict[tuple[int, int, int], tuple[Any, Expansions]] = OrderedDict()


def expansions_of(isa: Isa, image: Image, chip: NpuConfig) -> Expansions:
    """The expansion of an image on a chip; kept for the images used last, so that a launch need not decode again."""
    key = (id(isa), id(image), id(chip))
    found = _shared.get(key)
    if found is None:
        # The objects are kept as well, so that their ids stay theirs.
        found = _shared[key] = ((isa, image, chip), Expansions(isa, image.words, chip, image.relocs))
        if len(_shared) > _KEPT_IMAGES:
            _shared.popitem(last=False)
    _shared.move_to_end(key)
    return found[1]


class Expansions:
    """Expansion of one program text on one chip; programs and plans are shared by all cores and launches of it."""

    def __init__(
        self,
        isa: Isa,
        words: NDArray[np.uint64],
        chip: NpuConfig,
        relocs: Sequence[Reloc] = (),
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._isa = isa
        self._chip = chip
        self._text = ProgramText(isa, words, relocs)
        self._plans: dict[int, dict[int, BlockPlan]] = {}
        self._costs = SequencerCosts.of(chip)
        self._limit = limit

    def core(self, pc: int, ranges: _Ranges = (), addresses: Sequence[int] = ()) -> Regions:
        """Regions of a core that starts at word `pc` with these (start, stop) tiles of its phases, stop exclusive.

        `addresses` are those of the image's arguments. Regions come in program order; after a `ScalarLoad` the loaded
        value must be sent in. The first gap holds the sequencer's start cycles. SimulationError names the word and the
        instruction that cannot run.
        """
        cores = _Cores(self._text.program(pc), self._program_plans(pc), self._costs, (ranges,), tuple(addresses))
        return cores.walk(self._limit)

    def launch(self, entries: Sequence[Entry], addresses: Sequence[int] = ()) -> list[Regions]:
        """Regions of every core of a launch, see `core`."""
        regions: list[Regions | None] = [None] * len(entries)
        by_pc: dict[int, list[int]] = {}
        for index, entry in enumerate(entries):
            by_pc.setdefault(entry.pc, []).append(index)
        for pc, indices in by_pc.items():
            ranges = [entries[i].ranges for i in indices]
            cores = _Cores(self._text.program(pc), self._program_plans(pc), self._costs, ranges, tuple(addresses))
            together = len(indices) > 1 and cores.fit_together()
            for number, index in enumerate(indices):
                regions[index] = cores.share(number) if together else self.core(pc, entries[index].ranges, addresses)
        return [found for found in regions if found is not None]

    def program(self, pc: int) -> Program:
        """What a core that starts at word `pc` executes; shared, not to be changed."""
        return self._text.program(pc)

    def _program_plans(self, pc: int) -> dict[int, BlockPlan]:
        plans = self._plans.get(pc)
        if plans is None:
            blocks = {i: s for i, s in enumerate(self._text.program(pc).steps) if isinstance(s, Block)}
            plans = self._plans[pc] = {i: BlockPlan(block, self._isa, self._chip) for i, block in blocks.items()}
        return plans


class _Cores:
    """Cores that run one program; `plans` has the plan of each step that is a block."""

    def __init__(
        self,
        program: Program,
        plans: Mapping[int, BlockPlan],
        costs: SequencerCosts,
        ranges: Sequence[_Ranges],
        addresses: tuple[int, ...],
    ) -> None:
        self._steps = program.steps
        self._plans = plans
        self._costs = costs
        self._count = count = len(ranges)
        self._rings: dict[tuple[int, int], Ints] = {}
        clock = np.full(count, costs.start, dtype=np.int64)
        self._machine = Machine([0] * 16, addresses, ranges, np.zeros((count, 0), dtype=np.int64), clock)
        self._done: list[list[Region | None]] = []

    def walk(self, limit: int) -> Regions:
        """The regions of a single core."""
        for index, step in enumerate(self._steps):
            self._machine.clock += step.lead_words * self._costs.word
            if isinstance(step, Block):
                plan = self._plans[index]
                self._enter(plan)
                yield from _Walker(plan, self._machine, limit).walk(step.nodes, root_context(), {}, 0)
                self._leave(plan)
            else:
                yield self._record(step)[0]

    def fit_together(self) -> bool:
        """Whether all cores can be expanded at once: no scalar instructions, and not too many instructions."""
        total = 0
        for step, plan in ((self._steps[index], plan) for index, plan in self._plans.items()):
            assert isinstance(step, Block)
            if any(_has_scalars(node) for node in step.nodes):
                return False
            walker = _Walker(plan, self._machine, 0)
            for node in step.nodes:
                total += walker.bound(node, {}) * (1 if isinstance(node, Grid) else self._count)
        return total <= _TOGETHER_LIMIT

    def share(self, core: int) -> Regions:
        """The regions of one of the cores; each step is expanded for all when the first core gets there."""
        for index in range(len(self._steps)):
            if index == len(self._done):
                self._done.append(self._step(index))
            region, self._done[index][core] = self._done[index][core], None
            if region is not None:
                yield region

    def _step(self, index: int) -> list[Region | None]:
        step = self._steps[index]
        self._machine.clock += step.lead_words * self._costs.word
        if not isinstance(step, Block):
            return list(self._record(step))
        plan = self._plans[index]
        self._enter(plan)
        contexts = np.repeat(root_context(), self._count, axis=0)
        ones = np.ones(self._count, dtype=np.int64)
        streams = expand_body(plan, shared_body(plan, step.nodes), contexts, ones, 0, self._machine)
        self._leave(plan)
        return list(streams)

    def _record(self, step: Step) -> list[Region]:
        """What a step that is no block means to every core."""
        gaps = self._machine.clock.tolist()
        self._machine.clock[:] = 0
        if isinstance(step, SemaphoreStep):
            for counter in [counter for counter in self._rings if counter[0] in step.rings]:
                del self._rings[counter]
            return [SetSemaphores(gap, step.values, step.pc) for gap in gaps]
        if isinstance(step, BarrierStep):
            return [Barrier(gap, step.scope, step.pc) for gap in gaps]
        assert not isinstance(step, Block)
        return [Halt(gap, step.pc) for gap in gaps]

    def _enter(self, plan: BlockPlan) -> None:
        counts = np.zeros((self._count, len(plan.counters)), dtype=np.int64)
        for key, counter in enumerate(plan.counters):
            counts[:, key] = self._rings.get(counter, 0)
        self._machine.rings = counts

    def _leave(self, plan: BlockPlan) -> None:
        self._rings.update(zip(plan.counters, self._machine.rings.T, strict=True))


def shared_body(plan: BlockPlan, nodes: Sequence[Node]) -> Body:
    """Tables of a sequence of nodes, made once for all who expand it."""
    key = tuple(node.pc for node in nodes)
    found = plan.bodies.get(key)
    if found is None:
        found = plan.bodies[key] = build_body(plan, nodes)
    return found


class _Walker:
    """Walks the nodes of one block in single contexts, handing to vectorised expansion what is fit for it."""

    def __init__(self, plan: BlockPlan, machine: Machine, limit: int) -> None:
        self._plan = plan
        self._machine = machine
        self._limit = limit
        self._costs = plan.costs
        self._end_cost = END_WORDS * plan.costs.word + plan.costs.branch

    def walk(self, nodes: Sequence[Node], context: Ints, most: dict[int, int], open_loops: int) -> Regions:
        """Regions of nodes in one context, shape (1, 18); `most` bounds the counters of the open loops."""
        run: list[Node] = []
        size = 0
        for node in nodes:
            bound = self._limit + 1 if _has_scalars(node) else self.bound(node, most)
            if run and size + bound > self._limit:
                yield from self._emit(run, context, 0)
                run, size = [], 0
            if bound <= self._limit:
                run.append(node)
                size += bound
            elif isinstance(node, Scalar):
                yield from self._scalar(node, context, open_loops)
            else:
                assert not isinstance(node, Leaf)
                yield from self._iterate(node, context, most, open_loops)
        if run:
            yield from self._emit(run, context, 0)

    def _emit(self, nodes: Sequence[Node], contexts: Ints, end_cost: int) -> Iterator[Stream]:
        counts = np.array([len(contexts)])
        body = shared_body(self._plan, nodes)
        stream = expand_body(self._plan, body, contexts, counts, end_cost, self._machine)[0]
        if stream is not None:
            yield stream

    def bound(self, node: Node, most: Mapping[int, int]) -> int:
        """A number that neither the instructions that a node dispatches in one context exceed nor its iterations.

        Of a grid, those of all cores.
        """
        if isinstance(node, Leaf):
            return 1
        if isinstance(node, Scalar):
            return 0
        inside = dict(most)
        trips = self._bounds(node, inside)
        return trips * max(1, sum(self.bound(child, inside) for child in node.body))

    def _bounds(self, node: Loop | Grid, most: dict[int, int]) -> int:
        """A bound of a loop's iterations; enters those of its counters into `most`."""
        if isinstance(node, Loop):
            trip = size_bound(self._plan.size_def(node.trip, place(node)), most, self._machine.registers)
            most[node.loop] = max(0, trip - 1)
            return trip
        for loop, index in enumerate(node.trips):
            trip = size_bound(self._plan.size_def(index, place(node)), most, self._machine.registers)
            most[loop] = max(0, trip - 1)
        tiles = (tile_range(node, ranges) for ranges in self._machine.ranges)
        return sum(max(0, stop - start) for start, stop in tiles)

    def _iterate(self, node: Loop | Grid, context: Ints, most: dict[int, int], open_loops: int) -> Regions:
        """A loop in runs of iterations, or, with scalars or very long iterations, one by one."""
        self._machine.clock += node.words * self._costs.word + self._costs.branch
        inside = dict(most)
        self._bounds(node, inside)
        bound = max(1, sum(self.bound(child, inside) for child in node.body))
        single = node.has_scalars or bound > self._limit
        loops = 1 << node.loop if isinstance(node, Loop) else (1 << len(node.trips)) - 1
        passed = passed_words(node) * self._costs.word
        for contexts in self._slices(node, context, max(1, self._limit // bound)):
            passed = 0
            if not single:
                yield from self._emit(node.body, contexts, self._end_cost)
                yield from self._pause(node)
                continue
            for row in range(len(contexts)):
                yield from self.walk(node.body, contexts[row : row + 1], inside, open_loops | loops)
                self._machine.clock += self._end_cost
                yield from self._pause(node)
        self._machine.clock += passed

    def _pause(self, node: Loop | Grid) -> Iterator[SetSemaphores]:
        """A step that sets nothing, when many cycles have gone by since the last dispatch."""
        spent = int(self._machine.clock[0])
        if spent >= _PAUSE_CYCLES:
            self._machine.clock[0] = 0
            yield SetSemaphores(spent, (), node.pc)

    def _slices(self, node: Loop | Grid, context: Ints, step: int) -> Iterator[Ints]:
        """The contexts of a loop's body, at most `step` at a time."""
        where, machine = place(node), self._machine
        if isinstance(node, Loop):
            trips = evaluate_size(self._plan.size_def(node.trip, where), context, machine.registers)
            for first in range(0, int(trips[0]), step):
                yield child_contexts(context, node.loop, trips, first, min(first + step, int(trips[0])))
            return
        sizes = [self._plan.size_def(index, where) for index in node.trips]
        start, stop = bounds = tile_range(node, machine.ranges[0])
        registers = tuple(machine.registers)
        for first in range(start, stop, step):
            yield grid_slice(sizes, bounds, (first, min(first + step, stop)), registers, where)

    def _scalar(self, node: Scalar, context: Ints, open_loops: int) -> Regions:
        """Execute an instruction of the sequencer."""
        insn, machine = node.insn, self._machine
        machine.clock += node.words * self._costs.word
        if insn.pred is not None:
            for loop in range(8):
                if insn.pred.mask >> loop & 1:
                    self._plan.check_loop(loop, open_loops, f"predicate {insn.pred.kind}", place(node))
            if not predicate_holds(insn.pred.kind, insn.pred.mask, context)[0]:
                return
        if insn.op == "nop":
            return
        if insn.op == "lds":
            gap, register = int(machine.clock[0]), insn.args["rd"]
            machine.clock[:] = 0
            value = yield ScalarLoad(gap, self._address(node, context), 4, node.pc, register)
            if value is None:
                raise SimulationError("no value was given for this scalar load", place(node))
            machine.registers[register] = _signed(value, 32)
            return
        machine.clock += self._costs.scalar
        machine.registers[insn.args["rd"]] = self._calculate(node)

    def _calculate(self, node: Scalar) -> int:
        args, registers = node.insn.args, self._machine.registers
        if node.insn.op == "li":
            return args["imm"]
        operands = [spec.name for spec in node.instruction.operands]
        semantics = parse_semantics(node.instruction.semantics or "", operands)
        try:
            value = int(semantics.evaluate(*(registers[args[name]] for name in semantics.names)))
        except ZeroDivisionError:
            raise TrapError("divide_by_zero", "the divisor is 0", place(node)) from None
        return _signed(value, 64)

    def _address(self, node: Scalar, context: Ints) -> int:
        index = node.insn.args["src"]
        desc = self._plan.block.tables.descs.get(index)
        if desc is None:
            raise SimulationError(f"descriptor d{index} is not defined", place(node))
        if desc.space != "gm" or desc.role:
            raise SimulationError(f"descriptor d{index} must be plain global memory, no ring", place(node))
        moved = sum(stride * int(context[0, loop]) for loop, stride in desc.strides)
        argument = 0 if desc.arg is None else self._machine.addresses[desc.arg]
        return argument + desc.base + moved + self._machine.registers[desc.reg] * desc.reg_stride


def _has_scalars(node: Node) -> bool:
    return isinstance(node, Scalar) or (not isinstance(node, Leaf) and node.has_scalars)


def _signed(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half
