"""The language in which an instruction says what it computes: one assignment in a checked subset of Python expressions.

    dst = max(a, b)        dst = sum(a, axis=last)        dst = a * imm + 1

Names are operands of the instruction; constants are decimal integers and floats. Operators are `+ - * / ** & | ^ ~` and one
comparison at a time; functions are those of `FUNCTIONS`. `sum`, `prod`, `max`, `min` and `argmax` of one operand with
`axis=last` or `axis=first` reduce and keep the axis with extent 1; `cumsum` with an axis gives its prefix sums. `iota(n)` is a
row 0, 1, ... n - 1. The name of a size operand is its value.

Values are numpy arrays of one compute type (fp32, int32 or bool). Sums and products stay in that type, int32 wraps, a
comparison gives bool, `max` and `min` let NaN win, `argmax` gives the int32 index of the first maximum, where NaN is the
largest. Transcendental functions are evaluated in double and rounded once to the compute type, so that results do not depend
on the vector extensions of the machine that simulates.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.isa.errors import IsaError

__all__ = ["FUNCTIONS", "Semantics", "parse_semantics", "primitives"]

Array: TypeAlias = NDArray[Any]

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "pow",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
}
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "neg", ast.Invert: "not"}
_COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)

_ARITY: dict[str, tuple[int, int]] = {
    "max": (2, 8),
    "min": (2, 8),
    "abs": (1, 1),
    "exp": (1, 1),
    "log": (1, 1),
    "sqrt": (1, 1),
    "floor": (1, 1),
    "ceil": (1, 1),
    "rint": (1, 1),
    "trunc": (1, 1),
    "isfinite": (1, 1),
    "where": (3, 3),
    "tanh": (1, 1),
    "erf": (1, 1),
    "ceil_div": (2, 2),
    "iota": (1, 1),
}
_REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "cumsum")
_AXES = {"last": -1, "first": 0}

FUNCTIONS: tuple[str, ...] = tuple(sorted({*_ARITY, *_REDUCTIONS}))
"""Names that may be called in an expression."""


@dataclass(frozen=True)
class Semantics:
    """A checked semantics line.

    `target` is the operand written, `names` the operands read in the order of their first appearance, `primitives` the
    primitive operations of the expression in evaluation order ("copy" when there is none), which price an instruction
    without a timing class. `evaluate` takes the operands of `names` in that order.
    """

    text: str
    target: str
    names: tuple[str, ...]
    primitives: tuple[str, ...]
    evaluate: Callable[..., Any]


@lru_cache(maxsize=4096)
def _parse(text: str, operands: tuple[str, ...], where: str | None) -> Semantics:
    try:
        module = ast.parse(text.strip(), mode="exec")
    except (SyntaxError, ValueError) as exc:
        reason = exc.msg if isinstance(exc, SyntaxError) else str(exc)
        raise IsaError(f"semantics {text!r} is no expression: {reason}", where) from None
    statement = module.body[0] if len(module.body) == 1 else None
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise IsaError(f"semantics {text!r} must be one assignment, like 'dst = a + b'", where)
    checker = _Checker(text, operands, where)
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        checker.fail(target, "only an operand can be assigned to")
    checker.name(target)
    checker.visit(statement.value)
    names = tuple(dict.fromkeys(checker.names))
    code = _compile(checker.rewrite(statement.value), names)
    return Semantics(text, target.id, names, tuple(checker.primitives) or ("copy",), code)


def parse_semantics(text: str, operands: Collection[str], where: str | None = None) -> Semantics:
    """Check and compile `target = expression` over the names in `operands`; the result is cached.

    IsaError names the part of the expression that is not allowed and what is; `where` is the place of the stanza.
    """
    return _parse(text, tuple(operands), where)


def primitives(text: str, operands: Collection[str]) -> tuple[str, ...]:
    """The primitive operations of a semantics line, see `Semantics.primitives`."""
    return parse_semantics(text, operands).primitives


class _Checker:
    """Walks an expression: refuses what is not in the language, collects names and primitives."""

    def __init__(self, text: str, operands: Sequence[str], where: str | None) -> None:
        self._text = text
        self._operands = operands
        self._where = where
        self.names: list[str] = []
        self.primitives: list[str] = []

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        part = ast.get_source_segment(self._text.strip(), node) or type(node).__name__
        raise IsaError(f"semantics {self._text!r}: {part!r}: {message}", self._where)

    def name(self, node: ast.Name) -> None:
        if node.id not in self._operands:
            self.fail(node, f"no such operand; there are: {', '.join(self._operands)}")

    def visit(self, node: ast.expr) -> None:
        """Check a node and, before it, its arguments, so that primitives stand in evaluation order."""
        if isinstance(node, ast.Name):
            self.name(node)
            self.names.append(node.id)
        elif isinstance(node, ast.Constant):
            if type(node.value) not in (int, float):
                self.fail(node, "constants are integers or floats")
        elif isinstance(node, ast.BinOp):
            self._operator(node, _BINARY.get(type(node.op)), (node.left, node.right))
        elif isinstance(node, ast.UnaryOp):
            self._operator(node, _UNARY.get(type(node.op)), (node.operand,))
        elif isinstance(node, ast.Compare):
            self._comparison(node)
        elif isinstance(node, ast.Call):
            self._call(node)
        else:
            self.fail(node, f"{type(node).__name__} is not in the language")

    def _operator(self, node: ast.expr, primitive: str | None, arguments: Sequence[ast.expr]) -> None:
        if primitive is None:
            self.fail(node, "this operator is not in the language; allowed: + - * / ** & | ^ ~ and comparisons")
        for argument in arguments:
            self.visit(argument)
        self.primitives.append(primitive)

    def _comparison(self, node: ast.Compare) -> None:
        if len(node.ops) != 1 or not isinstance(node.ops[0], _COMPARE):
            self.fail(node, "one comparison at a time, of == != < <= > >=")
        self.visit(node.left)
        self.visit(node.comparators[0])
        self.primitives.append("compare")

    def _call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            self.fail(node.func, f"no such function; there are: {', '.join(FUNCTIONS)}")
        name = node.func.id
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            self.fail(node, "arguments cannot be unpacked")
        for argument in node.args:
            self.visit(argument)
        if node.keywords or name not in _ARITY:
            self.primitives.append(self._reduction(node, name))
            return
        low, high = _ARITY[name]
        if not low <= len(node.args) <= high:
            self.fail(node, f"{name} takes {low if low == high else f'{low} to {high}'} arguments")
        self.primitives.extend([name] * (len(node.args) - 1 if name in ("max", "min") else 1))

    def _reduction(self, node: ast.Call, name: str) -> str:
        keyword = node.keywords[0] if len(node.keywords) == 1 else None
        axis = keyword.value.id if keyword and isinstance(keyword.value, ast.Name) else None
        if name not in _REDUCTIONS or keyword is None or keyword.arg != "axis" or axis not in _AXES:
            known = f"{', '.join(_REDUCTIONS[:-1])} or {_REDUCTIONS[-1]}"
            self.fail(node, f"a reduction is {known} of one value with axis=last or axis=first")
        if len(node.args) != 1:
            self.fail(node, "a reduction takes one value")
        return f"{name}_{axis}"

    def rewrite(self, node: ast.expr) -> ast.expr:
        """The expression with every operation that numpy would do differently replaced by a call of this module."""
        rewritten: ast.expr = _Rewriter().visit(node)
        return rewritten


class _Rewriter(ast.NodeTransformer):
    """Turns a checked expression into one over the helpers of `_SCOPE`."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, (ast.Pow, ast.Div)):
            return _call_of("_pow" if isinstance(node.op, ast.Pow) else "_div", [node.left, node.right])
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if node.keywords:
            axis = node.keywords[0].value
            assert isinstance(axis, ast.Name)
            return _call_of(f"_{name}_axis", [*node.args, ast.Constant(_AXES[axis.id])])
        return _call_of(f"_{name}", node.args)


def _call_of(name: str, arguments: list[ast.expr]) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])


def _compile(body: ast.expr, names: tuple[str, ...]) -> Callable[..., Any]:
    parameters = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
    expression = ast.fix_missing_locations(ast.Expression(ast.Lambda(parameters, body)))
    # The tree holds only nodes that the checker let through, and the scope only the helpers below.
    function: Callable[..., Any] = eval(compile(expression, "<semantics>", "eval"), _SCOPE)
    return function


def _in_double(function: Callable[[Array], Array]) -> Callable[[Any], Any]:
    def rounded(value: Any) -> Any:
        array = np.asarray(value)
        kept = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        return function(array.astype(np.float64)).astype(kept)

    return rounded


def _pow(base: Any, exponent: Any) -> Any:
    kind = np.result_type(base, exponent)
    if kind.kind != "f":
        return _integer_pow(np.asarray(base, kind), np.asarray(exponent, kind))
    return np.power(np.asarray(base, np.float64), np.asarray(exponent, np.float64)).astype(kind)


def _integer_pow(base: Array, exponent: Array) -> Array:
    """Wrapping power; a negative exponent gives the power's integer part, 0 for a base of 0."""
    magnitude = np.power(base, np.abs(exponent))
    unit = np.abs(base) == 1
    return np.where(exponent >= 0, magnitude, np.where(unit, magnitude, np.zeros_like(base)))


def _div(left: Any, right: Any) -> Any:
    kind = np.result_type(left, right)
    if kind.kind == "f":
        return np.true_divide(left, right)
    return np.true_divide(np.asarray(left, np.float64), np.asarray(right, np.float64))


def _extreme(function: np.ufunc) -> Callable[..., Any]:
    def of(*values: Any) -> Any:
        result = values[0]
        for value in values[1:]:
            result = function(result, value)
        return result

    return of


def _reduce(function: np.ufunc) -> Callable[[Any, int], Any]:
    def of(value: Any, axis: int) -> Any:
        array = np.asarray(value)
        # The type is named because numpy would widen a sum of integers.
        return function.reduce(array, axis=axis, keepdims=True, dtype=array.dtype)

    return of


def _prod(value: Any, axis: int) -> Any:
    """One factor after the other: how a reduction of numpy groups them may depend on the machine."""
    array = np.asarray(value)
    return np.multiply.accumulate(array, axis=axis, dtype=array.dtype).take([-1], axis)


def _argmax(value: Any, axis: int) -> Any:
    return np.argmax(value, axis=axis, keepdims=True).astype(np.int32)


def _cumsum(value: Any, axis: int) -> Any:
    array = np.asarray(value)
    return np.add.accumulate(array, axis=axis, dtype=array.dtype)


def _iota(count: Any) -> Any:
    kind = np.asarray(count).dtype
    return np.arange(int(np.asarray(count).item()), dtype=kind)[None, :]


def _ceil_div(left: Any, right: Any) -> Any:
    return -(-left // right)


_ERF_T = (
    9.60497373987051638749,
    90.0260197203842689217,
    2232.00534594684319226,
    7003.32514112805075473,
    55592.3013010394962768,
)
_ERF_U = (
    1.0,
    33.5617141647503099647,
    521.357949780152679795,
    4594.32382970980127987,
    22629.0000613890934246,
    49267.3942608635921086,
)
_ERF_P = (
    2.46196981473530512524e-10,
    0.564189564831068821977,
    7.46321056442269912687,
    48.6371970985681366614,
    196.520832956077098242,
    526.445194995477358631,
    934.528527171957607540,
    1027.55188689515710272,
    557.535335369399327526,
)
_ERF_Q = (
    1.0,
    13.2281951154744992508,
    86.7072140885989742329,
    354.937778887819891062,
    975.708501743205489753,
    1823.90916687909736289,
    2246.33760818710981792,
    1656.66309194161350182,
    557.535340817727675546,
)


def _erf_double(x: Array) -> Array:
    """erf of doubles by the rational forms of Moshier's Cephes library (below and above 1), good to about 1e-15."""
    inner = np.clip(x, -1.0, 1.0)
    square = inner * inner
    small = inner * np.polyval(_ERF_T, square) / np.polyval(_ERF_U, square)
    size = np.clip(np.abs(x), 1.0, 6.0)  # from 6 on erf is 1 in double
    large = 1.0 - np.exp(-size * size) * np.polyval(_ERF_P, size) / np.polyval(_ERF_Q, size)
    result = np.where(np.abs(x) < 1.0, small, np.copysign(large, x))
    return np.where(np.isnan(x), x, result)


_SCOPE: dict[str, Any] = {
    "__builtins__": {},
    "_pow": _pow,
    "_div": _div,
    "_max": _extreme(np.maximum),
    "_min": _extreme(np.minimum),
    "_sum_axis": _reduce(np.add),
    "_max_axis": _reduce(np.maximum),
    "_min_axis": _reduce(np.minimum),
    "_prod_axis": _prod,
    "_argmax_axis": _argmax,
    "_cumsum_axis": _cumsum,
    "_iota": _iota,
    "_abs": np.abs,
    "_exp": _in_double(np.exp),
    "_log": _in_double(np.log),
    "_sqrt": _in_double(np.sqrt),
    "_tanh": _in_double(np.tanh),
    "_erf": _in_double(_erf_double),
    "_floor": np.floor,
    "_ceil": np.ceil,
    "_rint": np.rint,
    "_trunc": np.trunc,
    "_isfinite": np.isfinite,
    "_where": np.where,
    "_ceil_div": _ceil_div,
}
