"""The builder's methods that pick rows by index."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.base import BuilderBase, listed_axes
from npuvm.compiler.language.value import Value, kernel_error

__all__ = ["IndexMethods"]


class IndexMethods(BuilderBase):
    """Gathers and scatters. Indices are int32; one below zero counts from the end, one outside traps when the kernel runs."""

    def gather(self, x: Value, index: Value, axis: int = 0) -> Value:
        """Elements of x by index along one axis, as `numpy.take`: the dims of `index` stand in the place of that axis."""
        source = self._value("gather", x)
        (at,) = listed_axes("gather", axis, source.type.rank)
        return self._emit("gather", (source, self._value("gather", index)), axis=at)

    def embedding(self, table: Value, index: Value) -> Value:
        """Rows of `table` [N, D] by index: [.., D] for indices of any shape."""
        rank = self._value("embedding", table).type.rank
        if rank != 2:
            raise kernel_error(f"embedding: the table {table.type} must have rank 2; gather takes any")
        return self.gather(table, index)

    def scatter_add(self, base: Value | str | Sequence[Dim], index: Value, updates: Value, axis: int = 0) -> Value:
        """A copy of `base` with `updates` added to the elements that `index` names along one axis; equal indices add up.

        `base` is a value, or a shape that starts as zeros. `updates` has the shape that a gather would give. Every sum is
        rounded to the dtype, in an order that is not defined.
        """
        return self._scattered("scatter_add", base, index, updates, axis)

    def scatter(self, base: Value | str | Sequence[Dim], index: Value, updates: Value, axis: int = 0) -> Value:
        """A copy of `base` with `updates` in the place of the elements that `index` names; of equal indices the last counts."""
        return self._scattered("scatter", base, index, updates, axis)

    def _scattered(self, op: str, base: Value | str | Sequence[Dim], index: Value, updates: Value, axis: int) -> Value:
        inputs = [self._value(op, index), self._value(op, updates)]
        if isinstance(base, Value):
            inputs.append(self._value(op, base))
            shape = base.type.shape
        else:
            shape = self._known_dims(op, base)
        (at,) = listed_axes(op, axis, len(shape))
        return self._emit(op, inputs, axis=at, shape=shape)
