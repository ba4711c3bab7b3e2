"""The vector cores' part of the attention kernel: the softmax that runs along the keys, and the sum of partial results.

Each of the two vector cores of a group has half of a block's queries. It takes a tile of scores in two slices of rows, keeps
the maximum and the sum of every row, and hands the weights on; partial results are scaled to the newest maximum and added.
What there is one of for each row lies in the first element of a block of 32 bytes, and arithmetic on it takes whole blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.validation.attention_shape import AHEAD, ARGUMENTS, BLOCK, TILE, AttentionShape, Round, Signals, Spot

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Desc, Loop, Sem, Size, first, last, not_first
from npuvm.isa import Pred

__all__ = ["VectorPart"]

_ROWS = BLOCK // 2
"""Queries of one vector core."""

_SLICE = _ROWS // 2
"""Queries of one slice."""

_BLOCK_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Rows:
    """Operands of one slice: its rows' maximum, sum and last rescaling."""

    top: Desc
    total: Desc
    scale: Desc


class VectorPart:
    """Writes the program of vector core 0 or 1 of a group into `b`; `signals` are those that the cube core sets up."""

    def __init__(self, b: InstrBuilder, shape: AttentionShape, signals: Signals, core: int) -> None:
        self.b, self.shape, self.signals, self.core = b, shape, signals, core
        b.barrier("group")
        column = _ROWS * _BLOCK_BYTES
        self.inputs = b.ring("in", "ub", _SLICE * TILE * 4, 2, "load", "vector")
        self.weights = b.ring("weights", "ub", _SLICE * TILE * 2, 2, "vector", "store")
        self.result = b.ring("result", "ub", _ROWS * BLOCK * 4, 1, "vector", "store")
        self.tops, self.totals = b.temp("top", "ub", column), b.temp("total", "ub", column)
        self.scales = b.temp("scale", "ub", column * shape.slots)
        self.local = b.temp("local", "ub", column)
        self.group: Loop
        self.wave: Loop

    def write(self) -> None:
        """All blocks of a core."""
        self._clear()
        for each in self.shape.rounds:
            with self.b.grid([each.groups, each.waves]) as (self.group, self.wave):
                self._block()
                self._store(each)

    def _block(self) -> None:
        shape, b = self.shape, self.b
        for part in (0, 1):
            self._softmax(part, Spot(), fresh=True)
        if shape.ahead > 1:
            with b.loop(shape.ahead - 1) as i:
                for part in (0, 1):
                    self._softmax(part, Spot(1, {i: 1}), fresh=False)
        if shape.tiles > AHEAD:
            self._both(0, start=True)
            with b.loop(shape.tiles // (2 * AHEAD) - 1):
                self._both(1, start=False)
                self._both(0, start=False)
        with b.loop(shape.ahead) as i:
            begin = first(i) if shape.tiles <= AHEAD else None
            self._update(Spot(shape.slots - shape.ahead, {i: 1}), begin, not_first(i) if begin else None, last(i))

    def _both(self, turn: int, start: bool) -> None:
        """AHEAD tiles of weights and of partial results by turns."""
        with self.b.loop(AHEAD) as i:
            for part in (0, 1):
                self._softmax(part, Spot(AHEAD * (1 - turn), {i: 1}), fresh=False)
            self._update(Spot(AHEAD * turn, {i: 1}), first(i) if start else None, not_first(i) if start else None, None)

    def _clear(self) -> None:
        """Give the unused elements of blocks a value."""
        lanes = _BLOCK_BYTES // 4
        for buffer in (self.tops, self.totals, self.scales, self.local):
            rows = buffer.nbytes // _BLOCK_BYTES
            target = self.b.desc(buffer, _BLOCK_BYTES)
            self.b.emit("vdup", "fp32", dst=target, rows=self.b.size(rows), cols=self.b.size(lanes), imm=0)

    # Operands.

    def _exchange(self, name: str, slot: Spot, pitch: int, row: int, offset: int = 0) -> Desc:
        """Rows of this core in a slot of an exchange buffer."""
        nbytes = BLOCK * pitch * (2 if name == "scores" else 1)
        strides = {self.group: nbytes * self.shape.slots, **slot.strides(nbytes)}
        first_row = (self.core * _ROWS + row) * pitch
        argument = self.b.arg(ARGUMENTS.index(name))
        return self.b.desc(argument, pitch, strides=strides, offset=slot.at * nbytes + first_row + offset)

    def _rows(self, part: int, slot: Spot) -> _Rows:
        at = part * _SLICE * _BLOCK_BYTES
        column = _ROWS * _BLOCK_BYTES
        scale = self.b.desc(self.scales, _BLOCK_BYTES, strides=slot.strides(column), offset=slot.at * column + at)
        top, total = (self.b.desc(buffer, _BLOCK_BYTES, offset=at) for buffer in (self.tops, self.totals))
        return _Rows(top, total, scale)

    def _wide(self, op: str, *types: str, rows: Size, cols: Size, order: bool = True, **rest: Any) -> None:
        self.b.emit(op, *types, rows=rows, cols=cols, order=order, **rest)

    # Weights.

    def _softmax(self, part: int, slot: Spot, *, fresh: bool) -> None:
        """One slice of a tile of scores becomes weights; `fresh` for the first tile of a block."""
        self._load_scores(part, slot)
        rows, cols, lanes = self.b.size(_SLICE), self.b.size(TILE), self.b.size(_BLOCK_BYTES // 4)
        x = self.b.desc(self.inputs, TILE * 4, role="consumer")
        local = self.b.desc(self.local, _BLOCK_BYTES)
        mine = self._rows(part, slot)
        wide: dict[str, Any] = {"rows": rows, "cols": cols}
        narrow: dict[str, Any] = {"rows": rows, "cols": lanes}
        factor = _bits(BLOCK**-0.5)
        came, gone = [_sem(self.inputs.ready)], [_sem(self.inputs.free)]
        if fresh:
            self._wide("vmaxl", "fp32", dst=mine.top, a=x, wait=came, **wide)
            self._wide("vsubc", "fp32", dst=x, a=x, b=mine.top, **wide)
            self._wide("vmuls", "fp32", dst=x, a=x, imm=factor, **wide)
            self._wide("vexp", "fp32", dst=x, a=x, **wide)
            self._hand_on(x, rows, cols)
            self._wide("vsuml", "fp32", dst=mine.total, a=x, set=gone, order=False, **wide)
            self._store_weights(part, slot)
            return
        self._wide("vmaxl", "fp32", dst=local, a=x, wait=came, **wide)
        self._wide("vmax", "fp32", dst=local, a=local, b=mine.top, **narrow)
        self._wide("vsub", "fp32", dst=mine.scale, a=mine.top, b=local, **narrow)
        self._wide("vmov", "fp32", dst=mine.top, a=local, **narrow)
        self._wide("vsubc", "fp32", dst=x, a=x, b=local, order=False, **wide)
        self._wide("vmuls", "fp32", dst=mine.scale, a=mine.scale, imm=factor, order=False, **narrow)
        self._wide("vmuls", "fp32", dst=x, a=x, imm=factor, **wide)
        self._wide("vexp", "fp32", dst=mine.scale, a=mine.scale, order=False, **narrow)
        self._wide("vexp", "fp32", dst=x, a=x, **wide)
        self._hand_on(x, rows, cols)
        self._wide("vmul", "fp32", dst=mine.total, a=mine.scale, b=mine.total, order=False, **narrow)
        self._wide("vsuml", "fp32", dst=local, a=x, set=gone, order=False, **wide)
        self._wide("vadd", "fp32", dst=mine.total, a=mine.total, b=local, **narrow)
        self._store_weights(part, slot)

    def _load_scores(self, part: int, slot: Spot) -> None:
        """Two loads: scores of the two halves of a tile lie apart."""
        rows, cols = self.b.size(_SLICE), self.b.size(BLOCK)
        if part == 0:
            self._signal("load", "scores", wait=True)
        for side in (0, 1):
            self.b.emit(
                "ld",
                "fp32",
                dst=self.b.desc(self.inputs, TILE * 4, role="producer", offset=side * BLOCK * 4),
                src=self._exchange("scores", slot, BLOCK * 4, part * _SLICE, side * BLOCK * BLOCK * 4),
                rows=rows,
                cols=cols,
                wait=[_sem(self.inputs.free)] if side == 0 else [],
                set=[_sem(self.inputs.ready)] if side == 1 else [],
            )
        if part == 1:
            self._signal("load", "scores", wait=False)

    def _hand_on(self, x: Desc, rows: Size, cols: Size) -> None:
        """The weights in fp16, for the store engine."""
        target = self.b.desc(self.weights, TILE * 2, role="producer")
        ends: dict[str, Any] = {"wait": [_sem(self.weights.free)], "set": [_sem(self.weights.ready)]}
        self._wide("vcast", "fp32", "fp16", dst=target, a=x, rows=rows, cols=cols, **ends)

    def _store_weights(self, part: int, slot: Spot) -> None:
        if part == 0:
            self._signal("store", "weights", wait=True)
        self.b.emit(
            "st",
            "fp16",
            dst=self._exchange("weights", slot, TILE * 2, part * _SLICE),
            src=self.b.desc(self.weights, TILE * 2, role="consumer"),
            rows=self.b.size(_SLICE),
            cols=self.b.size(TILE),
            wait=[_sem(self.weights.ready)],
            set=[_sem(self.weights.free)],
        )
        if part == 1:
            self._signal("store", "weights", wait=False)

    def _signal(self, unit: str, name: str, *, wait: bool) -> None:
        """Wait for a slot of an exchange buffer, or hand it on; the two cores of a group have a semaphore each."""
        taken = self.signals.free if unit == "store" else self.signals.ready
        given = self.signals.ready if unit == "store" else self.signals.free
        if wait:
            self.b.sync(unit, wait=[taken[name][self.core]])
        else:
            self.b.sync(unit, set=[given[name][self.core]])

    # Results.

    def _update(self, slot: Spot, begin: Pred | None, further: Pred | None, end: Pred | None) -> None:
        """A partial result is added to the block's: the first one is taken as it is, after the last one rows are divided."""
        b, ring = self.b, self.inputs
        rows, cols = b.size(_ROWS), b.size(BLOCK)
        pitch = BLOCK * 4
        self._signal("load", "partial", wait=True)
        b.emit(
            "ld",
            "fp32",
            dst=b.desc(ring, pitch, role="producer"),
            src=self._exchange("partial", slot, pitch, 0),
            rows=rows,
            cols=cols,
            wait=[_sem(ring.free)],
            set=[_sem(ring.ready)],
        )
        self._signal("load", "partial", wait=False)
        new, out = b.desc(ring, pitch, role="consumer"), b.desc(self.result, pitch, role="producer")
        size: dict[str, Any] = {"rows": rows, "cols": cols}
        b.sync("vector", wait=[_sem(ring.ready)])
        if begin is not None:
            waits = [_sem(self.result.free)]
            self._wide("vmov", "fp32", dst=out, a=new, wait=waits, set=[_sem(ring.free)], pred=begin, **size)
        scale = self._rows(0, slot).scale
        self._wide("vmulc", "fp32", dst=out, a=out, b=scale, pred=further, **size)
        self._wide("vadd", "fp32", dst=out, a=out, b=new, set=[_sem(ring.free)], pred=further, **size)
        if end is not None:
            total = self._rows(0, slot).total
            self._wide("vdivc", "fp32", dst=out, a=out, b=total, set=[_sem(self.result.ready)], pred=end, **size)

    def _store(self, each: Round) -> None:
        b, pitch = self.b, BLOCK * 4
        block = BLOCK * pitch
        strides = {self.group: block, self.wave: block * each.groups}
        offset = each.first * block + self.core * _ROWS * pitch
        b.emit(
            "st",
            "fp32",
            dst=b.desc(b.arg(ARGUMENTS.index("out")), pitch, strides=strides, offset=offset),
            src=b.desc(self.result, pitch, role="consumer"),
            rows=b.size(_ROWS),
            cols=b.size(BLOCK),
            wait=[_sem(self.result.ready)],
            set=[_sem(self.result.free)],
        )


def _sem(semaphore: Sem | None) -> Sem:
    """The semaphore of a ring's end."""
    assert semaphore is not None
    return semaphore


def _bits(value: float) -> int:
    """The bits of an fp32 immediate."""
    return int(np.float32(value).view(np.uint32))
