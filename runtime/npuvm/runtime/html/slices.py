"""From the trace of a launch to the timeline that a page shows: whole rows as far as a limit goes, counters over everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.engine.observe import TraceEvent
from npuvm.hw.launch import core_groups
from npuvm.hw.results.timeline import spread
from npuvm.isa import decode_at, format_insn
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.html.inputs import LaunchTimeline, Slice

__all__ = ["COUNTER_STEPS", "timeline_of"]

COUNTER_STEPS = 240
"""Steps of the counters over a launch, at most."""

_MAX_ROWS = 24

Floats = NDArray[np.float64]


def timeline_of(record: LaunchRecord, launch: int, limit: int) -> LaunchTimeline:
    """The timeline of a launch that was simulated with a trace, the one of number `launch`, with at most `limit` instructions.

    Shown are the core group that ends last, then the first group, then the others in order, while rows and instructions
    allow. When not even one group fits, its instructions up to a cycle are shown.
    """
    result = record.result
    by_core: dict[int, list[TraceEvent]] = defaultdict(list)
    for event in result.trace:
        by_core[event.core].append(event)
    cores = _shown_cores(record, by_core, limit)
    events = sorted((e for core in cores for e in by_core[core]), key=lambda e: (e.start, e.core, e.sequence))
    cut_at = events[limit].start if len(events) > limit else None
    rows = _rows(record, cores, events)
    texts, slices = _slices(record, rows, [e for e in events if cut_at is None or e.start < cut_at])
    step = max(1, -(-result.cycles // COUNTER_STEPS))
    busy, moved = _counters(record, step)
    return LaunchTimeline(
        launch=launch,
        cycles=result.cycles,
        cores=len(result.cores),
        rows=rows,
        texts=texts,
        slices=slices,
        instructions=len(result.trace),
        cut_at=cut_at,
        step=step,
        busy=busy,
        moved=moved,
    )


def _shown_cores(record: LaunchRecord, by_core: Mapping[int, Sequence[TraceEvent]], limit: int) -> list[int]:
    """Cores to show, in order of their numbers: group by group, the one that ends last first."""
    groups: dict[int, list[int]] = defaultdict(list)
    for core, group in enumerate(core_groups(record.chip, record.image)):
        groups[group].append(core)
    halts = [core.cycles for core in record.result.cores]
    last = max(groups, key=lambda group: max(halts[core] for core in groups[group]))
    shown: list[int] = []
    events = rows = 0
    for group in dict.fromkeys([last, *groups]):
        events += sum(len(by_core.get(core, ())) for core in groups[group])
        rows += sum(len({event.unit for event in by_core.get(core, ())}) for core in groups[group])
        if shown and (events > limit or rows > _MAX_ROWS):
            break
        shown += groups[group]
    return sorted(shown)


def _rows(record: LaunchRecord, cores: Sequence[int], events: Sequence[TraceEvent]) -> tuple[tuple[int, str, str], ...]:
    """(core, its type, unit) of every unit that has an instruction, in the order of the instruction set's unit codes."""
    used = {(event.core, event.unit) for event in events}
    order = sorted(record.isa.units, key=lambda unit: record.isa.units[unit])
    types = [core.core_type for core in record.result.cores]
    return tuple((core, types[core], unit) for core in cores for unit in order if (core, unit) in used)


def _slices(
    record: LaunchRecord, rows: Sequence[tuple[int, str, str]], events: Sequence[TraceEvent]
) -> tuple[tuple[str, ...], tuple[Slice, ...]]:
    """The disassembly of what is shown, each text once, and a slice for each event."""
    row_of = {(core, unit): index for index, (core, _, unit) in enumerate(rows)}
    free = [0] * len(rows)
    words = record.image.words.tolist()
    texts = {pc: index for index, pc in enumerate(dict.fromkeys(event.pc for event in events))}
    slices = []
    for event in events:
        row = row_of[event.core, event.unit]
        slices.append(
            Slice(
                row=row,
                text=texts[event.pc],
                free=free[row],
                dispatched=event.dispatched,
                ready=max((visible for _, visible in event.waits), default=0),
                start=event.start,
                until=event.occupied_until,
                complete=event.complete,
                nbytes=event.nbytes,
            )
        )
        free[row] = event.occupied_until
    return tuple(format_insn(record.isa, decode_at(record.isa, words, pc)[0]) for pc in texts), tuple(slices)


def _counters(record: LaunchRecord, step: int) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """Share of busy cycles by unit, and bytes per cycle to and from global memory by unit, for each step of the launch."""
    result = record.result
    edges = np.arange(0, result.cycles + step, step, dtype=np.int64)
    by_unit: dict[str, list[TraceEvent]] = defaultdict(list)
    for event in result.trace:
        by_unit[event.unit].append(event)
    busy, moved = {}, {}
    for unit in sorted(by_unit, key=lambda name: record.isa.units[name]):
        events = by_unit[unit]
        instances = sum(unit in core.units for core in result.cores)
        start = np.array([e.start for e in events])
        until = np.array([e.occupied_until for e in events])
        cycles = spread(start, until, until - start, edges)
        busy[unit] = _rounded(cycles / (np.diff(np.minimum(edges, result.cycles)) * instances))
        nbytes = np.array([e.nbytes for e in events])
        if nbytes.any():
            total = spread(start, np.array([e.complete for e in events]), nbytes, edges)
            moved[unit] = _rounded(total / step)
    return busy, moved


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
