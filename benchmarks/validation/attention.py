"""Flash attention as the measured kernel cuts it: groups of a cube core and two vector cores, which work on one tile of keys
after another.

A group computes blocks of 128 queries. For each tile of 256 keys its cube core gives the scores Q K^T to exchange buffers in
global memory, the vector cores turn them into weights with a running maximum and sum of every row, the cube core multiplies
these with V, and the vector cores rescale and add the partial results. Scores run four tiles ahead, and buffers have eight
slots, so that cube and vector cores work at the same time.

`@kernel` has no kernels of cube and vector cores together, so the programs are written with the instruction builder. They need
the extension `row_operand`, for arithmetic with one number of each row.

Assumed, as the published figures do not say it: one head (its operations fit the stated rates), and blocks dealt to the groups
in turn. The measured kernel starts a block wherever a group has become free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from benchmarks.validation.attention_cube import CubePart
from benchmarks.validation.attention_shape import ARGUMENTS, AttentionShape
from benchmarks.validation.attention_vector import VectorPart
from benchmarks.validation.builders import ALIGNMENT, Case, Launch, builder

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.hw.config import CoreType, NpuConfig
from npuvm.isa import Entry, Image, Isa, Reloc

__all__ = ["attention_case", "attention_image"]


@builder("attention")
def attention_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row; `heads` other than 1 are refused. ValueError for sizes that the kernel does not cut evenly."""
    if params["heads"] != 1:
        raise ValueError(f"heads is {params['heads']}; allowed: 1")
    blocks = params["seq"] // 128
    shape = AttentionShape(params["seq"], params["seq"], params["head_dim"], min(params["cores"], blocks))
    addresses, end = [], ALIGNMENT
    for argument in ARGUMENTS:
        addresses.append(end)
        end += -(-shape.bytes_of(argument) // ALIGNMENT) * ALIGNMENT
    return Case((Launch(attention_image(chip, isa, shape), tuple(addresses)),))


def attention_image(chip: NpuConfig, isa: Isa, shape: AttentionShape) -> Image:
    """The program of all cores; arguments are those of `ARGUMENTS`. IsaError when the set has no row operands."""
    cube = _builder(chip, isa, "cube")
    part = CubePart(cube, shape)
    part.write()
    programs = [cube]
    for core in (0, 1):
        vector = _builder(chip, isa, "vector")
        VectorPart(vector, shape, part.signals, core).write()
        programs.append(vector)
    images = [
        program.build(kind, shape.ranges())
        for program, kind in zip(programs, ("cube", "vector", "vector"), strict=True)
    ]
    return _joined(images)


def _builder(chip: NpuConfig, isa: Isa, kind: CoreType) -> InstrBuilder:
    spaces = {space: chip.capacity_bytes(space) for space in chip.spaces(kind) if space != "gm"}
    return InstrBuilder(isa, spaces, "attention", len(ARGUMENTS))


def _joined(images: list[Image]) -> Image:
    """One image whose groups have a core of each of the images."""
    starts = np.cumsum([0, *(len(image.words) for image in images[:-1])]).tolist()
    entries = [
        Entry(entry.core_type, start + entry.pc, entry.ranges)
        for group in zip(*(image.entries for image in images), strict=True)
        for start, entry in zip(starts, group, strict=True)
    ]
    relocs = [
        Reloc(start + reloc.word, reloc.arg, reloc.addend)
        for start, image in zip(starts, images, strict=True)
        for reloc in image.relocs
    ]
    words = np.concatenate([image.words for image in images])
    return Image("attention", images[0].isa_hash, words, tuple(entries), tuple(relocs), images[0].n_args)
