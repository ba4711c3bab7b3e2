"""Formulas as operations on registers, for a kernel that runs them: a formula has no machine code of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.tiles.formula_terms import Node, Value, nodes_of

__all__ = ["AT_ONCE", "Code", "CodeRows", "CodeWriter", "Op", "Range"]


AT_ONCE = 4
"""Numbers of a register, where a formula is run for several inputs at once."""


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
    MUL_ADD = 13
    ADD_ADD = 14
    DIV_MUL = 15
    NEG_FLOOR_DIV = 16
    SECOND = 17
    FIRST = 18


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

_IN_ONE = {
    (Op.ADD, Op.MUL): Op.MUL_ADD,
    (Op.ADD, Op.ADD): Op.ADD_ADD,
    (Op.MUL, Op.DIV): Op.DIV_MUL,
    (Op.NEG, Op.FLOOR_DIV): Op.NEG_FLOOR_DIV,
}
"""An operation, and one whose result it alone takes: both as one, which rounds after each of them as they do."""

_SORTED = "sorted(({0}, {1}, {2}, {3}, {4}))"
"""Of five numbers, of which the largest two are asked for."""

_OF_SORTED = {"{0}[3]": Op.SECOND, "{0}[4]": Op.FIRST}

_WIDTH = 7


class Range(NamedTuple):
    """Rows of code, from the first to behind the last."""

    start: int
    stop: int


CodeRows = npt.NDArray[np.int16]
"""Numbers as short as registers and operations allow, as rows are read again and again."""


class Code(NamedTuple):
    """Rows of operations, and registers with the constants in their places; a register is one float64."""

    rows: CodeRows
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
        others = Counter([*names, *(each for _, _, inputs, _ in nodes for each in inputs)])
        for is_late in (False, True):
            start = len(self._rows)
            for name, op, inputs in _in_one([each for each in nodes if each[3] == is_late], others):
                self._row(op, own[name], [own.get(each, each) for each in inputs])
            ranges.append(Range(start, len(self._rows)))
        return ranges[0], ranges[1], [self._input(own.get(each, each)) for each in names]

    def code(self) -> Code:
        """What was written."""
        rows = np.array(self._rows, dtype=np.int16).reshape(-1, _WIDTH)
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


def _in_one(nodes: Sequence[Node], uses: Mapping[str, int]) -> Iterator[tuple[str, Op, Sequence[str]]]:
    """Names, operations and inputs of nodes; those that make two rows one have the inputs of both. `uses` counts names."""
    made: dict[str, tuple[Op, Sequence[str]]] = {}
    sorted_of: dict[str, tuple[str, ...]] = {}
    for name, text, inputs, _ in nodes:
        if text == _SORTED:
            sorted_of[name] = inputs
            continue
        if text in _OF_SORTED:
            made[name] = _OF_SORTED[text], sorted_of[inputs[0]]
            continue
        made[name] = op, used = _TEXTS[text], list(inputs)
        for each in inputs:
            before = made.get(each)
            both = None if before is None or uses[each] > 1 else _IN_ONE.get((op, before[0]))
            if before is not None and both is not None:
                used.remove(each)
                made[name] = both, [*before[1], *used]
                del made[each]
                break
    for name, (op, used_by) in made.items():
        yield name, op, used_by


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
