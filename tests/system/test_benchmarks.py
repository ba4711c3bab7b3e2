"""The commands under benchmarks/ start, from any folder; what they measure is no matter of tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COMMANDS = sorted([*BENCHMARKS.glob("*.py"), BENCHMARKS / "validation" / "run.py"])

STARTER = """
import os, runpy, sys, traceback
import npuvm.cli.main, npuvm.explore.study, npuvm.runtime.session, numba, onnx, optuna

out, *commands = sys.argv[1:]
for number, command in enumerate(commands):
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{out}/{number}.{name}", os.O_CREAT | os.O_WRONLY), stream)
        sys.path[0], sys.argv = os.path.dirname(command), [command, "--help"]
        code = 0
        try:
            runpy.run_path(command, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(f"{out}/{number}.code", "w", encoding="ascii") as file:
        file.write(str(ended))
"""
"""Starts each command as `python COMMAND --help` does, in forks of a process that has imported what most of them need."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder with what each command gave, and the one that they ran in."""
    out, here = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("here")
    words = [sys.executable, "-c", STARTER, str(out), *map(str, COMMANDS)]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, here


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.relative_to(BENCHMARKS)))
def test_a_benchmark_starts(command: Path, started: tuple[Path, Path]) -> None:
    out, here = started
    code, told, wrong = (out / f"{COMMANDS.index(command)}.{name}" for name in ("code", "out", "err"))
    assert code.read_text(encoding="ascii") == "0", wrong.read_text(encoding="utf-8")
    assert "usage: " + command.name in told.read_text(encoding="utf-8")
    assert list(here.iterdir()) == []
