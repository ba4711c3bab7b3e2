"""The builder's methods that move data: slices, parts put together, paddings, windows and strided views."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from types import EllipsisType

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.shaping import infer_reshape
from npuvm.compiler.graph.sums import DimTable, Sum, parse_sum, sum_of
from npuvm.compiler.graph.symbols import Check, Derived, product
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.base import BuilderBase, listed_axes, listed_dims, typed_number
from npuvm.compiler.language.value import ParamRef, Value, kernel_error

__all__ = ["Bound", "Index", "ViewMethods"]

Bound = Dim | None
"""A start or stop of a slice: None is the end of the dim, a number below zero counts from its end."""

Index = int | builtins.slice | EllipsisType | None
"""What may stand between the brackets of `x[...]`."""

_ZERO, _ONE = Sum(), sum_of(1)


class ViewMethods(BuilderBase):
    """Operations that say where elements lie; they are folded into what reads and writes them."""

    def dim(self, size: str) -> Dim:
        """The number or name for a size that is a sum of products, for example `"2 * H + W - 3"`."""
        try:
            value = parse_sum(size)
        except CompileError as error:
            raise kernel_error(error.message) from None
        self._known_dims("dim", tuple(symbol for term in value.terms for symbol in term.symbols))
        return self._dim("dim", value)

    def slice(
        self,
        x: Value,
        starts: Bound | Sequence[Bound] = None,
        stops: Bound | Sequence[Bound] = None,
        steps: int | Sequence[int] = 1,
        axes: int | Sequence[int] | None = None,
    ) -> Value:
        """The elements start, start + step, ... before stop along each of `axes`, all axes by default.

        Bounds are numbers, names of dims, or None. As in numpy, numbers below zero count from the end, and bounds
        outside the dim are moved to its ends. Steps are 1 or more.
        """
        source = self._value("slice", x)
        listed = tuple(range(source.type.rank)) if axes is None else listed_axes("slice", axes, source.type.rank)
        bounds = [
            self._per_axis("slice", name, each, len(listed)) for name, each in (("starts", starts), ("stops", stops))
        ]
        strides = self._numbers("slice", "steps", steps, len(listed))
        self._check_axes("slice", source, listed)
        begin = [_ZERO] * source.type.rank
        sizes = list(source.shape)
        by_axis = [1] * source.type.rank
        for axis, start, stop, step in zip(listed, *bounds, strides, strict=True):
            begin[axis], sizes[axis] = self._range(source.shape[axis], start, stop, step)
            by_axis[axis] = step
        return self._slice(source, begin, sizes, by_axis)

    def split(self, x: Value, parts: int | str | Sequence[Dim], axis: int = -1) -> tuple[Value, ...]:
        """Parts of `x` along an axis: a number of equal parts, or their sizes, one of which may be -1."""
        source = self._value("split", x)
        (at,) = listed_axes("split", axis, source.type.rank)
        self._check_axes("split", source, (at,))
        sizes = self._part_sizes(source.shape[at], parts)
        results = []
        start, zeros = _ZERO, [_ZERO] * source.type.rank
        for size in sizes:
            shape = (*source.shape[:at], size, *source.shape[at + 1 :])
            begin = [*zeros[:at], start, *zeros[at + 1 :]]
            results.append(self._slice(source, begin, shape, [1] * source.type.rank))
            start += self._dims.of(size)
        return tuple(results)

    def concat(self, values: Sequence[Value], axis: int = 0) -> Value:
        """Values one after the other along an axis; all other dims are equal. Each computed value is written into its place."""
        if not values:
            raise kernel_error("concat needs at least one value")
        nodes = [self._value("concat", each) for each in values]
        (at,) = listed_axes("concat", axis, nodes[0].type.rank)
        if any(each.type.rank != nodes[0].type.rank for each in nodes):
            raise kernel_error(f"concat: {', '.join(str(each.type) for each in nodes)} must have the same rank")
        self._check_axes("concat", nodes[0], (at,))
        total = _ZERO
        for each in nodes:
            total += self._dims.of(each.shape[at])
        return self._emit("concat", nodes, axis=at, size=(self._dim("concat", total),))

    def stack(self, values: Sequence[Value], axis: int = 0) -> Value:
        """Values of one shape along a new axis."""
        if not values:
            raise kernel_error("stack needs at least one value")
        rank = self._value("stack", values[0]).type.rank + 1
        (at,) = listed_axes("stack", axis, rank)
        if not 0 <= at < rank:
            raise kernel_error(f"stack: axis {axis} is outside the {rank} dims of the result")
        expanded = [self._all.reshape(each, (*each.shape[:at], 1, *each.shape[at:])) for each in values]
        return self.concat(expanded, at)

    def pad(
        self,
        x: Value,
        pads: Sequence[tuple[Dim, Dim]] | Mapping[int, tuple[Dim, Dim]],
        value: float | int | bool = 0,
    ) -> Value:
        """`x` with (low, high) elements of a constant before and after each axis: pairs for all axes, or by axis."""
        source = self._value("pad", x)
        rank = source.type.rank
        if isinstance(pads, Mapping):
            given = dict(zip(listed_axes("pad", tuple(pads), rank), pads.values(), strict=True))
            self._check_axes("pad", source, tuple(given))
            pads = [given.get(axis, (0, 0)) for axis in range(rank)]
        if len(pads) != rank or any(len(pair) != 2 for pair in pads):
            raise kernel_error(f"pad: {pads!r} must be one (low, high) for each of the {rank} dims of {source.type}")
        lows, sizes = [], []
        for dim, pair in zip(source.shape, pads, strict=True):
            low, high = self._known_dims("pad", tuple(pair))
            if any(isinstance(each, int) and each < 0 for each in (low, high)):
                raise kernel_error(f"pad: ({low}, {high}) must not be below zero; use slice to take elements away")
            lows.append(low)
            sizes.append(self._dim("pad", self._dims.of(low) + self._dims.of(dim) + self._dims.of(high)))
        number = typed_number(_zero_of(value, source.dtype), source.dtype)
        return self._emit("pad", (source,), lows=tuple(lows), sizes=tuple(sizes), value=number)

    def windows(
        self,
        x: Value,
        axes: int | Sequence[int],
        kernel: int | Sequence[int],
        steps: int | Sequence[int] = 1,
        dilations: int | Sequence[int] = 1,
    ) -> Value:
        """All windows of `x` along axes: each axis becomes the number of windows, their elements are new last dims.

        Window i of an axis begins at i * step and has `kernel` elements, `dilation` apart; it lies inside the dim.
        """
        source = self._value("windows", x)
        listed = listed_axes("windows", axes, source.type.rank)
        self._check_axes("windows", source, listed)
        if list(listed) != sorted(set(listed)):
            raise kernel_error(f"windows: axes {list(listed)} must be increasing")
        given = [
            self._numbers("windows", name, each, len(listed))
            for name, each in (("kernel", kernel), ("steps", steps), ("dilations", dilations))
        ]
        counts = []
        for axis, size, step, dilation in zip(listed, *given, strict=True):
            whole = self._dims.of(source.shape[axis])
            count = self._window_count(
                whole, (size - 1) * dilation + 1, step, f"windows of axis {axis} of {source.type}"
            )
            counts.append(self._dim("windows", count))
        kernel, steps, dilations = given
        return self._emit(
            "windows", (source,), axes=listed, kernel=kernel, steps=steps, dilations=dilations, counts=tuple(counts)
        )

    def as_strided(
        self, x: Value | ParamRef, shape: str | Sequence[Dim], strides: str | Sequence[Dim], offset: Dim = 0
    ) -> Value:
        """The elements at offset + i * strides[0] + j * strides[1] + ... of the row-major elements of `x`.

        Strides and offset count elements and are not below zero; elements may be read more than once.
        """
        value = self._all.load(x) if isinstance(x, ParamRef) else self._value("as_strided", x)
        dims = [self._known_dims("as_strided", each) for each in (shape, strides, (offset,))]
        return self._emit("as_strided", (value,), shape=dims[0], strides=dims[1], offset=dims[2])

    def flip(self, x: Value, axes: int | Sequence[int] | None = None) -> Value:
        """The elements in reverse order along axes, all by default: gathers by descending numbers, one axis after the other."""
        k, source = self._all, self._value("flip", x)
        rank = source.type.rank
        listed = tuple(range(rank)) if axes is None else listed_axes("flip", axes, rank)
        self._check_axes("flip", source, listed)
        for axis in listed:
            dim = source.shape[axis]
            source = k.gather(source, (k.size((dim,), "int32") - 1) - k.iota((dim,)), axis)
        return source

    def index(self, x: Value, key: Index | tuple[Index, ...]) -> Value:
        """What `x[key]` gives: slices, numbers (which drop the dim), `...` and None (a new dim of size 1)."""
        source = self._value("index", x)
        items = list(key) if isinstance(key, tuple) else [key]
        if any(each is not None and not isinstance(each, int | builtins.slice | EllipsisType) for each in items):
            raise kernel_error(f"[{key!r}]: allowed are numbers, slices, ... and None")
        used = sum(isinstance(each, int | builtins.slice) for each in items)
        if used > source.type.rank or items.count(...) > 1:
            raise kernel_error(f"[{key!r}] has more places than the {source.type.rank} dims of {source.type}")
        whole = [builtins.slice(None)] * (source.type.rank - used)
        at = items.index(...) if ... in items else len(items)
        items = [*items[:at], *whole, *items[at + 1 :]]
        picks = [each for each in items if isinstance(each, int | builtins.slice)]
        begin, sizes, steps = [], [], []
        for axis, pick in enumerate(picks):
            start, size, step = self._pick(source, axis, pick)
            begin.append(start)
            sizes.append(size)
            steps.append(step)
        result = self._slice(source, begin, sizes, steps)
        kept = iter([dim for pick, dim in zip(picks, result.shape, strict=True) if not isinstance(pick, int)])
        shape = tuple(1 if item is None else next(kept) for item in items if not isinstance(item, int))
        return result if shape == result.shape else self._all.reshape(result, shape)

    # What the methods share.

    @property
    def _dims(self) -> DimTable:
        return DimTable(self.graph.derived, self.graph.symbols())

    def _dim(self, op: str, value: Sum) -> Dim:
        try:
            return self._dims.dim(value)
        except CompileError as error:
            raise kernel_error(f"{op}: {error.message}") from None

    def _window_count(self, whole: Sum, span: int | Sum, step: int, where: str, up: bool = False) -> Sum:
        """How many windows of `span` elements a dim has, rounded `up` or down; it is refused where not one fits."""
        rest = whole - (span if isinstance(span, Sum) else sum_of(span))
        if (number := rest.constant()) is not None and number < 0:
            raise kernel_error(f"{where}: a window spans {span} elements, there are {whole}")
        if not rest.never_negative():
            self._dims.dim(rest)  # a symbol, which no shape may make less than 0
        return self._dims.floor_div(rest + sum_of(step - 1 if up else 0), step) + _ONE

    def _slice(self, x: Value, starts: Sequence[Sum], sizes: Sequence[Dim], steps: Sequence[int]) -> Value:
        begin = tuple(self._dim("slice", start) for start in starts)
        return self._emit("slice", (x,), starts=begin, sizes=tuple(sizes), steps=tuple(steps))

    def _pick(self, x: Value, axis: int, pick: int | builtins.slice) -> tuple[Sum, Dim, int]:
        dim = x.shape[axis]
        if isinstance(pick, builtins.slice):
            step = 1 if pick.step is None else pick.step
            (step,) = self._numbers("slice", "steps", step, 1)
            start, size = self._range(dim, pick.start, pick.stop, step)
            return start, size, step
        if isinstance(dim, int) and not -dim <= pick < dim:
            raise kernel_error(f"index {pick} is outside axis {axis} of {x.type}")
        return (self._dims.of(dim) + sum_of(pick) if pick < 0 else sum_of(pick)), 1, 1

    def _range(self, dim: Dim, start: Bound, stop: Bound, step: int) -> tuple[Sum, Dim]:
        """Where a slice of a dim begins, and how many elements it has."""
        whole = self._dims.of(dim)
        begin = _ZERO if start is None else self._bound(whole, start)
        end = whole if stop is None else self._bound(whole, stop)
        length = end - begin
        numbers = [each for each in (start, stop) if isinstance(each, int)]
        known = start is None or stop is None or start == stop
        if len(numbers) == 2 and (numbers[0] < 0) == (numbers[1] < 0):
            known = numbers[0] <= numbers[1]
            if not known:
                return begin, 0
        if not known and not length.never_negative():
            length = self._dims.most(length, _ZERO)
        return begin, self._dim("slice", self._dims.floor_div(length + sum_of(step - 1), step))

    def _bound(self, whole: Sum, bound: Dim) -> Sum:
        (bound,) = self._known_dims("slice", (bound,))
        if isinstance(bound, int) and bound < 0:
            return self._dims.most(whole + sum_of(bound), _ZERO)
        return self._dims.least(self._dims.of(bound), whole)

    def _part_sizes(self, dim: Dim, parts: int | str | Sequence[Dim]) -> list[Dim]:
        if isinstance(parts, int):
            if parts < 1:
                raise kernel_error(f"split: {parts} parts; there must be at least 1")
            return [self._exact_part(dim, parts)] * parts
        sizes = list(listed_dims("split", parts))
        self._known_dims("split", tuple(size for size in sizes if size != -1))
        if any(isinstance(size, int) and size < -1 for size in sizes) or sizes.count(-1) > 1:
            raise kernel_error(f"split: sizes {sizes} must be >= 0, one may be -1")
        total, whole = _ZERO, self._dims.of(dim)
        for size in sizes:
            total += _ZERO if size == -1 else self._dims.of(size)
        if -1 in sizes:
            return [self._dim("split", whole - total) if size == -1 else size for size in sizes]
        if total != whole:
            if (difference := (total - whole).constant()) is not None:
                raise kernel_error(f"split: sizes {sizes} are {difference:+d} elements off {dim}")
            check = Check(product((self._dim("split", total),)), product((dim,)))
            if check not in self.graph.checks:
                self.graph.checks.append(check)
        return sizes

    def _exact_part(self, dim: Dim, parts: int) -> Dim:
        known = {*self.graph.symbols(), *(each.name for each in self.graph.derived)}
        try:
            found = infer_reshape((dim,), (parts, -1), known)
        except CompileError:
            raise kernel_error(f"split: {dim} elements cannot be {parts} equal parts") from None
        if found.derived is None:
            return found.shape[1]
        for each in self.graph.derived:
            same = isinstance(each, Derived) and each.numerator == found.derived.numerator
            if same and isinstance(each, Derived) and each.denominator == found.derived.denominator:
                return each.name
        self.graph.derived.append(found.derived)
        return found.derived.name

    def _check_axes(self, op: str, x: Value, axes: Sequence[int]) -> None:
        if any(not 0 <= axis < x.type.rank for axis in axes) or len(set(axes)) != len(axes):
            raise kernel_error(
                f"{op}: axes {list(axes)} must be different and within the {x.type.rank} dims of {x.type}"
            )

    def _per_axis(self, op: str, name: str, given: Bound | Sequence[Bound], count: int) -> list[Bound]:
        listed = [given] * count if given is None or isinstance(given, int | str) else list(given)
        if len(listed) != count or any(each is not None and not isinstance(each, int | str) for each in listed):
            raise kernel_error(f"{op}: {name} {given!r} must be {count} numbers, names of dims or None")
        return listed

    def _numbers(self, op: str, name: str, given: int | Sequence[int], count: int) -> tuple[int, ...]:
        listed = (given,) * count if isinstance(given, int) else tuple(given)
        if len(listed) != count or any(each < 1 for each in listed):
            raise kernel_error(f"{op}: {name} {given!r} must be {count} whole numbers >= 1")
        return listed


def _zero_of(value: float | int | bool, dtype: str) -> float | int | bool:
    """The default pad of 0 suits every dtype, bool too."""
    return False if dtype == "bool" and value == 0 else value
