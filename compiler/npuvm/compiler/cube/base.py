"""What the code of a matrix product stands on: its buffers, its synchronisation, and how it starts with a bias.

The bias enters the accumulators as a product of a column of ones and the bias row, which the cube does in one block of depth,
exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npuvm.compiler.cube.extent import Extent, axis_strides
from npuvm.compiler.cube.levels import k_at_l1, ring_slots
from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView, Side
from npuvm.compiler.cube.sync import SyncSites
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Buffer, Desc, Loop, Sem, Window, changed, changes
from npuvm.compiler.emit.walk import GridWalk
from npuvm.hw.config import CoreType
from npuvm.isa import Pred

__all__ = ["CubeWriter", "Step"]

_INT_BIAS_MOVE = "fp32"
"""An int32 bias row goes into int32 accumulators by a move of four-byte words; mvl0c has no int32 of its own."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one (m, n) tile of a grid knows: its sizes, the loops that walk it, and the addresses they move."""

    walk: GridWalk
    loops: tuple[Loop, ...]
    m: Extent
    n: Extent

    def moved_by(self, dims: Sequence[str]) -> list[Loop]:
        """Loops with more than one iteration that walk one of the dims."""
        return [loop for loop, axis in zip(self.loops, self.walk.axes, strict=True) if axis.dim in dims and axis.moves]


class CubeWriter:
    """Buffers and semaphores in the builder `b`. `m1` ... `k0` are the tile sizes, `rings` the buffers by name."""

    def __init__(
        self, spec: MatmulSpec, problem: TileProblem, tile: CubeTile, core_type: CoreType, n_args: int
    ) -> None:
        chip = problem.chip
        spaces = [space for space in chip.spaces(core_type) if space != "gm"]
        self.b = InstrBuilder(problem.isa, {space: chip.capacity_bytes(space) for space in spaces}, spec.name, n_args)
        self.problem, self.tile = problem, tile
        self._begin()
        self.m1, self.n1, self.k1 = tile.l1
        self.m0, self.n0, self.k0 = tile.l0
        self.item = problem.item
        self.acc = problem.isa.dtypes[spec.a.dtype].acc or ""
        self.parts = problem.pins.l0c_parts or 1
        self.part_rows = self.m1 // self.parts
        self._set_product(spec, problem)
        self.bias_moves = self.bias is not None and self.bias.dtype not in chip.core.cube.cycles_per_block
        self.rings = self._make_rings()
        self.preset: Sem | None = None
        self.sync = self._make_sync()

    def _begin(self) -> None:
        """What the program does before anything else."""

    def _set_product(self, spec: MatmulSpec, problem: TileProblem) -> None:
        self.spec, self.problem = spec, problem
        self.bias = spec.bias if spec.bias is not None else self._zero_bias()

    def k_of(self, name: str) -> int:
        """k of an operand's tile at L1."""
        return k_at_l1(self.problem, name, self.k1)

    # Buffers and synchronisation.

    def _zero_bias(self) -> MatView | None:
        """Without any k the result is the bias; without a bias it is a row of zeros, read from outside a window."""
        return (
            MatView(self.spec.c.arg, self.spec.a.dtype, 0, 1, (0,) * len(self.spec.batch)) if self.spec.k == 0 else None
        )

    def _some_bias(self) -> MatView | None:
        """The bias, or one of those with the same dtype where several products share the buffers."""
        return self.bias

    def _ring_slots(self) -> Mapping[str, int]:
        """Bytes of one slot of every ring."""
        return ring_slots(self.problem, self.tile)

    def _make_rings(self) -> dict[str, Buffer]:
        slots = self._ring_slots()
        plan = [("l0c", "l0c", "cube", "fixpipe")]
        if self.spec.k != 0:
            plan += [("l1.a", "l1", "load", "move"), ("l1.b", "l1", "load", "move")]
        if self._some_bias() is not None:
            plan.append(("l1.bias", "l1", "load", "move"))
        if self.spec.k != 0 or not self.bias_moves:
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
        bias = self._some_bias()
        if bias is None or self.bias_moves:
            return None
        dtype = self.problem.isa.dtypes[bias.dtype]
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

    def _bias_preds(self, loops: Sequence[Loop]) -> tuple[Pred | None, Pred | None]:
        """When a bias row that these loops change comes in, and when it is used for the last time; None for every time."""
        return changed(*loops), changes(*loops)

    def _load_bias(self, step: Step, bias: MatView) -> tuple[Pred | None, Pred | None]:
        """Load the bias row where it changes; returns when it does, and when it is used for the last time."""
        ring = self.rings["l1.bias"]
        item = self.problem.isa.dtypes[bias.dtype].itemsize
        tile_bytes = {"n": self.n1 * item} | {f"b{i}": stride * item for i, stride in enumerate(bias.batch)}
        arrives, leaves = self._bias_preds(step.moved_by([dim for dim, stride in tile_bytes.items() if stride != 0]))
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
            pred=arrives,
        )
        return arrives, leaves

    def _start_with_bias(self, step: Step, bias: MatView, ones: Desc | None) -> None:
        """Bring the bias into the accumulators: as a product with ones, or by a move."""
        arrives, leaves = self._load_bias(step, bias)
        ring, l0c = self.rings["l1.bias"], self.rings["l0c"]
        m, n, one = step.m.whole(self.b), step.n.whole(self.b), self.b.size(1)
        row = self.b.desc(ring, 0 if ones is None else ring.slot_bytes, role="consumer")
        self._sync("move", None, wait=[ring.ready], pred=arrives)
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
        self._sync("move", None, set=[ring.free], pred=leaves)

    # Operands.

    @property
    def _l0c_pitch(self) -> int:
        return align_up(self.n1 * self.problem.acc_item)

    def _side(self, name: str) -> Side:
        return self.problem.a if name == "a" else self.problem.b

    def _cache(self, name: str, view: MatView) -> str:
        return self.problem.pins.cache.get(name, view.cache)

    def _l1_pitch(self, name: str) -> int:
        edge = self.m1 if name == "a" else self.n1
        cols_are_k = (name == "a") != self._side(name).flipped
        return align_up((self.k_of(name) if cols_are_k else edge) * self.item)
