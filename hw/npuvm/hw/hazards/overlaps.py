"""Which of many regions share a byte, found at once: exact for rows at a pitch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Ints", "RegionTable", "conflicting"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_AT_ONCE = 1 << 20
"""Candidate pairs that are looked at together."""


@dataclass(frozen=True)
class RegionTable:
    """Regions as columns: `rows` segments of `row_bytes`, `pitch` apart, from byte `low` of `space`; none is empty.

    `owner` says whose region it is. Atomic regions are read and written in one step. A region that is the same row again and
    again has one row. `high` is one past the last byte.
    """

    owner: Ints
    space: Ints
    low: Ints
    rows: Ints
    row_bytes: Ints
    pitch: Ints
    reads: Bools
    writes: Bools
    atomic: Bools

    @property
    def high(self) -> Ints:
        """One past the last byte of each."""
        return self.low + (self.rows - 1) * self.pitch + self.row_bytes

    def __len__(self) -> int:
        return len(self.owner)

    def share(self, one: int, other: int) -> bool:
        """Whether two of the regions share a byte."""
        if self.space[one] != self.space[other] or max(self.low[one], self.low[other]) >= min(
            self.high[one], self.high[other]
        ):
            return False
        return bool(_share(self, np.array([one]), np.array([other]))[0])


def conflicting(table: RegionTable) -> tuple[Ints, Ints]:
    """All pairs of different regions that share a byte, at least one of them written and not both atomic."""
    found = [_exact(table, *pair) for pair in _candidates(table)]
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def _candidates(table: RegionTable) -> Iterator[tuple[Ints, Ints]]:
    """Pairs whose hulls meet, with a write, in portions."""
    if not len(table):
        return
    lows, highs = table.low, table.high
    base = table.space * (int(highs.max()) - int(lows.min()) + 1)  # spaces one behind the other
    order = np.argsort(base + lows, kind="stable")
    low, high = (base + lows)[order], (base + highs)[order]
    writers = np.flatnonzero(table.writes[order])
    everyone = np.arange(len(order))
    # Each pair once, by the one that comes first: a write meets all behind it, a read the writes behind it.
    yield from _portions(order, writers, everyone, writers + 1, np.searchsorted(low, high[writers]))
    readers = np.flatnonzero(~table.writes[order])
    first, last = np.searchsorted(writers, readers), np.searchsorted(low[writers], high[readers])
    yield from _portions(order, readers, writers, first, last)


def _portions(order: Ints, ones: Ints, others: Ints, first: Ints, last: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of `ones` with `others[first:last]`."""
    counts = np.maximum(last - first, 0)
    totals = np.cumsum(counts)
    begin = 0
    while begin < len(ones) and totals[-1]:
        done = totals[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(totals, done + _AT_ONCE, side="right")))
        n = counts[begin:end]
        offsets = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        partners = others[np.repeat(first[begin:end], n) + offsets]
        yield order[np.repeat(ones[begin:end], n)], order[partners]
        begin = end


def _exact(table: RegionTable, one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """Those of the candidates that share a byte and are not both atomic."""
    kept = ~(table.atomic[one] & table.atomic[other])
    one, other = one[kept], other[kept]
    kept = _share(table, one, other)
    return one[kept], other[kept]


def _share(t: RegionTable, a: Ints, b: Ints) -> Bools:
    """Whether regions a[i] and b[i], whose hulls meet, share a byte."""
    pitch_a = np.where(t.rows[a] == 1, t.pitch[b], t.pitch[a])
    pitch_b = np.where(t.rows[b] == 1, pitch_a, t.pitch[b])
    pitch = np.maximum(pitch_a, 1)
    apart = t.low[b] - t.low[a]
    # Row i of a and row j of b share a byte when apart - bytes of a < (i - j) * pitch < apart + bytes of b.
    least = np.maximum((apart - t.row_bytes[a]) // pitch + 1, 1 - t.rows[b])
    most = np.minimum(-(-(apart + t.row_bytes[b]) // pitch) - 1, t.rows[a] - 1)
    shared = np.asarray(least <= most)
    uneven = np.flatnonzero(pitch_a != pitch_b)
    if len(uneven):
        shared[uneven] = _share_uneven(t, a[uneven], b[uneven])
    return shared


def _share_uneven(t: RegionTable, a: Ints, b: Ints) -> Bools:
    """The same for two pitches, row by row of the region that has fewer."""
    swap = t.rows[a] > t.rows[b]
    few, many = np.where(swap, b, a), np.where(swap, a, b)
    shared = np.zeros(len(a), dtype=np.bool_)
    for row in range(int(t.rows[few].max())):
        start = t.low[few] + row * t.pitch[few]
        # The first segment of `many` that ends behind `start`.
        first = np.maximum(0, -(-(start - t.low[many] - t.row_bytes[many] + 1) // t.pitch[many]))
        begin = t.low[many] + first * t.pitch[many]
        meets = (begin < start + t.row_bytes[few]) & (start < begin + t.row_bytes[many])
        shared |= meets & (first < t.rows[many]) & (row < t.rows[few])
    return shared
