"""The compiler's data types against those of the instruction set."""

from __future__ import annotations

import pytest

from npuvm.compiler import DTYPES
from npuvm.isa import load_isa

ISA = load_isa()


@pytest.mark.parametrize("name", DTYPES)
def test_a_tensor_type_is_one_of_the_instruction_set(name: str) -> None:
    """Graphs are typed without an instruction set, so both tables must say the same."""
    mine, theirs = DTYPES[name], ISA.dtypes[name]
    assert (mine.name, mine.item_bytes, mine.kind, mine.numpy) == (
        theirs.name, theirs.itemsize, theirs.kind, theirs.numpy,
    )  # fmt: skip
    assert mine.low_precision == (theirs.kind == "float" and theirs.compute != name)
