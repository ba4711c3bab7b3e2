"""What a user can get wrong on the command line, for real: one line that says what, where and what is allowed; exit 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuvm.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """\
name: one
title: one operator
kind: kernels
chip: edge
seed: 0
cases:
  - {case}
"""


@pytest.mark.parametrize("flag", [[], ["--timing-only"]])
@pytest.mark.parametrize(
    ("case", "told"),
    [
        (
            "{op: add, dtypes: [fp16], shapes: [[16777216, 16777216]]}",
            ["one: add fp16 16777216 x 16777216", "out of device memory", "bytes wanted"],
        ),
        ("{op: matmul, dtypes: [fp16], shapes: [{m: 16777216, n: 8, k: 16777216}]}", ["out of device memory"]),
        ("{op: add, dtypes: [fp16], shapes: [[-1, 3]]}", ["one.yaml:7:", "-1"]),
        ("{op: ad, dtypes: [fp16], shapes: [[3]]}", ["one.yaml:7:", "ad", "add"]),
    ],
)
def test_a_shape_that_cannot_be_is_one_line_and_exit_2(
    case: str, told: list[str], flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(SCENARIO.format(case=case), encoding="utf-8")
    assert main(["simulate", str(path), "--out", str(tmp_path / "out"), *flag]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and all(part in lines[0] for part in told), lines
    assert not list(tmp_path.glob("out/*.json"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["configs/absent.yaml"], ["absent.yaml", "no such file"]),
        (["configs/gemm.yaml", "--set", "core.ub_kb=64"], ["core.ub_kb", "ub_kib"]),
        (["configs/gemm.yaml", "--set", "core.count=0"], ["core.count", "0"]),
        (["configs/gemm.yaml", "--chip", "ascend_910x"], ["ascend_910x", "ascend_910b1"]),
        (["configs/gemm.yaml", "--set", "core.l0a_kib=0"], ["core.l0a_kib", "0"]),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(
    arguments: list[str], told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, *rest = arguments
    assert main(["simulate", str(ROOT / scenario), *rest, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and all(part in lines[0] for part in told), lines
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
