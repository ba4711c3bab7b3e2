from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from tests.explore.study.kit import ROOT, WANTED, Quick, fork, kept, search, small_space, trials

from npuvm.cli.main import main
from npuvm.explore.study import InProcess, Study, StudyFailure


def test_a_search_that_is_killed_again_and_again_finds_what_one_finds_that_is_not(tmp_path: Path) -> None:
    search(str(tmp_path / "whole.sqlite"), "nsga2")
    file = str(tmp_path / "killed.sqlite")
    moments = random.Random(0)
    known = []
    for turn in range(10):
        before = trials(Path(file))
        child = fork(lambda: search(file, "nsga2", 0.02))
        while turn % 2 and trials(Path(file)) == before < WANTED:
            time.sleep(0.01)  # so that half of them get on
        time.sleep(moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] in (signal.SIGKILL, 0)
        known.append(kept(file))
    search(file, "nsga2")
    assert kept(file) == kept(str(tmp_path / "whole.sqlite"))
    assert all(set(before) <= set(after) for before, after in pairwise(known))
    assert len({len(each) for each in known}) > 2  # kills fell before, between and after points


def test_two_processes_at_one_study(tmp_path: Path) -> None:
    file = tmp_path / "small.sqlite"
    with (
        Study.open(small_space(), str(file)),
        pytest.raises(StudyFailure, match=f"process {os.getpid()} is at this study"),
    ):
        Study.open(small_space(), f"sqlite:///{file}")
    with Study.open(small_space(), str(file)) as study:  # it was closed, so others may have it
        study.run(1, InProcess(Quick()))


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "small.sqlite"

    def hold() -> None:
        with Study.open(small_space(), str(file)):
            (tmp_path / "held").touch()
            time.sleep(600)

    child = fork(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(StudyFailure, match=rf"small.sqlite: process {child} is at this study; wait for it, or give"):
        Study.open(small_space(), str(file))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert file.with_name("small.sqlite.lock").read_text(encoding="ascii") == f"{child}\n"
    Study.open(small_space(), str(file)).close()


REAL = f"""
name: real
title: a block of a transformer on small chips
chip: edge
parameters:
  core.count: [1, 2, 4]
  memory.hbm.bandwidth_gbps: {{from: 8, to: 64, factor: 2}}
  core.ub_kib: [128, 192, 256]
  compiler.fusion: [none, both]
workloads: [{{name: block, model: {ROOT}/configs/models/feed_forward.onnxtxt, sizes: {{tokens: 16}}}}]
objectives: [{{measure: latency_us}}, {{measure: area_mm2}}]
search: {{sampler: nsga2, evaluations: 30, batch: 6}}
"""


@pytest.mark.slow
def test_the_command_that_is_killed_again_and_again_finds_what_one_finds_that_is_not(tmp_path: Path) -> None:
    space = tmp_path / "real.yaml"
    space.write_text(REAL, encoding="utf-8")
    begin = ["explore", str(space), "-q", "--out", str(tmp_path)]
    assert main([*begin, "-j", "1", "--storage", str(tmp_path / "whole.sqlite")]) == 0
    file = str(tmp_path / "killed.sqlite")
    words = [*begin, "--storage", file]
    command = "import sys; from npuvm.cli.main import main; sys.exit(main())"
    moments = random.Random(1)
    killed = 0
    for turn in range(6):
        processes = ["-j", str(1 + turn % 2)]
        process = subprocess.Popen([sys.executable, "-c", command, *words, *processes], start_new_session=True)
        before = trials(Path(file))
        while process.poll() is None and trials(Path(file)) == before:
            time.sleep(0.01)  # so that each of them gets on
        time.sleep(moments.uniform(0, 0.1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed > 3
    assert main([*words, "-j", "2"]) == 0
    assert kept(file) == kept(str(tmp_path / "whole.sqlite"))
    assert len(kept(file)) == 30
