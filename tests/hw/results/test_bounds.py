"""Lower limits of a launch, from hand-made streams."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.hw.engine_kit import Row, execute, make_chip, make_stream

from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.tally import Tally
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.results.bounds import check_bounds, core_bounds, launch_bounds, memory_bounds

CHIP = make_chip()
LINE = 128


def test_bounds_of_a_core() -> None:
    """Loads at 32 bytes a cycle, stores at 16; the fixpipe's transfer counts at its own rate."""
    first = [Row("vector", 7, gap=3), Row("vector", 5), Row("cube", 11), Row("load", 10, gm=(0, 3, 100, 200))]
    second = [Row("store", 10, gm=(0, 1, 200, 200)), Row("move", 4), Row("fixpipe", 2, gm=(0, 1, 160, 160))]
    bounds = core_bounds(CHIP, Tally.of([make_stream(first), make_stream(second)]))
    assert bounds == {
        "vector": 12,
        "cube": 11,
        "move": 4,
        "fixpipe": 2,
        "port": Fraction(200, 16),
        "dispatch": 9,
    }


def test_a_launch_is_bound_by_its_slowest_core() -> None:
    cores = [{"vector": Fraction(5), "port": Fraction(2)}, {"vector": Fraction(3), "cube": Fraction(9)}]
    assert launch_bounds({"hbm": Fraction(1)}, cores) == {"hbm": 1, "vector": 5, "port": 2, "cube": 9}


def test_only_first_reads_must_cross() -> None:
    """L2 of four lines: reading eight lines twice misses sixteen times, but only eight crossings cannot be avoided."""
    l2 = L2State(4 * LINE, LINE)
    rows = [Row("load", gm=(0, 1, 8 * LINE, 8 * LINE)) for _ in range(2)]
    memory = execute([[rows]], CHIP, l2=l2).machine.memory
    assert memory.traffic.hbm_read == 16 * LINE
    assert memory_bounds(CHIP, memory) == {"hbm": Fraction(8 * LINE, 32), "l2": 0}


def test_what_was_resident_at_launch_need_not_cross() -> None:
    l2 = L2State(4 * LINE, LINE)
    execute([[[Row("load", gm=(0, 1, 4 * LINE, 4 * LINE))]]], CHIP, l2=l2)
    rows = [Row("load", gm=(4 * LINE, 1, LINE, LINE)), Row("load", gm=(0, 1, LINE, LINE))]
    memory = execute([[rows]], CHIP, l2=l2).machine.memory
    assert memory.traffic.hbm_read == 2 * LINE
    assert memory_bounds(CHIP, memory)["hbm"] == Fraction(LINE, 32)


def test_lines_that_l2_cannot_hold_have_crossed_when_a_launch_ends() -> None:
    """Stores at 16 bytes a cycle into four lines, HBM of one byte a cycle: a launch has to wait for what drives lines out."""
    chip = make_chip("memory.hbm.bandwidth_gbps=1")
    run = execute([[[Row("store", gm=(0, 1, 64 * LINE, 64 * LINE))]]], chip, l2=L2State(4 * LINE, LINE))
    bounds = memory_bounds(chip, run.machine.memory)
    assert bounds["hbm"] == 60 * LINE
    check_bounds(run.cycles, bounds)


def test_dirty_lines_cross_only_beyond_what_l2_holds() -> None:
    """Two lines are dirty at launch, five more become so, one of them twice: three of seven do not fit."""
    l2 = L2State(4 * LINE, LINE)
    execute([[[Row("store", gm=(0, 1, 2 * LINE, 2 * LINE))]]], CHIP, l2=l2)
    assert l2.dirty == 2
    rows = [Row("store", gm=(8 * LINE, 1, 5 * LINE, 5 * LINE)), Row("store", gm=(8 * LINE, 1, LINE, LINE))]
    memory = execute([[rows]], CHIP, l2=l2).machine.memory
    assert memory.traffic.hbm_write == 4 * LINE
    assert memory_bounds(CHIP, memory)["hbm"] == Fraction(3 * LINE, 32)
    assert memory_bounds(CHIP, memory)["l2"] == Fraction(6 * LINE, 64)


def test_a_result_below_a_bound_is_an_error() -> None:
    check_bounds(10, {"hbm": Fraction(10)})
    with pytest.raises(SimulationError, match=r"10 cycles are below the hbm bound of 10\.5"):
        check_bounds(10, {"l2": Fraction(3), "hbm": Fraction(21, 2)})
