"""Whose the time of a launch is: programs by the instructions that they ran, operators in a program by what they have in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.plan.launch_sources import LaunchedProgram, SourceWork
from npuvm.hw.config import NpuConfig
from npuvm.hw.memory.chunks import engines_of
from npuvm.hw.results.stats import RunResult
from npuvm.runtime.device.device import Device

__all__ = ["COPY", "Attributed", "attribute"]

COPY = "(copy)"
"""Stands for the operator of a program that has none."""

_MATRIX = frozenset(("l1", "l0a", "l0b", "l0c"))
"""Spaces that only matrix products and convolutions use."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """A program's part of a launch: cycles, and the same by operator of the source, which add up to them.

    `busy` are cycles of units by their names, over all cores, `nbytes` what its instructions moved to or from global memory.
    """

    program: LaunchedProgram
    cycles: float
    nbytes: int
    busy: Mapping[str, float]
    operators: Mapping[str, float]


def attribute(
    result: RunResult, programs: Sequence[LaunchedProgram], binding: Mapping[str, int], device: Device
) -> list[Attributed]:
    """The cycles of a launch by program and operator; all of them together are `result.cycles`.

    Programs share the launch as their instructions share the busy cycles of all units. In a program, instructions on L1 and L0
    are those of its products, all others those of its other operators; among several, cycles are shared as an estimate of
    the work of each (`SourceWork`).
    """
    busy = _busy_by_word(result, device.chip)
    spent = [_of_words(busy, each) for each in programs]
    parts = _parts(result.cycles, [sum(each.units.values()) for each in spent])
    found = []
    for program, own, cycles in zip(programs, spent, parts, strict=True):
        total = sum(own.units.values())
        operators = _by_operator(
            program.work(binding, device.chip, device.isa), cycles, own.matrix / total if total else 0.0
        )
        found.append(Attributed(program, cycles, own.nbytes, own.units, operators))
    return found


@dataclass(frozen=True, slots=True)
class _Word:
    unit: str
    cycles: float
    nbytes: int
    matrix: bool


def _busy_by_word(result: RunResult, chip: NpuConfig) -> dict[int, _Word]:
    """Busy cycles of units by instruction: those of a unit in proportion to what each needs without others beside it."""
    engines = engines_of(chip)
    needed: dict[int, float] = {}
    planned: dict[str, float] = {}
    for at, word in result.by_word.items():
        rates = engines[word.unit].rates if word.nbytes else {}
        rate = next((rates[space] for space in word.spaces if space in rates), 0)
        needed[at] = word.cycles + (word.nbytes / rate if rate else 0.0)
        planned[word.unit] = planned.get(word.unit, 0.0) + needed[at]
    spent: dict[str, int] = {}
    for core in result.cores:
        for name, unit in core.units.items():
            spent[name] = spent.get(name, 0) + unit.busy
    found = {}
    for at, word in result.by_word.items():
        own = spent.get(word.unit, 0) * needed[at] / planned[word.unit] if planned[word.unit] else 0.0
        found[at] = _Word(word.unit, own, word.nbytes, not _MATRIX.isdisjoint(word.spaces))
    return found


@dataclass(slots=True)
class _Spent:
    """Busy cycles of a program by unit, how many of them are of instructions for products, and bytes moved."""

    units: dict[str, float]
    matrix: float = 0.0
    nbytes: int = 0


def _of_words(busy: Mapping[int, _Word], program: LaunchedProgram) -> _Spent:
    found = _Spent({})
    for at, word in busy.items():
        if any(first <= at < stop for first, stop in program.words):
            found.units[word.unit] = found.units.get(word.unit, 0.0) + word.cycles
            found.matrix += word.cycles if word.matrix else 0.0
            found.nbytes += word.nbytes
    return found


def _by_operator(work: SourceWork, cycles: float, matrix: float) -> dict[str, float]:
    """The cycles of a program by operator; `matrix` is the share of instructions for products."""
    if not work.products and not work.passes:
        return {COPY: cycles}
    share = matrix if work.products and work.passes else float(bool(work.products))
    found: dict[str, float] = {}
    for weights, part in ((work.products, cycles * share), (work.passes, cycles * (1 - share))):
        for name, own in zip(weights, _parts(part, list(weights.values())), strict=True):
            found[name] = found.get(name, 0.0) + own
    return found


def _parts(whole: float, weights: Sequence[float]) -> list[float]:
    """The whole in proportion to weights; where all are 0, in equal parts."""
    total = sum(weights)
    return [whole * (each / total if total else 1 / len(weights)) for each in weights]
