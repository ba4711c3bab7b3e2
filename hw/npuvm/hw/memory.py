"""The memory system that all cores share: L2 slices and HBM channels as servers, busy until a cycle, first come first served.

docs/timing-model.md, section Memory, is the contract. Requests of one cycle are served when everything else of that cycle has
happened, in the order of (core, unit, sequence number); a request's completion is fixed when it is served. Rates are
rationals; each server counts in fractions of a cycle so small that every transfer takes a whole number of them, and so no
remainder is ever lost.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Protocol

from npuvm.hw.clock import Clock
from npuvm.hw.l2 import L2State

if TYPE_CHECKING:
    from npuvm.hw.chunks import Chunk

__all__ = ["DmaPort", "MemoryParams", "MemorySystem", "MemoryTraffic", "Transfer"]


class Owner(Protocol):
    """Whose transfers run through a port; is told when one's last request is served."""

    def issued(self, transfer: Transfer, free: int, done: int) -> None: ...


@dataclass(frozen=True)
class MemoryParams:
    """Numbers of a chip's memory; rates in bytes a core cycle for all slices or channels together, latencies in cycles."""

    l2_rate: Fraction
    l2_latency: int
    slices: int
    hbm_rate: Fraction
    hbm_latency: int
    channels: int
    interleave_bytes: int


@dataclass
class MemoryTraffic:
    """What crosses between L2 and HBM in one launch, in bytes, and what of it no replacement could have avoided.

    `compulsory_reads`: reads of lines that were not in L2 at launch and that nobody had touched. `streamed_writes`: bytes that
    went past L2. `first_writes`: lines that became dirty without having been evicted before. `dirty_at_launch`: lines that
    were dirty when it began.
    """

    hbm_read: int = 0
    hbm_write: int = 0
    compulsory_reads: int = 0
    streamed_writes: int = 0
    dirty_at_launch: int = 0
    first_writes: int = 0


class DmaPort:
    """The port of one DMA engine: at most `outstanding` requests in flight; it counts time in 1/`units` cycle."""

    __slots__ = ("core", "issue", "outstanding", "owner", "transfer", "unit", "units")

    def __init__(self, core: int, unit: int, owner: Owner, units: int, outstanding: int) -> None:
        self.core = core
        self.unit = unit
        self.owner = owner
        self.units = units
        self.outstanding = outstanding
        self.transfer: Transfer | None = None
        self.issue: Iterator[int] | None = None


class Transfer:
    """A DMA instruction whose requests are to be issued: chunks from `address` on, rows `pitch` bytes apart.

    It starts in cycle `start` and its issue takes `startup` cycles. `stalled` counts cycles in which the port was free and a
    request had to wait for a place in flight. `subject` belongs to the owner.
    """

    __slots__ = ("address", "chunks", "pitch", "stalled", "start", "startup", "streaming", "subject", "write")

    def __init__(
        self,
        chunks: tuple[Chunk, ...],
        address: int,
        pitch: int,
        write: bool,
        streaming: bool,
        start: int,
        startup: int,
        subject: object,
    ) -> None:
        self.chunks = chunks
        self.address = address
        self.pitch = pitch
        self.write = write
        self.streaming = streaming
        self.start = start
        self.startup = startup
        self.subject = subject
        self.stalled = 0


class MemorySystem:
    """L2 and HBM during one launch; `l2` outlives it. `l2_hit` counts the bytes that L2 served, `requests` all requests."""

    def __init__(self, clock: Clock, params: MemoryParams, l2: L2State) -> None:
        self.clock = clock
        self.l2 = l2
        self.traffic = MemoryTraffic(dirty_at_launch=l2.dirty)
        self.l2_hit = self.requests = 0
        clock.serve = self._serve
        self._requests = clock.requests
        slice_rate = params.l2_rate / params.slices
        channel_rate = params.hbm_rate / params.channels
        # A server with rate p/q counts in units of 1/p cycle: a byte then takes q units.
        self._slice_units, self._slice_byte = slice_rate.numerator, slice_rate.denominator
        self._channel_units, self._channel_byte = channel_rate.numerator, channel_rate.denominator
        self._hit_latency = params.l2_latency
        self._miss_latency = params.l2_latency + params.hbm_latency
        self._lines_per_block = params.interleave_bytes // l2.line_bytes
        self._slices = [0] * params.slices
        self._channels = [0] * params.channels
        self._line_time = l2.line_bytes * self._channel_byte
        # Lines that were evicted or streamed in this launch: reading or writing them again is not compulsory.
        self._gone: set[int] = set()

    def begin(self, port: DmaPort, transfer: Transfer) -> None:
        """Issue a transfer's requests, one at least, as the port and the places in flight allow.

        The owner's `issued` is called when the last one is served; not before that may the next transfer of the port begin.
        """
        port.transfer = transfer
        if port.issue is None:
            port.issue = self._issue(port)
        heappush(self._requests, (next(port.issue), port.core, port.unit, port.issue))

    def _serve(self) -> None:
        """Serve requests in order until one is not before the next event."""
        requests, events = self._requests, self.clock._queue
        while requests:
            cycle, core, unit, issue = requests[0]
            if events and events[0][0] <= cycle:
                return
            again = next(issue)
            if again >= 0:
                heapreplace(requests, (again, core, unit, issue))
            else:
                heappop(requests)

    def _issue(self, port: DmaPort) -> Generator[int, None, None]:
        """Life of a port: give the cycle of the next request, and when resumed serve it; -1 after the last of a transfer.

        `places` holds when each place in flight is vacant again. They are taken in turn, as requests are done in order.
        """
        lines, line_bytes = self.l2.lines, self.l2.line_bytes
        slices, n_slices, slice_units, slice_byte = self._slices, len(self._slices), self._slice_units, self._slice_byte
        units, hit_latency = port.units, self._hit_latency
        places, place = [0] * port.outstanding, 0
        busy = last_done = 0
        while True:
            transfer = port.transfer
            assert transfer is not None
            address, write, simple = transfer.address, transfer.write, not transfer.streaming
            busy = max(busy, transfer.start * units) + transfer.startup * units
            cycle = stalled = hit_bytes = 0
            for offset, rows, row_bytes, port_time in transfer.chunks:
                cycle = busy // units
                vacant = places[place]
                if vacant > cycle:
                    stalled += vacant - cycle
                    cycle = vacant
                    busy = vacant * units
                yield cycle
                at = address + offset
                line = at // line_bytes
                # One piece of a line that does not stream is the usual request; `_read` and `_write` do the same for all.
                if simple and rows == 1 and at + row_bytes <= (line + 1) * line_bytes:
                    held = lines.get(line)
                    if held is None and not write:
                        done = self._fetch(line, cycle)
                    else:
                        if write and not held:
                            self._make_dirty(line, held is None, cycle)
                        else:
                            lines.move_to_end(line)
                        hit_bytes += row_bytes
                        which = line % n_slices
                        arrival, end = cycle * slice_units, slices[which]
                        slices[which] = end = (end if end > arrival else arrival) + row_bytes * slice_byte
                        done = -(-end // slice_units) + hit_latency
                elif write:
                    done = self._write(at, rows, row_bytes, transfer.pitch, not simple, cycle)
                else:
                    done = self._read(at, rows, row_bytes, transfer.pitch, not simple, cycle)
                busy += port_time
                passed = -(-busy // units)
                if passed > done:
                    done = passed
                if done > last_done:
                    last_done = done
                places[place] = last_done
                place = place + 1 if place + 1 < len(places) else 0
            self.l2_hit += hit_bytes
            self.requests += len(transfer.chunks)
            transfer.stalled = stalled
            self.clock.advance(cycle)
            port.owner.issued(transfer, busy // units, last_done)
            yield -1

    def _read(self, start: int, rows: int, row_bytes: int, pitch: int, streaming: bool, now: int) -> int:
        """Serve a read; return the cycle by which its data is there."""
        lines, line_bytes, capacity = self.l2.lines, self.l2.line_bytes, self.l2.capacity
        slices, byte_time, arrival = self._slices, self._slice_byte, now * self._slice_units
        channels, line_time, called = self._channels, self._line_time, now * self._channel_units
        hit_end = miss_end = hit_bytes = missed = 0
        for at in range(start, start + rows * pitch, pitch) if rows > 1 and pitch else (start,) * rows:
            end = at + row_bytes
            line = at // line_bytes
            while at < end:
                border = (line + 1) * line_bytes
                if line in lines:
                    lines.move_to_end(line)
                    nbytes = (border if border < end else end) - at
                    hit_bytes += nbytes
                    which = line % len(slices)
                    busy = slices[which]
                    slices[which] = busy = (busy if busy > arrival else arrival) + nbytes * byte_time
                    if busy > hit_end:
                        hit_end = busy
                else:
                    if line not in self._gone:
                        self.traffic.compulsory_reads += line_bytes
                    if streaming:
                        self._gone.add(line)
                    else:
                        if len(lines) >= capacity:
                            self._evict(now)
                        lines[line] = False
                    missed += 1
                    which = line // self._lines_per_block % len(channels)
                    busy = channels[which]
                    channels[which] = busy = (busy if busy > called else called) + line_time
                    if busy > miss_end:
                        miss_end = busy
                at = border
                line += 1
        self.l2_hit += hit_bytes
        self.traffic.hbm_read += missed * line_bytes
        return self._completion(hit_end, miss_end)

    def _write(self, start: int, rows: int, row_bytes: int, pitch: int, streaming: bool, now: int) -> int:
        """Serve a write; return the cycle by which every core sees it."""
        lines, line_bytes = self.l2.lines, self.l2.line_bytes
        slices, byte_time, arrival = self._slices, self._slice_byte, now * self._slice_units
        hit_end = miss_end = hit_bytes = 0
        for at in range(start, start + rows * pitch, pitch) if rows > 1 and pitch else (start,) * rows:
            end = at + row_bytes
            line = at // line_bytes
            while at < end:
                border = (line + 1) * line_bytes
                nbytes = (border if border < end else end) - at
                held = lines.get(line)
                if held is None and streaming:
                    self.traffic.streamed_writes += nbytes
                    miss_end = max(miss_end, self._write_past(line, nbytes, now))
                else:
                    if held:
                        lines.move_to_end(line)
                    else:
                        self._make_dirty(line, held is None, now)
                    hit_bytes += nbytes
                    which = line % len(slices)
                    busy = slices[which]
                    slices[which] = busy = (busy if busy > arrival else arrival) + nbytes * byte_time
                    if busy > hit_end:
                        hit_end = busy
                at = border
                line += 1
        self.l2_hit += hit_bytes
        return self._completion(hit_end, miss_end)

    def _completion(self, hit_end: int, miss_end: int) -> int:
        """The later of the slices' and the channels' last byte (0 for none), each with its latency, in whole cycles."""
        done = -(-hit_end // self._slice_units) + self._hit_latency if hit_end else 0
        if miss_end:
            missed = -(-miss_end // self._channel_units) + self._miss_latency
            return missed if missed > done else done
        return done

    def _make_dirty(self, line: int, is_new: bool, now: int) -> None:
        """A write makes a clean or new line the only current copy. A new line is not fetched: L2 keeps byte masks."""
        lines = self.l2.lines
        if is_new and len(lines) >= self.l2.capacity:
            self._evict(now)
        self.l2.dirty += 1
        if line not in self._gone:
            self.traffic.first_writes += 1
        lines[line] = True
        if not is_new:
            lines.move_to_end(line)

    def _evict(self, now: int) -> None:
        """Drop the least recently used line; a dirty one is written to HBM behind what waits there."""
        victim, dirty = self.l2.lines.popitem(last=False)
        self._gone.add(victim)
        if dirty:
            self.l2.dirty -= 1
            self._write_past(victim, self.l2.line_bytes, now)

    def _fetch(self, line: int, now: int) -> int:
        """Read a line that is not in L2; return the cycle by which it is there."""
        lines, channels, units = self.l2.lines, self._channels, self._channel_units
        if line not in self._gone:
            self.traffic.compulsory_reads += self.l2.line_bytes
        if len(lines) >= self.l2.capacity:
            self._evict(now)
        lines[line] = False
        self.traffic.hbm_read += self.l2.line_bytes
        which = line // self._lines_per_block % len(channels)
        busy, called = channels[which], now * units
        channels[which] = busy = (busy if busy > called else called) + self._line_time
        return -(-busy // units) + self._miss_latency

    def _write_past(self, line: int, nbytes: int, now: int) -> int:
        """Write to HBM, past L2 or out of it; return when its channel is done, in channel units."""
        self.traffic.hbm_write += nbytes
        channels = self._channels
        which = line // self._lines_per_block % len(channels)
        busy, called = channels[which], now * self._channel_units
        channels[which] = busy = (busy if busy > called else called) + nbytes * self._channel_byte
        return busy
