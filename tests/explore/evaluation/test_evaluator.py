"""Points of spaces against sessions and scenarios on their chips, and what becomes of those that cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.explore.evaluation.kit import ATTENTION, MODELS, SIZES, make_space, model_file

from npuvm.compiler.errors import CompileError
from npuvm.explore.evaluation import Evaluation, Evaluator, check_workloads, objective_values
from npuvm.hw.energy import estimate_area, load_technology
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.rtl.yosys import find_yosys
from npuvm.runtime.analysis.energy import energy_of_launches
from npuvm.runtime.analysis.recording import record_scenario
from npuvm.runtime.device.device import Device
from npuvm.runtime.scenarios.schema import load_scenario
from npuvm.runtime.session import Session
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.feeds import shapes_at

pytest.importorskip("onnx")

ROOT = Path(__file__).resolve().parents[3]
N7 = load_technology("n7")


ASSUMES = """<ir_version: 10, opset_import: ["" : 18]>
assumes (float16[a, 32] x, float16[b, 32] y) => (float16[c, 32] z) { z = Add (x, y) }
"""


def model_workload(folder: Path, name: str) -> dict[str, object]:
    return {"name": name, "model": str(model_file(folder, name)), "sizes": SIZES[name]}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_runs_take_what_a_session_of_their_own_says(tmp_path: Path, name: str) -> None:
    space = make_space(tmp_path, workloads=[model_workload(tmp_path, name)])
    point = {"core.ub_kib": 128, "core.cube.m": 8, "memory.hbm.bandwidth_gbps": 25.6}
    evaluation = Evaluator(space).evaluate(point)
    assert evaluation.state == "done"
    assert len(evaluation.runs) == 2
    for run in evaluation.runs:
        device = Device(space.chip(point), timing_only=True, indices=IndexDistribution("uniform"))
        session = Session(model_file(tmp_path, name), device)
        report = session.time(shapes_at(session.model, run.sizes))
        assert (run.cycles, run.launches) == (report.cycles, report.launches)
        assert run.latency_us == report.simulated_us
        energy = energy_of_launches(device.launches, N7).whole
        assert run.energy_uj == pytest.approx({key: each.value / 1e6 for key, each in energy.components.items()})
        assert run.seconds == pytest.approx(energy.seconds)
        for unit in ("vector", "cube", "seq"):
            units = [core.units[unit] for record in device.launches for core in record.result.cores]
            assert run.busy[unit] == sum(each.busy for each in units)
            stalled = sum(cycles for key, cycles in run.stalls.items() if key.startswith(f"{unit}: "))
            assert stalled == sum(sum(each.stalls.values()) for each in units)
        assert run.bytes["hbm_read"] == sum(record.result.bytes["hbm_read"] for record in device.launches)
    latency = sum(run.weight * run.latency_us for run in evaluation.runs)
    assert evaluation.measures["latency_us"] == pytest.approx(latency)
    assert evaluation.measures["area_mm2"] == estimate_area(space.chip(point), N7).total.value
    assert evaluation.host.runs == {"simulated": 2}
    assert objective_values(space, evaluation) == [evaluation.measures["latency_us"], evaluation.measures["area_mm2"]]


def test_a_model_is_read_for_sizes_that_break_what_it_assumes(tmp_path: Path) -> None:
    path = tmp_path / "assumes.onnxtxt"
    path.write_text(ASSUMES, encoding="utf-8")
    sizes = [{"at": {"a": 64, "b": 64}}, {"at": {"a": 1, "b": 64}}]
    space = make_space(tmp_path, workloads=[{"name": "assumes", "model": str(path), "sizes": sizes}])
    point = next(space.points())
    evaluation = Evaluator(space).evaluate(point)
    assert evaluation.error is None
    for run in evaluation.runs:
        device = Device(space.chip(point), timing_only=True, indices=IndexDistribution("uniform"))
        session = Session(path, device)
        report = session.time({"x": (run.sizes["a"], 32), "y": (run.sizes["b"], 32)})
        assert bool(report.reread) is (run.sizes["a"] == 1)
        assert run.cycles == report.cycles


def test_fusion_is_that_of_the_point(tmp_path: Path) -> None:
    space = make_space(tmp_path, parameters={"compiler.fusion": ["none", "both"]})
    evaluator = Evaluator(space)
    apart, fused = (evaluator.evaluate({"compiler.fusion": mode}).runs[0].launches for mode in ("none", "both"))
    assert apart > fused


@pytest.mark.parametrize("sharing", [True, False])
def test_buffering_is_that_of_the_point(tmp_path: Path, sharing: bool) -> None:
    """For models and for scenarios, whose own it replaces; and points with another one take no results of each other."""
    scenario = tmp_path / "scenario.yaml"
    fields = {
        "name": "halves",
        "title": "halves",
        "chip": "edge",
        "kind": "kernels",
        "pins": {"buffering": "double"},
        "cases": [
            {"op": "relu", "dtypes": ["fp16"], "shapes": [[700, 300]]},
            {"op": "exp", "dtypes": ["fp16"], "shapes": [[700, 300]], "pins": {"buffering": "auto"}},
        ],
    }
    scenario.write_text(yaml.safe_dump(fields), encoding="utf-8")
    workloads = [model_workload(tmp_path, "mlp"), {"name": "halves", "scenario": str(scenario)}]
    space = make_space(tmp_path, parameters={"compiler.buffering": ["single", "double", "auto"]}, workloads=workloads)
    evaluator = Evaluator(space, sharing=sharing)
    single, double, auto = (
        [run.cycles for run in evaluator.evaluate({"compiler.buffering": mode}).runs]
        for mode in ("single", "double", "auto")
    )
    assert double == auto
    assert all(one > two for one, two in zip(single, double, strict=True))


def test_scenarios_take_what_their_recordings_say(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.yaml"
    fields = {
        "name": "adds",
        "title": "adds",
        "chip": "edge",
        "kind": "kernels",
        "cases": [{"op": "add", "dtypes": ["fp16"], "shapes": [[100, 300], [5]]}],
    }
    scenario.write_text(yaml.safe_dump(fields), encoding="utf-8")
    space = make_space(tmp_path, workloads=[{"name": "adds", "scenario": str(scenario)}])
    point = {"core.ub_kib": 64, "core.cube.m": 8, "memory.hbm.bandwidth_gbps": 12.8}
    (run,) = Evaluator(space).evaluate(point).runs
    records = record_scenario(load_scenario(scenario), "edge", space.setup(point).overrides)
    assert run.cycles == sum(record.result.cycles for record in records)
    assert run.latency_us == records[-1].times.end_us
    assert run.sizes == {}


def model_scenario(folder: Path, **fields: Any) -> dict[str, Any]:
    """The small model as a scenario in a folder."""
    folder.mkdir(exist_ok=True)
    scenario = {"name": "mlp", "title": "mlp", "chip": "edge", "kind": "model", "model": model_file(folder).name}
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump({**scenario, **fields}), encoding="utf-8")
    return {"name": "scenario", "scenario": str(path)}


def test_a_scenario_of_a_model_is_the_model_at_its_sizes(tmp_path: Path) -> None:
    runs = [{"sizes": {"rows": 100}, "weight": 3}, {"sizes": {"rows": 16}}, {"sizes": {"rows": 100}, "weight": 4}]
    joint = [{"at": {"rows": 100}, "weight": 7}, {"at": {"rows": 16}}]
    model = {"name": "model", "model": str(model_file(tmp_path)), "sizes": joint}
    for fusion in ("none", "both"):
        scenario = model_scenario(tmp_path, runs=runs, fusion=fusion)
        space = make_space(tmp_path, workloads=[model, scenario], parameters={"compiler.fusion": [fusion]})
        evaluator = Evaluator(make_space(tmp_path, workloads=[scenario], parameters={"core.count": [1]}))
        own = evaluator.evaluate({"core.count": 1})
        both = Evaluator(space).evaluate({"compiler.fusion": fusion}).measures
        assert both["latency_us of scenario"] == both["latency_us of model"] == own.measures["latency_us"]
        assert [run.launches for run in own.runs] == ([1, 1] if fusion == "both" else [5, 5])
        # Its limits are those of the model.
        assert evaluator.foresee({"core.count": 1})["latency_us"] > 0


def test_scenarios_of_one_text_beside_different_models_share_nothing(tmp_path: Path) -> None:
    narrow, wide = (model_scenario(tmp_path / name, runs=[{"sizes": {"rows": 64}}]) for name in ("narrow", "wide"))
    file = tmp_path / "wide" / "mlp.onnxtxt"
    file.write_text(file.read_text(encoding="utf-8").replace("128", "512"), encoding="utf-8")
    space = make_space(tmp_path, workloads=[narrow, {**wide, "name": "wide"}])
    first, second = Evaluator(space).evaluate(next(space.points())).runs
    assert first.latency_us < second.latency_us


def test_an_evaluation_goes_through_json(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"columns": 4}, "symbol 'rows' has no size; symbols of its inputs: rows"),
        ({"rows": 4, "columns": 4}, "no symbol 'columns'"),
    ],
)
@pytest.mark.parametrize("bounds", [True, False])
def test_sizes_are_numbers_for_the_models_symbols(
    tmp_path: Path, sizes: dict[str, int], message: str, bounds: bool
) -> None:
    workload = {"name": "mlp", "model": str(model_file(tmp_path)), "sizes": sizes}
    space = make_space(tmp_path, workloads=[workload])
    evaluation = Evaluator(space, bounds=bounds).evaluate(next(space.points()))
    assert evaluation.state == "failed"
    assert message in str(evaluation.error)
    assert evaluation.host.runs == {"skipped": 1}
    with pytest.raises(SessionError, match=rf"\.yaml:\d+:\d+: workload mlp: .*{message}"):
        check_workloads(space)


def test_workloads_that_can_be_read_pass(tmp_path: Path) -> None:
    check_workloads(make_space(tmp_path))
    scenario = {"name": "products", "scenario": str(ROOT / "configs" / "gemm.yaml")}
    check_workloads(make_space(tmp_path, workloads=[scenario]))
    with pytest.raises(SessionError, match=r"workload scenario.*symbol 'rows' has no size"):
        check_workloads(make_space(tmp_path, workloads=[model_scenario(tmp_path, runs=[{"weight": 2}])]))


ON_HOST = """<ir_version: 10, opset_import: ["" : 18]>
on_host (float[rows, 4, 4] x) => (float[rows] y)
{
  y = Det (x)
}
"""


def test_operators_on_the_host_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "partly.onnxtxt"
    path.write_text(ON_HOST.replace("Det (x)", "Det (z)").replace("{\n", "{\n  z = Relu (x)\n"), encoding="utf-8")
    workloads = [model_workload(tmp_path, "mlp"), {"name": "partly", "model": str(path), "sizes": {"rows": [2, 3]}}]
    space = make_space(tmp_path, workloads=workloads)
    check_workloads(space)
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert evaluation.state == "done"
    assert {(run.workload, run.host_operators) for run in evaluation.runs} == {("mlp", 0), ("partly", 1)}


def test_a_model_without_anything_for_the_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "det.onnxtxt").write_text(ON_HOST, encoding="utf-8")
    workload = {"name": "det", "model": str(tmp_path / "det.onnxtxt"), "sizes": {"rows": 2}}
    with pytest.raises(CompileError, match=r"workload det.*no operator of the model runs on the device"):
        check_workloads(make_space(tmp_path, workloads=[workload]))


def test_a_chip_that_is_too_small_is_a_failed_point_and_no_lost_study(tmp_path: Path) -> None:
    space = make_space(
        tmp_path,
        parameters={"memory.hbm.capacity_gib": [1, 2]},
        workloads=[
            {
                "name": "attention",
                "model": str(model_file(tmp_path, "attention")),
                "sizes": {"heads": 1 << 20, "rows": 8, "keys": 8},
            }
        ],
    )
    evaluation = Evaluator(space).evaluate({"memory.hbm.capacity_gib": 1})
    assert evaluation.state == "failed"
    assert "out of device memory" in str(evaluation.error)
    assert evaluation.measures.keys() == {"area_mm2"}


def test_a_workload_that_launches_nothing_is_a_failed_point(tmp_path: Path) -> None:
    nothing = {"name": "mlp", "model": str(model_file(tmp_path)), "sizes": {"rows": 0}}
    space = make_space(tmp_path, workloads=[nothing])
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert evaluation.state == "failed"
    assert str(evaluation.error).startswith("throughput_per_s, throughput_per_s of mlp: no finite figure; allowed are")
    assert set(evaluation.measures) == {"area_mm2"}
    some = make_space(tmp_path, workloads=[{**nothing, "sizes": {"rows": [0, 8]}}])
    assert Evaluator(some).evaluate(next(some.points())).state == "done"


def test_a_fault_of_the_program_is_a_failed_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("l9")

    monkeypatch.setattr("npuvm.explore.evaluation.runs.simulate_tape", broken)
    space = make_space(tmp_path)
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert (evaluation.state, evaluation.error) == ("failed", "KeyError: 'l9'")


def test_a_model_that_is_none_fails_every_point(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    model_file(tmp_path).write_text(ATTENTION[:100], encoding="utf-8")
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert evaluation.state == "failed"
    assert "is no ONNX model" in str(evaluation.error)


def test_an_area_over_the_budget_costs_no_simulation(tmp_path: Path) -> None:
    space = make_space(tmp_path, budgets={"area_mm2": 1.0})
    evaluation = Evaluator(space).evaluate(next(space.points()))
    assert evaluation.state == "over_budget"
    assert evaluation.host.runs == {"skipped": 2}
    assert "latency_us" in evaluation.bounds
    assert "area_mm2" not in evaluation.bounds
    assert Evaluator(space, bounds=False).evaluate(next(space.points())).state == "over_budget"


def test_a_figure_over_the_budget_is_known_after_the_runs(tmp_path: Path) -> None:
    point = next(make_space(tmp_path).points())
    latency = Evaluator(make_space(tmp_path)).evaluate(point).measures["latency_us"]
    evaluation = Evaluator(make_space(tmp_path, budgets={"latency_us": latency * 0.99})).evaluate(point)
    assert evaluation.state == "over_budget"
    assert (evaluation.measures["latency_us"], evaluation.bounds) == (latency, ())
    assert Evaluator(make_space(tmp_path, budgets={"latency_us": latency})).evaluate(point).state == "done"


def test_points_that_the_front_beats_are_pruned_as_early_as_that_is_known(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    evaluator = Evaluator(space)
    point = next(space.points())
    whole = evaluator.evaluate(point)
    area, latency = whole.measures["area_mm2"], whole.measures["latency_us"]
    assert evaluator.evaluate(point, [[latency, area]]).state == "done"
    assert evaluator.evaluate(point, [[latency * 2, area / 2]]).state == "done"
    at_once = evaluator.evaluate(point, [[0.001, area]])
    assert at_once.state == "pruned"
    assert at_once.host.runs == {"skipped": 2}
    assert at_once.measures["latency_us"] <= latency
    # What the first run takes more than its limit is too much.
    later = Evaluator(space).evaluate(point, [[at_once.measures["latency_us"] + 1e-6, area]])
    assert later.state == "pruned"
    assert later.host.runs == {"simulated": 1, "skipped": 1}
    assert at_once.measures["latency_us"] < later.measures["latency_us"] < latency
    assert "latency_us of mlp" in later.bounds


def test_gates_of_decoders_are_counted_once_for_an_instruction_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_yosys().missing is not None:
        pytest.skip("yosys is not installed")
    counted: list[str] = []

    def count(self: object, isa: object) -> int:
        counted.append(isa.hash)  # type: ignore[attr-defined]
        return 100 * len(counted)

    monkeypatch.setattr("npuvm.explore.evaluation.decoder.Decoders._count", count)
    space = make_space(
        tmp_path,
        parameters={"isa.extensions": {"optional": ["fma"]}, "core.ub_kib": [64, 128]},
        objectives=[{"measure": "decoder_gates"}, {"measure": "latency_us"}],
    )
    evaluator = Evaluator(space, tmp_path / "store.sqlite")
    gates = [evaluator.evaluate(point).measures["decoder_gates"] for point in space.points()]
    assert gates == [100, 100, 200, 200]
    again = Evaluator(space, tmp_path / "store.sqlite")
    assert [again.evaluate(point).measures["decoder_gates"] for point in space.points()] == gates
    assert len(counted) == 2


def test_without_yosys_a_space_that_counts_gates_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npuvm.hw.errors import RtlError
    from npuvm.hw.rtl.yosys import Yosys

    monkeypatch.setattr("npuvm.explore.evaluation.decoder.find_yosys", lambda: Yosys((), "yosys is not on PATH"))
    Evaluator(make_space(tmp_path))
    with pytest.raises(RtlError, match="decoder_gates needs yosys: yosys is not on PATH; or leave"):
        Evaluator(make_space(tmp_path, objectives=[{"measure": "decoder_gates"}]))
