"""How a DMA instruction is cut into requests to the memory system (docs/timing-model.md, section DMA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.expansion.stream import Site

__all__ = ["Chunk", "Engine", "engines_of", "plan_chunks"]


class Chunk(NamedTuple):
    """One request: `rows` segments of `row_bytes` bytes from `offset` on, relative to the first byte of the tile.

    `port_time` is how long it takes in the engine's port, in 1/`Engine.units` cycle.
    """

    offset: int
    rows: int
    row_bytes: int
    port_time: int


@dataclass(frozen=True)
class Engine:
    """The numbers of a DMA engine; `rates` (bytes per cycle) and `row_cycles` by the on-chip space at the other end.

    Time in its port counts in 1/`units` cycle, so that a byte at any of its rates and a row take a whole number of them.
    """

    rates: Mapping[str, int]
    row_cycles: Mapping[str, Fraction]
    chunk_bytes: int
    outstanding: int
    min_burst_bytes: int

    @cached_property
    def units(self) -> int:
        """Parts of a cycle in which the port counts."""
        return lcm(*self.rates.values(), *(cycles.denominator for cycles in self.row_cycles.values()))

    def byte_units(self, site: Site) -> int:
        """How long a byte of a site's transfer takes in the port, in 1/`units` cycle."""
        return self.units // self.rate(site)

    def row_units(self, site: Site) -> int:
        """How long each row of a site's transfer after its first takes in the port besides its bytes, in 1/`units` cycle."""
        return int(self.row_cycles[self._space(site)] * self.units)

    def rate(self, site: Site) -> int:
        """Bytes per cycle of a site's transfer."""
        return self.rates[self._space(site)]

    def _space(self, site: Site) -> str:
        return next(operand.space for operand in site.operands if operand.space in self.rates)


def engines_of(chip: NpuConfig) -> dict[str, Engine]:
    """The engines of a core by unit. The fixpipe writes global memory in requests like those of the store engine."""
    load, store, fixpipe = chip.core.load, chip.core.store, chip.core.fixpipe
    load_rates = {"ub": load.ub_bytes_per_cycle, "l1": load.l1_bytes_per_cycle}
    load_rows = {"ub": load.row_cycles, "l1": load.l1_row_cycles}
    store_requests = (store.chunk_bytes, store.outstanding, store.min_burst_bytes)
    engines = {
        "load": Engine(load_rates, load_rows, load.chunk_bytes, load.outstanding, load.min_burst_bytes),
        "store": Engine({"ub": store.bytes_per_cycle}, {"ub": store.row_cycles}, *store_requests),
    }
    if fixpipe.gm_bytes_per_cycle:
        engines["fixpipe"] = Engine({"l0c": fixpipe.gm_bytes_per_cycle}, {"l0c": Fraction(0)}, *store_requests)
    return engines


def plan_chunks(
    engine: Engine, byte_units: int, row_units: int, rows: int, row_bytes: int, pitch: int
) -> tuple[Chunk, ...]:
    """The requests of a transfer of `rows` segments of `row_bytes`, `pitch` bytes apart, in order.

    Rows that fit are taken together, as many as `chunk_bytes` holds; a longer row is cut. A row shorter than the minimal
    burst is charged as that many bytes. Each row after the first costs `row_units` more.
    """
    return _plan(engine.chunk_bytes, engine.min_burst_bytes, byte_units, row_units, rows, row_bytes, pitch)


@lru_cache(maxsize=4096)
def _plan(
    chunk_bytes: int, min_burst: int, byte_units: int, row_units: int, rows: int, row_bytes: int, pitch: int
) -> tuple[Chunk, ...]:
    if not rows or not row_bytes:
        return ()
    chunks: list[Chunk] = []
    if row_bytes > chunk_bytes:
        for row in range(rows):
            for at in range(0, row_bytes, chunk_bytes):
                nbytes = min(chunk_bytes, row_bytes - at)
                row_start = row_units if row and not at else 0
                chunks.append(Chunk(row * pitch + at, 1, nbytes, nbytes * byte_units + row_start))
        return tuple(chunks)
    charged = max(row_bytes, min_burst)
    together = max(1, chunk_bytes // charged)
    for row in range(0, rows, together):
        n = min(together, rows - row)
        chunks.append(Chunk(row * pitch, n, row_bytes, n * charged * byte_units + (n - (row == 0)) * row_units))
    return tuple(chunks)
