"""Errors of studies, and the packages that they need."""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar

from npuvm.isa.errors import NpuvmError

__all__ = ["StudyError", "StudyFailure", "need"]

_EXTRAS = {"optuna": ("explore", "searching design spaces"), "ray": ("ray", "exploring on a Ray cluster")}


class StudyError(NpuvmError):
    """A study cannot be opened, or not in the way that was asked for; `where` is its storage."""


class StudyFailure(NpuvmError):
    """A study cannot go on although what was asked for is right; `where` is its storage."""

    exit_code: ClassVar[int] = 1


def need(package: str) -> None:
    """StudyError that names the extra, unless a package is installed."""
    if find_spec(package) is None:
        extra, purpose = _EXTRAS[package]
        raise StudyError(f"{purpose} needs {package}, which is not installed; pip install 'npuvm[{extra}]'")
