"""What a tile of a vector segment costs: an estimate from the chip's rates, for any sizes of its iteration space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import prod
from typing import NamedTuple

from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.tiles.formula_terms import (
    Term,
    Value,
    compile_term,
    compile_terms,
    largest,
    least,
    over,
    pick,
    same,
)
from npuvm.compiler.vector.lower import Reg, Shape, VecProgram
from npuvm.compiler.vector.memory import Memory, memory_of
from npuvm.compiler.vector.space import Space
from npuvm.hw.config import LoadConfig, NpuConfig, StoreConfig, class_of
from npuvm.isa import Isa

__all__ = [
    "Estimate",
    "RowsCost",
    "RowsForm",
    "TileCost",
    "least_cycles",
    "rows_terms",
    "steady_elements",
]

_KEPT = 1024
"""Estimates that are kept, by what they depend on besides sizes."""


class _Sort(NamedTuple):
    """Instructions alike in when they run and in what they do in a tile; `item` in bytes, `dense` without gaps between rows."""

    when: str
    shape: Shape
    dense: bool
    item: int


class _Cycles(NamedTuple):
    """Of all instructions of a sort: before their first repeat (waits included), for a repeat, and for a row."""

    head: Value
    per_repeat: Value
    per_row: Value


class _Engine(NamedTuple):
    """Issue cycles of an instruction and of a row, bytes a cycle, bytes that a row costs at least, and cycles that a request
    takes at least where as many are under way as can be, with the bytes of one."""

    startup: int
    per_row: float
    port: float
    least: int
    apart: float
    chunk: int


class _Moved(NamedTuple):
    """A transfer: the dims that it has, whether its rows are adjacent elements, and columns one row of them, whether whole
    rows lie one after the other, whether it has just been written, whether its rows lie off blocks however long they are, and
    the share of the work that is done before it is used."""

    dims: tuple[int, ...]
    rows: bool
    cols: bool
    adjacent: bool
    linear: bool
    dense: bool
    near: bool
    off: bool
    item: int
    engine: _Engine
    ahead: float


class _Form(NamedTuple):
    """What an estimate is made of besides sizes, tile, cores and cycles of instructions; kernels alike in it share its code.

    `order` are the dims that tiles walk, the innermost last.
    """

    row: int | None
    col: int
    reduced: tuple[bool, ...]
    order: tuple[int, ...]
    depth: int
    repeat: int
    memory: Memory
    work: tuple[_Sort, ...]
    loads: tuple[_Moved, ...]
    stores: tuple[_Moved, ...]


RowsForm = _Form
"""What decides about the code of an estimate."""


def walked_dims(space: Space) -> tuple[int, ...]:
    """The dims that tiles walk, the innermost last: columns before rows, and what is reduced inside of both."""
    kept = [*space.others, space.col, *(() if space.row is None else (space.row,))]
    reduced = [dim for dim, flag in enumerate(space.reduced) if flag]
    return (*(dim for dim in kept if not space.reduced[dim]), *reduced)


Estimate = Callable[[int, int], float]
"""Cycles for rows and columns of a tile."""


_HIDDEN = 0.15
"""Share of what main memory or the cores take beside the slower of both that is not hidden behind it."""


_SINGLE = 1.4
"""Turns at a time of rings with one slot: each is filled again when its last reader is done, while others work. Measured on
`edge` for rows of 3072 to 6144 elements: 1.1 to 1.8."""


class TileCost:
    """Cycles of a launch: tiles of the busiest core times the slowest unit, and one pass through the other two units.

    A ring of `depth` slots turns round once in the time that loading a tile, its latency and working on it take together. Cores
    share main memory and L2: no launch takes less than all bytes do there. With `open_rows` they read side by side, so that a
    row of main memory is opened once for all its lines.
    """

    def __init__(
        self,
        space: Space,
        program: VecProgram,
        chip: NpuConfig,
        isa: Isa,
        cores: int,
        depth: int,
        *,
        open_rows: bool = False,
    ) -> None:
        self._cores = cores
        self.form, self.numbers = _form_of(space, program, chip, isa, depth, open_rows=open_rows)
        self._formula = _formula(self.form)

    def terms(self) -> tuple[list[str], Value]:
        """The estimate, and its variables but "rows" and "cols": "cores", sizes, and those of `numbers`."""
        return _terms(self.form)

    def of(self, sizes: Sequence[int], cores: int) -> Estimate:
        """The estimate for tiles of a space of these sizes on so many cores."""
        return self._formula(cores, *sizes, *self.numbers)

    def cycles(self, sizes: Sequence[int], rows: int, cols: int) -> float:
        """The estimate for tiles of rows x cols in a space of these sizes, on all cores."""
        return self.of(sizes, self._cores)(rows, cols)


class RowsCost:
    """The same for rows of blocks that come one behind the other to a core, which works on parts of them."""

    def __init__(self, space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, depth: int) -> None:
        self.form, self.numbers = _form_of(space, program, chip, isa, depth)
        self._formula = _rows_formula(self.form)

    def of(self, cols: int) -> Callable[[int, int], tuple[float, ...]]:
        """Cycles of so many rows of a block, in parts of so many: by themselves, and behind those of the block before."""
        return self._formula(cols, *self.numbers)


def steady_elements(program: VecProgram, chip: NpuConfig, isa: Isa) -> float:
    """Elements of a tile from which on no more than a quarter of the vector unit's cycles go by before first repeats."""
    found = _sorts(program, chip, isa).items()
    heads = sum(cycles.head for _, cycles in found)
    each = sum(cycles.per_repeat * sort.item for sort, cycles in found if sort.shape == (True, True))
    return 3.0 * heads * chip.core.vector.repeat_bytes / each if each else 0.0


def least_cycles(space: Space, program: VecProgram, chip: NpuConfig, isa: Isa) -> float:
    """Cycles of a launch for each element of its space, as few as any tile takes: what L2 moves, or the vector units work."""
    whole = [each for each in (*space.reads, *space.writes) if space.fills(each.node)]
    moved = sum(each.item for each in whole) / float(chip.l2_bytes_per_cycle)
    repeats = sum(
        cycles.per_repeat * sort.item
        for sort, cycles in _sorts(program, chip, isa).items()
        if sort.shape == (True, True)
    )
    return max(moved, float(repeats) / chip.core.vector.repeat_bytes / chip.cores_with("vector"))


def _form_of(
    space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, depth: int, *, open_rows: bool = False
) -> tuple[_Form, tuple[float, ...]]:
    """What an estimate is made of, and the cycles of instructions."""
    work = _sorts(program, chip, isa)
    moved = tuple(_transfers(space, chip, _ahead(program, len(space.reads))))
    form = _Form(
        space.row,
        space.col,
        space.reduced,
        walked_dims(space),
        depth,
        chip.core.vector.repeat_bytes,
        memory_of(chip, open_rows=open_rows),
        tuple(work),
        moved[: len(space.reads)],
        moved[len(space.reads) :],
    )
    return form, tuple([number for each in work.values() for number in each])


@lru_cache(_KEPT)
def _formula(form: _Form) -> Callable[..., Estimate]:
    """A function of cores, sizes and the cycles of instructions, which returns one of the rows and columns of a tile."""
    names, value = _terms(form)
    return compile_term(names, ["rows", "cols"], value)


def _terms(form: _Form) -> tuple[list[str], Value]:
    """Variables of an estimate that are known before its tile, and the estimate."""
    sizes = [Term(f"s{dim}") for dim in range(len(form.reduced))]
    work, names = _work(form)
    value = _cycles(form, sizes, work, Term("cores"), (Term("rows"), Term("cols")))
    return ["cores", *[each.text for each in sizes], *names], value


@lru_cache(_KEPT)
def _rows_formula(form: _Form) -> Callable[..., Callable[..., tuple[float, ...]]]:
    """A function of columns and the cycles of instructions, which returns one of rows, and those of a tile."""
    names, values = rows_terms(form)
    return compile_terms(names, ["height", "rows"], values)


def rows_terms(form: RowsForm) -> tuple[list[str], tuple[Value, Value]]:
    """What `RowsCost.of` gives as terms of "height" and "rows", and the variables that these have beside them.

    Values of the variables are the columns and the numbers of the `RowsCost` whose form it is.
    """
    work, names = _work(form)
    height, cols, rows = Term("height"), Term("cols"), Term("rows")
    ones = [1] * (len(form.reduced) - 2)
    first, both = (_cycles(form, [*ones, each, cols], work, 1, (rows, cols)) for each in (height, 2 * height))
    return ["cols", *names], (first, both - first)


def _work(form: _Form) -> tuple[list[_Cycles], list[str]]:
    """Cycles of instructions as terms, and the names of these."""
    work = [_Cycles(*(Term(f"{name}{at}") for name in ("head", "repeat", "row"))) for at in range(len(form.work))]
    return work, [number.text for each in work for number in each]


def _cycles(
    form: _Form, sizes: Sequence[Value], work: Sequence[_Cycles], cores: Value, tile: tuple[Value, Value]
) -> Value:
    """The estimate; see `TileCost`."""
    row, col, memory = form.row, form.col, form.memory
    rows, cols = tile
    counts = list(sizes)
    counts[col] = -(-sizes[col] // cols)
    if row is not None:
        counts[row] = -(-sizes[row] // rows)
    lines = 1 if row is None else least(rows, sizes[row])
    width = least(cols, sizes[col])
    parallel: Value = prod([count for count, flag in zip(counts, form.reduced, strict=True) if not flag], start=1)
    steps: Value = prod([count for count, flag in zip(counts, form.reduced, strict=True) if flag], start=1)
    vector = _vector(form, work, lines, width, 1 / steps)
    tiles = parallel * steps
    own = -(-parallel // cores) * steps
    load: Value = 0.0
    store: Value = 0.0
    far: Value = 0.0
    near: Value = 0.0
    hot: Value = 0.0
    crowded: Value = 0.0
    ahead = 1.0
    waited: Value = 0.0
    for each in (*form.loads, *form.stores):
        moved = _transfer(form, each, sizes, lines, width)
        again = _again(form, each, counts)
        turns = tiles if again is None else tiles / least(again, own)
        share = 1.0 if again is None else 1 / least(again, own)
        near = near + turns * (moved.sent / memory.near)
        if each in form.stores:
            store = store + moved.cycles * share
            continue
        load = load + moved.cycles * share
        waited = largest(waited, share)
        extent = prod([sizes[dim] for dim in each.dims], start=each.item)
        cached = extent / memory.far
        if each.near:
            cached = cached * over(extent, memory.kept)
        if not memory.mixed and each.rows and each.cols and each.adjacent:
            cached = cached / _reached(form, sizes[col] * each.item, lines, width * each.item, least(cores, parallel))
        if memory.uncached:
            # What lies in a few lines is in as few channels.
            spread = least(largest(extent, memory.line) / memory.stripe, 1.0)
            past = turns * moved.lines * (memory.line / memory.far)
            if memory.together and each.dims == (row,):
                # Cores side by side read a column in a line or two at a time, so that one channel serves them all.
                near_by = least(largest(lines * cores * each.item, memory.line) / memory.stripe, spread)
                alone = past / near_by if moved.off is True else pick(moved.off, past / near_by, 0.0)
                crowded = largest(crowded, alone)
            cached = past / spread if moved.off is True else pick(moved.off, past / spread, cached)
        far = far + cached
        if memory.uncached and each.dims == (col,):
            # The end of a row that all cores read: as often as they do, one channel moves its line.
            ends = turns / counts[col] * (memory.stripe / memory.far)
            hot, ahead = hot + pick(_off(sizes[col] * each.item), ends, 0.0), min(ahead, each.ahead)
        if memory.same_line and len(each.dims) < len(sizes):
            near = largest(near, turns * moved.lines * (memory.same_line * memory.line) / (extent + memory.line))
    # While all cores load, each gets its part of what memory gives, and waits behind others at a crowded channel.
    filled = largest(load, far / own) + waited * memory.latency
    if memory.together:
        filled = filled + crowded / own
    turn = (filled + vector) / (form.depth if form.depth > 1 else _SINGLE)
    slowest = _most(vector, load, store, turn)
    rest = vector + store + memory.latency
    later = (own - 1) * slowest
    return rest + _most(later + load, far, near) + largest(hot - ahead * vector, 0.0) + _HIDDEN * least(later, far)


def _reached(form: _Form, pitch: Value, lines: Value, nbytes: Value, cores: Value) -> Value:
    """The share of memory's channels that cores reach at a time with rows of so many bytes `pitch` apart."""
    memory = form.memory
    over = pitch % memory.stripe
    drift = least(over, memory.stripe - over)
    at_once = largest(nbytes + lines * drift, memory.own) / memory.stripe
    return pick(same(nbytes, pitch), 1.0, least(at_once * cores, 1.0))


def _again(form: _Form, moved: _Moved, counts: Sequence[Value]) -> Value | None:
    """Tiles in a row for which it is moved once; None where it is moved for each."""
    tiles: Value = 1
    inside: Value = 1
    for dim in reversed(form.order):
        if dim in moved.dims:
            inside = inside * counts[dim]
        elif isinstance(inside, Term):
            tiles = tiles * pick(same(inside, 1), counts[dim], 1)
        else:
            tiles = tiles * counts[dim]
    return tiles if isinstance(tiles, Term) else None


def _most(*values: Value) -> Value:
    """The largest."""
    known = [each for each in values if not isinstance(each, Term)]
    return reduce(largest, [*(each for each in values if isinstance(each, Term)), *([max(known)] if known else [])])


def _vector(form: _Form, work: Sequence[_Cycles], rows: Value, cols: Value, once: Value) -> Value:
    """Cycles of the vector unit for a tile; `once` is the share of what runs for the first or the last of its steps."""
    total: Value = 0.0
    for (when, (has_rows, has_cols), dense, item), each in zip(form.work, work, strict=True):
        lines = rows if has_rows and has_cols else 1
        width = (cols if has_cols else rows if has_rows else 1) * item
        repeats = lines * -(-width // form.repeat)
        if dense:
            repeats = pick(same(width % BLOCK_BYTES, 0), -(-lines * width // form.repeat), repeats)
        share = {"first": once, "last": once, "not_first": 1 - once, "not_last": 1 - once}.get(when, 1)
        total = total + (each.head + repeats * each.per_repeat + lines * each.per_row) * share
    return total


def _sorts(program: VecProgram, chip: NpuConfig, isa: Isa) -> dict[_Sort, _Cycles]:
    """Cycles of the instructions by sort; one that reads what is not known complete waits for the one before it.

    Those that run once on a core are left out.
    """
    sums: dict[_Sort, _Cycles] = {}
    written: dict[Reg, int] = {}
    fence, latency = 0, 0
    for at, insn in enumerate(program.insns):
        if insn.op == "asm":
            continue
        regs = [insn.dst.reg, *(use.reg for _, use in insn.sources)]
        item = max(DTYPES[reg.dtype].item_bytes for reg in regs)
        plain = all(use.how == "plain" for use in (insn.dst, *(use for _, use in insn.sources)))
        waits = any(written.get(use.reg, -1) >= fence for _, use in insn.sources)
        fence = at if waits else fence
        written[insn.dst.reg] = at
        found = class_of(chip.core.vector, isa, isa.instruction(insn.op))
        head = found.startup_cycles + (latency + 1 if waits else 0)
        latency = found.latency_cycles
        if insn.when.kind == "changed":
            continue
        sort = _Sort(insn.when.kind, insn.shape, insn.shape == (True, True) and plain, item)
        before = sums.get(sort, _Cycles(0.0, 0.0, 0.0))
        sums[sort] = _Cycles(
            before.head + head,
            before.per_repeat + float(found.cycles_per_repeat),
            before.per_row + float(found.row_cycles),
        )
    return sums


def _ahead(program: VecProgram, reads: int) -> list[float]:
    """The share of a tile's instructions that come before the first one that uses what each read has loaded."""
    insns = [each for each in program.insns if each.op != "asm" and each.when.kind != "changed"]
    used = [{use.reg.read for _, use in each.sources} for each in insns]
    return [next((at for at, each in enumerate(used) if read in each), 0) / max(1, len(used)) for read in range(reads)]


def _transfers(space: Space, chip: NpuConfig, ahead: Sequence[float]) -> list[_Moved]:
    load, store, memory = chip.core.load, chip.core.store, chip.memory

    def engine(of: LoadConfig | StoreConfig, rate: int, latency: int) -> _Engine:
        apart = latency / of.outstanding
        return _Engine(of.startup_cycles, float(of.row_cycles), float(rate), of.min_burst_bytes, apart, of.chunk_bytes)

    near = memory.l2.latency_cycles
    far = near + memory.hbm.latency_cycles
    engines = engine(load, load.ub_bytes_per_cycle, far), engine(store, store.bytes_per_cycle, near)
    reads = [(engines[0], each, before) for each, before in zip(space.reads, ahead, strict=True)]
    return [
        _Moved(
            tuple(dim for dim in range(len(space.sizes)) if space.has(each.node, dim)),
            space.has(each.node, space.row),
            space.has(each.node, space.col),
            each.strides[space.col] == 1,
            space.row is not None and each.strides[space.row] == 1,
            space.row is None or each.strides[space.row] == space.sizes[space.col],
            each.near,
            each.off,
            each.item,
            by,
            before,
        )
        for by, each, before in (*reads, *((engines[1], each, 0.0) for each in space.writes))
    ]


class _Cost(NamedTuple):
    """Of a tile's transfer: cycles of its engine, bytes, lines that it reaches, and whether it begins or ends off blocks."""

    cycles: Value
    sent: Value
    lines: Value
    off: Value


def _transfer(form: _Form, moved: _Moved, sizes: Sequence[Value], rows: Value, cols: Value) -> _Cost:
    """The transfer of a tile of so many rows and columns. Rows of a tile with all columns may lie one after the other."""
    engine, item, line = moved.engine, moved.item, form.memory.line
    orders: Value = 1
    off: Value
    if moved.rows and moved.cols and moved.adjacent:
        whole = same(cols, sizes[form.col]) if moved.dense else False
        parts, each = pick(whole, 1, rows), cols * item * pick(whole, rows, 1)
        off = moved.off or _off(sizes[form.col] * item)
        if form.row is not None:
            off = pick(whole, _off(each), off)
    elif moved.cols and moved.adjacent:
        parts, each, off = 1, cols * item, _off(sizes[form.col] * item) if len(moved.dims) > 1 else False
    elif moved.rows and not moved.cols and moved.linear:
        parts, each, off = 1, rows * item, _off(rows * item)
    else:
        parts, each, off = (rows if moved.rows else 1) * (cols if moved.cols else 1), item, True
        orders = rows if moved.rows and moved.cols else 1
    sent = parts * largest(each, engine.least)
    # Short rows share a request as far as they fit, counted as bursts.
    requests = parts * -(-each // engine.chunk) / largest(1, engine.chunk // largest(each, engine.least))
    port = parts * engine.per_row + sent / engine.port
    cycles = orders * engine.startup + largest(port, requests * engine.apart)
    reached = parts * (1 + (each - 1) / line)
    return _Cost(cycles, parts * each, reached, off)


def _off(nbytes: Value) -> Value:
    """Whether so many bytes end off a block."""
    return nbytes % BLOCK_BYTES != 0 if not isinstance(nbytes, Term) else Term("{0} % {1} != 0", (nbytes, BLOCK_BYTES))
