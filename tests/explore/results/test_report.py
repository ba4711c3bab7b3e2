"""The files of a report and the lines under its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.explore.results.kit import entries_of, failed, mixed_entries, run_of, small_space

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.results import report_files, report_lines, sensitivities


def test_a_report_is_a_page_and_two_tables_named_after_the_space() -> None:
    files = report_files(small_space(), mixed_entries(), Path("out"))
    assert list(files) == [Path("out/small.html"), Path("out/small.csv"), Path("out/small.parquet")]
    page, table, columns = files.values()
    assert isinstance(page, str)
    assert isinstance(table, str)
    assert page.startswith("<!doctype html>")
    assert table.count("\n") == 25
    assert bytes(columns[:4] if isinstance(columns, bytes) else b"") == b"PAR1"


def test_the_lines_say_what_matters_what_failed_and_what_it_took() -> None:
    lines = list(report_lines(small_space(), mixed_entries()))
    assert lines[0].startswith("latency_us depends on: core.count ")
    assert "2 points failed, the first is 1: short: no room for <a tile> of 4 KiB in ub_kib = 128" in lines
    assert "1 point failed, the first is 6: KeyError: 'x'" in lines
    assert lines[-1] == (
        "10.9 s of CPU (measured), 132 points per minute and core; runs: 44 simulated, 19 shared, 9 skipped"
    )


def test_the_lines_say_which_code_evaluated_the_points() -> None:
    entries = mixed_entries()
    assert "evaluated by code that is not known" in list(report_lines(small_space(), entries))
    known = [replace(entry, evaluation=replace(entry.evaluation, code="c0de")) for entry in entries]
    assert "evaluated by code c0de" in list(report_lines(small_space(), known))
    told = "evaluated by several codes, figures may not be comparable: unknown (1 point, the first is 0), c0de (23 points, "
    assert told + "the first is 1)" in list(report_lines(small_space(), [*entries[:1], *known[1:]]))


def test_what_ran_on_the_host_is_told() -> None:
    entries = [*entries_of()]
    for at, count in ((3, 2), (5, 1)):
        runs = (run_of("short", 9.0, host_operators=count), run_of("more", 9.0, host_operators=at - 2))
        entries[at] = replace(entries[at], evaluation=replace(entries[at].evaluation, runs=runs))
    told = "2 operators of short run on the host; their time is in no measure"
    assert told in list(report_lines(small_space(), entries))
    assert f"<p><strong>{told}.</strong></p>" in str(next(iter(report_files(small_space(), entries, Path()).values())))
    one = [entries[3]]
    assert "1 operator of more runs on the host; its time is in no measure" in list(report_lines(small_space(), one))
    assert not [line for line in report_lines(small_space(), entries_of()) if "on the host" in line]


def test_sensitivities_that_are_known_are_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    space, entries = small_space(), mixed_entries()
    found, wanted = sensitivities(space, entries), report_files(space, entries, Path())
    monkeypatch.delattr("optuna.create_study")
    assert report_files(space, entries, Path(), found) == wanted
    assert next(report_lines(space, entries, found)).startswith("latency_us depends on: ")


def test_what_cannot_be_said_is_said_to_be_so() -> None:
    entries = [replace(entry, evaluation=failed(f"reason {entry.number}")) for entry in entries_of()[:7]]
    lines = list(report_lines(small_space(), entries))
    assert lines[:3] == [
        "no point was simulated whole, so there is no front",
        "latency_us: 0 points have a figure, too few for 4 parameters; 12 are needed",
        "area_mm2: 7 points have a figure, too few for 4 parameters; 12 are needed",
    ]
    assert lines[-2] == "and 2 other reasons"
    assert list(report_lines(small_space(), []))[-1].startswith("area_mm2: 0 points have a figure, too few")


def test_shares_that_say_little_are_marked() -> None:
    rng = np.random.default_rng(2)
    entries = [
        replace(entry, evaluation=Evaluation("done", {"latency_us": rng.random(), "area_mm2": 1.0}))
        for entry in entries_of()
    ]
    lines = list(report_lines(small_space(), entries))
    assert lines[0].startswith("latency_us depends on: ")
    assert lines[1] == "  points left out are not foretold well; more points make shares surer"
    assert lines[2] == "area_mm2: it is the same at every point"
