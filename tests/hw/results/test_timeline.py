"""The timeline of a launch: the form of the Chrome trace events, and what they say against the run itself."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from benchmarks.simulator_speed import cube_program, vector_program
from tests.hw.engine_kit import ISA
from tests.hw.results.trace_format import trace_problems

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError
from npuvm.hw.results.stats import RunResult
from npuvm.hw.results.timeline import chrome_trace, spread
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, assemble

EDGE = load_chip("edge", ["core.count=2"])


def traced(chip: NpuConfig, image: Image) -> tuple[RunResult, list[dict[str, Any]]]:
    addresses = [1 << 16 << i for i in range(image.n_args)]
    result = simulate(chip, ISA, image, addresses=addresses, data=False, trace=True)
    trace = json.loads(json.dumps(chrome_trace(chip, ISA, image, result)))
    assert trace_problems(trace) == []
    return result, trace["traceEvents"]


@pytest.mark.parametrize("image", [vector_program(ISA, "unified", 2, 6), cube_program(ISA, "unified", 2, 6)])
def test_slices_and_counters_are_those_of_the_run(image: Image) -> None:
    result, events = traced(EDGE, image)
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == result.instructions
    assert Counter(event["args"]["text"].split()[0].split(".")[0] for event in slices) == result.by_op
    for core, stats in enumerate(result.cores):
        for unit, code in ISA.units.items():
            mine = sorted((e for e in slices if (e["pid"], e["tid"]) == (core, code)), key=lambda e: e["ts"])
            ends = [e["ts"] + e["dur"] for e in mine]
            assert all(end <= after["ts"] for end, after in zip(ends, mine[1:], strict=False))
            if unit in ("vector", "cube", "move"):
                assert sum(e["dur"] for e in mine) == stats.units[unit].busy
    depths = [e["args"]["instructions"] for e in events if e["ph"] == "C" and e["name"].startswith("queue ")]
    assert min(depths) == 0
    assert max(depths) <= EDGE.core.sequencer.queue_depth
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[0, ISA.units["vector"]] == "vector"


def test_bandwidth_adds_up_to_the_bytes_that_moved() -> None:
    image = vector_program(ISA, "unified", 2, 6)
    result, events = traced(EDGE, image)
    moved = {unit: sum(e.nbytes for e in result.trace if e.unit == unit) for unit in ("load", "store")}
    assert all(moved.values())
    for unit, nbytes in moved.items():
        every = [e for e in events if e["name"] == f"global memory {unit}, all cores"]
        of_cores = [e for e in events if e["name"] == f"global memory {unit}"]
        assert {e["pid"] for e in every} == {len(result.cores)}
        assert {e["pid"] for e in of_cores} == set(range(len(result.cores)))
        step = every[1]["ts"] - every[0]["ts"]
        for points in (every, of_cores):
            assert sum(e["args"]["bytes per cycle"] for e in points) * step == pytest.approx(nbytes, rel=1e-3)
        assert every[-1]["args"]["bytes per cycle"] == 0


def test_spreading_is_what_counting_cycle_by_cycle_gives() -> None:
    rng = np.random.default_rng(5)
    start = rng.integers(0, 90, 40)
    end = start + rng.integers(0, 30, 40)
    amount = rng.integers(1, 1000, 40)
    edges = np.array([0, 7, 14, 60, 61, 120])
    by_cycle = np.zeros(120)
    for first, last, total in zip(start, end, amount, strict=True):
        cycles = range(first, max(last, first + 1))
        by_cycle[list(cycles)] += total / len(cycles)
    wanted = [by_cycle[low:high].sum() for low, high in pairwise(edges)]
    np.testing.assert_allclose(spread(start, end, amount, edges), wanted, rtol=1e-9, atol=1e-9)
    empty = np.array([], dtype=np.int64)
    assert spread(empty, empty, empty, edges).tolist() == [0.0] * 5


def test_arrows_lead_from_each_signal_to_its_taker() -> None:
    text = """
    .entry unified 0
    sem sem=m5 value=1
    usync unit=vector | set m3
    usync unit=vector | set m3
    usync unit=cube | wait m3 m5
    usync unit=cube | wait m3 set m4
    usync unit=store | wait m4
    halt
    """
    image = assemble(ISA, text)
    result, events = traced(EDGE, image)
    starts = {e["id"]: (e["tid"], e["ts"]) for e in events if e["ph"] == "s"}
    ends = {e["id"]: (e["tid"], e["ts"]) for e in events if e["ph"] == "f"}
    assert starts.keys() == ends.keys()
    unit = ISA.units
    start = {event.sequence: event.start for event in result.trace}
    assert sorted((starts[i], ends[i]) for i in starts) == sorted(
        [
            ((unit["vector"], start[0]), (unit["cube"], start[2])),
            ((unit["vector"], start[1]), (unit["cube"], start[3])),
            ((unit["cube"], start[3]), (unit["store"], start[4])),
        ]
    )


def test_a_run_without_a_trace_has_no_timeline() -> None:
    image = vector_program(ISA, "unified", 1, 2)
    result = simulate(EDGE, ISA, image, data=False)
    with pytest.raises(SimulationError, match="simulate with trace=True"):
        chrome_trace(EDGE, ISA, image, result)


SLICE = {"ph": "X", "name": "vadd", "pid": 0, "tid": 1, "ts": 5, "dur": 3}
NAMES = [
    {"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "args": {"name": "core 0"}},
    {"ph": "M", "name": "thread_name", "pid": 0, "tid": 1, "args": {"name": "vector"}},
]
FLOW = {"pid": 0, "tid": 1, "name": "m1", "cat": "semaphore", "id": 1}


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([SLICE], ""),
        ([{**SLICE, "ph": "Q"}], "phase 'Q'"),
        ([{key: value for key, value in SLICE.items() if key != "dur"}], "without 'dur'"),
        ([{**SLICE, "ts": -1}], "'ts' is -1"),
        ([{**SLICE, "ts": "5"}], "'ts' is '5'"),
        ([{**SLICE, "dur": float("nan")}], "'dur' is nan"),
        ([{**SLICE, "pid": "core"}], "'pid' is 'core'"),
        ([SLICE, {**SLICE, "ts": 6, "dur": 9}], "crosses the end"),
        ([SLICE, {**SLICE, "ts": 6, "dur": 1}], ""),
        ([SLICE, {**SLICE, "pid": 3}], "process 3 has no name"),
        ([SLICE, {**SLICE, "tid": 2}], "thread 2 of process 0 has no name"),
        ([*NAMES, SLICE], "is given 2 times"),
        ([{"ph": "M", "name": "colour", "pid": 0, "args": {}}], "metadata is named"),
        ([{"ph": "M", "name": "thread_name", "pid": 0, "tid": 1, "args": {}}], "needs an argument 'name'"),
        ([{"ph": "C", "name": "queue", "pid": 0, "ts": 0, "args": {"depth": "2"}}], "arguments are numbers"),
        ([{"ph": "C", "name": "queue", "pid": 0, "ts": 0, "args": {"depth": 2}}], ""),
        ([SLICE, {**FLOW, "ph": "s", "ts": 5}], "1 starts and 0 ends"),
        ([SLICE, {**FLOW, "ph": "s", "ts": 5}, {**FLOW, "ph": "f", "bp": "e", "ts": 7}], ""),
        ([SLICE, {**FLOW, "ph": "s", "ts": 7}, {**FLOW, "ph": "f", "bp": "e", "ts": 6}], "before its start"),
        ([SLICE, {**FLOW, "ph": "s", "ts": 5}, {**FLOW, "ph": "f", "bp": "e", "ts": 20}], "no slice at 20"),
        ([SLICE, {**FLOW, "ph": "s", "ts": 5}, {**FLOW, "ph": "f", "bp": "x", "ts": 6}], "binding point 'x'"),
        ([{"ph": "E", "pid": 0, "tid": 1, "ts": 3}], "E without B"),
    ],
)
def test_the_checker_of_the_format_finds_what_is_wrong(events: list[dict[str, Any]], problem: str) -> None:
    found = trace_problems({"traceEvents": [*NAMES, *events]})
    if problem:
        assert any(problem in line for line in found), found
    else:
        assert found == []


def test_a_trace_is_an_object() -> None:
    assert trace_problems([]) == ["a trace is an object with a list `traceEvents`"]
    assert "displayTimeUnit" in trace_problems({"traceEvents": [], "displayTimeUnit": "s"})[0]
