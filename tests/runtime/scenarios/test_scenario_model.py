"""Scenarios of ONNX models: outputs held to onnxruntime, runs that do not see each other, faults that are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npuvm.cli.main import main
from npuvm.hw.errors import ConfigError
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.analysis.recording import record_scenario
from npuvm.runtime.scenarios import model as scenario_model
from npuvm.runtime.scenarios.printing import to_json
from npuvm.runtime.scenarios.report import ScenarioReport
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import ModelScenario, load_scenario

MODEL = """<ir_version: 10, opset_import: ["" : 18]>
gate (int64[batch, length] ids, float16[50, 32] table, float16[32, 48] "up.weight")
  => (float16[batch, length, 48] y, int64[batch, length] next)
<int64 one = {1}>
{
  x = Gather (table, ids)
  product = MatMul (x, "up.weight")
  y = Softmax <axis = -1> (product)
  next = Add (ids, one)
}
"""

TEXT = """\
name: small
title: a model for a test
kind: model
chip: edge
model: gate.onnxtxt
fusion: both
runs:
  - {sizes: {batch: 2, length: 7}, weight: 3}
  - {sizes: {batch: 1, length: 40}}
inputs:
  ids: {low: 0, high: 49}
  "*.weight": {scale: 0.2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gate.onnxtxt").write_text(MODEL, encoding="utf-8")
    return tmp_path


def loaded(folder: Path, text: str = TEXT) -> ModelScenario:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    scenario = load_scenario(path)
    assert isinstance(scenario, ModelScenario)
    return scenario


def run(folder: Path, text: str = TEXT, **options: Any) -> ScenarioReport:
    return run_scenario(loaded(folder, text), **options)


def test_every_output_of_every_run_is_compared(folder: Path) -> None:
    report = run(folder)
    assert report.ok, report.faults
    assert [row.label for row in report.runs] == ["batch=2, length=7", "batch=1, length=40"]
    for row in report.runs:
        assert row.errors is not None and row.errors.keys() == {"y", "next"}
        assert row.errors["next"].absolute == 0
        assert 0 < row.errors["y"].of_allowed <= 1
        assert row.totals.launches > 0 and row.totals.cycles > 0
        assert row.latency_us < row.with_transfers_us
    first, second = (row.latency_us for row in report.runs)
    assert report.mean_latency_us == pytest.approx(0.75 * first + 0.25 * second)
    assert report.totals.launches == sum(row.totals.launches for row in report.runs)


def test_runs_do_not_see_each_other(folder: Path) -> None:
    both = run(folder, timing_only=True)
    lines = TEXT.splitlines(keepends=True)
    alone = run(folder, "".join(lines[:7] + lines[8:]), timing_only=True)
    assert both.runs[1].totals.cycles == alone.runs[0].totals.cycles
    assert both.runs[1].latency_us == pytest.approx(alone.runs[0].latency_us)
    assert both.runs[1].errors is None


def test_fusion_is_that_of_the_scenario(folder: Path) -> None:
    """With none each of the four operators has a launch of its own at least."""
    alone = run(folder, TEXT.replace("fusion: both", "fusion: none"), timing_only=True)
    together = run(folder, timing_only=True)
    assert alone.runs[0].totals.launches >= 4 > together.runs[0].totals.launches
    assert alone.header.options["fusion"] == "none"


def test_buffering_is_that_of_the_scenario(folder: Path) -> None:
    """With data, and results as they must be."""
    longer = TEXT.replace("length: 40", "length: 4000")
    single, double = (
        run(folder, longer.replace("fusion: both", f"buffering: {mode}")) for mode in ("single", "double")
    )
    assert single.header.options["buffering"] == "single"
    assert single.totals.cycles != double.totals.cycles
    assert not (*single.faults, *double.faults)


def test_a_wrong_output_fails_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = scenario_model.expected_outputs

    def wrong(*given: Any) -> Any:
        made = right(*given)
        return {**made, "next": made["next"] + 1}

    monkeypatch.setattr(scenario_model, "expected_outputs", wrong)
    report = run(folder)
    assert not report.ok
    assert "batch=2, length=7: next is wrong, largest error 1" in report.faults[0]
    assert to_json(report)["runs"][0]["outputs"]["next"]["ok"] is False


def test_the_reference_stands_in_for_onnxruntime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(scenario_model, "find_spec", lambda name: None)
    assert run(folder).ok


def test_a_tolerance_of_the_scenario_counts(folder: Path) -> None:
    report = run(folder, TEXT + "tolerance: {absolute: 0, relative: 0}\n")
    assert [fault for fault in report.faults if "y is wrong" in fault]


def test_same_seed_same_data(folder: Path) -> None:
    first, again, other = (run(folder, TEXT + f"seed: {seed}\n") for seed in (1, 1, 2))
    assert _without_host(first) == _without_host(again)
    assert _without_host(first) != _without_host(other)


def _without_host(report: ScenarioReport) -> list[dict[str, Any]]:
    """The rows as JSON, without what is measured on the host."""
    return [{name: value for name, value in row.items() if "measured" not in name} for row in to_json(report)["runs"]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gate.onnxtxt", "nowhere.onnx", r"small\.yaml:5:1: model: no such file: .*nowhere\.onnx"),
        ("fusion: both", "fusion: all", r"small\.yaml:6:1: fusion: must be 'none', 'pattern', 'stack' or 'both', not 'all'"),
        ("fusion: both", "pins: {cores: 1}", r"pins: a model takes none; allowed are fusion and buffering"),
        ("fusion: both", "buffering: 2", r"small\.yaml:6:1: buffering: must be 'auto', 'single' or 'double', not 2"),
        ("weight: 3", "weight: 0", r"small\.yaml:8:.*runs\[0\]\.weight: .*greater than 0, not 0"),
        ("high: 49", "high: -1", r"inputs\.ids: high: -1 is less than low: 0"),
        ("{scale: 0.2}", "{scale: 0.2, low: 1, high: 2}", r"inputs\.\*\.weight: give low and high, or scale"),
    ],
)  # fmt: skip
def test_faults_of_the_file_are_told_with_their_line(folder: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(folder, TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("length: 7", "width: 7", r"small: run 0: .*symbol 'length' has no size; symbols of its inputs: batch, length"),
        ("ids:", "idx:", r"inputs\.idx: fits no input; inputs: ids, table, up\.weight"),
        ("ids: {low: 0, high: 49}", "ids: {scale: 2}", r"input 'ids' is int64; allowed is \{low, high\}, not scale"),
        ("{scale: 0.2}", "{low: 0, high: 1}", r"input 'up\.weight' is float16; allowed is \{scale\}, not low and high"),
    ],
)
def test_faults_of_sizes_and_inputs_are_told(folder: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(NpuvmError, match=said):
        run(folder, TEXT.replace(old, new))


def test_launches_are_recorded_for_what_takes_them_apart(folder: Path) -> None:
    records = record_scenario(loaded(folder))
    assert sum(record.result.cycles for record in records) == run(folder, timing_only=True).totals.cycles


@pytest.mark.parametrize("verb", [["explain"], ["whatif"]])
def test_verbs_that_take_launches_apart_take_models(
    verb: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(folder)
    assert main([*verb, str(folder / "small.yaml")]) == 0
    assert capsys.readouterr().out


def test_simulate_writes_runs_and_a_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(folder)
    out = folder / "out"
    words = ["simulate", str(folder / "small.yaml"), "--timing-only", "--report", str(out), "--technology", "n7"]
    assert main([*words, "--out", str(out)]) == 0
    found = json.loads((out / "small.json").read_text(encoding="utf-8"))
    assert [each["sizes"] for each in found["runs"]] == [{"batch": 2, "length": 7}, {"batch": 1, "length": 40}]
    assert found["mean_latency_us"] == pytest.approx(
        np.average([each["latency_us"] for each in found["runs"]], weights=[3, 1])
    )
    assert "batch=1, length=40" in (out / "small.html").read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    assert f"{found['mean_latency_us']:,.2f} µs a run" in shown
