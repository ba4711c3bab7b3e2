from __future__ import annotations

from pathlib import Path
from typing import Any

from npuvm.runtime.device.timelines import TimelineRecorder
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import load_scenario

SCENARIO = """
kind: kernels
name: twice
title: one program twice, another once
chip: edge
cases:
  - {op: exp, dtypes: [fp32], shapes: [[8, 16], [8, 16], [8, 32]]}
"""


def test_a_timeline_of_the_first_launch_of_each_program(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    found: dict[str, dict[str, Any]] = {}
    report = run_scenario(load_scenario(file), timing_only=True, observers=[TimelineRecorder(found.__setitem__)])
    assert [name.split("-")[0] for name in found] == ["001", "002"]
    cycles = [row.totals.cycles for row in report.cases]
    assert [timeline["otherData"]["cycles"] for timeline in found.values()] == [cycles[0], cycles[2]]
    ops = [event["name"] for event in found[next(iter(found))]["traceEvents"] if event["ph"] == "X"]
    assert ops.count("vexp.fp32") == ops.count("st.fp32") == ops.count("ld.fp32") == len(ops) / 3
