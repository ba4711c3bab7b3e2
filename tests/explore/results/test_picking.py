"""Picked points: files that `npuvm simulate` runs with the figures that the study has of the point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.explore.results.kit import MODEL, entries_of, failed, small_space

from npuvm.compiler.tiles.library import find_library
from npuvm.explore.evaluation import Evaluation, code_name
from npuvm.explore.evaluation.evaluator import Evaluator
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.picking import CHIP_FILE, Picked, pick
from npuvm.explore.space import Parameter, Point, Space, load_space
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import ConfigError
from npuvm.isa import load_isa
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import load_scenario

SPACE = f"""
name: picked
title: points to pick
chip: mine.yaml
parameters:
  core.count: [2, 4]
  core.load.row_cycles: [1, "1/2"]
  memory:
    choices:
      slow: {{memory.hbm.bandwidth_gbps: 20, memory.l2.capacity_mib: 1}}
      fast: {{memory.hbm.bandwidth_gbps: 80.5, memory.l2.capacity_mib: 2}}
  compiler.fusion: [none, both]
  compiler.buffering: [auto, single]
  isa.extensions: {{optional: [fma, own/twice.yaml]}}
workloads:
  - {{name: chip, model: {MODEL}, sizes: {{tokens: [1, 100]}}}}
  - {{name: sums, scenario: sums.yaml}}
  - {{name: block, scenario: block.yaml}}
objectives: [{{measure: latency_us}}]
"""

FILES = {
    "mine.yaml": """
base: edge
name: mine
isa: {extensions: [activation]}
core: {ub_kib: {value: 192, source: me, trust: low}}
""",
    "own/twice.yaml": """
extension: twice
version: "1.0"
extends: npu 1.0
instructions:
  - {name: vtwice, opcode: 0xd8, format: vun, dtypes: [fp32, fp16], semantics: "dst = a + a", doc: "Twice a."}
""",
    "sums.yaml": """
kind: kernels
name: sums
title: sums
chip: edge
cases:
  - {op: add, dtypes: [fp16], shapes: [[300, 500]]}
  - {op: mul, dtypes: [fp16], shapes: [[300, 500]], pins: {cores: 1, buffering: double}}
""",
    "block.yaml": f"""
kind: model
name: block
title: block
chip: edge
model: {MODEL}
fusion: pattern
runs:
  - {{sizes: {{tokens: 50}}, weight: 99}}
  - {{sizes: {{tokens: 2}}}}
""",
    "picked.yaml": SPACE,
}


@pytest.fixture
def space(tmp_path: Path) -> Space:
    for name, text in FILES.items():
        path = tmp_path / "space" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load_space(tmp_path / "space" / "picked.yaml")


POINT: Point = {
    "core.count": 4,
    "core.load.row_cycles": "1/2",
    "memory": "fast",
    "compiler.fusion": "both",
    "compiler.buffering": "auto",
    "isa.extensions.fma": True,
    "isa.extensions.twice": True,
}


def written(space: Space, entry: Entry, folder: Path) -> Picked:
    picked = pick(space, entry, folder)
    folder.mkdir(parents=True)
    for path, text in picked.files.items():
        path.write_text(text, encoding="utf-8")
    return picked


def without_names(chip: NpuConfig, folder: Path) -> dict[str, Any]:
    """All that a run depends on, with extension files as whole paths."""
    fields = chip.model_dump(exclude={"name", "description"})
    fields["isa"]["extensions"] = [
        str(Path(each).resolve()) if each.endswith(".yaml") else each for each in fields["isa"]["extensions"]
    ]
    return fields


def test_the_picked_chip_is_that_of_the_point(space: Space, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "picked-7"
    written(space, Entry(7, POINT, failed("never run")), folder)
    chip, wanted = load_chip(folder / CHIP_FILE), space.chip(POINT)
    assert without_names(chip, folder) == without_names(wanted, folder)
    assert chip.isa.extensions[:2] == ("activation", "fma")
    assert (chip.name, chip.core.count, str(chip.core.load.row_cycles)) == ("picked_7", 4, "1/2")
    assert chip.description.startswith("point 7 of the design space picked: core.count=4, ")
    # What the point sets is assumed, all else has the origin that the base gives it.
    origin = chip.provenance["memory.hbm.bandwidth_gbps"]
    assert (origin.source, origin.trust) == ("design space picked, point 7", "assumed")
    assert chip.provenance["core.ub_kib"].source == "me"
    assert chip.provenance["core.l1_kib"] == load_chip("edge").provenance["core.l1_kib"]
    text = (folder / CHIP_FILE).read_text(encoding="utf-8")
    assert '  count: {value: 4, source: "design space picked, point 7", trust: assumed}\n' in text
    assert 'base: "../../space/mine.yaml"\n' in text


@pytest.mark.parametrize(
    "changes",
    [{}, {"core.count": 2, "memory": "slow", "compiler.fusion": "none"}, {"compiler.buffering": "single"}],
)
def test_simulating_a_picked_point_gives_the_figures_of_the_study(
    space: Space, tmp_path: Path, changes: dict[str, Any]
) -> None:
    point = {**POINT, **changes}
    evaluation = Evaluator(space).evaluate(point)
    assert evaluation.error is None
    folder = tmp_path / "picked"
    picked = written(space, Entry(3, point, evaluation), folder)
    paths = [folder / name for name in ("workload_chip.yaml", "sums.yaml", "block.yaml")]
    assert picked.command == f"npuvm simulate {' '.join(map(str, paths))} --timing-only --technology n7"
    model, sums, block = (run_scenario(load_scenario(path), timing_only=True) for path in paths)
    assert model.header.chip == "picked_3"
    assert [(row.sizes, row.share) for row in model.runs] == [({"tokens": 1}, 0.5), ({"tokens": 100}, 0.5)]
    *runs, whole, long, short = evaluation.runs
    assert block.header.options["buffering"] == point["compiler.buffering"]
    assert [row.share for row in block.runs] == [long.weight, short.weight] == [0.99, 0.01]
    assert [row.totals.cycles for row in block.runs] == [long.cycles, short.cycles]
    assert [row.latency_us for row in block.runs] == pytest.approx([long.latency_us, short.latency_us], rel=1e-12)
    assert block.mean_latency_us == pytest.approx(evaluation.measures["latency_us of block"], rel=1e-12)
    assert [row.totals.cycles for row in model.runs] == [run.cycles for run in runs]
    assert [row.latency_us for row in model.runs] == [pytest.approx(run.latency_us, rel=1e-12) for run in runs]
    assert (sums.totals.cycles, sums.stream_us) == pytest.approx((whole.cycles, whole.latency_us), rel=1e-12)
    first = f"chip tokens=1: {runs[0].cycles:,} cycles, {runs[0].latency_us:,.2f} us with the host's dispatch"
    assert picked.expected[0] == first
    assert picked.expected[2].startswith(f"sums: {whole.cycles:,} cycles")


def test_files_of_the_space_are_left_alone(space: Space, tmp_path: Path) -> None:
    entry, head = Entry(1, POINT, failed("never run")), "# point 1 of the design space other\n"
    with pytest.raises(
        ConfigError, match=r"sums.yaml: the space picked needs this file; give another folder, by --out"
    ):
        pick(space, entry, tmp_path / "space")
    base = tmp_path / "base" / CHIP_FILE
    base.parent.mkdir()
    base.write_text(f"{head}name: own\nbase: edge\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chip.yaml: the space picked needs this file"):
        pick(replace(space, base=str(tmp_path / "space" / ".." / "base" / CHIP_FILE)), entry, base.parent)
    *others, last = space.parameters
    twice = tmp_path / "twice" / CHIP_FILE
    twice.parent.mkdir()
    twice.write_text(head + FILES["own/twice.yaml"], encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chip.yaml: the space picked needs this file"):
        pick(replace(space, parameters=(*others, replace(last, extension=str(twice)))), entry, twice.parent)


def test_files_that_no_pick_wrote_are_left_alone(space: Space, tmp_path: Path) -> None:
    (tmp_path / "block.yaml").write_text("kind: kernels\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"block.yaml: no pick wrote this file; remove it, or give another folder"):
        pick(space, Entry(1, POINT, failed("never run")), tmp_path)


def test_a_point_is_picked_again_into_its_folder(space: Space, tmp_path: Path) -> None:
    entry = Entry(1, POINT, failed("never run"))
    assert written(space, entry, tmp_path / "picked") == pick(space, entry, tmp_path / "picked")


def test_a_point_that_is_the_base_finds_the_libraries_of_the_base(tmp_path: Path) -> None:
    edge = load_chip("edge")
    point: Point = {"core.count": edge.core.count, "core.ub_kib": edge.core.ub_kib}
    fields = tuple(Parameter(name, "field", (value,)) for name, value in point.items())
    same = replace(small_space(), parameters=fields)
    written(same, Entry(0, point, failed("never run")), tmp_path / "picked")
    chip = load_chip(tmp_path / "picked" / CHIP_FILE)
    assert chip.chip_hash == edge.chip_hash
    assert find_library(chip, load_isa(chip.isa.base, chip.isa.extensions)) is not None


def test_what_was_not_simulated_is_told(tmp_path: Path) -> None:
    entry = entries_of()[0]

    def told(evaluation: Evaluation) -> tuple[str, ...]:
        return pick(small_space(), replace(entry, evaluation=evaluation), tmp_path).expected

    assert told(replace(failed("no room"), code=code_name())) == ("the point failed: no room",)
    partly = Evaluation("pruned", {"latency_us": 1.0}, ("latency_us",), runs=entry.evaluation.runs)
    assert told(partly) == (
        "short tokens=1: 67,000 cycles, 72.00 us with the host's dispatch",
        "the point was pruned: what is not listed was not simulated",
        f"code unknown evaluated it, this is {code_name()}: these figures may have changed",
    )


def test_a_scenario_of_a_model_finds_its_model(space: Space, tmp_path: Path) -> None:
    file = tmp_path / "space" / "sums.yaml"
    model = {"kind": "model", "name": "inner", "title": "x", "chip": "edge", "model": "m.onnxtxt"}
    file.write_text(yaml.safe_dump({**model, "runs": [{"sizes": {"tokens": 2}}]}), encoding="utf-8")
    (tmp_path / "space" / "m.onnxtxt").write_text(MODEL.read_text(encoding="utf-8"), encoding="utf-8")
    space = load_space(space.path)
    written(space, Entry(1, POINT, failed("never run")), tmp_path / "picked")
    report = run_scenario(load_scenario(tmp_path / "picked" / "sums.yaml"), timing_only=True)
    assert (report.header.scenario, report.header.chip, len(report.runs)) == ("picked_1_sums", "picked_1", 1)
