"""What the loads of convolutions' tiles cost: images and kernels on their way from memory to L1."""

from __future__ import annotations

from functools import lru_cache
from math import gcd, inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.spec import ConvSizes
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.native.conv_layout import Rate
from npuvm.compiler.tiles.memory_cost import memory_cost

__all__ = ["ConvLoads", "Load", "aligned", "scalar"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@lru_cache(maxsize=4096)
def scalar(value: float) -> Floats:
    """A number as an array of no dims: operations of other arrays take it in two thirds of the time of a plain number."""
    found = np.array(value, dtype=np.float64)
    found.setflags(write=False)
    return found


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
        self._start, self._row = scalar(load.l1_startup_cycles), scalar(float(load.l1_row_cycles))
        self._per_port, self._burst = scalar(1 / load.l1_bytes_per_cycle), scalar(load.min_burst_bytes)
        self._chunk, self._per_chunk = scalar(load.chunk_bytes), scalar(1 / load.chunk_bytes)
        self._together = load.chunk_bytes // load.min_burst_bytes
        self._near = scalar(l2.latency_cycles / load.outstanding)
        self._far = scalar((l2.latency_cycles + hbm.latency_cycles) / load.outstanding)
        self._access, self._slices = scalar(l2.access_bytes), l2.slices
        self._line_bytes, self._line = l2.line_bytes, scalar(l2.line_bytes)
        # Rows that are no shorter take no longer for being short.
        self._short = float(max(load.min_burst_bytes, l2.access_bytes, load.chunk_bytes + 1))
        self._channels, self._interleave = hbm.channels, scalar(hbm.interleave_bytes)
        self._hashed, self._uncached = chip.memory.address_hash, l2.unaligned_reads == "uncached"
        self._capacity, self._per_l2 = chip.capacity_bytes("l2"), scalar(1 / float(chip.l2_bytes_per_cycle))
        rate = float(chip.hbm_bytes_per_cycle)
        self._read_byte, _, missed = memory_cost(chip)
        self._per_byte = scalar(self._read_byte)
        # Past L2 each line is read for one core, and for others in turn.
        self._per_line = scalar(float(l2.line_bytes / rate + max(missed, hbm.same_line_cycles) / hbm.channels))

    def rates(self) -> dict[Rate, float]:
        """Numbers of the chip that all loads are estimated by, as machine code has them."""
        return {
            Rate.START: float(self._start),
            Rate.ROW: float(self._row),
            Rate.PER_PORT: float(self._per_port),
            Rate.BURST: float(self._burst),
            Rate.CHUNK: float(self._chunk),
            Rate.PER_CHUNK: float(self._per_chunk),
            Rate.IS_TOGETHER: self._together > 1,
            Rate.NEAR: float(self._near),
            Rate.FAR: float(self._far),
            Rate.ACCESS: float(self._access),
            Rate.SHORT: self._short,
            Rate.SLICES: self._slices,
            Rate.LINE: self._line_bytes,
            Rate.CHANNELS: self._channels,
            Rate.INTERLEAVE: float(self._interleave),
            Rate.IS_HASHED: self._hashed,
            Rate.IS_UNCACHED: self._uncached,
            Rate.PER_BYTE: float(self._per_byte),
            Rate.PER_LINE: float(self._per_line),
            Rate.CAPACITY: self._capacity,
        }

    def image(
        self,
        sizes: ConvSizes,
        rows: Floats,
        pixels: Floats,
        fresh: Floats,
        parts: int,
        block: Floats,
        nbytes: Floats,
        dense: Flags | None,
    ) -> Load:
        """Loads of an image with one block of channels, of `nbytes` each, for tiles of so many rows.

        `pixels` are those within x, of which main memory gives the `fresh` ones alone to all cores; the first `parts` tiles are
        parts of a row, whose images come row by row. `dense` are those whose pixels follow each other where channels do.
        """
        pitch, times = sizes.adjacent * self._item, sizes.kernel[0] if parts else 1
        off: Flags | bool = pitch % BLOCK_BYTES > 0
        each = pixels
        if times > 1:
            each = pixels.copy()
            each[:parts] /= times
        if self._planes:
            line = sizes.size[1] * self._item
            row = each * scalar(self._item)
            # Rows of a plane begin where those before them end.
            if self._uncached and not off and (parts or line % BLOCK_BYTES):
                off = np.fmod(pixels * scalar(self._item), _BLOCK) > _NONE
                if sizes.strides[0] * line % BLOCK_BYTES:
                    off |= np.fmod(rows * scalar(sizes.strides[0] * line), _BLOCK) > _NONE
            found = self._load(block, row, pitch, row == scalar(pitch), off, parts, times)
        else:
            found = self._load(each, nbytes, pitch, dense, off, parts, times)
        return found._replace(fetched=np.minimum(found.fetched, fresh * nbytes * self._per_byte))

    def kernels(self, sizes: ConvSizes, filters: Floats, parts: Floats) -> Load:
        """Loads of the kernels of a tile in so many parts."""
        depth = max(sizes.depth, 1)
        pitch, row = depth * self._item, depth / parts * self._item
        # All cores are at the same rows: each line of one that begins off blocks is read past L2, as its requests begin so too.
        return self._load(filters, row, pitch, row == pitch, pitch % BLOCK_BYTES > 0, further=_ANY).scaled(parts)

    def read(self, sizes: ConvSizes) -> float:
        """Cycles of main memory for operands that are read once, and for what of the result L2 does not keep."""
        images, (height, width), (high, wide), (taps, _), (step, _), (far, _), channels, filters, _, _, _, _, depth = (
            sizes
        )
        # Rows that windows step over are not read.
        reach = (taps - 1) * far + 1
        rows = min(height, high * (step if step < reach else reach))
        stored = images * high * wide * filters * self._out_item
        read = (images * rows * width * channels + filters * depth) * self._item
        both = stored + read
        driven = float(both - self._capacity) * stored / both if both > self._capacity else 0.0
        return (read + driven) * self._read_byte

    def forgets(self, sizes: ConvSizes) -> bool:
        """Whether the kernels of all filters are more than L2 keeps from one image to the next."""
        return sizes.filters * sizes.depth * self._item > self._capacity

    def _load(
        self,
        rows: Floats,
        row: Floats,
        pitch: int,
        dense: Flags | None,
        off: Flags | bool,
        parts: int = 0,
        times: int = 1,
        further: Floats | None = None,
    ) -> Load:
        """A load of rows of so many bytes, which begin `pitch` bytes apart; `dense` ones, which follow each other, are one.

        `off`: rows begin or end off blocks of 32 bytes, and up to `further` lines but their first, or the last one alone, are
        read past L2. The first `parts` are so many such loads each.
        """
        nbytes = rows * row
        if dense is not None:
            rows, row = np.where(dense, _ONE, rows), np.where(dense, nbytes, row)
        sent, served, requests = row, nbytes, np.ceil(row * self._per_chunk)
        if row.min() < self._short:
            sent, served = np.maximum(row, self._burst), rows * np.maximum(row, self._access)
            if self._together > 1:
                # Short rows are requested together, as many as there is room for.
                together = _ONE / np.floor(self._chunk / np.minimum(sent, self._chunk))
                requests = np.where(requests > _ONE, requests, together)
        issue = rows * (sent * self._per_port + self._row)
        requests = requests * rows
        # Main memory gives whole lines, which the rows that begin in them need too.
        whole_lines = pitch % self._line_bytes == 0
        crossed = np.ceil(row / self._line) * self._line if whole_lines else row + self._line
        fetched = np.maximum(np.minimum(crossed, scalar(pitch)) * rows, nbytes) * self._per_byte
        slices, channels = self._meeting(pitch)
        if slices > 1:
            # Cores that are at other columns spread a part of it.
            served = served * np.sqrt(_crowded(slices, dense, row, self._line))
        if channels > 1:
            fetched = fetched * _crowded(channels, dense, row, self._interleave)
        far = np.maximum(np.maximum(issue, requests * self._far), fetched) + self._start
        near = np.maximum(np.maximum(issue, requests * self._near), served * self._per_l2) + self._start
        past: Floats | None = None
        if self._uncached and (off if isinstance(off, bool) else off.any()):
            # A line that a row ends in serves the row that begins there.
            beyond = np.full(len(row), off) if isinstance(off, bool) else off
            beyond = beyond if dense is None else beyond & ~dense
            more = np.minimum(row / self._line, _ONE if further is None else further)
            lines = rows * np.minimum(_ONE + more, scalar(pitch / self._line_bytes))
            near = np.where(beyond, far, near)
            if times > 1:
                lines[:parts] *= times
            past = beyond * (lines * self._per_line)
        issue = issue + self._start
        if times > 1:
            for each in (issue, requests, near, far, fetched, served):
                each[:parts] *= times
        return Load(issue, requests, near, far, fetched, served, past)

    def _meeting(self, pitch: int) -> tuple[int, int]:
        """How many times fewer slices of L2, and channels, than there are do rows so many bytes apart begin in."""
        if self._hashed:
            return 1, 1
        slices, channels = (
            gcd(pitch // unit, count) if pitch % unit == 0 < pitch else 1
            for unit, count in ((self._line_bytes, self._slices), (int(self._interleave), self._channels))
        )
        return slices, channels


def _crowded(times: int, dense: Flags | None, row: Floats, unit: Floats) -> Floats:
    """By how much slower slices or channels are where so many times fewer serve rows that reach no others."""
    slower: Floats = np.maximum(scalar(times) / np.maximum(np.ceil(row / unit), _ONE), _ONE)
    return slower if dense is None else np.where(dense, _ONE, slower)


def aligned(nbytes: Floats) -> Floats:
    """Bytes up to whole blocks of 32."""
    return np.ceil(nbytes * _PER_BLOCK) * _BLOCK


_NONE, _ONE, _ANY = scalar(0), scalar(1), scalar(inf)
_BLOCK, _PER_BLOCK = scalar(BLOCK_BYTES), scalar(1 / BLOCK_BYTES)
