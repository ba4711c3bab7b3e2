"""Writes mix programs: the cube's part, and the vector unit's part beside it or behind it.

On a core with both units the fixpipe fills the vector unit's buffers band by band. Where cube cores and vector cores are
apart, a tile goes through global memory to the vector cores of its group, and semaphores of the group say when it is there
and how far ahead the cube may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.cube.base import Step
from npuvm.compiler.cube.emit import MatmulEmitter
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.group_signals import HALF, MOST_VECTOR_CORES, signal_group
from npuvm.compiler.emit.handles import Loop, Sem
from npuvm.compiler.emit.walk import Axis, GridWalk, Walk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.mix.body import Accumulators, Bands, write_bands
from npuvm.compiler.mix.space import MixSpace
from npuvm.compiler.vector.body import BodyContext
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.emit import part_context
from npuvm.compiler.vector.lower import Reg, VecProgram
from npuvm.compiler.vector.tile import VectorTile
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = [
    "ApartProduct", "MixParts", "TogetherProduct", "mix_context", "take_tiles", "tile_problem_of", "vector_program",
    "write_apart", "write_together",
]  # fmt: skip

_TILES_AHEAD = 8
"""Tiles that a cube core may be ahead of a vector core of its group."""


@dataclass(frozen=True, slots=True)
class MixParts:
    """What a mix program is written from; `reg` is the vector program's register of the product's result.

    `spec` is the product as the cube's part writes it.
    """

    common: MixSpace
    spec: MatmulSpec
    problem: TileProblem
    tile: CubeTile
    program: VecProgram
    storage: Storage
    bands: Bands
    reg: Reg
    chip: NpuConfig
    isa: Isa

    def walked(self, grids: Sequence[GridWalk]) -> tuple[GridWalk, ...]:
        """The grids of the product, with a loop over the vector cores of a group around them."""
        cores = self.bands.cores
        if cores > MOST_VECTOR_CORES:
            allowed = f"at most {MOST_VECTOR_CORES}"
            raise CompileError(f"{cores} vector cores in a group; allowed in a mix program: {allowed}", self.chip.name)
        if cores == 1:
            return tuple(grids)
        return tuple(GridWalk((Axis(HALF, cores), *grid.axes), grid.origin) for grid in grids)


def tile_problem_of(parts: MixParts) -> TileProblem:
    """The problem on cores that have both units: the result leaves for the vector unit, not as the estimate of tiles has it."""
    return replace(parts.problem, via_ub=False)


def write_together(parts: MixParts, grids: Sequence[GridWalk]) -> InstrBuilder:
    """The program of cores that have both units."""
    problem = tile_problem_of(parts)
    core_type = parts.chip.core_type_with("cube")
    emitter = TogetherProduct(parts.spec, problem, parts.tile, core_type, len(parts.common.tensors))
    emitter.follow(parts)
    emitter.write(parts.spec, problem, Walk(tuple(grids), ()))
    return emitter.b


def write_apart(parts: MixParts, grids: Sequence[GridWalk]) -> tuple[InstrBuilder, InstrBuilder]:
    """The programs of the cube core and of the vector cores of a group."""
    walked = parts.walked(grids)
    core_type = parts.chip.core_type_with("cube")
    cube = ApartProduct(parts.spec, parts.problem, parts.tile, core_type, len(parts.common.tensors))
    cube.write(parts.spec, parts.problem, Walk(walked, ()))
    return cube.b, vector_program(parts, walked, cube.handed)


def vector_program(parts: MixParts, walked: Sequence[GridWalk], handed: Sequence[tuple[Sem, Sem]]) -> InstrBuilder:
    """The program of the vector cores of a group; `handed` has the (ready, free) of each of them."""
    vector = InstrBuilder(
        parts.isa, {"ub": parts.chip.capacity_bytes("ub")}, parts.spec.name, len(parts.common.tensors)
    )
    vector.barrier("group")
    context = mix_context(parts, vector)
    for grid in walked:
        with vector.grid([axis.trip for axis in grid.axes]) as loops:
            take_tiles(vector, context, parts.bands, grid, loops, handed)
    return vector


def take_tiles(
    vector: InstrBuilder,
    context: BodyContext,
    bands: Bands,
    grid: GridWalk,
    loops: Sequence[Loop],
    handed: Sequence[tuple[Sem, Sem]],
) -> None:
    """The code of a vector core for the tile that its group's cube core hands over; `handed` as in `vector_program`."""
    half = next((loop for loop, axis in zip(loops, grid.axes, strict=True) if axis.dim == HALF), None)
    signal_group(vector, "load", half, wait=[ready for ready, _ in handed])
    write_bands(context, bands, grid, loops)
    signal_group(vector, "load", half, give=[free for _, free in handed])


def mix_context(parts: MixParts, b: InstrBuilder, accumulators: Reg | None = None) -> BodyContext:
    """What the vector unit's part stands on, with its buffers; the register `accumulators` comes from the fixpipe."""
    tile = VectorTile(parts.bands.rows, parts.bands.cols, 0.0)
    common = parts.common
    return part_context(b, common.space, parts.program, parts.storage, tile, common.tensors, parts.chip, accumulators)


class TogetherProduct(MatmulEmitter):
    """A product, or what is written as one, whose tiles the vector unit of the same core takes over."""

    def follow(self, parts: MixParts) -> None:
        """Say what becomes of the tiles, before they are written."""
        self._mix = parts
        self._context = mix_context(parts, self.b, parts.reg)

    def _result(self, step: Step) -> None:
        l0c, parts = self.rings["l0c"], self._mix
        source = Accumulators(l0c, self._l0c_pitch, self.acc, parts.reg)
        self._sync("fixpipe", None, wait=[l0c.ready])
        write_bands(self._context, parts.bands, step.walk, step.loops, source)
        self._sync("fixpipe", None, set=[l0c.free])


class ApartProduct(MatmulEmitter):
    """A product, or what is written as one, whose tiles the vector cores of the group take over.

    `handed` has the (ready, free) of each of them.
    """

    def _begin(self) -> None:
        chip = self.problem.chip
        self.handed = [
            (
                self.b.semaphore(f"tile{core}.ready", scope="group"),
                self.b.semaphore(f"tile{core}.free", _TILES_AHEAD, "group"),
            )
            for core in range(chip.group_core_types.count(chip.core_type_with("vector")))
        ]
        self.b.barrier("group")

    def _result(self, step: Step) -> None:
        self.b.sync("fixpipe", wait=[free for _, free in self.handed])
        super()._result(step)
        self.b.sync("fixpipe", set=[ready for ready, _ in self.handed])
