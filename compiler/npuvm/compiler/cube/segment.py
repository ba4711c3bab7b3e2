"""The program of a segment that the cube computes: a matrix product or a convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuvm.compiler.conv.codegen import compile_conv
from npuvm.compiler.conv.family import ConvFamily
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.cube.codegen import compile_matmul
from npuvm.compiler.cube.family import CubeFamily
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["compile_cube_segment", "family_of"]


def compile_cube_segment(
    segment: CubeSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> tuple[Image, tuple[str, ...]] | None:
    """The program for these sizes, and the tensors whose addresses it takes; None when the result has no elements."""
    if isinstance(segment, ConvSegment):
        conv, args = lower_conv(segment, binding)
        windows = compile_conv(conv, len(args), chip, isa, pins)
        return None if windows is None else (windows.image, args)
    spec, args = lower_cube(segment, binding)
    product = compile_matmul(spec, len(args), chip, isa, pins)
    return None if product is None else (product.image, args)


def family_of(
    segment: CubeSegment,
    symbols: Sequence[str],
    chip: NpuConfig,
    isa: Isa,
    like: CubeSegment | None = None,
    buffering: str | None = None,
) -> CubeFamily | ConvFamily:
    """All instances of a segment without pins but `buffering`; `compile_cube_segment` has those it gives no image for.

    A product has the tiles of the product `like` where that is given.
    """
    if isinstance(segment, ConvSegment):
        return ConvFamily(segment, symbols, chip, isa, buffering)
    return CubeFamily(segment, symbols, chip, isa, like, buffering)
