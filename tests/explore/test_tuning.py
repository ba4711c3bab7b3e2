"""The tuner: what it measures, the file it writes, and that a stopped run goes on."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from npuvm.cli.main import main
from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.codegen import compile_matmul
from npuvm.compiler.cube.core_cost import REFERENCE
from npuvm.compiler.cube.costs import CandidateCosts, reference_cost
from npuvm.compiler.cube.levels import grown_tiles
from npuvm.compiler.cube.problem import CubeTile, ProductSizes
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.tiles import library as tile_library
from npuvm.compiler.tiles.levels import Analysis
from npuvm.explore.tuning import build, tune_chip
from npuvm.explore.tuning.derive import derived_cycles, spread
from npuvm.explore.tuning.measure import TileMeter
from npuvm.explore.workers import WorkerFailure
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import simulate
from npuvm.isa import Isa, load_isa

SMALL = ("core.l0a_kib=1", "core.l0b_kib=1", "core.l0c_kib=2", "core.l1_kib=8")
"""Buffers that few tiles fit."""

MORE = ("core.l0a_kib=8", "core.l0b_kib=8", "core.l0c_kib=16", "core.l1_kib=64")
"""Buffers that 245 tiles fit."""

COMMAND = "import sys; from npuvm.cli.main import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def _two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_BATCH", 2)


def _chip(overrides: tuple[str, ...] = SMALL) -> tuple[NpuConfig, Isa]:
    chip = load_chip("edge", overrides)
    return chip, load_isa(chip.isa.base, chip.isa.extensions)


def test_measures_what_a_pinned_program_takes() -> None:
    """The first tile with nothing in L2, on the other engine, of a program that was made for it alone."""
    chip, isa = _chip(())
    m, n, k1, k0 = 32, 64, 64, 32
    first, *_ = TileMeter("fp16", chip, isa).cycles((m, n, k1, k0, 2))
    line = chip.memory.l2.line_bytes // 2
    wide = (n // line + 1 | 1) * line
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in ((0, k1), (1, wide), (2, wide)))
    spec = MatmulSpec(m, n, k1, a, b, c)
    product = compile_matmul(spec, 3, chip, isa, Pins(tile={"l1": (m, n, k1), "l0": (m, n, k0)}, cores=1))
    assert product is not None
    windows = [(0, 2 * m * k1), (1 << 20, 2 * k1 * wide), (1 << 21, 2 * m * wide)]
    run = simulate(
        chip, isa, product.image, addresses=[base for base, _ in windows], windows=windows, data=False, engine="simpy"
    )
    assert first == pytest.approx(run.cycles, rel=0.02)


@pytest.mark.parametrize("name", ["edge", "ascend_910a", "ascend_910b1"])
def test_one_launch_tells_what_launches_of_their_own_do(name: str) -> None:
    """A single tile with nothing in L2, and two more tiles after a first with all in it; results leave by either unit."""
    chip = load_chip(name)
    meter = TileMeter("fp16", chip, load_isa(chip.isa.base, chip.isa.extensions))
    for tile in ((32, 64, 128, 32, 2), (64, 32, 64, 64, 2), (128, 128, 64, 32, 1)):
        m, n, k1, k0, slots = tile
        taken = CubeTile((m, n, k1), (m, n, k0), slots, 0)
        before = meter.simulations
        firsts, laters = np.split(np.array(meter.cycles(tile)), 2)
        assert meter.simulations == before + 2
        for first, later, steps in zip(firsts, laters, (1, 3), strict=True):
            alone = meter.run(m, n, k1 * steps, taken, known=n).cycles
            one, three = (meter.run(m, wide, k1 * steps, taken, known=0).cycles for wide in (n, 3 * n))
            assert first == pytest.approx(alone, rel=0.04)
            assert later == pytest.approx((three - one) / 2, rel=0.06)


def test_builds_a_library_that_the_compiler_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip, isa = _chip()
    seen: list[tuple[int, int]] = []
    built = tune_chip(chip, tmp_path, 2, lambda done, total: seen.append((done, total)))
    assert built.path.parent == tmp_path
    assert seen[-1] == (built.tiles, built.tiles)
    assert built.measured == built.tiles
    assert built.simulations == 2 * built.tiles
    assert built.cpu_seconds > 0
    assert list(tmp_path.iterdir()) == [built.path]
    monkeypatch.setenv(tile_library.FOLDERS, str(tmp_path))
    tile_library.forget_libraries()
    library = tile_library.find_library(chip, isa)
    assert library is not None
    (kernels,) = library.sorts.values()
    assert len(kernels.tiles) == built.tiles
    assert kernels.measured.all()
    assert (kernels.first[1] > kernels.first[0]).all()
    assert (kernels.later <= kernels.first).all()
    tile_library.forget_libraries()


def _rows(library: Path, kind: str = "measured") -> dict[tuple[int, ...], list[int]]:
    (parts,) = json.loads(library.read_text(encoding="utf-8"))["sorts"].values()
    return {tuple(row[:5]): row[5:] for row in parts[kind]}


def test_what_is_not_measured_is_derived(tmp_path: Path) -> None:
    """Of few measured tiles, with what these take when all are, and the others near it."""
    chip = load_chip("edge", MORE)
    every = tune_chip(chip, tmp_path / "every", 1, spread=None)
    some = tune_chip(chip, tmp_path / "some", 1, spread=40)
    assert (every.measured, some.measured, some.tiles) == (every.tiles, 40, every.tiles)
    assert some.simulations == 80
    all_measured, measured, derived = _rows(every.path), _rows(some.path), _rows(some.path, "derived")
    assert not _rows(every.path, "derived")
    assert set(measured) | set(derived) == set(all_measured)
    assert set(measured).isdisjoint(derived)
    assert measured == {tile: all_measured[tile] for tile in measured}
    off = np.array([np.array(cycles) / all_measured[tile] - 1 for tile, cycles in derived.items()])
    assert (np.median(np.abs(off), axis=0) < 0.05).all()
    assert (np.quantile(np.abs(off), 0.9, axis=0) < 0.2).all()


def test_what_is_measured_follows_from_the_chip() -> None:
    """Tiles far from each other, in the same order each time; fewer are the first ones of more."""
    costs = _costs(load_chip("edge"))
    taken = spread(costs, 30).tolist()
    assert len(set(taken)) == 30
    assert spread(costs, 12).tolist() == taken[:12]
    sizes = np.log2(costs.table[:, [0, 1, 2, 5]])
    apart = np.abs(sizes[taken, None] - sizes[taken]).max(axis=2) + 99 * np.eye(30)
    assert apart.min() >= 1
    assert (np.ptp(sizes[taken], axis=0) >= np.ptp(sizes, axis=0) - 1).all()
    assert spread(costs, len(costs.table)).tolist() == list(range(len(costs.table)))


def test_what_formulas_are_off_by_holds_for_neighbours() -> None:
    """A chip whose tiles take more than formulas say by a factor, and by one that grows with m."""
    chip = load_chip("ascend_910a")
    costs, problem = _costs(chip), TileMeter("fp16", chip, load_isa("npu_v1")).problem
    at = spread(costs, 60)
    tiles = np.concatenate([costs.table, costs.depths[:, None]], axis=1).T.astype(float)
    core = reference_cost(problem, "l1")
    formulas = np.stack(
        [core.cycles(tiles, tiles[2] * steps, REFERENCE, False)[field] for field in (0, 1) for steps in (1, 3)], axis=1
    )
    for factor, near in ((1.5 + 0 * tiles[0], 1e-9), (tiles[0] ** 0.2, 0.02)):
        true = formulas * factor[:, None] * 1000
        found = derived_cycles(problem, "l1", costs, at, np.rint(true[at]).astype(np.int64))
        assert np.abs(found / true - 1).max() <= near + 0.5 / true.min()


def _costs(chip: NpuConfig) -> CandidateCosts:
    problem = TileMeter("fp16", chip, load_isa(chip.isa.base, chip.isa.extensions)).problem
    return CandidateCosts(problem, *grown_tiles(problem), None)


def test_levels_that_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without loads a tile takes less, and beside others on other cores a first one that all wait for takes more."""
    chip = load_chip("ascend_910a", ("core.l0a_kib=4", "core.l0b_kib=4", "core.l0c_kib=8", "core.l1_kib=32"))
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    found = {}
    for measured in tile_library.MEASURABLE[1:]:
        folder = tmp_path / measured
        built = tune_chip(chip, folder, 1, measured=measured, spread=24)
        found[measured] = _rows(built.path)
        monkeypatch.setenv(tile_library.FOLDERS, str(folder))
        tile_library.forget_libraries()
        problem = TileMeter("fp16", chip, isa).problem
        chooser = TileChooser(problem, chip.cores_with("cube"))
        empirical = [level.name for level in chooser.levels if level.analysis is Analysis.EMPIRICAL]
        assert empirical == ["block", "l0", "l1", "core"][: 1 + tile_library.MEASURABLE.index(measured)]
        # Where all takes twice as long, it costs more, whatever was measured.
        sizes = ProductSizes(256, 256, 256, 1, 512, 512)
        once = chooser.estimates(sizes)[2]
        content = json.loads(built.path.read_text(encoding="utf-8"))
        (parts,) = content["sorts"].values()
        for rows in parts.values():
            rows[:] = [[*row[:5], *(2 * each for each in row[5:])] for row in rows]
        built.path.write_text(json.dumps(content), encoding="utf-8")
        tile_library.forget_libraries()
        assert (TileChooser(problem, chip.cores_with("cube")).estimates(sizes)[2] > once).all()
    tile_library.forget_libraries()
    for tile, alone in found["l1"].items():
        assert found["l0"][tile][0] < alone[0]
        assert all(inner <= own for inner, own in zip(found["l0"][tile][2:], alone[2:], strict=True))
    assert sum(rows[0] for rows in found["core"].values()) > sum(rows[0] for rows in found["l1"].values())


def test_a_library_without_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas choose then, also where another library of the chip could be found."""
    chip = load_chip("edge")
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    problem = TileMeter("fp16", chip, isa).problem
    assert TileChooser(problem, 1).library is not None
    built = tune_chip(chip, tmp_path, 1, measured="none")
    assert (built.tiles, built.simulations) == (0, 0)
    monkeypatch.setenv(tile_library.FOLDERS, str(tmp_path))
    tile_library.forget_libraries()
    assert TileChooser(problem, 1).library is None
    tile_library.forget_libraries()


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """What was measured is not measured again, a line that was being written is; the library is that of one run."""
    chip, _ = _chip()
    whole = tune_chip(chip, tmp_path / "whole", 1)
    rows = [[*tile, *cycles] for tile, cycles in _rows(whole.path).items()]
    folder = tmp_path / "again"
    folder.mkdir()
    partial = (folder / whole.path.name).with_suffix(".v2.l1.partial")
    lines = [json.dumps(row) for row in rows[:3]]
    partial.write_text("\n".join(lines) + "\n" + json.dumps(rows[3])[:-4], encoding="utf-8")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_chip(chip, folder, 1, stop)
    again = tune_chip(chip, folder, 1)
    assert again.simulations == whole.simulations - (3 + 2) * 2
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert not partial.exists()


def test_a_run_that_fails_keeps_what_it_has(tmp_path: Path) -> None:
    chip, _ = _chip()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_chip(chip, tmp_path, 1, stop)
    (partial,) = tmp_path.iterdir()
    assert partial.suffix == ".partial"
    assert len(partial.read_text(encoding="utf-8").splitlines()) == 2


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    """The library is that of one process."""
    chip = load_chip("edge", MORE)
    killed: list[int | None] = []

    def kill(done: int, total: int) -> None:
        if not killed:
            child = multiprocessing.active_children()[0]
            killed.append(child.pid)
            child.kill()

    whole = tune_chip(chip, tmp_path / "whole", 1, spread=40)
    again = tune_chip(chip, tmp_path / "again", 2, kill, spread=40)
    assert killed
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert not multiprocessing.active_children()


class Deadly:
    """Makes what measures no tile before it dies."""

    def __init__(self, chip: NpuConfig, measured: str) -> None:
        pass

    def __call__(self) -> Callable[[Sequence[object]], NoReturn]:
        return self.measure

    def measure(self, batch: Sequence[object]) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it has ended")


def test_tiles_at_which_every_process_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_MakeMeasure", Deadly)
    message = "2 processes that measured the same tiles died, the last with SIGKILL; the same command goes on with what"
    with pytest.raises(WorkerFailure, match=message) as caught:
        tune_chip(_chip()[0], tmp_path, 2)
    assert caught.value.exit_code == 1
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("ending", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_processes_end_with_the_command(ending: signal.Signals, tmp_path: Path) -> None:
    """All have its output, which ends when the last of them does; what they measured is kept."""
    words = ["tune", "edge", *(word for each in MORE for word in ("--set", each)), "-j", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, "-o", str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    ) as command:
        try:
            deadline = time.monotonic() + 240
            while not any(file.stat().st_size for file in tmp_path.glob("*.partial")):
                assert command.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            command.send_signal(ending)
            assert command.communicate(timeout=120)[0] == b""
            assert command.returncode == -ending
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
    (partial,) = tmp_path.glob("*.partial")
    kept = partial.read_text(encoding="utf-8").count("\n")
    chip = load_chip("edge", MORE)
    again = tune_chip(chip, tmp_path, 1)
    assert again.simulations == 2 * (again.measured - kept)
    assert again.path.read_bytes() == tune_chip(chip, tmp_path / "whole", 1).path.read_bytes()


@pytest.mark.parametrize("line", ["[1, 2, 3]", "7", "[1, 2", '{"m": 1}', "[16, 16, 64, 32, 2, 1, 1, 1, 0.5]"])
def test_what_is_left_of_a_run_may_be_damaged(line: str, tmp_path: Path) -> None:
    chip, isa = _chip()
    partial = (tmp_path / tile_library.library_name(chip, isa)).with_suffix(".v2.l1.partial")
    partial.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(CompileError, match="interrupted run") as caught:
        tune_chip(chip, tmp_path, 1)
    assert str(partial) in str(caught.value)
    assert partial.read_text(encoding="utf-8") == f"{line}\n"


def test_another_run_may_come_first(tmp_path: Path) -> None:
    """Both write the same library; the one that ends last finds that its notes are gone."""
    chip, _ = _chip()

    def end_another(done: int, total: int) -> None:
        if done == total:
            next(tmp_path.glob("*.partial")).unlink()

    assert tune_chip(chip, tmp_path, 1, end_another).path.is_file()


def test_buffers_that_no_tile_fits(tmp_path: Path) -> None:
    chip, _ = _chip(("core.l0c_kib=1", "core.l0a_kib=1", "core.l1_kib=1"))
    with pytest.raises(CompileError, match="no tile of a matrix product fits"):
        tune_chip(chip, tmp_path, 1)
    assert not list(tmp_path.iterdir())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [text for each in SMALL for text in ("--set", each)]
    assert main(["tune", "edge", "--out", str(tmp_path), "-j", "1", "--json", *overrides]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["library"]).is_file()
    assert report["tiles"] * 2 == report["measured_tiles"] * 2 == report["simulations"]
    capsys.readouterr()
    assert main(["tune", "edge", "--out", str(tmp_path), "-j", "1", "--all-tiles", *overrides]) == 0
    tiles = report["tiles"]
    assert f": {tiles} tiles, {tiles} of them measured; {2 * tiles} launches simulated in" in capsys.readouterr().out
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert main(["tune", "edge", "--out", str(blocked), *overrides]) == 2
    assert "cannot be written" in capsys.readouterr().err
