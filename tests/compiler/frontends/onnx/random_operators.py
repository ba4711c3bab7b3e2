"""What random models are made of: each function adds an operator, with what computes its shapes, to values that fit it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import onnx
from onnx import TensorProto, helper
from tests.compiler.frontends.onnx.random_models import INEXACT, PROBES, Maker, Size, Skip, Val
from tests.compiler.frontends.onnx.random_numbers import (
    ONE,
    arg,
    axis_of,
    binary,
    broadcast,
    cast,
    clip,
    compare,
    cumsum,
    fits_with,
    gemm,
    guarded_unary,
    is_float,
    logic,
    matmul,
    normalise,
    number_of,
    reduce,
    same_size,
    signed,
    topk,
    unary,
    where,
)

__all__ = ["OPERATORS"]

_Kind = tuple[str, int]
"""The name of a value of a body, and its type of elements; those of floats may have any shape."""


# Movement.


def transpose(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank >= 2)
    perm = m.rng.sample(range(x.rank), x.rank)
    return m.node("Transpose", [x], x.dtype, [x.shape[axis] for axis in perm], x.bits, perm=perm)


def _product(sizes: tuple[Size, ...]) -> Size:
    total = [1] * PROBES
    for size in sizes:
        total = [a * b for a, b in zip(total, size, strict=True)]
    return tuple(total)


def reshape(m: Maker) -> Val:
    """Merge some axes, or part one, with a target of numbers, 0, -1 and computed sizes."""
    x = m.pick(lambda each: each.rank >= 1)
    cuts = sorted({0, x.rank, *(m.rng.randint(0, x.rank) for _ in range(2))})
    groups = [tuple(range(a, b)) for a, b in pairwise(cuts)]
    shape = [_product(tuple(x.shape[axis] for axis in group)) for group in groups]
    open_at = m.rng.randrange(len(shape)) if m.rng.random() < 0.7 else -1
    target: list[int | str] = []
    for at, (group, size) in enumerate(zip(groups, shape, strict=True)):
        fixed = number_of(size)
        if at == open_at:
            target.append(-1)
        elif fixed is not None:
            target.append(fixed)
        elif len(group) == 1 and group[0] == at and m.rng.random() < 0.5:
            target.append(0)
        else:
            sizes = [m.size(x, axis, vector=True) for axis in group]
            while len(sizes) > 1:
                sizes.append(m.raw("Mul", [sizes.pop(), sizes.pop()])[0])
            target.append(sizes[0])
    parts = [at for at, size in enumerate(shape) if (number_of(size) or 1) % 2 == 0 and target[at] != -1]
    if parts and m.rng.random() < 0.5 and 0 not in target[parts[0] + 1 :]:
        at = parts[0]
        half = shape[at][0] // 2
        shape[at : at + 1], target[at : at + 1] = [same_size(2), same_size(half)], [2, half]
    if m.rng.random() < 0.2:
        shape.append(ONE)
        target.append(1)
    return m.node("Reshape", [x, m.target(target)], x.dtype, shape, x.bits)


def unsqueeze(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank <= 3)
    axis = m.rng.randint(0, x.rank)
    shape = (*x.shape[:axis], ONE, *x.shape[axis:])
    return m.node("Unsqueeze", [x, m.ints(signed(m, axis, x.rank + 1))], x.dtype, shape, x.bits)


def squeeze(m: Maker) -> Val:
    x = m.pick(lambda each: ONE in each.shape)
    axis = m.rng.choice([axis for axis, size in enumerate(x.shape) if size == ONE])
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return m.node("Squeeze", [x, m.ints(signed(m, axis, x.rank))], x.dtype, shape, x.bits)


def expand(m: Maker) -> Val:
    """Expand to the shape of another value, or to sizes that are put together."""
    x = m.pick(lambda each: each.dtype != "float16")
    other = m.pick(lambda each: each.rank >= 1 and fits_with(x, each))
    if m.rng.random() < 0.5:
        return m.node("Expand", [x, m.raw("Shape", [other])[0]], x.dtype, broadcast(x, other), x.bits)
    sizes = [1 if m.rng.random() < 0.4 else m.size(other, axis, vector=True) for axis in range(other.rank)]
    shape = tuple(ONE if each == 1 else size for each, size in zip(sizes, other.shape, strict=True))
    made = broadcast(x, Val("", "", shape))
    return m.node("Expand", [x, m.target(sizes)], x.dtype, made, x.bits)


def slice_(m: Maker) -> Val:
    """Cut with constant ends, negative ones, computed ones, and steps."""
    x = m.pick(lambda each: each.rank >= 1)
    axis = axis_of(m, x)
    start = m.rng.choice((0, 0, 1, -2, -1, 3))
    step = m.rng.choice((1, 1, 1, 2, 3, -1, -2))
    if step < 0:
        start, end = m.rng.choice((-1, -2, 4)), m.rng.choice((0, 1, -(1 << 31), -(1 << 62)))
        stop = m.ints(end)
        ends: list[int] = [end] * PROBES
    elif m.rng.random() < 0.5:
        end = m.rng.choice((2, 5, -1, 1 << 31, (1 << 63) - 1))
        stop, ends = m.ints(end), [end] * PROBES
    else:
        other = m.pick(lambda each: each.rank >= 1)
        at, less = m.rng.randrange(other.rank), m.rng.choice((0, 1, 2))
        stop, ends = m.size(other, at, vector=True), [size - less for size in other.shape[at]]
        if less:
            stop = m.raw("Sub", [stop, m.ints(less)])[0]
    sizes = tuple(
        len(range(size)[slice(start, each, step)]) for size, each in zip(x.shape[axis], ends, strict=True)
    )  # fmt: skip
    shape = tuple(sizes if at == axis else size for at, size in enumerate(x.shape))
    inputs: list[str | Val] = [x, m.ints(start), stop, m.ints(signed(m, axis, x.rank)), m.ints(step)]
    return m.node("Slice", inputs, x.dtype, shape, x.bits)


def concat(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank >= 1)
    axis = m.rng.randrange(x.rank)

    def fits(each: Val) -> bool:
        rest = [a == b for at, (a, b) in enumerate(zip(each.shape, x.shape, strict=False)) if at != axis]
        return each.dtype == x.dtype and each.rank == x.rank and all(rest)

    others = [m.pick(fits) for _ in range(m.rng.randint(1, 2))]
    if is_float(x) and len(m.inputs) < 6 and m.rng.random() < 0.4:
        size = m.root()[1] if m.rng.random() < 0.6 else same_size(2)
        others.append(m.input([size if at == axis else each for at, each in enumerate(x.shape)]))
    total = tuple(map(sum, zip(x.shape[axis], *(each.shape[axis] for each in others), strict=True)))
    shape = [total if at == axis else size for at, size in enumerate(x.shape)]
    bits = max(each.bits for each in (x, *others))
    return m.node("Concat", [x, *others], x.dtype, shape, bits, axis=signed(m, axis, x.rank))


def split(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank >= 1)
    axis = axis_of(m, x, 2)
    size, inputs = x.shape[axis], [x.name]
    attrs: dict[str, Any] = {"axis": signed(m, axis, x.rank)}
    fixed, choice = number_of(size), m.rng.random()
    if fixed and choice < 0.4:
        first = m.rng.randint(0, fixed)
        parts = [same_size(first), same_size(fixed - first)]
        inputs.append(m.ints(first, fixed - first))
    elif choice < 0.7:
        rest = m.raw("Sub", [m.size(x, axis, vector=True), m.ints(1)])[0]
        parts = [ONE, tuple(each - 1 for each in size)]
        inputs.append(m.target([1, rest]))
    else:
        attrs["num_outputs"] = 2
        parts = [tuple((each + 1) // 2 for each in size), tuple(each // 2 for each in size)]
    names = m.raw("Split", inputs, 2, **attrs)
    for name, part in zip(names, parts, strict=True):
        made = Val(name, x.dtype, tuple(part if at == axis else each for at, each in enumerate(x.shape)), x.bits)
        m.add(made)
    return made


def gather(m: Maker) -> Val:
    """Rows by constant indices, or by those of an input, kept below the size by what the model computes."""
    x = m.pick(lambda each: each.rank >= 1 and each.dtype != "float16")
    axis = axis_of(m, x, 2)
    choice = m.rng.random()
    if choice < 0.5:
        index, added = [(m.const(-1, "int64"), ()), (m.ints(1, 0, -1), (same_size(3),)), (m.const(0, "int64"), ())][
            m.rng.randrange(3)
        ]
        indices: str | Val = index
    elif choice < 0.75:
        least, most = m.rng.choice(((-2, 1), (0, 1), (-1, -1)))
        indices = m.input([m.root()[1]], m.rng.choice(("int64", "int32")), least, most)
        added = indices.shape
    else:
        given = m.input([m.root()[1]], "int64", 0, 30)
        last = m.raw("Sub", [m.size(x, axis), m.const(1, "int64")])[0]
        indices = m.node("Min", [given, last], "int64", given.shape, 5)
        added = given.shape
    shape = (*x.shape[:axis], *added, *x.shape[axis + 1 :])
    return m.node("Gather", [x, indices], x.dtype, shape, x.bits, axis=signed(m, axis, x.rank))


def pad(m: Maker) -> Val:
    x = m.pick(lambda each: each.dtype == "float32" and each.rank >= 1)
    axis = axis_of(m, x, 2)
    before, after = m.rng.choice(((0, 1), (1, 0), (1, 1), (0, 3), (-1, 0)))
    pads = [0] * (2 * x.rank)
    pads[axis], pads[axis + x.rank] = before, after
    mode = m.rng.choice(("constant", "constant", "edge", "reflect"))
    if mode == "reflect" and after > 1:
        raise Skip("too far")
    inputs: list[str | Val] = [x, m.ints(*pads)]
    if mode == "constant" and m.rng.random() < 0.5:
        inputs.append(m.const(1.25))
    shape = [tuple(each + before + after for each in size) if at == axis else size for at, size in enumerate(x.shape)]
    return m.node("Pad", inputs, x.dtype, shape, x.bits, mode=mode)


def tile(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank >= 1 and each.dtype != "bool")
    axis = m.rng.randrange(x.rank)
    repeats: list[int | str] = [1] * x.rank
    if m.rng.random() < 0.6:
        times: Size = same_size(m.rng.choice((1, 2, 3)))
        repeats[axis] = times[0]
    else:
        other = m.pick(lambda each: each.rank >= 1)
        at = m.rng.randrange(other.rank)
        times, repeats[axis] = other.shape[at], m.size(other, at, vector=True)
    size = tuple(a * b for a, b in zip(x.shape[axis], times, strict=True))
    shape = [size if at == axis else each for at, each in enumerate(x.shape)]
    return m.node("Tile", [x, m.target(repeats)], x.dtype, shape, x.bits)


def trilu(m: Maker) -> Val:
    x = m.pick(lambda each: each.rank >= 2 and is_float(each))
    return m.node(
        "Trilu", [x, m.const(m.rng.choice((0, 1, -1)), "int64")], x.dtype, x.shape, x.bits, upper=m.rng.randrange(2)
    )


# Sizes as values.


def range_(m: Maker) -> Val:
    other = m.pick(lambda each: each.rank >= 1)
    axis, step = m.rng.randrange(other.rank), m.rng.choice((1, 1, 2))
    size = other.shape[axis]
    start = m.rng.choice((0, 0, 1))
    inputs = [m.const(start, "int64"), m.size(other, axis), m.const(step, "int64")]
    return m.node("Range", inputs, "int64", [tuple(len(range(start, each, step)) for each in size)], 11)


def filled(m: Maker) -> Val:
    other = m.pick(lambda each: each.rank >= 1)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [m.rng.choice((0.0, 1.0, -0.5))])
    return m.node("ConstantOfShape", [m.raw("Shape", [other])[0]], "float32", other.shape, 4, value=value)


def size_value(m: Maker) -> Val:
    """A size, and arithmetic on it, as a value of its own."""
    other = m.pick(lambda each: each.rank >= 1)
    axis = m.rng.randrange(other.rank)
    if m.rng.random() < 0.2:
        return m.node("Size", [other], "int64", [], 14)
    vector = m.rng.randrange(2) == 1
    name = m.size(other, axis, vector=vector)
    op = m.rng.choice(("Add", "Sub", "Mul", "Div", "Mod", "Identity"))
    if op != "Identity":
        name = m.raw(op, [name, m.const(m.rng.choice((1, 2, 3)), "int64")])[0]
    return m.add(Val(name, "int64", (ONE,) if vector else (), 8))


def scaled_by_size(m: Maker) -> Val:
    """As means are written out: a sum over the size of an axis."""
    x = m.pick(lambda each: is_float(each) and each.rank >= 1)
    axis = m.rng.randrange(x.rank)
    count = m.raw("Cast", [m.size(x, axis)], to=TensorProto.FLOAT)[0]
    if m.rng.random() < 0.5:
        count = m.raw("Sqrt", [count])[0]
    below = m.raw("Add", [count, m.const(1.0)])[0]
    return m.node("Div", [x, below], x.dtype, x.shape)


# Windows and bodies.


def windows(m: Maker) -> Val:
    """A convolution or pooling over the last axes of a value that gets batch and channel."""
    x = m.pick(lambda each: is_float(each) and each.rank in (1, 2, 3) and min(map(min, each.shape[-2:])) >= 2)
    space = x.shape[-2:] if x.rank >= 2 else x.shape
    fixed = number_of(x.shape[0]) if x.rank == 3 else 1
    channels = fixed or 1
    axes = [0] if x.rank == 3 and fixed else [1] if x.rank == 3 else [0, 1]
    shape = (*((x.shape[0],) if x.rank == 3 and not fixed else (ONE,)), same_size(channels), *space)
    image = m.node("Unsqueeze", [x, m.ints(*axes)], x.dtype, shape, x.bits)
    op = m.rng.choice(("Conv", "Conv", "MaxPool", "AveragePool", "GlobalAveragePool"))
    if op == "GlobalAveragePool":
        return m.node(op, [image], x.dtype, [*shape[:2], *([ONE] * len(space))])
    kernel, stride = [m.rng.choice((1, 2, 3)) for _ in space], m.rng.choice((1, 1, 2))
    pads = [each // 2 for each in kernel] * 2
    sizes = [
        tuple((each + 2 * (k // 2) - k) // stride + 1 for each in size) for size, k in zip(space, kernel, strict=True)
    ]
    attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": [stride] * len(space), "pads": pads}
    if op != "Conv":
        bits = x.bits if op == "MaxPool" else INEXACT
        return m.node(op, [image], x.dtype, [*shape[:2], *sizes], bits, **attrs)
    inputs: list[str | Val] = [image, m.weight(2, channels, *kernel)]
    if m.rng.random() < 0.5:
        inputs.append(m.weight(2))
    return m.node(op, inputs, x.dtype, [shape[0], same_size(2), *sizes], **attrs)


def _condition(m: Maker) -> str:
    if m.rng.random() < 0.6:
        other = m.pick(lambda each: each.rank >= 1)
        return m.raw("Greater", [m.size(other, m.rng.randrange(other.rank)), m.const(4, "int64")])[0]
    x = m.pick(lambda each: each.exact and is_float(each))
    return m.raw("Greater", [m.raw("ReduceMax", [x], keepdims=0)[0], m.const(1.5)])[0]


def _body(m: Maker, nodes: list[onnx.NodeProto], inputs: Sequence[_Kind], outputs: Sequence[_Kind]) -> onnx.GraphProto:
    def info(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, None if kind == TensorProto.FLOAT else [])

    return helper.make_graph(
        nodes, m.fresh("body"), [info(*each) for each in inputs], [info(*each) for each in outputs]
    )


def branch(m: Maker) -> Val:
    x = m.pick(is_float)
    condition = _condition(m)
    names = [m.fresh("b") for _ in range(2)]
    ops = m.rng.sample(("Neg", "Relu", "Tanh", "Identity"), 2)
    bodies = [
        _body(m, [helper.make_node(op, [x.name], [name])], [], [(name, TensorProto.FLOAT)])
        for op, name in zip(ops, names, strict=True)
    ]  # fmt: skip
    return m.node("If", [condition], x.dtype, x.shape, then_branch=bodies[0], else_branch=bodies[1])


def loop(m: Maker) -> Val:
    x = m.pick(is_float)
    if m.rng.random() < 0.5:
        trips = m.const(3, "int64")
    else:
        other = m.pick(lambda each: each.rank >= 1)
        trips = m.size(other, m.rng.randrange(other.rank))
    at, going, carried, stays, made = (m.fresh("l") for _ in range(5))
    half = m.const(0.5)
    nodes = [
        helper.make_node("Identity", [going], [stays]),
        helper.make_node("Mul", [carried, half], [f"{made}_half"]),
        helper.make_node("Add", [f"{made}_half", x.name], [made]),
    ]
    kinds = [(at, TensorProto.INT64), (going, TensorProto.BOOL), (carried, TensorProto.FLOAT)]
    body = _body(m, nodes, kinds, [(stays, TensorProto.BOOL), (made, TensorProto.FLOAT)])
    return m.node("Loop", [trips, "", x], x.dtype, x.shape, body=body)


OPERATORS: dict[Callable[[Maker], object], float] = {
    unary: 3, guarded_unary: 1.5, clip: 0.7, binary: 5, compare: 1.5, logic: 0.8, where: 1.5, cast: 1.5, matmul: 2.5, gemm: 1,
    reduce: 2.5, normalise: 2, cumsum: 0.8, arg: 0.8, topk: 0.8, transpose: 2, reshape: 3, unsqueeze: 1.2, squeeze: 1,
    expand: 1.5, slice_: 2.5, concat: 2, split: 1.5, gather: 2, pad: 1.2, tile: 1, trilu: 0.5, range_: 1, filled: 0.7,
    size_value: 1, scaled_by_size: 0.8, windows: 1.5, branch: 0.5, loop: 0.4,
}  # fmt: skip
"""What adds operators, by how often it is drawn."""
