"""Code of a matrix product: load -> L1 -> L0A, L0B -> cube -> L0C -> fixpipe (-> UB -> store).

One grid walks batches and tiles of the result; inside it loops walk k at L1 and k at L0 (and, where pinned smaller than the L1
tile, m and n at L0). Every hop is a ring. The accumulators of a tile start with the first product, or with the bias: the bias
enters as a product of a column of ones and the bias row, which the cube does in one block of depth, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from npuvm.hw.config import CoreType
from npuvm.isa import Pred

from .blocks import BLOCK_BYTES, align_up
from .cube_cost import TileProblem
from .cube_extent import Extent, axis_strides, grid_extent, loop_extent
from .cube_plan import CubeTile, slot_bytes
from .cube_spec import MatmulSpec, MatView, Side
from .cube_sync import SyncSites
from .emit import InstrBuilder
from .emit_handles import Arg, Buffer, Desc, Loop, Sem, Size, Window, changed, changes, first, not_first
from .schedule import pin_error
from .schedule_walk import GridWalk, Walk

__all__ = ["MatmulEmitter"]

_MOST_PIECES = 48
"""Of one operand's tile: two descriptors each, of 256 for the whole product."""

_INT_BIAS_MOVE = "fp32"
"""An int32 bias row goes into int32 accumulators by a move of four-byte words; mvl0c has no int32 of its own."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What one (m, n) tile of a grid knows: its sizes, the loops that walk it, and the addresses they move."""

    walk: GridWalk
    loops: tuple[Loop, ...]
    m: Extent
    n: Extent

    def moved_by(self, dims: Sequence[str]) -> list[Loop]:
        """Loops with more than one iteration that walk one of the dims."""
        return [
            loop for loop, axis in zip(self.loops, self.walk.axes, strict=True) if axis.dim in dims and axis.trip > 1
        ]


class MatmulEmitter:
    """Writes one product into the builder `b`. `m1` ... `k0` are the tile sizes, `rings` the buffers by name."""

    def __init__(
        self, spec: MatmulSpec, problem: TileProblem, tile: CubeTile, walk: Walk, core_type: CoreType, n_args: int
    ) -> None:
        chip = problem.chip
        spaces = [space for space in chip.spaces(core_type) if space != "gm"]
        self.b = InstrBuilder(problem.isa, {space: chip.capacity_bytes(space) for space in spaces}, spec.name, n_args)
        self.spec, self.problem, self.tile, self.walk = spec, problem, tile, walk
        self.m1, self.n1, self.k1 = tile.l1
        self.m0, self.n0, self.k0 = tile.l0
        self.item = problem.item
        self.acc = problem.isa.dtypes[spec.a.dtype].acc or ""
        self.steps1 = -(-spec.k // self.k1)
        self.bias = spec.bias if spec.bias is not None else self._zero_bias()
        self.bias_moves = self.bias is not None and self.bias.dtype not in chip.core.cube.cycles_per_block
        self.rings = self._make_rings()
        self.preset: Sem | None = None
        self.sync = self._make_sync()

    def write(self) -> None:
        """All grids of the walk."""
        ones = self._load_ones()
        for walk in self.walk.grids:
            with self.b.grid([axis.trip for axis in walk.axes]) as loops:
                m = grid_extent(self.spec.m, self.m1, walk, loops, "m")
                n = grid_extent(self.spec.n, self.n1, walk, loops, "n")
                self._tile(_Step(walk, loops, m, n), ones)

    # Buffers and synchronisation.

    def _zero_bias(self) -> MatView | None:
        """Without any k the result is the bias; without a bias it is a row of zeros, read from outside a window."""
        return (
            MatView(self.spec.c.arg, self.spec.a.dtype, 0, 1, (0,) * len(self.spec.batch)) if self.spec.k == 0 else None
        )

    def _make_rings(self) -> dict[str, Buffer]:
        table = np.array([[*self.tile.l1, *self.tile.l0]], dtype=np.int64)
        slots = {name: int(size[0]) for name, size in slot_bytes(self.problem, table).items()}
        plan = [("l0c", "l0c", "cube", "fixpipe")]
        if self.spec.k:
            plan += [("l1.a", "l1", "load", "move"), ("l1.b", "l1", "load", "move")]
        if self.bias is not None:
            plan.append(("l1.bias", "l1", "load", "move"))
        if self.spec.k or not self.bias_moves:
            plan += [("l0a", "l0a", "move", "cube"), ("l0b", "l0b", "move", "cube")]
        if self.problem.via_ub:
            plan.append(("ub.c", "ub", "fixpipe", "store"))
        depth = {name: self.problem.depth(name) for name, *_ in plan} | {"l0c": self.tile.l0c_depth}
        address = self.problem.pins.address
        return {
            name: self.b.ring(name, space, slots[name], depth[name], producer, consumer, address=address.get(name))
            for name, space, producer, consumer in plan
        }

    def _make_sync(self) -> SyncSites:
        events = self.problem.pins.events
        declared = (
            {name: self.b.semaphore(name, initial) for name, initial in events.semaphores.items()} if events else {}
        )
        sync = SyncSites(events, self.rings, declared)
        if self.bias_moves:
            self.preset = self.b.semaphore("l0c.preset")
            sync.add_automatic(self.preset)
        return sync

    def _emit(
        self,
        site: str,
        op: str,
        *types: str,
        wait: Sequence[Sem | None] = (),
        set: Sequence[Sem | None] = (),
        **rest: Any,
    ) -> None:
        self.b.emit(op, *types, wait=self.sync.waits(site, wait), set=self.sync.sets(site, set), **rest)

    def _sync(
        self,
        unit: str,
        site: str | None,
        wait: Sequence[Sem | None] = (),
        set: Sequence[Sem | None] = (),
        pred: Pred | None = None,
    ) -> None:
        self.b.sync(unit, wait=self.sync.waits(site or "", wait), set=self.sync.sets(site or "", set), pred=pred)

    # The bias.

    def _load_ones(self) -> Desc | None:
        """A row of ones in L1, made of pad values: nothing of its window exists. The moves wait for it once."""
        if self.bias is None or self.bias_moves:
            return None
        dtype = self.problem.isa.dtypes[self.bias.dtype]
        one = int(np.ones(1, dtype=np.float32).view(np.uint32)[0]) if dtype.kind == "float" else 1
        buffer = self.b.temp(
            "ones", "l1", align_up(self.m1 * dtype.itemsize), address=self.problem.pins.address.get("ones")
        )
        ready = self.b.semaphore("ones.ready")
        nowhere = self.b.desc(self.b.arg(self.spec.c.arg), 0, window=Window(0, 0))
        ones = self.b.desc(buffer, align_up(self.m1 * dtype.itemsize))
        rows, cols = self.b.size(1), self.b.size(self.m1)
        self.b.emit("ld", dtype.name, dst=ones, src=nowhere, rows=rows, cols=cols, pad=one, set=[ready])
        self.b.sync("move", wait=[ready])
        return ones

    def _load_bias(self, step: _Step, bias: MatView) -> list[Loop]:
        """Load the bias row where it changes; returns the loops that change it."""
        ring = self.rings["l1.bias"]
        item = self.problem.isa.dtypes[bias.dtype].itemsize
        tile_bytes = {"n": self.n1 * item} | {f"b{i}": stride * item for i, stride in enumerate(bias.batch)}
        loops = step.moved_by([dim for dim, stride in tile_bytes.items() if stride])
        strides = axis_strides(step.walk.axes, step.loops, tile_bytes)
        window = None
        if self.spec.bias is None:
            strides, window = {}, Window(0, 0)
        offset = bias.offset * item + step.walk.origin.get("n", 0) * tile_bytes["n"]
        source = self.b.desc(
            self.b.arg(bias.arg), 0, strides=strides, offset=offset if window is None else 0, window=window
        )
        self._emit(
            "load.bias",
            "ld",
            bias.dtype if bias.dtype != "int32" else _INT_BIAS_MOVE,
            dst=self.b.desc(ring, ring.slot_bytes, role="producer"),
            src=source,
            rows=self.b.size(1),
            cols=step.n.whole(self.b),
            cache=self._cache("bias", bias),
            wait=[ring.free],
            set=[ring.ready],
            pred=changed(*loops),
        )
        return loops

    def _start_with_bias(self, step: _Step, bias: MatView, ones: Desc | None) -> None:
        """Bring the bias into the accumulators: as a product with ones, or by a move."""
        loops = self._load_bias(step, bias)
        ring, l0c = self.rings["l1.bias"], self.rings["l0c"]
        m, n, one = step.m.whole(self.b), step.n.whole(self.b), self.b.size(1)
        row = self.b.desc(ring, 0 if ones is None else ring.slot_bytes, role="consumer")
        self._sync("move", None, wait=[ring.ready], pred=changed(*loops))
        acc = self.b.desc(l0c, self._l0c_pitch, role="producer")
        if ones is None:
            dtype = bias.dtype if bias.dtype != "int32" else _INT_BIAS_MOVE
            self._sync("move", None, wait=[l0c.free])
            self._emit("move.bias", "mvl0c", dtype, dst=acc, src=row, rows=m, cols=n, set=[self.preset])
            self._sync("cube", "cube.acquire", wait=[self.preset])
        else:
            l0a, l0b = self.rings["l0a"], self.rings["l0b"]
            item = self.problem.isa.dtypes[bias.dtype].itemsize
            self._sync("cube", "cube.acquire", wait=[l0c.free])
            pitch_a, pitch_b = align_up(item), align_up(self.n1 * item)
            column = self.b.desc(l0a, pitch_a, role="producer")
            self._emit(
                "move.a", "mvl0at", bias.dtype, dst=column, src=ones, rows=m, cols=one, wait=[l0a.free], set=[l0a.ready]
            )
            target = self.b.desc(l0b, pitch_b, role="producer")
            self._emit(
                "move.bias",
                "mvl0b",
                bias.dtype,
                dst=target,
                src=row,
                rows=one,
                cols=n,
                wait=[l0b.free],
                set=[l0b.ready],
            )
            left, right = (self.b.desc(r, p, role="consumer") for r, p in ((l0a, pitch_a), (l0b, pitch_b)))
            self._emit(
                "mma", "mma", bias.dtype, dst=acc, a=left, b=right, m=m, n=n, k=one,
                wait=[l0a.ready, l0b.ready], set=[l0a.free, l0b.free],
            )  # fmt: skip
        self._sync("move", None, set=[ring.free], pred=changes(*loops))

    # One tile of the result.

    @property
    def _l0c_pitch(self) -> int:
        return align_up(self.n1 * self.problem.acc_item)

    def _tile(self, step: _Step, ones: Desc | None) -> None:
        l0c = self.rings["l0c"]
        if self.bias is not None:
            self._start_with_bias(step, self.bias, ones)
        else:
            self._sync("cube", "cube.acquire", wait=[l0c.free])
        if self.spec.k:
            with self.b.loop(self.steps1) if self.steps1 > 1 else nullcontext() as loop:
                self._k_step(step, loop)
        self._sync("cube", "cube.release", set=[l0c.ready])
        self._result(step)

    def _k_step(self, step: _Step, loop: Loop | None) -> None:
        """One L1 tile of k: load both operands, then multiply its L0 parts."""
        k = loop_extent(self.spec.k, self.k1, loop)
        kept = loop is None
        for name, rows, cols in (("a", step.m, k), ("b", k, step.n)):
            self._load(name, step, rows, cols, loop, self._changed(name, step) if kept else None)
        a, b = self.rings["l1.a"], self.rings["l1.b"]
        if kept:
            self._sync("move", "move.acquire", wait=[a.ready], pred=self._changed("a", step))
            self._sync("move", None, wait=[b.ready], pred=self._changed("b", step))
        else:
            self._sync("move", "move.acquire", wait=[a.ready, b.ready])
        self._products(step, k, loop)
        if kept:
            self._sync("move", None, set=[a.free], pred=changes(*self._moved(name="a", step=step)))
            self._sync("move", "move.release", set=[b.free], pred=changes(*self._moved(name="b", step=step)))
        else:
            self._sync("move", "move.release", set=[a.free, b.free])

    def _moved(self, name: str, step: _Step) -> list[Loop]:
        """Grid loops that change the tile of operand `name`."""
        side = self._side(name)
        dims = [f"b{i}" for i, stride in enumerate(side.batch) if stride]
        return step.moved_by(["m" if name == "a" else "n", *dims])

    def _changed(self, name: str, step: _Step) -> Pred:
        return changed(*self._moved(name, step))

    def _side(self, name: str) -> Side:
        return self.problem.a if name == "a" else self.problem.b

    # Loads.

    def _load(self, name: str, step: _Step, rows: Extent, cols: Extent, loop: Loop | None, pred: Pred | None) -> None:
        """Global memory to L1, in one instruction or in pieces of the pinned transfer shape."""
        side, ring = self._side(name), self.rings[f"l1.{name}"]
        view = self.spec.a if name == "a" else self.spec.b
        row_bytes, col_bytes = side.strides()
        outer, inner = ("m", "k") if name == "a" else ("k", "n")
        tile = {"m": self.m1, "n": self.n1, "k": self.k1}
        step_bytes = {outer: tile[outer] * row_bytes, inner: tile[inner] * col_bytes}
        strides = axis_strides(step.walk.axes, step.loops, step_bytes | {f"b{i}": s for i, s in enumerate(side.batch)})
        if loop is not None:
            strides[loop] = step_bytes["k"]
        offset = view.offset * side.item
        offset += sum(step.walk.origin.get(dim, 0) * step_bytes[dim] for dim in (outer, inner))
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

    def _cache(self, name: str, view: MatView) -> str:
        return self.problem.pins.cache.get(name, view.cache)

    def _l1_pitch(self, name: str) -> int:
        k, edge = self.k1, self.m1 if name == "a" else self.n1
        cols_are_k = (name == "a") != self._side(name).flipped
        return align_up((k if cols_are_k else edge) * self.item)

    # Moves and products.

    def _products(self, step: _Step, k: Extent, k1_loop: Loop | None) -> None:
        with self._part_loop(k, self.k0) as k0_loop:
            k_size = k.inner(self.b, self.k0, k0_loop)
            k_loops = [loop for loop in (k1_loop, k0_loop) if loop is not None]
            with self._part_loop(step.m, self.m0) as m0_loop:
                m_size = step.m.inner(self.b, self.m0, m0_loop)
                self._move_a(m_size, k_size, m0_loop, k0_loop)
                split = step.n.trips(self.n0) > 1
                if split:
                    self._sync("cube", None, wait=[self.rings["l0a"].ready])
                with self._part_loop(step.n, self.n0) as n0_loop:
                    n_size = step.n.inner(self.b, self.n0, n0_loop)
                    self._move_b(k_size, n_size, n0_loop, k0_loop)
                    self._mma((m_size, n_size, k_size), m0_loop, n0_loop, k_loops)
                if split:
                    self._sync("cube", None, set=[self.rings["l0a"].free])

    def _part_loop(self, extent: Extent, inner: int) -> Any:
        return self.b.loop(extent.trip_size(self.b, inner)) if extent.trips(inner) > 1 else nullcontext()

    def _move_a(self, m: Size, k: Size, m0_loop: Loop | None, k0_loop: Loop | None) -> None:
        l0a = self.rings["l0a"]
        source = self._l1_part("a", (m0_loop, self.m0), (k0_loop, self.k0))
        target = self.b.desc(l0a, align_up(self.k0 * self.item), role="producer")
        op = "mvl0at" if self.problem.a.flipped else "mvl0a"
        self._emit(
            "move.a", op, self.spec.a.dtype, dst=target, src=source, rows=m, cols=k, wait=[l0a.free], set=[l0a.ready]
        )

    def _move_b(self, k: Size, n: Size, n0_loop: Loop | None, k0_loop: Loop | None) -> None:
        l0b = self.rings["l0b"]
        source = self._l1_part("b", (k0_loop, self.k0), (n0_loop, self.n0))
        target = self.b.desc(l0b, align_up(self.n0 * self.item), role="producer")
        op = "mvl0bt" if self.problem.b.flipped else "mvl0b"
        self._emit(
            "move.b", op, self.spec.a.dtype, dst=target, src=source, rows=k, cols=n, wait=[l0b.free], set=[l0b.ready]
        )

    def _l1_part(self, name: str, rows: tuple[Loop | None, int], cols: tuple[Loop | None, int]) -> Desc:
        """Descriptor of the part of an L1 tile that the L0 loops are at; rows and cols are those of the matrix."""
        pitch = self._l1_pitch(name)
        row_bytes, col_bytes = (self.item, pitch) if self._side(name).flipped else (pitch, self.item)
        strides = {
            loop: part * nbytes for (loop, part), nbytes in ((rows, row_bytes), (cols, col_bytes)) if loop is not None
        }
        return self.b.desc(self.rings[f"l1.{name}"], pitch, strides=strides, role="consumer")

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
            "a": self.b.desc(l0a, align_up(self.k0 * self.item), role="consumer"),
            "b": self.b.desc(l0b, align_up(self.n0 * self.item), role="consumer"),
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

    def _result(self, step: _Step) -> None:
        """Accumulators to global memory, on the way cast and rectified; through UB where that is the faster way."""
        l0c = self.rings["l0c"]
        out = self.spec.c.dtype
        source = self.b.desc(l0c, self._l0c_pitch, role="consumer")
        sizes = {"rows": step.m.whole(self.b), "cols": step.n.whole(self.b)}
        act = "relu" if self.spec.relu else "none"
        cache = self._cache("c", self.spec.c)
        target = self._c_desc(step)
        if not self.problem.via_ub:
            self._emit(
                "fix",
                "fix",
                self.acc,
                out,
                dst=target,
                src=source,
                act=act,
                cache=cache,
                wait=[l0c.ready],
                set=[l0c.free],
                **sizes,
            )
            return
        ub = self.rings["ub.c"]
        pitch = align_up(self.n1 * self.problem.out_item)
        filled = self.b.desc(ub, pitch, role="producer")
        waits, sets = [l0c.ready, ub.free], [l0c.free, ub.ready]
        self._emit("fix", "fix", self.acc, out, dst=filled, src=source, act=act, wait=waits, set=sets, **sizes)
        used = self.b.desc(ub, pitch, role="consumer")
        self._emit("store", "st", out, dst=target, src=used, cache=cache, wait=[ub.ready], set=[ub.free], **sizes)

    def _c_desc(self, step: _Step) -> Desc:
        view, item = self.spec.c, self.problem.out_item
        pitch = view.row * item if self.spec.m > 1 else align_up(self.spec.n * item)
        step_bytes = {"m": self.m1 * view.row * item, "n": self.n1 * item}
        offset = view.offset * item + sum(step.walk.origin.get(dim, 0) * step_bytes[dim] for dim in ("m", "n"))
        batch = {f"b{i}": stride * item for i, stride in enumerate(view.batch)}
        strides = axis_strides(step.walk.axes, step.loops, step_bytes | batch)
        argument: Arg = self.b.arg(view.arg)
        return self.b.desc(argument, pitch, strides=strides, offset=offset)
