"""Vectorised expansion of a sequence of leaves and loops for many contexts at once: count, then place.

The first pass counts, per context, the instructions that are dispatched and the sequencer's cycles. Prefix sums of both give
every instruction its position in program order and its dispatch time, and the second pass writes the columns there. The slot
of a ring is the number of earlier dispatches that advanced it, a prefix sum over the finished stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.contexts import LOOPS, Ints, child_contexts, evaluate_size, grid_contexts, predicate_holds
from npuvm.hw.errors import SimulationError
from npuvm.hw.plan import AFFINE, BlockPlan
from npuvm.hw.program import Grid, Leaf, Loop, Node, SizeDef, place
from npuvm.hw.stream import MAX_OPERANDS, MAX_SIZES, Stream

__all__ = ["END_WORDS", "Body", "Machine", "build_body", "expand_body", "tile_range"]

END_WORDS = 1
"""`endloop` and `endgrid` are one word."""


@dataclass
class Machine:
    """The sequencer's state that an expansion reads and moves on.

    `rings` holds the running counts in the order of the plan's `counters`; `clock` the cycles spent since the last dispatch.
    """

    registers: list[int]
    ranges: Sequence[tuple[int, int]]
    rings: Ints
    clock: int = 0


@dataclass(frozen=True, eq=False)
class Body:
    """Static tables of a sequence of nodes: its leaves as columns of the plan, and its loops as (item, node, body)."""

    items: int
    leaf_items: Ints
    site: Ints
    base: Ints
    stride: Ints
    moving: tuple[int, ...]
    reg: Ints
    reg_stride: Ints
    sizes: tuple[SizeDef, ...]
    size_column: Ints
    cost: Ints
    skip_cost: Ints
    predicates: tuple[tuple[str, int, Ints], ...]
    loops: tuple[tuple[int, Loop | Grid, Body], ...]


def build_body(plan: BlockPlan, nodes: Sequence[Node]) -> Body:
    """Tables of leaves and loops without scalar instructions."""
    leaves = [(item, node) for item, node in enumerate(nodes) if isinstance(node, Leaf)]
    site = np.array([plan.site_of[leaf.pc] for _, leaf in leaves], dtype=np.int64)
    stride = plan.stride[:, site]
    used = plan.size[site]
    ids = [int(i) for i in np.unique(used) if i >= 0]
    column = np.full(int(used.max(initial=-1)) + 2, len(ids), dtype=np.int64)  # the last entry serves id -1
    column[ids] = np.arange(len(ids))
    predicates: dict[tuple[str, int], list[int]] = {}
    for at, (_, leaf) in enumerate(leaves):
        if leaf.insn.pred is not None:
            predicates.setdefault((leaf.insn.pred.kind, leaf.insn.pred.mask), []).append(at)
    return Body(
        items=len(nodes),
        leaf_items=np.array([item for item, _ in leaves], dtype=np.int64),
        site=site,
        base=plan.base[site],
        stride=stride,
        moving=tuple(loop for loop in range(LOOPS) if stride[loop].any()),
        reg=plan.reg[site],
        reg_stride=plan.reg_stride[site],
        sizes=tuple(plan.size_def(i, "size table") for i in ids),
        size_column=column[used],
        cost=plan.cost[site],
        skip_cost=plan.skip_cost[site],
        predicates=tuple((kind, mask, np.array(at)) for (kind, mask), at in predicates.items()),
        loops=tuple(
            (item, node, build_body(plan, node.body))
            for item, node in enumerate(nodes)
            if isinstance(node, (Loop, Grid))
        ),
    )


@dataclass(frozen=True, eq=False)
class _Counted:
    """A body over n contexts after the first pass.

    `counts`, `costs` (n, items) are dispatched instructions and sequencer cycles of each item, `total`, `cost` (n) their sums;
    `active` (n, leaves) says which leaves are on, None for all. `inner` has the child and the trip counts of every loop.
    """

    body: Body
    contexts: Ints
    active: NDArray[np.bool_] | None
    counts: Ints
    costs: Ints
    total: Ints
    cost: Ints
    inner: tuple[tuple[_Counted, Ints], ...]


class _Columns:
    """What the second pass fills: site (n), dispatch time (n), affine columns (n, 6), sizes (n, 3)."""

    def __init__(self, n: int) -> None:
        self.site: Ints = np.empty(n, dtype=np.int64)
        self.time: Ints = np.empty(n, dtype=np.int64)
        self.affine: Ints = np.empty((n, AFFINE), dtype=np.int64)
        self.size: Ints = np.empty((n, MAX_SIZES), dtype=np.int64)


def expand_body(plan: BlockPlan, body: Body, contexts: Ints, end_cost: int, machine: Machine) -> Stream | None:
    """The instructions of a body in every context, one context after the other; None when none is dispatched.

    `end_cost` are the sequencer's cycles after each context. The machine's clock and ring counts move on.
    """
    counted = _Pass(plan, machine).count(body, contexts)
    ends = np.cumsum(counted.total)
    costs = counted.cost + end_cost
    times = machine.clock + np.cumsum(costs)
    n = int(ends[-1]) if len(ends) else 0
    finish = int(times[-1]) if len(times) else machine.clock
    if n == 0:
        machine.clock = finish
        return None
    columns = _Columns(n)
    _Pass(plan, machine).place(counted, ends - counted.total, times - costs, columns)
    machine.clock = finish - int(columns.time[-1])
    _resolve_rings(plan, columns, machine)
    addr, origin = columns.affine[:, :MAX_OPERANDS], columns.affine[:, MAX_OPERANDS:]
    prices = plan.price(columns.site, addr, columns.size, origin)
    return Stream(
        sites=plan.sites,
        site=columns.site,
        gap=np.diff(columns.time, prepend=0),
        addr=addr,
        size=columns.size,
        origin=origin,
        occupancy=prices.occupancy,
        latency=prices.latency,
        gm_addr=prices.gm_addr,
        gm_rows=prices.gm_rows,
        gm_row_bytes=prices.gm_row_bytes,
    )


class _Pass:
    """The two passes over a body and, recursively, the bodies of its loops."""

    def __init__(self, plan: BlockPlan, machine: Machine) -> None:
        self._plan = plan
        self._machine = machine
        self._loop_cost = plan.costs.branch
        self._end_cost = END_WORDS * plan.costs.word + plan.costs.branch

    def count(self, body: Body, contexts: Ints) -> _Counted:
        n = len(contexts)
        counts = np.zeros((n, body.items), dtype=np.int64)
        costs = np.zeros((n, body.items), dtype=np.int64)
        active: NDArray[np.bool_] | None = None
        if body.predicates:
            active = np.ones((n, len(body.site)), dtype=np.bool_)
            for kind, mask, leaves in body.predicates:
                active[:, leaves] = predicate_holds(kind, mask, contexts)[:, None]
            counts[:, body.leaf_items] = active
            costs[:, body.leaf_items] = np.where(active, body.cost, body.skip_cost)
        else:
            counts[:, body.leaf_items] = 1
            costs[:, body.leaf_items] = body.cost
        inner = []
        for item, node, child_body in body.loops:
            child_of, trips = self._children(node, contexts)
            child = self.count(child_body, child_of)
            ends = np.cumsum(trips)
            counts[:, item] = _segment_sums(child.total, ends, trips)
            costs[:, item] = self._entry(node) + _segment_sums(child.cost, ends, trips) + trips * self._end_cost
            inner.append((child, trips))
        return _Counted(body, contexts, active, counts, costs, counts.sum(axis=1), costs.sum(axis=1), tuple(inner))

    def place(self, counted: _Counted, position: Ints, time: Ints, columns: _Columns) -> None:
        """Write the columns; `position` and `time` (n) are where and when each context begins."""
        body = counted.body
        ends = np.cumsum(counted.counts, axis=1) + position[:, None]
        times = np.cumsum(counted.costs, axis=1) + time[:, None]
        if len(body.site):
            self._place_leaves(counted, ends[:, body.leaf_items] - 1, times[:, body.leaf_items], columns)
        for (item, node, _), (child, trips) in zip(body.loops, counted.inner, strict=True):
            starts = ends[:, item] - counted.counts[:, item]
            entered = times[:, item] - counted.costs[:, item] + self._entry(node)
            child_costs = child.cost + self._end_cost
            self.place(
                child,
                np.repeat(starts, trips) + _running(child.total, trips),
                np.repeat(entered, trips) + _running(child_costs, trips),
                columns,
            )

    def _place_leaves(self, counted: _Counted, position: Ints, time: Ints, columns: _Columns) -> None:
        body, contexts = counted.body, counted.contexts
        base = body.base
        if body.reg_stride.any():
            base = base.copy()
            base[:, :MAX_OPERANDS] += np.array(self._machine.registers)[body.reg] * body.reg_stride
        shape = (len(contexts), *base.shape)
        affine = np.broadcast_to(base, shape)
        for loop in body.moving:
            affine = affine + contexts[:, loop, None, None] * body.stride[loop]
        values = np.zeros((len(contexts), len(body.sizes) + 1), dtype=np.int64)
        for column, size in enumerate(body.sizes):
            values[:, column] = evaluate_size(size, contexts, self._machine.registers)
        sizes = values[:, body.size_column]
        sites = np.broadcast_to(body.site, position.shape)
        at = slice(None) if counted.active is None else counted.active
        where = position[at].reshape(-1)
        columns.site[where] = sites[at].reshape(-1)
        columns.time[where] = time[at].reshape(-1)
        columns.affine[where] = affine[at].reshape(-1, AFFINE)
        columns.size[where] = sizes[at].reshape(-1, MAX_SIZES)

    def _children(self, node: Loop | Grid, contexts: Ints) -> tuple[Ints, Ints]:
        """Contexts of a loop's body and how many of them each context has."""
        if isinstance(node, Loop):
            size = self._plan.size_def(node.trip, place(node))
            trips = evaluate_size(size, contexts, self._machine.registers)
            return child_contexts(contexts, node.loop, trips), trips
        bounds = tile_range(node, self._machine.ranges)
        trip_sizes = [self._plan.size_def(trip, place(node)) for trip in node.trips]
        tiles = grid_contexts(trip_sizes, bounds, bounds, self._machine.registers, place(node))
        return tiles, np.array([len(tiles)])

    def _entry(self, node: Loop | Grid) -> int:
        return node.words * self._plan.costs.word + self._loop_cost


def _segment_sums(values: Ints, ends: Ints, lengths: Ints) -> Ints:
    """Sums of consecutive segments that end (exclusive) at `ends`."""
    running = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(values)))
    sums: Ints = running[ends] - running[ends - lengths]
    return sums


def _running(values: Ints, lengths: Ints) -> Ints:
    """Sum of the values before each one within its segment."""
    before = np.cumsum(values) - values
    starts = np.cumsum(lengths) - lengths
    full = lengths > 0
    running: Ints = before - np.repeat(before[starts[full]], lengths[full])
    return running


def _resolve_rings(plan: BlockPlan, columns: _Columns, machine: Machine) -> None:
    """Add the ring slots to the addresses and move the running counts on."""
    advances = plan.advances[columns.site]
    if plan.resolved:
        used = advances[:, : plan.resolved]
        before = np.zeros((len(used), plan.resolved + 1), dtype=np.int64)  # the last column is for "no ring"
        before[:, :-1] = np.cumsum(used, axis=0) - used + machine.rings[: plan.resolved]
        key = plan.ring_key[columns.site]
        slot = np.take_along_axis(before, key, axis=1) % plan.slots[key]
        columns.affine[:, :MAX_OPERANDS] += slot * plan.slot_bytes[key]
    machine.rings += advances.sum(axis=0)


def tile_range(node: Grid, ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The core's (start, stop) for a grid; SimulationError when its entry has no such phase."""
    if node.phase >= len(ranges):
        raise SimulationError(f"phase {node.phase} has no tile range; the core's entry has {len(ranges)}", place(node))
    start, stop = ranges[node.phase]
    return start, stop
