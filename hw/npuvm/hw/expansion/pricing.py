"""What the instructions of a block cost on a chip, and what their DMA moves: the formulas of `npuvm.hw.timing`, by site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.rows import number_rows
from npuvm.hw.expansion.stream import MAX_OPERANDS, Dma, Site
from npuvm.hw.memory.banks import BankOperand, Pattern, conflict_cycles
from npuvm.hw.timing import (
    cube_blocks,
    cube_occupancy,
    rate_of,
    transfer_occupancy,
    vector_cost,
    vector_occupancy,
    vector_repeats,
)
from npuvm.isa.model import Isa

__all__ = ["Pricer", "Prices"]

Ints: TypeAlias = NDArray[np.int64]
Where: TypeAlias = slice | NDArray[np.intp]
"""Which instructions: all of them, or those at these places."""

_SYNC, _VECTOR, _CUBE, _TRANSFER, _DMA = range(5)


@dataclass(frozen=True)
class Prices:
    """Timing columns of n instructions, see `npuvm.hw.expansion.stream.Stream`."""

    occupancy: Ints
    latency: Ints
    gm_addr: Ints
    gm_rows: Ints
    gm_row_bytes: Ints


class Pricer:
    """Prices instructions of a table of sites. `gm_operand` (S) is the operand in global memory of a DMA, -1 for no DMA."""

    def __init__(self, sites: tuple[Site, ...], isa: Isa, chip: NpuConfig) -> None:
        self._isa = isa
        self._chip = chip
        count = len(sites)
        self._kind: Ints = np.zeros(count, dtype=np.int64)
        self._startup: Ints = np.zeros(count, dtype=np.int64)
        self._latency: Ints = np.zeros(count, dtype=np.int64)
        self._item: Ints = np.ones(count, dtype=np.int64)
        # By kind: repeat_num, row_num, den of a vector cost; cycles_per_block of the cube; rate, row_cycles of a transfer.
        self._rates: Ints = np.ones((count, 3), dtype=np.int64)
        self._full_shape: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._pitch: Ints = np.full((count, MAX_OPERANDS), -1, dtype=np.int64)
        self._items: Ints = np.ones((count, MAX_OPERANDS), dtype=np.int64)
        self.gm_operand: Ints = np.full(count, -1, dtype=np.int64)
        self._extent: Ints = np.full((count, 2), np.iinfo(np.int64).max >> 1, dtype=np.int64)
        for s, site in enumerate(sites):
            for q, operand in enumerate(site.operands):
                self._pitch[s, q], self._items[s, q] = operand.pitch, operand.itemsize
            self._price_site(s, site)
        self._kinds = tuple(int(kind) for kind in np.unique(self._kind))
        banked = [self._chip.core.ub_banks is not None and kind == _VECTOR for kind in self._kind]
        self._banked: NDArray[np.bool_] = np.array(banked, dtype=np.bool_)
        self._sites = sites

    def _price_site(self, s: int, site: Site) -> None:
        core = self._chip.core
        if site.sync_only:
            return
        if site.dma is not None:
            self._price_dma(s, site, site.dma)
        elif site.unit_name == "vector":
            cost = vector_cost(core.vector, self._isa, self._isa.instruction(site.insn.op))
            self._set(s, _VECTOR, cost.startup, cost.latency, (cost.repeat_num, cost.row_num, cost.den))
            self._item[s] = max(operand.itemsize for operand in site.operands)
            self._full_shape[s] = all(operand.shape == (0, 1) for operand in site.operands)
        elif site.unit_name == "cube":
            dtype = site.insn.dtype or ""
            if dtype not in core.cube.cycles_per_block:
                known = ", ".join(core.cube.cycles_per_block)
                raise SimulationError(f"{site.label}: the cube of this chip has no {dtype}; it has {known}")
            self._set(
                s, _CUBE, core.cube.startup_cycles, core.cube.latency_cycles, (core.cube.cycles_per_block[dtype], 0, 1)
            )
            self._item[s] = site.operands[1].itemsize
        else:
            moves = site.unit_name == "move"
            startup = (core.move if moves else core.fixpipe).startup_cycles
            latency = (core.move if moves else core.fixpipe).latency_cycles
            target = site.operands[0]
            row_cycles = core.move.row_cycles if moves else 0
            self._set(s, _TRANSFER, startup, latency, (self._path(site, target.space), row_cycles, 1))
            self._item[s] = target.itemsize

    def _price_dma(self, s: int, site: Site, dma: Dma) -> None:
        core = self._chip.core
        operand = site.operands[dma.operand]
        into_l1 = any(each.space == "l1" for each in site.operands)
        startup = {
            "load": core.load.l1_startup_cycles if into_l1 else core.load.startup_cycles,
            "store": core.store.startup_cycles,
            "fixpipe": core.fixpipe.startup_cycles,
        }[site.unit_name]
        if site.unit_name == "fixpipe":
            self._path(site, "gm")
        self._set(s, _DMA, startup, 0, (1, 0, 1))
        self._item[s] = operand.itemsize
        self.gm_operand[s] = dma.operand
        if dma.indexed is not None:
            # Rows by index are never one run of bytes.
            self._pitch[s, dma.operand] = -1
        if operand.window is not None:
            self._extent[s] = operand.window.rows, operand.window.cols

    def _path(self, site: Site, space: str) -> int:
        move, fixpipe = self._chip.core.move, self._chip.core.fixpipe
        if site.unit_name == "move":
            rates = {"l0a": move.l0a_bytes_per_cycle, "l0b": move.l0b_bytes_per_cycle, "l0c": move.l0c_bytes_per_cycle}
        else:
            rates = {
                "gm": fixpipe.gm_bytes_per_cycle,
                "ub": fixpipe.ub_bytes_per_cycle,
                "l1": fixpipe.l1_bytes_per_cycle,
            }
        return rate_of(rates, space, site.label)

    def _set(self, s: int, kind: int, startup: int, latency: int, rates: tuple[int, int, int]) -> None:
        self._kind[s], self._startup[s], self._latency[s], self._rates[s] = kind, startup, latency, rates

    def price(self, site: Ints, addr: Ints, size: Ints, origin: Ints) -> Prices:
        """Timing columns for n instructions: sites (n), addresses (n, 4), sizes (n, 3), window origins (n, 2).

        A unit starts at most one instruction a cycle, so each occupies it for one cycle at least;
        of a transfer only the issue is priced here.
        """
        occupancy = self._startup[site]
        n = len(site)
        zeros = np.zeros((3, n), dtype=np.int64)
        prices = Prices(occupancy, self._latency[site], zeros[0], zeros[1], zeros[2])
        kind = self._kind[site] if len(self._kinds) > 1 else None
        for code in self._kinds:
            if code == _SYNC:
                continue
            at: Where = slice(None) if kind is None else np.flatnonzero(kind == code)
            self._price_kind(code, prices, at, site[at], addr[at], size[at], origin[at])
        np.maximum(occupancy, 1, out=occupancy, where=prices.gm_rows == 0)
        return prices

    def bank_conflicts(self, site: Ints, addr: Ints, size: Ints) -> Ints:
        """Cycles by which bank conflicts in UB lengthen the occupancy of each of n instructions, see `memory.banks`."""
        conflicts = np.zeros(len(site), dtype=np.int64)
        at = np.flatnonzero(self._banked[site]) if self._banked.any() else ()
        if not len(at):
            return conflicts
        keys = np.concatenate((site[at, None], addr[at], size[at, :2]), axis=1)
        first, numbers = number_rows(keys)
        found = [
            self._conflicts_of(row[0], row[1 : 1 + MAX_OPERANDS], row[-2], row[-1]) for row in keys[first].tolist()
        ]
        conflicts[at] = np.array(found, dtype=np.int64)[numbers]
        return conflicts

    def _conflicts_of(self, s: int, addr: list[int], rows: int, cols: int) -> int:
        banks = self._chip.core.ub_banks
        assert banks is not None
        operands = tuple(
            BankOperand(
                addr[q], each.itemsize, each.pitch, each.shape[0] == 0, each.shape[1] == 1, each.reads, each.writes
            )
            for q, each in enumerate(self._sites[s].operands)
            if each.space == "ub" and each.shape[0] in (0, -1) and each.shape[1] in (1, -1)
        )
        item = int(self._item[s])
        elements = self._chip.core.vector.repeat_bytes // item
        dense = bool(self._full_shape[s]) and all(each.pitch == cols * each.itemsize for each in operands)
        repeat_num, row_num, den = self._rates[s].tolist()
        return conflict_cycles(banks, Pattern(rows, cols, elements, dense, repeat_num, row_num, den, operands))

    def _price_kind(
        self, code: int, prices: Prices, at: Where, site: Ints, addr: Ints, size: Ints, origin: Ints
    ) -> None:
        item, rates, startup = self._item[site], self._rates[site], self._startup[site]
        rows, cols = size[:, 0], size[:, 1]
        if code == _VECTOR:
            row_bytes = cols[:, None] * self._items[site]
            pitch = self._pitch[site]
            dense = self._full_shape[site] & ((pitch == row_bytes) | (pitch < 0)).all(axis=1)
            repeats = vector_repeats(rows, cols, item, self._chip.core.vector.repeat_bytes, dense)
            prices.occupancy[at] = vector_occupancy(repeats, rows, startup, rates[:, 0], rates[:, 1], rates[:, 2])
        elif code == _CUBE:
            cube = self._chip.core.cube
            blocks = cube_blocks(rows, cols, size[:, 2], item, (cube.m, cube.n, cube.k_bytes))
            prices.occupancy[at] = cube_occupancy(blocks, startup, rates[:, 0])
        elif code == _TRANSFER:
            prices.occupancy[at] = transfer_occupancy(rows, cols, item, rates[:, 0], rates[:, 1], startup)
        else:
            self._price_gm(prices, at, site, addr, (rows, cols), origin, item)

    def _price_gm(
        self, prices: Prices, at: Where, site: Ints, addr: Ints, shape: tuple[Ints, Ints], origin: Ints, item: Ints
    ) -> None:
        """Cut the tile to its window; a part that is dense in global memory is one run of bytes."""
        operand = self.gm_operand[site]
        each = np.arange(len(site))
        pitch = self._pitch[site, operand]
        first, count = _clip(shape, origin, self._extent[site])
        some = (count > 0).all(axis=1)
        rows = np.where(some, count[:, 0], 0)
        row_bytes = np.where(some, count[:, 1], 0) * item
        dense = some & (pitch == row_bytes)
        prices.gm_addr[at] = addr[each, operand] + first[:, 0] * pitch + first[:, 1] * item
        prices.gm_rows[at] = np.where(dense, 1, rows)
        prices.gm_row_bytes[at] = np.where(dense, rows * row_bytes, row_bytes)


def _clip(shape: tuple[Ints, Ints], origin: Ints, extent: Ints) -> tuple[Ints, Ints]:
    """First row and column of each tile inside its window (n, 2), and how many there are (n, 2), negative for none."""
    size = np.stack(shape, axis=1)
    first = np.clip(-origin, 0, size)
    last = np.clip(extent - origin, 0, size)
    return first, last - first
