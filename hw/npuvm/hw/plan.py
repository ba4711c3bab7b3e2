"""The static half of expansion: one block of a program on one chip, turned into tables that numpy indexes by site.

A site is an instruction of the block. For every site the plan holds the affine form of its operand addresses and window
origin over the eight loop counters, its sizes, predicate, ring use and cost. All of it is fixed while the block runs, so it
is made once and shared by all cores and launches of the same program text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.contexts import LOOPS
from npuvm.hw.errors import SimulationError
from npuvm.hw.program import CONSUMER, PRODUCER, Block, DescDef, Grid, Leaf, Loop, Node, SizeDef, place
from npuvm.hw.stream import MAX_OPERANDS, MAX_SIZES, Dma, OperandSite, Site, Window
from npuvm.hw.timing import (
    SequencerCosts,
    cube_blocks,
    cube_occupancy,
    rate_of,
    transfer_occupancy,
    vector_cost,
    vector_occupancy,
    vector_repeats,
)
from npuvm.isa.model import Isa, OperandSpec

__all__ = ["AFFINE", "COL", "ROW", "BlockPlan", "Prices"]

Ints: TypeAlias = NDArray[np.int64]

AFFINE = MAX_OPERANDS + 2
"""Affine columns of a site: the operand addresses, then row and column of the window origin."""

ROW, COL = MAX_OPERANDS, MAX_OPERANDS + 1

_SYNC, _VECTOR, _CUBE, _TRANSFER, _DMA = range(5)
_STREAMING = 1  # value of the `cache` operand


@dataclass(frozen=True)
class Prices:
    """Timing columns of a stream, see `npuvm.hw.stream.Stream`."""

    occupancy: Ints
    latency: Ints
    gm_addr: Ints
    gm_rows: Ints
    gm_row_bytes: Ints


class BlockPlan:
    """Tables by site (first dimension S, in program order) of one block.

    * `base` (S, 6), `stride` (8, S, 6): the affine columns; `reg`, `reg_stride` (S, 4): what registers add to addresses.
    * `size` (S, 3): index into the size table, -1 for none.
    * `counters`: the running counts of rings as (ring, role), the first `resolved` of which some operand uses. `ring_key`
      (S, 4): the count that an operand uses, `resolved` for no ring. `slots`, `slot_bytes` (resolved + 1): of these keys.
      `advances` (S, counters): 1 where the site advances a count.
    * `cost`, `skip_cost` (S): the sequencer's cycles when the site is dispatched, and when it is switched off.
    * `bodies`: what expansion derives from the plan, kept here so that cores share it.
    """

    def __init__(self, block: Block, isa: Isa, chip: NpuConfig) -> None:
        self.block = block
        self.costs = SequencerCosts.of(chip)
        self._isa = isa
        self._chip = chip
        self.bodies: dict[tuple[int, ...], Any] = {}
        leaves = list(_leaves(block.nodes, 0))
        self.sites = tuple(self._site(i, leaf) for i, (leaf, _) in enumerate(leaves))
        self.site_of = {leaf.pc: i for i, (leaf, _) in enumerate(leaves)}
        count = len(leaves)
        words = np.array([leaf.words for leaf, _ in leaves], dtype=np.int64)
        self.skip_cost: Ints = words * self.costs.word
        self.cost: Ints = self.skip_cost + self.costs.dispatch
        self.base: Ints = np.zeros((count, AFFINE), dtype=np.int64)
        self.stride: Ints = np.zeros((LOOPS, count, AFFINE), dtype=np.int64)
        self.reg: Ints = np.zeros((count, MAX_OPERANDS), dtype=np.int64)
        self.reg_stride: Ints = np.zeros((count, MAX_OPERANDS), dtype=np.int64)
        self.size: Ints = np.full((count, MAX_SIZES), -1, dtype=np.int64)
        self.predicates = tuple(leaf.insn.pred for leaf, _ in leaves)
        self._fill_addresses()
        self._fill_sizes(leaves)
        self._fill_rings()
        self._fill_timing()

    def size_def(self, index: int, where: str) -> SizeDef:
        """Entry `index` of the size table; SimulationError when the program never set it."""
        found = self.block.tables.sizes.get(index)
        if found is None:
            raise SimulationError(f"size s{index} is not defined", where)
        return found

    def check_loop(self, loop: int, open_loops: int, what: str, where: str) -> None:
        """SimulationError unless `loop` is open: its last iteration is not defined outside it."""
        if not open_loops >> loop & 1:
            raise SimulationError(f"{what} depends on loop {loop}, which is not open here", where)

    def check_size(self, index: int, open_loops: int, where: str) -> None:
        """SimulationError unless size `index` is defined and, if it has a tail, the tail's loop is open."""
        size = self.size_def(index, where)
        if size.kind == "tail":
            self.check_loop(size.loop_a, open_loops, f"size s{index}", where)

    # Sites.

    def _site(self, index: int, leaf: Leaf) -> Site:
        insn, instruction = leaf.insn, leaf.instruction
        if instruction.unit == "any":
            unit = insn.args["unit"]
            names = {code: name for name, code in self._isa.units.items()}
            operands: tuple[OperandSite, ...] = ()
        else:
            unit = self._isa.units[instruction.unit]
            names = {unit: instruction.unit}
            operands = tuple(self._operand(leaf, spec) for spec in instruction.regions)
        if len(operands) > MAX_OPERANDS or len(instruction.sizes) > MAX_SIZES:
            self._fail(leaf, f"has more than {MAX_OPERANDS} tiles or {MAX_SIZES} sizes")
        return Site(
            index=index,
            pc=leaf.pc,
            unit=unit,
            unit_name=names[unit],
            insn=insn,
            instruction=instruction,
            waits=insn.wait,
            sets=insn.set,
            order=insn.order,
            sync_only=instruction.unit == "any",
            operands=operands,
            sizes=tuple(spec.name for spec in instruction.sizes),
            dma=_dma(leaf, operands),
        )

    def _operand(self, leaf: Leaf, spec: OperandSpec) -> OperandSite:
        index = leaf.insn.args[spec.name]
        desc = self._desc(leaf, index)
        if desc.space not in spec.spaces:
            allowed = " or ".join(spec.spaces)
            self._fail(leaf, f"operand {spec.name}: descriptor d{index} is in {desc.space}; allowed: {allowed}")
        dtype = leaf.instruction.region_dtype(self._isa, spec, leaf.insn.dtype, leaf.insn.dtype2)
        names = [size.name for size in leaf.instruction.sizes]
        rows, cols = (-1 if dim == 1 else names.index(str(dim)) for dim in spec.shape)
        window = desc.window
        return OperandSite(
            name=spec.name,
            desc=index,
            space=desc.space,
            reads=spec.role != "write",
            writes=spec.role != "read",
            dtype=dtype.name,
            itemsize=dtype.itemsize,
            pitch=desc.pitch,
            shape=(rows, cols),
            window=Window(window.rows, window.cols) if window else None,
        )

    def _desc(self, leaf: Leaf, index: int) -> DescDef:
        desc = self.block.tables.descs.get(index)
        if desc is None:
            self._fail(leaf, f"descriptor d{index} is not defined")
        if desc.role and desc.ring not in self.block.tables.rings:
            self._fail(leaf, f"descriptor d{index} uses ring g{desc.ring}, which is not defined")
        return desc

    def _fail(self, leaf: Leaf, message: str) -> NoReturn:
        raise SimulationError(message, place(leaf))

    # Tables.

    def _fill_addresses(self) -> None:
        for s, site in enumerate(self.sites):
            for q, operand in enumerate(site.operands):
                desc = self.block.tables.descs[operand.desc]
                self.base[s, q] = desc.base
                self.reg[s, q], self.reg_stride[s, q] = desc.reg, desc.reg_stride
                for loop, stride in desc.strides:
                    self.stride[loop, s, q] += stride
                if desc.window is not None:
                    window = desc.window
                    self.base[s, ROW:] = window.row0, window.col0
                    self.stride[window.row_loop, s, ROW] += window.row_step
                    self.stride[window.col_loop, s, COL] += window.col_step

    def _fill_sizes(self, leaves: list[tuple[Leaf, int]]) -> None:
        for s, (leaf, open_loops) in enumerate(leaves):
            where = place(leaf)
            for k, spec in enumerate(leaf.instruction.sizes):
                self.size[s, k] = leaf.insn.args[spec.name]
                self.check_size(leaf.insn.args[spec.name], open_loops, where)
            if leaf.insn.pred is not None:
                for loop in range(LOOPS):
                    if leaf.insn.pred.mask >> loop & 1:
                        self.check_loop(loop, open_loops, f"predicate {leaf.insn.pred.kind}", where)

    def _fill_rings(self) -> None:
        tables = self.block.tables
        used = sorted(
            {
                (desc.ring, desc.role)
                for site in self.sites
                for operand in site.operands
                if (desc := tables.descs[operand.desc]).role
            }
        )
        self.resolved: int = len(used)
        # Every ring's counts go on, also those that no operand of this block resolves.
        self.counters = tuple(
            used + [(r, role) for r in tables.rings for role in (PRODUCER, CONSUMER) if (r, role) not in used]
        )
        keys = {counter: key for key, counter in enumerate(used)}
        self.ring_key: Ints = np.full((len(self.sites), MAX_OPERANDS), self.resolved, dtype=np.int64)
        self.slots: Ints = np.ones(self.resolved + 1, dtype=np.int64)
        self.slot_bytes: Ints = np.zeros(self.resolved + 1, dtype=np.int64)
        for key, (ring, _) in enumerate(used):
            self.slots[key], self.slot_bytes[key] = tables.rings[ring].slots, tables.rings[ring].slot_bytes
        self.advances: Ints = np.zeros((len(self.sites), len(self.counters)), dtype=np.int64)
        for key, (ring, role) in enumerate(self.counters):
            signal = tables.rings[ring].ready if role == PRODUCER else tables.rings[ring].free
            self.advances[:, key] = [signal in site.sets for site in self.sites]
        for s, site in enumerate(self.sites):
            for q, operand in enumerate(site.operands):
                desc = tables.descs[operand.desc]
                if desc.role:
                    self.ring_key[s, q] = keys[desc.ring, desc.role]

    # Timing.

    def _fill_timing(self) -> None:
        count = len(self.sites)
        self._kind: Ints = np.zeros(count, dtype=np.int64)
        self._startup: Ints = np.zeros(count, dtype=np.int64)
        self._latency: Ints = np.zeros(count, dtype=np.int64)
        self._item: Ints = np.ones(count, dtype=np.int64)
        # Per unit: repeat_num, row_num, den of a vector cost; cycles_per_block of the cube; rate, row_cycles of a transfer.
        self._rates: Ints = np.ones((count, 3), dtype=np.int64)
        self._full_shape: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._pitch: Ints = np.full((count, MAX_OPERANDS), -1, dtype=np.int64)
        self._items: Ints = np.ones((count, MAX_OPERANDS), dtype=np.int64)
        self._gm_operand: Ints = np.zeros(count, dtype=np.int64)
        self._extent: Ints = np.full((count, 2), np.iinfo(np.int64).max >> 1, dtype=np.int64)
        for s, site in enumerate(self.sites):
            for q, operand in enumerate(site.operands):
                self._pitch[s, q], self._items[s, q] = operand.pitch, operand.itemsize
            self._price_site(s, site)
        self._kinds = tuple(int(kind) for kind in np.unique(self._kind))

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
        startup = {
            "load": core.load.startup_cycles,
            "store": core.store.startup_cycles,
            "fixpipe": core.fixpipe.startup_cycles,
        }[site.unit_name]
        if site.unit_name == "fixpipe":
            self._path(site, "gm")
        self._set(s, _DMA, startup, 0, (1, 0, 1))
        self._item[s] = operand.itemsize
        self._gm_operand[s] = dma.operand
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
        """Timing columns for n instructions: sites (n), addresses (n, 4), sizes (n, 3), window origins (n, 2)."""
        occupancy = self._startup[site]
        n = len(site)
        zeros = np.zeros((3, n), dtype=np.int64)
        prices = Prices(occupancy, self._latency[site], zeros[0], zeros[1], zeros[2])
        kind = self._kind[site] if len(self._kinds) > 1 else None
        for code in self._kinds:
            if code == _SYNC:
                continue
            at = slice(None) if kind is None else np.flatnonzero(kind == code)
            self._price_kind(code, prices, at, site[at], addr[at], size[at], origin[at])
        return prices

    def _price_kind(self, code: int, prices: Prices, at: Any, site: Ints, addr: Ints, size: Ints, origin: Ints) -> None:
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
        self, prices: Prices, at: Any, site: Ints, addr: Ints, shape: tuple[Ints, Ints], origin: Ints, item: Ints
    ) -> None:
        """Cut the tile to its window; a part that is dense in global memory is one run of bytes."""
        operand = self._gm_operand[site]
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


def _dma(leaf: Leaf, operands: tuple[OperandSite, ...]) -> Dma | None:
    for q, operand in enumerate(operands):
        if operand.space == "gm":
            streaming = leaf.insn.args.get("cache", 0) == _STREAMING
            return Dma(operand.writes, operand.reads and operand.writes, q, operand.pitch, streaming)
    return None


def _leaves(nodes: tuple[Node, ...], open_loops: int) -> Iterator[tuple[Leaf, int]]:
    """All leaves in program order, with the set of loops open around each."""
    for node in nodes:
        if isinstance(node, Leaf):
            yield node, open_loops
        elif isinstance(node, Loop):
            yield from _leaves(node.body, open_loops | 1 << node.loop)
        elif isinstance(node, Grid):
            yield from _leaves(node.body, (1 << len(node.trips)) - 1)
