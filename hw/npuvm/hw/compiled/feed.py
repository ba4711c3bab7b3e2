"""Feeds the programs of the cores to the kernels: regions become records, rows of streams go into `COL`, sites into `SITE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.compiled.layout import (
    C_AT,
    C_CLOCK,
    C_FILLED,
    C_RECORD,
    C_SIZE,
    C_STACKED,
    C_STATE,
    COLUMN_ADDR,
    COLUMN_SITE,
    COLUMNS,
    D_BYTE,
    D_INDEXED,
    D_ORDER,
    D_PITCH,
    D_ROW,
    D_SET0,
    D_SETS,
    D_SIZE,
    D_STREAM,
    D_UNIT,
    D_WAIT0,
    D_WAITS,
    D_WRITE,
    H_COLUMN,
    H_CORE,
    H_INPUTS,
    H_LIMIT,
    H_STACK,
    H_STACKED,
    NEXT,
    R_BARRIER,
    R_HALT,
    R_SCALAR,
    R_SET,
    R_SIZE,
    R_SPEND,
    R_STREAM,
    RECORDS,
    WANTS_INPUT,
    Store,
)
from npuvm.hw.compiled.row_starts import RowStarts
from npuvm.hw.compiled.world import SCOPES
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.stream import Barrier, Region, Regions, ScalarLoad, SetSemaphores, Site, Stream
from npuvm.hw.memory.chunks import engines_of

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend
    from npuvm.hw.compiled.world import World
    from npuvm.hw.config import CoreType, NpuConfig
    from npuvm.hw.engine.chip import CoreProgram
    from npuvm.hw.expansion.tally import Tally
    from npuvm.isa import Isa

__all__ = ["Feed"]

_SPARE = 66
"""Records that a region may need: one, and one for each semaphore that it sets."""


@dataclass
class _Source:
    """A core's program on its way: the stream in work from row `row` on, and a scalar load whose value is wanted."""

    core: int
    core_type: CoreType
    regions: Regions
    stream: Stream | None = None
    base: int = 0
    row: int = 0
    load: ScalarLoad | None = None


class Feed:
    """The programs of a launch. `scalar` gives the value of a scalar load of a core, `tallies` count every stream."""

    def __init__(
        self,
        backend: Backend,
        chip: NpuConfig,
        isa: Isa,
        programs: Sequence[CoreProgram],
        world: World,
        scalar: Callable[[int, ScalarLoad], int],
        tallies: Sequence[Tally],
    ) -> None:
        self._backend = backend
        self._world = world
        self._scalar = scalar
        self._tallies = tallies
        self._engines = engines_of(chip)
        self._units = {kind: chip.units(kind) for kind in {program.core_type for program in programs}}
        self._limit = int(world.W[H_LIMIT])
        self._starts = RowStarts(backend, world)
        self._sources = [_Source(i, each.core_type, each.regions) for i, each in enumerate(programs)]
        self._tables: dict[int, tuple[tuple[Site, ...], int]] = {}
        self._checked: set[tuple[int, str]] = set()
        self.sites: list[Site] = []
        self.SITE: Store = backend.full(D_SIZE)
        self.COL: Store = backend.full(COLUMNS * world.rows * len(programs))

    def refill(self) -> None:
        """Give every core that wants input its next records."""
        for source in self._sources:
            W = self._world.W
            record = W[H_CORE] + source.core * C_SIZE
            if W[record + C_STATE] == WANTS_INPUT:
                records = self._records(source)
                W = self._world.W
                base = W[record + C_RECORD]
                for at, values in enumerate(records):
                    for field, value in enumerate(values):
                        W[base + at * R_SIZE + field] = value
                W[record + C_AT], W[record + C_FILLED], W[record + C_STATE] = 0, len(records), NEXT
                W[record + C_STACKED] = 1
                W[W[H_STACK] + W[H_STACKED]] = source.core
                W[H_STACKED] += 1
        self._world.W[H_INPUTS] = 0

    def site(self, offset: int) -> Site:
        """The site of a record of `SITE`."""
        return self.sites[offset // D_SIZE - 1]

    def _records(self, source: _Source) -> list[tuple[int, ...]]:
        """The next records of a core: up to a stream's rows, or what it must stop for."""
        records: list[tuple[int, ...]] = []
        spent = int(self._world.W[self._world.W[H_CORE] + source.core * C_SIZE + C_CLOCK])
        while source.stream is None:
            region = self._next(source)
            if isinstance(region, Stream):
                self._begin(source, region)
            elif isinstance(region, SetSemaphores):
                records.append((R_SPEND, region.gap, 0, region.pc))
                records += [(R_SET, number, count, region.pc) for number, count in region.values]
                spent += region.gap
                if len(records) > RECORDS - _SPARE or spent > self._limit:
                    return records
            elif isinstance(region, ScalarLoad):
                source.load = region
                return [*records, (R_SCALAR, region.gap, 0, region.pc)]
            elif isinstance(region, Barrier):
                return [*records, (R_BARRIER, region.gap, SCOPES.index(region.scope), region.pc)]
            else:
                return [*records, (R_HALT, region.gap, 0, region.pc)]
        return [*records, self._rows(source, source.stream)]

    def _next(self, source: _Source) -> Region:
        if source.load is None:
            return next(source.regions)
        load, source.load = source.load, None
        return source.regions.send(self._scalar(source.core, load))

    def _begin(self, source: _Source, stream: Stream) -> None:
        source.base = self._table(stream.sites, source)
        source.stream, source.row = stream, 0
        self._tallies[source.core].add(stream)

    def _rows(self, source: _Source, stream: Stream) -> tuple[int, ...]:
        """Copy the next rows of a stream into the core's window."""
        window, first = self._world.rows, source.row
        last = min(first + window, len(stream))
        column, at = int(self._world.W[H_COLUMN]), source.core * window
        columns = (
            stream.site,
            stream.gap,
            stream.occupancy,
            stream.latency,
            stream.gm_addr,
            stream.gm_rows,
            stream.gm_row_bytes,
        )
        for number, values in enumerate(columns):
            part = values[first:last]
            if number == COLUMN_SITE:
                part = part * D_SIZE + source.base
            elif number == COLUMN_ADDR and stream.picked is not None:
                part = self._numbered(source, stream, first, last)
            self._backend.put(self.COL, number * column + at, part)
        source.row = last
        if last == len(stream):
            source.stream = None
        return (R_STREAM, at, at + last - first, 0)

    def _numbered(self, source: _Source, stream: Stream, first: int, last: int) -> NDArray[np.int64]:
        """Addresses of these rows of a stream; of those that pick rows by index the number of the first one."""
        picked = stream.picked
        assert picked is not None
        address = stream.gm_addr[first:last]
        ends = picked.first[first : last + 1]
        counts = np.diff(ends)
        some = np.flatnonzero(counts)
        if not len(some):
            return address
        strides = [
            0 if site.dma is None or site.dma.indexed is None else site.dma.indexed.stride for site in stream.sites
        ]
        stride = np.array(strides, dtype=np.int64)[stream.site[first:last]]
        index = picked.index[int(ends[0]) : int(ends[-1])]
        starts = np.repeat(address, counts) + index * np.repeat(stride, counts)
        number = self._starts.push(self.SITE, source.core, starts)
        address = address.copy()
        address[some] = number + (ends[:-1] - ends[0])[some]
        return address

    def _table(self, sites: tuple[Site, ...], source: _Source) -> int:
        """Where the records of a table of sites begin in `SITE`."""
        key = id(sites)
        if (key, source.core_type) not in self._checked:
            for site in sites:
                if site.unit_name not in self._units[source.core_type] or site.unit == 0:
                    self._refuse(site, source)
            self._checked.add((key, source.core_type))
        if key not in self._tables:
            base = D_SIZE * (len(self.sites) + 1)
            # The table is kept as well, so that its id stays its own.
            self._tables[key] = (sites, base)
            self.sites.extend(sites)
            values = [value for site in sites for value in self._site(site)]
            self.SITE = self._backend.grown(self.SITE, base + len(values))
            self.SITE[base : base + len(values)] = values
        return self._tables[key][1]

    def _refuse(self, site: Site, source: _Source) -> NoReturn:
        here = ", ".join(name for name in self._units[source.core_type] if name != "seq")
        raise SimulationError(
            f"{site.label}: a {source.core_type} core has no {site.unit_name} unit; it has {here}",
            f"core {source.core}",
        )

    def _site(self, site: Site) -> list[int]:
        """The record of a site."""
        if len(site.waits) > 2 or len(site.sets) > 2:
            raise SimulationError(f"{site.label} has more than two waits or sets")
        record = [0] * D_SIZE
        record[D_UNIT], record[D_ORDER] = site.unit, int(site.order)
        record[D_WAITS], record[D_SETS] = len(site.waits), len(site.sets)
        record[D_WAIT0 : D_WAIT0 + len(site.waits)] = site.waits
        record[D_SET0 : D_SET0 + len(site.sets)] = site.sets
        engine = self._engines.get(site.unit_name)
        if site.dma is not None and engine is not None:
            record[D_BYTE], record[D_ROW] = engine.byte_units(site), engine.row_units(site)
            record[D_WRITE], record[D_STREAM], record[D_PITCH] = site.dma.write, site.dma.streaming, site.dma.pitch
            if site.dma.indexed is not None:
                # The rows of a transfer are numbered, one after the other.
                record[D_INDEXED] = record[D_PITCH] = 1
        return [int(value) for value in record]
