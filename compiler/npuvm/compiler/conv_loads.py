"""What the loads of convolutions' tiles cost: images and kernels on their way from memory to L1."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES
from npuvm.compiler.conv_spec import ConvSizes
from npuvm.compiler.cube_problem import TileProblem

__all__ = ["ConvLoads", "Load", "aligned"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Load(NamedTuple):
    """Loads of an operand: cycles of the port, requests, and cycles when they come one by one from L2 and from main memory.

    `fetched` are the cycles that main memory needs for them once, `served` the bytes that L2 is busy for, `past` the cycles of
    main memory for what is read past L2 each time, where some is.
    """

    issue: Floats
    requests: Floats
    near: Floats
    far: Floats
    fetched: Floats
    served: Floats
    past: Floats | None

    def scaled(self, share: Floats) -> Load:
        """A share of each of them."""
        past = None if self.past is None else self.past * share
        served, fetched = self.served * share, self.fetched * share
        return Load(
            self.issue * share, self.requests * share, self.near * share, self.far * share, fetched, served, past
        )


class ConvLoads:
    """Loads of convolutions of one sort."""

    def __init__(self, problem: TileProblem, planes: bool) -> None:
        chip, load = problem.chip, problem.chip.core.load
        l2, hbm = chip.memory.l2, chip.memory.hbm
        self._planes, self._item, self._out_item = planes, problem.item, problem.out_item
        # Arrays take plain floats in half the time of plain integers.
        self._start, self._row = float(load.l1_startup_cycles), float(load.l1_row_cycles)
        self._per_port, self._burst = 1 / float(load.l1_bytes_per_cycle), float(load.min_burst_bytes)
        self._chunk, self._per_chunk = float(load.chunk_bytes), 1 / load.chunk_bytes
        self._together = load.chunk_bytes // load.min_burst_bytes
        self._near = l2.latency_cycles / load.outstanding
        self._far = (l2.latency_cycles + hbm.latency_cycles) / load.outstanding
        self._access, self._line, self._slices = float(l2.access_bytes), float(l2.line_bytes), l2.slices
        self._channels, self._interleave = hbm.channels, float(hbm.interleave_bytes)
        self._hashed, self._uncached = chip.memory.address_hash, l2.unaligned_reads == "uncached"
        self._capacity, self._per_l2 = chip.capacity_bytes("l2"), 1 / float(chip.l2_bytes_per_cycle)
        rate = float(chip.hbm_bytes_per_cycle)
        # Cores that stream from places of their own open a row of main memory for every line.
        missed = hbm.row_miss_cycles if hbm.row_bytes else 0
        self._per_byte = 1 / rate + missed / (self._line * hbm.channels)
        # Past L2 each line is read for one core, and for others in turn.
        self._per_line = self._line / rate + max(missed, hbm.same_line_cycles) / hbm.channels

    def image(self, sizes: ConvSizes, rows: Floats, pixels: Floats, block: Floats, loads: Floats | float) -> Load:
        """Loads of an image with one block of channels, for tiles of so many rows; `pixels` are those within x."""
        pitch = sizes.adjacent * self._item
        off: Flags | bool = pitch % BLOCK_BYTES > 0
        if not self._planes:
            return self._load(pixels / loads, block, pitch, loads, off)
        if self._uncached and not off:
            # Rows of a plane begin where those before them end.
            down = rows * (sizes.strides[0] * sizes.size[1] * self._item)
            off = (np.mod(pixels * self._item, BLOCK_BYTES) > 0) | (np.mod(down, BLOCK_BYTES) > 0)
        return self._load(block, pixels / loads, pitch, loads, off)

    def kernels(self, sizes: ConvSizes, filters: Floats, parts: Floats) -> Load:
        """Loads of the kernels of a tile in so many parts."""
        depth = max(sizes.depth, 1)
        pitch = depth * self._item
        return self._load(filters, depth / parts, pitch, parts, pitch % BLOCK_BYTES > 0)

    def read(self, sizes: ConvSizes) -> float:
        """Cycles of main memory for operands that are read once, and for what of the result L2 does not keep."""
        (height, width), (high, wide) = sizes.size, sizes.out
        stored = sizes.images * high * wide * sizes.filters * self._out_item
        read = (sizes.images * height * width * sizes.channels + sizes.filters * sizes.depth) * self._item
        driven = max(stored + read - self._capacity, 0) * stored / max(stored + read, 1)
        return (read + driven) * self._per_byte

    def forgets(self, sizes: ConvSizes) -> bool:
        """Whether the kernels of all filters are more than L2 keeps from one image to the next."""
        return sizes.filters * sizes.depth * self._item > self._capacity

    def _load(self, rows: Floats, row: Floats, pitch: int, times: Floats | float, off: Flags | bool) -> Load:
        """So many loads of rows of elements, which begin `pitch` bytes apart; rows that follow each other are one.

        `off`: rows begin or end off blocks of 32 bytes.
        """
        row = row * self._item
        dense = row == pitch
        if dense.any():
            nbytes = rows * row
            rows, row = np.where(dense, 1.0, rows), np.where(dense, nbytes, row)
        nbytes = rows * row
        sent = np.maximum(row, self._burst)
        issue = rows * (sent * self._per_port + self._row)
        requests = np.ceil(row * self._per_chunk)
        if self._together > 1:
            # Short rows are requested together, as many as there is room for.
            requests = np.where(requests > 1, requests, 1 / np.floor(self._chunk / np.minimum(sent, self._chunk)))
        requests = rows * requests
        # Main memory gives whole lines, which the rows that begin in them need too.
        crossed = np.ceil(row / self._line) * self._line if pitch % self._line == 0 else row + self._line
        fetched = np.maximum(np.minimum(crossed, float(pitch)) * rows, nbytes) * self._per_byte
        served = rows * np.maximum(row, self._access)
        slices, channels = self._meeting(pitch)
        if slices > 1:
            # Cores that are at other columns spread a part of it.
            served = served * np.sqrt(self._crowded(slices, dense, row, self._line))
        if channels > 1:
            fetched = fetched * self._crowded(channels, dense, row, self._interleave)
        far = times * (np.maximum(np.maximum(issue, requests * self._far), fetched) + self._start)
        near = times * (np.maximum(np.maximum(issue, requests * self._near), served * self._per_l2) + self._start)
        past: Floats | None = None
        if self._uncached and np.any(off):
            beyond = off & ~dense
            # A line that a row ends in serves the row that begins there.
            lines = rows * np.minimum(1.0 + np.minimum(row / self._line, 1.0), pitch / self._line)
            past, near = np.where(beyond, times * lines * self._per_line, 0.0), np.where(beyond, far, near)
        return Load(times * (issue + self._start), times * requests, near, far, times * fetched, times * served, past)

    def _meeting(self, pitch: int) -> tuple[int, int]:
        """How many times fewer slices of L2, and channels, than there are do rows so many bytes apart begin in."""
        if self._hashed:
            return 1, 1
        slices, channels = (
            gcd(pitch // int(unit), count) if pitch % unit == 0 < pitch else 1
            for unit, count in ((self._line, self._slices), (self._interleave, self._channels))
        )
        return slices, channels

    def _crowded(self, times: int, dense: Flags, row: Floats, unit: float) -> Floats:
        """By how much slower those are, for rows that reach no others."""
        slower: Floats = np.maximum(times / np.maximum(np.ceil(row / unit), 1.0), 1.0)
        return np.where(dense, 1.0, slower)


def aligned(nbytes: Floats) -> Floats:
    """Bytes up to whole blocks of 32."""
    return np.ceil(nbytes * (1 / BLOCK_BYTES)) * BLOCK_BYTES
