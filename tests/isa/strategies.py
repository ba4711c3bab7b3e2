"""Random instructions and images of any instruction set, for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from npuvm.isa import Entry, Image, Insn, Instruction, Isa, OperandSpec, Pred, Reloc, encode
from npuvm.isa.image import CORE_TYPES


def operand_values(operand: OperandSpec) -> st.SearchStrategy[int]:
    """Values of one operand, its bounds drawn often."""
    if operand.values:
        return st.sampled_from(sorted(operand.values.values()))
    edges = st.sampled_from([operand.low, operand.high])
    return edges | st.integers(operand.low, operand.high)


def predicates(isa: Isa) -> st.SearchStrategy[Pred | None]:
    kinds = st.sampled_from([kind for kind in isa.predicates if kind != "always"])
    return st.none() | st.builds(Pred, kinds, st.integers(0, (1 << isa.limits["loops"]) - 1))


def semaphores(isa: Isa) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, isa.limits["semaphores"] - 1), max_size=2).map(tuple)


@st.composite
def insns(draw: Any, isa: Isa, spec: Instruction | None = None) -> Insn:
    """Any instruction the encoder takes, with every operand written out as the decoder does."""
    chosen = spec or draw(st.sampled_from([i for i in isa.instructions.values() if isa.features[i.feature]]))
    dtype, dtype2 = draw(st.sampled_from(chosen.dtypes)) if chosen.dtypes else (None, None)
    return Insn(
        chosen.name,
        dtype,
        dtype2,
        {operand.name: draw(operand_values(operand)) for operand in chosen.operands},
        wait=draw(semaphores(isa)),
        set=draw(semaphores(isa)),
        pred=draw(predicates(isa)),
        order=draw(st.booleans()),
    )


@st.composite
def images(draw: Any, isa: Isa) -> Image:
    """Images with any words, also such as are no instruction, and any entries and relocations that a file can hold."""
    words: list[int] = []
    for part in draw(st.lists(insns(isa) | st.integers(0, (1 << 64) - 1), max_size=12)):
        words += [part] if isinstance(part, int) else encode(isa, part)
    n_args = draw(st.integers(0, 4))
    places = draw(st.lists(st.integers(0, len(words) - 1), max_size=4)) if words and n_args else []
    relocs = [Reloc(w, draw(st.integers(0, n_args - 1)), draw(st.integers(-(1 << 63), (1 << 63) - 1))) for w in places]
    tile = st.integers(0, (1 << 64) - 1)
    entry = st.builds(
        Entry,
        st.sampled_from(CORE_TYPES),
        st.integers(0, 1000),
        st.lists(st.tuples(tile, tile), max_size=3).map(tuple),
    )
    return Image(
        draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=12)),
        isa.hash,
        np.array(words, dtype=np.uint64),
        tuple(draw(st.lists(entry, max_size=3))),
        tuple(relocs),
        n_args,
    )
