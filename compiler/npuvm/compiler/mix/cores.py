"""What mixes of products and of convolutions have in common: the vector unit's part, and images on whole core groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.group_programs import GroupPrograms
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.language.pins import Pins, most_slots
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.stack.entries import GroupTable
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.codegen import RING_SLOTS, covered, tiled
from npuvm.compiler.vector.lower import Reg, VecProgram
from npuvm.compiler.vector.space import Space
from npuvm.hw.config import NpuConfig
from npuvm.isa import Entry, EvenEntries, Image, Isa
from npuvm.isa.records import quick_record

__all__ = ["GroupEntries", "MixChosen", "MixCores", "VectorPart", "vector_of", "vector_part"]


@quick_record
@dataclass(frozen=True, slots=True)
class GroupEntries(GroupTable):
    """Entries of core groups that walk one grid after the other, the vector cores as often as there are of them.

    A vector core finds its part of every tile behind those of the cores before it.
    """

    def entry(self, core: int) -> Entry:
        """The entry of a core of the launch."""
        group, member = divmod(core, len(self.order))
        ranges = self.groups.entry(group).ranges
        if member == 0:
            return Entry(self.order[0], self.start(0), ranges)
        skipped = [(member - 1) * tiles for tiles in self.groups.tiles]
        moved = tuple((start + skip, stop + skip) for (start, stop), skip in zip(ranges, skipped, strict=True))
        return Entry(self.order[member], self.start(member), moved)

    def moved(self, ranges: npt.NDArray[np.int64], member: int) -> npt.NDArray[np.int64]:
        """The ranges of a member of each group, of those by group and phase."""
        return ranges + max(0, member - 1) * np.array(self.groups.tiles, dtype=np.int64)[:, None]


class MixChosen(NamedTuple):
    """The programs of a mix for some sizes, values of their own variables, tiles of each grid, and estimated cycles: those that
    its product takes, what it takes beyond them, and what a launch of its vector operations takes at least. With `by_grid`
    cores share the tiles of each grid rather than those of all.
    """

    template: GroupPrograms
    numbers: tuple[int, ...]
    tiles: tuple[int, ...]
    product: float
    behind: float
    alone: float
    by_grid: bool = False


class MixCores(NamedTuple):
    """Cores that run mixes: their types in a group, whether one core has both units, the groups, and vector cores of each."""

    order: tuple[str, ...]
    together: bool
    groups: int
    vectors: int

    @staticmethod
    def of(chip: NpuConfig) -> MixCores:
        """Those of a chip."""
        order, together = chip.group_core_types, chip.core.kind == "unified"
        vectors = 1 if together else order.count(chip.core_type_with("vector"))
        return MixCores(order, together, chip.cores_with("cube"), vectors)

    def image(self, name: str, chosen: MixChosen, numbers: Sequence[int]) -> Image:
        """The programs of what was chosen for values of their variables, on as many groups as have tiles of the grids."""
        programs, tiles = chosen.template, chosen.tiles
        words, relocs = programs.instance(numbers)
        groups = EvenEntries(self.order[0], min(self.groups, sum(tiles)), tiles, by_grid=chosen.by_grid)
        entries = groups if self.together else GroupEntries(self.order, groups, programs.starts)
        return Image(name, programs.isa_hash, words, entries, relocs, programs.n_args, programs.grids)


class VectorPart(NamedTuple):
    """The vector unit's program of a mix, and `reg` of it, which has the product's result.

    `nbytes` gives the bytes of UB for rows and columns of a band.
    """

    program: VecProgram
    storage: Storage
    reg: Reg
    nbytes: Function


def vector_of(segment: MixSegment, cores: MixCores) -> VectorSegment:
    """The vector part of a segment. Where tiles never see global memory, it stores the result that others want as well."""
    if not (cores.together and segment.kept):
        return segment.vector
    access = segment.product.c
    node = next(node for node, each in segment.vector.reads if each.tensor is access.tensor)
    return replace(segment.vector, writes=[*segment.vector.writes, (node, access)], memo={})


def vector_part(
    vector: VectorSegment,
    space: Space,
    result: str,
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    buffering: str | None = None,
) -> VectorPart:
    """The program of a vector segment over tiles of a space, which reads the product's result from the tensor `result`."""
    depth = most_slots(buffering, RING_SLOTS)
    used = covered(vector, space, chip, isa, again=depth > 1)
    program, storage = tiled(used, space, binding, isa, Pins(), depth, chip)
    reads = space.reads
    reg = next(reg for reg in program.regs if reg.read is not None and reads[reg.read].access.tensor.name == result)
    sides = ("rows", "cols")
    rows, cols = (SymInt.variable(name) for name in sides)
    return VectorPart(program, storage, reg, compile_values(sides, (storage.nbytes(rows, cols),), "nbytes"))
