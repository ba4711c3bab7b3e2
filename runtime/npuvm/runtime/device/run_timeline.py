"""When launches and transfers happen: a discrete-event model of hosts, streams, link and chip (docs/timing-model.md, host)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import simpy

from npuvm.hw.config import NpuConfig
from npuvm.hw.link import HostLink
from npuvm.runtime.device.operations import Operation, Ranges, TransferTotals

__all__ = ["RunCalls", "RunTimeline", "TimelineEntry", "run_timeline"]

_LANES = {"to_device": "link to the device", "launch": "chip", "to_host": "link to the host"}


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """A launch or a transfer in simulated microseconds: called in `issued_us`, and on the chip or the link from start to end.

    `host` is the number of the host thread that called it.
    """

    operation: Operation
    host: int
    issued_us: float
    start_us: float
    end_us: float


@dataclass(frozen=True)
class RunTimeline:
    """Launches and transfers in the order in which they started. `ends_us` is when each host thread had all of its own done."""

    entries: tuple[TimelineEntry, ...]
    ends_us: tuple[float, ...]

    @property
    def total_us(self) -> float:
        """When the last of all was done."""
        return max(self.ends_us, default=0.0)

    def busy_us(self, kind: str) -> float:
        """How long the chip ("launch"), or a direction of the link ("to_device", "to_host"), was occupied."""
        return sum(each.operation.us for each in self.entries if each.operation.kind == kind)

    def chrome_trace(self) -> dict[str, Any]:
        """In the Chrome trace event format, for Perfetto: a lane for the chip and one for each direction of the link."""
        lanes = list(_LANES)
        names: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "args": {"name": "run"}}]
        for number, lane in enumerate(lanes):
            names.append(
                {"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": _LANES[lane]}},
            )
        slices: list[dict[str, Any]] = [
            {
                "ph": "X",
                "name": each.operation.tag or each.operation.kind,
                "pid": 0,
                "tid": lanes.index(each.operation.kind),
                "ts": each.start_us,
                "dur": each.end_us - each.start_us,
                "args": {
                    "stream": each.operation.stream or "default",
                    "host": each.host,
                    "issued_us": each.issued_us,
                    **({"bytes": each.operation.nbytes} if each.operation.nbytes else {}),
                },
            }
            for each in self.entries
        ]
        return {"traceEvents": [*names, *slices], "displayTimeUnit": "ns"}


def run_timeline(chip: NpuConfig, *hosts: Sequence[Operation]) -> RunTimeline:
    """The times of operations; each sequence is what a host thread of its own calls, all threads begin at 0.

    The operations of a stream are done in order. Those of other streams of the same thread run beside them, unless one writes
    what an earlier one touches, or touches what an earlier one writes. The chip does one launch at a time and the link one
    transfer in each direction, as they become ready; where host and chip share memory, all of these take turns.
    """
    model = _Model(chip)
    threads = [model.env.process(model.thread(number, calls)) for number, calls in enumerate(hosts)]
    model.env.run()
    assert all(each.processed for each in threads)
    model.entries.sort(key=lambda each: (each.start_us, each.end_us))
    return RunTimeline(tuple(model.entries), tuple(model.ends_us[number] for number in range(len(hosts))))


@dataclass(frozen=True)
class RunCalls:
    """What one host thread asked of a device with this chip."""

    chip: NpuConfig
    operations: tuple[Operation, ...]

    @cached_property
    def timeline(self) -> RunTimeline:
        """When it happens, apart from uploads of what stays on the device."""
        return run_timeline(self.chip, [each for each in self.operations if not each.resident])

    @cached_property
    def transfers(self) -> TransferTotals:
        """Its transfers together."""
        return TransferTotals.of(self.chip, self.operations)


@dataclass(slots=True)
class _Called:
    """An operation that a thread has called, and its process."""

    operation: Operation
    done: simpy.Process


@dataclass(slots=True)
class _Thread:
    """What a host thread has called so far, by stream, as far as the host has not waited for it."""

    called: dict[str | None, list[_Called]] = field(default_factory=dict)

    def needed(self, operation: Operation) -> list[simpy.Event]:
        """What must be done before an operation: of each stream the last that it waits for, as a stream is in order."""
        found: list[simpy.Event] = []
        for stream, before in self.called.items():
            if stream == operation.stream:
                found += [each.done for each in before[-1:]]
            else:
                conflicts = (each.done for each in reversed(before) if _conflict(each.operation, operation))
                found += [done for done in (next(conflicts, None),) if done is not None]
        return found

    def last_of(self, stream: str | None) -> list[simpy.Event]:
        """The last of a stream, or of every stream for None."""
        wanted = self.called.values() if stream is None else [self.called.get(stream, [])]
        return [each.done for before in wanted for each in before[-1:]]

    def done(self, stream: str | None) -> None:
        """The host has waited for a stream, or for all."""
        if stream is None:
            self.called.clear()
        else:
            self.called.pop(stream, None)


class _Model:
    """Host threads call, each operation is a process that waits for its turn."""

    def __init__(self, chip: NpuConfig) -> None:
        self.env = simpy.Environment()
        self.entries: list[TimelineEntry] = []
        self.ends_us: dict[int, float] = {}
        self._launch_us = float(chip.host.launch_us)
        self._start_latency_us = float(chip.host.start_latency_us)
        link = HostLink.of(chip)
        self._latency_us = float(link.latency_us)
        cores = simpy.Resource(self.env)
        # Copies in the chip's own memory want all of its rate, so launches wait for them.
        self._servers = {kind: cores if link.shared else simpy.Resource(self.env) for kind in _LANES}

    def thread(self, number: int, calls: Sequence[Operation]) -> Generator[simpy.Event, Any, None]:
        """A host thread: it spends time on launches, and none on the call of a transfer."""
        thread = _Thread()
        for each in calls:
            if each.kind == "wait":
                yield self.env.all_of(thread.last_of(each.stream))
                thread.done(each.stream)
                continue
            if each.kind == "launch":
                yield self.env.timeout(self._launch_us)
            called = _Called(each, self.env.process(self._operation(each, number, thread.needed(each))))
            thread.called.setdefault(each.stream, []).append(called)
        yield self.env.all_of(thread.last_of(None))
        self.ends_us[number] = self.env.now

    def _operation(
        self, operation: Operation, host: int, needed: Sequence[simpy.Event]
    ) -> Generator[simpy.Event, Any, None]:
        issued = self.env.now
        yield self.env.all_of(needed)
        if operation.kind == "launch":
            # The doorbell travels while the stream is still busy.
            yield self.env.timeout(max(0.0, issued + self._start_latency_us - self.env.now))
        else:
            yield self.env.timeout(self._latency_us)
        with self._servers[operation.kind].request() as turn:
            yield turn
            start = self.env.now
            yield self.env.timeout(operation.us)
        self.entries.append(TimelineEntry(operation, host, issued, start, self.env.now))


def _conflict(before: Operation, after: Operation) -> bool:
    return (
        _overlap(before.writes, after.reads)
        or _overlap(before.writes, after.writes)
        or _overlap(before.reads, after.writes)
    )


def _overlap(some: Ranges, others: Ranges) -> bool:
    return any(a < b + size and b < a + nbytes for a, nbytes in some for b, size in others)
