"""Whole scenarios on the smallest chip: results right, cycles the same without data, faults found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npuvm.compiler import CompileError
from npuvm.hw.errors import ConfigError
from npuvm.runtime.scenarios.printing import to_json
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import Scenario, load_scenario

TEXT = """\
name: small
title: a scenario for a test
kind: kernels
chip: edge
seed: 3
cases:
  - op: add
    dtypes: [fp16, int32]
    shapes: [[1], [3, 40]]
  - op: softmax
    dtypes: [fp32]
    shapes: [[5, 33]]
  - op: matmul
    bias: true
    epilogue: gelu
    transpose_b: true
    dtypes: [fp16]
    shapes: [{m: 17, n: 33, k: 20}, {m: 17, n: 0, k: 20}]
"""


def _scenario(tmp_path: Path, text: str = TEXT) -> Scenario:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path)


def test_every_case_is_run_and_right(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = run_scenario(_scenario(tmp_path), progress=lambda done, total, label: calls.append((done, total)))
    assert report.ok, report.faults
    assert [(row.operator, row.dtype, row.shape) for row in report.cases] == [
        ("add", "fp16", "1"),
        ("add", "fp16", "3 x 40"),
        ("add", "int32", "1"),
        ("add", "int32", "3 x 40"),
        ("softmax", "fp32", "5 x 33"),
        ("matmul B^T bias gelu", "fp16", "m17 n33 k20"),
        ("matmul B^T bias gelu", "fp16", "m17 n0 k20"),
    ]
    for row in report.cases[:-1]:
        assert row.totals.cycles > 0
        assert row.totals.of_bound is not None
        assert 0 < row.totals.of_bound <= 1
        assert row.totals.bytes["hbm_read"] + row.totals.bytes["l2"] > 0
    assert report.stream_us > report.totals.microseconds
    assert calls == [(done, 7) for done in range(8)]
    assert json.loads(json.dumps(to_json(report), allow_nan=False))["ok"] is True


def test_timing_only_gives_the_same_cycles(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path)
    with_data = run_scenario(scenario)
    without = run_scenario(scenario, timing_only=True)
    assert [row.totals.cycles for row in without.cases] == [row.totals.cycles for row in with_data.cases]
    assert all(row.errors is None for row in without.cases)
    assert without.header.timing_only


def test_result_out_of_tolerance_fails_the_run(tmp_path: Path) -> None:
    text = TEXT.replace("    shapes: [[5, 33]]", "    shapes: [[5, 33]]\n    tolerance: {absolute: 0.0, relative: 0.0}")
    report = run_scenario(_scenario(tmp_path, text))
    assert not report.ok
    assert [fault.split(":")[0] for fault in report.faults] == ["softmax fp32 5 x 33"]


def test_chip_and_overrides_replace_the_scenarios_own(tmp_path: Path) -> None:
    report = run_scenario(_scenario(tmp_path), chip="ascend_910a", overrides=["core.count=1"])
    assert report.ok, report.faults
    assert report.header.chip == "ascend_910a"
    assert report.header.options == {"seed": "3", "core.count": "1"}


def test_wrong_override_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="core\\.cuont"):
        run_scenario(_scenario(tmp_path), overrides=["core.cuont=1"])


def test_pins_reach_the_compiler(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"pin tile\.l1"):
        run_scenario(_scenario(tmp_path, TEXT.replace("chip: edge", "chip: edge\npins: {tile: {l1: [16, 16]}}")))


def test_sentences_match_the_reference(tmp_path: Path) -> None:
    text = """\
name: pair
title: two sentences
kind: minilm
chip: edge
sentences: [Good evening., The cat sleeps on the sofa.]
"""
    report = run_scenario(_scenario(tmp_path, text))
    assert report.ok, report.faults
    assert [row.tokens for row in report.sentences] == [5, 9]
    assert [row.totals.launches >= 74 for row in report.sentences] == [True, True]
    assert report.worst_cosine is not None
    assert report.worst_cosine >= 0.9999
    assert sum(row.totals.cycles for row in report.kinds) == report.totals.cycles
    assert report.kinds[0].kind == "embedding + layernorm"
    assert report.kinds[0].totals.launches == 2
