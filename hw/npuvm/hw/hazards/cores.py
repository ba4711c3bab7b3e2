"""Cores and units in the run by order, and the domains of cores whose clocks go together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npuvm.hw.expansion.stream import Barrier, SetSemaphores, Site
from npuvm.hw.hazards.layout import SEQUENCER
from npuvm.hw.hazards.semaphores import Counted, VectorClock
from npuvm.isa.control import SCOPES

if TYPE_CHECKING:
    from npuvm.hw.hazards.layout import CoreLayout, Layout, Step

__all__ = ["Core", "Sync", "UnitRun", "make_cores"]

Checks: TypeAlias = list[tuple[tuple[int, int], ...] | None]
"""Per tile the (tile, place) of what must be known to have completed; None where that is not worked out yet."""


@dataclass(slots=True)
class Sync:
    """The synchronisation of a site: `needs`: semaphores and the counts they must have; `wide`: those of several cores."""

    waits: tuple[Counted, ...]
    needs: tuple[tuple[Counted, int], ...]
    sets: tuple[Counted, ...]
    order: bool
    wide: tuple[Counted, ...]


@dataclass(slots=True, eq=False)
class UnitRun:
    """One unit. `place` is its place in the clocks of its domain, `id` its number in the launch.

    Instructions `at` and later are still to come; `limit` is how many the sequencer has dispatched, `limits` how many it will
    have before each of its events. `marks` are (instruction, number): from there on that many steps of the sequencer are known.
    """

    core: Core
    code: int
    id: int
    place: int
    syncs: list[Sync | None]
    tiles: list[int]
    gm: list[int]
    limits: list[int]
    clock: VectorClock = ()
    at: int = 0
    limit: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Core:
    """One core, which stands for `copies` that do the same.

    `semaphore` gives its semaphores by number, `by_id` the place in its domain's clocks of a unit by its `id`. `places` and
    `ids` are those of its units by code. `base` is what everything dispatched since the last barrier knows at least. `event`
    is the sequencer's next one, `waiting` the barrier at which it stands. `last` holds, per tile, the number of the last
    instruction that touched it.
    """

    layout: CoreLayout
    index: int
    group: int
    copies: int
    semaphore: Callable[[int], Counted]
    by_id: dict[int, int]
    units: list[UnitRun] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    base: VectorClock = ()
    event: int = 0
    waiting: Barrier | None = None
    last: list[int] = field(default_factory=list)
    checks: Checks = field(default_factory=list)

    def drained(self) -> bool:
        """Whether every unit has done all that was dispatched."""
        return all(unit.at >= unit.limit for unit in self.units)

    def dispatch(self) -> None:
        """Dispatch what comes before the sequencer's next event."""
        for unit in self.units:
            unit.limit = unit.limits[self.event]


def make_cores(layout: Layout, scope_of: Callable[[int], str]) -> list[Core]:
    """The cores of a launch, ready to run; `scope_of` gives the scope of a semaphore by its number.

    Of cores that do the same on chip, share no semaphore with others and have no conflict in global memory, one stands for all.
    """
    chosen = _representatives(layout, scope_of)
    domains = _domains(layout, chosen, scope_of)
    bank = _Bank(scope_of)
    ids = iter(range(1 << 30))
    sizes: dict[int, int] = {}
    by_id: dict[int, dict[int, int]] = {}
    shared: dict[tuple[object, ...], Checks] = {}
    owners: _Owners = {}
    cores = []
    for index, copies in chosen.items():
        laid, domain = layout.cores[index], domains[index]
        semaphore = bank.of(index, laid.record.group)
        core = Core(laid, index, laid.record.group, copies, semaphore, by_id.setdefault(domain, {}))
        syncs = {site: _sync(layout.sites[site], semaphore) for site in laid.sites}
        for code in [*(code for code, rows in laid.rows_of.items() if len(rows)), SEQUENCER]:
            core.places[code] = place = sizes.get(domain, 0)
            core.ids[code] = number = next(ids)
            core.by_id[number] = place
            sizes[domain] = place + 1
            if code != SEQUENCER:
                core.units.append(_unit(core, code, syncs))
        _note_owners(core, layout.sites, syncs, owners)
        core.last = [0] * len(layout.tiles.site)
        core.checks = shared.setdefault(tuple(core.places.items()), [None] * len(layout.tiles.site))
        cores.append(core)
    for core in cores:
        core.base = (0,) * sizes[domains[core.index]]
        for unit in core.units:
            unit.clock = core.base
        core.dispatch()
    for (semaphore_, _), (setters, waiters) in owners.items():
        semaphore_.loose |= len(setters) > 1 or len(waiters) > 1
    return cores


def _representatives(layout: Layout, scope_of: Callable[[int], str]) -> dict[int, int]:
    """Cores to run, with the number of cores that each stands for."""
    chosen: dict[int, int] = {}
    first: dict[tuple[object, ...], int] = {}
    for index, laid in enumerate(layout.cores):
        steps = tuple(_signature(rows, step) for rows, step, _, _ in laid.events)
        parts = laid.site.tobytes(), laid.tile.tobytes(), tuple(len(rows) for rows in laid.rows_of.values())
        key = (*parts, steps)
        global_memory = bool((laid.gm >= 0).any()) or any(region >= 0 for *_, region in laid.events)
        if key in first and not global_memory:
            chosen[first[key]] += 1
            continue
        chosen[index] = 1
        if not global_memory and not _wide_scopes(layout, laid, scope_of):
            first[key] = index
    return chosen


def _signature(rows: int, step: Step) -> tuple[object, ...]:
    if isinstance(step, SetSemaphores):
        return rows, step.values
    return rows, step.scope if isinstance(step, Barrier) else type(step)


def _wide_scopes(layout: Layout, laid: CoreLayout, scope_of: Callable[[int], str]) -> set[str]:
    """Scopes beyond the core of the semaphores that a core uses or sets up."""
    used = {scope_of(n) for site in laid.sites for n in (*layout.sites[site].waits, *layout.sites[site].sets)}
    for _, step, _, _ in laid.events:
        if isinstance(step, SetSemaphores):
            used |= {scope_of(number) for number, _ in step.values}
    return used - {"core"}


class _Bank:
    """The semaphores of a launch, each by the cores that share it."""

    def __init__(self, scope_of: Callable[[int], str]) -> None:
        self._scope_of = scope_of
        self._found: dict[tuple[str, int, int], Counted] = {}

    def of(self, core: int, group: int) -> Callable[[int], Counted]:
        """The semaphores as one core names them."""

        def find(number: int) -> Counted:
            scope = self._scope_of(number)
            key = (scope, {"core": core, "group": group, "launch": 0}[scope], number)
            if key not in self._found:
                self._found[key] = Counted(number, scope)
            return self._found[key]

        return find


def _unit(core: Core, code: int, syncs: Mapping[int, Sync | None]) -> UnitRun:
    laid = core.layout
    rows = laid.rows_of[code]
    ends = np.array([event[0] for event in laid.events] + [len(laid.site)])
    return UnitRun(
        core=core,
        code=code,
        id=core.ids[code],
        place=core.places[code],
        syncs=[syncs[site] for site in laid.site[rows].tolist()],
        tiles=laid.tile[rows].tolist(),
        gm=laid.gm[rows].tolist(),
        limits=np.searchsorted(rows, ends).tolist(),
    )


def _sync(site: Site, semaphore: Callable[[int], Counted]) -> Sync | None:
    """The synchronisation of a site, None when it has none."""
    if not (site.waits or site.sets or site.order):
        return None
    waits, sets = tuple(map(semaphore, site.waits)), tuple(map(semaphore, site.sets))
    needs = tuple((each, waits.count(each)) for each in dict.fromkeys(waits))
    wide = tuple(each for each in (*waits, *sets) if each.scope != "core")
    return Sync(waits, needs, sets, site.order, wide)


_Owners: TypeAlias = dict[tuple[Counted, int], tuple[set[int], set[int]]]
"""Setting and waiting units of a semaphore in a stretch between barriers of its scope."""


def _note_owners(core: Core, sites: Sequence[Site], syncs: Mapping[int, Sync | None], owners: _Owners) -> None:
    laid = core.layout
    barriers = [(rows, event.scope) for rows, event, _, _ in laid.events if isinstance(event, Barrier)]
    if barriers:
        stretch = np.searchsorted(np.array([rows for rows, _ in barriers]), np.arange(len(laid.site)), side="right")
        pairs = np.unique(stretch * len(sites) + laid.site).tolist()
    else:
        pairs = laid.sites
    for part, site in (divmod(pair, len(sites)) for pair in pairs):
        sync, number = syncs[site], core.ids.get(sites[site].unit)
        if sync is None or number is None:  # of a unit that started nothing
            continue
        for side, semaphores in enumerate((sync.sets, sync.waits)):
            for semaphore in semaphores:
                passed = SCOPES[SCOPES.index(semaphore.scope) :]
                count = sum(scope in passed for _, scope in barriers[:part])
                owners.setdefault((semaphore, count), (set(), set()))[side].add(number)


def _domains(layout: Layout, chosen: Iterable[int], scope_of: Callable[[int], str]) -> dict[int, int]:
    """For every core the number of its domain: cores that share a semaphore or meet at barriers of their group."""
    parent = {core: core for core in chosen}

    def root(core: int) -> int:
        while parent[core] != core:
            core = parent[core]
        return core

    meeting: dict[tuple[str, int], int] = {}
    for index in parent:
        laid = layout.cores[index]
        used = _wide_scopes(layout, laid, scope_of)
        if any(isinstance(step, Barrier) and step.scope == "group" for _, step, _, _ in laid.events):
            used.add("group")
        for scope in used:
            first = meeting.setdefault((scope, laid.record.group if scope == "group" else 0), index)
            parent[root(index)] = root(first)
    return {core: root(core) for core in parent}
