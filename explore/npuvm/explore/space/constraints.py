"""Constraints: expressions over fields of a chip, as arithmetic and comparisons and nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

__all__ = ["Constraint", "Lookup", "names_of"]

Lookup: TypeAlias = Callable[[str], Any]
"""The value of a dotted name; KeyError for none."""

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, many: item in many,
    ast.NotIn: lambda item, many: item not in many,
}
_CALLS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_LONGEST = 1000
_ALLOWED = "numbers, texts, fields, + - * / // %, comparisons, in, and, or, not, if else, min, max, abs"


class Constraint:
    """An expression that can be asked of any point. ValueError where it is none, saying what is allowed."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise ValueError(f"a constraint of {len(text)} characters; allowed are {_LONGEST}")
        try:
            self._tree = ast.parse(text, mode="eval").body
            self.names: tuple[str, ...] = tuple(dict.fromkeys(names_of(self._tree)))
        except (SyntaxError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else "nested too deeply"
            raise ValueError(f"{text!r} is no expression ({reason}); allowed are {_ALLOWED}") from None

    def holds(self, lookup: Lookup) -> bool:
        """Whether it is true; ValueError where it has no value (a division by 0, a text compared with a number)."""
        try:
            return bool(_value(self._tree, lookup))
        except ZeroDivisionError:
            raise ValueError(f"{self.text!r} has no value: a division by 0") from None
        except TypeError as error:
            raise ValueError(f"{self.text!r} has no value: {error}") from None


def names_of(node: ast.expr) -> list[str]:
    """The dotted names that an expression reads; ValueError for what no constraint may hold."""
    if (dotted := _dotted(node)) is not None:
        return [dotted]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str) and node.value != math.inf:
        return []
    children: list[ast.expr]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        children = [node.left, node.right]
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        children = [node.left, *node.comparators]
    elif isinstance(node, ast.BoolOp):
        children = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        children = [node.operand]
    elif isinstance(node, ast.IfExp):
        children = [node.test, node.body, node.orelse]
    elif isinstance(node, ast.List | ast.Tuple):
        children = node.elts
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS and node.args:
        if node.keywords:
            raise ValueError(f"{ast.unparse(node)!r}: {node.func.id} takes no names of arguments")
        children = node.args
    else:
        raise ValueError(f"{ast.unparse(node)!r} is not allowed; allowed are {_ALLOWED}")
    return [name for child in children for name in names_of(child)]


def _dotted(node: ast.expr) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _value(node: ast.expr, lookup: Lookup) -> Any:
    if (dotted := _dotted(node)) is not None:
        return _exact(lookup(dotted))
    if isinstance(node, ast.Constant):
        return _exact(node.value)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, lookup), _value(node.right, lookup)
        if not (isinstance(left, int | Fraction) and isinstance(right, int | Fraction)):
            raise TypeError(f"{ast.unparse(node)} is no arithmetic of numbers")
        return _BINARY[type(node.op)](Fraction(left) if isinstance(node.op, ast.Div) else left, right)
    if isinstance(node, ast.Compare):
        left = _value(node.left, lookup)
        for op, each in zip(node.ops, node.comparators, strict=True):
            right = _value(each, lookup)
            if not _COMPARE[type(op)](left, right):
                return False
            left = right
        return True
    if isinstance(node, ast.BoolOp):
        wanted = isinstance(node.op, ast.Or)
        return wanted if any(bool(_value(each, lookup)) == wanted for each in node.values) else not wanted
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, lookup)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, lookup) else node.orelse, lookup)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, lookup) for each in node.elts]
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return _CALLS[node.func.id](*(_value(each, lookup) for each in node.args))


def _exact(value: Any) -> Any:
    """A decimal means itself, as in a chip file."""
    return Fraction(str(value)) if isinstance(value, float) else value
