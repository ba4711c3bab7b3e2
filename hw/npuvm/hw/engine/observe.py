"""What is done beside the timing: moving data, looking for hazards, keeping a trace. None of it changes a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from simpy import Event
from simpy.events import URGENT

from npuvm.hw.engine.clock import Clock

if TYPE_CHECKING:
    from npuvm.hw.engine.units import Batch, SiteRun, Unit
    from npuvm.hw.expansion.stream import Stream
    from npuvm.hw.hazards.record import Times

__all__ = ["CompletionCalendar", "DataPath", "Observer", "TraceEvent"]


class DataPath(Protocol):
    """What moves data: `start` reads the operands of a stream's row and computes, `complete` writes the result.

    What `start` returns for an instruction that picks rows by index has them in `index`.
    """

    def start(self, core: int, stream: Stream, row: int) -> Any:
        """Read and compute; what comes back is handed to `complete`, None when there is nothing to write."""

    def complete(self, pending: Any) -> None:
        """Write the result of a started instruction."""

    def load_scalar(self, address: int, itemsize: int) -> int:
        """The signed integer of `itemsize` bytes at an address of global memory."""


class TraceEvent(NamedTuple):
    """One instruction in time, all in cycles: it comes into its unit's queue, starts, frees its unit, its result is there.

    `sequence` numbers the instructions that the core dispatched, from 0. `waits` are the semaphores that it took, with the
    cycles in which their signals became visible; `nbytes` is what it moved to or from global memory.
    """

    core: int
    sequence: int
    unit: str
    pc: int
    op: str
    dispatched: int
    start: int
    occupied_until: int
    complete: int
    waits: tuple[tuple[int, int], ...]
    nbytes: int


class CompletionCalendar:
    """Writes results in the order of (cycle, core, unit, sequence), before anything starts in that cycle."""

    def __init__(self, clock: Clock, data: DataPath) -> None:
        self.clock = clock
        self.data = data
        self._due: dict[int, list[tuple[tuple[int, int, int], Any]]] = {}

    def add(self, cycle: int, order: tuple[int, int, int], pending: Any) -> None:
        """Write `pending` at `cycle`; `order` is (core, unit, sequence)."""
        due = self._due.get(cycle)
        if due is None:
            due = self._due[cycle] = []
            event = self.clock.idle_event()
            event.callbacks = [self._write]
            self.clock.wake(event, cycle, URGENT)
        due.append((order, pending))

    def _write(self, _event: Event) -> None:
        due = self._due.pop(self.clock.now)
        due.sort(key=lambda item: item[0])
        for _, pending in due:
            self.data.complete(pending)


class Observer:
    """Follows the instructions of one core; each part is optional. `times`, by unit code, notes starts and completions.

    `indices` notes the index vectors that were read, with the numbers of their instructions.
    """

    def __init__(
        self,
        core: int,
        data: DataPath | None,
        calendar: CompletionCalendar | None,
        times: Mapping[int, Times] | None,
        trace: list[TraceEvent] | None,
        indices: list[tuple[int, tuple[int, ...]]] | None = None,
    ) -> None:
        self.core = core
        self.data = data
        self.calendar = calendar
        self.times = times
        self.trace = trace
        self.indices = indices

    def indices_of(self, token: Any) -> NDArray[np.int64] | None:
        """The index vector that an instruction with this token has read; None without data."""
        sequence, _, pending = token
        if pending is None:
            return None
        index: NDArray[np.int64] = pending.index
        if self.indices is not None:
            self.indices.append((sequence, tuple(index.tolist())))
        return index

    def started(self, unit: Unit, run: SiteRun, row: int, batch: Batch, issued: int, start: int) -> Any:
        """An instruction that was dispatched at `issued` starts now; what is returned comes back with its completion."""
        sequence = batch.base + row
        if self.times is not None:
            self.times[unit.code].starts.append(start)
        pending = None
        if self.data is not None and not run.site.sync_only:
            pending = self.data.start(self.core, batch.stream, row)
        event = None
        if self.trace is not None:
            rows = batch.stream.rows
            event = (
                run.site,
                sequence,
                issued,
                start,
                unit.signals if run.waits else (),
                rows.gm_rows[row] * rows.gm_row_bytes[row],
            )
        return (sequence, event, pending)

    def completes(self, unit: Unit, token: Any, occupied_until: int, done: int) -> None:
        """The completion of a started instruction is known."""
        sequence, event, pending = token
        if self.times is not None:
            self.times[unit.code].completions.append(done)
        if self.calendar is not None and pending is not None:
            self.calendar.add(done, (self.core, unit.code, sequence), pending)
        if self.trace is not None:
            site, _, issued, start, waits, nbytes = event
            times = (issued, start, occupied_until, done)
            self.trace.append(TraceEvent(self.core, sequence, unit.name, site.pc, site.insn.op, *times, waits, nbytes))
