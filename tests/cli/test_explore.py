from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from tests.explore.study.kit import ROOT, TEXT, Quick, small_space, trials

from npuvm.cli import explore, explore_progress
from npuvm.cli.explore_plan import plan_of
from npuvm.cli.explore_progress import SearchProgress
from npuvm.cli.main import main
from npuvm.explore.evaluation import Evaluation, code_name, keys
from npuvm.explore.evaluation.counts import Counts
from npuvm.explore.evaluation.runs import Found, PointRuns
from npuvm.explore.space import Point, SizedRun, Workload, load_space
from npuvm.explore.study import InProcess, Study, read_study

TUTORIAL = str(ROOT / "configs" / "space" / "tutorial.yaml")


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The small space in the current folder, its points evaluated by formula in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(explore, "_executor", lambda *_: InProcess(Quick()))
    (tmp_path / "small.yaml").write_text(TEXT, encoding="utf-8")
    return "small.yaml"


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["explore", *words]) == 0
    return capsys.readouterr().out


def test_a_search_prints_the_front_and_writes_the_results(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, space)
    assert "small: cores and buffers" in shown
    assert "evaluated: 20" in shown
    files = sorted(path.name for path in Path("build/explore").iterdir())
    # SQLite's own files are there as long as a file is open.
    assert [name for name in files if not name.endswith(("-shm", "-wal"))] == [
        "small.csv",
        "small.html",
        "small.parquet",
        "small.results.sqlite",
        "small.sqlite",
        "small.sqlite.lock",
    ]
    assert len(Path("build/explore/small.csv").read_text(encoding="utf-8").splitlines()) == 21


def test_a_title_is_shown_as_it_is(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    title = "chips [edge] of [/7 nm] :gear:"
    Path(space).write_text(TEXT.replace("title: cores and buffers", f"title: '{title}'"), encoding="utf-8")
    assert f"small: {title}\n" in output(capsys, space, "-n", "2")
    assert f"small: {title} " in output(capsys, space, "--dry-run")


def test_without_words_the_command_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert "SPACE.yaml" in output(capsys)
    assert not capsys.readouterr().err


def test_figures_without_end_are_null_in_json(
    space: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = Evaluation("done", {"latency_us": 0.0, "area_mm2": 1.0, "throughput_per_s": math.inf}, code=code_name())
    monkeypatch.setattr(explore, "_executor", lambda *_: InProcess(lambda: lambda point, front: endless))
    document = json.loads(output(capsys, space, "-n", "1", "--json"))
    assert document["front"][0]["measures"] == {"latency_us": 0.0, "area_mm2": 1.0, "throughput_per_s": None}


def test_options_go_to_the_study(space: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = "--sampler nsga2 --evaluations 6 --seed 9 --batch 3 --storage own.sqlite --no-bounds --out found --json"
    document = json.loads(output(capsys, space, *words.split()))
    assert document["evaluated"] == 6
    assert document["objectives"] == ["latency_us", "area_mm2"]
    numbers = [each["number"] for each in document["front"]]
    stored = read_study("own.sqlite")
    assert (stored.settings.sampler, stored.settings.seed, stored.settings.batch) == ("nsga2", 9, 3)
    assert stored.settings.bounds is False
    assert set(numbers) <= {entry.number for entry in stored.entries}
    assert all(Path(path).is_file() and Path(path).parent == Path("found") for path in document["files"])
    assert output(capsys, space, "-n", "8", "--storage", "own.sqlite", "-q") == ""
    assert len(read_study("own.sqlite").entries) == 8
    assert main(["explore", space, "--seed", "1", "--storage", "own.sqlite"]) == 2
    assert "own.sqlite: the study there has seed 9; --fresh forgets it" in capsys.readouterr().err
    output(capsys, space, "-n", "2", "--seed", "1", "--storage", "own.sqlite", "--fresh", "-q")
    assert len(read_study("own.sqlite").entries) == 2


def test_results_say_which_code_evaluated_points(
    space: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = code_name()
    assert f"evaluated by code {ours}\n" in output(capsys, space, "-n", "6")
    monkeypatch.setattr(keys, "code_hash", lambda: "0123456789abcdef")
    assert main(["explore", space]) == 2
    told = f"build/explore/small.sqlite: code {ours} evaluated 6 of 6 points there, this is 0123456789ab"
    assert told in capsys.readouterr().err
    shown = output(capsys, space, "-n", "16", "--other-code")
    assert (
        f"several codes, figures may not be comparable: {ours} (6 points, the first is 0), 0123456789ab (10 " in shown
    )
    document = json.loads(output(capsys, "report", "--json"))
    assert document["codes"] == {ours: 6, "0123456789ab": 10}
    rows = csv.DictReader(Path("build/explore/small.csv").read_text(encoding="utf-8").splitlines())
    assert [row["code"] for row in rows] == [ours] * 6 + ["0123456789ab"] * 10
    told = f"5 was evaluated by code {ours}, 6 by 0123456789ab: some of what differs may come from that"
    assert told in output(capsys, "compare", "5", "6")
    told = f"code {ours} evaluated it, this is 0123456789ab: these figures may have changed"
    assert told in output(capsys, "pick", "5")
    assert "these figures may have changed" not in output(capsys, "pick", "6")


def test_results_of_a_study_are_there_without_its_space(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, space, "-q")
    Path(space).unlink()
    assert "evaluated: 20" in output(capsys, "report")
    assert "evaluated: 20" in output(capsys, "report", "--study", "small", "--out", "again")
    assert Path("again/small.html").is_file()
    assert json.loads(output(capsys, "compare", "1", "2", "--json"))["space"] == "small"
    assert "core.ub_kib" in output(capsys, "compare", "1", "2", "--storage", "build/explore/small.sqlite")
    assert "npuvm simulate build/explore/small_3/add.yaml" in output(capsys, "pick", "3")
    assert Path("build/explore/small_3/chip.yaml").is_file()


def test_what_is_asked_for_and_is_not_there(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        assert main(["explore", *words]) == 2
        return capsys.readouterr().err

    assert "build/explore: say which study, by --study or --storage; there is none" in refused("report")
    assert "build/explore/other.sqlite: no study there" in refused("pick", "1", "--study", "other")
    output(capsys, space, "-q", "-n", "3")
    output(capsys, space, "-q", "-n", "3", "--storage", "build/explore/twice.sqlite")
    assert "there are small, twice" in refused("compare", "0", "1")
    assert "no point 7 of small was evaluated; there are 0 to 2" in refused("pick", "7", "--study", "small")
    assert "none.yaml: no such file" in refused("none.yaml")
    assert "--ray-address goes with --executor ray" in refused(space, "--ray-address", "10.0.0.1:6379")
    assert "see 'npuvm explore search --help'" in refused(space, "--sampler", "guess")


def test_a_stop_keeps_what_is_there(
    space: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(InProcess):
        def evaluate(
            self, points: Mapping[int, Point], front: Sequence[Sequence[float]]
        ) -> Iterator[tuple[int, Evaluation]]:
            yield from super().evaluate({number: points[number] for number in list(points)[:3]}, front)
            raise KeyboardInterrupt

    monkeypatch.setattr(explore, "_executor", lambda *_: Stopped(Quick()))
    assert main(["explore", space]) == 130
    told = "npuvm: 3 points are kept in build/explore/small.sqlite; the same command goes on\n"
    assert capsys.readouterr().err.startswith(told)
    monkeypatch.setattr(explore, "_executor", lambda *_: InProcess(Quick()))
    assert "evaluated: 20" in output(capsys, space)


def test_a_space_without_points_is_refused(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = TEXT.replace(
        "because: the buffers", "because: so it is}\n  - {require: core.count > 99, because: the buffers"
    )
    Path(space).write_text(text, encoding="utf-8")
    for words in ((space,), (space, "--dry-run")):
        assert main(["explore", *words]) == 2
        message = "none of its 64 combinations is a point: core.count > 99 (the buffers have to fit) excludes 64; "
        assert message + "core.ub_kib * core.count <= 2048 (so it is) excludes 4" in capsys.readouterr().err


def test_a_dry_run_says_what_a_search_takes(capsys: pytest.CaptureFixture[str]) -> None:
    space = load_space(TUTORIAL)
    points = sum(space.fault(point) is None for point in space.points())
    assert 0 < points < space.size
    shown = output(capsys, TUTORIAL, "--dry-run", "--evaluations", "1000", "--processes", "3")
    assert f"{space.parameters[0].name} " in shown
    assert f"{space.size} combinations, {points} of them points" in shown
    assert f"{space.rules[0]} excludes {space.size - points} of {space.size}" in shown
    assert "here (measured): 2 runs, done" in shown
    assert f"{points} points on 3 processes take about " in shown
    document = json.loads(output(capsys, TUTORIAL, "--dry-run", "--json"))
    assert document["points"] == {"likely": points, "low": points, "high": points}
    assert document["host_seconds_measured"] > 0
    assert document["evaluations"] == space.search.evaluations


def test_the_point_of_a_dry_run_is_simulated_although_it_breaks_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated: list[SizedRun] = []
    counts = PointRuns.counts

    def counted(self: PointRuns, workload: Workload, run: SizedRun) -> tuple[Counts, Found]:
        simulated.append(run)
        return counts(self, workload, run)

    monkeypatch.setattr(PointRuns, "counts", counted)
    plan = plan_of(small_space(TEXT.replace("area_mm2: 24", "area_mm2: 1")), None, None, quiet=True)
    assert plan.state == "over_budget"
    assert len(simulated) == 2  # the first time only warms up


@pytest.fixture
def progress(tmp_path: Path) -> Iterator[Callable[..., tuple[SearchProgress, io.StringIO]]]:
    with Study.open(small_space(), str(tmp_path / "small.sqlite")) as study:
        study.run(8, InProcess(Quick()))

        def make(clock: Callable[[], float], terminal: bool) -> tuple[SearchProgress, io.StringIO]:
            text = io.StringIO()
            console = Console(file=text, width=160, force_terminal=terminal)
            return SearchProgress(study, 20, console=console, clock=clock), text

        yield make


def test_a_pipe_gets_a_line_now_and_then(
    progress: Callable[..., tuple[SearchProgress, io.StringIO]], tmp_path: Path
) -> None:
    now = 0.0
    shown, text = progress(lambda: now, False)
    entries = read_study(str(tmp_path / "small.sqlite")).entries
    with shown:
        for entry in entries[:4]:
            now += explore_progress.LINE_SECONDS / 2
            shown.add(entry)
    lines = text.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["small: 10 of 20 points", "small: 12 of 20 points"]
    assert all(line.endswith(", 4 a minute") for line in lines)


def test_a_terminal_gets_the_front_and_a_bar(
    progress: Callable[..., tuple[SearchProgress, io.StringIO]], tmp_path: Path
) -> None:
    shown, text = progress(time.monotonic, True)
    with shown:
        shown.add(read_study(str(tmp_path / "small.sqlite")).entries[0])
    assert "9/20" in text.getvalue()
    assert "latency_us" in text.getvalue()
    assert "evaluated: 9 (" in text.getvalue()


MANY = """
name: many
title: more points than can be evaluated before somebody stops it
chip: edge
parameters:
  core.count: [1, 2, 3, 4, 5, 6, 7, 8]
  core.ub_kib: {from: 64, to: 512, step: 8}
  memory.hbm.bandwidth_gbps: {from: 8, to: 64, step: 1}
workloads: [{name: add, scenario: add.yaml}]
objectives: [{measure: latency_us}, {measure: area_mm2}]
search: {sampler: random, evaluations: 20000, batch: 4}
"""
ADD = "{name: add, title: a sum, kind: kernels, chip: edge, cases: [{op: add, dtypes: [fp16], shapes: [[8]]}]}"


@pytest.mark.slow
def test_control_c_ends_the_command_and_its_processes(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(MANY, encoding="utf-8")
    (tmp_path / "add.yaml").write_text(ADD, encoding="utf-8")
    # A shell's job in the background ignores the signal, and so would all that it starts.
    listens = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = f"import signal, sys; {listens}; from npuvm.cli.main import main; sys.exit(main())"
    run = subprocess.Popen(
        [sys.executable, "-c", command, "explore", "many.yaml", "-j", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        file = tmp_path / "build" / "explore" / "many.sqlite"
        while run.poll() is None and not trials(file):
            time.sleep(0.02)
        assert run.poll() is None, run.communicate()[1]
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        _, told = run.communicate(timeout=60)
        assert run.returncode == 130
        assert f"{trials(file)} points are kept in build/explore/many.sqlite" in told
        while running(run.pid):
            time.sleep(0.1)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


def running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_the_host_does_is_told_before_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"model: {ROOT / 'configs' / 'models' / 'scores.onnxtxt'}, sizes: {{batch: 3}}"
    text = TEXT.replace("scenario: " + TEXT.split("scenario: ")[1].split("}")[0], model)
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    assert main(["explore", str(tmp_path / "small.yaml"), "--dry-run"]) == 0
    assert "npuvm: 1 operator of add runs on the host; its time is in no measure\n" in capsys.readouterr().err


def test_studies_without_points_are_passed_over(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, space, "-n", "2")
    Path("second.yaml").write_text(TEXT.replace("name: small", "name: second"), encoding="utf-8")
    Study.open(load_space("second.yaml")).close()
    assert "front: " in output(capsys, "report")


def test_what_has_changed_since_the_study_began_is_told(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    chip = Path("mine.yaml")
    chip.write_text("name: mine\nbase: edge\n", encoding="utf-8")
    Path(space).write_text(TEXT.replace("chip: edge", "chip: ./mine.yaml"), encoding="utf-8")
    output(capsys, space, "-n", "2")
    for words in (("report",), ("compare", "0", "1"), ("pick", "0")):
        assert main(["explore", *words]) == 0
        assert "changed" not in capsys.readouterr().err
    chip.write_text("name: mine\nbase: edge\ncore: {count: {value: 2, source: me, trust: low}}\n", encoding="utf-8")
    told = "npuvm: changed since study small began, or cannot be read: chip mine.yaml"
    for words in (("report",), ("compare", "0", "1")):
        assert main(["explore", *words]) == 0
        assert f"{told}; figures are those of before" in capsys.readouterr().err
    assert main(["explore", "pick", "0"]) == 2
    assert f"{told}, so that this point's figures would be others" in capsys.readouterr().err
    chip.unlink()
    assert main(["explore", "report"]) == 0
    assert f"{told}, instruction set; figures are those of before" in capsys.readouterr().err


def test_a_search_begins_only_where_its_report_can_be_made(
    space: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("taken").write_text("", encoding="utf-8")
    assert main(["explore", space, "--out", "taken/here"]) == 2
    assert "taken/here: cannot be written: Not a directory" in capsys.readouterr().err
    known = importlib.util.find_spec
    monkeypatch.setattr(
        "npuvm.explore.results.report.find_spec", lambda name: None if name == "pyarrow" else known(name)
    )
    assert main(["explore", space]) == 2
    assert "the report needs pyarrow, which is not installed; pip install 'npuvm[explore]'" in capsys.readouterr().err
    assert not list(Path().rglob("*.sqlite"))


def test_the_front_is_shown_whatever_becomes_of_the_files(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, space, "-n", "2")
    Path("taken").write_text("", encoding="utf-8")
    assert main(["explore", "report", "--out", "taken/here"]) == 2
    shown = capsys.readouterr()
    assert "front: " in shown.out
    assert "cannot be written" in shown.err
