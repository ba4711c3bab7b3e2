"""Rewrites a graph into operations that the vector and cube units have.

* tanh, sigmoid, silu, gelu, softplus become exp-based forms that neither overflow to NaN nor cancel for large |x|; fp16 and
  bf16 inputs are computed in fp32 and rounded once. Their error in fp32 is a few units of 1e-7 absolute.
* erf is approximation 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions, |error| <= 1.5e-7.
* Casts that the unit has no pair for go through fp32 or int32; select of bool becomes logic, select of int8 and fp8 goes
  through fp16.
* mean becomes a sum in fp32 and a division. A reduce keeps its dims (a reshape drops them) and has one run of adjacent axes.
* A reshape of a computed value moves behind the element-wise operations that follow, towards the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from npuvm.compiler.graph.ir import Graph, NamedOp, Node
from npuvm.compiler.graph.ops import BINARY, UNARY
from npuvm.compiler.graph.rewrite import Rewriter, is_scalar
from npuvm.compiler.graph.types import DTYPES, Dim
from npuvm.compiler.selection.legalize_along import ALONG_FORMS

__all__ = ["CastPairs", "legalize"]

CastPairs = Collection[tuple[str, str]]
"""(from, to) pairs that one vector instruction casts."""

_ERF_P = 0.3275911
_ERF_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_SQRT_2_OVER_PI = 0.7978845608028654
_SQRT_HALF = 0.7071067811865476

_ELEMENTWISE = frozenset((*UNARY, *BINARY, "cast", "select"))


def legalize(graph: Graph, casts: CastPairs, *, wide_sums: bool = False, wide: Collection[str] = frozenset()) -> Graph:
    """An equivalent graph of primitive operations, without what no output needs.

    `wide_sums` makes every fp16 and bf16 sum or product an fp32 one, for rows that are summed up in pieces; without it those
    of the operators `wide`, by their sources, are.
    """
    return _Legalizer(graph, casts, wide_sums, wide).run()


class _Legalizer:
    def __init__(self, graph: Graph, casts: CastPairs, wide_sums: bool, wide: Collection[str]) -> None:
        self._source = graph
        self._casts = casts
        self._all_wide, self._wide = wide_sums, wide
        self._wide_sums = wide_sums
        self._r = Rewriter(graph)
        self._users = _users(graph)
        self._rules: Mapping[str, Callable[[Node, list[Node]], Node]] = {
            **dict.fromkeys(_IN_FP32, self._in_fp32),
            "sign": self._sign,
            "cast": self._cast,
            "select": self._select,
            "mean": self._mean,
            **dict.fromkeys(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"), self._reduce),
            **dict.fromkeys(ALONG_FORMS, self._along),
        }

    def run(self) -> Graph:
        needed = _needed(self._source)
        values: dict[int, Node] = {}
        for node in self._source.nodes:
            if node.id in needed:
                rule = self._rules.get(node.op, self._plain)
                # What an operation becomes is one operator, of its line.
                self._r.where = node.where
                self._r.graph.source = source = node.source or f"%{node.id}"
                self._wide_sums = self._all_wide or source in self._wide
                values[node.id] = rule(node, [values[each.id] for each in node.inputs])
        return self._pruned()

    def _pruned(self) -> Graph:
        """The result without nodes that folding and merging left behind."""
        graph = self._r.graph
        needed = _needed(graph)
        fresh = Rewriter(graph)
        values: dict[int, Node] = {}
        for node in graph.nodes:
            if node.id in needed:
                fresh.graph.source = node.source
                values[node.id] = fresh.graph.add(
                    node.op, [values[each.id] for each in node.inputs], node.where, **node.attrs
                )
        for number, named in graph.named.items():
            if number in values and named.input.id in values:
                fresh.graph.named[values[number].id] = replace(named, input=values[named.input.id])
        return fresh.graph

    def _plain(self, node: Node, inputs: list[Node]) -> Node:
        return self._r.add(node.op, *inputs, where=node.where, **node.attrs)

    def _in_fp32(self, node: Node, inputs: list[Node]) -> Node:
        form = _IN_FP32[node.op]
        x = inputs[0]
        wide = self._r.cast(x, "fp32")
        result = self._r.cast(form(self._r, wide, node), x.type.dtype)
        self._name(node, x, result)
        return result

    def _along(self, node: Node, inputs: list[Node]) -> Node:
        return ALONG_FORMS[node.op](self._r, node, inputs, not self._wide_sums)

    def _name(self, node: Node, x: Node, result: Node) -> None:
        """Note what the expansion stands for; views have moved behind it."""
        while result.op == "reshape":
            result = result.inputs[0]
        while x.op == "reshape" and x.type != result.type:
            x = x.inputs[0]
        if x.type == result.type:
            named = NamedOp(node.op, str(node.attrs.get("approximate", "")), x)
            self._r.graph.named.setdefault(result.id, named)

    def _sign(self, node: Node, inputs: list[Node]) -> Node:
        """1, -1, or x itself for zeros and NaN."""
        r, x, dtype = self._r, inputs[0], node.type.dtype
        one, minus, zero = (r.const(_as(dtype, value), dtype) for value in (1, -1, 0))
        return r.add("select", r.add("gt", x, zero), one, r.add("select", r.add("lt", x, zero), minus, x))

    def _cast(self, node: Node, inputs: list[Node]) -> Node:
        source, target = inputs[0].type.dtype, node.type.dtype
        if source == target or (source, target) in self._casts or inputs[0].op == "const":
            return self._plain(node, inputs)
        for through in ("fp32", "int32", "fp16"):
            if (source, through) in self._casts and (through, target) in self._casts:
                return self._r.cast(self._r.cast(inputs[0], through), target)
        return self._plain(node, inputs)

    def _select(self, node: Node, inputs: list[Node]) -> Node:
        r = self._r
        condition, a, b = inputs
        if node.type.dtype == "bool":
            return r.add("or", r.add("and", condition, a), r.add("and", r.add("logical_not", condition), b))
        if node.type.info.item_bytes == 1:
            return r.cast(r.add("select", condition, r.cast(a, "fp16"), r.cast(b, "fp16")), node.type.dtype)
        return r.add("select", *inputs, where=node.where)

    def _mean(self, node: Node, inputs: list[Node]) -> Node:
        r, x = self._r, inputs[0]
        count = tuple(x.type.shape[axis] for axis in node.axes())
        total = self._reduced("reduce_sum", r.cast(x, "fp32"), self._runs(node, x))
        mean = r.cast(r.add("div", total, r.add("size", dtype="fp32", dims=count)), x.type.dtype)
        return r.reshape(mean, node.type.shape)

    def _reduce(self, node: Node, inputs: list[Node]) -> Node:
        r, x = self._r, inputs[0]
        runs = self._runs(node, x)
        narrow = node.op in ("reduce_sum", "reduce_prod") and DTYPES[x.type.dtype].low_precision
        pieces = len(runs) > 1 or any(len(run) > 1 or not _trailing(x.type.shape, run) for run in runs)
        if narrow and (self._wide_sums or pieces):
            total = r.cast(self._reduced(node.op, r.cast(x, "fp32"), runs), x.type.dtype)
        else:
            total = self._reduced(node.op, x, runs)
        return r.reshape(total, node.type.shape)

    def _runs(self, node: Node, x: Node) -> list[tuple[int, ...]]:
        """The axes of a reduce of `x` in runs: all of them in one where `x` comes from memory without gaps."""
        return _runs(x.type.shape, node.axes(), apart=not self._in_one_piece(node))

    def _in_one_piece(self, reduce: Node) -> bool:
        """Whether all that a reduce is of are tensors of one shape and what is computed of their elements, for nothing else."""
        shape, found, stack = reduce.inputs[0].type.shape, {reduce.id}, [reduce.inputs[0]]
        while stack:
            node = stack.pop()
            if is_scalar(node) or node.id in found:
                continue
            if node.type.shape != shape or node.op not in (*_ELEMENTWISE, "load"):
                return False
            found.add(node.id)
            stack += node.inputs
        return all(self._users[number] <= found for number in found - {reduce.id})

    def _reduced(self, op: str, x: Node, runs: list[tuple[int, ...]]) -> Node:
        """The reduce with its dims kept, one run of adjacent axes after the other, the last run first."""
        for run in reversed(runs):
            x = self._r.add(op, x, axes=run, keepdims=True)
        return x


def _users(graph: Graph) -> Mapping[int, set[int]]:
    """By the id of a node, those of the needed ones that read it."""
    needed, users = _needed(graph), defaultdict[int, set[int]](set)
    for node in graph.nodes:
        if node.id in needed:
            for each in node.inputs:
                users[each.id].add(node.id)
    return users


def _needed(graph: Graph) -> set[int]:
    needed: set[int] = set()
    for node in reversed(graph.nodes):
        if node.op == "store" or node.id in needed:
            needed.add(node.id)
            needed.update(each.id for each in node.inputs)
    return needed


def _as(dtype: str, value: int) -> int | float:
    return float(value) if DTYPES[dtype].kind == "float" else value


def _runs(shape: tuple[Dim, ...], axes: tuple[int, ...], *, apart: bool) -> list[tuple[int, ...]]:
    """Axes in runs of neighbours, which are reduced one run after the other, the last first.

    Literal ones are no work: they are left out, and do not part neighbours. When nothing stays and with `apart` the last axis
    is a run of its own, so that its rows are reduced on many cores before their results are.
    """
    runs: list[list[int]] = []
    for axis in axes:
        if shape[axis] == 1:
            continue
        if runs and all(shape[between] == 1 for between in range(runs[-1][-1] + 1, axis)):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    nothing_stays = all(dim == 1 or axis in axes for axis, dim in enumerate(shape))
    if apart and nothing_stays and len(runs) == 1 and len(runs[0]) > 1:
        runs = [runs[0][:-1], runs[0][-1:]]
    return [tuple(run) for run in runs]


def _trailing(shape: tuple[Dim, ...], run: tuple[int, ...]) -> bool:
    return all(dim == 1 for dim in shape[run[-1] + 1 :])


def _one_over_one_plus_exp(r: Rewriter, x: Node, numerator: Node) -> Node:
    """numerator / (1 + exp(-x)); exp overflows to infinity for very negative x, which gives 0."""
    return r.add("div", numerator, r.add("add", r.add("exp", r.add("neg", x)), r.const(1.0, "fp32")))


def _sigmoid(r: Rewriter, x: Node, node: Node) -> Node:
    return _one_over_one_plus_exp(r, x, r.const(1.0, "fp32"))


def _silu(r: Rewriter, x: Node, node: Node) -> Node:
    return _one_over_one_plus_exp(r, x, x)


def _tanh(r: Rewriter, x: Node, node: Node) -> Node:
    """2 * sigmoid(2 x) - 1."""
    doubled = _one_over_one_plus_exp(r, r.add("mul", x, r.const(2.0, "fp32")), r.const(2.0, "fp32"))
    return r.add("sub", doubled, r.const(1.0, "fp32"))


def _softplus(r: Rewriter, x: Node, node: Node) -> Node:
    """max(x, 0) + log(1 + exp(-|x|))."""
    small = r.add("exp", r.add("neg", r.add("abs", x)))
    return r.add("add", r.add("relu", x), r.add("log", r.add("add", small, r.const(1.0, "fp32"))))


def _erfc_positive(r: Rewriter, z_times_p: Node, minus_z_squared: Node, scale: float = 1.0) -> Node:
    """scale * erfc(z) for z >= 0: a polynomial in t = 1 / (1 + p z) times exp(-z^2)."""
    t = r.add("reciprocal", r.add("add", z_times_p, r.const(1.0, "fp32")))
    poly = r.add("mul", t, r.const(scale * _ERF_A[-1], "fp32"))
    for a in reversed(_ERF_A[:-1]):
        poly = r.add("mul", r.add("add", poly, r.const(scale * a, "fp32")), t)
    return r.add("mul", poly, r.add("exp", minus_z_squared))


def _erf(r: Rewriter, x: Node, node: Node) -> Node:
    z_times_p = r.add("mul", r.add("abs", x), r.const(_ERF_P, "fp32"))
    tail = _erfc_positive(r, z_times_p, r.add("neg", r.add("mul", x, x)))
    magnitude = r.add("sub", r.const(1.0, "fp32"), tail)
    return r.add("select", r.add("lt", x, r.const(0.0, "fp32")), r.add("neg", magnitude), magnitude)


def _gelu(r: Rewriter, x: Node, node: Node) -> Node:
    """x times the normal distribution function: by erfc of |x|, so that nothing cancels for negative x; or by tanh."""
    square = r.add("mul", x, x)
    if node.attrs["approximate"] == "tanh":
        cube = r.add("mul", r.add("mul", square, x), r.const(0.044715, "fp32"))
        inner = r.add("mul", r.add("add", x, cube), r.const(2 * _SQRT_2_OVER_PI, "fp32"))
        return _one_over_one_plus_exp(r, inner, x)
    z_times_p = r.add("mul", r.add("abs", x), r.const(_ERF_P * _SQRT_HALF, "fp32"))
    tail = _erfc_positive(r, z_times_p, r.add("mul", square, r.const(-0.5, "fp32")), 0.5)
    body = r.add("sub", r.const(1.0, "fp32"), tail)
    return r.add("mul", x, r.add("select", r.add("lt", x, r.const(0.0, "fp32")), tail, body))


_IN_FP32: Mapping[str, Callable[[Rewriter, Node, Node], Node]] = {
    "sigmoid": _sigmoid,
    "silu": _silu,
    "tanh": _tanh,
    "softplus": _softplus,
    "erf": _erf,
    "gelu": _gelu,
}
