"""The builder's convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ops import Attr, infer_type
from npuvm.compiler.graph.sums import sum_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.pool import Padding
from npuvm.compiler.language.value import Value, kernel_error
from npuvm.compiler.language.views import ViewMethods

__all__ = ["ConvMethods"]

_LAYOUTS_2D = ("NCHW", "NHWC")
_LAYOUTS_1D = ("NCW", "NWC")

_MOST_TAPS = 49
"""Pixels of a kernel for each channel up to which the vector unit adds them up one by one."""


class _Given(NamedTuple):
    """What a kernel says of a convolution beside its values."""

    stride: int | Sequence[int]
    padding: Padding | str
    dilation: int | Sequence[int]
    groups: int
    dtype: str | None


class ConvMethods(ViewMethods):
    """Convolutions as deep-learning frameworks define them (cross-correlations), on the cube.

    `padding` is a number, one number or (low, high) pair for each dim, "valid" (none) or "same" (the output has the size of the
    input; stride 1). Sums are fp32 (int32 for int8), with the bias, rounded once to `dtype`, that of x or int32 for int8.
    """

    def conv2d(
        self,
        x: Value,
        w: Value,
        bias: Value | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        layout: str = "NCHW",
        dtype: str | None = None,
    ) -> Value:
        """x [N, C, H, W] with w [O, C / groups, KH, KW], or layout "NHWC": x [N, H, W, C] with w [O, KH, KW, C / groups]."""
        if layout not in _LAYOUTS_2D:
            raise kernel_error(f"conv2d: layout '{layout}' is unknown; allowed: {', '.join(_LAYOUTS_2D)}")
        image, kernel = self._rank("conv2d", x, 4), self._rank("conv2d", w, 4)
        given = _Given(stride, padding, dilation, groups, dtype)
        if layout == "NHWC":
            return self._conv(image, kernel, bias, given)
        if self._is_pointwise(kernel.shape[2:], given):
            return self._planes(image, kernel, bias, dtype)
        k, sums = self._all, "int32" if image.dtype == "int8" else "fp32"
        if bias is None or self._value("conv2d", bias).dtype == image.dtype != "int8":
            return self._conv(image, kernel, bias, given, planes=True)
        # Along the rows of a product the cube takes no bias of another type than its operands'.
        found = self._conv(image, kernel, None, given._replace(dtype=sums), planes=True)
        column = k.reshape(k.cast(bias, sums), (kernel.shape[0], 1, 1))
        return k.cast(found + column, dtype or ("int32" if image.dtype == "int8" else image.dtype))

    def conv1d(
        self,
        x: Value,
        w: Value,
        bias: Value | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        layout: str = "NCW",
        dtype: str | None = None,
    ) -> Value:
        """x [N, C, W] with w [O, C / groups, K], or layout "NWC": x [N, W, C] with w [O, K, C / groups]."""
        if layout not in _LAYOUTS_1D:
            raise kernel_error(f"conv1d: layout '{layout}' is unknown; allowed: {', '.join(_LAYOUTS_1D)}")
        image, kernel = self._rank("conv1d", x, 3), self._rank("conv1d", w, 3)
        strides, dilations = (
            self._two("conv1d", name, each, 1) for name, each in (("stride", stride), ("dilation", dilation))
        )
        pads: Padding | str = padding
        if not isinstance(padding, str):
            (one,) = self._pairs("conv1d", padding, 1)
            pads = ((0, 0), one)
        at = 2 if layout == "NCW" else 1
        image, kernel = (self._all.reshape(each, (*each.shape[:at], 1, *each.shape[at:])) for each in (image, kernel))
        plane = "NCHW" if layout == "NCW" else "NHWC"
        found = self.conv2d(image, kernel, bias, strides, pads, dilations, groups, plane, dtype)
        return self._all.reshape(found, (*found.shape[:at], *found.shape[at + 1 :]))

    def _conv(self, x: Value, w: Value, bias: Value | None, given: _Given, planes: bool = False) -> Value:
        """A convolution of values with channels last, or before rows and columns."""
        stride, padding, dilation, groups, dtype = given
        strides, dilations = self._two("conv2d", "stride", stride), self._two("conv2d", "dilation", dilation)
        first = 2 if planes else 1
        kernel = w.shape[first : first + 2]
        pads = self._pads(padding, kernel, strides, dilations)
        out = []
        for at in range(2):
            size, (low, high), each = x.shape[first + at], pads[at], kernel[at]
            if isinstance(each, int) and each < 1:
                raise kernel_error(f"conv2d: the kernel of {w.type} must have sizes >= 1")
            before = self._dims.of(each) - sum_of(1)
            self._dims.dim(before)  # of a name a symbol, which no shape may make less than 0
            padded, span = (
                self._dims.of(size) + self._dims.of(low) + self._dims.of(high),
                before.scaled(dilations[at]) + sum_of(1),
            )
            where = f"conv2d: dim {at} of the image {x.type}, padded"
            out.append(self._dim("conv2d", self._window_count(padded, span, strides[at], where)))
        default = "int32" if x.dtype == "int8" else x.dtype
        if not planes and self._is_pointwise(kernel, given):
            return self._points(x, w, bias, dtype or default)
        inputs = (x, w) if bias is None else (x, w, self._value("conv2d", bias))
        attrs: dict[str, Attr] = {
            "strides": strides, "pads": (*pads[0], *pads[1]), "dilations": dilations, "groups": (groups,),
            "planes": planes, "out": tuple(out), "dtype": dtype or default,
        }  # fmt: skip
        taps = [each for each in kernel if isinstance(each, int)]
        small = len(taps) == 2 and taps[0] * taps[1] <= _MOST_TAPS
        if not planes and small and w.shape[0] == groups > 1 == w.shape[3]:
            try:
                infer_type("conv2d", [each.type for each in inputs], attrs)
            except CompileError as error:
                raise kernel_error(error.message) from None
            return self._depthwise(x, w, bias, (strides, dilations, pads, tuple(out)), dtype or default)
        return self._emit("conv2d", inputs, **attrs)

    def _depthwise(
        self,
        x: Value,
        w: Value,
        bias: Value | None,
        given: tuple[Sequence[int], Sequence[int], Sequence[tuple[Dim, Dim]], tuple[Dim, ...]],
        dtype: str,
    ) -> Value:
        """A kernel for each channel, channels last: as many products of shifted images, which the vector unit adds up."""
        k, sums = self._all, "int32" if x.dtype == "int8" else "fp32"
        strides, dilations, pads, out = given
        padded = k.pad(x, {1: pads[0], 2: pads[1]}) if any(map(any, pads)) else x
        kernels = k.cast(k.permute(k.reshape(w, w.shape[:3]), (1, 2, 0)), sums)
        shape, steps = (x.shape[0], *out, x.shape[3]), (1, *strides, 1)
        total = None if bias is None else k.cast(self._value("conv2d", bias), sums)
        height, width = (int(each) for each in w.shape[1:3])
        for row, col in product(range(height), range(width)):
            starts = [sum_of(at) for at in (0, row * dilations[0], col * dilations[1], 0)]
            part = k.cast(self._slice(padded, starts, shape, steps), sums) * kernels[row, col]
            total = part if total is None else total + part
        assert total is not None
        return k.cast(total, dtype)

    def _points(self, x: Value, w: Value, bias: Value | None, dtype: str) -> Value:
        """A kernel of one pixel: a matrix product of all pixels."""
        k = self._all
        pixels = k.reshape(x, (-1, x.shape[3]))
        kernel = k.reshape(w, (w.shape[0], w.shape[3]))
        found = k.matmul(pixels, kernel, transpose_b=True, bias=bias, dtype=dtype)
        return k.reshape(found, (*x.shape[:3], w.shape[0]))

    def _planes(self, x: Value, w: Value, bias: Value | None, dtype: str | None) -> Value:
        """A kernel of one pixel, channels first: a matrix product with every image; its bias goes along the rows."""
        k = self._all
        default = "int32" if x.dtype == "int8" else x.dtype
        planes = k.reshape(x, (x.shape[0], x.shape[1], -1))
        kernel = k.reshape(w, (w.shape[0], w.shape[1]))
        sums = "int32" if x.dtype == "int8" else "fp32"
        found = k.matmul(kernel, planes, dtype=(dtype or default) if bias is None else sums)
        if bias is not None:
            column = k.reshape(k.cast(self._value("conv2d", bias), sums), (w.shape[0], 1))
            found = k.cast(found + column, dtype or default)
        return k.reshape(found, (x.shape[0], w.shape[0], *x.shape[2:]))

    @staticmethod
    def _is_pointwise(kernel: Sequence[Dim], given: _Given) -> bool:
        no_padding = isinstance(given.padding, str) or not any(_flat(given.padding))
        return tuple(kernel) == (1, 1) and given.groups == 1 and no_padding and set(_flat(given.stride)) == {1}

    def _rank(self, op: str, value: Value, rank: int) -> Value:
        found = self._value(op, value)
        if found.type.rank != rank:
            raise kernel_error(f"{op}: {found.type} must have rank {rank}")
        return found

    def _two(self, op: str, name: str, given: int | Sequence[int], count: int = 2) -> tuple[int, ...]:
        """Numbers for both dims of an image; of `count` 1, for its columns."""
        listed = self._numbers(op, name, given, count)
        return listed if count == 2 else (1, *listed)

    def _pads(
        self, padding: Padding | str, kernel: Sequence[Dim], strides: Sequence[int], dilations: Sequence[int]
    ) -> list[tuple[Dim, Dim]]:
        """What stands before and after each dim; with "same" it follows from the kernel, whose sizes may be names."""
        if padding == "same":
            if set(strides) != {1}:
                raise kernel_error(f"conv2d: padding 'same' needs stride 1, not {tuple(strides)}")
            spans = [
                (self._dims.of(each) - sum_of(1)).scaled(step) for each, step in zip(kernel, dilations, strict=True)
            ]
            halves = [self._dims.floor_div(span, 2) for span in spans]
            return [
                (self._dim("conv2d", half), self._dim("conv2d", span - half))
                for span, half in zip(spans, halves, strict=True)
            ]
        if isinstance(padding, str):
            if padding != "valid":
                raise kernel_error(f"conv2d: padding '{padding}' is unknown; allowed: numbers, 'valid', 'same'")
            return [(0, 0), (0, 0)]
        return [*self._pairs("conv2d", padding, 2)]

    def _pairs(self, op: str, padding: Padding, count: int) -> list[tuple[int, int]]:
        listed = [padding] * count if isinstance(padding, int) else list(padding)
        pairs = [(each, each) if isinstance(each, int) else tuple(each) for each in listed]
        if len(pairs) != count or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
            raise kernel_error(f"{op}: padding {padding!r} must be one number >= 0, or {count} numbers or pairs")
        return [(low, high) for low, high in pairs]


def _flat(given: Padding) -> list[int]:
    """All numbers in it."""
    if isinstance(given, int):
        return [given]
    return [number for each in given for number in ((each,) if isinstance(each, int) else each)]
