"""Building a graph out of another: shared sub-expressions, constant folding, and no-op removal."""

from __future__ import annotations

import numpy as np

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import BINARY, UNARY, Attr, broadcast_shapes, infer_type
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.ops_views import ASSEMBLED, STRIDED, takes_all
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.interpreter.interpret import evaluate_node

__all__ = ["Rewriter", "is_scalar"]

_NEVER_FOLDED = ("load", "store", "const", "size", "asm")
_FLOATS = ("fp32", "fp16", "bf16")
"""Dtypes that a size is made in at once, where it would be a number of int32 first."""

_ELEMENTWISE = frozenset((*UNARY, *BINARY, "cast", "select"))


class Rewriter:
    """Appends operations to a new graph with the interface of `source`, reusing equal ones.

    Operations on constants are folded; a reshape to the same shape, a cast to the same dtype and an identity permute vanish,
    and chains of reshapes or permutes become one. A reshape of a computed value moves behind element-wise operations.
    """

    def __init__(self, source: Graph) -> None:
        self.graph = Graph(
            source.name, source.params, [], list(source.derived), list(source.checks), source.pins, source.allowed
        )
        self._known: dict[tuple[object, ...], Node] = {}
        self._joined: dict[tuple[Attr, ...], Node] = {}
        self.where = ""
        """The source line of operations that are added without one."""

    def add(self, op: str, *inputs: Node, where: str = "", **attrs: Attr) -> Node:
        """The value of an operation, new or known. Raises CompileError when its types do not fit."""
        short = self._shortcut(op, inputs, attrs) or self._behind_reshape(op, inputs, attrs)
        if short is not None:
            return short
        if op == "concat":
            return self._concat(inputs, where, attrs)
        return self._new(op, inputs, where, attrs)

    def _concat(self, inputs: tuple[Node, ...], where: str, attrs: dict[str, Attr]) -> Node:
        """A concatenation that begins like a known one is that one with more behind it: both then lie in one place."""
        key = (attrs["axis"], *(node.id for node in inputs))
        for count in range(len(inputs) - 1, 1, -1):
            known = self._joined.get(key[: count + 1])
            if known is not None:
                inputs = (known, *inputs[count:])
                break
        node = self._joined[key] = self._new("concat", inputs, where, attrs)
        return node

    def _new(self, op: str, inputs: tuple[Node, ...], where: str, attrs: dict[str, Attr]) -> Node:
        key = (
            op,
            tuple(node.id for node in inputs),
            tuple(sorted((name, repr(value)) for name, value in attrs.items())),
        )
        node = self._known.get(key)
        if node is None or op == "store":
            if (
                inputs
                and op not in _NEVER_FOLDED
                and all(each.op == "const" for each in inputs)
                and not attrs.get("shape")
            ):
                return self._fold(op, inputs, attrs)
            node = self._known[key] = self.graph.add(op, inputs, where or self.where, **attrs)
        return node

    def const(self, value: float | int | bool, dtype: str) -> Node:
        """A scalar constant."""
        return self.add("const", dtype=dtype, value=value)

    def cast(self, x: Node, dtype: str) -> Node:
        """`x` as another dtype."""
        return self.add("cast", x, dtype=dtype)

    def reshape(self, x: Node, shape: tuple[int | str, ...]) -> Node:
        """`x` in another shape of as many elements."""
        return self.add("reshape", x, shape=shape)

    def _shortcut(self, op: str, inputs: tuple[Node, ...], attrs: dict[str, Attr]) -> Node | None:
        if op == "cast" and inputs[0].type.dtype == attrs["dtype"]:
            return inputs[0]
        if op == "cast" and inputs[0].op == "size" and inputs[0].type.dtype == "int32" and attrs["dtype"] in _FLOATS:
            return self.add("size", dtype=attrs["dtype"], dims=inputs[0].dims("dims"))
        if op in ("reshape", "broadcast_to") and inputs[0].type.shape == attrs["shape"]:
            return inputs[0]
        if takes_all(op, [each.type for each in inputs], attrs):
            return inputs[0]
        if op == "reshape" and inputs[0].op == "reshape":
            return self.reshape(inputs[0].inputs[0], _dims(attrs["shape"]))
        if op == "neg":
            return self._signed_product(inputs[0])
        if op == "permute":
            axes = _dims(attrs["axes"])
            if axes == tuple(range(len(axes))):
                return inputs[0]
            if inputs[0].op == "permute":
                inner = inputs[0].axes()
                return self.add("permute", inputs[0].inputs[0], axes=tuple(inner[int(axis)] for axis in axes))
        return None

    def _signed_product(self, x: Node) -> Node | None:
        """The opposite of a float product with a constant: the constant takes the sign, which no rounding sees."""
        if x.op == "mul" and x.type.info.kind == "float":
            for factor, other in (x.inputs, x.inputs[::-1]):
                if factor.op == "const" and other.op != "const":
                    return self.add("mul", other, self.const(-factor.number(), factor.type.dtype), where=x.where)
        return None

    def _behind_reshape(self, op: str, inputs: tuple[Node, ...], attrs: dict[str, Attr]) -> Node | None:
        """An element-wise operation done before a reshape of its operand, when all operands can follow; then the reshape."""
        if op not in _ELEMENTWISE:
            return None
        shape = broadcast_shapes(op, [each.type.shape for each in inputs])
        for each in inputs:
            if each.op == "reshape" and _computed(each.inputs[0]) and each.type.shape == shape:
                before = each.inputs[0].type.shape
                moved = [self._before(other, shape, before) for other in inputs]
                kept = [other for other in moved if other is not None]
                if len(kept) == len(inputs):
                    return self.reshape(self.add(op, *kept, where=each.where, **attrs), shape)
        return None

    def _before(self, operand: Node, after: tuple[Dim, ...], before: tuple[Dim, ...]) -> Node | None:
        """The operand as it is before reshape `before` -> `after`; None when it cannot follow without a copy."""
        if operand.op == "reshape" and operand.inputs[0].type.shape == before:
            return operand.inputs[0]
        if is_scalar(operand):
            return operand
        if _computed(operand):
            return None
        if operand.type.shape == after:
            return self.reshape(operand, before)
        if [dim for dim in before if dim != 1] != [dim for dim in after if dim != 1]:
            return None
        padded = (1,) * (len(after) - operand.type.rank) + operand.type.shape
        kept = iter([mine for mine, dim in zip(padded, after, strict=True) if dim != 1])
        return self.reshape(operand, tuple(1 if dim == 1 else next(kept) for dim in before))

    def _fold(self, op: str, inputs: tuple[Node, ...], attrs: dict[str, Attr]) -> Node:
        result: TensorType = infer_type(op, [node.type for node in inputs], attrs)
        values = [np.asarray(node.number(), dtype=node.type.info.numpy) for node in inputs]
        with np.errstate(all="ignore"):
            value = evaluate_node(Node(0, op, inputs, attrs, result), values, {})
        return self.const(value.item(), result.dtype)


def _dims(value: Attr) -> tuple[Dim, ...]:
    assert isinstance(value, tuple)
    return value


def _computed(node: Node) -> bool:
    """Whether the vector unit makes the value, so that a reshape of it is not free."""
    while node.op in ("reshape", "permute"):
        node = node.inputs[0]
    return node.op not in ("load", *CUBE_OPS, *INDEXED, *STRIDED, *ASSEMBLED) and not is_scalar(node)


def is_scalar(node: Node) -> bool:
    """Whether the value is one number known when a shape is bound."""
    return node.op in ("const", "size")
