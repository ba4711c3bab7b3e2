from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.explore.study.kit import ROOT, TEXT, Quick, found, quick, small_space

from npuvm.explore.evaluation import Evaluation, code_name, keys
from npuvm.explore.space import Point, load_space_text
from npuvm.explore.study import SAMPLERS, Entry, InProcess, SamplerName, Study, StudyError, default_storage, read_study
from npuvm.explore.study.storage import has_points
from npuvm.hw.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "small.sqlite")


def search(file: str, *counts: int, sampler: SamplerName | None = None) -> list[tuple[object, ...]]:
    """What a search finds that is asked for so many points, one after another, each time by a study that is opened anew."""
    for count in counts:
        with Study.open(small_space(), file, sampler) as study:
            study.run(count, InProcess(Quick()))
    return found(read_study(file).entries)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_in_parts_finds_what_one_in_one_go_finds(sampler: SamplerName, tmp_path: Path) -> None:
    whole = search(str(tmp_path / "whole.sqlite"), 14, sampler=sampler)
    parts = search(str(tmp_path / "parts.sqlite"), 3, 5, 8, 14, sampler=sampler)
    assert parts == whole
    assert [each[0] for each in whole] == list(range(14))
    assert len({each[1:5] for each in whole}) == 14


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_another_seed_is_another_search(sampler: SamplerName, tmp_path: Path) -> None:
    points = []
    for seed in (1, 2):
        with Study.open(small_space(), str(tmp_path / f"{seed}.sqlite"), sampler, seed) as study:
            study.run(8, InProcess(Quick()))
            points.append([entry.point for entry in study.evaluated()])
    assert points[0] != points[1]


def test_a_grid_is_every_point_in_order(file: str) -> None:
    space = small_space()
    with Study.open(space, file, "grid") as study:
        assert study.run(1000, InProcess(Quick())) == "exhausted"
        entries = study.evaluated()
    assert [entry.point for entry in entries] == [point for point in space.points() if space.fault(point) is None]
    assert set(Counter(entry.evaluation.state for entry in entries)) == {"done", "pruned", "over_budget", "failed"}


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_space_with_few_points_is_searched_whole(sampler: SamplerName, file: str) -> None:
    text = TEXT.replace("core.ub_kib * core.count <= 2048", "core.ub_kib * core.count == 1024")
    space = small_space(text)
    with Study.open(space, file, sampler) as study:
        assert study.run(1000, InProcess(Quick())) == "exhausted"
        points = [space.key(entry.point) for entry in study.evaluated()]
    assert sorted(points) == sorted(space.key(point) for point in space.points() if space.fault(point) is None)
    assert len(points) == 8  # 4 cores of 256 KiB and 8 of 128, by 2 clocks, by 2 kinds of fusion


def test_points_see_the_front_of_earlier_batches_alone(file: str) -> None:
    fronts: list[int] = []

    def evaluate(point: Point, front: Sequence[Sequence[float]]) -> Evaluation:
        fronts.append(len(front))
        return quick(point, front)

    with Study.open(small_space(), file) as study:
        study.run(10, InProcess(lambda: evaluate))
        done = [entry.evaluation for entry in study.evaluated()[:8] if entry.evaluation.state == "done"]
    assert fronts[:4] == [0] * 4
    assert len(set(fronts[4:8])) == len(set(fronts[8:])) == 1
    vectors = [(each.measures["latency_us"], each.measures["area_mm2"]) for each in done]
    best = [a for a in vectors if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in vectors)]
    assert fronts[8] == len(best)


def test_the_storage_is_optunas(file: str) -> None:
    import optuna

    search(file, 20)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{file}")
    states = Counter(trial.state.name for trial in study.get_trials())
    entries = read_study(file).entries
    assert states == Counter("FAIL" if entry.evaluation.state == "failed" else "COMPLETE" for entry in entries)
    feasible = {trial.user_attrs["number"] for trial in study.get_trials() if trial.constraints["violation"] <= 0}
    assert feasible == {entry.number for entry in entries if entry.evaluation.state == "done"}
    best = {trial.user_attrs["number"] for trial in study.best_trials}
    assert best and best <= feasible


def test_the_listener_gets_what_is_kept(file: str) -> None:
    heard: list[Entry] = []
    with Study.open(small_space(), file) as study:
        study.run(6, InProcess(Quick()), heard.append)
        assert heard == study.evaluated()


def test_a_study_without_name_lies_below_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Study.open(small_space()):
        assert (tmp_path / default_storage(small_space())).is_file()


def test_settings_are_those_of_the_study(file: str) -> None:
    with Study.open(small_space(), file, "nsga2", 7, batch=6) as study:
        study.run(1, InProcess(Quick()))
        begun = study.settings
    with Study.open(small_space(), file) as study:
        assert study.settings == begun
    with pytest.raises(StudyError, match="the study there has sampler nsga2, seed 7; --fresh forgets it"):
        Study.open(small_space(), file, "tpe", 8, batch=6)
    with Study.open(small_space(), file, "tpe", 8, fresh=True) as study:
        assert (study.settings.sampler, study.settings.seed, study.settings.batch) == ("tpe", 8, 4)


def test_a_changed_space_is_refused(file: str) -> None:
    search(file, 2)
    changed = TEXT.replace("384]", "320]").replace("area_mm2: 24", "area_mm2: 25")
    message = r"is of another space 'small'; what differs: parameters.core.ub_kib, budgets.area_mm2; --fresh"
    with pytest.raises(StudyError, match=message):
        Study.open(small_space(changed), file)
    with Study.open(small_space(TEXT.replace("title: cores", "title: more cores")), file) as study:
        assert len(study.evaluated()) == 2


def test_a_study_without_points_is_begun_anew(file: str) -> None:
    Study.open(small_space(TEXT.replace("384]", "320]").replace(", {measure: area_mm2}]", "]")), file, "tpe", 3).close()
    assert not has_points(file)
    with Study.open(small_space(), file, "random", 4) as study:
        study.run(1, InProcess(Quick()))
    assert has_points(file)
    stored = read_study(file)
    assert (stored.settings.sampler, stored.settings.seed) == ("random", 4)
    assert [parameter.values for parameter in stored.space.parameters][1] == (64, 128, 256, 384)
    assert len(stored.entries) == 1


def test_a_changed_workload_is_refused(tmp_path: Path, file: str) -> None:
    scenario = tmp_path / "add.yaml"
    own = "{name: add, title: add, chip: edge, kind: kernels, cases: [{op: add, dtypes: [fp16], shapes: [[8]]}]}"
    scenario.write_text(own, encoding="utf-8")
    text = TEXT.replace(TEXT.split("scenario: ")[1].split("}")[0], str(scenario))
    with Study.open(small_space(text), file) as study:
        study.run(1, InProcess(Quick()))
    scenario.write_text(own.replace("op: add", "op: sub"), encoding="utf-8")
    with pytest.raises(StudyError, match="what differs: workload add;"):
        Study.open(small_space(text), file)


def data_beside(folder: Path, value: float) -> Path:
    """A model whose weights lie in a file of their own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    arguments = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [None, 32]) for name in ("x", "y")]
    weights = numpy_helper.from_array(np.full((32, 32), value, np.float16), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "m", arguments[:1], arguments[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").unlink(missing_ok=True)
    onnx.save_model(model, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "m.onnx"


@pytest.mark.parametrize("by_scenario", [True, False])
def test_a_changed_model_is_refused(by_scenario: bool, tmp_path: Path, file: str) -> None:
    from npuvm.explore.evaluation import tapes

    model = data_beside(tmp_path / "own", 1.0)
    before = model.read_bytes()
    scenario = tmp_path / "own" / "s.yaml"
    scenario.write_text("{name: s, title: s, chip: edge, kind: model, model: m.onnx, runs: [{}]}", encoding="utf-8")
    workload = f"scenario: {scenario}" if by_scenario else f"model: {model}"
    text = TEXT.replace("scenario: " + TEXT.split("scenario: ")[1].split("}")[0], workload)
    for count in (1, 2):
        with Study.open(small_space(text), file) as study:
            study.run(count, InProcess(Quick()))
    assert data_beside(tmp_path / "own", 2.0).read_bytes() == before
    tapes._read.cache_clear()  # as for another process
    with pytest.raises(StudyError, match="what differs: workload add;"):
        Study.open(small_space(text), file)


def test_a_study_is_read_without_the_files_that_it_names(tmp_path: Path, file: str) -> None:
    model = data_beside(tmp_path, 1.0)
    scenario = "{name: s, title: s, chip: edge, kind: model, model: m.onnx, runs: [{}]}"
    files = {
        "s.yaml": scenario,
        "chip.yaml": "{name: mine, base: edge}",
        "n.yaml": (ROOT / "configs" / "technology" / "n7.yaml").read_text(encoding="utf-8"),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    text = TEXT.replace("chip: edge", f"chip: {tmp_path}/chip.yaml\ntechnology: {tmp_path}/n.yaml")
    text = text.replace(
        "workloads: [", f"workloads: [{{name: m, model: {model}}}, {{name: s, scenario: {tmp_path}/s.yaml}}, "
    )
    with Study.open(small_space(text), file) as study:
        study.run(2, InProcess(Quick()))
        before = found(study.evaluated())
    for path in (model, *(tmp_path / name for name in files)):
        path.unlink()
    stored = read_study(file)
    assert found(stored.entries) == before
    assert stored.changed() == ("chip chip.yaml", "instruction set", "workload m", "workload s", "technology n.yaml")
    with pytest.raises(ConfigError, match=r"chip\.yaml: no such file"):
        load_space_text(text, tmp_path / "small.yaml")


def test_points_of_other_code_are_refused_or_marked(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = code_name()
    search(file, 3)
    monkeypatch.setattr(keys, "code_hash", lambda: "0123456789abcdef")
    message = (
        f"code {ours} evaluated 3 of 3 points there, this is 0123456789ab: .*; --fresh forgets them, another --storage"
    )
    with pytest.raises(StudyError, match=f"small.sqlite: {message}"):
        Study.open(small_space(), file)
    with Study.open(small_space(), file, other_code=True) as study:
        study.run(5, InProcess(Quick()))
    assert [entry.evaluation.code for entry in read_study(file).entries] == [ours] * 3 + ["0123456789ab"] * 2
    monkeypatch.undo()
    with pytest.raises(StudyError, match="code 0123456789ab evaluated 2 of 5 points there, this is"):
        Study.open(small_space(), file)
    with Study.open(small_space(), file, fresh=True) as study:
        assert not study.evaluated()


def test_points_of_unknown_code_are_those_of_other_code(file: str) -> None:
    with Study.open(small_space(), file) as study:
        study.run(1, InProcess(lambda: lambda point, front: replace(quick(point, front), code="")))
    with pytest.raises(StudyError, match="code unknown evaluated 1 of 1 points there"):
        Study.open(small_space(), file)


def test_what_is_no_storage_is_refused(tmp_path: Path) -> None:
    space = small_space()
    (tmp_path / "text.sqlite").write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(StudyError, match=r"text.sqlite: no storage for a study: .*not a database"):
        Study.open(space, str(tmp_path / "text.sqlite"))
    with pytest.raises(StudyError, match="no storage for a study"):
        Study.open(space, "nonsense://user:secret@host/db")
    with pytest.raises(StudyError, match="cannot be written: "):
        Study.open(space, "/proc/none/small.sqlite")
    with pytest.raises(StudyError, match=r"no study there; `npuvm explore SPACE.yaml` begins one"):
        read_study(str(tmp_path / "none.sqlite"))


def test_a_study_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/other.sqlite"
    other = optuna.create_study(study_name="small", storage=url, directions=["minimize", "minimize"])
    other.add_trial(optuna.create_trial(values=[1.0, 2.0]))
    with pytest.raises(StudyError, match="study 'small' is none of npuvm's; give another --storage"):
        Study.open(small_space(), url)
    with pytest.raises(StudyError, match="study 'small' is none of npuvm's"):
        read_study(url)


def test_a_name_picks_one_of_several_studies(file: str) -> None:
    search(file, 2)
    second = small_space(TEXT.replace("name: small", "name: second"))
    with Study.open(second, file) as study:
        study.run(3, InProcess(Quick()))
    assert len(read_study(file, "second").entries) == 3
    with pytest.raises(StudyError, match="say which study; there are second, small"):
        read_study(file)
    with pytest.raises(StudyError, match="no study 'third'; there are second, small"):
        read_study(file, "third")


def test_writing_does_not_wait_for_readers(file: str) -> None:
    search(file, 2)
    reader = sqlite3.connect(file, timeout=0)
    reader.execute("begin")
    assert reader.execute("select count(*) from trials").fetchone() == (2,)
    search(file, 4)
    assert reader.execute("select count(*) from trials").fetchone() == (2,)
    reader.close()


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr("npuvm.explore.study.errors.find_spec", lambda _name: None)
    with pytest.raises(StudyError, match=r"needs optuna, which is not installed; pip install 'npuvm\[explore\]'"):
        Study.open(small_space(), file)
    with pytest.raises(StudyError, match=r"npuvm\[explore\]"):
        read_study(file)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_what_a_sampler_knows_stands_for_its_neighbours(sampler: SamplerName, monkeypatch: pytest.MonkeyPatch) -> None:
    from npuvm.explore.study import search
    from npuvm.explore.study.settings import Settings

    space = small_space()
    middle: Point = {"core.count": 2, "core.ub_kib": 128, "clock_ghz": 1.0, "compiler.fusion": "none"}
    monkeypatch.setattr(search, "_sample", lambda *_: search.parameters_of(space, middle))
    searching = search.Search(space, Settings(sampler, 0, 4))
    asked = [searching.ask() for _ in range(8)]
    near: list[Point] = [{**middle, "core.count": count} for count in (1, 4)]
    near += [{**middle, "core.ub_kib": ub} for ub in (64, 256)]
    near += [{**middle, "clock_ghz": 0.5}, {**middle, "compiler.fusion": "pattern"}]
    assert asked[0] == middle
    assert sorted(map(str, asked[1:7])) == sorted(map(str, near))
    assert asked[1:7] != near  # in no particular order
    assert asked[7] not in asked[:7]
