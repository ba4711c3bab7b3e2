"""The commands under benchmarks/ start, from any folder; what they measure is no matter of tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COMMANDS = sorted([*BENCHMARKS.glob("*.py"), BENCHMARKS / "validation" / "run.py"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.relative_to(BENCHMARKS)))
def test_a_benchmark_starts(command: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(command), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: " + command.name in done.stdout
    assert list(tmp_path.iterdir()) == []
