"""The hazard checker: overlap against sets of bytes, and what is and is not a hazard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hw.engine_kit import Row, execute, make_chip

from npuvm.hw.hazards import HazardChecker, HazardError, Region
from npuvm.isa.regions import share_a_byte


@st.composite
def tiles(draw: st.DrawFn) -> Region:
    rows, row_bytes = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    pitch = row_bytes + draw(st.integers(0, 20))
    low = draw(st.integers(0, 60))
    return Region("ub", low, low + (rows - 1) * pitch + row_bytes, rows, row_bytes, pitch, True, True)


def covered(region: Region) -> set[int]:
    return {region.low + row * region.pitch + byte for row in range(region.rows) for byte in range(region.row_bytes)}


@given(tiles(), tiles())
def test_overlap_is_a_common_byte(a: Region, b: Region) -> None:
    assert share_a_byte(a, b) == share_a_byte(b, a) == bool(covered(a) & covered(b))


def tile(
    role: str, address: int = 0, space: str = "ub", rows: int = 2, cols: int = 64, pitch: int = 64
) -> tuple[str, int, int, int, int, str]:
    return (space, address, rows, cols, pitch, role)


def kinds(*rows: Row) -> list[str]:
    """Kinds of the hazards of a program."""
    checker = HazardChecker(collect=True)
    execute([[list(rows)]], hazards=checker)
    return [hazard.kind for hazard in checker.found]


WRITE = Row("vector", 10, 5, tiles=(tile("write"),))
READ = Row("store", 10, 5, tiles=(tile("read"),))


def test_between_units_all_three_kinds_are_found() -> None:
    other = Row("move", tiles=(tile("write"),))
    assert kinds(WRITE, READ) == ["read after write"]
    assert kinds(READ, WRITE) == ["write after read"]
    assert kinds(WRITE, other) == ["write after write"]
    assert kinds(READ, Row("move", tiles=(tile("read"),))) == []


def test_a_signal_at_completion_ends_the_hazard() -> None:
    done = Row("vector", 10, 5, sets=(0,), tiles=(tile("write"),))
    assert kinds(done, Row("store", waits=(0,), tiles=(tile("read"),))) == []


def test_other_spaces_and_other_bytes_are_no_hazard() -> None:
    assert kinds(WRITE, Row("store", tiles=(tile("read", 128),))) == []
    assert kinds(WRITE, Row("store", tiles=(tile("read", 127),))) == ["read after write"]
    assert kinds(WRITE, Row("move", tiles=(tile("read", space="l1"),))) == []
    left, right = tile("write", 0, cols=32), tile("read", 32, cols=32)
    assert kinds(Row("vector", 9, tiles=(left,)), Row("store", tiles=(right,))) == []
    assert kinds(Row("vector", 9, tiles=(tile("write", rows=0),)), Row("store", tiles=(right,))) == []


def test_a_repeated_row_covers_one_row() -> None:
    repeated = tile("read", 64, rows=5, pitch=0)
    assert kinds(Row("vector", 9, tiles=(tile("write", 128),)), Row("store", tiles=(repeated,))) == []
    assert kinds(Row("vector", 9, tiles=(tile("write", 127),)), Row("store", tiles=(repeated,))) == ["read after write"]


def test_within_a_unit_only_read_after_write_counts() -> None:
    read = Row("vector", 10, 5, tiles=(tile("read"),))
    assert kinds(WRITE, read) == ["read after write"]
    assert kinds(WRITE, Row("vector", order=True, tiles=(tile("read"),))) == []
    assert kinds(WRITE, WRITE) == kinds(read, WRITE) == []


def test_accumulators_follow_each_other_without_order() -> None:
    accumulate = Row("cube", 10, 5, tiles=(tile("readwrite", space="l0c"),))
    assert kinds(accumulate, accumulate) == []
    assert kinds(accumulate, Row("fixpipe", tiles=(tile("read", space="l0c"),))) == ["read after write"]


def test_an_instruction_that_is_queued_but_not_started_counts() -> None:
    """The store waits for a signal; the later vector instruction must not overwrite what it will read."""
    late = Row("store", waits=(0,), tiles=(tile("read"),))
    signal = Row("move", 50, sets=(0,))
    assert kinds(signal, late, Row("vector", tiles=(tile("write"),))) == ["write after read"]
    assert kinds(signal, Row("vector", tiles=(tile("write"),)), late) == []


def test_a_load_in_flight_counts_until_its_data_is_there() -> None:
    load = Row("load", 5, gm=(0, 1, 128, 128), tiles=(tile("write"),))
    assert kinds(load, Row("vector", gap=120, tiles=(tile("read"),))) == ["read after write"]
    assert kinds(load, Row("vector", gap=140, tiles=(tile("read"),))) == []


def test_cores_have_their_own_buffers() -> None:
    checker = HazardChecker(collect=True)
    execute([[[WRITE]], [[READ]]], hazards=checker)
    assert checker.found == []


def test_the_first_hazard_raises_and_says_who_and_where() -> None:
    with pytest.raises(HazardError) as caught:
        execute([[[WRITE, READ]]], hazards=HazardChecker())
    text = str(caught.value)
    assert "core 0, cycle 2: read after write in ub near byte 0: nop at word 1 starts before nop at word 0" in text


def test_looking_for_hazards_changes_no_cycle() -> None:
    rows = [WRITE, READ, Row("load", 5, gm=(0, 1, 128, 128), tiles=(tile("write"),))]
    chip = make_chip("core.sequencer.queue_depth=1")
    with_check = execute([[rows]], chip, hazards=HazardChecker(collect=True))
    without = execute([[rows]], chip)
    assert with_check.trace == without.trace
