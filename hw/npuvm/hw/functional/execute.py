"""What instructions do to data. An instruction reads its operands when it starts and writes its result when it completes.

What other instructions do in between changes nothing: a missing wait gives the wrong answer that it would give on a chip. An
operand that the instruction's function reads and writes (accumulators, atomic adds in global memory) is read when the
instruction completes, so that such instructions may follow each other without waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import TrapError
from npuvm.hw.expansion.stream import OperandSite, Site, Stream
from npuvm.hw.functional.state import CoreState, GlobalMemory, Windows
from npuvm.isa.functions import TileFunction, tile_function
from npuvm.isa.model import DType, Isa
from npuvm.isa.numerics import COMPUTE_DTYPES, convert, immediate, to_compute
from npuvm.isa.semantics import Semantics, parse_semantics

__all__ = ["Executor", "GlobalMemory", "Pending"]

Array: TypeAlias = NDArray[Any]
Fault: TypeAlias = tuple[str, str]
"""A trap's name, and what it is about."""


@dataclass(slots=True)
class Pending:
    """A result that is written at completion: `value`, or what `late` makes of the target's content at that time.

    `index` are the indices that the instruction has read, if it picks rows by them. With `rows` only these rows of the target
    are its content and are written; each of them is there once.
    """

    target: Array
    value: Array | None
    late: Callable[[Array], Array] | None = None
    index: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None


class Executor:
    """Executes the instructions of all cores of a launch on data.

    `windows` are the (base, bytes) of global memory that the launch may touch. TrapError for a trap, naming it, the core,
    the unit, the instruction and the address; of several, it is the one that the instruction set names first in the
    instruction's `traps`.
    """

    def __init__(
        self, isa: Isa, chip: NpuConfig, memory: GlobalMemory, windows: Sequence[tuple[int, int]], cores: int
    ) -> None:
        self._isa = isa
        self._windows = Windows(windows)
        self._memory = memory
        memory.reserve(self._windows.end)
        self.cores = tuple(CoreState(chip) for _ in range(cores))
        self._sites: dict[int, tuple[tuple[Site, ...], list[_SiteCode | None]]] = {}

    def start(self, core: int, stream: Stream, row: int) -> Pending | None:
        """Read and calculate instruction `row` of a stream of core `core`; None when there is nothing to write."""
        sites = stream.sites
        known = self._sites.get(id(sites))
        if known is None:
            known = self._sites[id(sites)] = (sites, [None] * len(sites))
        index = stream.rows.site[row]
        code = known[1][index]
        if code is None:
            code = known[1][index] = _SiteCode(self._isa, sites[index])
        sizes = stream.size_rows[row]
        if not all(sizes[: code.size_count]):
            return None
        try:
            with np.errstate(all="ignore"):
                return code.run(self, self.cores[core], stream.addr_rows[row], sizes, stream.origin_rows[row])
        except _TrapFound:
            site = sites[index]
            faults = code.faults(self, self.cores[core], stream.addr_rows[row], sizes, stream.origin_rows[row])
            order = site.instruction.traps if site.instruction is not None else ()
            trap, detail = min(faults, key=lambda fault: order.index(fault[0]) if fault[0] in order else len(order))
            raise TrapError(trap, f"core {core}, unit {site.unit_name}, {site.label}: {detail}") from None

    def complete(self, pending: Pending | None) -> None:
        """Write a result."""
        if pending is None:
            return
        if pending.late is None:
            pending.target[...] = pending.value
        elif pending.rows is not None:
            with np.errstate(all="ignore"):
                pending.target[pending.rows] = pending.late(pending.target[pending.rows])
        else:
            with np.errstate(all="ignore"):
                pending.target[...] = pending.late(pending.target)

    def load_scalar(self, address: int, itemsize: int) -> int:
        """The signed integer at an address of global memory."""
        if address % itemsize:
            raise TrapError("alignment", f"scalar load at {address:#x}, which is no multiple of {itemsize}")
        if not self._windows.allows(address, address + itemsize):
            raise TrapError("gm_range", f"scalar load at {address:#x}; the launch may touch {self._windows}")
        return int.from_bytes(self._memory.bytes[address : address + itemsize].tobytes(), "little", signed=True)

    def gm_tile(self, operand: _Operand, address: int, rows: int, cols: int, pitch: int) -> Array:
        """A view of a tile in global memory, checked."""
        if next(self.gm_faults(operand, address, rows, cols, pitch), None) is not None:
            raise _TrapFound
        return np.ndarray((rows, cols), operand.dtype.numpy, self._memory.bytes, address, (pitch, operand.itemsize))

    def gm_faults(self, operand: _Operand, address: int, rows: int, cols: int, pitch: int) -> Iterator[Fault]:
        """What is wrong with a tile in global memory."""
        item = operand.itemsize
        end = address + (rows - 1) * pitch + cols * item
        if not self._windows.allows(address, end):
            detail = f"operand {operand.name} is {address:#x} to {end:#x}; the launch may touch {self._windows}"
            yield "gm_range", detail
        if address % item or (rows > 1 and pitch % item):
            yield "alignment", operand.misaligned(address, pitch)


class _TrapFound(Exception):
    """An operand of the instruction traps; which trap it is, the executor finds out by asking for all faults."""


class _Operand:
    """One operand of a site with its data type; `index` is its column among the addresses."""

    def __init__(self, isa: Isa, index: int, site: OperandSite) -> None:
        self.index = index
        self.name = site.name
        self.space = site.space
        self.pitch = site.pitch
        self.itemsize = site.itemsize
        self.reads = site.reads
        self.writes = site.writes
        self.dtype = isa.dtypes[site.dtype]
        self.align = isa.spaces[site.space].align_bytes
        self.shape = site.shape
        self.window = site.window

    def size(self, sizes: Sequence[int]) -> tuple[int, int]:
        """(rows, cols) of the operand."""
        rows, cols = self.shape
        return (-rows if rows < 0 else sizes[rows], -cols if cols < 0 else sizes[cols])

    def tile(self, state: CoreState, address: int, sizes: Sequence[int]) -> Array:
        """A view of a tile in a buffer of the core, checked."""
        if next(self.faults(state, address, sizes), None) is not None:
            raise _TrapFound
        return np.ndarray(
            self.size(sizes), self.dtype.numpy, state.buffer(self.space), address, (self.pitch, self.itemsize)
        )

    def faults(self, state: CoreState, address: int, sizes: Sequence[int]) -> Iterator[Fault]:
        """What is wrong with a tile in a buffer of the core."""
        rows, cols = self.size(sizes)
        item, pitch = self.itemsize, self.pitch
        length = len(state.buffer(self.space))
        end = address + (rows - 1) * pitch + cols * item
        if address < 0 or end > length:
            detail = f"operand {self.name} is {address:#x} to {end:#x} in {self.space}, which has {length:#x} bytes"
            yield "buffer_range", detail
        if address % self.align or (rows > 1 and pitch % (item if cols == 1 else self.align)):
            yield "alignment", self.misaligned(address, pitch)
        elif self.writes and rows > 1 and pitch < cols * item:
            detail = f"operand {self.name} is written in rows of {cols * item} bytes that are {pitch} apart"
            yield "alignment", detail

    def misaligned(self, address: int, pitch: int) -> str:
        """What is wrong with an address or the pitch."""
        align = self.align or self.itemsize
        return (
            f"operand {self.name} at {address:#x} in {self.space} with {pitch} bytes between rows; "
            f"allowed are multiples of {align} (rows of one element: of {self.itemsize})"
        )


class _SiteCode:
    """An instruction of a program, ready to run on rows of a stream."""

    def __init__(self, isa: Isa, site: Site) -> None:
        assert site.instruction is not None
        self.size_count = len(site.sizes)
        self._key = site.pc
        self._site = site
        self._operands = tuple(_Operand(isa, i, operand) for i, operand in enumerate(site.operands))
        self._reads = tuple(o for o in self._operands if o.reads)
        self._target = next(o for o in self._operands if o.writes)
        self._gm = next((o for o in self._operands if o.space == "gm"), None)
        self._indexed = None if site.dma is None else site.dma.indexed
        self._plain: Mapping[str, int] = site.insn.args
        # A size that is no extent of a tile is a number that the function takes.
        extents = {each for operand in site.operands for each in operand.shape}
        self._size_names = site.sizes if any(k not in extents for k in range(len(site.sizes))) else ()
        self._semantics: Semantics | None = None
        self._function: TileFunction | None = None
        head = isa.dtypes[site.insn.dtype or ""]
        if site.instruction.semantics is not None:
            names = tuple(spec.name for spec in site.instruction.operands)
            self._semantics = parse_semantics(site.instruction.semantics, names)
            self._prepare_arguments(site, head)
        else:
            self._function = tile_function(site.instruction.function or "", site.label)
        with np.errstate(all="ignore"):
            self._pad = convert(immediate(self._plain.get("pad", 0), head), self._operands[0].dtype)

    def _prepare_arguments(self, site: Site, head: DType) -> None:
        """Arguments of the expression in its order: operands by index, immediates as arrays, sizes by index in that type."""
        assert self._semantics is not None
        by_name = {o.name: o for o in self._operands}
        self._arguments: list[tuple[int, DType | None, Any]] = []
        self._size_arguments: list[tuple[int, int, np.dtype[Any]]] = []
        for place, name in enumerate(self._semantics.names):
            if name in by_name:
                self._arguments.append((by_name[name].index, by_name[name].dtype, None))
            elif name in site.sizes:
                self._size_arguments.append((place, site.sizes.index(name), COMPUTE_DTYPES[head.compute]))
                self._arguments.append((-1, None, None))
            else:
                self._arguments.append((-1, None, immediate(site.insn.args[name], head)))

    def run(
        self, executor: Executor, state: CoreState, addresses: list[int], sizes: list[int], origin: list[int]
    ) -> Pending | None:
        """Read and calculate; the result is a copy that nothing else changes."""
        if self._semantics is not None:
            return self._evaluate(state, addresses, sizes)
        if self._indexed is not None:
            return self._pick(executor, state, addresses, sizes)
        if self._gm is not None:
            return self._transfer(executor, state, addresses, sizes, origin)
        return self._apply(self._views(state, addresses, sizes), sizes)

    def faults(
        self, executor: Executor, state: CoreState, addresses: list[int], sizes: list[int], origin: list[int]
    ) -> Iterator[Fault]:
        """Everything for which the instruction traps with these operands."""
        for operand in self._operands:
            address = addresses[operand.index]
            if operand is not self._gm:
                yield from operand.faults(state, address, sizes)
                continue
            if self._indexed is not None:
                yield from self._pick_faults(executor, state, addresses, sizes)
                continue
            row, col, rows, cols = _inside(operand, operand.size(sizes), origin)
            if rows and cols:
                address += row * operand.pitch + col * operand.itemsize
                yield from executor.gm_faults(operand, address, rows, cols, operand.pitch)

    def _views(self, state: CoreState, addresses: list[int], sizes: list[int]) -> tuple[Array, ...]:
        """Views of all operands in the core's buffers; the same tiles come back with every turn of a ring."""
        key = (self._key, *addresses, *sizes)
        found: tuple[Array, ...] | None = state.tiles.get(key)
        if found is None:
            found = tuple(o.tile(state, addresses[o.index], sizes) for o in self._operands)
            state.tiles[key] = found
        return found

    def _evaluate(self, state: CoreState, addresses: list[int], sizes: list[int]) -> Pending:
        views = self._views(state, addresses, sizes)
        target = self._target
        if not target.reads:
            return Pending(views[target.index], _owned(self._value(views, sizes)))
        kept = [view.copy() for view in views]

        def late(old: Array) -> Array:
            kept[target.index] = old
            return self._value(kept, sizes)

        return Pending(views[target.index], None, late)

    def _value(self, views: Sequence[Array], sizes: Sequence[int]) -> Array:
        assert self._semantics is not None
        values = [
            array if dtype is None else to_compute(views[index], dtype) for index, dtype, array in self._arguments
        ]
        for place, size, kind in self._size_arguments:
            values[place] = np.array([[sizes[size]]], dtype=kind)
        return convert(np.asarray(self._semantics.evaluate(*values)), self._target.dtype)

    def _apply(self, views: tuple[Array, ...], sizes: Sequence[int]) -> Pending:
        """An instruction between buffers that a function describes."""
        assert self._function is not None
        target = views[self._target.index]
        tiles = {o.name: views[o.index] for o in self._reads}
        plain = self._plain
        if self._size_names:
            plain = {**plain, **dict(zip(self._size_names, sizes, strict=False))}
        if not self._target.reads:
            return Pending(target, _owned(self._function(tiles, plain, self._target.dtype)))
        return self._late(target, tiles)

    def _late(self, target: Array, tiles: dict[str, Array]) -> Pending:
        """The target's content is an operand, read at completion; the others are copied now."""
        function, name, out, plain = self._function, self._target.name, self._target.dtype, self._plain
        assert function is not None
        kept = {key: array.copy() for key, array in tiles.items() if key != name}
        return Pending(target, None, lambda old: function({**kept, name: old}, plain, out))

    def _transfer(
        self, executor: Executor, state: CoreState, addresses: list[int], sizes: list[int], origin: list[int]
    ) -> Pending | None:
        """Between global memory and a buffer: only what lies inside the window is touched there."""
        gm = self._gm
        assert gm is not None and self._function is not None
        rows, cols = gm.size(sizes)
        row, col, n_rows, n_cols = _inside(gm, (rows, cols), origin)
        local = next(o for o in self._operands if o is not gm)
        view = local.tile(state, addresses[local.index], sizes)
        whole = n_rows == rows and n_cols == cols
        outside = None
        if n_rows and n_cols:
            address = addresses[gm.index] + row * gm.pitch + col * gm.itemsize
            outside = executor.gm_tile(gm, address, n_rows, n_cols, gm.pitch)
        elif gm.writes:
            return None
        if gm.writes:
            assert outside is not None
            source = view if whole else view[row : row + n_rows, col : col + n_cols]
            tiles = {local.name: source}
            if gm.reads:
                return self._late(outside, tiles)
            return Pending(outside, _owned(self._function(tiles, self._plain, gm.dtype)))
        if whole:
            assert outside is not None
            return Pending(view, _owned(self._function({gm.name: outside}, self._plain, local.dtype)))
        value = np.empty((rows, cols), dtype=local.dtype.numpy)
        value[...] = self._pad
        if outside is not None:
            inner = self._function({gm.name: outside}, self._plain, local.dtype)
            value[row : row + n_rows, col : col + n_cols] = inner
        return Pending(view, value)

    def _pick(self, executor: Executor, state: CoreState, addresses: list[int], sizes: list[int]) -> Pending:
        """Rows of a table in global memory by index: those from the first to the last that is picked are looked at."""
        gm, indexed = self._gm, self._indexed
        assert gm is not None and indexed is not None and self._function is not None
        vector = self._operands[indexed.operand]
        local = next(o for o in self._operands if o is not gm and o is not vector)
        index = _from_start(vector.tile(state, addresses[vector.index], sizes), indexed.count)
        view = local.tile(state, addresses[local.index], sizes)
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= indexed.count:
            raise _TrapFound
        base, (_, cols) = addresses[gm.index] + low * indexed.stride, gm.size(sizes)
        table = executor.gm_tile(gm, base, high - low + 1, cols, indexed.stride)
        if not gm.writes:
            tiles = {gm.name: table, vector.name: index[:, None] - low}
            return Pending(view, _owned(self._function(tiles, self._plain, local.dtype)), index=index)
        # The function sees the rows that it changes, numbered anew.
        rows, numbers = np.unique(index - low, return_inverse=True)
        kept = {local.name: view.copy(), vector.name: numbers.reshape(-1, 1)}
        function, plain, name, out = self._function, self._plain, gm.name, gm.dtype
        return Pending(table, None, lambda old: function({**kept, name: old}, plain, out), index, rows)

    def _pick_faults(
        self, executor: Executor, state: CoreState, addresses: list[int], sizes: list[int]
    ) -> Iterator[Fault]:
        """What is wrong with rows by index, as far as their indices can be read."""
        gm, indexed = self._gm, self._indexed
        assert gm is not None and indexed is not None
        vector, address = self._operands[indexed.operand], addresses[gm.index]
        rows, cols = gm.size(sizes)
        if address % gm.itemsize or (rows > 1 and indexed.stride % gm.itemsize):
            yield "alignment", gm.misaligned(address, indexed.stride)
        if next(vector.faults(state, addresses[vector.index], sizes), None) is not None:
            return
        given = vector.tile(state, addresses[vector.index], sizes)
        index = _from_start(given, indexed.count)
        wrong = np.flatnonzero((index < 0) | (index >= indexed.count))
        if len(wrong):
            row = int(wrong[0])
            allowed = f"allowed are {-indexed.count} to {indexed.count - 1}"
            yield "gm_range", f"operand {vector.name} has {given[row, 0]} in row {row}; {allowed}"
            return
        low, high = int(index.min()), int(index.max())
        base = address + low * indexed.stride
        yield from executor.gm_faults(gm, base, high - low + 1, cols, indexed.stride)


def _from_start(index: Array, count: int) -> NDArray[np.int64]:
    """A vector of indices, those below zero counted from the end of a table of `count` rows."""
    wide = index[:, 0].astype(np.int64)
    return np.where(wide < 0, wide + count, wide)


def _inside(gm: _Operand, shape: tuple[int, int], origin: list[int]) -> tuple[int, int, int, int]:
    """First row, first column, rows and columns of a tile that lie inside its window."""
    if gm.window is None:
        return 0, 0, shape[0], shape[1]
    spans = []
    for at, size, extent in zip(origin, shape, (gm.window.rows, gm.window.cols), strict=True):
        first = min(max(-at, 0), size)
        spans.append((first, max(0, min(extent - at, size) - first)))
    (row, n_rows), (col, n_cols) = spans
    return row, col, n_rows, n_cols


def _owned(values: Array) -> Array:
    """The values in memory that no buffer shares."""
    return values if values.flags.owndata else values.copy()
