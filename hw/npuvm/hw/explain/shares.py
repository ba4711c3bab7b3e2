"""A critical path summed up: by unit and kind of step, and by instruction of the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from npuvm.hw.explain.trace_path import PathStep

__all__ = ["PathShare", "instruction_shares", "path_shares"]


class PathShare(NamedTuple):
    """Cycles of a path and the number of its steps that belong together; fields that do not tell them apart are empty."""

    unit: str
    kind: str
    pc: int
    op: str
    cycles: int
    steps: int


def path_shares(path: Iterable[PathStep]) -> tuple[PathShare, ...]:
    """The cycles of a path by unit and kind of step, most first; they add up to those of the launch."""
    return _sums(path, lambda step: (step.unit, step.kind, -1, ""))


def instruction_shares(path: Iterable[PathStep]) -> tuple[PathShare, ...]:
    """The cycles of a path by unit and instruction, most first: those that it took, and those until it could start."""
    return _sums(path, lambda step: (step.unit, "", step.pc, step.op))


def _sums(path: Iterable[PathStep], key: Callable[[PathStep], tuple[str, str, int, str]]) -> tuple[PathShare, ...]:
    found: dict[tuple[str, str, int, str], tuple[int, int]] = {}
    for step in path:
        cycles, steps = found.get(key(step), (0, 0))
        found[key(step)] = cycles + step.end - step.begin, steps + 1
    shares = [PathShare(*which, cycles, steps) for which, (cycles, steps) in found.items()]
    return tuple(sorted(shares, key=lambda share: (-share.cycles, share.unit, share.kind, share.pc)))
