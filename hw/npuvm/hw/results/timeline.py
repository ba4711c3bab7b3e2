"""A launch as a timeline in the Chrome trace event format, which Perfetto and chrome://tracing show.

One microsecond of the viewer is one core cycle, since the format's own resolution is coarser than a cycle. A core is a
process, a unit a thread of it; an instruction is a slice from its start to the end of its occupancy, with its text, its
dispatch and its completion in the arguments. An arrow leads from an instruction that sets a semaphore to the one that took
that signal. Counters show the depth of each queue, and the bytes per cycle to and from global memory: of each engine with its
core, of all cores together in a process after the last core.

Format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.errors import SimulationError
from npuvm.hw.launch import core_groups
from npuvm.isa import decode_at, format_insn

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.engine.observe import TraceEvent
    from npuvm.hw.results.stats import RunResult
    from npuvm.isa import Image, Insn, Isa

__all__ = ["chrome_trace", "spread"]

Event: TypeAlias = dict[str, Any]
Floats: TypeAlias = NDArray[np.float64]

BANDWIDTH_STEPS = 1000
"""Points of a bandwidth counter over a launch, at most."""


def chrome_trace(chip: NpuConfig, isa: Isa, image: Image, result: RunResult) -> dict[str, Any]:
    """The timeline of a launch that was simulated with `trace=True`, ready for `json.dump`.

    SimulationError when the result holds no trace.
    """
    if result.instructions and not result.trace:
        raise SimulationError("the run kept no trace; simulate with trace=True", image.name)
    launch = _Launch(chip, isa, image, result)
    events = [*launch.names(), *launch.slices(), *launch.flows(), *launch.queues(), *launch.bandwidth()]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "program": image.name,
            "chip": chip.name,
            "isa": isa.hash,
            "cycles": result.cycles,
            "clock_ghz": float(chip.clock_ghz),
            "note": "one microsecond of the viewer is one core cycle",
        },
    }


class _Launch:
    """One launch with its program decoded."""

    def __init__(self, chip: NpuConfig, isa: Isa, image: Image, result: RunResult) -> None:
        self._chip = chip
        self._isa = isa
        self._image = image
        self._result = result
        self._trace = sorted(result.trace, key=lambda event: (event.core, event.sequence))
        self._groups = core_groups(chip, image)
        words = image.words.tolist()
        self._insns: dict[int, Insn] = {pc: decode_at(isa, words, pc)[0] for pc in {e.pc for e in result.trace}}

    def names(self) -> Iterator[Event]:
        """Names and order of cores and units."""
        for core, stats in enumerate(self._result.cores):
            label = f"core {core} ({stats.core_type}, group {self._groups[core]})"
            yield _event("M", "process_name", core, 0, args={"name": label})
            for unit in stats.units:
                code = self._isa.units[unit]
                yield _event("M", "thread_name", core, code, args={"name": unit})
                yield _event("M", "thread_sort_index", core, code, args={"sort_index": code})

    def slices(self) -> Iterator[Event]:
        """A slice for each instruction."""
        for event in self._trace:
            insn = self._insns[event.pc]
            args: dict[str, Any] = {
                "text": format_insn(self._isa, insn),
                "word": event.pc,
                "sequence": event.sequence,
                "dispatched": event.dispatched,
                "completes": event.complete,
            }
            if event.nbytes:
                args["bytes"] = event.nbytes
            if event.waits:
                args["waits"] = [f"m{number} visible in {cycle}" for number, cycle in event.waits]
            name = insn.op if insn.dtype is None else f"{insn.op}.{insn.dtype}"
            yield {**self._at(event, "X", name, event.start), "dur": event.occupied_until - event.start, "args": args}

    def flows(self) -> Iterator[Event]:
        """An arrow for each signal that an instruction took from another."""
        signals: dict[tuple[tuple[str, int], int, int], deque[TraceEvent]] = defaultdict(deque)
        for event in sorted(self._trace, key=lambda e: (e.complete, e.core, self._isa.units[e.unit], e.sequence)):
            for number in self._insns[event.pc].set:
                owner, delay = self._scope(event.core, number)
                signals[owner, number, event.complete + delay].append(event)
        arrow = 0
        for event in self._trace:
            for number, visible in event.waits:
                owner, _ = self._scope(event.core, number)
                senders = signals.get((owner, number, visible))
                if not senders:
                    continue  # a count that the set-up gave
                sender = senders.popleft()
                arrow += 1
                last = max(sender.start, sender.occupied_until - 1)
                yield {**self._at(sender, "s", f"m{number}", last), "cat": "semaphore", "id": arrow}
                yield {**self._at(event, "f", f"m{number}", event.start), "cat": "semaphore", "id": arrow, "bp": "e"}

    def queues(self) -> Iterator[Event]:
        """The instructions in each queue, from dispatch to start."""
        changes: dict[tuple[int, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for event in self._trace:
            of_unit = changes[event.core, event.unit]
            of_unit[event.dispatched] += 1
            of_unit[event.start] -= 1
        for (core, unit), steps in changes.items():
            depth = 0
            for cycle in sorted(steps):
                depth += steps[cycle]
                yield {**_event("C", f"queue {unit}", core, 0, args={"instructions": depth}), "ts": cycle}

    def bandwidth(self) -> Iterator[Event]:
        """Bytes per cycle to and from global memory, each transfer spread evenly over its time."""
        step = max(1, -(-self._result.cycles // BANDWIDTH_STEPS))
        edges = np.arange(0, self._result.cycles + step, step)
        engines: dict[tuple[int, str], list[TraceEvent]] = defaultdict(list)
        for event in self._trace:
            if event.nbytes:
                engines[event.core, event.unit].append(event)
        chip = len(self._result.cores)
        total: dict[str, Floats] = defaultdict(lambda: np.zeros(len(edges) - 1))
        for (core, unit), events in engines.items():
            start, end, moved = np.array([(event.start, event.complete, event.nbytes) for event in events]).T
            rates = spread(start, end, moved, edges) / step
            total[unit] += rates
            yield from self._rates(f"global memory {unit}", core, rates, step)
        if total:
            yield _event("M", "process_name", chip, 0, args={"name": "all cores"})
        for unit, rates in total.items():
            yield from self._rates(f"global memory {unit}, all cores", chip, rates, step)

    def _rates(self, name: str, process: int, rates: Floats, step: int) -> Iterator[Event]:
        """A counter with a point for each step, and one that brings it back to zero."""
        for index, rate in enumerate([*rates.tolist(), 0.0]):
            counter = _event("C", name, process, 0, args={"bytes per cycle": round(rate, 3)})
            yield {**counter, "ts": index * step}

    def _at(self, event: TraceEvent, phase: str, name: str, cycle: int) -> Event:
        return {**_event(phase, name, event.core, self._isa.units[event.unit]), "ts": cycle}

    def _scope(self, core: int, number: int) -> tuple[tuple[str, int], int]:
        """Who shares a semaphore that a core names, and the cycles from a completion to the visible signal."""
        scope, sync = self._isa.semaphore_scope(number), self._chip.core.sync
        owner = {"core": core, "group": self._groups[core], "launch": 0}[scope]
        further = {"core": 0, "group": sync.group_cycles, "launch": sync.launch_cycles}[scope]
        return (scope, owner), sync.set_to_visible_cycles + further


def _event(phase: str, name: str, core: int, thread: int, **more: Any) -> Event:
    return {"ph": phase, "name": name, "pid": core, "tid": thread, **more}


def spread(start: NDArray[Any], end: NDArray[Any], amount: NDArray[Any], edges: NDArray[Any]) -> Floats:
    """What falls into each interval between adjacent `edges` (n + 1) when every amount is spread evenly from start to end.

    An amount without duration counts in the cycle of its start.
    """
    span = np.maximum(end - start, 1)
    rate = amount / span
    cycles, place = np.unique(np.concatenate([start, start + span]), return_inverse=True)
    if not len(cycles):
        return np.zeros(len(edges) - 1)
    rates = np.cumsum(np.bincount(place, np.concatenate([rate, -rate]), len(cycles)))
    reached = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(cycles))])
    return np.diff(np.interp(edges, cycles, reached))
