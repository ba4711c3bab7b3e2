"""The front stage against the simpy sequencer: the same launch on both, with the same durations, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.engine.observe import TraceEvent
from npuvm.hw.errors import RtlError
from npuvm.hw.expansion.expand import expansions_of
from npuvm.hw.expansion.stream import Regions, ScalarLoad, Stream
from npuvm.hw.rtl.front_files import UNITS, Dispatch, FrontRun, FrontTrace, Start
from npuvm.hw.simulator import simulate
from npuvm.isa.image import Image
from npuvm.isa.model import Isa

__all__ = ["Expected", "Launch", "differences", "expect"]

Column: TypeAlias = npt.NDArray[np.int64]

Draw: TypeAlias = Callable[[int], tuple[Column, Column]]
"""Number of instructions -> occupancy, at least 1, and latency of each."""


@dataclass(frozen=True)
class Launch:
    """A launch on a chip, without data: `scalars` are per core the values of its scalar loads."""

    name: str
    chip: NpuConfig
    image: Image
    addresses: Sequence[int] = ()
    scalars: Sequence[Sequence[int]] = ()

    @property
    def group_cores(self) -> int:
        """Cores of a group that take part."""
        order = self.chip.group_core_types
        kinds = {entry.core_type for entry in self.image.entries}
        return len(order) if len(kinds) > 1 else sum(kind in kinds for kind in order)


@dataclass(frozen=True)
class Expected:
    """What the simpy model makes of a launch, in the form of the bench, and the same launch for the bench."""

    launch: Launch
    run: FrontRun
    traces: tuple[FrontTrace, ...]

    @property
    def dispatches(self) -> int:
        """Instructions that all cores dispatch."""
        return sum(len(trace.dispatches) for trace in self.traces)


def expect(launch: Launch, isa: Isa, draw: Draw | None = None) -> Expected:
    """Simulate a launch without data; units take what `draw` says, or, without it, what they take on the chip.

    In both cases the bench is given the durations that the simulation had.
    """
    streams, loads = _expansion(launch, isa)
    drawn: dict[int, tuple[Column, Column]] = {}
    if draw is not None:
        for core, of_core in enumerate(streams):
            drawn[core] = draw(sum(len(stream) for stream in of_core))
    result = simulate(
        launch.chip,
        isa,
        launch.image,
        addresses=launch.addresses,
        data=False,
        registers=launch.scalars,
        trace=True,
        durations=_in_order(drawn) if draw is not None else None,
    )
    traces = []
    times: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for core, of_core in enumerate(streams):
        events = sorted((event for event in result.trace if event.core == core), key=lambda event: event.sequence)
        trace = FrontTrace(finished=result.cores[core].cycles, scalars=[(-1, address) for address in loads[core]])
        for dispatch, event in zip(_dispatches(of_core), events, strict=True):
            trace.dispatches.append(_at(dispatch, event))
            start = Start(event.pc, event.start, event.occupied_until, event.complete)
            trace.starts.setdefault(dispatch.unit, []).append(start)
            times.setdefault((core, dispatch.unit), []).append(
                (start.occupied_until - start.start, start.done - start.occupied_until)
            )
        traces.append(trace)
    words = launch.image.relocate(launch.addresses)
    limit = 2 * result.cycles + 1000
    run = FrontRun(words, launch.image.entries, times, launch.scalars, limit)
    return Expected(launch, run, tuple(traces))


def differences(expected: Expected, found: Sequence[FrontTrace]) -> list[str]:
    """Where the bench differs from the simpy model, the first difference of each kind and core; empty when nowhere."""
    result = []
    for core, (mine, other) in enumerate(zip(expected.traces, found, strict=True)):
        if other.stopped is not None:
            cycle, fault, pc = other.stopped
            result.append(f"core {core}: fault {fault} at word {pc} in cycle {cycle}")
        result += _first("dispatch", core, mine.dispatches, other.dispatches)
        for unit in range(1, UNITS + 1):
            result += _first(f"start on unit {unit}", core, mine.starts.get(unit, []), other.starts.get(unit, []))
        addresses = [address for _, address in other.scalars]
        result += _first("scalar load", core, [address for _, address in mine.scalars], addresses)
        if mine.finished != other.finished:
            result.append(f"core {core}: halted in cycle {mine.finished}, hardware in {other.finished}")
    return [f"{expected.launch.name}: {text}" for text in result]


def _first(what: str, core: int, mine: Sequence[object], other: Sequence[object]) -> Iterator[str]:
    for index, (a, b) in enumerate(zip(mine, other, strict=False)):
        if a != b:
            yield f"core {core}: {what} {index} is {a}, in hardware {b}"
            return
    if len(mine) != len(other):
        yield f"core {core}: {len(mine)} x {what}, in hardware {len(other)}"


def _expansion(launch: Launch, isa: Isa) -> tuple[list[list[Stream]], list[list[int]]]:
    """Per core the streams that it dispatches and the addresses of its scalar loads."""
    regions = expansions_of(isa, launch.image, launch.chip).launch(launch.image.entries, launch.addresses)
    walked = [
        _walk(of_core, launch.scalars[core] if core < len(launch.scalars) else ())
        for core, of_core in enumerate(regions)
    ]
    return [streams for streams, _ in walked], [loads for _, loads in walked]


def _walk(regions: Regions, scalars: Sequence[int]) -> tuple[list[Stream], list[int]]:
    streams: list[Stream] = []
    loads: list[int] = []
    value: int | None = None
    while True:
        try:
            region = regions.send(value) if value is not None else next(regions)
        except StopIteration:
            return streams, loads
        value = None
        if isinstance(region, Stream):
            streams.append(region)
        elif isinstance(region, ScalarLoad):
            if len(loads) == len(scalars):
                raise RtlError(f"the scalar load at word {region.pc} needs a value; {len(scalars)} are given")
            value = scalars[len(loads)]
            loads.append(region.addr)


def _dispatches(streams: Sequence[Stream]) -> Iterator[Dispatch]:
    """The instructions of a core in order, without their cycles."""
    for stream in streams:
        sites = stream.rows.site
        for row, site in enumerate(sites):
            of_site = stream.sites[site]
            yield Dispatch(
                -1,
                of_site.pc,
                of_site.unit,
                tuple(stream.addr_rows[row]),
                tuple(stream.size_rows[row]),
                (stream.origin_rows[row][0], stream.origin_rows[row][1]),
            )


def _at(dispatch: Dispatch, event: TraceEvent) -> Dispatch:
    return Dispatch(event.dispatched, dispatch.pc, dispatch.unit, dispatch.addresses, dispatch.sizes, dispatch.origin)


def _in_order(drawn: dict[int, tuple[Column, Column]]) -> Callable[[int, Stream], tuple[Column, Column]]:
    """Hands out a core's durations stream by stream."""
    used = dict.fromkeys(drawn, 0)

    def durations(core: int, stream: Stream) -> tuple[Column, Column]:
        first = used[core]
        used[core] = last = first + len(stream)
        occupancy, latency = drawn[core]
        return occupancy[first:last], latency[first:last]

    return durations
