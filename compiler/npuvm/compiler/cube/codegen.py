"""Compiles a matrix product: checks, tile choice, walk, emission, image."""

from __future__ import annotations

from dataclasses import dataclass, replace

from npuvm.compiler.cube.emit import MatmulEmitter
from npuvm.compiler.cube.levels import given_room
from npuvm.compiler.cube.parts import cut_parts, merge_walks, walk_part
from npuvm.compiler.cube.pins import check_cube_pins, check_tile_pins
from npuvm.compiler.cube.plan import choose_tile
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, Side, normalise, operand_side
from npuvm.compiler.emit.symint import several
from npuvm.compiler.emit.walk import TileDim, Walk, plan_walk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["MatmulKernel", "check_types", "compile_matmul", "problem_of", "tile_problem"]


@dataclass(frozen=True, slots=True)
class MatmulKernel:
    """A matrix product as a program image, and what was decided for it. `spec` is in normal form, `problem` led to the tile."""

    image: Image
    spec: MatmulSpec
    tile: CubeTile
    walk: Walk
    core_type: str
    via_ub: bool
    problem: TileProblem


def compile_matmul(
    spec: MatmulSpec, n_args: int, chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> MatmulKernel | None:
    """Program of a matrix product; None when the result has no elements.

    `n_args` is the number of addresses the launch gives; views name theirs by index.
    CompileError when types, strides or pins cannot be had on this chip.
    """
    pins = pins or Pins()
    if spec.is_empty:
        return None
    spec = normalise(spec)
    check_types(spec, chip, isa)
    problem = problem_of(spec, chip, isa, pins)
    check_cube_pins(pins, spec, problem, chip)
    cores = pins.cores or chip.cores_with("cube")
    tile = choose_tile(problem, spec, cores)
    check_tile_pins(pins, spec, tile)
    products = _products(spec, tile, cores, pins)
    walk = merge_walks([each for _, each in products])
    core_type = chip.core_type_with("cube")
    emitter = MatmulEmitter(spec, problem, tile, core_type, n_args)
    for product, own in products:
        emitter.write(product, problem if product is spec else _part_problem(problem, product), own)
    image = emitter.b.build(core_type, walk.ranges)
    return MatmulKernel(image, spec, tile, walk, core_type, problem.via_ub, problem)


def check_types(spec: MatmulSpec, chip: NpuConfig, isa: Isa) -> None:
    dtype, out = spec.a.dtype, spec.c.dtype
    supported = ", ".join(chip.core.cube.cycles_per_block)
    if dtype not in chip.core.cube.cycles_per_block:
        raise CompileError(f"the cube of {chip.name} does not take {dtype}; allowed: {supported}", spec.name)
    if spec.b.dtype != dtype:
        raise CompileError(f"matmul operands are {dtype} and {spec.b.dtype}; they must be the same", spec.name)
    acc = isa.dtypes[dtype].acc
    allowed = [pair[1] for pair in isa.instruction("fix").dtypes if pair[0] == acc]
    if out not in allowed:
        raise CompileError(f"a product of {dtype} is {acc} and cannot become {out}; allowed: {allowed}", spec.name)
    if spec.bias is not None and isa.dtypes[spec.bias.dtype].acc != acc and spec.bias.dtype != acc:
        raise CompileError(f"a bias of {spec.bias.dtype} does not fit accumulators of {acc}", spec.name)


def problem_of(spec: MatmulSpec, chip: NpuConfig, isa: Isa, pins: Pins) -> TileProblem:
    if spec.c.col != 1 and several(spec.n):
        raise CompileError(f"matmul result has column stride {spec.c.col}; it must be contiguous (1)", spec.name)
    if spec.bias is not None and spec.bias.col != 1 and several(spec.n):
        raise CompileError(f"matmul bias has stride {spec.bias.col}; it must be contiguous (1)", spec.name)
    sides = operand_side(spec.a, spec.m, spec.k, isa, "a"), operand_side(spec.b, spec.k, spec.n, isa, "b")
    bias = spec.bias.dtype if spec.bias is not None else (spec.a.dtype if spec.k == 0 else None)
    return tile_problem((spec.a.dtype, spec.c.dtype, bias), sides, chip, isa, pins)


def tile_problem(
    dtypes: tuple[str, str, str | None], sides: tuple[Side, Side], chip: NpuConfig, isa: Isa, pins: Pins
) -> TileProblem:
    """What the tile of a product depends on. `dtypes` are those of operands, result and what sums start with, if anything.

    Rings have one slot on a chip whose buffers have no room for two.
    """
    dtype, out, bias = dtypes
    fixpipe, store = chip.core.fixpipe, chip.core.store
    # 0 where the cube core has no UB.
    ub_rate = min(fixpipe.ub_bytes_per_cycle, store.bytes_per_cycle)
    problem = TileProblem(
        isa,
        chip,
        dtype,
        isa.dtypes[out].itemsize,
        isa.dtypes[bias].itemsize if bias is not None else 0,
        *sides,
        via_ub=ub_rate > fixpipe.gm_bytes_per_cycle,
        pins=pins,
    )
    return given_room(problem)


def _products(spec: MatmulSpec, tile: CubeTile, cores: int, pins: Pins) -> list[tuple[MatmulSpec, Walk]]:
    """The product, or those of its pinned parts, each with the way that cores walk it."""
    if pins.part is None or pins.grid is None:
        return [(spec, _walk(spec, tile, cores, pins))]
    column = pins.order == "column"
    cut = cut_parts(spec, pins.part, pins.grid)
    return [(each.spec, walk_part(each, tile.l1[:2], pins.grid, column)) for each in cut]


def _part_problem(problem: TileProblem, product: MatmulSpec) -> TileProblem:
    """The same layouts with the batch dimensions of parts."""
    sides = [
        replace(side, batch=tuple(stride * side.item for stride in view.batch))
        for side, view in ((problem.a, product.a), (problem.b, product.b))
    ]
    return replace(problem, a=sides[0], b=sides[1])


def _walk(spec: MatmulSpec, tile: CubeTile, cores: int, pins: Pins) -> Walk:
    batch = [TileDim(f"b{i}", size) for i, size in enumerate(spec.batch)]
    rows, cols = (
        TileDim(name, -(-size // edge), size % edge != 0)
        for name, size, edge in (("m", spec.m, tile.l1[0]), ("n", spec.n, tile.l1[1]))
    )
    return plan_walk(batch, rows, cols, cores, pins)
