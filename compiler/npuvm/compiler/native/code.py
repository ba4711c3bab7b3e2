"""Formulas as operations on registers, for a kernel that runs them: a formula has no machine code of its own."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.tiles.formula_terms import Value, nodes_of

__all__ = ["Code", "CodeWriter", "Op", "Range"]


class Op(IntEnum):
    """Operations; a row of code has one of them, the register of its result, and those of up to five inputs."""

    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    FLOOR_DIV = 4
    MOD = 5
    NEG = 6
    LEAST = 7
    LARGEST = 8
    PICK = 9
    SAME = 10
    OVER = 11
    DIFFERS = 12
    SECOND = 13
    FIRST = 14


_TEXTS = {
    "{0} + {1}": Op.ADD,
    "{0} - {1}": Op.SUB,
    "{0} * {1}": Op.MUL,
    "{0} / {1}": Op.DIV,
    "{0} // {1}": Op.FLOOR_DIV,
    "{0} % {1}": Op.MOD,
    "-{0}": Op.NEG,
    "{0} if {0} < {1} else {1}": Op.LEAST,
    "{0} if {0} > {1} else {1}": Op.LARGEST,
    "{1} if {0} else {2}": Op.PICK,
    "{0} == {1}": Op.SAME,
    "{0} > {1}": Op.OVER,
    "{0} % {1} != 0": Op.DIFFERS,
}

_SORTED = "sorted(({0}, {1}, {2}, {3}, {4}))"
"""Of five numbers, of which the largest two are asked for."""

_OF_SORTED = {"{0}[3]": Op.SECOND, "{0}[4]": Op.FIRST}

_WIDTH = 7


class Range(NamedTuple):
    """Rows of code, from the first to behind the last."""

    start: int
    stop: int


class Code(NamedTuple):
    """Rows of operations, and registers with the constants in their places; a register is one float64."""

    rows: npt.NDArray[np.int64]
    registers: npt.NDArray[np.float64]


class CodeWriter:
    """Writes formulas that share variables and constants."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._constants: list[float] = []
        self._at: dict[str, int] = {}

    def variable(self, name: str, value: float = 0.0) -> int:
        """The register of a variable, which has this value at first."""
        return self._register(name, float(value))

    def add(self, then: Sequence[str], values: Sequence[Value]) -> tuple[Range, Range, list[int]]:
        """Write formulas: rows that need none of the variables `then`, the others, and the registers of the values."""
        names, nodes = nodes_of(then, values)
        # Results of one formula are not those of another, whose operations come at another time.
        own = {f"t{at}": f"{len(self._rows)}.t{at}" for at in range(len(nodes))}
        ranges = []
        sorted_of: dict[str, tuple[str, ...]] = {}
        for is_late in (False, True):
            start = len(self._rows)
            for name, text, inputs, late in nodes:
                if text == _SORTED:
                    sorted_of[name] = inputs
                elif late == is_late:
                    op = _OF_SORTED.get(text) or _TEXTS[text]
                    used = sorted_of[inputs[0]] if text in _OF_SORTED else inputs
                    self._row(op, own[name], [own.get(each, each) for each in used])
            ranges.append(Range(start, len(self._rows)))
        return ranges[0], ranges[1], [self._input(own.get(each, each)) for each in names]

    def code(self) -> Code:
        """What was written."""
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, _WIDTH)
        return Code(rows, np.array(self._constants, dtype=np.float64))

    def _row(self, op: Op, result: str, inputs: Sequence[str]) -> None:
        places = [self._input(each) for each in inputs]
        self._rows.append((int(op), self.variable(result), *places, *(0 for _ in range(5 - len(places)))))

    def _input(self, text: str) -> int:
        """The register of a variable, or of a number by its text."""
        if text in self._at or not _is_number(text):
            return self._register(text, 0.0)
        return self._register(text, float(text))

    def _register(self, name: str, value: float) -> int:
        found = self._at.get(name)
        if found is None:
            found = self._at[name] = len(self._constants)
            self._constants.append(value)
        return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
