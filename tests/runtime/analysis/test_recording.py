"""Recorded launches: the same cycles when replayed on the same chip, whatever L2 and the host did in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw import simulator
from npuvm.hw.compiled import backend_of
from npuvm.hw.config import load_chip
from npuvm.hw.energy import load_technology
from npuvm.hw.errors import DeviceError
from npuvm.runtime.analysis.energy import energy_of_launches
from npuvm.runtime.analysis.explained import explain_launches
from npuvm.runtime.analysis.recording import LaunchRecorder, by_kernel, record_scenario, replay
from npuvm.runtime.analysis.uncertainty import propagate_launches
from npuvm.runtime.analysis.whatif import what_if
from npuvm.runtime.device.device import Device, LaunchRecord
from npuvm.runtime.scenarios.schema import load_scenario

CHIP = load_chip("edge")
SCENARIO = """
name: small
title: two small kernels
kind: kernels
chip: edge
cases:
  - {op: add, dtypes: [fp16], shapes: [[64, 64], [64, 64]]}
  - {op: softmax, dtypes: [fp16], shapes: [[32, 64]]}
"""


@kernel(x="fp32[M, N]", y="fp32[M, N]")
def add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


def launches(cold_l2: bool = False, data: bool = False) -> list[LaunchRecord]:
    """Four launches: the second finds its inputs in L2, the third overwritten ones, the fourth freed and new ones."""
    recorder = LaunchRecorder()
    device = Device(CHIP, timing_only=not data, cold_l2=cold_l2, observers=[recorder])
    array = np.ones((96, 64), dtype=np.float32)
    tensors = {"x": device.tensor(array), "y": device.tensor(array)}
    for step in range(4):
        if step == 2:
            device.write(tensors["x"], array)
        if step == 3:
            tensors["y"].free()
            tensors["y"] = device.tensor(array)
        for output in device.run(add, tensors, tag="first" if step == 0 else "").values():
            output.free()
    return recorder.records


def cycles(records: Sequence[LaunchRecord]) -> list[int]:
    """Cycles of each launch as recorded."""
    return [record.result.cycles for record in records]


@pytest.mark.parametrize("cold_l2", [False, True])
@pytest.mark.parametrize("data", [False, True])
def test_a_replay_on_the_same_chip_is_the_recorded_run(cold_l2: bool, data: bool) -> None:
    records = launches(cold_l2, data)
    again = replay(records, CHIP)
    assert [replace(result, engine="") for result in again.results] == [
        replace(record.result, engine="") for record in records
    ]
    assert again.cycles == sum(cycles(records))
    assert again.stream_us == records[-1].times.end_us


def test_what_the_host_wrote_and_freed_matters() -> None:
    """So the test above can fail: without the host's doings the replay finds lines in L2 that were not there."""
    records = launches()
    assert len(set(cycles(records))) > 1
    forgetful = [replace(record, discarded=()) for record in records]
    assert [result.cycles for result in replay(forgetful, CHIP).results] != cycles(records)


def test_a_cold_l2_makes_equal_launches_equal() -> None:
    assert len(set(cycles(launches(cold_l2=True)))) == 1


def test_another_chip_changes_the_cycles_and_not_the_work() -> None:
    records = launches()
    slow = load_chip("edge", ["memory.hbm.bandwidth_gbps=1"])
    again = replay(records, slow)
    assert again.cycles > sum(cycles(records))
    assert [result.by_op for result in again.results] == [record.result.by_op for record in records]


def test_a_replay_takes_the_compiled_engine_only_with_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    records = launches()[:1]
    assert replay(records, CHIP).results[0].engine == backend_of("numba").label
    monkeypatch.setattr(simulator, "backend_of", lambda: backend_of("python"))
    assert replay(records, CHIP).results[0].engine == "simpy"
    assert replay(records, CHIP, "compiled").results[0].engine == "compiled (Python)"


@pytest.mark.parametrize(
    "look",
    [explain_launches, what_if, propagate_launches, lambda records: energy_of_launches(records, load_technology("n7"))],
)
def test_without_a_launch_there_is_nothing_to_look_at(look: Callable[[Sequence[LaunchRecord]], object]) -> None:
    with pytest.raises(DeviceError, match="nothing was launched"):
        look([])


def test_a_trace_of_the_first_launch_of_each_image() -> None:
    recorder = LaunchRecorder(traced=True)
    device = Device(CHIP, timing_only=True, observers=[recorder])
    tensors = {name: device.empty((96, 64), "fp32") for name in ("x", "y")}
    for _ in range(3):
        device.run(add, tensors)
    assert [bool(record.result.trace) for record in recorder.records] == [True, False, False]


def test_launches_are_grouped_by_tag_or_kernel() -> None:
    records = launches()
    assert by_kernel(records) == {"first": [0], "add": [1, 2, 3]}


def test_a_scenario_is_recorded_with_its_cases_as_tags(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    seen: list[tuple[int, int]] = []
    records = record_scenario(load_scenario(path), progress=lambda done, total, _: seen.append((done, total)))
    assert list(by_kernel(records)) == ["add fp16 64 x 64", "softmax fp16 32 x 64"]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert cycles(record_scenario(load_scenario(path), data=True)) == cycles(records)
    assert cycles(record_scenario(load_scenario(path), "edge", ["clock_ghz=1.6"])) != cycles(records)
