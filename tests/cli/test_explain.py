"""The verbs explain and whatif, on a scenario small enough to run for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npuvm.cli.main import main

SCENARIO = """
name: small
title: two small kernels
kind: kernels
chip: edge
cases:
  - {op: add, dtypes: [fp16], shapes: [[64, 64]]}
  - {op: softmax, dtypes: [fp16], shapes: [[32, 64]]}
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return str(path)


def test_explain_prints_every_kernel_and_the_whole(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", scenario]) == 0
    captured = capsys.readouterr()
    for expected in (
        "add fp16 64 x 64  1 launch (ktype auto: 1 vector), ",
        "softmax fp16 32 x 64",
        "all launches  2 launches, ",
        "core cycles",
    ):
        assert expected in captured.out
    assert captured.out.count("  waits for ") == 3  # the heading of each table of units
    assert main(["explain", scenario, "--no-units"]) == 0
    assert "  waits for " not in capsys.readouterr().out


def test_explain_follows_the_critical_path(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", scenario, "--path", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    for kernel in report["kernels"]:
        path = kernel["critical_path"]
        assert path["cycles"] == kernel["cycles"]
        assert sum(share["cycles"] for share in path["shares"]) == path["cycles"]
        assert sum(each["cycles"] for each in path["instructions"]) == path["cycles"]
        assert any(each["text"].startswith("ld.") for each in path["instructions"])
    assert main(["explain", scenario, "--path"]) == 0
    out = capsys.readouterr().out
    assert out.count("critical path of a launch of ") == 2
    assert ": ld." in out


def test_explain_as_json_adds_up(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", scenario, "--json", "--data", "--cold-l2"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["scenario"], report["chip"]) == ("small", "edge")
    for kernel in (*report["kernels"], report["whole"]):
        assert sum(part["cycles"] for part in kernel["stack"]) == kernel["core_cycles"]
        assert kernel["advice"][0]["text"]


def test_a_planted_bottleneck_is_named(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", scenario, "--set", "memory.hbm.bandwidth_gbps=0.5", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["whole"]["advice"][0]["rule"] == "hbm"


def test_whatif_stands_side_by_side(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", scenario, "--if", "infinite-hbm", "--if", "free-vector"]) == 0
    out = capsys.readouterr().out
    assert "small on edge" in out
    assert "what helps most" in out
    assert [word in out for word in ("the chip as it is", "infinite-hbm", "free-vector", "free-cube")] == [True] * 3 + [
        False
    ]
    assert main(["whatif", scenario, "--json", "--chip", "edge", "--set", "core.count=1"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["outcomes"][0]["variant"] is None
    assert len(report["outcomes"]) > 10


def test_an_unknown_variant_is_one_line(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", scenario, "--if", "free-lunch"]) == 2
    assert capsys.readouterr().err.startswith("npuvm: no variant 'free-lunch'; there are: infinite-bandwidth, ")


def test_buffering_replaces_that_of_the_scenario(
    scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(scenario).read_text(encoding="utf-8").replace("[[64, 64]]", "[[900, 640]]")
    Path(scenario).write_text(text, encoding="utf-8")
    cycles: dict[str, list[int]] = {"single": [], "double": []}
    for mode, found in cycles.items():
        assert main(["explain", scenario, "--json", "--buffering", mode]) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["whole"]["cycles"])
        assert main(["whatif", scenario, "--if", "infinite-hbm", "--json", "--buffering", mode]) == 0
        found.append(json.loads(capsys.readouterr().out)[0]["outcomes"][0]["cycles"])
        words = ["simulate", scenario, "--timing-only", "--json", "--out", str(tmp_path / "out")]
        assert main([*words, "--buffering", mode]) == 0
        (told,) = json.loads(capsys.readouterr().out)
        assert told["options"]["pins.buffering"] == mode
        found.append(told["totals"]["cycles"])
    assert all(one > two for one, two in zip(cycles["single"], cycles["double"], strict=True))
