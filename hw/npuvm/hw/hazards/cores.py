"""Cores and units in the run by order, and the domains of cores whose clocks go together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from npuvm.hw.hazards.layout import SEQUENCER
from npuvm.hw.hazards.semaphores import Clock, Counted
from npuvm.hw.stream import Barrier, SetSemaphores, Site
from npuvm.isa.control import SCOPES

if TYPE_CHECKING:
    from npuvm.hw.hazards.layout import CoreLayout, Layout

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
    clock: Clock = ()
    at: int = 0
    limit: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Core:
    """One core. `semaphore` gives its semaphores by number, `by_id` the place in its domain's clocks of a unit by its `id`.

    `places` and `ids` are those of its units by code. `base` is what everything dispatched since the last barrier knows at
    least; `event` is the sequencer's next one, `waiting` the barrier at which it stands, `steps` counts what it did itself.
    `last` holds, per tile, the number of the last instruction that touched it.
    """

    layout: CoreLayout
    index: int
    group: int
    semaphore: Callable[[int], Counted]
    by_id: dict[int, int]
    units: list[UnitRun] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    base: Clock = ()
    event: int = 0
    steps: int = 0
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
    """The cores of a launch, ready to run; `scope_of` gives the scope of a semaphore by its number."""
    bank = _Bank(scope_of)
    domains = _domains(layout, scope_of)
    ids = iter(range(1 << 30))
    sizes: dict[int, int] = {}
    by_id: dict[int, dict[int, int]] = {}
    shared: dict[tuple[object, ...], Checks] = {}
    owners: _Owners = {}
    cores = []
    for index, laid in enumerate(layout.cores):
        domain = domains[index]
        core = Core(laid, index, laid.record.group, bank.of(index, laid.record.group), by_id.setdefault(domain, {}))
        syncs = _syncs(layout.sites, laid, core.semaphore)
        for code in [*(code for code, rows in laid.rows_of.items() if len(rows)), SEQUENCER]:
            core.places[code] = place = sizes.get(domain, 0)
            core.ids[code] = number = next(ids)
            core.by_id[number] = place
            sizes[domain] = place + 1
            if code != SEQUENCER:
                core.units.append(_unit(core, code, syncs))
                _note_owners(core, code, syncs, owners)
        core.last = [0] * len(layout.tiles.site)
        core.checks = shared.setdefault(tuple(core.places.items()), [None] * len(layout.tiles.site))
        cores.append(core)
    for core in cores:
        core.base = (0,) * sizes[domains[core.index]]
        for unit in core.units:
            unit.clock = core.base
        core.dispatch()
    for (semaphore, _), (setters, waiters) in owners.items():
        semaphore.loose |= len(setters) > 1 or len(waiters) > 1
    return cores


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


def _syncs(sites: Sequence[Site], laid: CoreLayout, semaphore: Callable[[int], Counted]) -> dict[int, Sync | None]:
    """The synchronisation of every site that a core comes to, None for one without."""
    result: dict[int, Sync | None] = {}
    for index in np.unique(laid.site).tolist():
        site = sites[index]
        if not (site.waits or site.sets or site.order):
            result[index] = None
            continue
        waits, sets = tuple(map(semaphore, site.waits)), tuple(map(semaphore, site.sets))
        needs = tuple((each, waits.count(each)) for each in dict.fromkeys(waits))
        wide = tuple(each for each in (*waits, *sets) if each.scope != "core")
        result[index] = Sync(waits, needs, sets, site.order, wide)
    return result


_Owners: TypeAlias = dict[tuple[Counted, int], tuple[set[int], set[int]]]
"""Setting and waiting units of a semaphore in a stretch between barriers of its scope."""


def _note_owners(core: Core, code: int, syncs: Mapping[int, Sync | None], owners: _Owners) -> None:
    laid, number = core.layout, core.ids[code]
    barriers = [(rows, event.scope) for rows, event, _, _ in laid.events if isinstance(event, Barrier)]
    sites = laid.site[laid.rows_of[code]]
    stretch = np.searchsorted(np.array([rows for rows, _ in barriers]), laid.rows_of[code], side="right")
    for part, site in np.unique(np.stack([stretch, sites], axis=1), axis=0).tolist():
        sync = syncs[site]
        if sync is None:
            continue
        for side, semaphores in enumerate((sync.sets, sync.waits)):
            for semaphore in semaphores:
                passed = SCOPES[SCOPES.index(semaphore.scope) :]
                count = sum(scope in passed for _, scope in barriers[:part])
                owners.setdefault((semaphore, count), (set(), set()))[side].add(number)


def _domains(layout: Layout, scope_of: Callable[[int], str]) -> list[int]:
    """For every core the number of its domain: cores that share a semaphore or meet at barriers of their group."""
    parent = list(range(len(layout.cores)))

    def root(core: int) -> int:
        while parent[core] != core:
            core = parent[core]
        return core

    meeting: dict[tuple[str, int], int] = {}
    for index, laid in enumerate(layout.cores):
        sites = [layout.sites[site] for site in np.unique(laid.site).tolist()]
        used = {scope_of(number) for site in sites for number in (*site.waits, *site.sets)}
        steps = [step for _, step, _, _ in laid.events]
        used |= {scope_of(number) for step in steps if isinstance(step, SetSemaphores) for number, _ in step.values}
        used |= {step.scope for step in steps if isinstance(step, Barrier) and step.scope == "group"}
        for scope in used - {"core"}:
            first = meeting.setdefault((scope, laid.record.group if scope == "group" else 0), index)
            parent[root(index)] = root(first)
    return [root(core) for core in range(len(parent))]
