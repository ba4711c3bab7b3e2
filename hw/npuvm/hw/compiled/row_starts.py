"""Where rows begin that instructions pick by index: a ring for every core, behind all else in `W`.

A row has a number, counted from the core's first; it lies at number mod ring. An instruction in a queue has the number of its
first row in the place of an address, a transfer that of its next one. What no instruction needs any more may be overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.compiled.layout import (
    C_SIZE,
    C_STARTS,
    C_STARTS_MASK,
    D_INDEXED,
    H_CORE,
    H_DEPTH,
    H_UNIT,
    Q_ADDR,
    Q_SITE,
    Q_SIZE,
    U_COUNT,
    U_HEAD,
    U_QUEUE,
    U_SIZE,
    U_T_ADDR,
    U_T_INDEXED,
    U_T_ROWS,
    UNITS,
    Store,
)

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend
    from npuvm.hw.compiled.world import World

__all__ = ["RowStarts"]

_FIRST_ROWS = 1024


class RowStarts:
    """The rings of all cores of a launch."""

    def __init__(self, backend: Backend, world: World) -> None:
        self._backend = backend
        self._world = world
        self._next: dict[int, int] = {}

    def push(self, SITE: Store, core: int, starts: NDArray[np.int64]) -> int:
        """Put the addresses of rows behind those of a core that wants input; return the number of the first."""
        first = self._next.get(core, 0)
        oldest = self._oldest(SITE, core, first)
        if first + len(starts) - oldest > self._room(core):
            self._grow(core, oldest, first, len(starts))
        self._write(core, first, starts)
        self._next[core] = first + len(starts)
        return first

    def _record(self, core: int) -> int:
        return int(self._world.W[H_CORE]) + core * C_SIZE

    def _room(self, core: int) -> int:
        W, record = self._world.W, self._record(core)
        return int(W[record + C_STARTS_MASK]) + 1 if W[record + C_STARTS] else 0

    def _write(self, core: int, first: int, starts: NDArray[np.int64]) -> None:
        W, record, room = self._world.W, self._record(core), self._room(core)
        base, at = int(W[record + C_STARTS]), first % room
        before = min(len(starts), room - at)
        self._backend.put(W, base + at, starts[:before])
        self._backend.put(W, base, starts[before:])

    def _grow(self, core: int, oldest: int, end: int, more: int) -> None:
        W, record, room = self._world.W, self._record(core), self._room(core)
        base = int(W[record + C_STARTS])
        kept = np.array([W[base + number % room] for number in range(oldest, end)], dtype=np.int64)
        larger = max(_FIRST_ROWS, 1 << (2 * (end - oldest + more) - 1).bit_length())
        at = len(W)
        W = self._world.W = self._backend.grown(W, at + larger)
        W[record + C_STARTS], W[record + C_STARTS_MASK] = at, larger - 1
        self._write(core, oldest, kept)

    def _oldest(self, SITE: Store, core: int, end: int) -> int:
        """The first row that an instruction still needs; every stream of the core that came before is in queues or beyond."""
        W, depth = self._world.W, int(self._world.W[H_DEPTH])
        found = end
        for code in range(1, UNITS):
            unit = int(W[H_UNIT]) + (core * UNITS + code) * U_SIZE
            if W[unit + U_T_INDEXED] and W[unit + U_T_ROWS] > 0:
                found = min(found, int(W[unit + U_T_ADDR]))
            for place in range(int(W[unit + U_COUNT])):
                item = int(W[unit + U_QUEUE]) + (int(W[unit + U_HEAD]) + place) % depth * Q_SIZE
                if SITE[W[item + Q_SITE] + D_INDEXED]:
                    found = min(found, int(W[item + Q_ADDR]))
        return found
