from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from tests.explore.study.kit import Quick, found, small_space

from npuvm.explore.evaluation import Evaluation, code_name, keys
from npuvm.explore.space import Point
from npuvm.explore.study import Evaluate, InProcess, ProcessPool, Study, StudyFailure
from npuvm.isa.errors import NpuvmError

TRAP: Point = {"core.count": 4, "core.ub_kib": 128, "clock_ghz": 1.0, "compiler.fusion": "none"}
OTHER: Point = {**TRAP, "core.ub_kib": 256}


def no_evaluator() -> Evaluate:
    raise NpuvmError("there is no yosys")


def dead_evaluator() -> Evaluate:
    raise SystemExit(3)


def test_a_pool_of_which_one_is_killed_finds_what_one_process_finds(tmp_path: Path) -> None:
    runs = []
    with Study.open(small_space(), str(tmp_path / "one.sqlite"), "grid", batch=20) as study:
        study.run(40, InProcess(Quick()))
        runs.append(found(study.evaluated()))
    flag = tmp_path / "been"
    with (
        Study.open(small_space(), str(tmp_path / "two.sqlite"), "grid", batch=20) as study,
        ProcessPool(Quick(trap="kill", flag=flag), 2) as pool,
    ):
        study.run(40, pool)
        runs.append(found(study.evaluated()))
    assert flag.is_file()
    assert runs[0] == runs[1]
    assert not multiprocessing.active_children()


def test_what_no_process_can_evaluate_ends_the_search() -> None:
    with ProcessPool(no_evaluator, 1) as pool, pytest.raises(StudyFailure, match="there is no yosys"):
        list(pool.evaluate({1: OTHER}, []))
    assert not multiprocessing.active_children()


def test_a_process_of_other_code_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = code_name()
    monkeypatch.setattr(keys, "code_hash", lambda: "0123456789abcdef")  # in this process, not in that of the pool
    message = f"a process that evaluates points has code {theirs}, the command has 0123456789ab; every process needs"
    with ProcessPool(Quick(), 1) as pool, pytest.raises(StudyFailure, match=message):
        list(pool.evaluate({1: OTHER}, []))


@pytest.mark.slow
def test_a_process_that_cannot_even_begin_ends_the_search() -> None:
    with ProcessPool(dead_evaluator, 2) as pool, pytest.raises(StudyFailure, match="ended with exit code 3 before"):
        list(pool.evaluate({1: OTHER}, []))


@pytest.mark.slow
def test_a_point_that_kills_every_process_has_failed() -> None:
    with ProcessPool(Quick(trap="kill"), 1) as pool:
        evaluations = dict(pool.evaluate({1: TRAP, 2: OTHER}, []))
    error = "every process that evaluated it died; the last ended with SIGKILL"
    assert evaluations[1] == Evaluation("failed", {}, error=error, code=code_name())
    assert evaluations[2].state == "done"


@pytest.mark.slow
def test_points_that_nobody_waits_for_are_given_up() -> None:
    with ProcessPool(Quick(trap="sleep"), 2) as pool, pytest.raises(KeyboardInterrupt):
        for _ in pool.evaluate({1: TRAP, 2: OTHER}, []):
            raise KeyboardInterrupt
    assert not multiprocessing.active_children()
