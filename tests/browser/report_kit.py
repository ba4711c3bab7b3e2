"""A small run with everything that a report shows, and its page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from npuvm.hw.energy import load_technology
from npuvm.isa import Image
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.html import ReportInputs, ReportRecorder, render_report
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import load_scenario

SCENARIO = """
kind: kernels
name: small
title: four operators & <more>
chip: edge
seed: 7
cases:
  - {op: matmul, bias: true, epilogue: gelu, dtypes: [fp16], shapes: [{m: 70, n: 96, k: 64}]}
  - {op: softmax, dtypes: [fp32], shapes: [[40, 100]]}
  - {op: add, dtypes: [fp16], shapes: [[300, 500]]}
  - {op: cast_to_fp32, dtypes: [fp16], shapes: [[64, 64]]}
"""


class Traces:
    """Keeps every record of a run with its trace."""

    def __init__(self) -> None:
        self.records: list[LaunchRecord] = []

    def wants_trace(self, image: Image) -> bool:
        return True

    def launched(self, record: LaunchRecord) -> None:
        self.records.append(record)


def observe(scenario: str, *observers: ReportRecorder | Traces, timing_only: bool = False) -> ReportInputs:
    """Run a scenario under observers, the first of which is a recorder; what that has found."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scenario.yaml"
        file.write_text(scenario, encoding="utf-8")
        report = run_scenario(load_scenario(file), timing_only=timing_only, observers=observers)
    recorder = observers[0]
    assert isinstance(recorder, ReportRecorder)
    return recorder.inputs(report, {"host time of the run": 1.5}, load_technology("n7"))


@cache
def small_run() -> tuple[ReportInputs, Traces]:
    """The run of `SCENARIO`, with the records and traces that its report was made from."""
    traces = Traces()
    return observe(SCENARIO, ReportRecorder(timelines=3), traces), traces


@cache
def small_page() -> str:
    """The report of `small_run`."""
    return render_report(small_run()[0])
