"""The cube core's part of the attention kernel: scores = Q K^T, and partial results = weights V.

Scores run ahead of partial results by a few tiles; in between, both take turns in halves of a tile. Each tile leaves L0C for an
exchange buffer in global memory, from which the vector cores take it. As the fixpipe of the measured kernel follows the cube in
small grains, products that it waits for are made, and taken away, in parts of rows.
"""

from __future__ import annotations

from benchmarks.validation.attention_shape import AHEAD, ARGUMENTS, BLOCK, TILE, AttentionShape, Round, Signals, Spot

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Buffer, Desc, Loop, Sem

__all__ = ["CubePart"]

_ROW = BLOCK * 2
"""Bytes of a row of fp16 in L1 and L0, and of Q, K and V."""

_PARTS = 4
"""Parts of the accumulators."""

_HALF = BLOCK * BLOCK * 2
"""Bytes of 128 x 128 in fp16."""


class CubePart:
    """Writes the cube core's program into `b`."""

    def __init__(self, b: InstrBuilder, shape: AttentionShape) -> None:
        self.b, self.shape = b, shape
        self.signals = Signals.declare(b, shape.slots)
        b.barrier("group")
        self.q = self._ring("q", "l1", 1)
        self.k = self._ring("k", "l1", 2)
        self.v = self._ring("v", "l1", 2)
        self.p = self._ring("p", "l1", 2)
        self.l0a = self._ring("l0a", "l0a", 2, "move", "cube")
        self.l0b = self._ring("l0b", "l0b", 2, "move", "cube")
        self.scores = self._ring("scores", "l0c", _PARTS, "cube", "fixpipe")
        self.partial = self._ring("partial", "l0c", _PARTS, "cube", "fixpipe")
        self.side, self.part = b.size(BLOCK), b.size(BLOCK // _PARTS)
        self.group: Loop
        self.wave: Loop

    def _ring(self, name: str, space: str, slots: int, producer: str = "load", consumer: str = "move") -> Buffer:
        nbytes = _HALF * 2 // _PARTS if space == "l0c" else _HALF
        return self.b.ring(name, space, nbytes, slots, producer, consumer)

    def write(self) -> None:
        """All blocks of a group."""
        for each in self.shape.rounds:
            with self.b.grid([each.groups, each.waves]) as (self.group, self.wave):
                self._block(each)

    def _block(self, each: Round) -> None:
        shape, b = self.shape, self.b
        self._load_queries(each)
        for half in (0, 1):
            self._scores(half, Spot(), Spot())
        if shape.ahead > 1:
            with b.loop(shape.ahead - 1) as i:
                for half in (0, 1):
                    self._scores(half, Spot(1, {i: 1}), Spot(1, {i: 1}))
        if shape.tiles > AHEAD:
            self._both(0, Spot(AHEAD), Spot(0))
            with b.loop(shape.tiles // (2 * AHEAD) - 1) as outer:
                step = {outer: 2 * AHEAD}
                self._both(1, Spot(2 * AHEAD, step), Spot(AHEAD, step))
                self._both(0, Spot(3 * AHEAD, step), Spot(2 * AHEAD, step))
        b.sync("move", set=[_sem(self.q.free)])
        with b.loop(shape.ahead) as i:
            for half in (0, 1):
                self._partial(half, Spot(shape.tiles - shape.ahead, {i: 1}), Spot(shape.slots - shape.ahead, {i: 1}))

    def _both(self, turn: int, ahead: Spot, behind: Spot) -> None:
        """AHEAD tiles of scores and of partial results by turns; `turn` says which half of the slots is whose."""
        with self.b.loop(AHEAD) as i:
            for half in (0, 1):
                self._scores(half, Spot(ahead.at, {**ahead.steps, i: 1}), Spot(AHEAD * (1 - turn), {i: 1}))
                self._partial(half, Spot(behind.at, {**behind.steps, i: 1}), Spot(AHEAD * turn, {i: 1}))

    def _load_queries(self, each: Round) -> None:
        b, ring = self.b, self.q
        block = BLOCK * _ROW
        strides = {self.group: block, self.wave: block * each.groups}
        source = b.desc(b.arg(0), _ROW, strides=strides, offset=block * each.first)
        self._load(ring, source)
        b.sync("move", wait=[_sem(ring.ready)])

    def _load(self, ring: Buffer, source: Desc, also: tuple[Sem, ...] = ()) -> None:
        self.b.emit(
            "ld",
            "fp16",
            dst=self.b.desc(ring, _ROW, role="producer"),
            src=source,
            rows=self.side,
            cols=self.side,
            wait=[_sem(ring.free)],
            set=[_sem(ring.ready), *also],
        )

    def _load_keys(self, ring: Buffer, argument: str, half: int, tile: Spot) -> None:
        """Half a tile of K or V."""
        nbytes = TILE * _ROW
        offset = tile.at * nbytes + half * BLOCK * _ROW
        arg = self.b.arg(ARGUMENTS.index(argument))
        self._load(ring, self.b.desc(arg, _ROW, strides=tile.strides(nbytes), offset=offset))
        self.b.sync("move", wait=[_sem(ring.ready)])

    def _exchange(self, name: str, slot: Spot, pitch: int, offset: int = 0) -> Desc:
        """A descriptor of a slot of an exchange buffer."""
        nbytes = BLOCK * pitch * (2 if name == "scores" else 1)
        strides = {self.group: nbytes * self.shape.slots, **slot.strides(nbytes)}
        argument = self.b.arg(ARGUMENTS.index(name))
        return self.b.desc(argument, pitch, strides=strides, offset=slot.at * nbytes + offset)

    def _move(self, op: str, source: Buffer, target: Buffer, also: tuple[Sem, ...] = ()) -> None:
        self.b.emit(
            op,
            "fp16",
            dst=self.b.desc(target, _ROW, role="producer"),
            src=self.b.desc(source, _ROW, role="consumer"),
            rows=self.side,
            cols=self.side,
            wait=[_sem(target.free)],
            set=[_sem(target.ready), *also],
        )

    def _multiply(self, op: str, target: Buffer, first: bool, last: bool) -> None:
        """A product of 128 x 128 x 128; the first and the last one onto accumulators go part by part."""
        rows, count = (self.part, _PARTS) if first or last else (self.side, 1)
        for at in range(count):
            a_row = at * BLOCK // _PARTS * _ROW
            self.b.emit(
                op,
                "fp16",
                dst=self._accumulators(target, at),
                a=self.b.desc(self.l0a, _ROW, role="consumer", offset=a_row),
                b=self.b.desc(self.l0b, _ROW, role="consumer"),
                m=rows,
                n=self.side,
                k=self.side,
                wait=[
                    *([_sem(self.l0a.ready), _sem(self.l0b.ready)] if at == 0 else []),
                    *([_sem(target.free)] if first else []),
                ],
                set=[
                    *([_sem(self.l0a.free), _sem(self.l0b.free)] if at == count - 1 else []),
                    *([_sem(target.ready)] if last else []),
                ],
                order=op == "mmac",
            )

    def _accumulators(self, buffer: Buffer, part: int) -> Desc:
        return self.b.desc(buffer, BLOCK * 4, offset=part * buffer.slot_bytes)

    def _out(self, name: str, source: Buffer, slot: Spot, offset: int, wait: bool, done: bool) -> None:
        """L0C to an exchange buffer; waits for a free slot and says that it is filled."""
        pitch = BLOCK * 4
        if wait:
            self.b.sync("fixpipe", wait=self.signals.free[name])
        for at in range(_PARTS):
            self.b.emit(
                "fix",
                "fp32",
                "fp32",
                dst=self._exchange(name, slot, pitch, offset + at * BLOCK // _PARTS * pitch),
                src=self._accumulators(source, at),
                rows=self.part,
                cols=self.side,
                wait=[_sem(source.ready)],
                set=[_sem(source.free)],
            )
        if done:
            self.b.sync("fixpipe", set=self.signals.ready[name])

    def _scores(self, half: int, tile: Spot, slot: Spot) -> None:
        self._load_keys(self.k, "k", half, tile)
        self._move("mvl0a", self.q, self.l0a)
        self._move("mvl0bt", self.k, self.l0b, (_sem(self.k.free),))
        self._multiply("mma", self.scores, first=True, last=True)
        self._out("scores", self.scores, slot, half * BLOCK * BLOCK * 4, wait=half == 0, done=half == 1)

    def _partial(self, half: int, tile: Spot, slot: Spot) -> None:
        name, first = "weights", half == 0
        self._load_keys(self.v, "v", half, tile)
        if first:
            self.b.sync("load", wait=self.signals.ready[name])
        self._load(self.p, self._exchange(name, slot, TILE * 2, half * BLOCK * 2))
        if not first:
            self.b.sync("load", set=self.signals.free[name])
        self.b.sync("move", wait=[_sem(self.p.ready)])
        self._move("mvl0a", self.p, self.l0a, (_sem(self.p.free),))
        self._move("mvl0b", self.v, self.l0b, (_sem(self.v.free),))
        self._multiply("mma" if first else "mmac", self.partial, first=first, last=not first)
        if not first:
            self._out("partial", self.partial, slot, 0, wait=True, done=True)


def _sem(semaphore: Sem | None) -> Sem:
    """The semaphore of a ring's end."""
    assert semaphore is not None
    return semaphore
