"""The table of lines in L2 against an ordered dictionary: order of use, what is dirty, what is evicted."""

from __future__ import annotations

from collections import OrderedDict
from random import Random

import pytest

from npuvm.hw.compiled import LineTable, backend_of
from npuvm.hw.compiled.layout import DIRTY, EMPTY, L_LINE, L_MARKS, L_SIZE, M_LOG_LIMIT
from npuvm.hw.compiled.lines import append, drop_oldest, entry, take_slot, touch

FAR = 1 << 40
"""A line far from the others, on a page of its own."""


class Both:
    """A table and its model, changed alike."""

    def __init__(self, capacity: int) -> None:
        self.table = LineTable(backend_of("python"), capacity)
        self.table.reserve(4, capacity)
        self.model: OrderedDict[int, bool] = OrderedDict()
        self.capacity = capacity

    def use(self, line: int, dirty: bool) -> None:
        """A hit, or a miss that may drive the line used least recently out."""
        t = self.table
        place = entry(t.M, t.directory, line)
        slot = t.pages[place]
        assert (slot > 0) == (line in self.model)
        if slot > 0:
            touch(t.M, t.slots, t.log, slot)
        else:
            slot = take_slot(t.M, t.slots)
            if slot == 0:
                slot = drop_oldest(t.M, t.slots, t.log, t.directory, t.pages)
                assert t.slots[slot * L_SIZE + L_LINE] == self.model.popitem(last=False)[0]
            append(t.M, t.slots, t.log, slot)
            t.pages[entry(t.M, t.directory, line)] = slot
            t.slots[slot * L_SIZE + L_LINE], t.slots[slot * L_SIZE + L_MARKS] = line, 0
        t.slots[slot * L_SIZE + L_MARKS] |= DIRTY if dirty else 0
        self.model[line] = self.model.pop(line, False) or dirty

    def discard(self, first: int, last: int) -> None:
        """Lines leave without being written back."""
        gone = [self.model.pop(line) for line in range(first, last + 1) if line in self.model]
        assert self.table.discard(first, last) == sum(gone)

    def check(self) -> None:
        """The same lines in the same order."""
        assert list(self.table.lines().items()) == list(self.model.items())


@pytest.mark.parametrize("capacity", [1, 2, 13])
def test_the_table_keeps_the_order_of_use(capacity: int) -> None:
    random, both = Random(capacity), Both(capacity)
    # Many times what the log has room for, so that it is packed again and again.
    for step in range(40 * both.table.M[M_LOG_LIMIT]):
        line = random.randrange(2 * capacity) + random.choice((0, 0, 0, FAR))
        if random.randrange(50) == 0:
            both.discard(line, line + random.randrange(3))
        else:
            both.use(line, random.randrange(4) == 0)
        if step % 7 == 0:
            both.check()
    both.check()
    assert len(both.model) == capacity


def test_a_launch_begins_a_new_count_and_keeps_the_lines() -> None:
    both = Both(5)
    for line in (3, 1, 4, 1, 5, 9, 2, 6):
        both.use(line, line == 4)
    for line in (5, 3):
        both.table.lend(list(both.table.M))
        both.use(line, False)
        both.check()


def test_a_table_of_given_lines_holds_them_in_their_order() -> None:
    lines = OrderedDict((line, line % 3 == 0) for line in (7, 2, FAR, 600, 3))
    table = LineTable.of(backend_of("python"), 8, lines)
    assert list(table.lines().items()) == list(lines.items())
    assert table.holds(FAR) and not table.holds(FAR + 1)
    assert EMPTY not in table.lines()
