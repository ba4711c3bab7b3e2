"""Cases of convolution windows: of an image in L1 to L0A, and from there multiplied with the identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.needs import type_pairs
from npuvm.isa.conformance.oracle_numbers import STORAGE, Array, edge_values, wide
from npuvm.isa.conformance.semantics_flow import Flow, accumulator
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["im2col_cases"]


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows of an image of (height, span) elements: `pixels` of the result by `elements` of a kernel.

    Other names are those of the operands.
    """

    height: int
    span: int
    pixels: int
    elements: int
    width: int
    apart: int
    channels: int
    kernel_w: int
    start: int = 1
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1
    left: int = 0
    kernel_h: int = 3
    layout: str = "pixels"


_WINDOWS: Mapping[str, _Windows] = {
    "one-element": _Windows(1, 1, 1, 1, 1, 1, 1, 1),
    "no-rows": _Windows(3, 12, 0, 5, 2, 4, 4, 2),
    "no-columns": _Windows(3, 12, 4, 0, 2, 4, 4, 2),
    "three-by-three": _Windows(5, 6 * 4, 12, 36, 4, 4, 4, 3),
    "from-the-middle": _Windows(5, 6 * 4, 12, 17, 4, 4, 4, 3, start=10),
    "spread-pixels": _Windows(4, 5 * 8, 9, 12, 3, 8, 3, 2),
    "strides": _Windows(7, 9 * 2, 12, 8, 4, 2, 2, 2, stride_h=3, stride_w=2),
    "dilation": _Windows(7, 9 * 2, 8, 18, 4, 2, 2, 3, dilation_h=2, dilation_w=3),
    "one-channel": _Windows(4, 20, 30, 9, 15, 1, 1, 3),
    "part-of-a-row": _Windows(3, 12 * 2, 5, 12, 7, 2, 2, 2),
    "beyond-the-image": _Windows(3, 5 * 3, 20, 27, 5, 3, 3, 3),
    "the-same-again": _Windows(2, 8, 6, 4, 3, 4, 4, 1, stride_h=0, stride_w=0),
    "left": _Windows(4, 6 * 2, 10, 12, 5, 2, 2, 3, left=2),
    "planes": _Windows(4, 5 * 6, 12, 36, 4, 6, 1, 3, layout="planes"),
    "planes-from-the-middle": _Windows(4, 5 * 6, 12, 17, 4, 6, 1, 3, start=14, layout="planes"),
    "planes-steps": _Windows(2, 9 * 7, 6, 12, 3, 7, 1, 3, 1, 2, 2, 3, 2, left=1, kernel_h=2, layout="planes"),
    "planes-beyond-the-image": _Windows(3, 4 * 5 - 2, 20, 40, 5, 5, 1, 3, left=1, layout="planes"),
}
"""Kinds of windows by the name of their bin."""

_NUMBERS = (
    *("height", "span", "width", "apart", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("dilation_h", "dilation_w", "left", "layout"),
)


def im2col_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Every kind of windows in every data type, to both sides of the cube."""
    for number, name in enumerate(("mvim2col", "mvim2colt")):
        for index, (dtype, _) in enumerate(type_pairs(isa, name)):
            yield _case(name, dtype, np.random.default_rng([seed, index, 13 + number]))


def _element(image: Array, windows: _Windows, pixel: int, element: int) -> object:
    """What an element of the kernel meets at a pixel of the result: an element of the image, or 0 beyond it."""
    planes, number = windows.layout == "planes", windows.start - 1 + element
    taps = windows.kernel_h * windows.kernel_w
    channel = number // taps if planes else number % windows.channels
    tap = number % taps if planes else number // windows.channels
    down = pixel // windows.width * windows.stride_h + tap // windows.kernel_w * windows.dilation_h
    right = pixel % windows.width * windows.stride_w + tap % windows.kernel_w * windows.dilation_w - windows.left
    if right < 0 or (planes and right >= windows.apart):
        return 0
    at = (channel, down * windows.apart + right) if planes else (down, right * windows.apart + channel)
    return image[at] if at[0] < windows.height and at[1] < windows.span else 0


def _case(name: str, dtype: str, random: np.random.Generator) -> ProgramCase:
    """Windows moved over ones of 1; those without rows or columns leave the ones."""
    flow, results, at = Flow(), list[Array](), 0
    acc, left = accumulator(dtype), name == "mvim2col"
    space, other = ("l0a", "l0b") if left else ("l0b", "l0a")
    edges = edge_values(dtype)
    exact = wide(edges).astype(np.float64)
    values = edges[np.isfinite(exact) & ~((exact == 0) & np.signbit(exact))]
    for each in _WINDOWS.values():
        rows, cols = (each.pixels, each.elements) if left else (each.elements, each.pixels)
        shape = (max(rows, 1), max(cols, 1))
        image = random.choice(values, (each.height, each.span))
        ones = np.ones(shape, image.dtype)
        target = flow.tile(space, shape, image.itemsize)
        full = flow.sizes(rows=shape[0], cols=shape[1])
        flow.add("move", f"mv{space}.{dtype} dst={target} src={flow.load(ones, dtype)} {full}")
        sizes = flow.sizes(rows=rows, cols=cols, start=each.start)
        numbers = " ".join(f"{number}={getattr(each, number)}" for number in _NUMBERS)
        flow.add("move", f"{name}.{dtype} dst={target} src={flow.load(image, dtype)} {sizes} {numbers}")
        identity = np.eye(shape[1] if left else shape[0]).astype(image.dtype)
        kept, side = flow.tile(other, identity.shape, image.itemsize), len(identity)
        square = flow.sizes(rows=side, cols=side)
        flow.add("move", f"mv{other}.{dtype} dst={kept} src={flow.load(identity, dtype)} {square}")
        product = flow.tile("l0c", shape, 4)
        tiles = f"a={target} b={kept}" if left else f"a={kept} b={target}"
        flow.add("cube", f"mma.{dtype} dst={product} {tiles} {flow.sizes(m=shape[0], n=shape[1], k=side)}")
        at = flow.out(product, *shape, acc, at)
        if rows and cols:
            found = [[_element(image, each, p, e) for e in range(each.elements)] for p in range(each.pixels)]
            ones = np.array(found if left else list(zip(*found, strict=True)), dtype=image.dtype)
        results.append(wide(ones).astype(STORAGE[acc]).reshape(-1))
    after = np.concatenate(results)
    prefix = f"semantics/{name}/{dtype}"
    return ProgramCase(
        id=prefix,
        level=Level.SEMANTICS,
        chip="edge",
        text=flow.text(),
        arguments=(np.frombuffer(bytes(flow.read), np.uint8), np.zeros_like(after)),
        expected={1: after},
        bins=tuple(f"{prefix}/{what}" for what in _WINDOWS),
    )
