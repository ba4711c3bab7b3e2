"""What the statistics read of a finished core, unit and memory system, taken from the kernels' stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npuvm.hw.compiled.layout import (
    C_BARRIER,
    C_DECODE,
    C_DISPATCHED,
    C_DRAIN,
    C_FINISHED,
    C_QUEUE_FULL,
    C_SCALAR,
    C_SIZE,
    H_CORE,
    H_NUMBERS,
    H_STALL,
    H_UNIT,
    U_BUSY,
    U_DECODE,
    U_FREE,
    U_MEMORY,
    U_ORDERED,
    U_QUEUED,
    U_SIZE,
    U_STARTED,
    U_STARTUP,
    U_SYNC,
    UNITS,
    Store,
)

if TYPE_CHECKING:
    from npuvm.hw.expansion.tally import Tally
    from npuvm.hw.memory.l2 import L2State
    from npuvm.hw.memory.system import MemoryTraffic
    from npuvm.isa import Isa

__all__ = ["CoreView", "MemoryView", "UnitView", "view_core"]


@dataclass(frozen=True)
class UnitView:
    """Cycles of a unit by cause, as `npuvm.hw.engine.units.Unit` keeps them."""

    name: str
    free: int
    busy: int
    startup: int | None
    synced: int
    queued: int
    undecoded: int
    ordered: int
    memory_stall: int
    wait_stalls: Mapping[tuple[int, str], int]


@dataclass(frozen=True)
class CoreView:
    """A core that has halted in cycle `finished`, as `npuvm.hw.engine.sequencer.Sequencer` keeps it."""

    core: int
    core_type: str
    finished: int
    dispatched: int
    stalls: Mapping[str, int]
    units: Mapping[int, UnitView]
    tally: Tally


@dataclass(frozen=True)
class MemoryView:
    """What the memory system has served, as `npuvm.hw.memory.system.MemorySystem` keeps it."""

    l2: L2State
    traffic: MemoryTraffic
    l2_hit: int
    requests: int


def view_core(
    W: Store, isa: Isa, core: int, core_type: str, units: tuple[str, ...], start_cycles: int, tally: Tally
) -> CoreView:
    """A core of the launch; `units` are the names of those that it has."""
    record = W[H_CORE] + core * C_SIZE
    names = {code: name for name, code in isa.units.items()}
    stalls = {"start": start_cycles, "decode": int(W[record + C_DECODE]) - start_cycles}
    for code, name in names.items():
        stalls[f"queue_full:{name}"] = int(W[record + C_QUEUE_FULL + code])
    causes = (("drain", C_DRAIN), ("barrier", C_BARRIER), ("scalar_load", C_SCALAR))
    stalls |= {cause: int(W[record + at]) for cause, at in causes}
    return CoreView(
        core,
        core_type,
        int(W[record + C_FINISHED]),
        int(W[record + C_DISPATCHED]),
        stalls,
        {isa.units[name]: _view_unit(W, names, core, isa.units[name]) for name in units if name != "seq"},
        tally,
    )


def _view_unit(W: Store, names: Mapping[int, str], core: int, code: int) -> UnitView:
    uid = core * UNITS + code
    unit = W[H_UNIT] + uid * U_SIZE
    waits = {}
    if W[unit + U_STARTED]:
        numbers = int(W[H_NUMBERS])
        base = W[H_STALL] + uid * numbers * UNITS
        for at in np.flatnonzero(W[base : base + numbers * UNITS]).tolist():
            number, producer = divmod(at, UNITS)
            waits[number, names[producer] if producer else "set-up"] = int(W[base + at])
    return UnitView(
        name=names[code],
        free=int(W[unit + U_FREE]),
        busy=int(W[unit + U_BUSY]),
        startup=int(W[unit + U_STARTUP]) if W[unit + U_STARTED] else None,
        synced=int(W[unit + U_SYNC]),
        queued=int(W[unit + U_QUEUED]),
        undecoded=int(W[unit + U_DECODE]),
        ordered=int(W[unit + U_ORDERED]),
        memory_stall=int(W[unit + U_MEMORY]),
        wait_stalls=waits,
    )
