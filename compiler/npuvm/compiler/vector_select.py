"""Instruction selection of the vector unit: operations of the graph to instructions, by their semantics in the ISA."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa import Isa

from .errors import CompileError
from .types import DTYPES

__all__ = ["Selector", "immediate_bits"]

_UNARY = {
    "neg": "-a",
    "abs": "abs(a)",
    "exp": "exp(a)",
    "log": "log(a)",
    "sqrt": "sqrt(a)",
    "rsqrt": "1 / sqrt(a)",
    "reciprocal": "1 / a",
    "relu": "max(a, 0)",
    "floor": "floor(a)",
    "ceil": "ceil(a)",
    "rint": "rint(a)",
    "trunc": "trunc(a)",
    "logical_not": "~a",
    "isfinite": "isfinite(a)",
}
_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "and": "&", "or": "|", "xor": "^",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
_CALLS = {"max": "max", "min": "min"}
_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_COMMUTATIVE = frozenset(("add", "mul", "max", "min", "and", "or", "xor", "eq", "ne"))
_REDUCES = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min"}


@dataclass(frozen=True)
class Selector:
    """Names of vector instructions of an ISA. Methods raise CompileError when no instruction does what is asked."""

    isa: Isa

    def unary(self, op: str, dtype: str) -> str:
        """dst = op(a)."""
        return self._need(_UNARY[op], dtype, op)

    def binary(self, op: str, dtype: str) -> str:
        """dst = a op b."""
        return self._need(_expression(op, "a", "b"), dtype, op)

    def with_immediate(self, op: str, dtype: str, *, left: bool) -> tuple[str, bool] | None:
        """The instruction with the scalar as its immediate, and whether the scalar is negated; None when there is none.

        `left`: the scalar is the left operand.
        """
        if left and op in _COMMUTATIVE:
            left = False
        if left and op in _MIRRORED:
            op, left = _MIRRORED[op], False
        if op == "sub" and not left:
            found = self._find("a + imm", dtype)
            return None if found is None else (found, True)
        found = self._find(_expression(op, *(("imm", "a") if left else ("a", "imm"))), dtype)
        return None if found is None else (found, False)

    def reduce(self, op: str, dtype: str, axis: str) -> str:
        """dst = reduction of the rows (axis "last") or of the columns ("first")."""
        return self._need(f"{_REDUCES[op]}(a, axis={axis})", dtype, op)

    def named(self, name: str, dtype: str) -> str:
        """An instruction that is known by its name (vmov, vbrc, vdup, vsel), if it takes the dtype."""
        instruction = self.isa.instructions.get(name)
        if instruction is None or dtype not in [pair[0] for pair in instruction.dtypes]:
            raise CompileError(f"the instruction set has no {name} of {dtype}")
        return name

    def _need(self, expression: str, dtype: str, op: str) -> str:
        found = self._find(expression, dtype)
        if found is None:
            raise CompileError(f"the instruction set has no instruction 'dst = {expression}' of {dtype} for {op}")
        return found

    def _find(self, expression: str, dtype: str) -> str | None:
        return _table(self.isa).get((expression, dtype))


def immediate_bits(value: float | int | bool, dtype: str) -> int:
    """The 32-bit pattern of an immediate: fp32 for float dtypes (rounded to the dtype first), two's complement, or 0 and 1."""
    info = DTYPES[dtype]
    if info.kind == "float":
        with np.errstate(over="ignore"):
            rounded = float(np.asarray(value).astype(info.numpy).astype(np.float32))
        bits: int = struct.unpack("<I", struct.pack("<f", rounded))[0]
        return bits
    return int(value) & 0xFFFFFFFF


def _expression(op: str, a: str, b: str) -> str:
    return f"{_CALLS[op]}({a}, {b})" if op in _CALLS else f"{a} {_INFIX[op]} {b}"


_TABLES: dict[str, Mapping[tuple[str, str], str]] = {}


def _table(isa: Isa) -> Mapping[tuple[str, str], str]:
    """(expression, dtype) -> name of the first vector instruction that does it."""
    table = _TABLES.get(isa.hash)
    if table is None:
        found: dict[tuple[str, str], str] = {}
        for instruction in isa.instructions.values():
            if instruction.unit == "vector" and instruction.semantics and instruction.dtype2_bits is None:
                text = instruction.semantics.removeprefix("dst = ")
                for dtype, _ in instruction.dtypes:
                    found.setdefault((text, dtype), instruction.name)
        table = _TABLES[isa.hash] = found
    return table
