"""Which code made a result: the commit in a clone, the version of the installed package elsewhere."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from npuvm.isa.resources import data_root

__all__ = ["code_version"]


@cache
def code_version(root: Path | None = None) -> str:
    """The commit of the clone at `root` (default: that of this code), "+changes" when files differ from it.

    Without a clone or without git, the package's version.
    """
    root = data_root() if root is None else root
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        if commit is not None:
            return f"{commit}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    try:
        return f"npuvm {metadata.version('npuvm')}"
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command in `root`, None when git is not there or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
