"""DMA ports, L2 and HBM against a model in fractions that serves one request after the other and keeps L2 as a plain list."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.engine_kit import Row, execute, make_chip

from npuvm.hw.config import NpuConfig
from npuvm.hw.engine.chip import memory_params
from npuvm.hw.memory.chunks import Chunk, Engine, plan_chunks
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.results.bounds import memory_bounds

LINE = 128

Request: TypeAlias = tuple[list[tuple[int, int, int]], int, int]
"""Pieces of lines (line, first byte in it, bytes), bytes charged to the port, rows that begin in it."""

ENGINES = {"load": ("load", "ub_bytes_per_cycle"), "store": ("store", "bytes_per_cycle")}


@dataclass
class Slice:
    """Serves in the order of the calls, each access for exactly its time."""

    rate: Fraction
    busy: Fraction = Fraction(0)

    def serve(self, now: int, nbytes: int) -> int:
        self.busy = max(self.busy, Fraction(now)) + nbytes / self.rate
        return ceil(self.busy)


@dataclass
class Channel:
    """As a slice; a bank of it remembers its open row, the channel which way it last went, and for whom to which line."""

    chip: NpuConfig
    busy: Fraction = Fraction(0)
    way: str = ""
    user: tuple[int, int] | None = None
    rows: dict[int, int] = field(default_factory=dict)

    def serve(self, now: int, address: int, nbytes: int, way: str, core: int | None) -> int:
        hbm = self.chip.memory.hbm
        time = Fraction(ceil(Fraction(nbytes, hbm.burst_bytes)) * hbm.burst_bytes)
        time /= self.chip.hbm_bytes_per_cycle / hbm.channels
        if self.way not in ("", way):
            time += hbm.turnaround_cycles
        self.way = way
        if core is not None:
            if self.user is not None and self.user[0] == address and self.user[1] != core:
                time += hbm.same_line_cycles
            self.user = (address, core)
        if hbm.row_bytes:
            row = address // (hbm.row_bytes * hbm.channels)
            if self.rows.get(row % hbm.banks) != row:
                time += hbm.row_miss_cycles
            self.rows[row % hbm.banks] = row
        self.busy = max(self.busy, Fraction(now)) + time
        return ceil(self.busy)


@dataclass
class Line:
    """A line in L2; `ready` and `core` are forgotten when a launch ends."""

    number: int
    dirty: bool = False
    ready: int = 0
    core: int | None = None


@dataclass
class Oracle:
    """L2 as a list of lines, least recently used first."""

    chip: NpuConfig
    capacity: int
    lines: list[Line] = field(default_factory=list)
    hit: int = 0
    read: int = 0
    written: int = 0

    def __post_init__(self) -> None:
        self.slices = [
            Slice(self.chip.l2_bytes_per_cycle / self.chip.memory.l2.slices) for _ in range(self.chip.memory.l2.slices)
        ]
        self.channels = [Channel(self.chip) for _ in range(self.chip.memory.hbm.channels)]

    def picked(self, number: int, servers: int) -> int:
        if self.chip.memory.address_hash:
            number ^= number // 32 ^ number // 32**2 ^ number // 32**3 ^ number // 32**4
        return number % servers

    def move(self, now: int, line: int, nbytes: int, way: str, core: int | None) -> int:
        """Bytes of a line through its channel, for a core or out of L2; the cycle in which the last one has passed."""
        if way == "read":
            self.read += nbytes
        else:
            self.written += nbytes
        block = line * LINE // self.chip.memory.hbm.interleave_bytes
        return self.channels[self.picked(block, len(self.channels))].serve(now, line * LINE, nbytes, way, core)

    def enter(self, now: int, line: Line) -> None:
        """A line that comes in is there no sooner than the dirty one that makes room for it has left."""
        if len(self.lines) == self.capacity:
            victim = self.lines.pop(0)
            if victim.dirty:
                line.ready = self.move(now, victim.number, LINE, "write", None)
        self.lines.append(line)

    def touch(self, now: int, line: Line, nbytes: int, core: int) -> int:
        """An access to a line that L2 serves."""
        l2 = self.chip.memory.l2
        self.hit += nbytes
        served = self.slices[self.picked(line.number, l2.slices)].serve(now, max(nbytes, l2.access_bytes))
        waits = l2.same_line_cycles if line.core not in (None, core) else 0
        there = max(served, line.ready + waits)
        if l2.same_line_cycles:
            line.ready, line.core = there, core
        return there + l2.latency_cycles

    def access(self, now: int, pieces: list[tuple[int, int, int]], write: bool, streaming: bool, port: Port) -> int:
        """(line, first byte in it, bytes) pieces of one request of a port; the cycle in which it is done."""
        l2, hbm = self.chip.memory.l2, self.chip.memory.hbm
        far = hbm.latency_cycles + l2.latency_cycles
        done = 0
        for number, first, nbytes in pieces:
            held = next((line for line in self.lines if line.number == number), None)
            unaligned = first % 32 != 0 or (first + nbytes) % 32 != 0
            uncached = unaligned and l2.unaligned_reads == "uncached" and not (held and held.dirty)
            if not write and (uncached or (streaming and held is None)):
                part = (l2.sector_bytes or LINE) if streaming else LINE
                parts = sorted({(number * LINE + first + byte) // part for byte in range(nbytes)})
                wanted = parts[1:] if port.kept is not None and parts[0] == port.kept[0] else parts
                if wanted:
                    port.kept = (wanted[-1], self.move(now, number, len(wanted) * part, "read", port.core) + far)
                assert port.kept is not None
                done = max(done, port.kept[1])
            elif held is not None:
                self.lines.remove(held)
                self.lines.append(held)
                held.dirty |= write
                done = max(done, self.touch(now, held, nbytes, port.core))
            elif streaming:
                done = max(done, self.move(now, number, nbytes, "write", port.core) + far)
            elif write:
                self.enter(now, line := Line(number, dirty=True))
                done = max(done, self.touch(now, line, nbytes, port.core))
            else:
                self.enter(now, line := Line(number, core=port.core))
                fetched = self.move(now, number, LINE, "read", port.core)
                line.ready = max(fetched, line.ready) + hbm.latency_cycles
                done = max(done, line.ready + l2.latency_cycles)
        return done


def cut(chip: NpuConfig, unit: str, gm: tuple[int, int, int, int]) -> list[Request]:
    """Requests of a transfer: pieces of lines, bytes charged to the port, rows that begin, byte by byte."""
    config = getattr(chip.core, ENGINES[unit][0])
    address, rows, row_bytes, pitch = gm
    segments = []
    for row in range(rows):
        for at in range(0, row_bytes, config.chunk_bytes):
            segments.append((row, at, min(config.chunk_bytes, row_bytes - at)))
    whole = row_bytes <= config.chunk_bytes
    charged = max(row_bytes, config.min_burst_bytes)
    together = max(1, config.chunk_bytes // charged) if whole else 1
    requests = []
    for i in range(0, len(segments), together):
        pieces: list[tuple[int, int, int]] = []
        starts = port = 0
        for row, at, nbytes in segments[i : i + together]:
            starts += row > 0 and at == 0
            port += charged if whole else nbytes
            for byte in range(address + row * pitch + at, address + row * pitch + at + nbytes):
                line = byte // LINE
                if pieces and pieces[-1][0] == line and byte != address + row * pitch + at:
                    pieces[-1] = (line, pieces[-1][1], pieces[-1][2] + 1)
                else:
                    pieces.append((line, byte % LINE, 1))
        requests.append((pieces, port, starts))
    return requests


@dataclass
class Port:
    """One engine of one core with the transfers that it is given one after the other."""

    core: int
    unit: str
    rows: list[Row]
    dispatched: list[int]
    busy: Fraction = Fraction(0)
    index: int = 0
    begun: bool = False
    kept: tuple[int, int] | None = None
    requests: list[Request] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    times: list[tuple[int, int, int]] = field(default_factory=list)


def replay(
    chip: NpuConfig, capacity: int, programs: list[list[Row]]
) -> tuple[list[list[tuple[int, int, int]]], Oracle]:
    """(start, occupied until, complete) per core and row, of programs of one DMA unit each."""
    oracle = Oracle(chip, capacity)
    codes = {"load": 1, "store": 6}
    ports = []
    for core, rows in enumerate(programs):
        clocks = [sum(row.gap for row in rows[: i + 1]) for i in range(len(rows))]
        ports.append(Port(core, rows[0].unit, rows, clocks))
    while True:
        candidates = []
        for port in ports:
            if port.index == len(port.rows):
                continue
            row = port.rows[port.index]
            if not port.begun:
                port.begun, port.kept = True, None
                start = max(port.dispatched[port.index], port.times[-1][1] if port.times else 0)
                port.times.append((start, 0, 0))
                port.busy = max(port.busy, Fraction(start)) + row.occupancy
                assert row.gm is not None
                port.requests = cut(chip, port.unit, row.gm)
            at = floor(port.busy)
            outstanding = getattr(chip.core, port.unit).outstanding
            if len(port.in_flight) >= outstanding:
                at = max(at, port.in_flight[-outstanding])
            candidates.append((at, port.core, codes[port.unit], port))
        if not candidates:
            return [port.times for port in ports], oracle
        now, _, _, port = min(candidates, key=lambda c: c[:3])
        config = getattr(chip.core, port.unit)
        pieces, port_bytes, starts = port.requests.pop(0)
        if floor(port.busy) < now:
            port.busy = Fraction(now)
        served = oracle.access(now, pieces, port.unit == "store", port.rows[port.index].streaming, port)
        rate = getattr(config, ENGINES[port.unit][1])
        port.busy += Fraction(port_bytes, rate) + starts * config.row_cycles
        port.in_flight.append(max([served, ceil(port.busy), *port.in_flight[-1:]]))
        if not port.requests:
            row, start = port.rows[port.index], port.times[-1][0]
            free = max(floor(port.busy), start + 1)  # a unit starts one instruction a cycle
            port.times[-1] = (start, free, port.in_flight[-1] + row.latency)
            port.index += 1
            port.begun = False


@st.composite
def transfers(draw: st.DrawFn, unit: str) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        n_rows = draw(st.integers(1, 5))
        row_bytes = draw(st.integers(1, 400))
        pitch = (
            draw(st.one_of(st.just(0), st.integers(row_bytes + 1, 700)))
            if unit == "load"
            else row_bytes + draw(st.integers(1, 300))
        )
        address = draw(st.integers(0, 1500))
        gm = (address, n_rows, row_bytes, pitch)
        startup, gap, streaming = draw(st.integers(0, 20)), draw(st.integers(1, 60)), draw(st.booleans())
        rows.append(Row(unit, startup, 0, gap, gm=gm, streaming=streaming))
    return rows


CHIPS = [
    make_chip("memory.l2.slices=2", "memory.hbm.channels=2"),
    make_chip(
        "memory.l2.bandwidth_gbps=23", "memory.l2.slices=4", "memory.hbm.bandwidth_gbps=7.3", "memory.hbm.channels=4",
        "memory.hbm.interleave_bytes=256", "clock_ghz=1.1", "core.load.ub_bytes_per_cycle=37", "core.load.l1_bytes_per_cycle=5",
        "core.load.outstanding=2", "core.store.bytes_per_cycle=11", "core.store.outstanding=1", "core.load.chunk_bytes=192",
    ),
    make_chip(
        "memory.l2.slices=2", "memory.l2.access_bytes=96", "memory.l2.same_line_cycles=23",
        "memory.l2.unaligned_reads=uncached", "memory.address_hash=true", "memory.l2.sector_bytes=32",
        "memory.hbm.channels=2", "memory.hbm.same_line_cycles=7", "memory.hbm.burst_bytes=96", "memory.hbm.row_bytes=256",
        "memory.hbm.row_miss_cycles=9", "memory.hbm.banks=2", "memory.hbm.turnaround_cycles=5",
    ),
    make_chip(
        "memory.l2.slices=4", "memory.l2.same_line_cycles=3", "memory.hbm.channels=4", "memory.hbm.bandwidth_gbps=7.3",
        "memory.hbm.turnaround_cycles=13", "memory.hbm.burst_bytes=50", "core.load.row_cycles=5/3", "core.load.outstanding=3",
        "core.store.row_cycles=0.7", "memory.hbm.row_bytes=128", "memory.hbm.row_miss_cycles=31", "memory.hbm.banks=1",
    ),
    make_chip("memory.l2.unaligned_reads=uncached", "memory.l2.access_bytes=128", "memory.address_hash=true"),
    make_chip("memory.l2.sector_bytes=64", "memory.hbm.same_line_cycles=11"),
]  # fmt: skip


@settings(max_examples=120)
@given(st.data(), st.sampled_from(CHIPS), st.integers(2, 24))
def test_shared_memory_serves_as_the_oracle_does(data: st.DataObject, chip: NpuConfig, capacity: int) -> None:
    units = [data.draw(st.sampled_from(["load", "store"])) for _ in range(data.draw(st.integers(1, 3)))]
    programs = [data.draw(transfers(unit)) for unit in units]
    run = execute([[rows] for rows in programs], chip, l2=(l2 := L2State(capacity * LINE, LINE)))
    times, oracle = replay(chip, capacity, programs)
    for core, rows in enumerate(programs):
        assert [run.times(core)[i] for i in range(len(rows))] == times[core]
    memory = run.machine.memory
    assert (memory.l2_hit, memory.traffic.hbm_read, memory.traffic.hbm_write) == (
        oracle.hit,
        oracle.read,
        oracle.written,
    )
    assert list(l2.lines.items()) == [(line.number, line.dirty) for line in oracle.lines]
    assert l2.dirty == sum(line.dirty for line in oracle.lines)
    bounds = memory_bounds(chip, memory)
    assert bounds["hbm"] * chip.hbm_bytes_per_cycle <= oracle.read + oracle.written
    assert all(bound <= run.cycles for bound in bounds.values())


@settings(max_examples=200)
@given(
    st.integers(1, 6),
    st.integers(1, 1000),
    st.integers(0, 500),
    st.integers(1, 8).map(lambda n: 32 * n),
    st.integers(1, 300),
)
def test_requests_cover_the_transfer_once_in_order(rows: int, row_bytes: int, gap: int, chunk: int, burst: int) -> None:
    engine = Engine({"ub": 1}, {"ub": Fraction(3)}, chunk, 4, min(burst, chunk))
    pitch = row_bytes + gap
    chunks = plan_chunks(engine, 1, 3, rows, row_bytes, pitch)
    covered = [c.offset + row * pitch + byte for c in chunks for row in range(c.rows) for byte in range(c.row_bytes)]
    assert covered == [row * pitch + byte for row in range(rows) for byte in range(row_bytes)]
    assert all(c.rows * c.row_bytes <= chunk for c in chunks)
    assert sum(c.port_time for c in chunks) == rows * max(row_bytes, min(burst, chunk)) + 3 * (rows - 1)


def test_nothing_to_move_is_no_request() -> None:
    engine = Engine({"ub": 1}, {"ub": Fraction(3)}, 128, 4, 32)
    assert plan_chunks(engine, 1, 3, 0, 5, 8) == plan_chunks(engine, 1, 3, 5, 0, 8) == ()
    assert plan_chunks(engine, 2, 3, 1, 5, 8) == (Chunk(0, 1, 5, 64),)
    run = execute([[[Row("load", 16, gm=(0, 0, 0, 0), sets=(0,)), Row("vector", waits=(0,))]]])
    assert run.times() == {0: (1, 17, 17), 1: (19, 20, 20)}


def test_remainders_are_kept_from_transfer_to_transfer() -> None:
    """Each transfer takes 128 / 3 bytes per cycle in the port: 42 2/3 cycles; three of them 128."""
    chip = make_chip("core.load.ub_bytes_per_cycle=3", "core.load.outstanding=100")
    run = execute([[[Row("load", 0, gm=(128 * i, 1, 128, 128)) for i in range(7)]]], chip)
    assert [run.times()[i][0] for i in range(7)] == [1, 43, 86, 129, 171, 214, 257]


def test_misses_then_hits_then_write_back() -> None:
    """2 lines read from HBM (4 cycles a line), then from L2 (2 cycles a line); a full L2 writes its dirty line back."""
    l2 = L2State(2 * LINE, LINE)
    read = Row("load", 10, gm=(0, 1, 256, 256))
    first = execute([[[read]]], l2=l2)
    # Requests in 11 and 15: lines done in 15 and 19, + 120.
    assert first.times()[0] == (1, 19, 139)
    again = execute([[[read]]], l2=l2)
    # In L2: 11 to 13, 15 to 17, + 20.
    assert again.times()[0] == (1, 19, 37)
    assert again.machine.memory.traffic.hbm_read == 0
    write = execute([[[Row("store", 0, gm=(1024, 1, 128, 128)), Row("store", 0, gm=(2048, 2, 64, 128))]]], l2=l2)
    assert write.machine.memory.traffic.hbm_write == LINE
    assert memory_bounds(make_chip(), write.machine.memory)["hbm"] == Fraction(LINE, 32)
    assert l2.dirty == 2
    assert l2.flush() == 2 * LINE
    assert not l2.lines


def test_a_streamed_line_passes_by() -> None:
    """It is read from HBM each time, but only the first read is one that nothing could have avoided."""
    read, write = (Row(unit, 0, gm=(0, 1, 256, 256), streaming=True) for unit in ("load", "store"))
    l2 = L2State(8 * LINE, LINE)
    run = execute([[[read, read]], [[write]]], l2=l2)
    assert not l2.lines
    kept = execute([[[read, Row("load", gm=(0, 1, 256, 256))]]], l2=L2State(8 * LINE, LINE)).machine.memory
    assert (kept.traffic.hbm_read, kept.traffic.compulsory_reads) == (4 * LINE, 2 * LINE)
    traffic = run.machine.memory.traffic
    assert (traffic.hbm_read, traffic.hbm_write, run.machine.memory.l2_hit) == (4 * LINE, 2 * LINE, 0)
    assert memory_bounds(make_chip(), run.machine.memory) == {"hbm": Fraction(4 * LINE, 32), "l2": 0}


def test_discarding_a_range_drops_its_lines() -> None:
    l2 = L2State(64 * LINE, LINE)
    execute([[[Row("store", 0, gm=(0, 1, 8 * LINE, 8 * LINE))]]], l2=l2)
    l2.discard(LINE - 1, 2)
    l2.discard(5 * LINE, 0)
    assert [line for line in range(9) if l2.is_resident(line * LINE)] == [2, 3, 4, 5, 6, 7]
    l2.discard(3 * LINE, 1 << 40)
    assert (list(l2.lines), l2.dirty) == ([2], 1)


@pytest.mark.parametrize("chip", CHIPS)
def test_parameters_are_rates_of_all_servers_together(chip: NpuConfig) -> None:
    params = memory_params(chip)
    assert params.l2_rate == chip.memory.l2.bandwidth_gbps / chip.clock_ghz
    assert params.hbm.rate == chip.memory.hbm.bandwidth_gbps / chip.clock_ghz
