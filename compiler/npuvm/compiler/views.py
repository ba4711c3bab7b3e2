"""Symbolic layouts: how a value lies in a tensor of global memory, through reshapes and permutes, without a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from npuvm.compiler.ir import Node
from npuvm.compiler.symbols import Product, cancel, product
from npuvm.compiler.types import Dim

__all__ = ["Layout", "contiguous", "through", "through_inverse"]

_ONE = Product()


@dataclass(frozen=True, slots=True)
class Layout:
    """Dims of a value and, for each, the distance in elements between neighbours in memory."""

    dims: tuple[Dim, ...]
    strides: tuple[Product, ...]

    def permuted(self, axes: Sequence[int]) -> Layout:
        return Layout(tuple(self.dims[axis] for axis in axes), tuple(self.strides[axis] for axis in axes))

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
            strides += [_times(step, product(target[at + 1 : given])) for at in range(given)]
            source, target = source[taken:], target[given:]
        found = iter(strides)
        return Layout(tuple(shape), tuple(_ONE if dim == 1 else next(found) for dim in shape))

    def stride_values(self, binding: Mapping[str, int]) -> tuple[int, ...]:
        """Concrete strides in elements."""
        return tuple(stride.value(binding) for stride in self.strides)


def contiguous(shape: Sequence[Dim]) -> Layout:
    """Row-major, last dim fastest."""
    return Layout(tuple(shape), tuple(product(shape[axis + 1 :]) for axis in range(len(shape))))


def through(layout: Layout, chain: Sequence[Node]) -> Layout | None:
    """The layout of the last of a chain of reshapes and permutes whose first reads a value with this layout."""
    current: Layout | None = layout
    for node in chain:
        if current is None:
            return None
        current = current.permuted(node.axes()) if node.op == "permute" else current.reshaped(node.type.shape)
    return current


def through_inverse(layout: Layout, chain: Sequence[Node]) -> Layout | None:
    """The layout that the value before the chain must be written with, so that the chain's last value has this layout."""
    current: Layout | None = layout
    for node in reversed(chain):
        if current is None:
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
    return all(outer == _times(inner, product((size,))) for (_, outer), (size, inner) in pairwise(dims))


def _times(a: Product, b: Product) -> Product:
    return Product(a.factor * b.factor, tuple(sorted((*a.symbols, *b.symbols))))
