"""Alignment of tiles to the blocks of on-chip buffers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from npuvm.compiler import CompileError
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up, check_blocks
from npuvm.isa import load_isa

ISA = load_isa()


def test_sizes_round_up_to_whole_blocks() -> None:
    sizes = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1]
    blocks = [0, 1, 1, 1, 2]
    assert [align_up(size) for size in sizes] == [n * BLOCK_BYTES for n in blocks]
    assert align_up(np.array(sizes)).tolist() == [n * BLOCK_BYTES for n in blocks]
    assert align_up(65, 64) == 128


def test_blocks_keep_the_alignment_of_the_shipped_instruction_set() -> None:
    check_blocks(ISA, "kernel")


def test_an_alignment_that_blocks_do_not_keep_is_refused() -> None:
    wide = replace(ISA.spaces["ub"], align_bytes=2 * BLOCK_BYTES)
    with pytest.raises(CompileError, match=r"space ub of npu is aligned to 64 bytes; .* blocks of 32 bytes"):
        check_blocks(replace(ISA, spaces={**ISA.spaces, "ub": wide}), "kernel")
