"""The builder's methods along an axis: numbers, one-hot, places of extremes, prefix sums, the largest elements."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.graph.ops_along import PART, TOPS
from npuvm.compiler.graph.sums import DimTable, sum_of
from npuvm.compiler.graph.symbols import product
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.base import BuilderBase, listed_axes
from npuvm.compiler.language.value import Value, kernel_error

__all__ = ["AlongMethods"]


class AlongMethods(BuilderBase):
    """Operations along one axis of their input."""

    def iota(self, shape: str | Sequence[Dim] | Dim, axis: int = -1, dtype: str = "int32") -> Value:
        """The numbers 0, 1, 2, ... along `axis`, the same along all others; `shape` is a size, or several."""
        dims = self._known_dims("iota", (shape,) if isinstance(shape, int) else shape)
        return self._emit("iota", (), dtype=dtype, shape=dims, axis=self._one_axis("iota", axis, len(dims)))

    def one_hot(self, x: Value, depth: Dim, dtype: str = "fp32", axis: int = -1) -> Value:
        """1 where the new axis of `depth` elements has the number in `x` (int32), else 0; all 0 for one that is outside."""
        rank = self._value("one_hot", x).type.rank
        size = self._known_dims("one_hot", (depth,))
        return self._emit("one_hot", (x,), depth=size, dtype=dtype, axis=self._one_axis("one_hot", axis, rank + 1))

    def argmax(self, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """Where the largest element is, int32: the first of equal ones; the first NaN, if there is one.

        Along one axis, or in the row-major order of all elements.
        """
        return self._place("argmax", x, axis, keepdims)

    def argmin(self, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """Where the smallest element is, as `argmax` says it."""
        return self._place("argmin", x, axis, keepdims)

    def prod(self, x: Value, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Value:
        """The product along axes, all by default; 1 over nothing. fp16 and bf16 are multiplied in fp32 and rounded once."""
        return self._all._reduce("reduce_prod", x, axes, keepdims)

    def cumsum(self, x: Value, axis: int = -1, exclusive: bool = False, reverse: bool = False) -> Value:
        """Sums of all elements up to each one along an axis, or with `reverse` from each one on; fp16 and bf16 in fp32.

        The element is included, or not with `exclusive`, which moves the sums by one place: the first, or last, is 0.
        """
        rank = self._value("cumsum", x).type.rank
        along = self._one_axis("cumsum", axis, rank)
        k = self._all
        if reverse:
            return k.flip(self.cumsum(k.flip(x, along), along, exclusive), along)
        sums = self._emit("cumsum", (x,), axis=along)
        return k.slice(k.pad(sums, {along: (1, 0)}), None, -1, axes=along) if exclusive else sums

    def topk(self, x: Value, k: Dim) -> tuple[Value, Value]:
        """The k largest elements along the last axis, largest first, and their places (int32).

        Equal ones come in their order; NaN is larger than all numbers.
        """
        rank = self._value("topk", x).type.rank
        (size,) = self._known_dims("topk", (k,))
        if isinstance(size, int) and size < 0:
            raise kernel_error(f"topk: {size} is no size; a size is >= 0")
        parts = self._parts(x.shape[-1], size) if rank else (0, 0, 0, 0)
        values, places = (self._emit(op, (x,), k=(size,), parts=parts) for op in TOPS)
        return values, places

    def _parts(self, dim: Dim, k: Dim) -> tuple[Dim, ...]:
        """How rows that are too long for UB are cut: parts, their elements, candidates of each part, all candidates."""
        table = DimTable(self.graph.derived, self.graph.symbols())
        parts = table.floor_div(table.of(dim) + sum_of(PART - 1), PART)
        each = table.dim(table.least(table.of(k), sum_of(PART)))
        return table.dim(parts), table.dim(parts.scaled(PART)), each, table.dim(parts.times(product((each,))))

    def _place(self, op: str, x: Value, axis: int | None, keepdims: bool) -> Value:
        rank = self._value(op, x).type.rank
        if axis is not None:
            return self._emit(op, (x,), axis=self._one_axis(op, axis, rank), keepdims=keepdims)
        if rank < 2:
            flat = x if rank else self._all.reshape(x, (1,))
            return self._emit(op, (flat,), axis=0, keepdims=bool(keepdims and rank))
        found = self._place_of_all(op, self._all.cast(x, "fp16") if x.dtype == "int8" else x)
        return self._all.reshape(found, (1,) * rank) if keepdims else found

    def _place_of_all(self, op: str, x: Value) -> Value:
        """The row with the extreme, then the place in this row: so many cores share the rows."""
        k = self._all
        best = k.reshape((k.max if op == "argmax" else k.min)(x, -1), (-1,))
        places = k.reshape(self._place(op, x, -1, keepdims=False), best.shape)
        row = self._place(op, best, 0, keepdims=False)
        # The places come first, so that they are found where the extremes of the rows are, in one pass.
        column = k.sum(places * k.cast(k.eq(self.iota(best.shape), row), "int32"))
        return column + row * k.size((x.shape[-1],), "int32")

    def _one_axis(self, op: str, axis: object, rank: int) -> int:
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise kernel_error(f"{op}: axis {axis!r} must be a whole number")
        return listed_axes(op, axis, rank)[0]
