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
    """Windows of an image of (height, span) elements; the names are those of the operands."""

    height: int
    span: int
    rows: int
    cols: int
    width: int
    pixel: int
    channels: int
    kernel_w: int
    start: int = 1
    stride_h: int = 1
    stride_w: int = 1
    dilation_h: int = 1
    dilation_w: int = 1


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
}
"""Kinds of windows by the name of their bin."""


def im2col_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Every kind of windows in every data type."""
    for index, (dtype, _) in enumerate(type_pairs(isa, "mvim2col")):
        yield _case(dtype, np.random.default_rng([seed, index, 13]))


def _element(image: Array, windows: _Windows, row: int, col: int) -> object:
    """Row `row`, column `col` of the result: an element of the image, or 0 beyond it."""
    number = windows.start - 1 + col
    channel, tap = number % windows.channels, number // windows.channels
    down = row // windows.width * windows.stride_h + tap // windows.kernel_w * windows.dilation_h
    right = row % windows.width * windows.stride_w + tap % windows.kernel_w * windows.dilation_w
    at = right * windows.pixel + channel
    return image[down, at] if down < windows.height and at < windows.span else 0


def _case(dtype: str, random: np.random.Generator) -> ProgramCase:
    """Windows moved over ones of 1; those without rows or columns leave the ones."""
    flow, results, at = Flow(), list[Array](), 0
    acc = accumulator(dtype)
    edges = edge_values(dtype)
    exact = wide(edges).astype(np.float64)
    values = edges[np.isfinite(exact) & ~((exact == 0) & np.signbit(exact))]
    for each in _WINDOWS.values():
        shape = (max(each.rows, 1), max(each.cols, 1))
        image = random.choice(values, (each.height, each.span))
        ones = np.ones(shape, image.dtype)
        target = flow.tile("l0a", shape, image.itemsize)
        full = flow.sizes(rows=shape[0], cols=shape[1])
        flow.add("move", f"mvl0a.{dtype} dst={target} src={flow.load(ones, dtype)} {full}")
        sizes = flow.sizes(rows=each.rows, cols=each.cols, start=each.start)
        names = ("height", "span", "width", "pixel", "channels", "kernel_w", "stride_h", "stride_w")
        numbers = " ".join(f"{name}={getattr(each, name)}" for name in (*names, "dilation_h", "dilation_w"))
        flow.add("move", f"mvim2col.{dtype} dst={target} src={flow.load(image, dtype)} {sizes} {numbers}")
        identity = np.eye(shape[1]).astype(image.dtype)
        kept = flow.tile("l0b", identity.shape, image.itemsize)
        square = flow.sizes(rows=shape[1], cols=shape[1])
        flow.add("move", f"mvl0b.{dtype} dst={kept} src={flow.load(identity, dtype)} {square}")
        product = flow.tile("l0c", shape, 4)
        extents = flow.sizes(m=shape[0], n=shape[1], k=shape[1])
        flow.add("cube", f"mma.{dtype} dst={product} a={target} b={kept} {extents}")
        at = flow.out(product, *shape, acc, at)
        if each.rows and each.cols:
            found = [[_element(image, each, row, col) for col in range(each.cols)] for row in range(each.rows)]
            ones = np.array(found, dtype=image.dtype)
        results.append(wide(ones).astype(STORAGE[acc]).reshape(-1))
    after = np.concatenate(results)
    prefix = f"semantics/mvim2col/{dtype}"
    return ProgramCase(
        id=prefix,
        level=Level.SEMANTICS,
        chip="edge",
        text=flow.text(),
        arguments=(np.frombuffer(bytes(flow.read), np.uint8), np.zeros_like(after)),
        expected={1: after},
        bins=tuple(f"{prefix}/{what}" for what in _WINDOWS),
    )
