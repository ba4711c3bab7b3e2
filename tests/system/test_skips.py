"""No test is lost in CI: what is skipped fails the run, but for optional packages, which are named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SOURCE = """
import pytest

def test_passes():
    pass

@pytest.mark.skipif(True, reason="optional: torch is not installed")
def test_optional():
    pass
"""
LOST = """
@pytest.mark.skipif(True, reason="REASON")
def test_lost():
    pass
"""


@pytest.mark.parametrize(
    ("reason", "status"),
    [(None, 0), ("no iverilog here", 1), ("optional: iverilog is not installed", 1)],
    ids=["optional alone", "a tool is missing", "a tool is called optional"],
)
def test_skips_in_ci(reason: str | None, status: int, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    source = SOURCE + (LOST.replace("REASON", reason) if reason else "")
    (tmp_path / "test_it.py").write_text(source, encoding="utf-8")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:pytest_cov"]
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"CI": "1"}, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == status, done.stdout
    assert "skipped, optional packages are not installed:\n  test_it.py::test_optional\n" in done.stdout
    assert ("skipped although CI is set:\n  test_it.py::test_lost\n" in done.stdout) == bool(status)
