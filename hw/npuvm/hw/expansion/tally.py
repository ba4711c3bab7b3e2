"""What the instructions of a core add up to: all that the statistics want to know of streams, in a few rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.expansion.rows import number_rows

if TYPE_CHECKING:
    from npuvm.hw.expansion.stream import Column, Site, Stream

__all__ = ["SiteTable", "Tally", "unite"]

_MOST_PARTS = 64
"""Parts of a table that are kept apart before they are made one."""


@dataclass
class SiteTable:
    """Sums over the instructions of a table of sites.

    By site: `count` of instructions, cycles of `occupancy`, bytes `moved` by DMA engines. `kinds` (u, 4) are the site and the
    sizes of instructions that differ in these, `times` (u) how many there are of each.
    """

    sites: tuple[Site, ...]
    count: Column
    occupancy: Column
    moved: Column
    kinds: NDArray[np.int64]
    times: Column


class Tally:
    """Sums over the instructions of a core: `gap` and `bank` cycles as in `Stream`, and a table for each table of sites."""

    def __init__(self) -> None:
        self.gap = 0
        self.bank = 0
        self._parts: dict[int, list[SiteTable]] = {}

    @staticmethod
    def of(streams: Iterable[Stream]) -> Tally:
        """The tally of these streams."""
        tally = Tally()
        for stream in streams:
            tally.add(stream)
        return tally

    def add(self, stream: Stream) -> None:
        """Count a stream in."""
        if not len(stream):
            return
        self.gap += int(stream.gap.sum())
        self.bank += int(stream.bank.sum())
        parts = self._parts.setdefault(id(stream.sites), [])
        parts.append(_table(stream))
        if len(parts) > _MOST_PARTS:
            parts[:] = [_together(parts)]

    @property
    def tables(self) -> list[SiteTable]:
        """One table for each table of sites."""
        for parts in self._parts.values():
            parts[:] = [_together(parts)]
        return [table for (table,) in self._parts.values()]


def unite(tallies: Iterable[Tally]) -> list[SiteTable]:
    """The tables of several cores, one for each table of sites: cores that run the same text share it."""
    parts: dict[int, list[SiteTable]] = {}
    for tally in tallies:
        for table in tally.tables:
            parts.setdefault(id(table.sites), []).append(table)
    return [_together(each) for each in parts.values()]


def _table(stream: Stream) -> SiteTable:
    site, size, sites = stream.site, stream.size, len(stream.sites)
    # Most instructions of a site have the sizes of any one of them; only the others need to be sorted.
    one = np.zeros(sites, dtype=np.int64)
    one[site] = np.arange(len(site))
    usual = size[one]
    same = np.ones(len(site), dtype=np.bool_)
    for column in range(size.shape[1]):
        same &= size[:, column] == usual[site, column]
    count = np.bincount(site, minlength=sites)
    alike = same.all()
    times = count if alike else np.bincount(site[same], minlength=sites)
    kinds, often = np.concatenate((np.arange(sites)[:, None], usual), axis=1)[times > 0], times[times > 0]
    if not alike:
        others = np.concatenate((site[:, None], size), axis=1)[~same]
        kinds, often = np.concatenate((kinds, others)), np.concatenate((often, np.ones(len(others), dtype=np.int64)))
        kinds, often = _distinct(kinds, often)
    occupancy, moved = np.zeros((2, sites), dtype=np.int64)
    np.add.at(occupancy, site, stream.occupancy)
    if stream.gm_rows.any():
        np.add.at(moved, site, stream.gm_rows * stream.gm_row_bytes)
    return SiteTable(stream.sites, count, occupancy, moved, kinds, often)


def _together(parts: list[SiteTable]) -> SiteTable:
    if len(parts) == 1:
        return parts[0]
    kinds, times = _distinct(np.concatenate([part.kinds for part in parts]), np.concatenate([p.times for p in parts]))
    count, occupancy, moved = (
        sum((getattr(part, name) for part in parts), start=np.zeros_like(parts[0].count))
        for name in ("count", "occupancy", "moved")
    )
    return SiteTable(parts[0].sites, count, occupancy, moved, kinds, times)


def _distinct(kinds: NDArray[np.int64], times: Column) -> tuple[NDArray[np.int64], Column]:
    """Rows that differ, and how often each is there."""
    first, numbers = number_rows(kinds)
    total = np.zeros(len(first), dtype=np.int64)
    np.add.at(total, numbers, times)
    return kinds[first], total
