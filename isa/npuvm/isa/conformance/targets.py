"""Finding the targets of the suite: entry points of installed packages, or `module:function` for one that is not installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from npuvm.isa.conformance.target import ENTRY_POINTS, Target
from npuvm.isa.errors import NpuvmError

__all__ = ["ConformanceError", "available_targets", "find_target"]


class ConformanceError(NpuvmError):
    """The suite cannot run as asked: no such target, a target that lacks a tool, a level that it does not have."""


def available_targets() -> Mapping[str, EntryPoint]:
    """The targets of all installed packages by name, sorted."""
    found = entry_points(group=ENTRY_POINTS)
    return {point.name: point for point in sorted(found, key=lambda point: point.name)}


def find_target(name: str) -> Target:
    """The target of that name, or of `module:function`; ConformanceError lists those that exist, or says why it fails."""
    make = _by_path(name) if ":" in name else _by_name(name)
    target = make()
    missing = target.unavailable()
    if missing is not None:
        raise ConformanceError(f"cannot run here: {missing}", f"target {name}")
    return target


def _by_name(name: str) -> Callable[[], Target]:
    found = available_targets()
    if name not in found:
        raise ConformanceError(f"no target {name!r}; there are: {', '.join(found) or 'none'}, or give module:function")
    try:
        return cast(Callable[[], Target], found[name].load())
    except (ImportError, AttributeError) as exc:
        raise ConformanceError(f"its package does not load: {exc}", f"target {name}") from None


def _by_path(path: str) -> Callable[[], Target]:
    module, _, function = path.partition(":")
    try:
        return cast(Callable[[], Target], getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConformanceError(f"{exc}; give module:function", f"target {path}") from None
