"""Rows by index: what they cost, what is in conflict with them, and where indices come from when only time is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from npuvm.hw.compiled import backend_of
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError
from npuvm.hw.functional.indices import IndexDistribution, IndexSource
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.hazards import HazardError
from npuvm.hw.launch import capacity_limits
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, VerifyError, assemble, load_isa, verify

ISA = load_isa()
CHIP = load_chip("edge")
ROWS, COLS, STRIDE, COUNT = 40, 24, 160, 100
TABLE, INDEX, RESULT = 0, 0x8000, 0x10000
"""Addresses of the table, of the index vector and of the result."""

SET_UP = f"""
.args 3
.entry unified 0
szc size=s0 full={ROWS}
szc size=s1 full={COLS}
szc size=s2 full=1
sem sem=m0 value=0
sem sem=m1 value=0
sem sem=m2 value=0
desc desc=d0 space=gm base=@arg0 pitch={STRIDE}
desc desc=d1 space=gm base=@arg1
desc desc=d2 space=gm base=@arg2 pitch={4 * COLS}
desc desc=d3 space=ub base=0 pitch=96
desc desc=d4 space=ub base=16384 pitch=4
"""
LOAD_INDEX = "ld.int32 dst=d4 src=d1 rows=s2 cols=s0 | set m0\n"
GATHER = f"ldx.fp32 dst=d3 src=d0 index=d4 rows=s0 cols=s1 stride={STRIDE} count={COUNT}"
STORE = "st.fp32 dst=d2 src=d3 rows=s0 cols=s1 | wait m1\n"


def image(body: str, set_up: str = SET_UP) -> Image:
    return assemble(ISA, f"{set_up}{body}halt\n", "rows")


def gather() -> Image:
    return image(f"{LOAD_INDEX}{GATHER} | wait m0 set m1\n{STORE}")


def run(
    program: Image, index: Sequence[int], chip: NpuConfig = CHIP, hazards: Any = None
) -> tuple[RunResult, np.ndarray[Any, np.dtype[np.float32]], np.ndarray[Any, np.dtype[np.float32]]]:
    """The result of a run with data, the table before and after, and what is at the place of the result."""
    memory = GlobalMemory(1 << 20)
    table = np.arange(COUNT * STRIDE // 4, dtype=np.float32)
    memory.write(TABLE, table)
    memory.write(INDEX, np.array(index, dtype=np.int32))
    windows = [(TABLE, table.nbytes), (INDEX, 4 * ROWS), (RESULT, 4 * ROWS * COLS)]
    result = simulate(
        chip, ISA, program, memory=memory, addresses=(TABLE, INDEX, RESULT), windows=windows, hazards=hazards
    )
    after = memory.read(TABLE, table.nbytes).view(np.float32).reshape(COUNT, -1)
    return result, after, memory.read(RESULT, 4 * ROWS * COLS).view(np.float32).reshape(ROWS, COLS)


def timed(program: Image, indices: IndexSource | None, engine: Any = "simpy", chip: NpuConfig = CHIP) -> RunResult:
    return simulate(chip, ISA, program, addresses=(TABLE, INDEX, RESULT), data=False, engine=engine, indices=indices)


def test_rows_in_order_take_as_long_as_a_load_of_the_same_rows() -> None:
    plain = image(f"{LOAD_INDEX}ld.fp32 dst=d3 src=d0 rows=s0 cols=s1 | wait m0 set m1\n{STORE}")
    by_index, _, gathered = run(gather(), range(ROWS))
    loaded, _, rows = run(plain, range(ROWS))
    assert (by_index.cycles, by_index.requests, by_index.bytes["l2"]) == (
        loaded.cycles,
        loaded.requests,
        loaded.bytes["l2"],
    )
    assert by_index.bytes["ub"] == loaded.bytes["ub"] + 4 * ROWS
    np.testing.assert_array_equal(gathered, rows)


def test_an_index_below_zero_counts_from_the_end() -> None:
    below, _, gathered = run(gather(), [-1 - i for i in range(ROWS)])
    above, _, same = run(gather(), [COUNT - 1 - i for i in range(ROWS)])
    np.testing.assert_array_equal(gathered, same)
    assert (below.cycles, below.indices) == (above.cycles, above.indices)


def test_rows_far_apart_read_more_of_memory_than_one_row_again_and_again() -> None:
    far, _, gathered = run(gather(), [(37 * i) % COUNT for i in range(ROWS)])
    again, _, same = run(gather(), [3] * ROWS)
    assert far.bytes["hbm_read"] > again.bytes["hbm_read"]
    assert far.cycles > again.cycles
    assert gathered[:, 0].tolist() == [(37 * i) % COUNT * STRIDE // 4 for i in range(ROWS)]
    assert (same[:, 5] == 3 * STRIDE // 4 + 5).all()


@pytest.mark.parametrize("engine", ["simpy", backend_of("python"), backend_of()])
def test_recorded_indices_give_the_cycles_of_the_run_with_data(engine: Any) -> None:
    index = np.random.default_rng(3).integers(0, COUNT, ROWS).tolist()
    with_data, _, _ = run(gather(), index)
    assert with_data.indices == ((tuple(index),),)
    without = timed(gather(), with_data.indices, engine)
    assert (without.cycles, without.bytes, without.cores) == (with_data.cycles, with_data.bytes, with_data.cores)


@pytest.mark.parametrize("engine", ["simpy", backend_of("python")])
def test_without_indices_the_error_says_how_to_give_them(engine: Any) -> None:
    message = "ldx at word 27 picks rows by index; without data pass recorded vectors"
    with pytest.raises(SimulationError, match=message) as e:
        timed(gather(), None, engine)
    assert "IndexDistribution('uniform')" in str(e.value)


def test_recorded_indices_that_do_not_fit_are_refused() -> None:
    for recorded, message in (
        ([[]], "only 0 index vectors were recorded"),
        ([[[1] * (ROWS - 1)]], f"must have {ROWS} indices, 0 to {COUNT - 1}"),
        ([[[COUNT] * ROWS]], f"must have {ROWS} indices, 0 to {COUNT - 1}"),
        ([[[-1] * ROWS]], f"must have {ROWS} indices, 0 to {COUNT - 1}"),
    ):
        with pytest.raises(SimulationError, match=message):
            timed(gather(), recorded)


def test_a_distribution_is_drawn_the_same_every_time() -> None:
    uniform = IndexDistribution("uniform", seed=1)
    count = np.full(10_000, 50)
    drawn = uniform.draw(0, 4, 0, count)
    np.testing.assert_array_equal(drawn[17:], uniform.draw(0, 4, 17, count[17:]))
    often = np.bincount(drawn, minlength=50)
    assert len(often) == 50
    # 200 times each on average, with a deviation of 14.
    assert ((often > 120) & (often < 280)).all()
    assert (drawn != uniform.draw(1, 4, 0, count)).mean() > 0.9
    assert (drawn != IndexDistribution("uniform", seed=2).draw(0, 4, 0, count)).mean() > 0.9
    rows = IndexDistribution("sequential").draw(1, 4, 3, np.full(5, 20))
    assert rows.tolist() == [8, 9, 10, 11, 12]
    with pytest.raises(SimulationError, match="allowed: 'uniform', 'sequential'"):
        IndexDistribution("normal")  # type: ignore[arg-type]


def test_a_distribution_takes_time_by_its_rows() -> None:
    in_order = timed(gather(), IndexDistribution("sequential"))
    assert in_order.cycles == run(gather(), range(ROWS))[0].cycles
    drawn = IndexDistribution("uniform").draw(0, 1, 0, np.full(ROWS, COUNT))
    assert timed(gather(), IndexDistribution("uniform")).cycles == run(gather(), drawn.tolist())[0].cycles


def scatter(op: str, sync: str = "wait m0", then: str = "") -> Image:
    body = f"{LOAD_INDEX}ld.fp32 dst=d3 src=d2 rows=s0 cols=s1 | set m1\n"
    return image(
        f"{body}{op}.fp32 dst=d0 src=d3 index=d4 rows=s0 cols=s1 stride={STRIDE} count={COUNT} | {sync}\n{then}"
    )


def test_scattered_rows_wait_for_their_indices_and_their_data() -> None:
    run(scatter("stx", "wait m0 m1"), range(ROWS))
    # Loads complete in order: when the rows are there the indices are, but not the other way round.
    run(scatter("stx", "wait m1"), range(ROWS))
    with pytest.raises(HazardError, match="read after write"):
        run(scatter("stx", "wait m0"), range(ROWS))


def test_any_row_of_the_table_may_be_meant() -> None:
    """The rows that are read last are none that was written, but the program does not know that."""
    end = f"desc desc=d5 space=gm base=@arg0+{STRIDE * (COUNT - 1)}\ndesc desc=d6 space=ub base=20480\n"
    body = f"{LOAD_INDEX}ld.fp32 dst=d3 src=d2 rows=s0 cols=s1 | set m1\n"
    store = f"stx.fp32 dst=d0 src=d3 index=d4 rows=s0 cols=s1 stride={STRIDE} count={{}} | wait m0 m1\n"
    load = "ld.fp32 dst=d6 src=d5 rows=s2 cols=s1\n"
    run(image(body + store.format(COUNT - 1) + load, SET_UP + end), range(ROWS))
    with pytest.raises(HazardError, match="gm"):
        run(image(body + store.format(COUNT) + load, SET_UP + end), range(ROWS))


def test_atomic_adds_to_one_table_need_no_order() -> None:
    index = [i % 3 for i in range(ROWS)]
    twice = f"stxadd.fp32 dst=d0 src=d3 index=d4 rows=s0 cols=s1 stride={STRIDE} count={COUNT}\n"
    result, after, added = run(scatter("stxadd", "wait m0 m1", twice), index)
    before = np.arange(COUNT * STRIDE // 4, dtype=np.float32).reshape(COUNT, -1)
    expected = before.copy()
    for row, at in enumerate(index):
        expected[at, :COLS] += 2 * added[row]
    np.testing.assert_allclose(after, expected)
    assert result.indices == ((tuple(index), tuple(index)),)
    assert result.work.operations["add"] == {"fp32": 2 * ROWS * COLS}


def check(program: Image, table_bytes: int) -> None:
    verify(ISA, program, capacity_limits(CHIP), argument_bytes=[table_bytes, 4 * ROWS, 4 * ROWS * COLS])


def test_the_verifier_bounds_the_whole_table() -> None:
    last = STRIDE * (COUNT - 1) + 4 * COLS
    check(gather(), last)
    with pytest.raises(VerifyError, match=f"src=d0 reaches bytes 0 to {last} of argument 0; allowed: 0 to {last - 1}"):
        check(gather(), last - 1)


def test_the_verifier_wants_rows_apart_that_are_written_and_no_window() -> None:
    text = f"stx.fp32 dst=d0 src=d3 index=d4 rows=s0 cols=s1 stride={4 * COLS - 4} count={COUNT} | wait m0 m1\n"
    body = f"{LOAD_INDEX}ld.fp32 dst=d3 src=d2 rows=s0 cols=s1 | set m1\n"
    with pytest.raises(VerifyError, match=r"rows of 96 bytes are written 92 apart"):
        check(image(body + text), 1 << 20)
    windowed = SET_UP + f"dwin desc=d0 rows={COUNT} cols={COLS}\n"
    program = image(f"{LOAD_INDEX}{GATHER} | wait m0 set m1\n{STORE}", windowed)
    with pytest.raises(VerifyError, match="src=d0 has a window; rows by index take a table without one"):
        check(program, 1 << 20)
    with pytest.raises(SimulationError, match="operand src: a table that indices pick from has no window"):
        run(program, range(ROWS))
