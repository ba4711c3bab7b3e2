"""Sharing changes no figure, keys hold all that results follow from, and a store survives whoever writes it."""

from __future__ import annotations

import ast
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tests.explore.evaluation.kit import MODELS, SIZES, drawn_chip, make_space, model_file
from tests.explore.evaluation.poison import Touched, poisoned

import npuvm.compiler
from npuvm.compiler import Kernel, Pins, compile_kernel
from npuvm.compiler.graph.model import SIZES as SIZES_PARAM
from npuvm.compiler.graph.model import DeviceStep, Model
from npuvm.compiler.program.kernels import kept_plans
from npuvm.explore.evaluation import Evaluation, Evaluator, StoreError
from npuvm.explore.evaluation.keys import UNCOMPILED, UNTIMED, image_digest
from npuvm.explore.evaluation.store import Store
from npuvm.explore.evaluation.tapes import Taper, read_model, simulate_tape
from npuvm.explore.space import Space
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.isa import Image, load_isa
from npuvm.isa.verifier import Verifier
from npuvm.runtime.session.binding import available, derive

pytest.importorskip("onnx")

NUMBERS = {"name", "description", "isa"}
ONE = {name: {key: size if isinstance(size, int) else size[0] for key, size in SIZES[name].items()} for name in SIZES}


def compiled(model: Model, sizes: Mapping[str, int], chip: NpuConfig, fusion: str | None) -> list[str]:
    """Digests of all programs of a model."""
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    binding = dict(sizes)
    derive(available(model.derived, binding), binding)
    found = []
    for step in model.steps:
        assert isinstance(step, DeviceStep)
        shapes = {
            param.name: tuple(dim if isinstance(dim, int) else binding[dim] for dim in param.type.shape)
            for param in step.graph.params
        }
        assert SIZES_PARAM not in step.inputs
        made = compile_kernel(Kernel(step.graph), shapes, chip, isa, None if fusion is None else Pins(fusion=fusion))
        found += [image_digest(launch.image) for launch in made.launches]
    return found


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("fusion", [None, "none", "both"])
@pytest.mark.parametrize("chip", ["edge", "ascend_910b1"])
def test_programs_follow_from_no_field_that_keys_leave_out(
    tmp_path: Path, name: str, fusion: str | None, chip: str
) -> None:
    model = read_model(model_file(tmp_path, name)).model
    base = load_chip(chip, ["core.count=2"])
    left = [field for field in UNCOMPILED if field not in NUMBERS]
    assert compiled(model, ONE[name], poisoned(base, left), fusion) == compiled(model, ONE[name], base, fusion)


def test_the_compiler_names_no_field_that_keys_leave_out() -> None:
    left = {field.split(".")[-1] for field in UNCOMPILED} - NUMBERS
    folder = Path(str(npuvm.compiler.__file__)).parent
    read = {
        f"{path.name}:{node.lineno}: {node.attr}"
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in left
    }
    assert read == set()


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("chip", ["edge", "ascend_910b1"])
def test_times_follow_from_no_field_that_keys_leave_out(tmp_path: Path, name: str, chip: str) -> None:
    base = load_chip(chip, ["core.count=2"])
    isa = load_isa(base.isa.base, base.isa.extensions)
    tape = Taper(read_model(model_file(tmp_path, name)).model, base, None).tape(ONE[name])
    left = [field for field in UNTIMED if field not in NUMBERS]
    assert simulate_tape(tape, poisoned(base, left), isa) == simulate_tape(tape, base, isa)


@pytest.mark.parametrize("field", ["core.ub_kib", "core.cube.m", "memory.hbm.latency_cycles", "core.load.outstanding"])
def test_a_look_at_a_field_that_counts_is_seen(tmp_path: Path, field: str) -> None:
    model = read_model(model_file(tmp_path)).model
    with pytest.raises(Touched, match=field.split(".")[-1]):
        compiled(model, ONE["mlp"], poisoned(load_chip("edge"), [field]), None)


def test_a_tape_does_not_depend_on_what_was_taped_before(tmp_path: Path) -> None:
    for name in MODELS:
        model = read_model(model_file(tmp_path, name)).model
        taper = Taper(model, load_chip("edge"), None)
        sizes = [
            {**ONE[name], key: size} for key, many in SIZES[name].items() if not isinstance(many, int) for size in many
        ]
        used = [taper.tape(each).digest for each in (*sizes, *reversed(sizes))]
        fresh = [Taper(model, load_chip("edge"), None).tape(each).digest for each in sizes]
        assert used == [*fresh, *reversed(fresh)]
        assert len(set(fresh)) == len(sizes)


def figures(evaluation: Evaluation) -> Evaluation:
    """An evaluation without what it cost."""
    return Evaluation.from_json({**evaluation.to_json(), "host": {"cpu_seconds": 0.0, "runs": {}}})


def wide_space(folder: Path) -> Space:
    """Points of which many have the same programs, others the same times."""
    return make_space(
        folder,
        parameters={
            "core.ub_kib": [64, 128],
            "core.sequencer.dispatch_cycles": [1, 2],
            "host.start_latency_us": [1, 2],
        },
        objectives=[{"measure": "latency_us"}, {"measure": "energy_uj"}, {"measure": "area_mm2"}],
    )


def test_sharing_changes_no_figure(tmp_path: Path) -> None:
    space = wide_space(tmp_path)
    alone, shared = Evaluator(space, sharing=False), Evaluator(space)
    stored = Evaluator(space, tmp_path / "store.sqlite")
    points = list(space.points())
    found = [[each.evaluate(point) for point in points] for each in (alone, shared, stored)]
    assert [figures(each) for each in found[1]] == [figures(each) for each in found[0]]
    assert [figures(each) for each in found[2]] == [figures(each) for each in found[0]]
    assert {each.state for each in found[0]} == {"done"}
    assert sum(each.host.runs["simulated"] for each in found[0]) == 2 * len(points)
    # The host's part changes no cycles.
    assert sum(each.host.runs.get("simulated", 0) for each in found[1]) <= len(points)
    again = Evaluator(space, tmp_path / "store.sqlite")
    warm = [again.evaluate(point) for point in points]
    assert [figures(each) for each in warm] == [figures(each) for each in found[0]]
    assert all(each.host.runs == {"shared": 2} for each in warm)


def test_extensions_that_no_program_uses_cost_no_simulation(tmp_path: Path) -> None:
    # The chip of another UB has no measured tiles, with or without extensions.
    parameters = {"isa.extensions": {"optional": ["fp8", "activation"]}, "core.ub_kib": [96]}
    space = make_space(tmp_path, parameters=parameters)
    shared, alone = Evaluator(space), Evaluator(space, sharing=False)
    found = {space.key(point): shared.evaluate(point) for point in space.points()}
    runs = [found[key].host.runs for key in ((False, False, 96), (True, False, 96))]
    assert runs == [{"simulated": 2}, {"shared": 2}]
    for point in space.points():
        assert figures(found[space.key(point)]) == figures(alone.evaluate(point))
    # Softmax has an instruction of the activations, fp8 has none for the model.
    assert found[False, True, 96].host.runs == {"simulated": 2}
    assert found[True, True, 96].host.runs == {"shared": 2}


def test_nothing_is_kept_of_chips_that_were_looked_at(tmp_path: Path) -> None:
    evaluator = Evaluator(make_space(tmp_path))
    points = list(evaluator.space.points())
    before = kept_plans()
    assert [evaluator.evaluate(point).state for point in points[:2]] == ["done", "done"]
    assert kept_plans() == before


def test_energy_is_that_of_the_points_own_chip(tmp_path: Path) -> None:
    space = make_space(tmp_path, parameters={"core.ub_kib": [512, 1024]})
    evaluator = Evaluator(space)
    small, large = (evaluator.evaluate(point) for point in space.points())
    assert large.host.runs == {"shared": 2}
    assert large.measures["latency_us"] == small.measures["latency_us"]
    assert large.runs[0].energy_uj["ub"] > small.runs[0].energy_uj["ub"]
    assert large.runs[0].energy_uj["cube"] == small.runs[0].energy_uj["cube"]


def test_programs_are_verified_once_for_capacities_that_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    check = Verifier.check

    def counting(self: Verifier, image: Image) -> None:
        verified.append(image.name)
        check(self, image)

    monkeypatch.setattr(Verifier, "check", counting)
    space = make_space(tmp_path, parameters={"core.ub_kib": [512, 1024, 256]})
    evaluator = Evaluator(space)
    counts = []
    for point in space.points():
        before = len(verified)
        assert evaluator.evaluate(point).state == "done"
        counts.append(len(verified) - before)
    # The larger buffer holds what the smaller one held; the smallest has to be looked at, whatever it is given.
    assert counts[0] > 0
    assert counts[1] == 0
    assert counts[2] > 0


def test_bounds_change_no_figure_and_no_front(tmp_path: Path) -> None:
    space = wide_space(tmp_path)
    signs = [objective.measure.sign for objective in space.objectives]
    from npuvm.explore.evaluation.fronts import dominated

    fronts = []
    whole: dict[tuple[object, ...], Evaluation] = {}
    for bounds in (False, True):
        evaluator = Evaluator(space, bounds=bounds)
        front: list[list[float]] = []
        for point in space.points():
            evaluation = evaluator.evaluate(point, front)
            if not bounds:
                whole[space.key(point)] = evaluation
            elif evaluation.state == "done":
                assert figures(evaluation) == figures(whole[space.key(point)])
            else:
                assert evaluation.state == "pruned"
                for objective in space.objectives:
                    most = whole[space.key(point)].measures[objective.name]
                    assert evaluation.measures[objective.name] <= most
            if evaluation.state == "done":
                front.append([evaluation.measures[objective.name] for objective in space.objectives])
        fronts.append({tuple(each) for each in front if not dominated(each, front, signs)})
    assert fronts[0] == fronts[1]


def _write(path: Path, first: int) -> None:
    store = Store(path)
    number = first
    while True:
        store.put("time", str(number), {"number": number, "filler": "x" * 5000})
        number += 2


def test_a_store_has_whole_entries_of_writers_that_were_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "store.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, first), daemon=True) for first in (0, 1)]
    for each in writers:
        each.start()
    store = Store(path)
    while not all(store.get("time", str(first + 40)) for first in (0, 1)):
        assert all(each.is_alive() for each in writers)
        time.sleep(0.01)
    for each in writers:
        assert each.pid is not None
        os.kill(each.pid, signal.SIGKILL)
        each.join()
    fresh = Store(path)
    for number in range(40):
        assert fresh.get("time", str(number)) == {"number": number, "filler": "x" * 5000}
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_was_put_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.put("legal", "a", 1)
    Store(tmp_path / "store.sqlite").put("legal", "a", 2)
    assert Store(tmp_path / "store.sqlite").get("legal", "a") == 1
    assert store.get("time", "a") is None


def test_a_store_that_cannot_be_used_is_no_fault_of_a_point(tmp_path: Path) -> None:
    broken = tmp_path / "store.sqlite"
    broken.write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"results cannot be shared: file is not a database; the file .* can be removed"
    ):
        Evaluator(make_space(tmp_path), broken)
    broken.unlink()
    evaluator = Evaluator(make_space(tmp_path), broken)
    with closing(sqlite3.connect(broken)) as database:
        database.execute("DROP TABLE results")
        database.commit()
    with pytest.raises(StoreError, match="no such table"):
        evaluator.evaluate(next(make_space(tmp_path).points()))


def test_a_chip_of_measured_tiles_shares_with_none_that_has_not(tmp_path: Path) -> None:
    from npuvm.explore.evaluation.keys import compile_fields

    shipped, other = load_chip("edge"), load_chip("edge", ["host.start_latency_us=1"])
    isa = load_isa(shipped.isa.base, shipped.isa.extensions)
    assert compile_fields(shipped, isa)["chip"] == compile_fields(other, isa)["chip"]
    assert compile_fields(shipped, isa)["tiles"] != compile_fields(other, isa)["tiles"] is None


def test_drawn_chips_are_reproducible() -> None:
    assert drawn_chip(3).chip_hash == drawn_chip(3).chip_hash != drawn_chip(4).chip_hash
