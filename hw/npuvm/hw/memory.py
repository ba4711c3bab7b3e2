"""The memory system that all cores share: L2 slices and HBM channels as servers, busy until a cycle, first come first served.

docs/timing-model.md, section Memory, is the contract. Requests of one cycle are served when everything else of that cycle has
happened, in the order of (core, unit, sequence number); a request's completion is fixed when it is served. Rates are
rationals; each server counts in fractions of a cycle so small that every transfer takes a whole number of them, and so no
remainder is ever lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
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
    """Bytes of one launch. `compulsory_reads` and `written` feed the HBM bound (docs/timing-model.md, Bounds).

    `compulsory_reads`: reads of lines that were not in L2 at launch and that nobody had touched. `streamed_writes`: bytes that
    went past L2. `written`: lines that became dirty during the launch and had not been evicted in it. `dirty_at_launch`:
    lines dirty when it began.
    """

    l2_hit: int = 0
    hbm_read: int = 0
    hbm_write: int = 0
    compulsory_reads: int = 0
    streamed_writes: int = 0
    dirty_at_launch: int = 0
    written: set[int] = field(default_factory=set)


class DmaPort:
    """The port of one DMA engine: at most `outstanding` requests in flight, `busy` until a moment in 1/`units` cycle.

    Requests leave their place in order: `in_flight` holds when each is done, never earlier than the one before.
    """

    __slots__ = ("busy", "core", "in_flight", "last_done", "outstanding", "owner", "transfer", "unit", "units")

    def __init__(self, core: int, unit: int, owner: Owner, units: int, outstanding: int) -> None:
        self.core = core
        self.unit = unit
        self.owner = owner
        self.units = units
        self.outstanding = outstanding
        self.busy = 0
        self.last_done = 0
        self.in_flight: deque[int] = deque()
        self.transfer: Transfer | None = None


class Transfer:
    """A DMA instruction whose requests are being issued: chunks from `address` on, rows `pitch` bytes apart.

    `byte_units` and `row_units` are what a byte and the start of a row take in the port. `stalled` counts cycles in which the
    port was free and a request had to wait for a place in flight. `subject` belongs to the owner.
    """

    __slots__ = (
        "address",
        "byte_units",
        "chunks",
        "next",
        "pitch",
        "row_units",
        "stalled",
        "streaming",
        "subject",
        "write",
    )

    def __init__(
        self,
        chunks: tuple[Chunk, ...],
        address: int,
        pitch: int,
        write: bool,
        streaming: bool,
        byte_units: int,
        row_units: int,
        subject: object,
    ) -> None:
        self.chunks = chunks
        self.address = address
        self.pitch = pitch
        self.write = write
        self.streaming = streaming
        self.byte_units = byte_units
        self.row_units = row_units
        self.subject = subject
        self.next = 0
        self.stalled = 0


class MemorySystem:
    """L2 and HBM during one launch; `l2` outlives it."""

    def __init__(self, clock: Clock, params: MemoryParams, l2: L2State) -> None:
        self.clock = clock
        self.params = params
        self.l2 = l2
        self.traffic = MemoryTraffic(dirty_at_launch=l2.dirty)
        clock.serve = self._serve
        self._requests: list[tuple[int, int, int, DmaPort]] = clock.requests  # type: ignore[assignment] # ours alone
        slice_rate = params.l2_rate / params.slices
        channel_rate = params.hbm_rate / params.channels
        # A server with rate p/q counts in units of 1/p cycle: a byte then takes q units.
        self._slice_units, self._slice_byte = slice_rate.numerator, slice_rate.denominator
        self._channel_units, self._channel_byte = channel_rate.numerator, channel_rate.denominator
        self._slices = [0] * params.slices
        self._channels = [0] * params.channels
        self._fetched: set[int] = set()
        self._evicted: set[int] = set()

    def begin(self, port: DmaPort, transfer: Transfer, start: int) -> None:
        """Issue a transfer's requests from cycle `start` on, as the port and the places in flight allow.

        The owner's `issued` is called when the last one is served.
        """
        port.transfer = transfer
        at = start * port.units
        if at > port.busy:
            port.busy = at
        heappush(self._requests, (self._next_cycle(port, transfer), port.core, port.unit, port))

    @staticmethod
    def _next_cycle(port: DmaPort, transfer: Transfer) -> int:
        """When the next request can be issued: the port is free in that cycle, and a place is."""
        ready = port.busy // port.units
        in_flight = port.in_flight
        if len(in_flight) >= port.outstanding:
            at = in_flight.popleft()
            if at > ready:
                transfer.stalled += at - ready
                port.busy = at * port.units
                return at
        return ready

    def _serve(self) -> None:
        """Serve requests in order until one is not before the next event."""
        requests, clock = self._requests, self.clock
        events = clock._queue
        while requests:
            cycle, core, unit, port = requests[0]
            if events and events[0][0] <= cycle:
                return
            clock._now = cycle
            transfer = port.transfer
            assert transfer is not None
            chunk = transfer.chunks[transfer.next]
            offset, rows, row_bytes, port_bytes, row_starts = chunk
            access = self._write if transfer.write else self._read
            done = access(transfer.address + offset, rows, row_bytes, transfer.pitch, transfer.streaming, cycle)
            port.busy += port_bytes * transfer.byte_units + row_starts * transfer.row_units
            passed = -(-port.busy // port.units)
            if passed > done:
                done = passed
            if done < port.last_done:
                done = port.last_done
            else:
                port.last_done = done
            port.in_flight.append(done)
            transfer.next += 1
            if transfer.next < len(transfer.chunks):
                heapreplace(requests, (self._next_cycle(port, transfer), core, unit, port))
            else:
                heappop(requests)
                port.owner.issued(transfer, port.busy // port.units, done)

    def _read(self, start: int, rows: int, row_bytes: int, pitch: int, streaming: bool, now: int) -> int:
        """Serve a read; return the cycle by which its data is there."""
        line_bytes = self.l2.line_bytes
        lines = self.l2.lines
        slices, n_slices, byte_units = self._slices, len(self._slices), self._slice_byte
        arrival = now * self._slice_units
        hit_end = miss_end = hit_bytes = 0
        for row in range(rows):
            at = start + row * pitch
            end = at + row_bytes
            line = at // line_bytes
            border = (line + 1) * line_bytes
            while at < end:
                if line in lines:
                    lines.move_to_end(line)
                    nbytes = (border if border < end else end) - at
                    hit_bytes += nbytes
                    which = line % n_slices
                    busy = slices[which]
                    slices[which] = busy = (busy if busy > arrival else arrival) + nbytes * byte_units
                    if busy > hit_end:
                        hit_end = busy
                else:
                    fetched = self._fetch(line, now, streaming)
                    if fetched > miss_end:
                        miss_end = fetched
                at = border
                border += line_bytes
                line += 1
        self.traffic.l2_hit += hit_bytes
        return self._completion(hit_end, miss_end)

    def _write(self, start: int, rows: int, row_bytes: int, pitch: int, streaming: bool, now: int) -> int:
        """Serve a write; return the cycle by which every core sees it."""
        traffic, line_bytes = self.traffic, self.l2.line_bytes
        lines = self.l2.lines
        slices, n_slices, byte_units = self._slices, len(self._slices), self._slice_byte
        arrival = now * self._slice_units
        hit_end = miss_end = hit_bytes = 0
        for row in range(rows):
            at = start + row * pitch
            end = at + row_bytes
            line = at // line_bytes
            border = (line + 1) * line_bytes
            while at < end:
                nbytes = (border if border < end else end) - at
                held = lines.get(line)
                if held is None and streaming:
                    traffic.hbm_write += nbytes
                    traffic.streamed_writes += nbytes
                    miss_end = max(miss_end, self._channel(line, nbytes, now))
                else:
                    if held:
                        lines.move_to_end(line)
                    else:
                        self._make_dirty(line, held is None, now)
                    hit_bytes += nbytes
                    which = line % n_slices
                    busy = slices[which]
                    slices[which] = busy = (busy if busy > arrival else arrival) + nbytes * byte_units
                    if busy > hit_end:
                        hit_end = busy
                at = border
                border += line_bytes
                line += 1
        traffic.l2_hit += hit_bytes
        return self._completion(hit_end, miss_end)

    def _completion(self, hit_end: int, miss_end: int) -> int:
        """The later of the slices' and the channels' last byte, each with its latency, in whole cycles."""
        done = -(-hit_end // self._slice_units) + self.params.l2_latency if hit_end else 0
        if miss_end:
            missed = -(-miss_end // self._channel_units) + self.params.l2_latency + self.params.hbm_latency
            return missed if missed > done else done
        return done

    def _make_dirty(self, line: int, is_new: bool, now: int) -> None:
        """A write makes a clean or new line the only current copy. A new line is not fetched: L2 keeps byte masks."""
        if is_new:
            self._make_room(now)
            self._fetched.add(line)
        self.l2.dirty += 1
        if line not in self._evicted:
            self.traffic.written.add(line)
        self.l2.lines[line] = True
        self.l2.lines.move_to_end(line)

    def _fetch(self, line: int, now: int, streaming: bool) -> int:
        """Read a line from HBM; return when its channel is done, in channel units."""
        traffic, line_bytes = self.traffic, self.l2.line_bytes
        traffic.hbm_read += line_bytes
        if line not in self._fetched:
            self._fetched.add(line)
            if line not in self._evicted:
                traffic.compulsory_reads += line_bytes
        if not streaming:
            self._make_room(now)
            self.l2.lines[line] = False
        return self._channel(line, line_bytes, now)

    def _make_room(self, now: int) -> None:
        """Evict the least recently used line when L2 is full; a dirty one is written to HBM behind what waits there."""
        lines = self.l2.lines
        if len(lines) < self.l2.capacity:
            return
        victim, dirty = lines.popitem(last=False)
        if victim not in self._fetched:
            self._evicted.add(victim)
        if dirty:
            self.l2.dirty -= 1
            self.traffic.hbm_write += self.l2.line_bytes
            self._channel(victim, self.l2.line_bytes, now)

    def _channel(self, line: int, nbytes: int, now: int) -> int:
        """Occupy the HBM channel of a line; return when it is done, in channel units."""
        which = line * self.l2.line_bytes // self.params.interleave_bytes % len(self._channels)
        busy, arrival = self._channels[which], now * self._channel_units
        self._channels[which] = busy = (busy if busy > arrival else arrival) + nbytes * self._channel_byte
        return busy
