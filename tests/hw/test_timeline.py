"""The timeline of a launch: the form of the Chrome trace events, and what they say against the run itself."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import jsonschema
import pytest
from benchmarks.simulator_speed import cube_program, vector_program
from tests.hw.engine_kit import ISA

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError
from npuvm.hw.simulator import simulate
from npuvm.hw.stats import RunResult
from npuvm.hw.timeline import chrome_trace
from npuvm.isa import Image, assemble

EDGE = load_chip("edge", ["core.count=2"])

# Written from the description of the trace event format: metadata, complete events, flow starts and ends, counters.
FIELDS: dict[str, dict[str, Any]] = {
    "M": {"args": {"type": "object"}},
    "X": {"ts": {"minimum": 0}, "dur": {"type": "number", "minimum": 0}, "args": {"type": "object"}},
    "s": {"ts": {"minimum": 0}, "id": {"type": "integer"}, "cat": {"type": "string"}},
    "f": {"ts": {"minimum": 0}, "id": {"type": "integer"}, "cat": {"type": "string"}, "bp": {"const": "e"}},
    "C": {"ts": {"minimum": 0}, "args": {"type": "object", "additionalProperties": {"type": "number"}}},
}
EVERY = {"pid": {"type": "integer"}, "tid": {"type": "integer"}, "name": {"type": "string", "minLength": 1}, "ph": {}}


def check_format(trace: dict[str, Any]) -> None:
    """The object form of the format, and every event by its phase."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    assert {event["ph"] for event in trace["traceEvents"]} <= FIELDS.keys()
    for phase, fields in FIELDS.items():
        item = {"type": "object", "required": [*EVERY, *fields], "properties": {**EVERY, **fields}}
        events = [event for event in trace["traceEvents"] if event["ph"] == phase]
        jsonschema.validate(events, {"type": "array", "items": {**item, "additionalProperties": False}})


def traced(chip: NpuConfig, image: Image) -> tuple[RunResult, list[dict[str, Any]]]:
    addresses = [1 << 16 << i for i in range(image.n_args)]
    result = simulate(chip, ISA, image, addresses=addresses, data=False, trace=True)
    trace = json.loads(json.dumps(chrome_trace(chip, ISA, image, result)))
    check_format(trace)
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
    image = vector_program(ISA, "unified", 1, 6)
    result, events = traced(EDGE, image)
    points = [e for e in events if e["name"] == "global memory load"]
    step = points[1]["ts"] - points[0]["ts"]
    moved = sum(e["args"]["bytes per cycle"] for e in points) * step
    assert moved == pytest.approx(sum(e.nbytes for e in result.trace if e.unit == "load"), rel=1e-3)


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
