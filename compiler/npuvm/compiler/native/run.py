"""Runs formulas that are operations on registers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.code import CodeRows, Op
from npuvm.compiler.native.compiling import inlined, part

__all__ = ["run_code", "run_lanes"]

Floats = npt.NDArray[np.float64]


@inlined
def _value(op: int, a: float, b: float, c: float) -> float:
    """The result of an operation of up to three inputs."""
    if op == Op.ADD:
        value = a + b
    elif op == Op.MUL:
        value = a * b
    elif op == Op.SUB:
        value = a - b
    elif op == Op.DIV:
        value = a / b
    elif op == Op.FLOOR_DIV:
        # Both are whole and below 2 ** 53, for which this is exact, and so are remainders.
        value = np.floor(a / b)
    elif op == Op.NEG:
        value = -a
    elif op == Op.LEAST:
        value = a if a < b else b
    elif op == Op.LARGEST:
        value = a if a > b else b
    elif op == Op.PICK:
        value = b if a != 0.0 else c
    elif op == Op.SAME:
        value = 1.0 if a == b else 0.0
    elif op == Op.OVER:
        value = 1.0 if a > b else 0.0
    elif op == Op.MOD:
        value = a - np.floor(a / b) * b
    elif op == Op.MUL_ADD:
        value = a * b + c
    elif op == Op.ADD_ADD:
        value = a + b + c
    elif op == Op.DIV_MUL:
        value = a / b * c
    elif op == Op.NEG_FLOOR_DIV:
        value = -np.floor(a / b)
    else:
        value = 1.0 if a != np.floor(a / b) * b else 0.0
    return value


@part
def run_code(rows: CodeRows, registers: Floats, start: int, stop: int) -> None:
    """Do rows of `npuvm.compiler.native.code.Code`, from `start` to before `stop`."""
    for at in range(start, stop):
        op = rows[at, 0]
        # A number that cannot be below 0 is not asked for it.
        if op >= Op.SECOND:
            first = second = -np.inf
            for place in range(2, 7):
                each = registers[np.uint64(rows[at, place])]
                if each > first:
                    first, second = each, first
                elif each > second:
                    second = each
            registers[np.uint64(rows[at, 1])] = first if op == Op.FIRST else second
        else:
            a, b = registers[np.uint64(rows[at, 2])], registers[np.uint64(rows[at, 3])]
            registers[np.uint64(rows[at, 1])] = _value(op, a, b, registers[np.uint64(rows[at, 4])])


@inlined
def _four(op: int, registers: Floats, into: int, a: int, b: int, c: int) -> None:
    """The operation for all lanes; where it is a constant, in one instruction."""
    # All are read before any is written, so that they are calculated at once.
    first = _value(op, registers[a, 0], registers[b, 0], registers[c, 0])
    second = _value(op, registers[a, 1], registers[b, 1], registers[c, 1])
    third = _value(op, registers[a, 2], registers[b, 2], registers[c, 2])
    fourth = _value(op, registers[a, 3], registers[b, 3], registers[c, 3])
    registers[into, 0], registers[into, 1] = first, second
    registers[into, 2], registers[into, 3] = third, fourth


@part
def run_lanes(rows: CodeRows, registers: Floats, start: int, stop: int) -> None:
    """The same for AT_ONCE inputs side by side, in the time of one; formulas of no more than three inputs."""
    for at in range(start, stop):
        op, into = rows[at, 0], np.uint64(rows[at, 1])
        a, b, c = np.uint64(rows[at, 2]), np.uint64(rows[at, 3]), np.uint64(rows[at, 4])
        # Each operation by itself, since one that is told for all lanes together is done for them together.
        if op == Op.ADD:
            _four(Op.ADD, registers, into, a, b, c)
        elif op == Op.SUB:
            _four(Op.SUB, registers, into, a, b, c)
        elif op == Op.MUL:
            _four(Op.MUL, registers, into, a, b, c)
        elif op == Op.DIV:
            _four(Op.DIV, registers, into, a, b, c)
        elif op == Op.FLOOR_DIV:
            _four(Op.FLOOR_DIV, registers, into, a, b, c)
        elif op == Op.NEG:
            _four(Op.NEG, registers, into, a, b, c)
        elif op == Op.LEAST:
            _four(Op.LEAST, registers, into, a, b, c)
        elif op == Op.LARGEST:
            _four(Op.LARGEST, registers, into, a, b, c)
        elif op == Op.PICK:
            _four(Op.PICK, registers, into, a, b, c)
        elif op == Op.SAME:
            _four(Op.SAME, registers, into, a, b, c)
        elif op == Op.OVER:
            _four(Op.OVER, registers, into, a, b, c)
        elif op == Op.MOD:
            _four(Op.MOD, registers, into, a, b, c)
        elif op == Op.MUL_ADD:
            _four(Op.MUL_ADD, registers, into, a, b, c)
        elif op == Op.ADD_ADD:
            _four(Op.ADD_ADD, registers, into, a, b, c)
        elif op == Op.DIV_MUL:
            _four(Op.DIV_MUL, registers, into, a, b, c)
        elif op == Op.NEG_FLOOR_DIV:
            _four(Op.NEG_FLOOR_DIV, registers, into, a, b, c)
        else:
            _four(Op.DIFFERS, registers, into, a, b, c)
