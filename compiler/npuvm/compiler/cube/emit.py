"""Code of a matrix product: load -> L1 -> L0A, L0B -> cube -> L0C -> fixpipe (-> UB -> store).

One grid walks batches and tiles of the result; inside it loops walk k at L1 and k at L0 (and, where pinned smaller than the L1
tile, m and n at L0). Every hop is a ring. The accumulators of a tile start with the first product, or with the bias. Where the
tiles of a and b at L1 have different k, the loop over the longer one holds a loop over the shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from typing import Any

from npuvm.compiler.cube.base import CubeWriter, Step
from npuvm.compiler.cube.extent import Extent, axis_strides, grid_extent, loop_extent, origin_bytes
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.handles import (
    Arg,
    Buffer,
    Desc,
    Loop,
    Size,
    changed,
    changes,
    first,
    last,
    not_first,
    not_last,
)
from npuvm.compiler.emit.symint import several
from npuvm.compiler.emit.walk import GridWalk, Walk
from npuvm.compiler.language.pins import pin_error
from npuvm.hw.config import CoreType
from npuvm.isa import Pred

__all__ = ["MatmulEmitter"]

_MOST_PIECES = 48
"""Of one operand's tile: two descriptors each, of 256 for the whole product."""


class MatmulEmitter(CubeWriter):
    """Writes one or more products with the same tiles, or smaller ones with the same k, into the builder `b`."""

    def __init__(
        self, spec: MatmulSpec, problem: TileProblem, tile: CubeTile, core_type: CoreType, n_args: int
    ) -> None:
        super().__init__(spec, problem, tile, core_type, n_args)
        self._ones = self._load_ones()

    def write(self, spec: MatmulSpec, problem: TileProblem, walk: Walk, edges: tuple[int, int] | None = None) -> None:
        """All grids of the walk of one product; `problem` has its layouts, `edges` are m and n of tiles that are smaller."""
        writer = copy(self)
        if edges is not None:
            writer.m1, writer.n1 = writer.m0, writer.n0 = edges
            writer.part_rows = writer.m1 // writer.parts
        writer._set_product(spec, problem)
        for grid in walk.grids:
            with self.b.grid([axis.trip for axis in grid.axes]) as loops:
                m = grid_extent(spec.m, writer.m1, grid, loops, "m")
                n = grid_extent(spec.n, writer.n1, grid, loops, "n")
                writer._tile(Step(grid, loops, m, n), self._ones)

    # One tile of the result.

    def _tile(self, step: Step, ones: Desc | None) -> None:
        l0c = self.rings["l0c"]
        if self.bias is not None:
            self._start_with_bias(step, self.bias, ones)
        else:
            self._sync("cube", "cube.acquire", wait=[l0c.free] if self.parts == 1 else [])
        if self.spec.k != 0 and self.k_of("a") == self.k_of("b"):
            with self._k_loop(self.k_of("a")) as loop:
                self._k_step(step, loop)
        elif self.spec.k != 0:
            self._long_steps(step)
        self._sync("cube", "cube.release", set=[l0c.ready] if self.parts == 1 else [])
        self._result(step)

    def _k_loop(self, k: int) -> Any:
        steps = -(-self.spec.k // k)
        return self.b.loop(steps) if several(steps) else nullcontext()

    def _k_step(self, step: Step, loop: Loop | None) -> None:
        """One L1 tile of k: load both operands, then multiply its L0 parts."""
        length = self.k_of("a")
        k = loop_extent(self.spec.k, length, loop)
        kept, steps = loop is None, {} if loop is None else {loop: length}
        for name in ("a", "b"):
            self._load(name, step, k, steps, self._changed(name, step) if kept else None)
        a, b = self.rings["l1.a"], self.rings["l1.b"]
        if kept:
            self._sync("move", "move.acquire", wait=[a.ready], pred=self._changed("a", step))
            self._sync("move", None, wait=[b.ready], pred=self._changed("b", step))
        else:
            self._sync("move", "move.acquire", wait=[a.ready, b.ready])
        self._products(step, k, list(steps), {})
        if kept:
            self._sync("move", None, set=[a.free], pred=self._changes("a", step))
            self._sync("move", "move.release", set=[b.free], pred=self._changes("b", step))
        else:
            self._sync("move", "move.release", set=[a.free, b.free])

    def _long_steps(self, step: Step) -> None:
        """Tiles of k where one operand's is longer: load the longer, and for each part of it the shorter."""
        long, short = ("a", "b") if self.k_of("a") > self.k_of("b") else ("b", "a")
        whole, part = self.k_of(long), self.k_of(short)
        with self._k_loop(whole) as outer:
            kept, steps = outer is None, {} if outer is None else {outer: whole}
            k = loop_extent(self.spec.k, whole, outer)
            self._load(long, step, k, steps, self._changed(long, step) if kept else None)
            ready, free = self.rings[f"l1.{long}"].ready, self.rings[f"l1.{long}"].free
            self._sync("move", "move.acquire", wait=[ready], pred=self._changed(long, step) if kept else None)
            with self._part_loop(k, part) as inner:
                within = {} if inner is None else {inner: part}
                k = Extent(part, part, None, part)
                self._load(short, step, k, steps | within, None)
                self._sync("move", None, wait=[self.rings[f"l1.{short}"].ready])
                self._products(step, k, [*steps, *within], {long: within})
                self._sync("move", None, set=[self.rings[f"l1.{short}"].free])
            released = self._changes(long, step) if kept else None
            self._sync("move", "move.release", set=[free], pred=released)

    def _moved(self, name: str, step: Step) -> list[Loop]:
        """Grid loops that change the tile of operand `name`."""
        side = self._side(name)
        dims = [f"b{i}" for i, stride in enumerate(side.batch) if stride != 0]
        return step.moved_by(["m" if name == "a" else "n", *dims])

    def _changed(self, name: str, step: Step) -> Pred | None:
        """When the tile of operand `name`, which has all of k, comes in; None for every time."""
        return changed(*self._moved(name, step))

    def _changes(self, name: str, step: Step) -> Pred | None:
        """When it is used for the last time."""
        return changes(*self._moved(name, step))

    def _walk_of(self, name: str, step: Step) -> GridWalk:
        """The walk that moves operand `name` in global memory."""
        return step.walk

    def _slot_of(self, name: str) -> Mapping[str, Any]:
        """How the descriptor of operand `name` follows a ring in global memory, where it lies in one."""
        return {}

    # Loads.

    def _load(self, name: str, step: Step, k: Extent, k_steps: Mapping[Loop, int], pred: Pred | None) -> None:
        """Global memory to L1, in one instruction or in pieces of the pinned transfer shape.

        `k_steps` gives how far each loop moves along k.
        """
        side, ring = self._side(name), self.rings[f"l1.{name}"]
        rows, cols = (step.m, k) if name == "a" else (k, step.n)
        view = self.spec.a if name == "a" else self.spec.b
        row_bytes, col_bytes = side.strides()
        outer, inner = ("m", "k") if name == "a" else ("k", "n")
        tile = {"m": self.m1, "n": self.n1, "k": 1}
        step_bytes = {outer: tile[outer] * row_bytes, inner: tile[inner] * col_bytes}
        walk = self._walk_of(name, step)
        step_bytes |= {f"b{i}": stride for i, stride in enumerate(side.batch)}
        strides = axis_strides(walk.axes, step.loops, step_bytes)
        strides |= {loop: elements * step_bytes["k"] for loop, elements in k_steps.items()}
        offset = view.offset * side.item + origin_bytes(walk, step_bytes)
        if side.flipped:
            rows, cols, outer, inner = cols, rows, inner, outer
        pieces = self._pieces(name, rows.full, cols.full)
        pitch = self._l1_pitch(name)
        for at, (row, col, height, width) in enumerate(pieces):
            self._emit_piece(
                f"load.{name}",
                at == 0,
                at == len(pieces) - 1,
                ring,
                dst=self.b.desc(ring, pitch, role="producer", offset=row * pitch + col * side.item),
                src=self.b.desc(
                    self.b.arg(view.arg),
                    side.pitch,
                    strides=strides,
                    offset=offset + row * side.pitch + col * side.item,
                    **self._slot_of(name),
                ),
                rows=rows.part(self.b, row, height),
                cols=cols.part(self.b, col, width),
                cache=self._cache(name, view),
                pred=pred,
            )

    def _pieces(self, name: str, rows: int, cols: int) -> list[tuple[int, int, int, int]]:
        """(row, col, rows, cols) of the parts of a tile that one load each moves, row after row."""
        shape = self.problem.pins.transfer.get(name)
        if shape is None:
            return [(0, 0, rows, cols)]
        height, width = shape
        granule = BLOCK_BYTES // self.item
        if width < cols and width % granule:
            allowed = f"columns of {cols} or more, or a multiple of {granule} (L1 rows are cut at {BLOCK_BYTES} bytes)"
            pin_error(f"transfer.{name}", shape, allowed, self.spec.name)
        if -(-rows // height) * -(-cols // width) > _MOST_PIECES:
            allowed = f"a shape that cuts a tile of {rows} x {cols} into at most {_MOST_PIECES} pieces"
            pin_error(f"transfer.{name}", shape, allowed, self.spec.name)
        return [
            (row, col, min(height, rows - row), min(width, cols - col))
            for row in range(0, rows, height)
            for col in range(0, cols, width)
        ]

    def _emit_piece(self, site: str, is_first: bool, is_last: bool, ring: Buffer, **rest: Any) -> None:
        wait = self.sync.waits(site, [ring.free]) if is_first else []
        sets = self.sync.sets(site, [ring.ready]) if is_last else []
        self.b.emit("ld", self.spec.a.dtype, wait=wait, set=sets, **rest)

    # Moves and products.

    def _products(self, step: Step, k: Extent, k_loops: list[Loop], within: Mapping[str, Mapping[Loop, int]]) -> None:
        """All products of one chunk of k; `within` gives the loops that walk this chunk in a longer tile of an operand."""
        if self.parts > 1:
            self._products_in_parts(step, k, k_loops, within)
            return
        with self._part_loop(k, self.k0) as k0_loop:
            k_size = k.inner(self.b, self.k0, k0_loop)
            k0 = {} if k0_loop is None else {k0_loop: self.k0}
            with self._part_loop(step.m, self.m0) as m0_loop:
                m_size = step.m.inner(self.b, self.m0, m0_loop)
                self._move_a(m_size, k_size, m0_loop, {**within.get("a", {}), **k0})
                split = several(step.n.trips(self.n0))
                if split:
                    self._sync("cube", None, wait=[self.rings["l0a"].ready])
                with self._part_loop(step.n, self.n0) as n0_loop:
                    n_size = step.n.inner(self.b, self.n0, n0_loop)
                    self._move_b(k_size, n_size, n0_loop, {**within.get("b", {}), **k0})
                    self._mma((m_size, n_size, k_size), m0_loop, n0_loop, [*k_loops, *k0])
                if split:
                    self._sync("cube", None, set=[self.rings["l0a"].free])

    def _products_in_parts(
        self, step: Step, k: Extent, k_loops: list[Loop], within: Mapping[str, Mapping[Loop, int]]
    ) -> None:
        """The first product of a tile takes the accumulators part by part, the last one gives them away part by part."""
        m, n = step.m.whole(self.b), step.n.whole(self.b)
        size = self.b.size(self.k0)
        self._move_a(m, size, None, within.get("a", {}))
        self._move_b(size, n, None, within.get("b", {}))
        self._mma_parts(step, size, "mma", first(*k_loops) if k_loops else None)
        if k_loops:
            self._mma_whole((m, n, size), not_first(*k_loops))
        with self.b.loop(k.trip_size(self.b, self.k0, self.k0)) as k0_loop:
            size = k.inner(self.b, self.k0, k0_loop, self.k0)
            self._move_a(m, size, None, {**within.get("a", {}), k0_loop: self.k0}, self.k0)
            self._move_b(size, n, None, {**within.get("b", {}), k0_loop: self.k0}, self.k0)
            loops = [*k_loops, k0_loop]
            self._mma_whole((m, n, size), not_last(*loops))
            self._mma_parts(step, size, "mmac", last(*loops))

    def _part_loop(self, extent: Extent, inner: int) -> Any:
        return self.b.loop(extent.trip_size(self.b, inner)) if several(extent.trips(inner)) else nullcontext()

    def _move_a(self, m: Size, k: Size, m0_loop: Loop | None, k_steps: Mapping[Loop, int], k_from: int = 0) -> None:
        l0a = self.rings["l0a"]
        source = self._l1_part("a", {} if m0_loop is None else {m0_loop: self.m0}, k_steps, k_from)
        target = self.b.desc(l0a, align_up(self.k0 * self.item), role="producer")
        op = "mvl0at" if self.problem.a.flipped else "mvl0a"
        self._emit(
            "move.a", op, self.spec.a.dtype, dst=target, src=source, rows=m, cols=k, wait=[l0a.free], set=[l0a.ready]
        )

    def _move_b(self, k: Size, n: Size, n0_loop: Loop | None, k_steps: Mapping[Loop, int], k_from: int = 0) -> None:
        l0b = self.rings["l0b"]
        source = self._l1_part("b", {} if n0_loop is None else {n0_loop: self.n0}, k_steps, k_from)
        target = self.b.desc(l0b, align_up(self.n0 * self.item), role="producer")
        op = "mvl0bt" if self.problem.b.flipped else "mvl0b"
        self._emit(
            "move.b", op, self.spec.a.dtype, dst=target, src=source, rows=k, cols=n, wait=[l0b.free], set=[l0b.ready]
        )

    def _l1_part(self, name: str, edge_steps: Mapping[Loop, int], k_steps: Mapping[Loop, int], k_from: int) -> Desc:
        """Descriptor of the part of an L1 tile that the L0 loops are at; loops move it by elements of m or n, and of k."""
        pitch = self._l1_pitch(name)
        row_bytes, col_bytes = (self.item, pitch) if self._side(name).flipped else (pitch, self.item)
        edge_bytes, k_bytes = (row_bytes, col_bytes) if name == "a" else (col_bytes, row_bytes)
        strides = {loop: elements * edge_bytes for loop, elements in edge_steps.items()}
        # Parts of k are whole blocks, but for a single one, which no loop moves.
        strides |= {loop: align_up(elements * k_bytes) for loop, elements in k_steps.items()}
        return self.b.desc(self.rings[f"l1.{name}"], pitch, strides=strides, offset=k_from * k_bytes, role="consumer")

    def _mma_whole(self, sizes: tuple[Size, Size, Size], pred: Pred) -> None:
        """A product onto all parts of the accumulators, which stand one behind the other."""
        l0a, l0b = self.rings["l0a"], self.rings["l0b"]
        self._emit(
            "mma",
            "mmac",
            self.spec.a.dtype,
            dst=self._l0c_part(0),
            **self._operands(0),
            m=sizes[0],
            n=sizes[1],
            k=sizes[2],
            wait=[l0a.ready, l0b.ready],
            set=[l0a.free, l0b.free],
            order=True,
            pred=pred,
        )

    def _mma_parts(self, step: Step, k: Size, op: str, pred: Pred | None) -> None:
        """A product part by part; the first one waits for each part to be free, the last one says that it is ready."""
        l0a, l0b, l0c = (self.rings[name] for name in ("l0a", "l0b", "l0c"))
        for at in range(self.parts):
            start = at * self.part_rows
            waits, sets = ([l0c.free], []) if op == "mma" else ([], [l0c.ready])
            self._emit(
                "mma",
                op,
                self.spec.a.dtype,
                dst=self._l0c_part(at),
                **self._operands(start),
                m=step.m.part(self.b, start, self.part_rows),
                n=step.n.whole(self.b),
                k=k,
                wait=([l0a.ready, l0b.ready] if at == 0 else []) + waits,
                set=([l0a.free, l0b.free] if at == self.parts - 1 else []) + sets,
                order=op == "mmac",
                pred=pred,
            )

    def _l0c_part(self, at: int) -> Desc:
        """A part of the accumulators by its address, for products onto all parts take no notice of slots."""
        l0c = self.rings["l0c"]
        return self.b.desc(l0c, self._l0c_pitch, offset=at * l0c.slot_bytes)

    def _operands(self, row: int) -> dict[str, Desc]:
        pitch_a, pitch_b = align_up(self.k0 * self.item), align_up(self.n0 * self.item)
        return {
            "a": self.b.desc(self.rings["l0a"], pitch_a, role="consumer", offset=row * pitch_a),
            "b": self.b.desc(self.rings["l0b"], pitch_b, role="consumer"),
        }

    def _mma(
        self, sizes: tuple[Size, Size, Size], m0_loop: Loop | None, n0_loop: Loop | None, k_loops: Sequence[Loop]
    ) -> None:
        """The first product of a tile sets the accumulators, the others add to them."""
        l0a, l0b, l0c = (self.rings[name] for name in ("l0a", "l0b", "l0c"))
        strides = {}
        if m0_loop is not None:
            strides[m0_loop] = self.m0 * self._l0c_pitch
        if n0_loop is not None:
            strides[n0_loop] = self.n0 * self.problem.acc_item
        used = [l0b] if n0_loop is not None else [l0a, l0b]
        common: Mapping[str, Any] = {
            "dst": self.b.desc(l0c, self._l0c_pitch, strides=strides, role="producer"),
            **self._operands(0),
            "m": sizes[0],
            "n": sizes[1],
            "k": sizes[2],
            "wait": [ring.ready for ring in used],
            "set": [ring.free for ring in used],
        }
        dtype = self.spec.a.dtype
        if self.bias is not None:
            self._emit("mma", "mmac", dtype, order=True, **common)
        elif not k_loops:
            self._emit("mma", "mma", dtype, **common)
        else:
            self._emit("mma", "mma", dtype, pred=first(*k_loops), **common)
            self._emit("mma", "mmac", dtype, order=True, pred=not_first(*k_loops), **common)

    # The result.

    def _result(self, step: Step) -> None:
        """Accumulators to global memory, on the way cast and rectified; through UB where that is the faster way."""
        l0c = self.rings["l0c"]
        out = self.spec.c.dtype
        act = "relu" if self.spec.relu else "none"
        cache, cols = self._cache("c", self.spec.c), step.n.whole(self.b)
        if not self.problem.via_ub:
            for at in range(self.parts):
                self._emit(
                    "fix",
                    "fix",
                    self.acc,
                    out,
                    dst=self._c_desc(step, at * self.part_rows),
                    src=self._l0c_part(at) if self.parts > 1 else self.b.desc(l0c, self._l0c_pitch, role="consumer"),
                    rows=step.m.part(self.b, at * self.part_rows, self.part_rows),
                    cols=cols,
                    act=act,
                    cache=cache,
                    wait=[l0c.ready],
                    set=[l0c.free],
                )
            return
        source = self.b.desc(l0c, self._l0c_pitch, role="consumer")
        sizes = {"rows": step.m.whole(self.b), "cols": cols}
        ub = self.rings["ub.c"]
        pitch = align_up(self.n1 * self.problem.out_item)
        filled = self.b.desc(ub, pitch, role="producer")
        waits, sets = [l0c.ready, ub.free], [l0c.free, ub.ready]
        self._emit("fix", "fix", self.acc, out, dst=filled, src=source, act=act, wait=waits, set=sets, **sizes)
        used = self.b.desc(ub, pitch, role="consumer")
        target = self._c_desc(step, 0)
        self._emit("store", "st", out, dst=target, src=used, cache=cache, wait=[ub.ready], set=[ub.free], **sizes)

    def _c_desc(self, step: Step, row: int) -> Desc:
        """The tile of the result from one of its rows on."""
        view, item = self.spec.c, self.problem.out_item
        pitch = view.row * item if several(self.spec.m) else align_up(self.spec.n * item)
        walk = self._walk_of("c", step)
        step_bytes = {"m": self.m1 * view.row * item, "n": self.n1 * item}
        step_bytes |= {f"b{i}": stride * item for i, stride in enumerate(view.batch)}
        offset = (view.offset + row * view.row) * item + origin_bytes(walk, step_bytes)
        strides = axis_strides(walk.axes, step.loops, step_bytes)
        argument: Arg = self.b.arg(view.arg)
        return self.b.desc(argument, pitch, strides=strides, offset=offset, **self._slot_of("c"))
