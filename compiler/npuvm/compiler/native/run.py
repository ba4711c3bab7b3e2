"""Runs formulas that are operations on registers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.code import Op
from npuvm.compiler.native.compiling import part

__all__ = ["run_code"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@part
def run_code(rows: Ints, registers: Floats, start: int, stop: int) -> None:
    """Do rows of `npuvm.compiler.native.code.Code`, from `start` to before `stop`."""
    for at in range(start, stop):
        op = rows[at, 0]
        a = registers[rows[at, 2]]
        b = registers[rows[at, 3]]
        if op == Op.ADD:
            value = a + b
        elif op == Op.MUL:
            value = a * b
        elif op == Op.SUB:
            value = a - b
        elif op == Op.DIV:
            value = a / b
        elif op == Op.FLOOR_DIV:
            # Both are whole and below 2 ** 53, for which this is exact.
            value = np.floor(a / b)
        elif op == Op.NEG:
            value = -a
        elif op == Op.LEAST:
            value = a if a < b else b
        elif op == Op.LARGEST:
            value = a if a > b else b
        elif op == Op.PICK:
            value = b if a != 0.0 else registers[rows[at, 4]]
        elif op == Op.SAME:
            value = 1.0 if a == b else 0.0
        elif op == Op.OVER:
            value = 1.0 if a > b else 0.0
        elif op == Op.MOD:
            value = a % b
        elif op == Op.DIFFERS:
            value = 1.0 if a % b != 0.0 else 0.0
        else:
            first = second = -np.inf
            for place in range(2, 7):
                each = registers[rows[at, place]]
                if each > first:
                    first, second = each, first
                elif each > second:
                    second = each
            value = first if op == Op.FIRST else second
        registers[rows[at, 1]] = value
