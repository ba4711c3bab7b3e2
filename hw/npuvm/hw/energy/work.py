"""What a launch computes and moves beyond the bytes by level: the counts that energy is made of, from the decoded streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from npuvm.hw.errors import SimulationError
from npuvm.hw.results.sums import sum_by_key
from npuvm.hw.timing import cube_blocks
from npuvm.isa.semantics import primitives

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig
    from npuvm.hw.expansion.stream import Column, Site
    from npuvm.hw.expansion.tally import SiteTable
    from npuvm.isa import Isa

__all__ = ["Work", "work_of"]

_PRIMITIVES_OF_FUNCTION: Mapping[str, tuple[str, ...]] = {
    "copy_tile": (),
    "transpose_tile": (),
    "im2col_tile": (),
    "im2col_transposed_tile": (),
    "matmul": (),
    "matmul_accumulate": (),
    "fixpipe_tile": ("copy",),
    "fixpipe_add_tile": ("copy", "add"),
    "atomic_add_tile": ("add",),
    "gather_rows": (),
    "scatter_rows": (),
    "scatter_add_rows": ("add",),
}
"""Element operations of the instructions that no expression describes; what only moves has none."""


@dataclass(frozen=True)
class Work:
    """Counts of a launch, exact.

    `multiply_adds` of the cube by operand type, those of the operands' sizes, not of padded blocks. `operations` on elements
    by primitive and by the type they are calculated in: of the vector unit, the conversions of the fixpipe, the additions of
    atomic writes. `rereads` are bytes of l0a and l0b that the cube reads beyond each operand once, for it takes both operands
    block by block. `gm_bytes` go between cores and L2 or main memory. `words` are instruction words of what was dispatched.
    """

    multiply_adds: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rereads: Mapping[str, int] = field(default_factory=dict)
    gm_bytes: int = 0
    words: int = 0

    @property
    def flops(self) -> int:
        """Two for each multiply-add of the cube, one for each element operation that is no copy."""
        vector = sum(sum(counts.values()) for name, counts in self.operations.items() if name != "copy")
        return 2 * sum(self.multiply_adds.values()) + vector

    @staticmethod
    def sum(parts: Iterable[Work]) -> Work:
        """All parts together."""
        listed = tuple(parts)
        names = dict.fromkeys(name for part in listed for name in part.operations)
        return Work(
            sum_by_key(part.multiply_adds for part in listed),
            {name: sum_by_key(part.operations.get(name, {}) for part in listed) for name in names},
            sum_by_key(part.rereads for part in listed),
            sum(part.gm_bytes for part in listed),
            sum(part.words for part in listed),
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "multiply_adds": dict(self.multiply_adds),
            "operations": {name: dict(counts) for name, counts in self.operations.items()},
            "rereads": dict(self.rereads),
            "gm_bytes": self.gm_bytes,
            "words": self.words,
        }


def work_of(chip: NpuConfig, isa: Isa, tables: Iterable[SiteTable]) -> Work:
    """The work of all instructions of a launch; SimulationError for an instruction whose operations are not known."""
    return Work.sum(_work_of_table(chip, isa, table) for table in tables)


def _work_of_table(chip: NpuConfig, isa: Isa, table: SiteTable) -> Work:
    sites, count = table.sites, table.count
    site, size = table.kinds[:, 0], table.kinds[:, 1:]
    elements = np.zeros(len(sites), dtype=np.int64)
    np.add.at(elements, site, _elements(sites, site, size) * table.times)
    multiply_adds: dict[str, int] = {}
    operations: dict[str, dict[str, int]] = {}
    rereads = {"l0a": 0, "l0b": 0}
    words = 0
    for index, described in enumerate(sites):
        if not count[index] or described.instruction is None:
            continue
        words += described.instruction.words * int(count[index])
        dtype = described.insn.dtype
        if described.sync_only or dtype is None:
            continue
        total = int(elements[index])
        if described.unit_name == "cube":
            multiply_adds[dtype] = multiply_adds.get(dtype, 0) + total
            here = site == index
            for space, nbytes in _rereads(chip, described, size[here], table.times[here]).items():
                rereads[space] += nbytes
        compute = isa.dtypes[dtype].compute
        for primitive in _primitives(described):
            by_dtype = operations.setdefault(primitive, {})
            by_dtype[compute] = by_dtype.get(compute, 0) + total
    return Work(multiply_adds, operations, rereads, int(table.moved.sum()), words)


def _primitives(site: Site) -> tuple[str, ...]:
    """The element operations of a site's instruction."""
    instruction = site.instruction
    assert instruction is not None
    if instruction.semantics is not None:
        return primitives(instruction.semantics, tuple(operand.name for operand in instruction.operands))
    found = _PRIMITIVES_OF_FUNCTION.get(instruction.function or "")
    if found is None:
        known = ", ".join(_PRIMITIVES_OF_FUNCTION)
        raise SimulationError(
            f"{site.label}: the operations of {instruction.function!r} are not known; known are: {known}"
        )
    return found


def _elements(sites: Sequence[Site], site: Column, size: Column) -> Column:
    """Product of the extents that each instruction has: elements of its large tile, or multiply-adds of a matrix product."""
    extents = [{each for operand in described.operands for each in operand.shape} for described in sites]
    used = np.array([[k in each for k in range(size.shape[1])] for each in extents], dtype=np.bool_)
    product: Column = np.where(used[site], size, 1).prod(axis=1)
    return product


def _rereads(chip: NpuConfig, site: Site, size: Column, times: Column) -> dict[str, int]:
    """Bytes that the cube reads of each operand beyond its size, over instructions of sizes m, n, k (n, 3), `times` each."""
    cube, item = chip.core.cube, site.operands[1].itemsize
    m, n, k = size.T
    blocks = int((cube_blocks(m, n, k, item, (cube.m, cube.n, cube.k_bytes)) * times).sum())
    once_a, once_b = int((m * k * times).sum()) * item, int((k * n * times).sum()) * item
    return {"l0a": blocks * cube.m * cube.k_bytes - once_a, "l0b": blocks * cube.n * cube.k_bytes - once_b}
