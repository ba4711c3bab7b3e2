"""What a convolution is to its code generator: sizes, and how its tensors lie in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.symint import several

__all__ = ["ConvSizes", "ConvSpec", "ImageView", "product_of", "sizes_of"]


@dataclass(frozen=True, slots=True)
class ImageView:
    """Images in global memory: elements from one image, row, pixel, channel to the next; channels or pixels are adjacent."""

    arg: int
    dtype: str
    image: int
    row: int
    pixel: int
    channel: int = 1
    offset: int = 0
    cache: str = "normal"


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """y[i, p, q, g, o] = sum of x[i, p * stride - pad + r * dilation, q * ..., g, c] * w[g, o, r, s, c] (+ bias[g, o]).

    `channels` and `filters` are those of one of the `groups`. With `planes` the pixels of x and y are adjacent and the kernels
    have their channels first, else channels are adjacent. `w` has the elements of a kernel adjacent, kernel after kernel.
    `pads` are those before the first row and column.
    """

    images: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    channels: int
    filters: int
    groups: int
    x: ImageView
    w: MatView
    y: ImageView
    bias: MatView | None = None
    planes: bool = False
    name: str = "conv2d"

    @property
    def depth(self) -> int:
        """Elements of a kernel: products in each sum."""
        return prod(self.kernel) * self.channels

    @property
    def is_empty(self) -> bool:
        """Whether the result has no elements."""
        return self.images * prod(self.out) * self.filters * self.groups == 0


class ConvSizes(NamedTuple):
    """What changes from shape to shape, as the choice of a tile needs it. `images` are those of all groups.

    `rows` and `rows_apart` are the distance of two rows of x and of y, and what it is where rows follow each other. `adjacent`
    is the distance of two pixels of x, or of two of its planes; `target` the length of a row of the product where those follow
    each other. A kernel has `depth`
    elements.
    """

    images: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    channels: int
    filters: int
    rows: tuple[int, int]
    rows_apart: tuple[int, int]
    adjacent: int
    target: int
    depth: int

    @property
    def merges_rows(self) -> bool:
        """Whether the rows of x and of y follow each other, so that a tile may be several whole rows of the result."""
        (x, y), (x_apart, y_apart) = self.rows, self.rows_apart
        return (x == x_apart or self.size[0] <= 1) and (y == y_apart or self.out[0] <= 1)


def sizes_of(spec: ConvSpec) -> ConvSizes:
    """The sizes of a convolution."""
    return ConvSizes(
        spec.images * spec.groups,
        spec.size,
        spec.out,
        spec.kernel,
        spec.strides,
        spec.dilations,
        spec.channels,
        spec.filters,
        (spec.x.row, spec.y.row),
        (spec.size[1] * spec.x.pixel, spec.out[1] * spec.y.pixel),
        spec.x.channel if spec.planes else spec.x.pixel,
        spec.y.channel if spec.planes else spec.y.pixel,
        spec.depth,
    )


def product_of(spec: ConvSpec, whole_rows: bool) -> MatmulSpec:
    """The matrix product that a convolution is, of pixels by filters, for each image and group.

    With `whole_rows` the pixels are those of an image, else of one row of it, and rows are batches too. With planes the filters
    are the rows of the product, and its bias is left out. The view of the side of x stands for nothing: windows take its place.
    """
    y, rows = spec.y, 1 if whole_rows else spec.out[0]
    batch = (spec.images, rows, spec.groups)
    pixels = spec.out[0] * spec.out[1] if whole_rows else spec.out[1]
    group = spec.filters if several(spec.groups) else 0
    weights = MatView(spec.w.arg, spec.w.dtype, spec.depth, 1, (0, 0, group * spec.depth), spec.w.offset, spec.w.cache)
    image = MatView(spec.x.arg, spec.x.dtype, spec.depth, 1, (0, 0, 0))
    steps = (y.image, 0 if whole_rows else y.row, group * y.channel)
    if spec.planes:
        target = MatView(y.arg, y.dtype, y.channel, 1, steps, y.offset, y.cache)
        return MatmulSpec(spec.filters, pixels, spec.depth, weights, image, target, batch, name=spec.name)
    bias = None
    if spec.bias is not None:
        each = spec.bias
        bias = MatView(each.arg, each.dtype, 0, 1, (0, 0, group), each.offset, each.cache)
    flipped = replace(weights, row=1, col=spec.depth)
    target = MatView(y.arg, y.dtype, y.pixel, 1, steps, y.offset, y.cache)
    return MatmulSpec(pixels, spec.filters, spec.depth, image, flipped, target, batch, bias, name=spec.name)
