"""The oracle of instructions that have none written by hand: a second reading of their semantics line.

It shares nothing with `npuvm.isa.semantics` but Python's own parser: every operation is calculated in float64 or int64 and
rounded or wrapped to the compute type there and then. What it covers is called derived in the coverage report, for an
error in the line itself shows in no comparison with the line.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

import numpy as np

from npuvm.isa.conformance.oracle import Operands, immediate
from npuvm.isa.conformance.oracle_numbers import Array, converted, rounded, stored
from npuvm.isa.errors import IsaError

__all__ = ["derived_result", "derived_tolerance"]

_BINARY: Mapping[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitOr: lambda a, b: a | b,
    ast.BitXor: lambda a, b: a ^ b,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Array, Array], Array]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_ONE: Mapping[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "floor": np.floor,
    "ceil": np.ceil,
    "rint": np.rint,
    "trunc": np.trunc,
}
_EXTREME: Mapping[str, Callable[[Array, Array], Array]] = {"max": np.maximum, "min": np.minimum}
_AXES = {"last": 1, "first": 0}
_INEXACT = ("exp", "log", "tanh", "erf")


def derived_result(semantics: str, op: Operands, target: str) -> Array:
    """What `dst = expression` gives as stored values of the type `target`.

    Immediates are read in the data type of the instruction. IsaError for an operation that is not known here.
    """
    return converted(_Reading(op).value(_expression(semantics)), target)


def derived_tolerance(semantics: str) -> int:
    """Units of the last place that are free: what each inexact function and each sum may add.

    An error of one place in an argument of a function grows by that argument, which is below 8 where it is not extreme.
    """
    calls = [n for n in ast.walk(_expression(semantics)) if isinstance(n, (ast.Call, ast.BinOp))]
    inexact = sum(isinstance(n, ast.Call) and _name(n) in _INEXACT for n in calls)
    powers = sum(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) for n in calls)
    sums = sum(isinstance(n, ast.Call) and _name(n) == "sum" for n in calls)
    return 8 * (inexact + powers) + 64 * sums


def _expression(semantics: str) -> ast.expr:
    statement = ast.parse(semantics.strip()).body[0]
    assert isinstance(statement, ast.Assign)
    return statement.value


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


class _Reading:
    """One evaluation over the operands of an instruction."""

    def __init__(self, op: Operands) -> None:
        self._op = op

    def value(self, node: ast.expr) -> Array:
        """The value of a node, of the compute type."""
        return _settled(self._of(node))

    def _of(self, node: ast.expr) -> Array:
        if isinstance(node, ast.Name):
            if node.id in self._op.tiles:
                return self._op.value(node.id)
            if node.id in self._op.sizes:
                return np.array(self._op.sizes[node.id])
            return immediate(self._op.plain[node.id], self._op.dtype)
        if isinstance(node, ast.Constant):
            return np.array(node.value, np.float64 if self._op.is_float else None)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)](self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp):
            operand = self.value(node.operand)
            return -operand if isinstance(node.op, ast.USub) else ~operand
        if isinstance(node, ast.Compare):
            return _COMPARE[type(node.ops[0])](self.value(node.left), self.value(node.comparators[0]))
        if isinstance(node, ast.Call):
            return self._call(node)
        raise IsaError(f"the oracle does not know {ast.unparse(node)!r}")

    def _call(self, node: ast.Call) -> Array:
        name, arguments = _name(node), [self.value(argument) for argument in node.args]
        if node.keywords:
            axis = node.keywords[0].value
            assert isinstance(axis, ast.Name)
            return _over(name, arguments[0], _AXES[axis.id])
        if name == "iota":
            return np.arange(int(arguments[0]), dtype=np.float64 if self._op.is_float else np.int64)[None, :]
        if name in _EXTREME:
            found = arguments[0]
            for each in arguments[1:]:
                found = _EXTREME[name](found, each)
            return found
        if name == "where":
            return np.where(arguments[0], arguments[1], arguments[2])
        if name == "isfinite":
            return np.isfinite(arguments[0])
        if name in _ONE:
            return _ONE[name](arguments[0])
        raise IsaError(f"the oracle does not know the function {name}")


def _over(name: str, values: Array, axis: int) -> Array:
    """A reduction, or prefix sums, of one element after the other."""
    if name == "argmax":
        return np.asarray(np.argmax(values, axis=axis, keepdims=True))
    if name in ("sum", "max", "min"):
        reduce = {"sum": np.add, "max": np.maximum, "min": np.minimum}[name].reduce
        return np.asarray(reduce(values, axis=axis, keepdims=True))
    if name not in ("prod", "cumsum"):
        raise IsaError(f"the oracle does not know {name} over an axis")
    slices = list(np.moveaxis(values, axis, 0))
    found = slices[:1]
    for each in slices[1:]:
        found.append(_settled(found[-1] * each if name == "prod" else found[-1] + each))
    return np.moveaxis(np.stack(found if name == "cumsum" else found[-1:]), 0, axis)


def _settled(values: Array) -> Array:
    """Rounded or wrapped to the compute type."""
    if values.dtype.kind == "f":
        return rounded(values, "fp32")
    return values if values.dtype.kind == "b" else stored(values, "int32").astype(np.int64)
