"""Lays out `M`: the numbers of the memory system, its servers, and the head of L2's contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from npuvm.hw.compiled.layout import (
    CHANNEL_FIELDS,
    EMPTY,
    M_ACCESS,
    M_APART,
    M_BANKS,
    M_BLOCK,
    M_BLOCK_SHIFT,
    M_BURST,
    M_CHANNEL,
    M_CHANNEL_BYTE,
    M_CHANNEL_MASK,
    M_CHANNEL_UNITS,
    M_CHANNELS,
    M_COMPULSORY,
    M_DIRTY,
    M_FETCH_PART,
    M_FETCH_TIME,
    M_FIRST_WRITES,
    M_HASH,
    M_HBM_LATENCY,
    M_HINTS,
    M_L2_LATENCY,
    M_LINE,
    M_LINE_LEAST,
    M_LINE_PART,
    M_LINE_SHIFT,
    M_LINE_TIME,
    M_MARGIN,
    M_OPEN,
    M_READ,
    M_ROW_MISS,
    M_ROW_SPAN,
    M_SAME_LINE,
    M_SECTOR,
    M_SIZE,
    M_SLICE,
    M_SLICE_BYTE,
    M_SLICE_MASK,
    M_SLICE_UNITS,
    M_SLICES,
    M_STREAMED,
    M_TURN,
    M_UNCACHED,
    M_WRITTEN,
    SLICE_FIELDS,
    Store,
)
from npuvm.hw.memory.system import MemoryTraffic

if TYPE_CHECKING:
    from npuvm.hw.compiled.backend import Backend
    from npuvm.hw.memory.l2 import L2State
    from npuvm.hw.memory.system import MemoryParams

__all__ = ["make_servers", "traffic_of"]


def make_servers(backend: Backend, params: MemoryParams, l2: L2State, largest_request: int) -> Store:
    """`M` at the begin of a launch; the heads of the lines in L2 are not in it yet.

    `largest_request` is the most bytes that an engine of the chip asks for at once.
    """
    hbm, line = params.hbm, l2.line_bytes
    slice_rate, channel_rate = params.l2_rate / params.slices, hbm.rate / hbm.channels
    slice_at = M_SIZE
    channel_at = slice_at + SLICE_FIELDS * params.slices
    open_at = channel_at + CHANNEL_FIELDS * hbm.channels
    banks = hbm.channels * hbm.banks if hbm.row_bytes else 0
    M = np.zeros(open_at + banks, dtype=np.int64)
    M[open_at:] = EMPTY
    line_time = max(line, params.access_bytes) * slice_rate.denominator
    fetch_time = -(-line // hbm.burst_bytes) * hbm.burst_bytes * channel_rate.denominator
    fields = {
        M_LINE: line,
        M_LINE_SHIFT: _shift(line),
        M_LINE_LEAST: line.bit_length() - 1,
        M_SLICES: params.slices,
        M_SLICE_MASK: params.slices - 1 if _shift(params.slices) >= 0 else -1,
        M_SLICE_UNITS: slice_rate.numerator,
        M_SLICE_BYTE: slice_rate.denominator,
        M_LINE_TIME: line_time // slice_rate.numerator,
        M_LINE_PART: line_time % slice_rate.numerator,
        M_L2_LATENCY: params.l2_latency,
        M_HBM_LATENCY: hbm.latency,
        M_CHANNELS: hbm.channels,
        M_CHANNEL_MASK: hbm.channels - 1 if _shift(hbm.channels) >= 0 else -1,
        M_CHANNEL_UNITS: channel_rate.numerator,
        M_CHANNEL_BYTE: channel_rate.denominator,
        M_FETCH_TIME: fetch_time // channel_rate.numerator,
        M_FETCH_PART: fetch_time % channel_rate.numerator,
        M_BLOCK: hbm.interleave_bytes // line,
        M_BLOCK_SHIFT: _shift(hbm.interleave_bytes // line),
        M_HASH: int(params.hashed),
        M_ACCESS: params.access_bytes,
        M_APART: params.same_line_cycles,
        M_UNCACHED: int(params.uncached),
        M_BURST: hbm.burst_bytes,
        M_ROW_SPAN: hbm.row_bytes * hbm.channels,
        M_ROW_MISS: hbm.row_miss_cycles,
        M_BANKS: hbm.banks,
        M_TURN: hbm.turnaround_cycles,
        M_SECTOR: params.sector_bytes or line,
        M_SAME_LINE: hbm.same_line_cycles,
        M_SLICE: slice_at,
        M_CHANNEL: channel_at,
        M_OPEN: open_at,
        M_DIRTY: l2.dirty,
        M_HINTS: int(backend.name == "numba"),
        # As many rows as bytes, each of them in two lines more than it fills.
        M_MARGIN: 3 * largest_request + 3,
    }
    for field, value in fields.items():
        M[field] = value
    return backend.ints(M)


def traffic_of(M: Store, dirty_at_launch: int) -> MemoryTraffic:
    """What crossed between L2 and HBM."""
    return MemoryTraffic(
        hbm_read=int(M[M_READ]),
        hbm_write=int(M[M_WRITTEN]),
        compulsory_reads=int(M[M_COMPULSORY]),
        streamed_writes=int(M[M_STREAMED]),
        dirty_at_launch=dirty_at_launch,
        first_writes=int(M[M_FIRST_WRITES]),
    )


def _shift(number: int) -> int:
    """The exponent of a power of two, -1 for any other number."""
    return number.bit_length() - 1 if number & (number - 1) == 0 else -1
