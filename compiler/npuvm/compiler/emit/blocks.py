"""Blocks of the on-chip buffers, to which tiles, their rows and ring slots are aligned."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npuvm.compiler.emit.symint import SymInt, aligned
from npuvm.compiler.errors import CompileError
from npuvm.hw.config.model import BLOCK_BYTES
from npuvm.isa import Isa

__all__ = ["BLOCK_BYTES", "align_up", "check_blocks"]

_Size = TypeVar("_Size", int, NDArray[np.int64])


def align_up(value: _Size, to: int = BLOCK_BYTES) -> _Size:
    """The smallest multiple of `to` that is not below `value`; both in the same unit, bytes for the default."""
    if isinstance(value, SymInt):
        return aligned(value, to)
    return -(-value // to) * to


def check_blocks(isa: Isa, where: str) -> None:
    """Raise CompileError when a space of the instruction set asks for an alignment that whole blocks do not keep."""
    for space in isa.spaces.values():
        if space.align_bytes and BLOCK_BYTES % space.align_bytes:
            raise CompileError(
                f"space {space.name} of {isa.name} is aligned to {space.align_bytes} bytes; tiles are laid out in blocks "
                f"of {BLOCK_BYTES} bytes, so it must be a divisor of that",
                where,
            )
