"""Where a result says it comes from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from npuvm.runtime.scenarios.header import code_version


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_and_changes_of_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    _git(clone, "init", "-q")
    (clone / "a.txt").write_text("1", encoding="utf-8")
    _git(clone, "add", "a.txt")
    _git(clone, "commit", "-q", "-m", "a")
    clean = code_version(clone)
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (clone / "a.txt").write_text("2", encoding="utf-8")
    code_version.cache_clear()
    assert code_version(clone) == f"{clean}+changes"


def test_without_a_clone_the_version_or_nothing(tmp_path: Path) -> None:
    assert re.fullmatch(r"npuvm \d.*|unknown", code_version(tmp_path))
