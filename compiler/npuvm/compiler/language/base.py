"""What the builder's methods stand on: appending to the graph, and checking what a kernel gives them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, cast

import numpy as np

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.graph.types import DTYPES, Dim, parse_dims
from npuvm.compiler.language.value import ParamRef, Value, kernel_error, kernel_line

if TYPE_CHECKING:
    from npuvm.compiler.language.kernel import KernelBuilder

__all__ = ["BuilderBase", "listed_axes", "listed_dims", "typed_number"]


class BuilderBase:
    """A graph that grows; groups of methods inherit this, and the builder inherits all groups."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._loads: dict[str, Value] = {}

    def forget(self, count: int) -> None:
        """Let go of nodes from number `count` on, which are taken out of the graph."""
        self._loads = {name: value for name, value in self._loads.items() if value.node.id < count}

    @property
    def _all(self) -> KernelBuilder:
        """The builder with the methods of all groups."""
        return cast("KernelBuilder", self)

    def _value(self, op: str, value: object) -> Value:
        """The value, if it is one of this kernel."""
        if isinstance(value, ParamRef):
            raise kernel_error(f"{op}: '{value.name}' is a tensor in memory; load it first with k.load({value.name})")
        if not isinstance(value, Value):
            raise kernel_error(f"{op} takes a value of the kernel, not {value!r}")
        if value.builder is not self:
            raise kernel_error(f"{op}: {value!r} belongs to another kernel")
        return value

    def _known_dims(self, op: str, dims: str | Sequence[Dim]) -> tuple[Dim, ...]:
        shape = listed_dims(op, dims)
        known = {*self.graph.symbols(), *(derived.name for derived in self.graph.derived)}
        for dim in shape:
            if isinstance(dim, str) and dim not in known:
                raise kernel_error(f"{op}: unknown dimension '{dim}'; known: {', '.join(sorted(known)) or 'none'}")
        return shape

    def _emit(self, op: str, inputs: Sequence[Value | Node], **attrs: Attr) -> Value:
        nodes = tuple(each.node if isinstance(each, Value) else each for each in inputs)
        return Value(self._all, self.graph.add(op, nodes, kernel_line(), **attrs))


def typed_number(value: object, dtype: str) -> float | int | bool:
    """A Python scalar as a number of the dtype. Raises CompileError when it is none."""
    info = DTYPES[dtype]
    if info.kind == "float" and isinstance(value, Real | np.generic):
        try:
            return float(value)
        except (OverflowError, TypeError):
            raise kernel_error(f"the scalar {value!r} is no {dtype}") from None
    if info.kind == "bool" and isinstance(value, bool):
        return value
    if info.kind != "int" or isinstance(value, bool) or not isinstance(value, Integral):
        raise kernel_error(f"the scalar {value!r} is no {dtype}; cast the tensor or give a value of kind {info.kind}")
    number, bits = int(value), info.item_bytes * 8
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise kernel_error(f"{number} does not fit {dtype}")
    return number


def listed_axes(op: str, axes: object, rank: int) -> tuple[int, ...]:
    """Axes counted from the first; whether they exist is checked where the operation's shape is."""
    listed = (axes,) if isinstance(axes, int) else tuple(axes) if isinstance(axes, Sequence) else None
    if listed is None or any(not isinstance(axis, int) for axis in listed):
        raise kernel_error(f"{op}: axes {axes!r} must be whole numbers")
    return tuple(axis + rank if axis < 0 else axis for axis in listed)


def listed_dims(op: str, dims: object) -> tuple[Dim, ...]:
    """Dims from text or a sequence. Raises CompileError."""
    if isinstance(dims, str):
        return parse_dims(dims)
    if not isinstance(dims, Sequence) or any(not isinstance(dim, int | str) for dim in dims):
        raise kernel_error(f"{op}: dims {dims!r} must be whole numbers or names")
    return tuple(dims)
