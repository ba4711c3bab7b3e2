"""The instructions of one tile of a vector segment, with their synchronisation, predicates and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.cube.extent import Extent, axis_strides, grid_extent
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import (
    Buffer,
    Desc,
    Loop,
    Sem,
    Size,
    changed,
    changes,
    first,
    last,
    not_first,
    not_last,
)
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.compiler.reduce.cut import cut_extent, numbers_of
from npuvm.compiler.vector.buffers import tile_bytes
from npuvm.compiler.vector.lower import Reg, Shape, Use, VecInsn, VecProgram, When
from npuvm.compiler.vector.picks import directs, index_of, load_picked
from npuvm.compiler.vector.regs import Numbered
from npuvm.compiler.vector.space import Space, dim_name
from npuvm.compiler.vector.sync import VectorSync
from npuvm.compiler.vector.tile import VectorTile
from npuvm.compiler.vector.transfer import Issue, TileTransfer
from npuvm.isa import Pred

__all__ = ["BodyContext", "TileBody"]

_NEVER = Pred("never")
"""Stands for the predicate of an instruction that is not emitted: nothing has it, so all its syncs stand apart."""

_PREDICATES = {"first": first, "not_first": not_first, "last": last, "not_last": not_last}


@dataclass(frozen=True, slots=True)
class BodyContext:
    """What all grids of a segment share."""

    builder: InstrBuilder
    space: Space
    program: VecProgram
    tile: VectorTile
    buffers: Mapping[Reg, Buffer]
    sync: VectorSync
    tensors: tuple[str, ...]
    pins: Pins
    repeat_bytes: int


@dataclass(slots=True)
class _Span:
    """The first and the last instruction of a tile that touch a ring."""

    first: int
    last: int


class TileBody:
    """Emits one tile inside the loops of a grid."""

    def __init__(self, context: BodyContext, grid: GridWalk, loops: Sequence[Loop]) -> None:
        self._c = context
        self._b = context.builder
        self._grid = grid
        self._loops = loops
        space, tile = context.space, context.tile
        self._rows = self._extent(space.row, space.rows, tile.rows)
        self._cols = self._extent(space.col, space.cols, tile.cols)
        self._spans = _spans(context.program)
        self._written: dict[Reg, int] = {}
        self._fences: dict[Pred | None, int] = {None: -1}
        self._position = 0
        self._descs: dict[tuple[Reg, str, int, int], Desc] = {}
        self._extents: dict[tuple[Shape, str], tuple[Extent, Extent]] = {}

    def _extent(self, dim: int | None, size: int, edge: int) -> Extent:
        if dim is None:
            return Extent(1, 1, None, 1)
        cut = self._c.space.cut
        if cut is not None and cut.of == dim:
            return cut_extent(cut, size, edge, self._grid, self._loops)
        return grid_extent(size, edge, self._grid, self._loops, dim_name(dim))

    def emit(self) -> None:
        """Loads in the order of first use, vector instructions, stores."""
        sync = self._c.sync
        regs = self._c.program.regs
        transfer = TileTransfer(self._b, self._c.space, self._c.tile, self._grid, self._loops, self._rows, self._cols)
        loaded = [each for each in regs if each.kind == "in" and not directs(each, self._c.space)]
        for reg in sorted(loaded, key=self._first_use):
            self._load(reg, transfer)
        self._b.sync("vector", wait=sync.waits("vector.acquire"))
        for at, insn in enumerate(self._c.program.insns):
            self._vector(at, insn)
        self._b.sync("vector", set=sync.sets("vector.release"))
        for reg in regs:
            if reg.writes:
                self._store(reg, transfer)

    def _first_use(self, reg: Reg) -> int:
        return self._spans[reg].first if reg in self._spans else len(self._c.program.insns)

    # Transfers.

    def _transfer_of(self, name: str, transfer: TileTransfer) -> TileTransfer:
        """How tiles of a tensor are moved."""
        return transfer

    def _load(self, reg: Reg, transfer: TileTransfer) -> None:
        if reg.read is None:
            raise CompileError(f"register {reg} has nothing to load", self._b.name)
        ring, pins, sync = self._c.buffers[reg], self._c.pins, self._c.sync
        site = f"load.{reg.name}"
        read = self._c.space.reads[reg.read]
        argument = self._b.arg(self._c.tensors.index(read.access.tensor.name))
        policy = read.access.cache if read.policy is None else read.policy
        issue = Issue(
            wait=sync.waits(site, [_sem(ring.free)]),
            set=sync.sets(site, [_sem(ring.ready)]),
            pred=self._ring_preds(reg)[0],
            cache=pins.cache.get(reg.name, policy),
        )
        chunk = pins.transfer.get(reg.name)
        if read.picks is None:
            self._transfer_of(read.access.tensor.name, transfer).load(read, reg.shape, argument, ring, issue, chunk)
            return
        if chunk is not None:
            pin_error(
                f"transfer.{reg.name}", chunk, "nothing for rows by index: they are picked together", self._b.name
            )
        index = index_of(read, self._c.space, self._c.program)
        self._load(index, transfer)
        vector, (acquire, release) = self._c.buffers[index], self._ring_preds(index)
        own = (
            Issue(sync.waits("", [_sem(vector.ready)]), (), acquire, ""),
            Issue((), sync.sets("", [_sem(vector.free)]), release, ""),
        )
        load_picked(transfer, read, reg.shape, argument, (ring, vector), issue, own)

    def _store(self, reg: Reg, transfer: TileTransfer) -> None:
        ring, pins, sync = self._c.buffers[reg], self._c.pins, self._c.sync
        for at, place in enumerate(reg.writes):
            write = self._c.space.writes[place]
            name = write.access.tensor.name
            waits = [_sem(ring.ready)] if at == 0 else []
            sets = [_sem(ring.free)] if at == len(reg.writes) - 1 else []
            issue = Issue(
                wait=sync.waits(f"store.{name}", waits),
                set=sync.sets(f"store.{name}", sets),
                pred=self._ring_preds(reg)[0],
                cache=pins.cache.get(name, write.access.cache),
            )
            argument = self._b.arg(self._c.tensors.index(name))
            self._transfer_of(name, transfer).store(write, reg.shape, argument, ring, issue)

    # Predicates.

    def _loops_of(self, dims: Sequence[int]) -> list[Loop]:
        names = [dim_name(dim) for dim in dims]
        return [
            loop for loop, axis in zip(self._loops, self._grid.axes, strict=True) if axis.dim in names and axis.moves
        ]

    def _pred(self, when: When) -> tuple[bool, Pred | None]:
        """Whether such an instruction ever runs in this grid, and its predicate."""
        if when.kind == "always":
            return True, None
        loops = self._loops_of(when.dims)
        if when.kind == "changed":
            return True, changed(*loops)
        if not loops:
            return when.kind not in ("not_first", "not_last"), None
        return True, _PREDICATES[when.kind](*loops)

    def _ring_preds(self, reg: Reg) -> tuple[Pred | None, Pred | None]:
        """Predicates of taking a slot of a ring and of giving it back."""
        if reg.kind == "out":
            pred = self._pred(reg.when)[1]
            return pred, pred
        space = self._c.space
        present = () if reg.read is None else space.present[space.reads[reg.read].node.id]
        own = self._loops_of([dim for dim, flag in enumerate(present) if flag])
        moving = [loop for loop, axis in zip(self._loops, self._grid.axes, strict=True) if axis.moves]
        if len(own) == len(moving):
            return None, None
        return changed(*own), changes(*own)

    # Vector instructions.

    def _vector(self, at: int, insn: VecInsn) -> None:
        runs, pred = self._pred(insn.when)
        carrier = pred if runs else _NEVER
        waits, sets = self._ring_sync(at, insn, carrier)
        if runs and insn.op == "asm":
            self._asm(insn, waits, sets)
        elif runs:
            self._parts(insn, pred, waits, sets)
        self._release_apart(at, insn, carrier)

    def _ring_sync(self, at: int, insn: VecInsn, pred: Pred | None) -> tuple[list[Sem], list[Sem]]:
        """Semaphores that the instruction itself can carry; those under another predicate go to an empty instruction."""
        waits: list[Sem] = []
        sets: list[Sem] = []
        for reg in _rings(insn):
            span, ring = self._spans[reg], self._c.buffers[reg]
            acquire, release = self._ring_preds(reg)
            taken, given = (ring.ready, ring.free) if reg.kind == "in" else (ring.free, ring.ready)
            if span.first == at:
                wait = self._c.sync.waits("", [_sem(taken)])
                if acquire == pred:
                    waits += wait
                else:
                    self._empty(wait, [], acquire)
            if span.last == at and release == pred:
                sets += self._c.sync.sets("", [_sem(given)])
        return waits, sets

    def _release_apart(self, at: int, insn: VecInsn, pred: Pred | None) -> None:
        for reg in _rings(insn):
            ring = self._c.buffers[reg]
            release = self._ring_preds(reg)[1]
            if self._spans[reg].last == at and release != pred:
                self._empty([], self._c.sync.sets("", [_sem(ring.free if reg.kind == "in" else ring.ready)]), release)

    def _empty(self, waits: list[Sem], sets: list[Sem], pred: Pred | None) -> None:
        if waits or sets:
            self._b.sync("vector", wait=waits, set=sets, pred=pred)
            self._position += 1

    def _order(self, insn: VecInsn, pred: Pred | None) -> bool:
        """Whether the instruction must wait for earlier ones: it reads what one of them, not known complete, writes."""
        fence = max(self._fences[None], self._fences.get(pred, -1))
        order = any(
            self._written.get(use.reg, -1) >= fence and (use.reg in self._written or use.reg.kind == "keep")
            for _, use in insn.sources
        )
        if order:
            self._fences[pred] = self._position
        self._written[insn.dst.reg] = self._position
        return order

    def _parts(self, insn: VecInsn, pred: Pred | None, waits: list[Sem], sets: list[Sem]) -> None:
        """The instruction, cut into several when the pinned number of repeats says so."""
        order = self._order(insn, pred)
        lines, width = self._sizes(insn)
        if self._c.pins.repeat is None:
            whole = lines.whole(self._b), width.whole(self._b)
            self._part(insn, pred, (waits, sets), whole, (0, 0), order=order)
            return
        cuts = self._cuts(insn, self._c.pins.repeat, lines.full, width.full)
        for number, (row, rows, col, cols) in enumerate(cuts):
            sync = (waits if number == 0 else [], sets if number == len(cuts) - 1 else [])
            sizes = lines.part(self._b, row, rows), width.part(self._b, col, cols)
            self._part(insn, pred, sync, sizes, (row, col), order=order and number == 0)

    def _part(
        self,
        insn: VecInsn,
        pred: Pred | None,
        sync: tuple[list[Sem], list[Sem]],
        sizes: tuple[Size, Size],
        start: tuple[int, int],
        *,
        order: bool,
    ) -> None:
        operands = {name: self._desc(use, *start) for name, use in (("dst", insn.dst), *insn.sources)}
        extra: dict[str, int | Size] = dict([insn.imm] if insn.imm else [])
        if insn.numbered is not None:
            extra |= self._numbers(insn.numbered, start[1])
        self._b.emit(
            insn.op,
            insn.dtype,
            insn.dtype2,
            wait=sync[0],
            set=sync[1],
            pred=pred,
            order=order,
            rows=sizes[0],
            cols=sizes[1],
            **operands,
            **extra,
        )
        self._position += 1

    def _numbers(self, numbered: Numbered, offset: int) -> dict[str, int | Size]:
        """The number that comes first, `offset` places behind the start of the tile, and the step."""
        space, tile = self._c.space, self._c.tile
        start = self._b.size(1 + offset)
        if numbered.dim is not None:
            edges = {space.col: tile.cols} | ({} if space.row is None else {space.row: tile.rows})
            edge, name = edges.get(numbered.dim, 1), dim_name(numbered.dim)
            base = 1 + offset + self._grid.origin.get(name, 0) * edge
            largest, before, along = numbers_of(space.cut, numbered.dim, space.sizes)
            base += before
            steps = axis_strides(self._grid.axes, self._loops, {name: edge} | along)
            start = self._b.size_affine(largest, base, list(steps.items())) if steps else self._b.size(base)
        return {numbered.start: start, **dict([numbered.step])}

    def _sizes(self, insn: VecInsn) -> tuple[Extent, Extent]:
        """Extents of the instruction's rows and columns; a column is worked on as a row of as many elements."""
        key = (insn.shape, insn.over)
        if key not in self._extents:
            self._extents[key] = self._make_sizes(insn)
        return self._extents[key]

    def _make_sizes(self, insn: VecInsn) -> tuple[Extent, Extent]:
        one = Extent(1, 1, None, 1)
        space = self._c.space
        rows, cols = self._rows, self._cols
        if insn.over == "full" or (insn.over == "total" and space.row is not None and space.reduced[space.row]):
            rows = _constant(self._c.tile.rows if insn.over == "full" else rows.full)
        if insn.over == "full" or (insn.over == "total" and space.reduced[space.col]):
            cols = _constant(self._c.tile.cols if insn.over == "full" else cols.full)
        if insn.shape == (True, True):
            return rows, cols
        if insn.shape[1]:
            return one, cols
        return one, rows if insn.shape[0] else one

    def _cuts(self, insn: VecInsn, limit: int, lines: int, width: int) -> list[tuple[int, int, int, int]]:
        """(first row, rows, first column, columns) of each part of at most `limit` repeats."""
        regs = [insn.dst.reg, *(use.reg for _, use in insn.sources)]
        item = max(DTYPES[reg.dtype].item_bytes for reg in regs)
        per_line = -(-width * item // self._c.repeat_bytes)
        step_cols = width if per_line <= limit else limit * self._c.repeat_bytes // item
        step_rows = max(1, limit // per_line)
        columns = [use.reg for use in (insn.dst, *(use for _, use in insn.sources)) if use.how == "column"]
        for reg in columns:
            block = BLOCK_BYTES // DTYPES[reg.dtype].item_bytes
            step_rows = lines if step_rows >= lines else step_rows // block * block
        over_cols = insn.dst.how == "column" and step_cols < width
        over_rows = insn.dst.reg.shape == (False, True) and insn.shape == (True, True) and step_rows < lines
        if over_cols or over_rows or step_rows == 0:
            least = per_line if over_cols else per_line * lines
            pin_error("repeat", limit, f"{least} or more, or another tile: {insn.op} cannot be cut there", self._b.name)
        return [
            (row, min(step_rows, lines - row), col, min(step_cols, width - col))
            for row in range(0, lines, step_rows)
            for col in range(0, width, step_cols)
        ]

    def _desc(self, use: Use, row: int = 0, col: int = 0) -> Desc:
        """The tile of an operand, beginning at a row and column of the instruction's tile."""
        key = (use.reg, use.how, row, col)
        found = self._descs.get(key)
        if found is None:
            found = self._descs[key] = self._make_desc(use, row, col)
        return found

    def _make_desc(self, use: Use, row: int, col: int) -> Desc:
        reg, buffer = use.reg, self._c.buffers[use.reg]
        item = DTYPES[reg.dtype].item_bytes
        pitch = tile_bytes((False, True), item, 1, self._c.tile.cols)
        if use.how == "column":
            pitch, offset = item, row * item
        elif use.how == "last_row":
            offset = (self._c.tile.rows - 1) * pitch
        elif use.how == "spread":
            pitch, offset = 0, col * item
        elif reg.shape == (True, True):
            offset = row * pitch + col * item
        else:
            pitch, offset = tile_bytes(reg.shape, item, self._c.tile.rows, self._c.tile.cols), col * item
        role = {"in": "consumer", "out": "producer"}.get(reg.kind, "none")
        return self._b.desc(buffer, pitch, offset=offset, role=role)

    def _asm(self, insn: VecInsn, waits: list[Sem], sets: list[Sem]) -> None:
        """Raw text with the names of the tile's operands filled in; it starts when all instructions before it are complete."""
        lines, width = self._sizes(insn)
        names: dict[str, object] = {"out": self._desc(insn.dst)}
        names |= {"rows": lines.whole(self._b), "cols": width.whole(self._b)}
        operands = [self._desc(use) for _, use in insn.sources]
        try:
            text = (insn.text or "").format(*operands, **names)
        except (KeyError, IndexError, ValueError) as error:
            allowed = ", ".join(["{out}", "{rows}", "{cols}", *(f"{{{at}}}" for at in range(len(operands)))])
            raise CompileError(f"asm text {insn.text!r}: {error}; names: {allowed}", self._b.name) from None
        self._b.emit("usync", unit="vector", wait=waits, order=True)
        self._b.asm(text)
        self._fences[None] = self._position
        self._position += 1 + len(text.splitlines())
        self._written[insn.dst.reg] = self._position - 1
        self._empty([], sets, None)


def _constant(size: int) -> Extent:
    return Extent(size, size, None, size)


def _spans(program: VecProgram) -> dict[Reg, _Span]:
    spans: dict[Reg, _Span] = {}
    for at, insn in enumerate(program.insns):
        for reg in _rings(insn):
            spans.setdefault(reg, _Span(at, at)).last = at
    return spans


def _rings(insn: VecInsn) -> list[Reg]:
    """Registers of an instruction that are shared with another unit, each once."""
    regs = [insn.dst.reg, *(use.reg for _, use in insn.sources)]
    return list(dict.fromkeys(reg for reg in regs if reg.kind in ("in", "out")))


def _sem(sem: Sem | None) -> Sem:
    if sem is None:
        raise CompileError("a ring without semaphores")
    return sem
