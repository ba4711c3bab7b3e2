"""Fills templates; see `npuvm.compiler.emit.template`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.compiling import ASKED, FLAG, INTS, ROWS, kernel
from npuvm.compiler.native.field_layout import Field

__all__ = ["fill"]

Ints = npt.NDArray[np.int64]


@kernel(FLAG, INTS, ASKED, ROWS)
def fill(words: Ints, values: Ints, fields: Ints) -> bool:
    """`Template.instance`: values put into their fields of the words; whether all of them fit."""
    for at in range(len(fields)):
        value = values[fields[at, Field.VALUE]]
        if not fields[at, Field.LOW] <= value <= fields[at, Field.HIGH]:
            return False
        words[fields[at, Field.WORD]] |= (value & fields[at, Field.MASK]) << fields[at, Field.SHIFT]
    return True
