"""The critical path of a launch that was simulated with a trace: the chain of causes from its end back to cycle 0.

An instruction starts when the last of what it needs is there: its unit is free, the instruction before has completed, a
signal is visible, or it has been dispatched. Following that back, from the last completion to cycle 0, gives steps that
follow each other without a gap, so they add up to the cycles of the launch. Where memory plays no part, a step that took a
cycle longer would make the launch a cycle longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from npuvm.hw.errors import SimulationError
from npuvm.hw.launch import core_groups
from npuvm.isa import decode_at
from npuvm.isa.control import SCOPES

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.engine.observe import TraceEvent
    from npuvm.hw.results.stats import RunResult
    from npuvm.isa import Image, Insn, Isa

__all__ = ["PATH_KINDS", "PathStep", "PathText", "critical_path", "path_of_trace"]

PATH_KINDS: Mapping[str, str] = {
    "busy": "an instruction occupies its unit, stalls by memory included",
    "flight": "from there to its completion: latency of the unit, or data on its way",
    "signal": "from a completion until the signal is visible",
    "dispatch": "the sequencer on its way from one dispatch to the next",
    "queue": "a place in a full queue",
    "barrier": "from the last completion before a barrier to the next dispatch",
    "end": "from the last completion to the last halt",
}
"""Every kind of step, and what it means."""

Owner: TypeAlias = tuple[str, int]


class PathStep(NamedTuple):
    """Cycles `begin` to `end` of a launch. `pc` and `op` are those of the instruction they belong to, -1 and "" for none."""

    core: int
    unit: str
    kind: str
    begin: int
    end: int
    pc: int
    op: str


@dataclass(frozen=True)
class PathText:
    """What a path needs to know of program and chip.

    `sets` and `ordered` are by place of an instruction; `scope` gives who shares a semaphore of a core, and its delay.
    `barrier` is told the core and the places of two instructions dispatched one after another, and gives the cores that met
    in between.
    """

    sets: Callable[[int], Iterable[int]]
    ordered: Callable[[int], bool]
    scope: Callable[[int, int], tuple[Owner, int]]
    barrier: Callable[[int, int, int], Sequence[int]]
    queue_depth: int


def critical_path(chip: NpuConfig, isa: Isa, image: Image, result: RunResult) -> tuple[PathStep, ...]:
    """Steps from cycle 0 to the end of a launch, each beginning where the one before ends.

    SimulationError when the result holds no trace.
    """
    if result.instructions and not result.trace:
        raise SimulationError("the run kept no trace; simulate with trace=True", image.name)
    return path_of_trace(result.trace, result.cycles, _text(chip, isa, image))


def path_of_trace(trace: Sequence[TraceEvent], cycles: int, text: PathText) -> tuple[PathStep, ...]:
    """`critical_path` of bare events."""
    walk = _Walk(trace, text)
    walk.back_from(cycles)
    return tuple(reversed(walk.steps))


def _text(chip: NpuConfig, isa: Isa, image: Image) -> PathText:
    groups = core_groups(chip, image)
    words = image.words.tolist()
    insns: dict[int, Insn] = {}
    sync = chip.core.sync

    def insn(pc: int) -> Insn:
        if pc not in insns:
            insns[pc] = decode_at(isa, words, pc)[0]
        return insns[pc]

    def scope(core: int, number: int) -> tuple[Owner, int]:
        kind = isa.semaphore_scope(number)
        owner = {"core": core, "group": groups[core], "launch": 0}[kind]
        further = {"core": 0, "group": sync.group_cycles, "launch": sync.launch_cycles}[kind]
        return (kind, owner), sync.set_to_visible_cycles + further

    def barrier(core: int, before: int, after: int) -> Sequence[int]:
        """Barriers stand outside loops, so the text between two places of a program tells whether one was passed."""
        met: Sequence[int] = ()
        pc = before
        while pc < after:
            found, length = decode_at(isa, words, pc)
            if found.op == "barrier":
                scopes = {"core": [core], "group": _same(groups, core), "launch": range(len(groups))}
                met = max(met, scopes[SCOPES[found.args["scope"]]], key=len)
            pc += length
        return met

    return PathText(lambda pc: insn(pc).set, lambda pc: insn(pc).order, scope, barrier, chip.core.sequencer.queue_depth)


def _same(groups: Sequence[int], core: int) -> list[int]:
    return [index for index, group in enumerate(groups) if group == groups[core]]


@dataclass
class _Walk:
    """Walks from the end of a launch to its beginning; `steps` are found last first."""

    trace: Sequence[TraceEvent]
    text: PathText
    steps: list[PathStep] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_core: dict[int, list[TraceEvent]] = defaultdict(list)
        self._by_unit: dict[tuple[int, str], list[TraceEvent]] = defaultdict(list)
        self._place: dict[tuple[int, int], int] = {}
        self._senders: dict[tuple[Owner, int, int], TraceEvent] = {}
        for event in sorted(self.trace, key=lambda event: (event.core, event.sequence)):
            unit = self._by_unit[event.core, event.unit]
            self._place[event.core, event.sequence] = len(unit)
            unit.append(event)
            self._by_core[event.core].append(event)
            for number in self.text.sets(event.pc):
                owner, delay = self.text.scope(event.core, number)
                self._senders[owner, number, event.complete + delay] = event

    def back_from(self, cycles: int) -> None:
        """Find all steps."""
        if not self.trace:
            self._step(0, "seq", "end", 0, cycles)
            return
        last = max(self.trace, key=lambda event: (event.complete, event.start))
        self._step(last.core, "seq", "end", last.complete, cycles)
        # What is to be explained: how an event came to its completion, the end of its occupancy, or its start.
        event: TraceEvent | None = last
        until = last.complete
        while event is not None:
            previous = self._previous(event)
            if until == event.complete and previous is not None and previous.complete == until:
                event = previous  # completions are in order: the one before held this one back
                continue
            self._step(event.core, event.unit, "flight", max(event.occupied_until, event.start), until, event)
            self._step(event.core, event.unit, "busy", event.start, min(until, event.occupied_until), event)
            event, until = self._before(event, previous)
        self._check(cycles)

    def _previous(self, event: TraceEvent) -> TraceEvent | None:
        """The instruction before in the same unit."""
        place = self._place[event.core, event.sequence]
        return self._by_unit[event.core, event.unit][place - 1] if place else None

    def _before(self, event: TraceEvent, previous: TraceEvent | None) -> tuple[TraceEvent | None, int]:
        """The event that let another one start, and the time of it that did; None at the beginning of the launch."""
        if previous is not None:
            if previous.occupied_until == event.start:
                return previous, previous.occupied_until
            if self.text.ordered(event.pc) and previous.complete == event.start:
                return previous, previous.complete
        for number, visible in event.waits:
            owner, _ = self.text.scope(event.core, number)
            sender = self._senders.get((owner, number, visible))
            if visible == event.start and sender is not None:
                self._step(event.core, event.unit, "signal", sender.complete, visible, event)
                return sender, sender.complete
        return self._dispatch(event)

    def _dispatch(self, event: TraceEvent) -> tuple[TraceEvent | None, int]:
        """What let an event be dispatched: a place in the queue, a barrier, or the way of the sequencer from the start."""
        core = self._by_core[event.core]
        while True:
            at = event.dispatched
            unit, place = self._by_unit[event.core, event.unit], self._place[event.core, event.sequence]
            if place >= self.text.queue_depth:
                leaving = unit[place - self.text.queue_depth]
                if leaving.start + 1 == at:
                    self._step(event.core, "seq", "queue", leaving.start, at, event)
                    return leaving, leaving.start
            if event.sequence == 0:
                self._step(event.core, "seq", "dispatch", 0, at, event)
                return None, 0
            previous = core[event.sequence - 1]
            met = self.text.barrier(event.core, previous.pc, event.pc)
            if met:
                done = [each for number in met for each in self._by_core[number] if each.complete <= at]
                last = max(done, key=lambda each: (each.complete, each.start))
                if last.complete > previous.dispatched:
                    self._step(event.core, "seq", "barrier", last.complete, at, event)
                    return last, last.complete
            self._step(event.core, "seq", "dispatch", previous.dispatched, at, event)
            event = previous

    def _check(self, cycles: int) -> None:
        """SimulationError unless the steps lead from the end to cycle 0 without a gap."""
        at = cycles
        for step in self.steps:
            if step.end != at:
                break
            at = step.begin
        if at:
            raise SimulationError(f"the critical path of {cycles} cycles is lost at cycle {at}")

    def _step(self, core: int, unit: str, kind: str, begin: int, end: int, event: TraceEvent | None = None) -> None:
        if end > begin:
            pc, op = (-1, "") if event is None else (event.pc, event.op)
            self.steps.append(PathStep(core, unit, kind, begin, end, pc, op))
