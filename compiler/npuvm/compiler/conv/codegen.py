"""Compiles a convolution: checks, tile choice, walk, emission, image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from npuvm.compiler.conv.emit import ConvEmitter
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.planes import PlanesEmitter
from npuvm.compiler.conv.spec import ConvSpec, product_of, sizes_of
from npuvm.compiler.cube.codegen import tile_problem
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.spec import Side
from npuvm.compiler.emit.symint import several
from npuvm.compiler.emit.walk import TileDim, Walk, plan_walk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["MOST_STEP", "ConvKernel", "check_conv", "compile_conv", "conv_problem", "emitter_of"]

_PINS = ("cores", "order", "cache", "stack", "buffering", "share")
MOST_STEP = (1 << 16) - 1
"""The largest stride and dilation that the instruction of windows has room for."""


@dataclass(frozen=True, slots=True)
class ConvKernel:
    """A convolution as a program image, and what was decided for it.

    `used_bytes` has for each ring, in the order of their numbers, the bytes of the elements of one tile.
    """

    image: Image
    spec: ConvSpec
    tile: ConvTile
    walk: Walk
    core_type: str
    used_bytes: Mapping[str, int]


def compile_conv(spec: ConvSpec, n_args: int, chip: NpuConfig, isa: Isa, pins: Pins | None = None) -> ConvKernel | None:
    """Program of a convolution; None when the result has no elements.

    `n_args` is the number of addresses the launch gives; views name theirs by index.
    CompileError when types, sizes or pins cannot be had on this chip.
    """
    pins = pins or Pins()
    if spec.is_empty:
        return None
    check_conv(spec, chip, isa)
    _check_pins(pins, spec, chip)
    problem = conv_problem(spec, chip, isa, pins)
    cores = pins.cores or chip.cores_with("cube")
    tile = ConvTileChooser(problem, spec.planes, cores).choose(sizes_of(spec), spec.name)
    product = product_of(spec, tile.whole)
    m, n, _ = tile.cube(spec).l1
    # An image is loaded once for all filters: they are the innermost dimension.
    order = pins.order or ("column" if spec.planes else "row")
    walk = plan_walk(
        [TileDim(f"b{i}", size) for i, size in enumerate(product.batch)],
        TileDim("m", -(-product.m // m)),
        TileDim("n", -(-product.n // n)),
        cores,
        replace(pins, order=order),
    )
    core_type = chip.core_type_with("cube")
    emitter = emitter_of(spec)(spec, tile, product, problem, core_type, n_args)
    emitter.write(product, problem, walk)
    image = emitter.b.build(core_type, walk.ranges)
    return ConvKernel(image, spec, tile, walk, core_type, emitter.used_bytes())


def emitter_of(spec: ConvSpec) -> type[ConvEmitter]:
    """What writes the code of such a convolution."""
    return PlanesEmitter if spec.planes else ConvEmitter


def check_conv(spec: ConvSpec, chip: NpuConfig, isa: Isa) -> None:
    """Raise CompileError when the chip or the instruction set has no such convolution."""
    dtype = spec.x.dtype
    if dtype not in chip.core.cube.cycles_per_block:
        supported = ", ".join(chip.core.cube.cycles_per_block)
        raise CompileError(f"the cube of {chip.name} does not take {dtype}; allowed: {supported}", spec.name)
    if not isa.features[isa.instruction("mvim2col").feature]:
        raise CompileError("a convolution needs the instruction mvim2col, whose feature im2col is off", spec.name)
    for name, steps, counts in (("stride", spec.strides, spec.out), ("dilation", spec.dilations, spec.kernel)):
        for step, count in zip(steps, counts, strict=True):
            if step > MOST_STEP and count > 1:
                raise CompileError(f"a {name} of {step}; allowed: at most {MOST_STEP}", spec.name)


def _check_pins(pins: Pins, spec: ConvSpec, chip: NpuConfig) -> None:
    default = Pins()
    for each in fields(Pins):
        value = getattr(pins, each.name)
        if each.name not in _PINS and value != getattr(default, each.name):
            pin_error(each.name, value, f"{', '.join(_PINS)} for a convolution", spec.name)
    pins.check_names("cache", ("a", "b", "bias", "c"), spec.name)
    if pins.order in ("swizzle", "rounds"):
        pin_error("order", pins.order, "row, column for a convolution", spec.name)
    most = chip.cores_with("cube")
    if pins.cores is not None and pins.cores > most:
        pin_error("cores", pins.cores, f"at most {most} cores with a cube on {chip.name}", spec.name)


def conv_problem(spec: ConvSpec, chip: NpuConfig, isa: Isa, pins: Pins) -> TileProblem:
    """What tiles depend on besides the sizes, and how both sides of the product lie in memory."""
    bias = spec.bias.dtype if spec.bias is not None else (spec.x.dtype if spec.depth == 0 else None)
    item = isa.dtypes[spec.x.dtype].itemsize
    group = spec.filters * spec.depth * item if several(spec.groups) else 0
    kernels, image = Side(not spec.planes, spec.depth * item, (0, 0, group), item), Side(False, 0, (0, 0, 0), item)
    sides = (kernels, image) if spec.planes else (image, kernels)
    return tile_problem((spec.x.dtype, spec.y.dtype, bias), sides, chip, isa, pins)
