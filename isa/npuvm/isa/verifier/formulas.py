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


_STRIDES = 3
"""Where the strides of a formula begin among its places: behind pitch, base and the bytes of a slot."""


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
        still = (-1, zero, twice)
        tails = [[each.followed(size) or still for size in (each.rows, each.cols)] for each in formulas]
        rest = [
            [stride for stride in each.strides if stride not in own] for each, own in zip(formulas, tails, strict=True)
        ]
        depth = max((len(each) for each in rest), default=0)
        strides = [
            [*own, *each, *([(0, zero, once)] * (depth - len(each)))] for own, each in zip(tails, rest, strict=True)
        ]
        lengths = [[stride for _, stride, _ in each] for each in strides]
        counts = [
            [each.rows, each.cols, *(trip for *_, trip in own)] for each, own in zip(formulas, strides, strict=True)
        ]
        places = [
            [
                each.pitch,
                each.base,
                zero if each.ring is None else each.ring.slot,
                *own,
                each.aligned,
                wide if each.window is None else each.window,
                *(size.full for size in sizes),
                *(size.tail for size in sizes),
            ]
            for each, own, sizes in zip(formulas, lengths, counts, strict=True)
        ]
        self._strides = _STRIDES + 2 + depth
        self._sizes = 4 + depth
        width = self._strides + 2 + 2 * self._sizes
        self._places = np.array(places, dtype=np.int64).reshape(len(formulas), width).T
        self._itemsize = _column(each.itemsize for each in formulas)
        self._step = _column(each.step for each in formulas)
        self._writes = np.array([each.writes for each in formulas], dtype=bool)
        self._more_slots = _column(0 if each.ring is None else each.ring.slots - 1 for each in formulas)
        self._reaches = np.array([each.reaches for each in formulas], dtype=bool)
        bounds = np.iinfo(np.int64)
        self._most = _column(bounds.max if each.most is None else each.most for each in formulas)
        self._least = _column(bounds.min if each.most is None else 0 for each in formulas)
        self._joint = np.array([one[0] == other[0] >= 0 for one, other in tails], dtype=bool)
        self._any_joint = bool(self._joint.any())
        pairs = [pair for uses in rings for pair in _pairs(uses)]
        self._one, self._other = _column(one for one, _ in pairs), _column(other for _, other in pairs)
        self._any_ring = bool(pairs)

    def reaches(self, values: _Ints) -> Reaches | None:
        """What an image's operands reach, when the rules of alignment, pitches, bounds and slots are kept for sure."""
        if not len(self._step):
            return Reaches(self._step, self._step, self._step)
        rows = values[self._places]  # one of each number of the formulas, in the order of their places
        pitch, base, slot = rows[:_STRIDES]
        lengths, strides = rows[: self._strides], rows[_STRIDES : self._strides]
        window, sizes = rows[self._strides + 1], rows[self._strides + 2 :].reshape(2, self._sizes, -1)
        counts = sizes.max(axis=0)
        if (rows[_STRIDES - 1 : self._strides + 1] % self._step).any():
            return None
        uneven = pitch % np.where(counts[1] <= 1, self._itemsize, self._step)
        short = self._writes & (pitch < np.minimum(counts[1], window) * self._itemsize)
        if ((counts[0] > 1) & ((uneven != 0) | short)).any() or not self._small(lengths, counts):
            return None
        far = strides * np.maximum(counts[2:] - 1, 0)
        low = base + np.minimum(far, 0).sum(axis=0)
        far = np.maximum(far, 0)
        before = np.maximum(strides[:2] * (counts[2:4] - 2), 0)
        high = base + far[2:].sum(axis=0) + self._extent(sizes[:, :2], pitch, far[:2], before, counts[2:4] > 1)
        hull = high + self._more_slots * slot
        if (low < self._least).any() or (hull > self._most).any():
            return None
        found = Reaches(low, high, hull)
        return found if self._slots_clear(found, slot) else None

    def _extent(self, sizes: _Ints, pitch: _Ints, last: _Ints, before: _Ints, several: npt.NDArray[np.bool_]) -> _Ints:
        """Bytes that a tile reaches from its first on, over the loops in whose last iteration its rows or columns are fewer.

        `sizes` are rows and columns before the last iteration and in it, `last` and `before` how far the loops of either have
        moved the tile by then, `several` whether there is an iteration before the last.
        """
        rows = np.maximum(sizes[:, 0] - 1, 0) * pitch
        cols = sizes[:, 1] * self._itemsize
        full, tail = np.stack((rows[0], cols[0])) + before, np.stack((rows[1], cols[1])) + last
        apart: _Ints = np.maximum(tail, np.where(several, full, 0)).sum(axis=0)
        if self._any_joint:
            joint = np.maximum(tail.sum(axis=0) - last[1], np.where(several[0], full.sum(axis=0) - before[1], 0))
            apart[self._joint] = joint[self._joint]
        return apart

    def _small(self, lengths: _Ints, counts: _Ints) -> bool:
        """Whether numbers are so small that 64 bits hold what is made of them, for all operands whose reach matters."""
        if lengths.max() <= _MOST_BYTES and lengths.min() >= -_MOST_BYTES and counts.max() <= _MOST_COUNT:
            return True
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
