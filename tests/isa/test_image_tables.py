"""Entries of cores that share work, and relocations as arrays, against what they stand for one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.isa import Entry, EvenEntries, Image, IsaError, Reloc, RelocTable

HIGH = 0xABCD << 48


@given(st.integers(1, 60), st.lists(st.integers(0, 200), min_size=1, max_size=3), st.integers(1, 5))
def test_even_entries_cover_every_tile_once_and_differ_by_one(cores: int, tiles: list[int], steps: int) -> None:
    entries = EvenEntries("vector", cores, tuple(tiles), steps)
    assert len(entries) == cores
    assert {(each.core_type, each.pc) for each in entries} == {("vector", 0)}
    for grid, count in enumerate(tiles):
        spans = sorted(span for each in entries if (span := each.ranges[grid])[0] < span[1])
        covered = [at for start, stop in spans for at in range(start, stop)]
        assert covered == list(range(count * steps))
        assert all(at % steps == 0 for span in spans for at in span)
    shares = [sum(stop - start for start, stop in each.ranges) // steps for each in entries]
    assert max(shares) - min(shares) <= 1
    assert sorted(shares, reverse=True) == shares


@given(st.integers(1, 60), st.lists(st.integers(0, 200), min_size=1, max_size=3), st.integers(1, 5))
def test_entries_by_grid_cut_each_grid_evenly(cores: int, tiles: list[int], steps: int) -> None:
    entries = EvenEntries("vector", cores, tuple(tiles), steps, by_grid=True)
    ranges = entries.columns().ranges
    for grid, count in enumerate(tiles):
        alone = EvenEntries("vector", cores, (count,), steps)
        expected = [each.ranges[0] for each in alone]
        assert [each.ranges[grid] for each in entries] == expected
        assert [tuple(each) for each in ranges[:, grid].tolist()] == expected


@given(st.integers(1, 60), st.lists(st.integers(0, 200), min_size=2, max_size=3), st.integers(1, 5))
def test_the_tiles_of_a_tail_are_cut_for_themselves(cores: int, tiles: list[int], steps: int) -> None:
    entries = EvenEntries("vector", cores, tuple(tiles), steps, tail=True)
    *first, last = tiles
    before, alone = (EvenEntries("vector", cores, tuple(each), steps) for each in (first, [last]))
    expected = [(*one.ranges, *other.ranges) for one, other in zip(before, reversed(alone), strict=True)]
    assert [each.ranges for each in entries] == expected
    assert [tuple(map(tuple, each)) for each in entries.columns().ranges.tolist()] == expected


def test_even_entries_are_a_sequence() -> None:
    entries = EvenEntries("cube", 3, (7,))
    assert entries[-1] == entries[2] == Entry("cube", 0, ((5, 7),))
    assert entries[1:] == (entries[1], entries[2])
    with pytest.raises(IndexError, match="core 3 of 3"):
        entries[3]


relocations = st.lists(
    st.builds(Reloc, st.integers(0, 0), st.integers(0, 3), st.integers(-1000, 1 << 40)), min_size=1, max_size=24
)


@given(relocations, st.lists(st.integers(0, (1 << 48) + 1000), min_size=4, max_size=4))
def test_a_table_relocates_as_its_rows_say(rows: list[Reloc], addresses: list[int]) -> None:
    placed = [Reloc(at, each.arg, each.addend) for at, each in enumerate(rows)]
    words = np.full(len(placed), HIGH | 0x1234, dtype=np.uint64)
    expected = [addresses[each.arg] + each.addend for each in placed]
    image = Image("copy", "00" * 32, words, (), RelocTable.of(placed), 4)
    if all(0 <= value < 1 << 48 for value in expected):
        assert image.relocate(addresses).tolist() == [HIGH | value for value in expected]
    else:
        with pytest.raises(IsaError, match="does not fit 48 bits"):
            image.relocate(addresses)
    assert words.tolist() == [HIGH | 0x1234] * len(placed)


def test_tables_hold_what_they_are_made_of() -> None:
    rows = [Reloc(3, 0, 5), Reloc(9, 1, -5)]
    table = RelocTable.of(rows)
    assert list(table) == rows
    assert table[1] == rows[1]
    assert table[:1] == (rows[0],)
    assert RelocTable.of(table) is table
    assert [each.addend for each in table.moved([7, 8])] == [7, 8]
    assert list(table) == rows


def test_an_address_of_more_than_63_bits_is_refused() -> None:
    image = Image("copy", "00" * 32, np.zeros(1, dtype=np.uint64), (), RelocTable([0], [0], [0]), 1)
    with pytest.raises(IsaError, match="address 0x10000000000000000 of argument 0 does not fit 48 bits"):
        image.relocate([1 << 64])
