"""One launch in the compiled engine: lays out the state, lets the kernels run, feeds them, and says what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from npuvm.hw.compiled.feed import Feed
from npuvm.hw.compiled.layout import (
    BEYOND,
    C_SIZE,
    C_STATE,
    FINISHED,
    GROW_LINES,
    GROW_TOKENS,
    H_ARG0,
    H_ARG1,
    H_CORE,
    H_LIMIT,
    H_SEM,
    H_SEM_OF,
    H_UNIT,
    INPUT,
    LATE,
    M_DIRTY,
    M_HIT_BYTES,
    M_REQUESTS,
    S_OTHER,
    S_SIZE,
    TWO_CONSUMERS,
    U_SIZE,
    U_STATE,
    UNITS,
    Store,
)
from npuvm.hw.compiled.messages import explain, last_cycle, two_consumers
from npuvm.hw.compiled.servers import make_servers, traffic_of
from npuvm.hw.compiled.views import CoreView, MemoryView, view_core
from npuvm.hw.compiled.world import make_world
from npuvm.hw.engine.chip import memory_params
from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.expansion.tally import Tally
from npuvm.hw.memory.chunks import engines_of

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.engine.chip import CoreProgram
    from npuvm.hw.expansion.stream import ScalarLoad
    from npuvm.hw.memory.l2 import L2State
    from npuvm.isa import Isa

__all__ = ["CompiledMachine"]


class CompiledMachine:
    """One launch on a chip: build it, then `run` it once. The counterpart of `npuvm.hw.engine.chip.Machine`.

    `timed` are the semaphores of each core's own that are not simple (`npuvm.hw.compiled.sections`); None for a core: all.
    After the run `cores` and `memory` say what happened.
    """

    def __init__(
        self,
        backend: Backend,
        chip: NpuConfig,
        isa: Isa,
        programs: Sequence[CoreProgram],
        l2: L2State,
        scalar: Callable[[int, ScalarLoad], int],
        timed: Sequence[frozenset[int] | None] | None = None,
    ) -> None:
        self.backend = backend
        self.chip = chip
        self.isa = isa
        self.programs = programs
        self.cores: list[CoreView] = []
        self.memory: MemoryView
        self._l2 = l2
        self._scalar = scalar
        self._timed = timed or [None] * len(programs)
        self._tallies = [Tally() for _ in programs]

    def run(self, cycle_limit: int | None = None) -> int:
        """Run to the end; return the cycles until the last core has halted.

        SimulationError for a deadlock, naming what each core waits for; TrapError for a launch longer than the limit.
        """
        world = make_world(self.backend, self.chip, self.isa, self.programs, self._timed, cycle_limit)
        feed = Feed(self.backend, self.chip, self.isa, self.programs, world, self._scalar, self._tallies)
        dirty = self._l2.dirty
        largest = max(engine.chunk_bytes for engine in engines_of(self.chip).values())
        M = make_servers(self.backend, memory_params(self.chip), self._l2, largest)
        table = self._l2.table(self.backend)
        table.lend(M)
        try:
            feed.refill()
            while True:
                # Feeding may have put a larger one in its place.
                W = world.W
                status = self.backend.run(
                    W, M, feed.SITE, feed.COL, world.TOK, table.slots, table.log, table.directory, table.pages
                )
                if status == INPUT:
                    feed.refill()
                elif status == GROW_LINES:
                    table.reserve(int(W[H_ARG0]), int(W[H_ARG1]))
                elif status == GROW_TOKENS:
                    world.grow_ring(self.backend, int(W[H_ARG0]))
                elif status == TWO_CONSUMERS:
                    raise SimulationError(two_consumers(W, self.isa, int(W[H_ARG0])))
                else:
                    break
        finally:
            self._l2.dirty = int(M[M_DIRTY])
        self._check(W, feed)
        self.memory = MemoryView(self._l2, traffic_of(M, dirty), int(M[M_HIT_BYTES]), int(M[M_REQUESTS]))
        start = self.chip.core.sequencer.start_cycles
        self.cores = [
            view_core(W, self.isa, i, each.core_type, self.chip.units(each.core_type), start, self._tallies[i])
            for i, each in enumerate(self.programs)
        ]
        return max((core.finished for core in self.cores), default=0)

    def _check(self, W: Store, feed: Feed) -> None:
        """Raise what a launch that is not finished deserves."""
        states = [W[W[H_CORE] + core * C_SIZE + C_STATE] for core in range(len(self.programs))]
        stuck = [core for core, state in enumerate(states) if state != FINISHED]
        if not stuck:
            return
        beyond = any(W[W[H_UNIT] + uid * U_SIZE + U_STATE] == BEYOND for uid in range(len(self.programs) * UNITS))
        waits = "; ".join(explain(W, self.chip, self.isa, feed, self.programs[core], core) for core in stuck)
        if beyond or LATE in states:
            raise TrapError("cycle_limit", f"not finished after {W[H_LIMIT]} cycles: {waits}")
        for at in range(int(W[H_SEM]), int(W[H_SEM_OF]), S_SIZE):
            if W[at + S_OTHER] >= 0:
                raise SimulationError(two_consumers(W, self.isa, at))
        raise SimulationError(f"deadlock in cycle {last_cycle(W)}: {waits}")
