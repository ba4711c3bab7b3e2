"""The verb with the whole machine below it, on a scenario that is small enough to run in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npuvm.cli.main import main

SCENARIO = """\
name: small
title: a product and a softmax
kind: kernels
chip: edge
cases:
  - {op: matmul, dtypes: [fp16], shapes: [{m: 70, n: 64, k: 96}]}
  - {op: softmax, dtypes: [fp16], shapes: [[17, 300]]}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def run(scenario: Path, *options: str) -> Any:
    """The JSON of a run that must succeed."""
    out = scenario.parent / "out"
    assert main(["simulate", str(scenario), "--out", str(out), *options]) == 0
    return json.loads((out / "small.json").read_text(encoding="utf-8"))


def test_results_are_checked_and_shown(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(scenario)
    assert report["ok"]
    assert [case["ok"] for case in report["cases"]] == [True, True]
    shown = capsys.readouterr().out
    for case in report["cases"]:
        assert f"{case['cycles']:,}" in shown


def test_data_does_not_change_time(scenario: Path) -> None:
    with_data, without = run(scenario), run(scenario, "--timing-only")
    assert [case["cycles"] for case in with_data["cases"]] == [case["cycles"] for case in without["cases"]]
    assert [case["ok"] for case in without["cases"]] == [None, None]


def test_transfers_stand_beside_the_times_without_them(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inputs are 70 x 96 + 96 x 64 and 17 x 300 halves, outputs 70 x 64 and 17 x 300."""
    link = (
        "--set",
        "host.link.to_device_gbps=2",
        "--set",
        "host.link.to_host_gbps=4",
        "--set",
        "host.link.latency_us=3",
    )
    plain, card, without = run(scenario), run(scenario, *link), run(scenario, "--timing-only", *link)
    assert plain["stream_us"] == card["stream_us"]
    assert card["transfers"] == without["transfers"]
    assert card["with_transfers_us"] == pytest.approx(without["with_transfers_us"])
    up, down = 2 * (70 * 96 + 96 * 64 + 17 * 300), 2 * (70 * 64 + 17 * 300)
    assert (card["transfers"]["to_device_bytes"], card["transfers"]["to_host_bytes"]) == (up, down)
    assert card["transfers"]["to_device_us"] == pytest.approx(3 * 3 + up / 2000)
    assert card["transfers"]["to_host_us"] == pytest.approx(2 * 3 + down / 4000)
    on_link = card["transfers"]["to_device_us"] + card["transfers"]["to_host_us"]
    assert card["stream_us"] < card["with_transfers_us"] < card["stream_us"] + on_link
    shown = " ".join(capsys.readouterr().out.split())
    assert f"0.02 MiB to the host in {card['transfers']['to_host_us']:,.2f} µs" in shown
    assert f"{card['with_transfers_us']:,.2f} µs with dispatch and transfers (simulated)" in shown


def test_the_trace_of_a_run_has_lanes_for_chip_and_link(scenario: Path) -> None:
    folder = scenario.parent / "trace"
    report = run(scenario, "--timing-only", "--trace", str(folder))
    events = json.loads((folder / "small" / "run.json").read_text(encoding="utf-8"))["traceEvents"]
    lanes = {each["tid"]: each["args"]["name"] for each in events if each["name"] == "thread_name"}
    assert list(lanes.values()) == ["link to the device", "chip", "link to the host"]
    slices = [each for each in events if each["ph"] == "X"]
    assert len([each for each in slices if lanes[each["tid"]] == "chip"]) == 2
    assert max(each["ts"] + each["dur"] for each in slices) == pytest.approx(report["with_transfers_us"])


def test_less_bandwidth_costs_cycles(scenario: Path) -> None:
    """At a third of the bandwidth both operators wait for memory, so they take at least their bytes at that rate."""
    full = run(scenario, "--timing-only")
    slow = run(scenario, "--timing-only", "--set", "memory.hbm.bandwidth_gbps=4")
    for fast_case, slow_case in zip(full["cases"], slow["cases"], strict=True):
        crossing = slow_case["bytes"]["hbm_read"] + slow_case["bytes"]["hbm_write"]
        microseconds = crossing / 4e3  # bytes at 4 GB/s
        assert slow_case["microseconds"] >= microseconds
        assert slow_case["cycles"] > fast_case["cycles"]


def test_a_tile_that_cannot_fit_is_one_line_and_exit_2(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SCENARIO.replace("chip: edge\n", "chip: edge\npins: {tile: {vector: [4096, 4096]}}\n")
    scenario.write_text(text, encoding="utf-8")
    assert main(["simulate", str(scenario), "--out", str(scenario.parent / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("npuvm: ") and captured.err.count("\n") == 1
    assert "tile.vector" in captured.err and "allowed" in captured.err
    assert not (scenario.parent / "out" / "small.json").exists()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("core.ub_kb=4", "override 'core.ub_kb=4': core.ub_kb: no such field; did you mean core.ub_kib"),
        ("core.ub_kib=-1", "core.ub_kib"),
        ("nonsense", "override 'nonsense': allowed is field.path=value"),
    ],
)
def test_a_wrong_override_is_named(
    override: str, expected: str, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(scenario), "--set", override, "--out", str(scenario.parent / "out")]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_a_page_energy_and_uncertainty_beside_the_table(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = scenario.parent / "pages"
    options = ["--report", str(pages), "--technology", "n7", "--uncertainty", "2", "--check-hazards"]
    found = run(scenario, "--timing-only", *options)
    assert found["energy"]["estimate"] is True
    kernels = list(found["energy"]["kernels"])
    assert len(kernels) == 2
    assert found["uncertainty"]["samples"] == 2
    assert list(found["uncertainty"]["kernels"]) == kernels
    page = (pages / "small.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert all(kernel in page for kernel in kernels)
    shown = capsys.readouterr().out
    assert "energy (estimate): edge in technology n7" in shown
    assert "uncertainty of edge: 2 samples" in shown


@pytest.mark.parametrize("options", [["--report", "pages"], ["--technology", "n7"], ["--uncertainty", "2"]])
def test_without_a_launch_there_is_nothing_beside_the_table_and_that_is_said(
    options: list[str], scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(scenario.parent)
    text = "name: small\ntitle: no rows\nkind: kernels\nchip: edge\ncases:\n"
    scenario.write_text(text + "  - {op: add, dtypes: [fp16], shapes: [[0, 64]]}\n", encoding="utf-8")
    found = run(scenario, *options)
    assert found["totals"]["launches"] == 0
    assert "npuvm: small: nothing was launched, so there is no timeline, page" in capsys.readouterr().err
    assert not Path("pages").exists()
