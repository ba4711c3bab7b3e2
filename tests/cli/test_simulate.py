"""The verb alone: scenarios are loaded for real, running them is replaced. Whole runs are in tests/system."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import npuvm.cli.simulate as module
from npuvm.cli.main import main
from npuvm.hw.hazards import MOST_REPORTED, Hazard, Party
from npuvm.hw.simulator import EngineName, HazardMode
from npuvm.runtime.device.device import LaunchObserver, LaunchRecord
from npuvm.runtime.device.hazard_log import HazardLog
from npuvm.runtime.device.timelines import TimelineRecorder
from npuvm.runtime.scenarios.oracles import Errors
from npuvm.runtime.scenarios.report import CaseRow, Header, ScenarioReport, Totals
from npuvm.runtime.scenarios.schema import Scenario

ROOT = Path(__file__).resolve().parents[2]
GEMM = str(ROOT / "configs/gemm.yaml")
ELEMENTWISE = str(ROOT / "configs/elementwise.yaml")


class Runs:
    """Stands for run_scenario: notes how it was called and reports one case, whose error is `error` of what is allowed."""

    def __init__(self, error: float = 0.5) -> None:
        self.calls: list[tuple[str, str | None, tuple[str, ...], bool]] = []
        self.error = error
        self.hazards: tuple[Hazard, ...] = ()
        self.modes: list[tuple[HazardMode | None, bool, EngineName | None]] = []

    def __call__(
        self,
        scenario: Scenario,
        chip: str | None,
        overrides: Sequence[str],
        timing_only: bool,
        progress: Callable[[int, int, str], None],
        *,
        hazards: HazardMode | None = None,
        cold_l2: bool = False,
        engine: EngineName | None = None,
        observers: Sequence[LaunchObserver] = (),
    ) -> ScenarioReport:
        self.calls.append((scenario.name, chip, tuple(overrides), timing_only))
        progress(0, 1, "add")
        self.modes.append((hazards, cold_l2, engine))
        for observer in observers:
            if isinstance(observer, HazardLog):
                observer.launched(cast("LaunchRecord", SimpleNamespace(kernel="add", result=self)))
            if isinstance(observer, TimelineRecorder):
                observer.sink("001-softmax / rows", {"traceEvents": []})
        header = Header(scenario.name, scenario.title, chip or scenario.chip, "npu 1.0", "abc", {}, timing_only)
        totals = Totals(launches=1, cycles=1234, microseconds=1.0, bounds={"hbm": 617.0})
        errors = None if timing_only else Errors(1e-3, self.error)
        return ScenarioReport(header, cases=(CaseRow("add", "fp16", "3 x 4", totals, errors),))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setattr(module, "run_scenario", stand_in)
    monkeypatch.delenv("COLUMNS", raising=False)  # set where tests run in several processes
    return stand_in


def test_a_table_and_a_json_for_each_scenario(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", GEMM, ELEMENTWISE, "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "gemm: matrix products" in captured.out
    assert captured.out.count("1,234") >= 2
    assert captured.out.splitlines()[-1].startswith("2 scenarios in ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["elementwise.json", "gemm.json"]
    written = json.loads((tmp_path / "out" / "gemm.json").read_text(encoding="utf-8"))
    assert written["scenario"] == "gemm" and written["totals"]["cycles"] == 1234
    assert written["host_wall_seconds_measured"] >= 0


def test_options_reach_the_run(runs: Runs, tmp_path: Path) -> None:
    options = ["--chip", "edge", "--set", "core.ub_kib=64", "--set", "core.count=1", "--timing-only"]
    assert main(["simulate", GEMM, *options, "--out", str(tmp_path)]) == 0
    assert runs.calls == [("gemm", "edge", ("core.ub_kib=64", "core.count=1"), True)]


def test_default_folder_is_under_build(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", GEMM]) == 0
    assert (tmp_path / "build/simulate/gemm.json").is_file()


def test_json_on_stdout_is_the_list_of_the_files(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", GEMM, ELEMENTWISE, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("gemm", "elementwise")]


def test_a_wrong_result_is_exit_1_after_all_scenarios_ran(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.error = 2.0
    assert main(["simulate", GEMM, ELEMENTWISE, "--out", str(tmp_path)]) == 1
    assert "WRONG" in capsys.readouterr().out
    assert len(runs.calls) == 2
    assert not json.loads((tmp_path / "gemm.json").read_text())["ok"]


def test_quiet_says_only_what_is_wrong(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", GEMM, "-q", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")
    runs.error = 2.0
    assert main(["simulate", GEMM, "-q", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("npuvm: gemm: add fp16 3 x 4: wrong result")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing.yaml"], "nothing.yaml: no such file"),
        ([GEMM, GEMM], f"{GEMM}: name 'gemm' is also that of {GEMM}"),
    ],
)
def test_bad_input_runs_nothing(
    arguments: list[str], expected: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"npuvm: {expected}\n"
    assert runs.calls == []
    assert not (tmp_path / "out").exists()


def test_a_bad_field_is_named_with_its_line(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\ntitle: bad\nkind: kernels\nchip: edge\nseeed: 1\ncases: []\n", encoding="utf-8")
    assert main(["simulate", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"npuvm: {path}:5:1: ") and "seeed" in error and error.count("\n") == 1


def test_output_folder_that_cannot_be_made(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["simulate", GEMM, "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_timeline_for_each_program(runs: Runs, tmp_path: Path) -> None:
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--trace", str(tmp_path / "trace"), "--quiet"]) == 0
    files = list((tmp_path / "trace").rglob("*"))
    assert [str(file.relative_to(tmp_path)) for file in files if file.is_file()] == ["trace/gemm/001-softmax-rows.json"]
    assert json.loads((tmp_path / "trace/gemm/001-softmax-rows.json").read_text(encoding="utf-8")) == {
        "traceEvents": []
    }


def hazard(earlier: int, later: int, cycle: int) -> Hazard:
    """Two instructions, by their words, that touch the same bytes."""
    parties = (Party(0, "load", earlier, "ld", cycle, cycle + 1), Party(0, "vector", later, "vadd", cycle, cycle + 1))
    return Hazard("read after write", "ub", 0, 32, *parties, "nothing orders them")


def test_each_hazard_is_told_once_and_fails_the_run(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.hazards = (hazard(3, 5, cycle=10), hazard(3, 5, cycle=90), hazard(5, 7, cycle=20))
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--check-hazards", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert told.count("npuvm: gemm: kernel add: ") == 2
    assert "word 3, cycles 10 to 11" in told
    assert "word 5, cycles 20 to 21" in told
    assert "cycles 90" not in told
    assert runs.modes == [("collect", False, None)]


def test_that_there_may_be_more_hazards_is_told(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.hazards = tuple(hazard(word, word + 1, cycle=10) for word in range(MOST_REPORTED))
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--check-hazards", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert told.count("npuvm: gemm: kernel add: read after write") == 50
    assert "npuvm: gemm: kernel add: 50 pairs of a launch are told, and there may be more" in told


def test_l2_stays_warm_and_hazards_raise_unless_asked_otherwise(runs: Runs, tmp_path: Path) -> None:
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--quiet"]) == 0
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--cold-l2", "--quiet"]) == 0
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--engine", "simpy", "--quiet"]) == 0
    assert runs.modes == [(None, False, None), (None, True, None), (None, False, "simpy")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--engine compiled simulates time only; add --timing-only"),
        (["--timing-only", "--check-hazards"], "--engine compiled goes without --check-hazards; leave out one or the"),
        (["--timing-only", "--trace", "t", "--report", "r"], "--engine compiled goes without --trace, --report; leave"),
    ],
)
def test_what_the_compiled_engine_has_not_is_the_users_fault(
    options: list[str], said: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", GEMM, "--out", str(tmp_path), "--engine", "compiled", *options]) == 2
    assert said in capsys.readouterr().err
    assert not runs.calls and not list(tmp_path.iterdir())
