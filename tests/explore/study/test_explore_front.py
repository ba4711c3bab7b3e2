"""The benchmark of searches: a grid that outlives its process, and searches that look points up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.explore_front import main
from benchmarks.exploring.grid import fill, load_grid
from benchmarks.exploring.replay import Known, search, summary

from npuvm.explore.evaluation import Evaluation, Evaluator
from npuvm.explore.space import Point, Space, load_space

SPACE = """\
name: small
title: a space for a test
chip: edge
parameters:
  core.count: [1, 2, 3, 4, 5, 6]
  core.ub_kib: [64, 128, 256]
  memory.l2.capacity_mib: [1, 2, 4]
workloads: [{name: add, scenario: add.yaml}]
objectives: [{measure: latency_us}, {measure: area_mm2}]
budgets: {area_mm2: 20}
search: {batch: 4}
"""
SCENARIO = "{name: add, title: a sum, kind: kernels, chip: edge, cases: [{op: add, dtypes: [fp16], shapes: [[8]]}]}"
POINTS = 6 * 3 * 3


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "add.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(SPACE, encoding="utf-8")
    return load_space(tmp_path / "small.yaml")


def made_up(_: Evaluator, point: Point, front: Any = ()) -> Evaluation:
    """More cores are faster; UB helps nobody, so that the front has the smallest one alone; six cores are too large."""
    cores, ub, l2 = (int(point[name]) for name in ("core.count", "core.ub_kib", "memory.l2.capacity_mib"))
    measures = {"latency_us": 60.0 / cores + 8.0 / l2, "area_mm2": 3.0 * cores + ub / 128 + l2}
    return Evaluation("over_budget" if measures["area_mm2"] > 20 else "done", measures)


@pytest.fixture
def grid(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Any, Evaluation]:
    monkeypatch.setattr(Evaluator, "evaluate", made_up)
    return fill(space, tmp_path / "grid.jsonl", tmp_path / "store.sqlite", 1, lambda *_: None)


@pytest.mark.usefixtures("grid")
def test_a_grid_that_was_cut_off_goes_on(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "grid.jsonl"
    whole = path.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    assert len(lines) == POINTS
    path.write_text("".join(lines[:5]) + lines[5][:40], encoding="utf-8")
    assert len(load_grid(space, path)) == 5
    told: list[int] = []
    found = fill(space, path, tmp_path / "store.sqlite", 1, lambda done, total, _: told.append(done))
    assert len(found) == POINTS
    assert told == list(range(6, POINTS + 1))
    assert path.read_text(encoding="utf-8") == whole


def test_points_of_another_space_are_refused(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "grid.jsonl"
    path.write_text(json.dumps({"point": {"core.count": 9}, "evaluation": {}}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is no point of small; allowed is a file of this space"):
        load_grid(space, path)


def test_a_search_looks_points_up(space: Space, grid: dict[Any, Evaluation]) -> None:
    known = Known.of(space, grid)
    allowed = [each for each in grid.values() if each.state == "done"]
    assert 0 < len(allowed) < POINTS
    assert all(entry.point["core.ub_kib"] == 64 for entry in known.best)
    one, same, other = (search(known, "random", seed, 20, 4) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one.volumes) == 20
    assert list(one.volumes) == sorted(one.volumes)
    whole = search(known, "grid", 0, POINTS, 4)
    assert whole.volumes[-1] == pytest.approx(1)
    assert whole.found[-1] == 1.0
    rows = summary(known, [one, other], 5)
    assert rows[0]["volume"]["median"] == pytest.approx((one.volumes[4] + other.volumes[4]) / 2)
    assert rows[0]["evaluations_to_99_pct_volume"] == [
        next((at for at, volume in enumerate(each.volumes, 1) if volume >= 0.99), None) for each in (one, other)
    ]


@pytest.mark.usefixtures("grid")
def test_the_command_writes_figures_and_fronts(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "html", "csv")}
    words = ["--space", str(space.path), "--grid", str(tmp_path / "grid.jsonl"), "--seeds", "2", "--evaluations", "12"]
    words += [
        "--json",
        str(files["json"]),
        "--html",
        str(files["html"]),
        "--plotly",
        "cdn",
        "--front",
        str(files["csv"]),
    ]
    monkeypatch.setattr(sys, "argv", ["explore_front.py", *words])
    main()
    report = json.loads(files["json"].read_text(encoding="utf-8"))
    assert report["points"] == POINTS
    assert [row["sampler"] for row in report["samplers"]] == ["random", "tpe", "nsga2"]
    assert len(files["csv"].read_text(encoding="utf-8").splitlines()) >= 1 + len(report["front"])
    assert len(files["html"].read_bytes()) < 200_000
    assert "random" in capsys.readouterr().out
