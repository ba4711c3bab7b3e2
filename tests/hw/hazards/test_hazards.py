"""What is a hazard and what orders two accesses: small programs for the engine, and what is said of them."""

from __future__ import annotations

import pickle

import pytest
from tests.hw.engine_kit import Program, Row, execute, make_chip

from npuvm.hw.expansion.stream import Barrier, ScalarLoad, SetSemaphores
from npuvm.hw.hazards import Hazard, HazardChecker, HazardError


def tile(
    role: str, address: int = 0, space: str = "ub", rows: int = 2, cols: int = 64, pitch: int = 64
) -> tuple[str, int, int, int, int, str]:
    return (space, address, rows, cols, pitch, role)


def found(*programs: Program, groups: tuple[int, ...] | None = None) -> tuple[Hazard, ...]:
    """Hazards of a launch with one program per core."""
    checker = HazardChecker(collect=True)
    execute(programs, groups=groups, hazards=checker)
    return checker.found


def kinds(*rows: Row) -> list[str]:
    """Kinds of the hazards of a core that runs these rows."""
    return [hazard.kind for hazard in found([list(rows)])]


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


def test_order_of_dispatch_orders_nothing() -> None:
    """Far apart in time, and still in no order: the load would have to signal."""
    load = Row("load", 5, gm=(0, 1, 128, 128), tiles=(tile("write"),))
    (hazard,) = found([[load, Row("vector", gap=5000, tiles=(tile("read"),))]])
    assert hazard.kind == "read after write"
    assert not hazard.overlapped
    assert hazard.earlier.complete < hazard.later.start
    assert hazard.missing == "load sets no semaphore that vector waits for"


def test_a_signal_before_the_data_is_there_orders_nothing() -> None:
    signal = Row("move", 50, sets=(0,))
    late = Row("store", waits=(0,), tiles=(tile("read"),))
    assert kinds(signal, late, Row("vector", tiles=(tile("write"),))) == ["write after read"]
    assert kinds(signal, Row("vector", tiles=(tile("write"),)), late) == ["read after write"]


def test_order_goes_through_other_units_and_later_instructions() -> None:
    """vector signals after the write, move passes it on: the store knows both."""
    rows = (WRITE, Row("vector", sets=(0,)), Row("move", waits=(0,), sets=(1,)), Row("store", waits=(1,)), READ)
    assert kinds(*rows) == []
    assert kinds(rows[1], WRITE, *rows[2:]) == ["read after write"]


def test_takes_pair_with_sets_by_their_number() -> None:
    """The second set follows the write; the store that takes only the first does not know it."""
    first, second, take = Row("vector", sets=(0,)), Row("vector", sets=(0,)), Row("store", waits=(0,))
    assert kinds(first, WRITE, second, take, take, READ) == []
    (hazard,) = found([[first, WRITE, second, take, READ, take]])
    assert hazard.missing == (
        "semaphore 0 is set by vector and waited for by store, but this wait is 1 set too early: "
        "it takes set number 1, the data are of set number 2"
    )


def test_a_count_of_the_set_up_says_nothing_of_the_data() -> None:
    ready = SetSemaphores(1, ((0, 1),), 90)
    (hazard,) = found([ready, [Row("vector", 10, 5, sets=(0,), tiles=(tile("write"),)), READ_AFTER_WAIT]])
    assert "takes a count of the set-up; the data are of set number 1" in hazard.missing


READ_AFTER_WAIT = Row("store", waits=(0,), tiles=(tile("read"),))


def test_what_an_accumulator_reads_at_completion_other_units_must_wait_for() -> None:
    accumulate = Row("cube", 10, 5, sets=(0,), tiles=(tile("readwrite", space="l0c"),))
    drain = Row("fixpipe", waits=(0,), sets=(1,), tiles=(tile("read", space="l0c"),))
    assert kinds(accumulate, drain) == []
    assert kinds(accumulate, drain, accumulate) == ["write after read"]
    again = Row("cube", waits=(1,), tiles=(tile("readwrite", space="l0c"),))
    assert kinds(accumulate, drain, again) == []


def test_a_barrier_orders_all_of_its_scope_and_nothing_else() -> None:
    store = Row("store", gm=(0, 4, 32, 64), tiles=(tile("read"),))
    load = Row("load", gm=(64, 1, 32, 32), tiles=(tile("write", 4096),))

    def race(scope: str, groups: tuple[int, ...]) -> list[str]:
        barrier = Barrier(1, scope, 80)  # type: ignore[arg-type]
        return [hazard.missing for hazard in found([[store], barrier], [barrier, [load]], groups=groups)]

    assert race("launch", (0, 1)) == race("launch", (0, 0)) == race("group", (0, 0)) == []
    assert race("group", (0, 1)) == [
        "store of core 0 sets no semaphore that load of core 1 waits for; "
        "the group barrier at word 80 does not reach core 1"
    ]
    assert len(race("core", (0, 0))) == 1
    assert kinds(WRITE, READ) == ["read after write"]
    assert found([[WRITE], Barrier(1, "core", 80), [READ]]) == ()


def gm(unit: str, address: int, rows: int = 1, row_bytes: int = 32, pitch: int = 32) -> Row:
    return Row(unit, gm=(address, rows, row_bytes, pitch))


def test_global_memory_of_two_cores_byte_by_byte() -> None:
    columns = gm("store", 0, 4, 32, 128), gm("store", 32, 4, 32, 128)
    assert found([[columns[0]]], [[columns[1]]]) == ()
    assert [h.kind for h in found([[columns[0]]], [[gm("store", 31, 4, 32, 128)]])] == ["write after write"]
    assert [h.kind for h in found([[gm("load", 200)]], [[gm("store", 192)]])] != []
    assert found([[gm("load", 0)]], [[gm("load", 0)]]) == ()
    uneven = gm("store", 96, 4, 32, 96)  # 96, 192, 288, 384: meets 384 of the first
    (hazard,) = found([[columns[0]]], [[uneven]])
    assert (hazard.space, hazard.low, hazard.high) == ("gm", 96, 416)


def test_a_store_and_a_load_of_one_core_need_a_signal_too() -> None:
    assert kinds(gm("store", 0), gm("load", 16)) == ["read after write"]
    assert kinds(gm("load", 0), gm("store", 16)) == ["write after read"]
    assert kinds(gm("store", 0), gm("store", 16)) == []
    done = Row("store", gm=(0, 1, 32, 32), sets=(0,))
    assert kinds(done, Row("load", gm=(16, 1, 32, 32), waits=(0,))) == []


def test_semaphores_of_a_group_order_its_cores() -> None:
    give, take = Row("store", gm=(0, 1, 32, 32), sets=(40,)), Row("load", gm=(0, 1, 32, 32), waits=(40,))
    assert found([[give]], [[take]], groups=(0, 0)) == ()
    (hazard,) = found([[give]], [[gm("load", 0), take]], groups=(0, 0))
    assert "set by store of core 0 and waited for by load of core 1, but not before the later one" in hazard.missing


def test_two_setting_units_order_nothing() -> None:
    both = Row("vector", 10, 5, sets=(0,), tiles=(tile("write"),)), Row("move", sets=(0,))
    (hazard,) = found([[*both, Row("store", waits=(0,)), Row("store", waits=(0,), tiles=(tile("read"),))]])
    assert "more than one unit sets it or waits for it" in hazard.missing
    barrier = Barrier(1, "core", 80)
    after = [Row("store", waits=(0,)), READ_AFTER_WAIT]
    assert found([[Row("move", sets=(0,))], barrier, [both[0], *after]]) == ()


def test_a_scalar_load_is_ordered_by_barriers_and_before_what_follows() -> None:
    scalar = ScalarLoad(1, 64, 4, 70, 1)
    (hazard,) = found([[gm("store", 60)], scalar])
    assert (hazard.kind, hazard.later.unit) == ("read after write", "sequencer")
    assert hazard.missing == "a core barrier; a scalar load waits for nothing else"
    assert found([[gm("store", 60)], Barrier(1, "core", 80), scalar, [gm("store", 60)]]) == ()
    assert len(found([scalar], [[gm("store", 60)]])) == 1


def test_setting_up_a_semaphore_in_use() -> None:
    use, set_up = [Row("vector", 50, sets=(0,))], SetSemaphores(1, ((0, 0),), 90)
    (hazard,) = found([use, set_up])
    assert (hazard.kind, hazard.low) == ("set-up in use", 0)
    assert hazard.missing == "a core barrier between the use of semaphore 0 and the set-up of its count"
    assert found([use, Barrier(1, "core", 80), set_up]) == found([set_up, use]) == ()
    wide = [Row("vector", gap=900, sets=(40,))]
    other = SetSemaphores(1, ((40, 0),), 90)
    assert len(found([other], [wide], groups=(0, 0))) == 1
    meet = Barrier(1, "group", 80)
    assert found([other, meet], [meet, wide], groups=(0, 0)) == ()


def test_cores_have_their_own_buffers() -> None:
    assert found([[WRITE]], [[READ]]) == ()


def test_the_error_names_both_and_what_is_missing() -> None:
    with pytest.raises(HazardError) as caught:
        execute([[[WRITE, READ]]], hazards=HazardChecker())
    assert str(caught.value).splitlines() == [
        "read after write in ub bytes 0x0 to 0x80, at the same time in this run",
        "  vector of core 0, word 0, cycles 1 to 16: nop",
        "  store of core 0, word 1, cycles 2 to 17: nop",
        "  missing: vector sets no semaphore that store waits for",
    ]


def test_the_error_survives_its_way_between_processes() -> None:
    with pytest.raises(HazardError) as caught:
        execute([[[WRITE, READ]]], hazards=HazardChecker())
    again = pickle.loads(pickle.dumps(HazardError(caught.value.hazards, 7)))
    assert (again.hazards, again.more) == (caught.value.hazards, 7)
    assert str(again) == f"{caught.value}\nand 7 more pairs"


def test_of_many_hazards_fifty_are_described_and_all_are_counted() -> None:
    places = range(0, 60 * 128, 128)
    rows = [
        Row(unit, tiles=(tile(role, at),)) for unit, role in (("vector", "write"), ("store", "read")) for at in places
    ]
    checker = HazardChecker(collect=True)
    execute([[rows]], hazards=checker)
    assert (len(checker.found), checker.more) == (50, 10)
    with pytest.raises(HazardError, match=r"and 56 more pairs$") as caught:
        execute([[rows]], hazards=HazardChecker())
    assert (len(caught.value.hazards), caught.value.more) == (50, 10)


def test_the_same_pair_of_words_is_told_once() -> None:
    (hazard,) = found(*[[[WRITE, READ]]] * 3)
    assert hazard.count == 3
    assert "0x80, 3 times" in str(hazard)


def test_looking_for_hazards_changes_no_cycle() -> None:
    rows = [WRITE, READ, Row("load", 5, gm=(0, 1, 128, 128), tiles=(tile("write"),))]
    chip = make_chip("core.sequencer.queue_depth=1")
    with_check = execute([[rows]], chip, hazards=HazardChecker(collect=True))
    without = execute([[rows]], chip)
    assert with_check.trace == without.trace
