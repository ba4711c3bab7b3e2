"""The rules of addresses for all operands of a form at once, by the values of one image.

Each operand is held to bounds of what it reaches: what `npuvm.isa.verifier.static` finds broken is never kept here, but what it
finds kept may not show. Then the image is verified with exact numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from npuvm.isa.verifier.proof import Apart
from npuvm.isa.verifier.sites import Extent, Formula, Site
from npuvm.isa.verifier.values import Values

__all__ = ["Formulas", "Gaps", "Reaches"]

_Ints = npt.NDArray[np.int64]

_MOST_BYTES = 1 << 34
_MOST_COUNT = 1 << 24
"""Addresses and counts up to these multiply and add up, over eight loops, without leaving 64 bits."""


@dataclass(frozen=True, slots=True)
class Reaches:
    """Bytes that formulas reach at most, from `low` to `high` in one slot, to `hull` in all slots of a ring."""

    low: _Ints
    high: _Ints
    hull: _Ints


class Gaps:
    """Pairs of formulas that must not touch a byte in common."""

    def __init__(self, pairs: Iterable[Apart]) -> None:
        ordered = sorted(pairs)
        self._one = np.array([one for one, *_ in ordered], dtype=np.int64)
        self._other = np.array([other for _, other, _ in ordered], dtype=np.int64)
        self._in_slot = np.array([in_slot for *_, in_slot in ordered], dtype=bool)

    def hold(self, reaches: Reaches) -> bool:
        """Whether there is a gap between the two of every pair."""
        if not len(self._one):
            return True
        low, end = reaches.low, reaches.hull
        one, other = self._one, self._other
        clear = (end[one] <= low[other]) | (end[other] <= low[one])
        if clear.all():
            return True
        in_slot = self._in_slot & ((reaches.high[one] <= low[other]) | (reaches.high[other] <= low[one]))
        return bool((clear | in_slot).all())


class Formulas:
    """The formulas of the programs of a launch. `rings` are operands of one ring in one block, with indices of all formulas."""

    def __init__(self, formulas: Sequence[Formula], rings: Iterable[Sequence[Site]], values: Values) -> None:
        zero, wide = values.constant(0), values.constant(1 << 62)
        once = Extent("szc", *[values.constant(1)] * 2)
        twice = Extent("szc", *[values.constant(2)] * 2)
        rest = [
            [
                each
                for each in formula.strides
                if each not in (formula.followed(formula.rows), formula.followed(formula.cols))
            ]
            for formula in formulas
        ]
        depth = max((len(each) for each in rest), default=0)
        padded = [[*each, *([(0, zero, once)] * (depth - len(each)))] for each in rest]

        self._base = _column(each.base for each in formulas)
        self._aligned = _column(each.aligned for each in formulas)
        self._pitch = _column(each.pitch for each in formulas)
        self._rows = _column(each.rows.full for each in formulas), _column(each.rows.tail for each in formulas)
        self._cols = _column(each.cols.full for each in formulas), _column(each.cols.tail for each in formulas)
        self._itemsize = _column(each.itemsize for each in formulas)
        self._step = _column(each.step for each in formulas)
        self._window = _column(wide if each.window is None else each.window for each in formulas)
        self._writes = np.array([each.writes for each in formulas], dtype=bool)
        self._slot = _column(zero if each.ring is None else each.ring.slot for each in formulas)
        self._more_slots = _column(0 if each.ring is None else each.ring.slots - 1 for each in formulas)
        self._reaches = np.array([each.reaches for each in formulas], dtype=bool)
        bounds = np.iinfo(np.int64)
        self._most = _column(bounds.max if each.most is None else each.most for each in formulas)
        self._least = _column(bounds.min if each.most is None else 0 for each in formulas)
        shape = (len(formulas), depth)
        self._strides = _column(stride for row in padded for _, stride, _ in row).reshape(shape)
        self._trips = tuple(
            _column(getattr(trip, end) for row in padded for *_, trip in row).reshape(shape) for end in ("full", "tail")
        )
        still = (-1, zero, twice)
        tails = [
            [formula.followed(getattr(formula, size)) or still for formula in formulas] for size in ("rows", "cols")
        ]
        self._tail_strides = _column(stride for row in tails for _, stride, _ in row).reshape(2, -1)
        self._tail_trips = tuple(
            _column(getattr(trip, end) for row in tails for *_, trip in row).reshape(2, -1) for end in ("full", "tail")
        )
        self._joint = np.array([one[0] == other[0] >= 0 for one, other in zip(*tails, strict=True)], dtype=bool)
        pairs = [pair for uses in rings for pair in _pairs(uses)]
        self._one, self._other = _column(one for one, _ in pairs), _column(other for _, other in pairs)
        self._any_ring = bool(pairs)

    def reaches(self, values: _Ints) -> Reaches | None:
        """What an image's operands reach, when the rules of alignment, pitches, bounds and slots are kept for sure."""
        rows = np.maximum(values[self._rows[0]], values[self._rows[1]])
        cols = np.maximum(values[self._cols[0]], values[self._cols[1]])
        base, pitch, slot = values[self._base], values[self._pitch], values[self._slot]
        strides = values[self._strides]
        step = self._step
        several = rows > 1
        tail_strides = values[self._tail_strides]
        if (values[self._aligned] % step).any() or (slot % step).any():
            return None
        if (strides % step[:, None]).any() or (tail_strides % step).any():
            return None
        uneven = pitch % np.where(cols <= 1, self._itemsize, step)
        short = self._writes & (pitch < np.minimum(cols, values[self._window]) * self._itemsize)
        if (several & ((uneven != 0) | short)).any():
            return None
        counts = np.maximum(values[self._trips[0]], values[self._trips[1]])
        tail_counts = np.maximum(values[self._tail_trips[0]], values[self._tail_trips[1]])
        lengths = np.vstack((base, pitch, slot, tail_strides, strides.T))
        if not self._small(lengths, np.vstack((rows, cols, tail_counts, counts.T))):
            return None
        far = np.where(self._reaches[:, None], strides * np.maximum(counts - 1, 0), 0)
        last = tail_strides * np.maximum(tail_counts - 1, 0)
        low = base + np.minimum(far, 0).sum(axis=1) + np.minimum(last, 0).sum(axis=0)
        high = base + np.maximum(far, 0).sum(axis=1) + self._extent(values, pitch, tail_strides, tail_counts)
        hull = high + self._more_slots * slot
        if (low < self._least).any() or (hull > self._most).any():
            return None
        found = Reaches(low, high, hull)
        return found if self._slots_clear(found, slot) else None

    def _extent(self, values: _Ints, pitch: _Ints, strides: _Ints, counts: _Ints) -> _Ints:
        """Bytes that a tile reaches from its first on, over the loops in whose last iteration it is smaller."""
        last = np.maximum(strides * (counts - 1), 0)
        before = np.maximum(strides * (counts - 2), 0)
        full = (
            np.stack((np.maximum(values[self._rows[0]] - 1, 0) * pitch, values[self._cols[0]] * self._itemsize))
            + before
        )
        tail = (
            np.stack((np.maximum(values[self._rows[1]] - 1, 0) * pitch, values[self._cols[1]] * self._itemsize)) + last
        )
        apart: _Ints = np.maximum(tail, np.where(counts > 1, full, 0)).sum(axis=0)
        if not self._joint.any():
            return apart
        joint = np.maximum(tail.sum(axis=0) - last[1], np.where(counts[0] > 1, full.sum(axis=0) - before[1], 0))
        apart[self._joint] = joint[self._joint]
        return apart

    def _small(self, lengths: _Ints, counts: _Ints) -> bool:
        """Whether numbers are so small that 64 bits hold what is made of them, for all operands whose reach matters."""
        large = (np.abs(lengths) > _MOST_BYTES).any(axis=0) | (counts > _MOST_COUNT).any(axis=0)
        return not (self._reaches & large).any()

    def _slots_clear(self, reaches: Reaches, slots: _Ints) -> bool:
        """Whether no two operands of a ring share a byte in different slots: `_meets_another_slot` of the static checks."""
        if not self._any_ring:
            return True
        one, other = self._one, self._other
        slot, more = slots[one], self._more_slots[one]
        if (slot == 0).any():
            return False
        low, high = reaches.low[one] - reaches.high[other], reaches.high[one] - reaches.low[other]
        first = np.maximum(low // slot + 1, -more)
        last = np.minimum(-(-high // slot) - 1, more)
        return not ((first <= last) & ((first != 0) | (last != 0))).any()


def _pairs(uses: Sequence[Site]) -> Iterable[tuple[int, int]]:
    """Pairs of formulas of one ring in one space, each formula with itself too."""
    spaces: Mapping[str, set[int]] = {each.space: set() for each in uses}
    for each in uses:
        spaces[each.space].add(each.formula)
    for formulas in spaces.values():
        yield from combinations_with_replacement(sorted(formulas), 2)


def _column(items: Iterable[int]) -> _Ints:
    return np.array(list(items), dtype=np.int64)
