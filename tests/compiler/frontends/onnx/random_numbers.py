"""Operators of random models that compute numbers: each function adds one to values that fit it.

Operators that jump (comparisons, rounding, sorting) take exact values alone, so that any order of sums gives their results.
"""

from __future__ import annotations

from onnx import TensorProto
from tests.compiler.frontends.onnx.random_models import INEXACT, PROBES, Maker, Size, Skip, Val

__all__ = [
    "ONE",
    "arg",
    "axis_of",
    "binary",
    "broadcast",
    "cast",
    "clip",
    "compare",
    "cumsum",
    "fits_with",
    "gemm",
    "guarded_unary",
    "is_float",
    "logic",
    "matmul",
    "normalise",
    "number_of",
    "reduce",
    "same_size",
    "signed",
    "topk",
    "unary",
    "where",
]

_MOST_BITS = 18


def same_size(number: int) -> Size:
    return (number,) * PROBES


ONE = same_size(1)


def is_float(value: Val) -> bool:
    return value.dtype == "float32"


def number_of(size: Size) -> int | None:
    return size[0] if len(set(size)) == 1 else None


def _kept(bits: int) -> int:
    return bits if bits <= _MOST_BITS else INEXACT


def axis_of(m: Maker, value: Val, least: int = 1) -> int:
    """An axis whose size is at least a number at all probes."""
    found = [axis for axis, size in enumerate(value.shape) if min(size) >= least]
    if not found:
        raise Skip("no axis")
    return m.rng.choice(found)


def signed(m: Maker, axis: int, rank: int) -> int:
    return axis - rank if m.rng.random() < 0.4 else axis


def broadcast(a: Val, b: Val) -> tuple[Size, ...]:
    rank = max(a.rank, b.rank)
    sides = [(ONE,) * (rank - each.rank) + each.shape for each in (a, b)]
    shape = []
    for left, right in zip(*sides, strict=True):
        if left != right and ONE not in (left, right):
            raise Skip("no broadcast")
        shape.append(right if left == ONE else left)
    return tuple(shape)


def fits_with(a: Val, b: Val) -> bool:
    try:
        broadcast(a, b)
    except Skip:
        return False
    return True


def _partner(m: Maker, x: Val) -> Val:
    """A value of the same dtype that broadcasts with x: another, a constant, or a new input."""
    choice = m.rng.random()
    if choice < 0.45:
        return m.pick(lambda each: each.dtype == x.dtype and fits_with(x, each))
    if choice < 0.7 and x.dtype == "float32":
        dims = [m.rng.choice((1, number_of(size) or 1)) for size in x.shape[m.rng.randint(0, x.rank) :]]
        return Val(m.weight(*dims), "float32", tuple(map(same_size, dims)), 3)
    if len(m.inputs) > 6:
        raise Skip("inputs enough")
    shape = [ONE if m.rng.random() < 0.25 else size for size in x.shape[m.rng.choice((0, 0, x.rank // 2)) :]]
    return m.input(shape, x.dtype, -8 if x.dtype != "bool" else 0, 8 if x.dtype != "bool" else 1)


# Elementwise.

_SMOOTH = (
    "Tanh",
    "Sigmoid",
    "Erf",
    "Softsign",
    "Elu",
    "Selu",
    "Softplus",
    "Sin",
    "Cos",
    "HardSwish",
    "Mish",
    "LeakyRelu",
)
_EXACT = {"Relu": 0, "Neg": 0, "Abs": 0, "Identity": 0}
_JUMPING = ("Floor", "Ceil", "Round", "Sign")


def unary(m: Maker) -> Val:
    x = m.pick(is_float)
    kind = m.rng.random()
    if kind < 0.45:
        op = m.rng.choice(list(_EXACT))
        return m.node(op, [x], x.dtype, x.shape, x.bits)
    if kind < 0.55 and x.exact:
        return m.node(m.rng.choice(_JUMPING), [x], x.dtype, x.shape, x.bits)
    return m.node(m.rng.choice(_SMOOTH), [x], x.dtype, x.shape)


def guarded_unary(m: Maker) -> Val:
    """Functions whose argument must be kept in a range first."""
    x = m.pick(is_float)
    op = m.rng.choice(("Exp", "Sqrt", "Log", "Reciprocal", "Div"))
    if op == "Exp":
        return m.node(op, [m.node("Tanh", [x], x.dtype, x.shape)], x.dtype, x.shape)
    safe = m.node("Add", [m.node("Abs", [x], x.dtype, x.shape), m.const(0.5)], x.dtype, x.shape)
    if op == "Div":
        return m.node(op, [x, safe], x.dtype, x.shape)
    return m.node(op, [safe], x.dtype, x.shape)


def clip(m: Maker) -> Val:
    x = m.pick(lambda each: each.dtype in ("float32", "int64", "int32"))
    ends = [m.const(-1.5 if is_float(x) else -3, x.dtype), m.const(2.5 if is_float(x) else 4, x.dtype)]
    ends[m.rng.randrange(2)] = m.rng.choice((ends[0], ""))
    return m.node("Clip", [x, *ends] if ends[0] else [x, "", m.const(2, x.dtype)], x.dtype, x.shape, x.bits)


def binary(m: Maker) -> Val:
    x = m.pick(lambda each: each.dtype in ("float32", "int64", "int32"))
    y = x if m.rng.random() < 0.1 else _partner(m, x)
    if m.rng.random() < 0.5:
        x, y = y, x
    shape = broadcast(x, y)
    op = m.rng.choice(("Add", "Add", "Mul", "Sub", "Max", "Min"))
    bits = x.bits + y.bits if op == "Mul" else max(x.bits, y.bits) + (op in ("Add", "Sub"))
    if op == "Mul" and not (x.exact and y.exact) and is_float(x):
        y = m.node("Tanh", [y], y.dtype, y.shape)
    if not is_float(x) and bits > 24:
        raise Skip("too large")
    return m.node(op, [x, y], x.dtype, shape, _kept(bits))


def compare(m: Maker) -> Val:
    x = m.pick(lambda each: each.exact and each.dtype != "bool" and each.dtype != "float16")
    y = _partner(m, x)
    if not y.exact:
        raise Skip("not exact")
    op = m.rng.choice(("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"))
    return m.node(op, [x, y], "bool", broadcast(x, y), 1)


def logic(m: Maker) -> Val:
    x = m.pick(lambda each: each.dtype == "bool")
    if m.rng.random() < 0.3:
        return m.node("Not", [x], "bool", x.shape, 1)
    y = _partner(m, x)
    return m.node(m.rng.choice(("And", "Or", "Xor")), [x, y], "bool", broadcast(x, y), 1)


def where(m: Maker) -> Val:
    c = m.pick(lambda each: each.dtype == "bool")
    x = m.pick(lambda each: each.dtype in ("float32", "int64") and fits_with(c, each))
    y = _partner(m, x)
    both = Val("", "", broadcast(x, y))
    return m.node("Where", [c, x, y], x.dtype, broadcast(c, both), max(x.bits, y.bits))


def cast(m: Maker) -> Val:
    x = m.pick(lambda each: each.exact)
    target = m.rng.choice([each for each in ("float32", "int64", "int32", "bool") if each != x.dtype])
    if x.dtype == "float32" and target.startswith("int"):
        ends = m.const(-64), m.const(64)  # infinities, of reductions of nothing, are no integers
        x = m.node("Floor", [m.node("Clip", [x, *ends], x.dtype, x.shape, x.bits)], x.dtype, x.shape, x.bits)
    bits = 2 if x.dtype == "bool" or target == "bool" else x.bits + 2 * (target == "float32")
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
    return m.node("Cast", [x], target, x.shape, _kept(bits), to=kinds.get(target, TensorProto.BOOL))


# Products, reductions, normalisation.


def matmul(m: Maker) -> Val:
    x = m.pick(lambda each: is_float(each) and each.rank >= 1)
    k, choice = x.shape[-1], m.rng.random()
    if x.rank >= 2 and choice < 0.25:
        perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        turned = m.node("Transpose", [x], x.dtype, [x.shape[axis] for axis in perm], x.bits, perm=perm)
        made = m.node("MatMul", [x, turned], x.dtype, [*x.shape[:-1], x.shape[-2]])
    elif number_of(k) and choice < 0.7:
        columns = m.rng.choice((1, 4, 8, 5))
        made = m.node("MatMul", [x, m.weight(k[0], columns)], x.dtype, [*x.shape[:-1], same_size(columns)])
    elif x.rank >= 2 and choice < 0.8:
        other = m.pick(lambda each: is_float(each) and each.rank == 2 and each.shape[0] == k)
        made = m.node("MatMul", [x, other], x.dtype, [*x.shape[:-1], other.shape[1]])
    else:
        n = m.root()[1] if m.rng.random() < 0.5 else same_size(6)
        made = m.node("MatMul", [x, m.input([k, n])], x.dtype, [*x.shape[:-1], n])
    return m.node("Mul", [made, m.const(0.125)], made.dtype, made.shape)


def gemm(m: Maker) -> Val:
    x = m.pick(lambda each: is_float(each) and each.rank == 2)
    turned = m.rng.random() < 0.3
    rows, k = x.shape[::-1] if turned else x.shape
    n, across = m.rng.choice((1, 4, 7)), m.rng.randrange(2) == 1
    w = (
        m.weight(*((n, k[0]) if across else (k[0], n)))
        if number_of(k)
        else m.input([same_size(n), k] if across else [k, same_size(n)])
    )
    inputs: list[str | Val] = [x, w]
    if m.rng.random() < 0.7:
        inputs.append(m.weight(n) if m.rng.random() < 0.7 else m.input([rows, ONE]))
    return m.node("Gemm", inputs, x.dtype, [rows, same_size(n)], transA=int(turned), transB=int(across), alpha=0.25)


def reduce(m: Maker) -> Val:
    x = m.pick(lambda each: each.dtype in ("float32", "int64", "int32") and each.rank >= 1)
    ops = (
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceMean",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSumExp",
    )
    op = m.rng.choice(ops if is_float(x) else ops[:3])
    axes = sorted(m.rng.sample(range(x.rank), m.rng.randint(1, min(2, x.rank))))
    keep = m.rng.randrange(2)
    shape = [ONE if axis in axes else size for axis, size in enumerate(x.shape) if keep or axis not in axes]
    inputs: list[str | Val] = [x]
    if m.rng.random() < 0.1:
        shape = [ONE] * x.rank if keep else []
    else:
        inputs.append(m.ints(*(signed(m, axis, x.rank) for axis in axes)))
    bits = x.bits if op in ("ReduceMax", "ReduceMin") else _kept(x.bits + 11) if not is_float(x) else INEXACT
    if not is_float(x) and bits == INEXACT:
        raise Skip("too large")
    return m.node(op, inputs, x.dtype, shape, bits, keepdims=keep)


def normalise(m: Maker) -> Val:
    x = m.pick(lambda each: is_float(each) and each.rank >= 1)
    axis = m.rng.randrange(x.rank)
    op = m.rng.choice(("Softmax", "Softmax", "LogSoftmax", "LayerNormalization"))
    if op != "LayerNormalization":
        return m.node(op, [x], x.dtype, x.shape, axis=signed(m, axis, x.rank))
    size = number_of(x.shape[-1])
    scale = m.weight(size) if size else m.input([x.shape[-1]])
    return m.node(op, [x, scale], x.dtype, x.shape, axis=-1, epsilon=1e-2)


def cumsum(m: Maker) -> Val:
    x = m.pick(
        lambda each: each.dtype in ("float32", "int64") and each.rank >= 1 and (is_float(each) or each.bits < 10)
    )
    axis = m.const(signed(m, m.rng.randrange(x.rank), x.rank), "int64")
    bits = INEXACT if is_float(x) else x.bits + 7
    return m.node("CumSum", [x, axis], x.dtype, x.shape, bits, exclusive=m.rng.randrange(2), reverse=m.rng.randrange(2))


def arg(m: Maker) -> Val:
    x = m.pick(lambda each: each.exact and is_float(each) and each.rank >= 1)
    axis, keep = m.rng.randrange(x.rank), m.rng.randrange(2)
    shape = [ONE if at == axis else size for at, size in enumerate(x.shape) if keep or at != axis]
    op = m.rng.choice(("ArgMax", "ArgMin"))
    return m.node(op, [x], "int64", shape, 11, axis=signed(m, axis, x.rank), keepdims=keep)


def topk(m: Maker) -> Val:
    x = m.pick(lambda each: each.exact and is_float(each) and each.rank >= 1)
    axis = axis_of(m, x, 2)
    size, choice = x.shape[axis], m.rng.random()
    if choice < 0.5:
        k, count = m.ints(2), same_size(2)
    elif choice < 0.75:
        k, count = m.size(x, axis, vector=True), size
    else:
        k, count = m.raw("Min", [m.size(x, axis, vector=True), m.ints(3)])[0], tuple(min(each, 3) for each in size)
    shape = tuple(count if at == axis else each for at, each in enumerate(x.shape))
    largest = m.rng.randrange(2)
    names = m.raw("TopK", [x, k], 2, axis=signed(m, axis, x.rank), largest=largest, sorted=1)
    m.add(Val(names[0], x.dtype, shape, x.bits))
    return m.add(Val(names[1], "int64", shape, 11))
