"""What convolutions and poolings share: strides, dilations and paddings of the dims behind batch and channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.value import Value

__all__ = ["Spatial", "spatial_of"]


@dataclass(frozen=True, slots=True)
class Spatial:
    """Numbers by dim. `pads` are what stands before and after each; they may be symbols where they follow from sizes."""

    kernel: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]

    @property
    def fixed(self) -> tuple[tuple[int, int], ...] | None:
        """The paddings, where all are numbers."""
        found = [(low, high) for low, high in self.pads if isinstance(low, int) and isinstance(high, int)]
        return tuple(found) if len(found) == len(self.pads) else None

    @property
    def spans(self) -> tuple[int, ...]:
        """How many elements a window reaches over. Unsupported for kernels of unknown size."""
        if any(isinstance(each, str) for each in self.kernel):
            raise Unsupported(f"the size of its kernel {list(self.kernel)} is not known before the model runs")
        return tuple((int(size) - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True))

    def padded(self, op: Operator, x: Value, value: float | int | bool) -> Value:
        """The image with its padding, as a tensor of its own."""
        pads = {2 + at: pair for at, pair in enumerate(self.pads) if pair != (0, 0)}
        return op.k.pad(x, pads, value) if pads else x

    def without_pads(self) -> Spatial:
        """The same for an image that has its padding."""
        return Spatial(self.kernel, self.strides, self.dilations, ((0, 0),) * len(self.pads))


def spatial_of(op: Operator, sizes: Sequence[Dim], kernel: Sequence[Dim]) -> Spatial:
    """What the operator's attributes say for an image of these sizes. Unsupported for paddings below zero."""
    count = len(sizes)
    strides, dilations = (_numbers(op, name, count) for name in ("strides", "dilations"))
    mode = op.attribute("auto_pad", "NOTSET")
    pads: list[tuple[Dim, Dim]]
    if mode == "NOTSET":
        given = list(op.attribute("pads", [0] * 2 * count))
        if len(given) != 2 * count:
            raise CompileError(f"{op.type}: {len(given)} pads for {count} dims; allowed: {2 * count}", op.source)
        if min(given, default=0) < 0:
            raise Unsupported(f"pads {given} take elements away")
        pads = list(zip(given[:count], given[count:], strict=True))
    elif mode == "VALID":
        pads = [(0, 0)] * count
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        given_sizes = zip(sizes, kernel, strides, dilations, strict=True)
        pads = [_same(op, mode == "SAME_UPPER", *each) for each in given_sizes]
    else:
        raise CompileError(f"{op.type}: auto_pad '{mode}' is unknown", op.source)
    return Spatial(tuple(kernel), strides, dilations, tuple(pads))


def _numbers(op: Operator, name: str, count: int) -> tuple[int, ...]:
    found = tuple(op.attribute(name, [1] * count))
    if len(found) != count or min(found, default=1) < 1:
        raise CompileError(f"{op.type}: {name} {list(found)} must be {count} numbers >= 1", op.source)
    return found


def _same(op: Operator, upper: bool, size: Dim, kernel: Dim, stride: int, dilation: int) -> tuple[Dim, Dim]:
    """Paddings that give ceil(size / stride) windows."""
    table = op.lowering.sizes
    span = (table.of(kernel) - sum_of(1)).scaled(dilation) + sum_of(1)
    count = table.floor_div(table.of(size) + sum_of(stride - 1), stride)
    needed = (count - sum_of(1)).scaled(stride) + span - table.of(size)
    total = needed if stride == 1 else _not_negative(op, needed)
    low = table.floor_div(total, 2)
    pair = (table.dim(low), table.dim(total - low))
    return pair if upper else (pair[1], pair[0])


def _not_negative(op: Operator, size: Sum) -> Sum:
    number = size.constant()
    return sum_of(max(number, 0)) if number is not None else op.lowering.sizes.most(size, Sum())
