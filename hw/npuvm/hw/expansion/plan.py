"""The static half of expansion: one block of a program on one chip, turned into tables that numpy indexes by site.

A site is an instruction of the block. For every site the plan holds the affine form of its operand addresses and window
origin over the eight loop counters, its sizes, predicate, ring use and cost. All of it is fixed while the block runs, so it
is made once and shared by all cores and launches of the same program text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.contexts import LOOPS, evaluate_size, root_context
from npuvm.hw.expansion.pricing import Pricer, Prices
from npuvm.hw.expansion.program import CONSUMER, PRODUCER, Block, DescDef, Grid, Leaf, Loop, Node, SizeDef, place
from npuvm.hw.expansion.stream import MAX_OPERANDS, MAX_SIZES, Dma, Indexed, OperandSite, Site, Window
from npuvm.hw.timing import SequencerCosts
from npuvm.isa.model import Isa, OperandSpec

__all__ = ["AFFINE", "COL", "ROW", "BlockPlan", "Constants", "RingUse"]

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

AFFINE = MAX_OPERANDS + 2
"""Affine columns of a site: the operand addresses, then row and column of the window origin."""

ROW, COL = MAX_OPERANDS, MAX_OPERANDS + 1

_KEPT_CONSTANTS = 64


@dataclass(frozen=True)
class Constants:
    """What holds for every instruction of a site as long as registers and arguments do not change: first dimension S.

    `base` (S, 6), `size` (S, 3): the affine columns and sizes with all counters 0; a tail size has its full value. `prices` are
    those of that size, and of an operand that lies within its window.
    """

    base: Ints
    size: Ints
    prices: Prices


@dataclass(frozen=True)
class RingUse:
    """A running count that operands of the block resolve.

    `advances` (S) is 1 where the site moves the count on; `users` are, for each operand column, the sites (S) that use it
    there.
    """

    slots: int
    slot_bytes: int
    advances: Ints
    users: tuple[tuple[int, Mask], ...]


class BlockPlan:
    """Tables by site (first dimension S, in program order) of one block.

    * `base` (S, 6), `stride` (8, S, 6): the affine columns; `reg`, `reg_stride` (S, 4): what registers add to addresses.
    * `arg` (S, 4): the argument of the image whose address is added, -1 for none.
    * `size` (S, 3): index into the size table, -1 for none.
    * `counters`: the running counts of rings as (ring, role); `rings` belongs to the first of them, those that some operand
      resolves. `advances` (S, counters): 1 where the site moves a count on.
    * `windowed` (S): whether an operand has a window, so that what moves depends on where the tile is.
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
        self.arg: Ints = np.full((count, MAX_OPERANDS), -1, dtype=np.int64)
        self.size: Ints = np.full((count, MAX_SIZES), -1, dtype=np.int64)
        self.predicates = tuple(leaf.insn.pred for leaf, _ in leaves)
        self._fill_addresses()
        self._fill_sizes(leaves)
        self._fill_rings()
        self.pricer = Pricer(self.sites, isa, chip)
        windowed = [any(operand.window is not None for operand in site.operands) for site in self.sites]
        self.windowed: Mask = np.array(windowed, dtype=np.bool_)
        self._constants: dict[tuple[tuple[int, ...], tuple[int, ...]], Constants] = {}

    def size_def(self, index: int, where: str) -> SizeDef:
        """Entry `index` of the size table; SimulationError when the program never set it."""
        found = self.block.tables.sizes.get(index)
        if found is None:
            raise SimulationError(f"size s{index} is not defined", where)
        return found

    def constants(self, registers: Sequence[int], addresses: tuple[int, ...]) -> Constants:
        """See `Constants`; `addresses` are those of the image's arguments. Kept by both."""
        key = (tuple(registers), addresses)
        found = self._constants.get(key)
        if found is None:
            base = self.base.copy()
            base[:, :MAX_OPERANDS] += np.array(registers, dtype=np.int64)[self.reg] * self.reg_stride
            base[:, :MAX_OPERANDS] += np.array((*addresses, 0), dtype=np.int64)[self.arg]
            size = np.zeros_like(self.size)
            for index, definition in self.block.tables.sizes.items():
                size[self.size == index] = evaluate_size(definition, root_context(), registers)
            every = np.arange(len(self.sites))
            prices = self.pricer.price(every, base[:, :MAX_OPERANDS], size, base[:, MAX_OPERANDS:])
            if len(self._constants) >= _KEPT_CONSTANTS:
                self._constants.clear()
            found = self._constants[key] = Constants(base, size, prices)
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
        fixed = [leaf.instruction.constant(leaf.insn, dim) for dim in spec.shape]
        rows, cols = (
            names.index(str(dim)) if each is None else -each for dim, each in zip(spec.shape, fixed, strict=True)
        )
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
            image=any(each is not None and dim != 1 for dim, each in zip(spec.shape, fixed, strict=True)),
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
                if desc.arg is not None:
                    self.arg[s, q] = desc.arg
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
        # Every ring's counts go on, also those that no operand of this block resolves.
        every = [(ring, role) for ring in tables.rings for role in (PRODUCER, CONSUMER)]
        self.counters = tuple(used + [counter for counter in every if counter not in used])
        self.advances: Ints = np.zeros((len(self.sites), len(self.counters)), dtype=np.int64)
        for key, (ring, role) in enumerate(self.counters):
            signal = tables.rings[ring].ready if role == PRODUCER else tables.rings[ring].free
            self.advances[:, key] = [signal in site.sets for site in self.sites]
        self.rings = tuple(
            RingUse(
                tables.rings[ring].slots,
                tables.rings[ring].slot_bytes,
                np.ascontiguousarray(self.advances[:, key]),
                tuple((q, users) for q in range(MAX_OPERANDS) if (users := self._users(ring, role, q)).any()),
            )
            for key, (ring, role) in enumerate(used)
        )

    def _users(self, ring: int, role: int, operand: int) -> Mask:
        """The sites whose operand of that index resolves a running count."""
        descs = self.block.tables.descs
        used = [site.operands[operand].desc if operand < len(site.operands) else None for site in self.sites]
        return np.array(
            [d is not None and (descs[d].ring, descs[d].role) == (ring, role) for d in used], dtype=np.bool_
        )


def _dma(leaf: Leaf, operands: tuple[OperandSite, ...]) -> Dma | None:
    for q, operand in enumerate(operands):
        if operand.space == "gm":
            indexed = _indexed(leaf, operands)
            if indexed is not None and operand.window is not None:
                raise SimulationError(
                    f"operand {operand.name}: a table that indices pick from has no window", place(leaf)
                )
            return Dma(operand.writes, operand.reads and operand.writes, q, operand.pitch, _streams(leaf), indexed)
    return None


def _indexed(leaf: Leaf, operands: tuple[OperandSite, ...]) -> Indexed | None:
    """How an instruction picks rows by index; None for one that does not."""
    if not leaf.instruction.picks_rows:
        return None
    index = next(q for q, operand in enumerate(operands) if operand.name == "index")
    return Indexed(index, leaf.insn.args["stride"], leaf.insn.args["count"])


def _streams(leaf: Leaf) -> bool:
    """Whether a DMA instruction asks to pass L2 by; one without a `cache` operand does not."""
    for spec in leaf.instruction.operands:
        if spec.name == "cache":
            return leaf.insn.args.get("cache", spec.default) == spec.values.get("stream")
    return False


def _leaves(nodes: tuple[Node, ...], open_loops: int) -> Iterator[tuple[Leaf, int]]:
    """All leaves in program order, with the set of loops open around each."""
    for node in nodes:
        if isinstance(node, Leaf):
            yield node, open_loops
        elif isinstance(node, Loop):
            yield from _leaves(node.body, open_loops | 1 << node.loop)
        elif isinstance(node, Grid):
            yield from _leaves(node.body, (1 << len(node.trips)) - 1)
