"""The roofs of a chip: the operations and bytes per second that all its cores together can reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from npuvm.hw.config import NpuConfig, class_of
from npuvm.hw.energy import Work
from npuvm.isa import Instruction, Isa
from npuvm.isa.semantics import primitives

__all__ = ["Roof", "roofs_of"]

_VECTOR_DTYPES = ("fp16", "fp32")
"""Types whose vector roofs are drawn; the others have the roof of the one of their width."""

_CUBE_DTYPES = ("fp16",)
"""Types whose cube roofs are always drawn, beside those that a run multiplied in."""


@dataclass(frozen=True)
class Roof:
    """A limit of the whole chip. `per_second` is in operations or bytes."""

    name: str
    kind: Literal["compute", "memory"]
    per_second: float


def roofs_of(chip: NpuConfig, isa: Isa, work: Work) -> tuple[Roof, ...]:
    """Compute roofs of cube and vector units by type, highest first, then the bandwidths of L2 and HBM.

    Cube roofs are those of fp16 and of the types that `work` has; equal ones are named once.
    """
    compute = [*_cube_roofs(chip, isa, [*_CUBE_DTYPES, *work.multiply_adds]), *_vector_roofs(chip, isa)]
    compute.sort(key=lambda roof: -roof.per_second)
    memory = (
        Roof("L2", "memory", float(chip.memory.l2.bandwidth_gbps * 10**9)),
        Roof("HBM", "memory", float(chip.memory.hbm.bandwidth_gbps * 10**9)),
    )
    return (*compute, *memory)


def _cube_roofs(chip: NpuConfig, isa: Isa, dtypes: Sequence[str]) -> Iterator[Roof]:
    """Two operations for each multiply-add of a block."""
    cube = chip.core.cube
    names: dict[Fraction, list[str]] = {}
    for dtype in dict.fromkeys(dtypes):
        if dtype in cube.cycles_per_block:
            depth = cube.k_bytes // isa.dtypes[dtype].itemsize
            per_block = 2 * cube.m * cube.n * depth
            names.setdefault(Fraction(per_block, cube.cycles_per_block[dtype]), []).append(dtype)
    for per_cycle, equal in names.items():
        per_second = per_cycle * chip.cores_with("cube") * chip.clock_ghz * 10**9
        yield Roof(f"cube {', '.join(equal)}", "compute", float(per_second))


def _vector_roofs(chip: NpuConfig, isa: Isa) -> Iterator[Roof]:
    """The instruction with the most operations per cycle, on whole repeats."""
    for dtype in _VECTOR_DTYPES:
        lanes = chip.core.vector.repeat_bytes // isa.dtypes[dtype].itemsize
        rates = [
            Fraction(count * lanes) / class_of(chip.core.vector, isa, instruction).cycles_per_repeat
            for instruction in isa.instructions.values()
            if (dtype, None) in instruction.dtypes and (count := _operations(instruction))
        ]
        if rates:
            per_cycle = max(rates) * chip.cores_with("vector")
            yield Roof(f"vector {dtype}", "compute", float(per_cycle * chip.clock_ghz * 10**9))


def _operations(instruction: Instruction) -> int:
    """Operations on each element of a tile that a vector instruction reads; a copy is none, running sums are their addition."""
    reads = any(region.role != "write" for region in instruction.regions)
    if instruction.unit != "vector" or instruction.semantics is None or not reads:
        return 0
    found = primitives(instruction.semantics, tuple(operand.name for operand in instruction.operands))
    return sum(primitive != "copy" and not primitive.startswith("cumsum") for primitive in found)
