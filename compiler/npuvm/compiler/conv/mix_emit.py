"""Writes mix programs of a convolution: its tiles of whole rows go to the vector unit as those of a matrix product do."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.compiler.conv.codegen import emitter_of
from npuvm.compiler.conv.emit import ConvEmitter
from npuvm.compiler.conv.plan import ConvTile
from npuvm.compiler.conv.planes import PlanesEmitter
from npuvm.compiler.conv.spec import ConvSpec
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.walk import GridWalk, Walk
from npuvm.compiler.mix.emit import ApartProduct, MixParts, TogetherProduct, tile_problem_of, vector_program

__all__ = ["ConvParts", "write_conv_apart", "write_conv_together"]


@dataclass(frozen=True, slots=True)
class ConvParts:
    """A convolution with its tile, the mix that it is part of, and the walk over its tiles. Products are those of `mix`."""

    conv: ConvSpec
    tile: ConvTile
    mix: MixParts
    grid: GridWalk


def write_conv_together(parts: ConvParts) -> InstrBuilder:
    """The program of cores that have both units."""
    mix = parts.mix
    problem = tile_problem_of(mix)
    make = _TogetherPlanes if emitter_of(parts.conv) is PlanesEmitter else _TogetherConv
    core_type = mix.chip.core_type_with("cube")
    emitter = make(parts.conv, parts.tile, mix.spec, problem, core_type, len(mix.common.tensors))
    emitter.follow(mix)
    emitter.write(mix.spec, problem, Walk((parts.grid,), ()))
    return emitter.b


def write_conv_apart(parts: ConvParts) -> tuple[InstrBuilder, InstrBuilder]:
    """The programs of the cube core and of the vector cores of a group."""
    mix = parts.mix
    make = _ApartPlanes if emitter_of(parts.conv) is PlanesEmitter else _ApartConv
    core_type = mix.chip.core_type_with("cube")
    cube = make(parts.conv, parts.tile, mix.spec, mix.problem, core_type, len(mix.common.tensors))
    walked = mix.walked((parts.grid,))
    cube.write(mix.spec, mix.problem, Walk(walked, ()))
    return cube.b, vector_program(mix, walked, cube.handed)


class _TogetherConv(TogetherProduct, ConvEmitter):
    pass


class _TogetherPlanes(TogetherProduct, PlanesEmitter):
    pass


class _ApartConv(ApartProduct, ConvEmitter):
    pass


class _ApartPlanes(ApartProduct, PlanesEmitter):
    pass
