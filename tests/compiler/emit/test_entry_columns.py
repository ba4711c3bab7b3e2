"""Entries of core groups by column are those that are made one by one."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler.mix.cores import GroupEntries
from npuvm.compiler.relay.family import RelayEntries
from npuvm.compiler.stack.entries import GroupTable
from npuvm.isa import EvenEntries
from npuvm.isa.image_tables import EntryColumns


@pytest.mark.parametrize("made", [GroupEntries, RelayEntries])
@pytest.mark.parametrize("order", [("cube", "vector", "vector"), ("cube", "vector"), ("unified",)])
@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("tiles", [(12,), (3, 0, 40), (1, 1), (1 << 61, 3), (1 << 70,), ()])
def test_columns_of_groups(made: type[GroupTable], order: tuple[str, ...], groups: int, tiles: tuple[int, ...]) -> None:
    table = made(order, EvenEntries(order[0], groups, tiles), (7, 90))
    try:
        other = EntryColumns.from_rows(list(table))
    except OverflowError:
        with pytest.raises(OverflowError):
            table.columns()
        return
    one = table.columns()
    assert (one.types, one.pcs, one.phases) == (other.types, other.pcs, other.phases)
    np.testing.assert_array_equal(one.ranges, other.ranges)
