"""Symbolic layouts: how a value lies in a tensor of global memory, through views, without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.sums import Sum, sum_of, times
from npuvm.compiler.graph.symbols import Product, cancel, product
from npuvm.compiler.graph.types import Dim

__all__ = ["Layout", "contiguous", "through", "through_inverse"]

_ONE = Product()
_NOTHING = Sum()


@dataclass(frozen=True, slots=True)
class Layout:
    """Dims of a value and, for each, the distance in elements between neighbours in memory; `offset` elements come first."""

    dims: tuple[Dim, ...]
    strides: tuple[Product, ...]
    offset: Sum = _NOTHING

    def permuted(self, axes: Sequence[int]) -> Layout:
        return Layout(tuple(self.dims[axis] for axis in axes), tuple(self.strides[axis] for axis in axes), self.offset)

    def part(self, starts: Sequence[Sum], dims: Sequence[Dim], steps: Sequence[int]) -> Layout:
        """The layout of the elements at starts, starts + steps, ..., `dims` of them along each axis."""
        offset = self.offset
        for start, stride in zip(starts, self.strides, strict=True):
            offset += start.times(stride)
        strides = tuple(times(stride, Product(step)) for stride, step in zip(self.strides, steps, strict=True))
        return Layout(tuple(dims), strides, offset)

    def reshaped(self, shape: Sequence[Dim]) -> Layout | None:
        """The layout of the value in another shape, or None when that needs a copy.

        Dims are matched in groups of equal products; a group of several source dims must lie without gaps.
        """
        source = [(dim, stride) for dim, stride in zip(self.dims, self.strides, strict=True) if dim != 1]
        target = [dim for dim in shape if dim != 1]
        strides: list[Product] = []
        while source or target:
            taken, given = _group([dim for dim, _ in source], target)
            if not _gapless(source[:taken]):
                return None
            step = source[taken - 1][1] if taken else _ONE
            strides += [times(step, product(target[at + 1 : given])) for at in range(given)]
            source, target = source[taken:], target[given:]
        found = iter(strides)
        return Layout(tuple(shape), tuple(_ONE if dim == 1 else next(found) for dim in shape), self.offset)

    def stride_values(self, binding: Mapping[str, int]) -> tuple[int, ...]:
        """Concrete strides in elements."""
        return tuple(stride.value(binding) for stride in self.strides)


def contiguous(shape: Sequence[Dim]) -> Layout:
    """Row-major, last dim fastest."""
    return Layout(tuple(shape), tuple(product(shape[axis + 1 :]) for axis in range(len(shape))))


def through(layout: Layout, chain: Sequence[Node]) -> Layout | None:
    """The layout of the last of a chain of views whose first reads a value with this layout; None when that needs a copy."""
    current: Layout | None = layout
    for node in chain:
        if current is None:
            return None
        current = _viewed(current, node)
    return current


def _viewed(layout: Layout, node: Node) -> Layout | None:
    match node.op:
        case "permute":
            return layout.permuted(node.axes())
        case "reshape":
            return layout.reshaped(node.type.shape)
        case "slice":
            starts = [sum_of(start) for start in node.dims("starts")]
            return layout.part(starts, node.type.shape, _numbers(node, "steps"))
        case "windows":
            inner = [
                times(layout.strides[axis], Product(dilation))
                for axis, dilation in zip(node.axes(), _numbers(node, "dilations"), strict=True)
            ]
            steps = dict(zip(node.axes(), _numbers(node, "steps"), strict=True))
            outer = [times(stride, Product(steps.get(axis, 1))) for axis, stride in enumerate(layout.strides)]
            return Layout(node.type.shape, (*outer, *inner), layout.offset)
        case "as_strided" if layout == contiguous(layout.dims):
            strides = tuple(product((stride,)) for stride in node.dims("strides"))
            return Layout(node.type.shape, strides, sum_of(*node.dims("offset")))
    return None


def _numbers(node: Node, name: str) -> tuple[int, ...]:
    return tuple(each for each in node.dims(name) if isinstance(each, int))


def through_inverse(layout: Layout, chain: Sequence[Node]) -> Layout | None:
    """The layout that the value before the chain must be written with, so that the chain's last value has this layout.

    None when there is none: strides cannot express it, or the chain picks some of the elements.
    """
    current: Layout | None = layout
    for node in reversed(chain):
        if current is None or node.op not in ("permute", "reshape"):
            return None
        if node.op == "permute":
            order = node.axes()
            current = current.permuted([order.index(axis) for axis in range(len(order))])
        else:
            current = current.reshaped(node.inputs[0].type.shape)
    return current


def _group(source: Sequence[Dim], target: Sequence[Dim]) -> tuple[int, int]:
    """How many leading dims of each have equal products; all of both when symbols cannot tell earlier."""
    taken, given = 1, 1
    while taken <= len(source) and given <= len(target):
        top, bottom = cancel(product(source[:taken]), product(target[:given]))
        if top == bottom:
            return taken, given
        if top == _ONE:
            taken += 1
        elif bottom == _ONE:
            given += 1
        else:
            break
    return len(source), len(target)


def _gapless(dims: Sequence[tuple[Dim, Product]]) -> bool:
    return all(_same(outer, times(inner, product((size,)))) for (_, outer), (size, inner) in pairwise(dims))


def _same(a: Product, b: Product) -> bool:
    """Whether two are equal, quotients among their symbols expanded."""
    return a == b or cancel(a, b) == (_ONE, _ONE)
