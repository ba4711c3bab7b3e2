"""The launch once more, without time: what surely happens before what, and which accesses nothing orders.

Every unit goes through its instructions in order; an instruction goes when the semaphores that it waits for have counts. Its
clock says, for each unit of its domain, how many instructions have completed before it starts, whatever the timing: what the
unit's instruction before knew, what the sets that it takes knew, with the order bit its own unit so far, after a barrier all
that the scope's cores dispatched before. Two accesses of the same bytes are ordered when the clock of one knows the other.
The order in which units get their turn here changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from npuvm.hw.expansion.stream import Barrier, ScalarLoad, SetSemaphores
from npuvm.hw.hazards.cores import Core, Sync, UnitRun, make_cores
from npuvm.hw.hazards.layout import SEQUENCER
from npuvm.hw.hazards.semaphores import UNIT_SHIFT, Counted, VectorClock

if TYPE_CHECKING:
    from npuvm.hw.hazards.layout import Layout

__all__ = ["OrderRun", "Touch"]


class Touch(NamedTuple):
    """An instruction that touches something: its core, the code of its unit, its number there from 1.

    A step of the sequencer is numbered among its events.
    """

    core: int
    code: int
    number: int


class OrderRun:
    """Runs a launch that is laid out; for every two accesses that nothing orders it calls one of three.

    `on_chip(one, tile, other, tile)`, `in_gm(one, region, other, region)` and `in_set_up(user, step, semaphore)`; the
    arguments come in the order of the run, which is not that of the program. `core` is the state of a core, by its index.
    """

    def __init__(
        self,
        layout: Layout,
        scope_of: Callable[[int], str],
        on_chip: Callable[[Touch, int, Touch, int], None],
        in_gm: Callable[[Touch, int, Touch, int], None],
        in_set_up: Callable[[Touch, Touch, Counted], None],
    ) -> None:
        self.layout = layout
        self.cores = make_cores(layout, scope_of)
        self.core = {core.index: core for core in self.cores}
        self._on_chip = on_chip
        self._in_gm = in_gm
        self._in_set_up = in_set_up
        self._owners = [(core, code) for core in self.cores for code in core.places]
        self._known = [0] * len(self._owners)
        self._gm_last: dict[int, dict[int, int]] = {}
        site_units = [site.unit for site in layout.sites]
        self._tile_units = [site_units[site] for site in layout.tiles.site.tolist()]

    def run(self) -> bool:
        """Go on until nothing can; False when something is left."""
        moved = True
        while moved:
            moved = False
            for core in self.cores:
                while self._units(core) or self._sequencer(core):
                    moved = True
            moved = self._meet() or moved
        return all(core.drained() and core.event == len(core.layout.events) for core in self.cores)

    def touch(self, number: int, instruction: int) -> Touch:
        """An instruction by the number of its unit in the launch."""
        core, code = self._owners[number]
        return Touch(core.index, code, instruction)

    def _units(self, core: Core) -> bool:
        moved = False
        for unit in core.units:
            before = unit.at
            while unit.at < unit.limit:
                if unit.marks and unit.marks[0][0] <= unit.at:
                    unit.clock = _with(unit.clock, core.places[SEQUENCER], unit.marks.popleft()[1])
                    continue
                stop = unit.marks[0][0] if unit.marks else unit.limit
                self._go(core, unit, stop)
                if unit.at < stop:
                    break
            moved = moved or unit.at > before
        return moved

    def _go(self, core: Core, unit: UnitRun, stop: int) -> None:
        """Let a unit go through its instructions up to `stop`, or the first that must wait."""
        at, clock, place, log = unit.at, unit.clock, unit.place, unit.id << UNIT_SHIFT
        syncs, tiles, gm, last, checks = unit.syncs, unit.tiles, unit.gm, core.last, core.checks
        while at < stop:
            sync = syncs[at]
            number = at + 1
            if sync is not None:
                if sync.needs:
                    taken = _take(sync, clock, log + number)
                    if taken is None:
                        break
                    clock = taken
                if sync.order and clock[place] < at:
                    clock = _with(clock, place, at)
                if sync.wide:
                    self._follow_set_up(unit, number, sync, clock)
            tile = tiles[at]
            check = checks[tile]
            if check is None:
                check = checks[tile] = self._checks_of(core, tile)
            for other, its_place in check:
                if last[other] > clock[its_place]:
                    one = Touch(core.index, self._tile_units[other], last[other])
                    self._on_chip(one, other, Touch(core.index, unit.code, number), tile)
            last[tile] = number
            if gm[at] >= 0:
                self._global(core, unit.code, number, gm[at], clock)
            if sync is not None and sync.sets:
                done = _with(clock, place, number)
                for semaphore in sync.sets:
                    semaphore.sets.append(log + number)
                    semaphore.tokens.append((core.base if semaphore.loose else done, len(semaphore.sets)))
            at = number
        unit.at, unit.clock = at, clock

    def _checks_of(self, core: Core, tile: int) -> tuple[tuple[int, int], ...]:
        """What must have completed before an instruction with this tile starts, as far as the core comes to it."""
        tiles, units = self.layout.tiles, self._tile_units
        return tuple(
            (other, core.places[units[other]])
            for other in tiles.conflicts.get(tile, ())
            if units[other] in core.places and (units[other] != units[tile] or (other, tile) in tiles.raw)
        )

    def _global(self, core: Core, code: int, number: int, region: int, clock: VectorClock) -> None:
        """Check an access of global memory, and note it."""
        me, gm = core.ids[code], self.layout.gm
        for other in gm.conflicts[region]:
            for unit, its_number in self._gm_last.get(other, {}).items():
                its_place = core.by_id.get(unit)
                known = self._known[unit] if its_place is None else clock[its_place]
                if its_number > known and (unit != me or gm.reads_after(other, region)):
                    self._in_gm(self.touch(unit, its_number), other, Touch(core.index, code, number), region)
        self._gm_last.setdefault(region, {})[me] = number

    # The sequencer.

    def _sequencer(self, core: Core) -> bool:
        """Do the next event of a core's sequencer; False when it has to wait or there is none."""
        events = core.layout.events
        if core.waiting is not None or core.event == len(events):
            return False
        _, event, _, region = events[core.event]
        if isinstance(event, Barrier):
            if core.drained():
                core.waiting = event
            return False
        if isinstance(event, SetSemaphores) and event.values:
            self._set_up(core, event)
        elif isinstance(event, ScalarLoad) and region >= 0:
            self._global(core, SEQUENCER, core.event + 1, region, core.base)
            self._pass_on(core)
        self._next_event(core)
        return True

    def _next_event(self, core: Core) -> None:
        core.event += 1
        core.dispatch()

    def _pass_on(self, core: Core) -> None:
        """What is dispatched from now on knows the sequencer's step."""
        for unit in core.units:
            unit.marks.append((unit.limit, core.event + 1))

    def _set_up(self, core: Core, event: SetSemaphores) -> None:
        step = Touch(core.index, SEQUENCER, core.event + 1)
        me = core.ids[SEQUENCER]
        for number, count in event.values:
            semaphore = core.semaphore(number)
            users = semaphore.users()
            for unit in core.units:  # those that are dispatched and wait
                uses = (i for i in range(unit.limit, unit.at, -1) if _uses(unit.syncs[i - 1], semaphore))
                users[unit.id] = next(uses, users.get(unit.id, 0))
            for user, instruction in users.items():
                if instruction > core.base[core.by_id[user]]:
                    self._in_set_up(self.touch(user, instruction), step, semaphore)
            known = _with(core.base, core.places[SEQUENCER], core.event + 1)
            semaphore.reset(count, known, (me, core.event + 1))
        if any(core.semaphore(number).scope != "core" for number, _ in event.values):
            self._pass_on(core)

    def _follow_set_up(self, unit: UnitRun, number: int, sync: Sync, clock: VectorClock) -> None:
        """A semaphore of several cores must be used after another core's set-up of it."""
        core = unit.core
        for semaphore in sync.wide:
            if semaphore.set_up is None:
                continue
            sequencer, step = semaphore.set_up
            if sequencer != core.ids[SEQUENCER] and clock[core.by_id[sequencer]] < step:
                user = Touch(core.index, unit.code, number)
                self._in_set_up(user, self.touch(sequencer, step), semaphore)

    def _meet(self) -> bool:
        """Let cores pass the barriers at which all of a scope stand."""
        moved = False
        for core in self.cores:
            if core.waiting is None:
                continue
            scope = core.waiting.scope
            if scope == "core":
                members: Sequence[Core] = [core]
            else:
                members = [other for other in self.cores if scope == "launch" or other.group == core.group]
            if all(other.waiting is not None and other.waiting.scope == scope for other in members):
                self._pass(members)
                moved = True
        return moved

    def _pass(self, members: Sequence[Core]) -> None:
        """All that these cores dispatched has completed, and all of them know it."""
        bases: dict[int, VectorClock] = {}
        for core in members:
            domain = id(core.by_id)
            known = list(_join_all([bases.get(domain, core.base), core.base, *(unit.clock for unit in core.units)]))
            for unit in core.units:
                known[unit.place] = unit.limit
            known[core.places[SEQUENCER]] = core.event
            bases[domain] = tuple(known)
        for core in members:
            core.base = bases[id(core.by_id)]
            for unit in core.units:
                unit.clock = core.base
            if len(members) == len(self.cores):
                for code, number in core.ids.items():
                    self._known[number] = core.base[core.places[code]]
            core.waiting = None
            self._next_event(core)


def _take(sync: Sync, clock: VectorClock, entry: int) -> VectorClock | None:
    """The clock after all waits; None when one has no count yet."""
    for semaphore, count in sync.needs:
        if len(semaphore.tokens) < count:
            return None
    for semaphore in sync.waits:
        known, number = semaphore.tokens.popleft()
        semaphore.takes.append(entry)
        semaphore.taken.append(number)
        if known is not clock:
            clock = tuple(map(max, clock, known))
    return clock


def _with(clock: VectorClock, place: int, number: int) -> VectorClock:
    return (*clock[:place], number, *clock[place + 1 :])


def _join_all(clocks: Sequence[VectorClock]) -> VectorClock:
    return tuple(map(max, *clocks))


def _uses(sync: Sync | None, semaphore: Counted) -> bool:
    return sync is not None and (semaphore in sync.waits or semaphore in sync.sets)
