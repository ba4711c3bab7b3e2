"""Finds instructions that touch the same data in an order that no synchronisation proves.

It follows a launch while it runs and notes what was dispatched and when it ran; when the launch is over `finish` goes through
it once more without time (`npuvm.hw.hazards.order`). So a hazard is found whether or not it went wrong in time, and what is
found does not depend on the chip's timing, as long as the program does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from npuvm.hw.errors import SimulationError
from npuvm.hw.hazards.layout import SEQUENCER, Layout, lay_out
from npuvm.hw.hazards.missing import missing_order, missing_set_up_order
from npuvm.hw.hazards.order import OrderRun, Touch
from npuvm.hw.hazards.record import CoreRecord, Times
from npuvm.hw.hazards.report import MOST_REPORTED, Hazard, HazardError, HazardKind, Party
from npuvm.isa.codec import decode_at
from npuvm.isa.disasm import format_insn

if TYPE_CHECKING:
    from npuvm.hw.engine.clock import Clock
    from npuvm.hw.expansion.stream import Regions
    from npuvm.hw.hazards.overlaps import RegionTable
    from npuvm.hw.hazards.semaphores import Counted
    from npuvm.isa import Image, Isa

__all__ = ["HazardChecker"]

_Key = tuple[str, int, int, int, int, bool]


class HazardChecker:
    """Follows all cores of a launch. With `collect` hazards are gathered in `found`, else `finish` raises HazardError.

    At most `MOST_REPORTED` pairs of program words are in `found`; `more` counts the others. `image` is what runs, for the
    text of set-up and of scalar loads.
    """

    def __init__(self, collect: bool = False, image: Image | None = None) -> None:
        self.collect = collect
        self.found: tuple[Hazard, ...] = ()
        self.more = 0
        self._image = image
        self._isa: Isa | None = None
        self._records: dict[int, CoreRecord] = {}

    def follow(
        self, core: int, group: int, units: Mapping[int, str], regions: Regions, clock: Clock, isa: Isa
    ) -> Regions:
        """Make a core with these units (names by code) known; it is to run the regions that come back."""
        self._isa = isa
        record = self._records[core] = CoreRecord(core, group, units)
        return record.follow(regions, clock)

    def times(self, core: int) -> dict[int, Times]:
        """Where the starts and completions of a core's instructions are to be noted, by the code of the unit."""
        return self._records[core].units

    def finish(self, complete: bool = True) -> None:
        """Look for hazards in what ran; `complete` says that the launch came to its end.

        HazardError when there are some, unless they are collected.
        """
        if not self._records:
            return
        assert self._isa is not None
        search = _Search(lay_out([self._records[core] for core in sorted(self._records)]), self._isa, self._image)
        through = search.run.run()
        self.found, self.more = tuple(search.found.values()), len(search.skipped)
        if complete and not through and not self.found:
            raise SimulationError("a launch that ended does not end in the order that the hazard checker takes")
        if self.found and not self.collect:
            raise HazardError(self.found, self.more)


class _Search:
    """One search, and what it finds: a hazard for every pair of program words."""

    def __init__(self, layout: Layout, isa: Isa, image: Image | None) -> None:
        self.layout = layout
        self.isa = isa
        self.words = [] if image is None else image.words.tolist()
        self.found: dict[_Key, Hazard] = {}
        self.skipped: set[_Key] = set()
        self.run = OrderRun(layout, isa.semaphore_scope, self._on_chip, self._in_gm, self._in_set_up)

    def _on_chip(self, one: Touch, tile: int, other: Touch, its_tile: int) -> None:
        tiles = self.layout.tiles
        if self._swapped(one, other):
            one, tile, other, its_tile = other, its_tile, one, tile
        if one.code == other.code and (tile, its_tile) not in tiles.raw:
            return

        def describe() -> Hazard:
            t = tiles.regions
            # Read after write first: within a unit it is the only hazard, between units the plainest.
            a, b = max(
                tiles.pairs(tile, its_tile), key=lambda p: (t.writes[p[0]] and t.reads[p[1]], not t.writes[p[1]])
            )
            return self._describe(one, other, t, a, b)

        self._add("on chip", one, other, describe)

    def _in_gm(self, one: Touch, region: int, other: Touch, its_region: int) -> None:
        if self._swapped(one, other):
            one, region, other, its_region = other, its_region, one, region
        self._add("gm", one, other, lambda: self._describe(one, other, self.layout.gm.regions, region, its_region))

    def _in_set_up(self, user: Touch, step: Touch, semaphore: Counted) -> None:
        one, other = (step, user) if self._swapped(user, step) else (user, step)
        number = semaphore.number

        def describe() -> Hazard:
            missing = missing_set_up_order(self.run, user, step, semaphore)
            return Hazard("set-up in use", "", number, number + 1, self._party(one), self._party(other), missing)

        self._add(f"semaphore {number}", one, other, describe)

    def _swapped(self, one: Touch, other: Touch) -> bool:
        """Whether the second comes first: in the program, or for two cores in this run."""
        mine, theirs = self.layout.cores[one.core], self.layout.cores[other.core]
        if one.core == other.core:
            return theirs.place(other.code, other.number) < mine.place(one.code, one.number)
        return theirs.times(other.code, other.number)[0] < mine.times(one.code, one.number)[0]

    def _add(self, what: str, earlier: Touch, later: Touch, describe: Callable[[], Hazard]) -> None:
        key = (what, self._pc(earlier), earlier.code, self._pc(later), later.code, earlier.core == later.core)
        known, copies = self.found.get(key), self.run.core[earlier.core].copies
        if known is not None:
            self.found[key] = replace(known, count=known.count + copies)
        elif len(self.found) < MOST_REPORTED:
            self.found[key] = replace(describe(), count=copies)
        else:
            self.skipped.add(key)

    def _describe(self, one: Touch, other: Touch, regions: RegionTable, a: int, b: int) -> Hazard:
        kind: HazardKind = "write after read"
        if regions.writes[a]:
            kind = "read after write" if regions.reads[b] else "write after write"
        space = "gm" if regions is self.layout.gm.regions else self.layout.spaces[int(regions.space[a])]
        low, high = max(regions.low[a], regions.low[b]), min(regions.high[a], regions.high[b])
        missing = missing_order(self.run, one, other)
        return Hazard(kind, space, int(low), int(high), self._party(one), self._party(other), missing)

    def _pc(self, touch: Touch) -> int:
        laid = self.layout.cores[touch.core]
        if touch.code == SEQUENCER:
            return laid.events[touch.number - 1][1].pc
        return self.layout.sites[laid.site_of(touch.code, touch.number)].pc

    def _party(self, touch: Touch) -> Party:
        laid, pc = self.layout.cores[touch.core], self._pc(touch)
        start, complete = laid.times(touch.code, touch.number)
        if touch.code == SEQUENCER:
            text = (
                format_insn(self.isa, decode_at(self.isa, self.words, pc)[0]) if self.words else "set-up or scalar load"
            )
            return Party(touch.core, "sequencer", pc, text, start, complete)
        site = self.layout.sites[laid.site_of(touch.code, touch.number)]
        return Party(touch.core, site.unit_name, pc, format_insn(self.isa, site.insn), start, complete)
