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

from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.contexts import LOOPS, Ints, child_contexts, evaluate_size, grid_contexts, predicate_holds
from npuvm.hw.expansion.plan import AFFINE, BlockPlan, Constants
from npuvm.hw.expansion.pricing import Prices
from npuvm.hw.expansion.program import Grid, Leaf, Loop, Node, SizeDef, place
from npuvm.hw.expansion.stream import MAX_OPERANDS, Stream

__all__ = ["END_WORDS", "Body", "Machine", "build_body", "expand_body", "passed_words", "tile_range"]

END_WORDS = 1
"""`endloop` and `endgrid` are one word."""


@dataclass
class Machine:
    """The state of the sequencers of C cores that an expansion reads and moves on.

    `addresses` are those of the image's arguments, `ranges` the cores' tiles by phase. `rings` (C, counters) holds the running
    counts in the order of the plan's `counters`, `clock` (C) the cycles spent since a core's last dispatch.
    """

    registers: list[int]
    addresses: tuple[int, ...]
    ranges: Sequence[Sequence[tuple[int, int]]]
    rings: Ints
    clock: Ints


@dataclass(frozen=True)
class Moving:
    """A leaf whose operands or sizes depend on counters.

    `strides` are (affine column, ((loop, stride), ...)), `sizes` are (size column, definition).
    """

    leaf: int
    site: int
    strides: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    sizes: tuple[tuple[int, SizeDef], ...]


@dataclass(frozen=True, eq=False)
class Body:
    """Static tables of a sequence of nodes: its leaves as columns of the plan, and its loops as (item, node, body)."""

    items: int
    leaf_items: Ints
    site: Ints
    cost: Ints
    skip_cost: Ints
    moving: tuple[Moving, ...]
    predicates: tuple[tuple[str, int, Ints], ...]
    loops: tuple[tuple[int, Loop | Grid, Body], ...]


def passed_words(node: Node) -> int:
    """Words of a loop that are passed over when it has no iteration: its body and its end, or of a node inside one."""
    if isinstance(node, (Loop, Grid)):
        return sum(child.words + passed_words(child) for child in node.body) + END_WORDS
    return 0


def build_body(plan: BlockPlan, nodes: Sequence[Node]) -> Body:
    """Tables of leaves and loops without scalar instructions."""
    leaves = [(item, node) for item, node in enumerate(nodes) if isinstance(node, Leaf)]
    site = np.array([plan.site_of[leaf.pc] for _, leaf in leaves], dtype=np.int64)
    predicates: dict[tuple[str, int], list[int]] = {}
    for at, (_, leaf) in enumerate(leaves):
        if leaf.insn.pred is not None:
            predicates.setdefault((leaf.insn.pred.kind, leaf.insn.pred.mask), []).append(at)
    return Body(
        items=len(nodes),
        leaf_items=np.array([item for item, _ in leaves], dtype=np.int64),
        site=site,
        cost=plan.cost[site],
        skip_cost=plan.skip_cost[site],
        moving=tuple(m for at, s in enumerate(site.tolist()) if (m := _moving(plan, at, s)).strides or m.sizes),
        predicates=tuple((kind, mask, np.array(at)) for (kind, mask), at in predicates.items()),
        loops=tuple(
            (item, node, build_body(plan, node.body))
            for item, node in enumerate(nodes)
            if isinstance(node, (Loop, Grid))
        ),
    )


def _moving(plan: BlockPlan, leaf: int, site: int) -> Moving:
    strides = plan.stride[:, site].tolist()
    by_column = [
        (column, tuple((loop, strides[loop][column]) for loop in range(LOOPS) if strides[loop][column]))
        for column in range(AFFINE)
    ]
    sizes = [(k, plan.block.tables.sizes[index]) for k, index in enumerate(plan.size[site].tolist()) if index >= 0]
    return Moving(
        leaf,
        site,
        tuple((column, terms) for column, terms in by_column if terms),
        tuple((k, size) for k, size in sizes if size.varies),
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
    """What the second pass fills: site (n), dispatch time (n), and which rows differ from their site's constants."""

    def __init__(self, n: int) -> None:
        self.site: Ints = np.empty(n, dtype=np.int64)
        self.time: Ints = np.empty(n, dtype=np.int64)
        self.moving: list[tuple[Ints, Ints, Moving]] = []


def expand_body(
    plan: BlockPlan, body: Body, contexts: Ints, counts: Ints, end_cost: int, machine: Machine
) -> list[Stream | None]:
    """The instructions of a body in every context, one context after the other, for C cores.

    `contexts` holds counts[0] contexts of core 0, then counts[1] of core 1, and so on. `end_cost` are the sequencer's cycles
    after each context. The machine's clocks and ring counts move on. A core that dispatches nothing has None.
    """
    passes = _Pass(plan, machine)
    counted = passes.count(body, contexts)
    ends = np.cumsum(counts)
    costs = counted.cost + end_cost
    totals = _segment_sums(counted.total, ends, counts)
    spent = machine.clock + _segment_sums(costs, ends, counts)
    machine.clock = spent
    last = np.cumsum(totals)
    if not last[-1]:
        return [None] * len(counts)
    columns = _Columns(int(last[-1]))
    times = np.repeat(spent - _segment_sums(costs, ends, counts), counts) + _running(costs, counts)
    passes.place(counted, np.cumsum(counted.total) - counted.total, times, columns)
    some = totals > 0
    gap = np.diff(columns.time, prepend=0)
    first = (last - totals)[some]
    gap[first] = columns.time[first]
    machine.clock[some] -= columns.time[last[some] - 1]
    stream = _stream(plan, columns, gap, totals, machine)
    if len(counts) == 1:
        return [stream]
    return [_part(stream, start, stop) for start, stop in zip((last - totals).tolist(), last.tolist(), strict=True)]


def _part(stream: Stream, start: int, stop: int) -> Stream | None:
    """Rows `start` to `stop` of a stream."""
    if start == stop:
        return None
    at = slice(start, stop)
    return Stream(
        sites=stream.sites,
        site=stream.site[at],
        gap=stream.gap[at],
        addr=stream.addr[at],
        size=stream.size[at],
        origin=stream.origin[at],
        occupancy=stream.occupancy[at],
        latency=stream.latency[at],
        gm_addr=stream.gm_addr[at],
        gm_rows=stream.gm_rows[at],
        gm_row_bytes=stream.gm_row_bytes[at],
        bank=stream.bank[at],
    )


def _stream(plan: BlockPlan, columns: _Columns, gap: Ints, totals: Ints, machine: Machine) -> Stream:
    """Operands and costs: those of the sites, then what counters, rings and windows change."""
    site = columns.site
    constants = plan.constants(machine.registers, machine.addresses)
    affine, size = constants.base[site], constants.size[site]
    special = plan.windowed[site]
    for where, contexts, moving in columns.moving:
        for column, terms in moving.strides:
            affine[where, column] += sum(contexts[:, loop] * stride for loop, stride in terms)
        for k, definition in moving.sizes:
            values = evaluate_size(definition, contexts, machine.registers)
            size[where, k] = values
            special[where[values != constants.size[moving.site, k]]] = True
    _resolve_rings(plan, site, affine, totals, machine)
    addr, origin = affine[:, :MAX_OPERANDS], affine[:, MAX_OPERANDS:]
    prices = _prices(plan, constants, np.flatnonzero(special), site, addr, size, origin)
    bank = plan.pricer.bank_conflicts(site, addr, size)
    return Stream(
        sites=plan.sites,
        site=site,
        gap=gap,
        addr=addr,
        size=size,
        origin=origin,
        occupancy=prices.occupancy + bank,
        latency=prices.latency,
        gm_addr=prices.gm_addr,
        gm_rows=prices.gm_rows,
        gm_row_bytes=prices.gm_row_bytes,
        bank=bank,
    )


def _prices(
    plan: BlockPlan, constants: Constants, special: Ints, site: Ints, addr: Ints, size: Ints, origin: Ints
) -> Prices:
    """Prices of the sites' constants, and of their own sizes and windows for the `special` rows."""
    fixed = constants.prices
    prices = Prices(
        fixed.occupancy[site],
        fixed.latency[site],
        np.zeros(len(site), dtype=np.int64),
        fixed.gm_rows[site],
        fixed.gm_row_bytes[site],
    )
    operand = plan.pricer.gm_operand[site]
    dma = np.flatnonzero(operand >= 0)
    prices.gm_addr[dma] = addr[dma, operand[dma]]
    if len(special):
        at = special
        exact = plan.pricer.price(site[at], addr[at], size[at], origin[at])
        prices.occupancy[at] = exact.occupancy
        prices.gm_addr[at] = exact.gm_addr
        prices.gm_rows[at] = exact.gm_rows
        prices.gm_row_bytes[at] = exact.gm_row_bytes
    return prices


def _resolve_rings(plan: BlockPlan, site: Ints, affine: Ints, totals: Ints, machine: Machine) -> None:
    """Add the ring slots to the addresses and move the running counts on; `totals` are the rows of each core."""
    one = len(totals) == 1
    for key, ring in enumerate(plan.rings):
        advance = ring.advances[site]
        before = (np.cumsum(advance) - advance + machine.rings[0, key]) if one else _running(advance, totals)
        if not one:
            before += np.repeat(machine.rings[:, key], totals)
        for operand, users in ring.users:
            at = np.flatnonzero(users[site])
            affine[at, operand] += before[at] % ring.slots * ring.slot_bytes
    if not len(plan.counters):
        return
    if one:
        machine.rings[0] += np.bincount(site, minlength=len(plan.sites)) @ plan.advances
    else:
        ends = np.cumsum(totals)
        for key in range(len(plan.counters)):
            machine.rings[:, key] += _segment_sums(plan.advances[site, key], ends, totals)


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
            costs[trips == 0, item] += passed_words(node) * self._plan.costs.word
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
        body, contexts, active = counted.body, counted.contexts, counted.active
        sites = np.broadcast_to(body.site, position.shape)
        if active is None:
            columns.site[position] = sites
            columns.time[position] = time
        else:
            where = position[active]
            columns.site[where] = sites[active]
            columns.time[where] = time[active]
        for moving in body.moving:
            rows, of_rows = position[:, moving.leaf], contexts
            if active is not None and not (on := active[:, moving.leaf]).all():
                rows, of_rows = rows[on], contexts[on]
            columns.moving.append((rows, of_rows, moving))

    def _children(self, node: Loop | Grid, contexts: Ints) -> tuple[Ints, Ints]:
        """Contexts of a loop's body and how many of them each context has."""
        if isinstance(node, Loop):
            size = self._plan.size_def(node.trip, place(node))
            trips = evaluate_size(size, contexts, self._machine.registers)
            return child_contexts(contexts, node.loop, trips), trips
        bounds = [tile_range(node, ranges) for ranges in self._machine.ranges]
        trip_sizes = [self._plan.size_def(trip, place(node)) for trip in node.trips]
        return grid_contexts(trip_sizes, bounds, self._machine.registers, place(node))

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


def tile_range(node: Grid, ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The core's (start, stop) for a grid; SimulationError when its entry has no such phase."""
    if node.phase >= len(ranges):
        raise SimulationError(f"phase {node.phase} has no tile range; the core's entry has {len(ranges)}", place(node))
    start, stop = ranges[node.phase]
    return start, stop
