"""Expansion of a core's program into regions: streams of dispatched instructions, barriers, scalar loads, the halt.

Loops that hold scalar instructions are walked one iteration at a time; all others are expanded for many iterations at once
(`npuvm.hw.bodies`), in runs of bounded size. How a program is cut into streams has no influence on its instructions, their
order, their operands and their times.

A *context* is one iteration of a loop body (`npuvm.hw.contexts`). The counter of a loop that is not open reads as 0; a tail
size or a predicate over such a loop is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.bodies import END_WORDS, Body, Machine, build_body, expand_body, tile_range
from npuvm.hw.config.model import NpuConfig
from npuvm.hw.contexts import (
    Ints,
    child_contexts,
    evaluate_size,
    grid_contexts,
    predicate_holds,
    root_context,
    size_bound,
)
from npuvm.hw.errors import SimulationError
from npuvm.hw.plan import BlockPlan
from npuvm.hw.program import (
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
    place,
)
from npuvm.hw.stream import Barrier, Halt, Regions, ScalarLoad, SetSemaphores
from npuvm.hw.timing import SequencerCosts
from npuvm.isa.model import Isa
from npuvm.isa.semantics import parse_semantics

__all__ = ["DEFAULT_LIMIT", "Expander", "Expansions"]

DEFAULT_LIMIT = 1 << 16
"""Instructions that a stream should not exceed, so that memory stays bounded."""


class Expansions:
    """Expansion of one relocated program text on one chip; programs and plans are shared by all cores that run it."""

    def __init__(self, isa: Isa, words: NDArray[np.uint64], chip: NpuConfig, limit: int = DEFAULT_LIMIT) -> None:
        self._isa = isa
        self._chip = chip
        self._text = ProgramText(isa, words)
        self._plans: dict[int, dict[int, BlockPlan]] = {}
        self._limit = limit

    def core(self, pc: int, ranges: Sequence[tuple[int, int]] = ()) -> Regions:
        """Regions of a core that starts at word `pc` with these (start, stop) tiles of its phases, stop exclusive."""
        program = self._text.program(pc)
        plans = self._plans.get(pc)
        if plans is None:
            blocks = {i: step for i, step in enumerate(program.steps) if isinstance(step, Block)}
            plans = {i: BlockPlan(block, self._isa, self._chip) for i, block in blocks.items()}
            self._plans[pc] = plans
        return Expander(program, plans, SequencerCosts.of(self._chip), ranges, self._limit).regions()


class Expander:
    """Walks one program for one core; `plans` has the plan of each step that is a block."""

    def __init__(
        self,
        program: Program,
        plans: Mapping[int, BlockPlan],
        costs: SequencerCosts,
        ranges: Sequence[tuple[int, int]],
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._program = program
        self._plans = plans
        self._costs = costs
        self._limit = limit
        self._rings: dict[tuple[int, int], int] = {}
        self._machine = Machine([0] * 16, ranges, np.zeros(0, dtype=np.int64), costs.start)

    def regions(self) -> Regions:
        """The core's regions in program order; after a `ScalarLoad` the loaded value must be sent in.

        The first gap holds the sequencer's start cycles. SimulationError names the word and the instruction that cannot run.
        """
        machine = self._machine
        for index, step in enumerate(self._program.steps):
            machine.clock += step.lead_words * self._costs.word
            if isinstance(step, Block):
                yield from self._block(step, self._plans[index])
            elif isinstance(step, SemaphoreStep):
                for counter in [counter for counter in self._rings if counter[0] in step.rings]:
                    del self._rings[counter]
                yield SetSemaphores(self._take_clock(), step.values, step.pc)
            elif isinstance(step, BarrierStep):
                yield Barrier(self._take_clock(), step.scope, step.pc)
            else:
                yield Halt(self._take_clock(), step.pc)

    def _block(self, block: Block, plan: BlockPlan) -> Regions:
        counts = [self._rings.get(counter, 0) for counter in plan.counters]
        self._machine.rings = np.array(counts, dtype=np.int64)
        yield from _Walker(plan, self._machine, self._limit).walk(block.nodes, root_context(), {}, 0)
        self._rings.update(zip(plan.counters, self._machine.rings.tolist(), strict=True))

    def _take_clock(self) -> int:
        clock, self._machine.clock = self._machine.clock, 0
        return clock


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
            bound = self._limit + 1 if _has_scalars(node) else self._bound(node, most)
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

    def _emit(self, nodes: Sequence[Node], contexts: Ints, end_cost: int) -> Regions:
        stream = expand_body(self._plan, self._body(nodes), contexts, end_cost, self._machine)
        if stream is not None:
            yield stream

    def _body(self, nodes: Sequence[Node]) -> Body:
        key = tuple(node.pc for node in nodes)
        found = self._plan.bodies.get(key)
        if found is None:
            found = self._plan.bodies[key] = build_body(self._plan, nodes)
        return found

    def _bound(self, node: Node, most: Mapping[int, int]) -> int:
        """A number that the dispatched instructions of a node in one context do not exceed."""
        if isinstance(node, Leaf):
            return 1
        if isinstance(node, Scalar):
            return 0
        inside = dict(most)
        trips = self._bounds(node, inside)
        return trips * sum(self._bound(child, inside) for child in node.body)

    def _bounds(self, node: Loop | Grid, most: dict[int, int]) -> int:
        """A bound of a loop's iterations; enters those of its counters into `most`."""
        if isinstance(node, Loop):
            trip = size_bound(self._plan.size_def(node.trip, place(node)), most, self._machine.registers)
            most[node.loop] = max(0, trip - 1)
            return trip
        for loop, index in enumerate(node.trips):
            trip = size_bound(self._plan.size_def(index, place(node)), most, self._machine.registers)
            most[loop] = max(0, trip - 1)
        start, stop = tile_range(node, self._machine.ranges)
        return max(0, stop - start)

    def _iterate(self, node: Loop | Grid, context: Ints, most: dict[int, int], open_loops: int) -> Regions:
        """A loop in runs of iterations, or, with scalars or very long iterations, one by one."""
        self._machine.clock += node.words * self._costs.word + self._costs.branch
        inside = dict(most)
        self._bounds(node, inside)
        bound = max(1, sum(self._bound(child, inside) for child in node.body))
        single = node.has_scalars or bound > self._limit
        loops = 1 << node.loop if isinstance(node, Loop) else (1 << len(node.trips)) - 1
        for contexts in self._slices(node, context, max(1, self._limit // bound)):
            if not single:
                yield from self._emit(node.body, contexts, self._end_cost)
                continue
            for row in range(len(contexts)):
                yield from self.walk(node.body, contexts[row : row + 1], inside, open_loops | loops)
                self._machine.clock += self._end_cost

    def _slices(self, node: Loop | Grid, context: Ints, step: int) -> Iterator[Ints]:
        """The contexts of a loop's body, at most `step` at a time."""
        where, machine = place(node), self._machine
        if isinstance(node, Loop):
            trips = evaluate_size(self._plan.size_def(node.trip, where), context, machine.registers)
            for first in range(0, int(trips[0]), step):
                yield child_contexts(context, node.loop, trips, first, min(first + step, int(trips[0])))
            return
        sizes = [self._plan.size_def(index, where) for index in node.trips]
        start, stop = bounds = tile_range(node, machine.ranges)
        registers = tuple(machine.registers)
        for first in range(start, stop, step):
            yield grid_contexts(sizes, bounds, (first, min(first + step, stop)), registers, where)

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
            gap, machine.clock = machine.clock, 0
            register = insn.args["rd"]
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
            raise SimulationError("trap divide_by_zero", place(node)) from None
        return _signed(value, 64)

    def _address(self, node: Scalar, context: Ints) -> int:
        index = node.insn.args["src"]
        desc = self._plan.block.tables.descs.get(index)
        if desc is None:
            raise SimulationError(f"descriptor d{index} is not defined", place(node))
        if desc.space != "gm" or desc.role:
            raise SimulationError(f"descriptor d{index} must be plain global memory, no ring", place(node))
        moved = sum(stride * int(context[0, loop]) for loop, stride in desc.strides)
        return desc.base + moved + self._machine.registers[desc.reg] * desc.reg_stride


def _has_scalars(node: Node) -> bool:
    return isinstance(node, Scalar) or (not isinstance(node, Leaf) and node.has_scalars)


def _signed(value: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return (value + half) % (1 << bits) - half
