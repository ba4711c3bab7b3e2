"""Programs of the cores of a group that make one image: a template for each type of core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.problem import CubeTile
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.symint import compile_values
from npuvm.compiler.emit.template import TemplateWriter
from npuvm.isa import Image, RelocTable

__all__ = ["GroupPrograms", "Looked", "PlacedBuffer"]


class PlacedBuffer(NamedTuple):
    """A buffer of the program of cores of type `core`; `ring` is its number, None for a plain one."""

    core: str
    name: str
    space: str
    ring: int | None
    slot_bytes: int
    slots: int


class Looked(NamedTuple):
    """An instance opened up: its image, the tensors whose addresses it takes, its tile as text with estimated cycles, and its
    buffers; of a mix also m, n, k and the number of matrices of its product, and their tile.
    """

    image: Image
    tensors: tuple[str, ...]
    tile: str
    cycles: float
    buffers: tuple[PlacedBuffer, ...]
    product: tuple[tuple[int, int, int, int], CubeTile] | None = None


class GroupPrograms:
    """A template with the programs of the core types of a group, one behind the other; `starts` are their first words.

    `types` are the types of the cores of a group, in the order of the programs; `variables` those of the template.
    """

    def __init__(self, builders: Sequence[InstrBuilder], types: Sequence[str], variables: Sequence[str]) -> None:
        first = builders[0]
        writer, starts = TemplateWriter(first.isa), []
        for each in builders:
            starts.append(writer.begin())
            each.write(writer)
        self._template = writer.template(first.name, first.n_args, variables)
        self._variables = tuple(variables)
        self._buffers = [(kind, buffer) for kind, each in zip(types, builders, strict=False) for buffer in each.buffers]
        self.starts = tuple(starts)
        self.isa_hash, self.n_args, self.grids = first.isa.hash, first.n_args, self._template.grids

    def instance(self, values: Sequence[int]) -> tuple[npt.NDArray[np.uint64], RelocTable]:
        """Words and relocations for values of the variables."""
        return self._template.instance(values)

    def buffers(self, values: Sequence[int]) -> tuple[PlacedBuffer, ...]:
        """The buffers of all programs for values of the variables."""
        sizes = [size for _, each in self._buffers for size in (each.slot_bytes, each.slots)]
        found = compile_values(self._variables, sizes)(*values)
        return tuple(
            PlacedBuffer(kind, each.name, each.space, each.ring, found[2 * at], found[2 * at + 1])
            for at, (kind, each) in enumerate(self._buffers)
        )
