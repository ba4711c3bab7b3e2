"""Lays out `W`, the state of a launch's cores, units, queues, semaphores and calendars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.compiled.layout import (
    B_CYCLES,
    B_MEMBERS,
    B_SIZE,
    C_MEET,
    C_RECORD,
    C_SIZE,
    C_STATE,
    EMPTY,
    H_COLUMN,
    H_CORE,
    H_CORES,
    H_DEPTH,
    H_INPUTS,
    H_LEAVES,
    H_LIMIT,
    H_MEET,
    H_NUMBERS,
    H_SCALAR,
    H_SEM,
    H_SEM_OF,
    H_SIZE,
    H_STACK,
    H_STALL,
    H_TAKE_LEAVES,
    H_TAKES,
    H_TREE,
    H_UNIT,
    INF,
    MOST_CYCLES,
    Q_SIZE,
    R_SIZE,
    RECORDS,
    S_BASE,
    S_COUNT,
    S_DELAY,
    S_HEAD,
    S_MASK,
    S_OTHER,
    S_SAID,
    S_SAID_HEAD,
    S_SIZE,
    S_TIMED,
    S_WAITER,
    U_BURST,
    U_CHUNK,
    U_GRANT,
    U_LEAF,
    U_PAGE,
    U_PARTS,
    U_PLACE_END,
    U_PLACES,
    U_QUEUE,
    U_SIZE,
    UNITS,
    WANTS_INPUT,
    Store,
)
from npuvm.hw.memory.chunks import engines_of

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.engine.chip import CoreProgram
    from npuvm.hw.memory.chunks import Engine
    from npuvm.isa import Isa

__all__ = ["World", "make_world"]

RING = 16
"""Signals on their way that a semaphore has room for at first."""

ROWS = 4096
"""Most rows of a stream that a core has in work."""

SCOPES = ("core", "group", "launch")


@dataclass
class World:
    """`W` and `TOK` of a launch. `semaphores` (cores, numbers) holds the record of each semaphore that a core sees."""

    W: Store
    TOK: Store
    semaphores: NDArray[np.int64]
    rows: int

    def grow_ring(self, backend: Backend, semaphore: int) -> None:
        """Give a semaphore room for many more signals on their way."""
        W = self.W
        base, size = int(W[semaphore + S_BASE]), int(W[semaphore + S_MASK]) + 1
        head, count = int(W[semaphore + S_HEAD]), int(W[semaphore + S_COUNT])
        said_head, said = int(W[semaphore + S_SAID_HEAD]), int(W[semaphore + S_SAID])
        signals = [int(self.TOK[base + (head + k) % size]) for k in range(count)]
        signallers = [int(self.TOK[base + size + (said_head + k) % size]) for k in range(said)]
        larger, new = max(1024, 4 * size), len(self.TOK)
        self.TOK = backend.grown(self.TOK, new + 2 * larger)
        self.TOK[new : new + count] = signals
        self.TOK[new + larger : new + larger + said] = signallers
        W[semaphore + S_BASE], W[semaphore + S_MASK] = new, larger - 1
        W[semaphore + S_HEAD] = W[semaphore + S_SAID_HEAD] = 0


def make_world(
    backend: Backend,
    chip: NpuConfig,
    isa: Isa,
    programs: Sequence[CoreProgram],
    timed: Sequence[frozenset[int] | None],
    cycle_limit: int | None,
) -> World:
    """The state at launch. `timed` are the semaphores of each core's own that are timed; None: all."""
    cores, depth = len(programs), chip.core.sequencer.queue_depth
    numbers = isa.limits["semaphores"]
    groups = np.array([program.group for program in programs], dtype=np.int64)
    n_groups = int(groups.max(initial=0)) + 1
    ports = _ports(chip, isa, programs)
    places = sum(engine.outstanding for _, engine in ports)
    scope_of = np.array([SCOPES.index(isa.semaphore_scope(number)) for number in range(numbers)])
    n_semaphores = (
        int((scope_of == 0).sum()) * cores + int((scope_of == 1).sum()) * n_groups + int((scope_of == 2).sum())
    )
    leaves, take_leaves = _power(len(ports)), _power(cores * UNITS)
    sizes = {
        H_CORE: cores * C_SIZE,
        H_UNIT: cores * UNITS * U_SIZE,
        H_SEM: n_semaphores * S_SIZE,
        H_SEM_OF: cores * numbers,
        H_MEET: (cores + n_groups + 1) * B_SIZE,
        H_STALL: cores * UNITS * numbers * UNITS,
        H_STACK: cores,
        H_TREE: 2 * leaves,
        H_TAKES: 2 * take_leaves,
    }
    offsets, at = {}, H_SIZE
    for name, size in sizes.items():
        offsets[name], at = at, at + size
    queues = at
    at += cores * UNITS * depth * Q_SIZE
    records = at
    at += cores * RECORDS * R_SIZE
    flight = at
    W = np.zeros(at + places, dtype=np.int64)
    for name, offset in offsets.items():
        W[name] = offset
    rows = max(64, min(ROWS, (1 << 20) // max(1, cores)))
    W[H_CORES], W[H_DEPTH], W[H_NUMBERS] = cores, depth, numbers
    W[H_LEAVES], W[H_TAKE_LEAVES] = leaves, take_leaves
    W[H_LIMIT] = MOST_CYCLES if cycle_limit is None else min(cycle_limit, MOST_CYCLES)
    W[H_SCALAR] = chip.core.sequencer.scalar_load_cycles
    W[H_COLUMN] = rows * cores
    W[offsets[H_TREE] : offsets[H_TREE] + 2 * leaves] = INF
    W[offsets[H_TAKES] : offsets[H_TAKES] + 2 * take_leaves] = INF
    W[queues:records:Q_SIZE] = -1
    _fill_cores(W, cores, records, depth, queues)
    semaphores = _fill_semaphores(W, chip, scope_of, groups, n_groups, timed)
    _fill_meetings(W, chip, groups, n_groups)
    for leaf, (uid, engine) in enumerate(ports):
        unit = offsets[H_UNIT] + uid * U_SIZE
        W[unit + U_LEAF], W[unit + U_PARTS], W[unit + U_CHUNK] = leaf, engine.units, engine.chunk_bytes
        W[unit + U_BURST], W[unit + U_PLACES], W[unit + U_PLACE_END] = (
            engine.min_burst_bytes,
            flight,
            engine.outstanding,
        )
        flight += engine.outstanding
    TOK = backend.full(n_semaphores * 2 * RING)
    return World(backend.ints(W), TOK, semaphores, rows)


def _ports(chip: NpuConfig, isa: Isa, programs: Sequence[CoreProgram]) -> list[tuple[int, Engine]]:
    """The DMA engines of all cores, as (unit, engine)."""
    engines = engines_of(chip)
    return [
        (core * UNITS + isa.units[name], engines[name])
        for core, program in enumerate(programs)
        for name in chip.units(program.core_type)
        if name in engines
    ]


def _fill_cores(W: NDArray[np.int64], cores: int, records: int, depth: int, queues: int) -> None:
    record = W[H_CORE] + np.arange(cores) * C_SIZE
    W[record + C_RECORD] = records + np.arange(cores) * RECORDS * R_SIZE
    W[record + C_STATE] = WANTS_INPUT
    W[H_INPUTS] = cores
    unit = W[H_UNIT] + np.arange(cores * UNITS) * U_SIZE
    W[unit + U_QUEUE] = queues + np.arange(cores * UNITS) * depth * Q_SIZE
    W[unit + U_GRANT] = -1
    W[unit + U_PAGE] = EMPTY


def _fill_semaphores(
    W: NDArray[np.int64],
    chip: NpuConfig,
    scope_of: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_groups: int,
    timed: Sequence[frozenset[int] | None],
) -> NDArray[np.int64]:
    """Records of all semaphores; returns them by core and number."""
    cores, numbers, sync = len(groups), len(scope_of), chip.core.sync
    core_scope = np.flatnonzero(scope_of == 0)
    own = np.zeros((cores, numbers), dtype=np.int64)
    rank = np.zeros(numbers, dtype=np.int64)
    for scope in range(3):
        rank[scope_of == scope] = np.arange(int((scope_of == scope).sum()))
    n_core, n_group = len(core_scope), int((scope_of == 1).sum())
    own[:, scope_of == 0] = np.arange(cores)[:, None] * n_core + rank[scope_of == 0]
    own[:, scope_of == 1] = cores * n_core + groups[:, None] * n_group + rank[scope_of == 1]
    own[:, scope_of == 2] = cores * n_core + n_groups * n_group + rank[scope_of == 2]
    further = np.array([0, sync.group_cycles, sync.launch_cycles])
    each = int(own.max(initial=-1)) + 1
    base = int(W[H_SEM])
    record = base + np.arange(each) * S_SIZE
    W[record + S_BASE] = np.arange(each) * 2 * RING
    W[record + S_MASK] = RING - 1
    W[record + S_WAITER] = W[record + S_OTHER] = -1
    semaphores: NDArray[np.int64] = base + own * S_SIZE
    W[semaphores + S_DELAY] = sync.set_to_visible_cycles + further[scope_of]
    W[semaphores[:, scope_of > 0] + S_TIMED] = 1
    for core, numbers_of in enumerate(timed):
        own_timed = core_scope if numbers_of is None else [n for n in numbers_of if scope_of[n] == 0]
        W[semaphores[core, own_timed] + S_TIMED] = 1
    at = int(W[H_SEM_OF])
    W[at : at + own.size] = semaphores.ravel()
    return semaphores


def _fill_meetings(W: NDArray[np.int64], chip: NpuConfig, groups: NDArray[np.int64], n_groups: int) -> None:
    """Meeting points: of each core, of each group, of the launch."""
    cores, sync = len(groups), chip.core.sync
    base, barrier = int(W[H_MEET]), chip.core.sequencer.barrier_cycles
    index = np.arange(cores + n_groups + 1)
    members = np.concatenate((np.ones(cores, dtype=np.int64), np.bincount(groups, minlength=n_groups), [cores]))
    further = np.repeat([0, sync.group_cycles, sync.launch_cycles], [cores, n_groups, 1])
    W[base + index * B_SIZE + B_MEMBERS] = members
    W[base + index * B_SIZE + B_CYCLES] = barrier + further
    record = W[H_CORE] + np.arange(cores) * C_SIZE + C_MEET
    W[record] = base + np.arange(cores) * B_SIZE
    W[record + 1] = base + (cores + groups) * B_SIZE
    W[record + 2] = base + (cores + n_groups) * B_SIZE


def _power(least: int) -> int:
    """The smallest power of two that is not less, 2 at least."""
    return 1 << max(1, (least - 1).bit_length())
