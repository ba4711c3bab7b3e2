from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.explore.study.kit import ROOT, Quick, found, small_space

from npuvm.cli.main import main
from npuvm.explore.study import InProcess, Study, StudyError, ray_tasks, read_study


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_finds_what_one_process_finds(tmp_path: Path) -> None:
    here = ["-m", "tests.explore.study.ray_cluster", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, *here],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "nodes").iterdir())) == 2
    with Study.open(small_space(), str(tmp_path / "one.sqlite"), "nsga2") as study:
        study.run(16, InProcess(Quick()))
        assert found(read_study(str(tmp_path / "killed.sqlite")).entries) == found(study.evaluated())
    local = ["--storage", str(tmp_path / "local.sqlite"), "--out", str(tmp_path), "-q", "-j", "1", "-n", "3"]
    assert main(["explore", str(ROOT / "configs" / "space" / "tutorial.yaml"), *local]) == 0
    kept = [found(read_study(str(tmp_path / f"{name}.sqlite")).entries) for name in ("tutorial", "local")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npuvm.explore.study.errors.find_spec", lambda _name: None)
    with pytest.raises(StudyError, match=r"needs ray, which is not installed; pip install 'npuvm\[ray\]'"):
        ray_tasks(Quick())
