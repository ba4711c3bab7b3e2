"""The segment of a convolution: how its tensors must lie, and its sizes for a concrete shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.conv.spec import ConvSpec, ImageView
from npuvm.compiler.cube.spec import MatView
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_conv import conv_numbers, conv_pads
from npuvm.compiler.graph.symbols import Product, evaluate
from npuvm.compiler.plan.segments import Access, CubeSegment, Segment
from npuvm.compiler.plan.views import contiguous

__all__ = ["ConvSegment", "lower_conv", "make_conv_segment"]


@dataclass(slots=True)
class ConvSegment(CubeSegment):
    """One convolution: `a` are the images [N, H, W, C], `b` the kernels [O, KH, KW, C / groups], `c` the result [N, P, Q, O].

    The channels of a pixel, and the elements of a kernel, are adjacent. Or they are all planes, with channels before rows and
    columns; then the pixels of a row are adjacent.
    """

    def __str__(self) -> str:
        bias = f" + {self.bias}" if self.bias else ""
        return f"cube {self.name}\n  %{self.node.id} = {self.a} conv {self.b}{bias} -> {self.c}"


def make_conv_segment(
    node: Node,
    read: Callable[[Node], Access],
    copied: Callable[[Node], Access],
    home: Access,
    segments: Sequence[Segment],
) -> ConvSegment:
    """The segment of a node; `read` says how a value lies in memory, `copied` makes a contiguous copy of one."""
    x, w = read(node.inputs[0]), read(node.inputs[1])
    if x.layout.strides[-1] != Product() and x.layout.dims[-1] != 1:
        x = copied(node.inputs[0])
    dense = contiguous(w.layout.dims).strides
    if any(a != b for a, b, dim in zip(w.layout.strides, dense, w.layout.dims, strict=True) if dim != 1):
        w = copied(node.inputs[1])
    bias = None
    if len(node.inputs) == 3:
        bias = read(node.inputs[2])
        if bias.layout.strides[-1] != Product() and bias.layout.dims[-1] != 1:
            bias = copied(node.inputs[2])
    number = sum(isinstance(each, CubeSegment) for each in segments)
    return ConvSegment(f"c{number}", node, x, w, bias, home, False, True)


def lower_conv(segment: ConvSegment, binding: Mapping[str, int]) -> tuple[ConvSpec, tuple[str, ...]]:
    """The convolution for these sizes, and the tensors whose addresses its program takes, in order."""
    accesses = [segment.a, segment.b, segment.c, *([segment.bias] if segment.bias is not None else [])]
    tensors = tuple(dict.fromkeys(access.tensor.name for access in accesses))
    attrs = segment.node.attrs
    (groups,) = conv_numbers(attrs, "groups", 1, 1)
    strides, dilations = (conv_numbers(attrs, name, 2, 1) for name in ("strides", "dilations"))
    top, _, left, _ = evaluate(conv_pads(attrs), binding)
    planes = bool(attrs.get("planes"))
    last = (0, 2, 3, 1) if planes else (0, 1, 2, 3)
    images, height, width, _ = _ordered(evaluate(segment.a.layout.dims, binding), last)
    filters, kernel_h, kernel_w, channels = _ordered(evaluate(segment.b.layout.dims, binding), last)
    _, high, wide, _ = _ordered(evaluate(segment.c.layout.dims, binding), last)

    def image(access: Access) -> ImageView:
        image, row, pixel, channel = _ordered(access.layout.stride_values(binding), last)
        number, offset = tensors.index(access.tensor.name), access.layout.offset.value(binding)
        return ImageView(number, access.tensor.dtype, image, row, pixel, channel, offset, access.cache)

    def matrix(access: Access, row: int) -> MatView:
        number, offset = tensors.index(access.tensor.name), access.layout.offset.value(binding)
        return MatView(number, access.tensor.dtype, row, 1, (), offset, access.cache)

    spec = ConvSpec(
        images=images,
        size=(height, width),
        out=(high, wide),
        kernel=(kernel_h, kernel_w),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pads=(top, left),
        channels=channels,
        filters=filters // groups,
        groups=groups,
        x=image(segment.a),
        w=matrix(segment.b, kernel_h * kernel_w * channels),
        y=image(segment.c),
        bias=None if segment.bias is None else matrix(segment.bias, 0),
        planes=planes,
        name=segment.name,
    )
    return spec, tensors


def _ordered(values: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(values[at] for at in order)
