from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from tests.explore.study.kit import ROOT, Quick, found, small_space

from npuvm.cli.main import main
from npuvm.explore.study import InProcess, Study, StudyError, errors, ray_tasks, read_study

TUTORIAL = str(ROOT / "configs" / "space" / "tutorial.yaml")
ON_RAY = ["explore", TUTORIAL, "-n", "1", "-q", "--executor", "ray"]


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
    assert main(["explore", TUTORIAL, *local]) == 0
    kept = [found(read_study(str(tmp_path / f"{name}.sqlite")).entries) for name in ("tutorial", "local")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["option", "environment", "client"])
def test_an_address_where_nobody_is(
    form: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as held:  # bound and not listening: nobody else can begin to
        held.bind(("127.0.0.1", 0))
        address = f"{'ray://' if form == 'client' else ''}127.0.0.1:{held.getsockname()[1]}"
        if form == "environment":
            monkeypatch.setenv("RAY_ADDRESS", address)
        assert main([*ON_RAY, *([] if form == "environment" else ["--ray-address", address])]) == 2
    told = f"no Ray cluster at {address} ([Errno 111] Connection refused); `ray start --head` begins one, --ray-address"
    assert told in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_no_address() -> None:
    with pytest.raises(StudyError, match=r"no Ray cluster at nonsense \(Invalid address format: nonsense\); "):
        ray_tasks(Quick(), "nonsense")


@pytest.mark.slow
def test_something_else_than_ray_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def end(*_: object, **_options: object) -> NoReturn:  # what ray.init does after minutes without an answer
        raise SystemExit(15)

    monkeypatch.setattr(ray, "init", end)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StudyError, match=r"no Ray cluster at 127.0.0.1:\d+ \(what is there does not answer\); "):
            ray_tasks(Quick(), f"127.0.0.1:{other.getsockname()[1]}")


def test_without_ray_its_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    assert main([*ON_RAY, "--ray-address", "10.0.0.1:6379"]) == 2
    told = "exploring on a Ray cluster needs ray, which is not installed; pip install 'npuvm[ray]'"
    assert told in capsys.readouterr().err
