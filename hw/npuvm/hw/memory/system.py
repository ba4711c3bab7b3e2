"""The memory system that all cores share: L2 slices as servers, busy until a cycle, first come first served, before HBM.

docs/timing-model.md, section Memory, is the contract. Requests of one cycle are served when everything else of that cycle has
happened, in the order of (core, unit, sequence number); a request's completion is fixed when it is served. Rates are
rationals; each server counts in fractions of a cycle so small that every transfer takes a whole number of them, and so no
remainder is ever lost.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Protocol

from npuvm.hw.engine.clock import Clock
from npuvm.hw.memory.dram import Channels, HbmParams, mix
from npuvm.hw.memory.l2 import L2State

if TYPE_CHECKING:
    from npuvm.hw.memory.chunks import Chunk

__all__ = ["DmaPort", "MemoryParams", "MemorySystem", "MemoryTraffic", "Transfer"]

BLOCK_BYTES = 32
"""A read that begins and ends at multiples of this is aligned."""


class Owner(Protocol):
    """Whose transfers run through a port; is told when one's last request is served."""

    def issued(self, transfer: Transfer, free: int, done: int) -> None: ...


@dataclass(frozen=True)
class MemoryParams:
    """Numbers of a chip's memory; `l2_rate` in bytes a core cycle for all slices together, latencies in cycles.

    `access_bytes`: an access to a line occupies its slice for so many bytes at least. `same_line_cycles`: so far apart are
    accesses of different cores to a line. `sector_bytes`: what a streaming read past L2 fetches at least, a whole line when 0.
    `uncached`: unaligned reads go past L2. `hashed`: slices and channels are picked by a hash of the address.
    """

    l2_rate: Fraction
    l2_latency: int
    slices: int
    hbm: HbmParams
    access_bytes: int = 1
    same_line_cycles: int = 0
    sector_bytes: int = 0
    uncached: bool = False
    hashed: bool = False


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
    """The port of one DMA engine: at most `outstanding` requests in flight; it counts time in 1/`units` cycle.

    `kept` is the last line, or sector of a line, that the transfer of now got past L2, -1 for none, and `kept_done` when it was
    there.
    """

    __slots__ = ("core", "issue", "kept", "kept_done", "outstanding", "owner", "transfer", "unit", "units")

    def __init__(self, core: int, unit: int, owner: Owner, units: int, outstanding: int) -> None:
        self.core = core
        self.unit = unit
        self.owner = owner
        self.units = units
        self.outstanding = outstanding
        self.transfer: Transfer | None = None
        self.issue: Iterator[int] | None = None
        self.kept = -1
        self.kept_done = 0


class Transfer:
    """A DMA instruction whose requests are to be issued: chunks from `address` on, rows `pitch` bytes apart.

    With `starts` row i begins there instead, and `pitch` is what chunks count between rows. It starts in cycle `start` and its
    issue takes `startup` cycles. `stalled` counts cycles in which the port was free and a request had to wait for a place in
    flight. `subject` belongs to the owner.
    """

    __slots__ = ("address", "chunks", "pitch", "stalled", "start", "starts", "startup", "streaming", "subject", "write")

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
        starts: Sequence[int] | None = None,
    ) -> None:
        self.chunks = chunks
        self.address = address
        self.pitch = pitch
        self.write = write
        self.streaming = streaming
        self.start = start
        self.startup = startup
        self.subject = subject
        self.starts = starts
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
        self._channels = Channels(params.hbm, l2.line_bytes, params.hashed)
        slice_rate = params.l2_rate / params.slices
        # A server with rate p/q counts in units of 1/p cycle: a byte then takes q units.
        self._slice_units, self._slice_byte = slice_rate.numerator, slice_rate.denominator
        self._hit_latency = params.l2_latency
        self._fill_latency = params.hbm.latency
        self._slices = [0] * params.slices
        self._hashed = params.hashed
        self._access = params.access_bytes
        self._same_line = params.same_line_cycles
        self._uncached = params.uncached
        self._sector = params.sector_bytes or l2.line_bytes
        # When the data of a line fetched in this launch are there, and with `_same_line` when and by whom it was used last.
        self._ready: dict[int, int] = {}
        self._last: dict[int, int] = {}
        # Lines that were evicted or streamed in this launch: reading or writing them again is not compulsory.
        self._gone: set[int] = set()

    def begin(self, port: DmaPort, transfer: Transfer) -> None:
        """Issue a transfer's requests, one at least, as the port and the places in flight allow.

        The owner's `issued` is called when the last one is served; not before that may the next transfer of the port begin.
        """
        port.transfer = transfer
        port.kept = -1
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
        lines, line_bytes, hit = self.l2.lines, self.l2.line_bytes, self._hit
        units, core = port.units, port.core
        places, place = [0] * port.outstanding, 0
        busy = last_done = 0
        while True:
            transfer = port.transfer
            assert transfer is not None
            address, write, starts = transfer.address, transfer.write, transfer.starts
            simple = not transfer.streaming and (write or not self._uncached)
            busy = max(busy, transfer.start * units) + transfer.startup * units
            cycle = stalled = 0
            for offset, rows, row_bytes, port_time in transfer.chunks:
                cycle = busy // units
                vacant = places[place]
                if vacant > cycle:
                    stalled += vacant - cycle
                    cycle = vacant
                    busy = vacant * units
                yield cycle
                at = address + offset if starts is None else starts[offset // transfer.pitch] + offset % transfer.pitch
                line = at // line_bytes
                # One piece of a line that does not stream is the usual request; `_read` and `_write` do the same for all.
                if simple and rows == 1 and at + row_bytes <= (line + 1) * line_bytes:
                    held = lines.get(line)
                    if held is None and not write:
                        done = self._fetch(line, cycle, core)
                    else:
                        if write and not held:
                            self._make_dirty(line, held is None, cycle)
                        else:
                            lines.move_to_end(line)
                        done = hit(line, row_bytes, cycle, core)
                elif write:
                    done = self._write(port, transfer, _row_starts(transfer, offset, at, rows), row_bytes, cycle)
                else:
                    done = self._read(port, transfer, _row_starts(transfer, offset, at, rows), row_bytes, cycle)
                busy += port_time
                passed = -(-busy // units)
                if passed > done:
                    done = passed
                if done > last_done:
                    last_done = done
                places[place] = last_done
                place = place + 1 if place + 1 < len(places) else 0
            self.requests += len(transfer.chunks)
            transfer.stalled = stalled
            self.clock.advance(cycle)
            port.owner.issued(transfer, busy // units, last_done)
            yield -1

    def _read(self, port: DmaPort, transfer: Transfer, rows: Iterable[int], row_bytes: int, now: int) -> int:
        """Serve a read of rows that begin there; return the cycle by which its data is there."""
        lines, line_bytes, core = self.l2.lines, self.l2.line_bytes, port.core
        done = 0
        for at in rows:
            end = at + row_bytes
            line = at // line_bytes
            while at < end:
                border = (line + 1) * line_bytes
                stop = border if border < end else end
                held = lines.get(line)
                unaligned = self._uncached and (at % BLOCK_BYTES or stop % BLOCK_BYTES)
                if (unaligned and not held) or (held is None and transfer.streaming):
                    grain = self._sector if transfer.streaming else line_bytes
                    first, last = at // grain, (stop - 1) // grain
                    if first == port.kept:
                        first += 1
                    if first <= last:
                        nbytes = (last - first + 1) * grain
                        port.kept_done = self._read_past(line, nbytes, now, core, held is None)
                        port.kept = last
                    there = port.kept_done
                elif held is not None:
                    lines.move_to_end(line)
                    there = self._hit(line, stop - at, now, core)
                else:
                    there = self._fetch(line, now, core)
                if there > done:
                    done = there
                at = border
                line += 1
        return done

    def _write(self, port: DmaPort, transfer: Transfer, rows: Iterable[int], row_bytes: int, now: int) -> int:
        """Serve a write of rows that begin there; return the cycle by which every core sees it."""
        lines, line_bytes, core = self.l2.lines, self.l2.line_bytes, port.core
        done = 0
        for at in rows:
            end = at + row_bytes
            line = at // line_bytes
            while at < end:
                border = (line + 1) * line_bytes
                nbytes = (border if border < end else end) - at
                held = lines.get(line)
                if held is None and transfer.streaming:
                    self.traffic.streamed_writes += nbytes
                    there = self._write_past(line, nbytes, now, core) + self._fill_latency + self._hit_latency
                else:
                    if held:
                        lines.move_to_end(line)
                    else:
                        self._make_dirty(line, held is None, now)
                    there = self._hit(line, nbytes, now, core)
                if there > done:
                    done = there
                at = border
                line += 1
        return done

    def _hit(self, line: int, nbytes: int, now: int, core: int) -> int:
        """Serve some bytes of a line that is in L2, or is made by a write; return the cycle by which that is done."""
        self.l2_hit += nbytes
        slices, units = self._slices, self._slice_units
        which = (mix(line) if self._hashed else line) % len(slices)
        end, called = slices[which], now * units
        if called > end:
            end = called
        slices[which] = end = end + (nbytes if nbytes > self._access else self._access) * self._slice_byte
        served = -(-end // units)
        ready = self._ready.get(line, 0)
        if self._same_line:
            if self._last.get(line, core) != core:
                ready += self._same_line
            self._last[line] = core
            self._ready[line] = served = served if served > ready else ready
        elif ready > served:
            served = ready
        return served + self._hit_latency

    def _make_dirty(self, line: int, is_new: bool, now: int) -> None:
        """A write makes a clean or new line the only current copy. A new line is not fetched: L2 keeps byte masks."""
        lines = self.l2.lines
        if is_new and len(lines) >= self.l2.capacity:
            self._ready[line] = self._evict(now)
        self.l2.dirty += 1
        if line not in self._gone:
            self.traffic.first_writes += 1
        lines[line] = True
        if not is_new:
            lines.move_to_end(line)

    def _evict(self, now: int) -> int:
        """Drop the least recently used line; a dirty one is written to HBM. Return the cycle from which its place is free."""
        victim, dirty = self.l2.lines.popitem(last=False)
        self._gone.add(victim)
        self._ready.pop(victim, None)
        self._last.pop(victim, None)
        if dirty:
            self.l2.dirty -= 1
            return self._write_past(victim, self.l2.line_bytes, now, None)
        return now

    def _fetch(self, line: int, now: int, core: int) -> int:
        """Read a line that is not in L2 into it; return the cycle by which it is at the port."""
        lines = self.l2.lines
        if line not in self._gone:
            self.traffic.compulsory_reads += self.l2.line_bytes
        room = self._evict(now) if len(lines) >= self.l2.capacity else now
        lines[line] = False
        self.traffic.hbm_read += self.l2.line_bytes
        fetched = self._channels.read(line, self.l2.line_bytes, now, core)
        self._ready[line] = ready = (fetched if fetched > room else room) + self._fill_latency
        if self._same_line:
            self._last[line] = core
        return ready + self._hit_latency

    def _read_past(self, line: int, nbytes: int, now: int, core: int, absent: bool) -> int:
        """Read of a line from HBM past L2, in which it is not when `absent`; return the cycle by which that is at the port."""
        if absent and line not in self._gone:
            self.traffic.compulsory_reads += nbytes
            self._gone.add(line)
        self.traffic.hbm_read += nbytes
        return self._channels.read(line, nbytes, now, core) + self._fill_latency + self._hit_latency

    def _write_past(self, line: int, nbytes: int, now: int, core: int | None) -> int:
        """Write to HBM, past L2 for a core or out of it; return when its channel is done."""
        self.traffic.hbm_write += nbytes
        return self._channels.write(line, nbytes, now, core)


def _row_starts(transfer: Transfer, offset: int, start: int, rows: int) -> Iterable[int]:
    """Where the rows of a request begin, the first at `start`; with a pitch of 0 it is the same row again and again."""
    pitch = transfer.pitch
    if transfer.starts is not None:
        return transfer.starts[offset // pitch : offset // pitch + rows] if rows > 1 else (start,)
    return range(start, start + rows * pitch, pitch) if pitch else (start,) * rows
