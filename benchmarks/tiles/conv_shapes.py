"""Convolutions of published benchmarks and models."""

from __future__ import annotations

import random
from typing import NamedTuple

from npuvm.compiler.conv.spec import ConvSpec, ImageView
from npuvm.compiler.cube.spec import MatView

__all__ = ["Conv", "convolutions"]

_Layer = tuple[int, int, int, int, int, int, int, int, int]


class Conv(NamedTuple):
    """`images` of `size`, padded by `pads` on both sides; all pairs are rows and columns. `planes`: channels come first."""

    images: int
    size: tuple[int, int]
    channels: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    planes: bool

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.size))
        step = "" if self.strides == (1, 1) else "/" + "x".join(map(str, self.strides))
        kernel = "x".join(map(str, self.kernel))
        order = "NCHW" if self.planes else "NHWC"
        return f"{self.images} x {sizes} x {self.channels} -> {self.filters}, {kernel}{step} {order}"

    @property
    def out(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        high, wide = (
            (size + 2 * pad - kernel) // stride + 1
            for size, pad, kernel, stride in zip(self.size, self.pads, self.kernel, self.strides, strict=True)
        )
        return high, wide

    @property
    def multiplications(self) -> int:
        """How many there are."""
        (high, wide), (kernel_h, kernel_w) = self.out, self.kernel
        return self.images * high * wide * self.filters * self.channels * kernel_h * kernel_w

    @property
    def is_product(self) -> bool:
        """Whether it is a product of pixels by filters as they lie."""
        return self.kernel == self.strides == (1, 1) and self.pads == (0, 0)

    def spec(self) -> ConvSpec:
        """In fp16, with x, kernels and result as the arguments of a launch."""
        (height, width), (high, wide), c, o = self.size, self.out, self.channels, self.filters
        if self.planes:
            x = ImageView(0, "fp16", c * height * width, width, 1, height * width)
            y = ImageView(2, "fp16", o * high * wide, wide, 1, high * wide)
        else:
            x = ImageView(0, "fp16", height * width * c, width * c, c)
            y = ImageView(2, "fp16", high * wide * o, wide * o, o)
        w = MatView(1, "fp16", self.kernel[0] * self.kernel[1] * c, 1)
        ones = (1, 1)
        return ConvSpec(
            self.images, self.size, self.out, self.kernel, self.strides, ones, self.pads, c, o, 1, x, w, y, None,
            self.planes,
        )  # fmt: skip


_DEEPBENCH: tuple[_Layer, ...] = (
    (161, 700, 1, 32, 5, 20, 2, 0, 0),
    (79, 341, 32, 32, 5, 10, 2, 0, 0),
    (48, 480, 1, 16, 3, 3, 1, 1, 1),
    (24, 240, 16, 32, 3, 3, 1, 1, 1),
    (12, 120, 32, 64, 3, 3, 1, 1, 1),
    (6, 60, 64, 128, 3, 3, 1, 1, 1),
    (108, 108, 3, 64, 3, 3, 2, 1, 1),
    (54, 54, 64, 64, 3, 3, 1, 1, 1),
    (27, 27, 128, 128, 3, 3, 1, 1, 1),
    (14, 14, 128, 256, 3, 3, 1, 1, 1),
    (7, 7, 256, 512, 3, 3, 1, 1, 1),
    (161, 700, 1, 64, 5, 5, 2, 1, 1),
    (80, 350, 64, 64, 3, 3, 1, 1, 1),
    (80, 350, 64, 128, 5, 5, 2, 1, 1),
    (40, 175, 128, 128, 3, 3, 1, 1, 1),
    (40, 175, 128, 256, 5, 5, 2, 1, 1),
    (20, 84, 256, 256, 3, 3, 1, 1, 1),
    (20, 84, 256, 512, 5, 5, 2, 1, 1),
    (10, 42, 512, 512, 3, 3, 1, 1, 1),
    (7, 7, 2048, 512, 1, 1, 2, 3, 3),
)
"""Height, width, channels, filters, kernel's height and width, stride, padding of rows and of columns.

Those of speech and faces in Baidu's DeepBench, for any number of images; its layers of VGG, GoogLeNet and ResNet-50 are below.
Source: github.com/baidu-research/DeepBench, code/kernels/conv_problems.h.
"""


def _square(size: int, channels: int, filters: int, kernel: int, stride: int = 1, pad: int | None = None) -> _Layer:
    around = kernel // 2 if pad is None else pad
    return size, size, channels, filters, kernel, kernel, stride, around, around


_MODELS: tuple[_Layer, ...] = (
    # ResNet-50
    _square(224, 3, 64, 7, 2),
    *(_square(size, width, width, 3) for size, width in ((56, 64), (28, 128), (14, 256), (7, 512))),
    *(_square(2 * size, width, width, 3, 2) for size, width in ((28, 128), (14, 256), (7, 512))),
    *(_square(2 * size, 2 * width, 4 * width, 1, 2) for size, width in ((28, 128), (14, 256), (7, 512))),
    # VGG
    *(_square(size, c, o, 3) for size, c, o in ((224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128))),
    *(_square(size, c, o, 3) for size, c, o in ((56, 128, 256), (56, 256, 256), (28, 256, 512), (28, 512, 512))),
    _square(14, 512, 512, 3),
    # GoogLeNet
    *(_square(28, c, o, k) for c, o, k in ((96, 128, 3), (16, 32, 5), (128, 192, 3), (32, 96, 5))),
    *(_square(14, c, o, k) for c, o, k in ((96, 208, 3), (16, 48, 5), (112, 224, 3), (24, 64, 5), (144, 288, 3))),
    *(_square(7, c, o, k) for c, o, k in ((160, 320, 3), (32, 128, 5), (192, 384, 3), (48, 128, 5))),
    # MobileNet's first layer; its others are products, or have a kernel for each channel
    _square(224, 3, 32, 3, 2),
    # Sizes that are prime
    _square(13, 97, 101, 3),
    _square(53, 61, 67, 3),
    (31, 17, 37, 89, 5, 3, 1, 2, 1),
    (101, 7, 19, 43, 7, 1, 1, 3, 0),
    _square(29, 131, 257, 1, 2),
    _square(41, 11, 73, 2, 3, 0),
)

_IMAGES = (1, 2, 3, 4, 8, 16, 32)

_MOST = 5e9
"""Multiplications of a convolution at most, so that a search by simulation ends."""


def convolutions(count: int, seed: int = 0) -> list[Conv]:
    """`count` convolutions, or all that there are, drawn with the seed, with channels last and first in turn.

    Kernels of one pixel, with neither stride nor padding, are matrix products to the compiler and are none of them.
    """
    shapes = [
        Conv(images, (height, width), c, o, (kernel_h, kernel_w), (stride, stride), (top, left), False)
        for height, width, c, o, kernel_h, kernel_w, stride, top, left in dict.fromkeys([*_DEEPBENCH, *_MODELS])
        for images in _IMAGES
    ]
    every = [each for each in shapes if each.multiplications <= _MOST and not each.is_product]
    drawn = every if count >= len(every) else random.Random(seed).sample(every, count)
    return [each._replace(planes=at % 2 == 1) for at, each in enumerate(drawn)]
