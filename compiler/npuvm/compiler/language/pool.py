"""The builder's pooling methods: reduces over windows of the last dims, one dim after the other.

A window along a dim is a number of slices of the padded input, joined element by element, so that whole rows are moved at
a time; a long one is a dim of its own that is reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.base import listed_axes
from npuvm.compiler.language.value import Value, kernel_error
from npuvm.compiler.language.views import ViewMethods

__all__ = ["Padding", "PoolMethods"]

Padding = int | Sequence[int | tuple[int, int]]
"""One number for all ends of all dims, or by dim a number for both ends or one for each."""

_MOST_SLICES = 8
"""Longer windows are reduced as a dim, since every slice takes a place in UB."""

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Axis:
    """The windows along an axis of the padded input: `low` elements of padding, then `size` of the input, `padded` in all."""

    axis: int
    kernel: int
    stride: int
    dilation: int
    low: int
    high: int
    size: Sum
    padded: Sum
    count: Dim

    @property
    def plain(self) -> bool:
        """Whether nothing is padded."""
        return self.padded == self.size


@dataclass(frozen=True, slots=True)
class _Given:
    """What a kernel says of a pooling."""

    kernel: int | Sequence[int]
    stride: int | Sequence[int] | None
    padding: Padding
    dilation: int | Sequence[int]
    ceil_mode: bool
    axes: Sequence[int] | None


class PoolMethods(ViewMethods):
    """Poolings over `axes` of a value, by default the last ones, as many as `kernel` has numbers.

    `stride` is `kernel` unless given. A window begins every `stride` elements of the padded dim and has `kernel` elements,
    `dilation` apart. With `ceil_mode` a last window may reach over the end, if it begins inside the input or the padding before
    it. A stride costs least with channels last and `axes=(1, 2)`.
    """

    def max_pool(
        self,
        x: Value,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        axes: Sequence[int] | None = None,
    ) -> Value:
        """The largest element of each window; padding takes no part."""
        given = _Given(kernel, stride, padding, dilation, ceil_mode, axes)
        return self._extreme("max_pool", x, self._all.maximum, self._all.max, -1, given)

    def min_pool(
        self,
        x: Value,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        axes: Sequence[int] | None = None,
    ) -> Value:
        """The smallest element of each window; padding takes no part."""
        given = _Given(kernel, stride, padding, dilation, ceil_mode, axes)
        return self._extreme("min_pool", x, self._all.minimum, self._all.min, 1, given)

    def avg_pool(
        self,
        x: Value,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        axes: Sequence[int] | None = None,
    ) -> Value:
        """The mean of each window, in fp32; padding counts as zeros, or not at all."""
        k, source = self._all, self._value("avg_pool", x)
        if source.dtype not in ("fp32", "fp16", "bf16"):
            raise kernel_error(f"avg_pool does not take {source.dtype}; allowed: fp32, fp16, bf16 (use cast)")
        pooled = self._pool_axes("avg_pool", source, _Given(kernel, stride, padding, dilation, ceil_mode, axes))
        total, count = self._padded(source, pooled, 0.0), 1.0
        for each in pooled:
            total = self._joined(total, each, lambda part: k.cast(part, "fp32"), k.add, k.sum)
            size = self._window_size(each, source.type.rank, count_include_pad)
            if isinstance(size, float):
                count *= size
            else:
                total = total / size
        return k.cast(total if count == 1.0 else total / count, source.dtype)

    def _extreme(
        self,
        op: str,
        x: Value,
        join: Callable[[Value, Value], Value],
        reduce: Callable[..., Value],
        sign: int,
        given: _Given,
    ) -> Value:
        source = self._value(op, x)
        axes = self._pool_axes(op, source, given)
        lowest = sign * float("inf") if source.type.info.kind == "float" else sign * _INT32_MAX - (sign < 0)
        value = self._padded(source, axes, lowest)
        for each in axes:
            value = self._joined(value, each, lambda part: part, join, reduce)
        return value

    def _pool_axes(self, op: str, x: Value, given: _Given) -> list[_Axis]:
        count = 1 if isinstance(given.kernel, int) else len(given.kernel)
        kernels = self._numbers(op, "kernel", given.kernel, count)
        if count > x.type.rank:
            raise kernel_error(f"{op}: a kernel of {count} dims for {x.type}")
        axes = listed_axes(op, range(-count, 0) if given.axes is None else given.axes, x.type.rank)
        self._check_axes(op, x, axes)
        strides = self._numbers(op, "stride", kernels if given.stride is None else given.stride, count)
        dilations = self._numbers(op, "dilation", given.dilation, count)
        pads = [given.padding] * count if isinstance(given.padding, int) else list(given.padding)
        if len(pads) != count or len(axes) != count:
            wrong = f"padding {given.padding!r}" if len(pads) != count else f"axes {given.axes!r}"
            raise kernel_error(f"{op}: {wrong} must be {count} numbers; padding may be one number, or pairs")
        found = []
        for axis, kernel, stride, dilation, pad in zip(axes, kernels, strides, dilations, pads, strict=True):
            low, high = (pad, pad) if isinstance(pad, int) else pad
            span = (kernel - 1) * dilation + 1
            if not 0 <= low <= span // 2 or not 0 <= high <= span // 2:
                raise kernel_error(
                    f"{op}: padding {pad} must be 0 to {span // 2}, half of the {span} elements of a window"
                )
            found.append(self._pool_axis(op, x, axis, (kernel, stride, dilation, low, high), given.ceil_mode))
        return found

    def _pool_axis(
        self, op: str, x: Value, axis: int, numbers: tuple[int, int, int, int, int], ceil_mode: bool
    ) -> _Axis:
        kernel, stride, dilation, low, high = numbers
        dims, size = self._dims, self._dims.of(x.shape[axis])
        span = (kernel - 1) * dilation + 1
        padded = size + sum_of(low, high)
        count = self._window_count(padded, span, stride, f"{op}: axis {axis} of {x.type}, padded", ceil_mode)
        if ceil_mode:
            count = dims.least(count, dims.floor_div(size + sum_of(low + stride - 1), stride))
            padded = dims.most(padded, (count - sum_of(1)).scaled(stride) + sum_of(span))
        return _Axis(axis, kernel, stride, dilation, low, high, size, padded, self._dim(op, count))

    def _padded(self, x: Value, axes: Sequence[_Axis], value: float | int) -> Value:
        lows, sizes = [0] * x.type.rank, list(x.shape)
        for each in axes:
            lows[each.axis] = each.low
            sizes[each.axis] = self._dim("pooling", each.padded)
        if all(each.plain for each in axes):
            return x
        return self._emit("pad", (x,), lows=tuple(lows), sizes=tuple(sizes), value=value)

    def _joined(
        self,
        x: Value,
        windows: _Axis,
        prepare: Callable[[Value], Value],
        join: Callable[[Value, Value], Value],
        reduce: Callable[..., Value],
    ) -> Value:
        """The windows along one axis, each reduced to an element."""
        axis, rank = windows.axis, x.type.rank
        last = axis == rank - 1
        if windows.kernel > _MOST_SLICES:
            return self._reduced(x, windows, prepare, reduce)
        # In the last axis neighbours must stay so: windows are joined at every element, and one in a stride is read.
        apart = last and windows.stride > 1 and windows.kernel > 1
        stride = 1 if apart else windows.stride
        count = windows.count
        if apart:
            count = self._dim("pooling", (self._dims.of(count) - sum_of(1)).scaled(windows.stride) + sum_of(1))
        result: Value | None = None
        for at in range(windows.kernel):
            part = prepare(self._along(x, axis, at * windows.dilation, count, stride))
            result = part if result is None else join(result, part)
        assert result is not None
        return self._along(result, axis, 0, windows.count, windows.stride) if apart else result

    def _along(self, x: Value, axis: int, start: int, count: Dim, step: int) -> Value:
        """`count` elements along an axis, `step` apart."""
        others = range(x.type.rank)
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        starts = [sum_of(start if at == axis else 0) for at in others]
        return self._slice(x, starts, shape, [step if at == axis else 1 for at in others])

    def _reduced(
        self, x: Value, windows: _Axis, prepare: Callable[[Value], Value], reduce: Callable[..., Value]
    ) -> Value:
        """Long windows as a dim that is reduced, which stands where the dims behind it keep their neighbours."""
        axis, rank = windows.axis, x.type.rank
        parts = self._emit(
            "windows", (x,), axes=(axis,), kernel=(windows.kernel,), steps=(windows.stride,),
            dilations=(windows.dilation,), counts=(windows.count,),
        )  # fmt: skip
        if axis == rank - 1:
            return reduce(prepare(parts), -1)
        ordered = self._all.permute(parts, (*range(axis), rank, *range(axis, rank)))
        return reduce(prepare(ordered), axis)

    def _window_size(self, windows: _Axis, rank: int, count_include_pad: bool) -> Value | float:
        """How many elements each window has: a number where all have the same, else along the windows' axis.

        Of the elements begin + i * dilation, ceil((bound - begin) / dilation) are below a bound, at least none and at most all.
        """
        margin = (windows.low, windows.high) if count_include_pad else (0, 0)
        if windows.size + sum_of(*margin) == windows.padded:
            return float(windows.kernel)
        k = self._all
        shape = (windows.count, *[1] * (rank - windows.axis - 1))
        begin = k.iota(shape, 0, "fp32") * float(windows.stride) - float(windows.low)

        def below(bound: Value | float) -> Value:
            number = (bound - begin) / float(windows.dilation)
            whole = number if windows.dilation == 1 else k.ceil(number)
            return k.minimum(k.maximum(whole, 0.0), float(windows.kernel))

        end = k.size((self._dim("avg_pool", windows.size),)) + float(margin[1])
        return below(end) - below(float(-margin[0]))
