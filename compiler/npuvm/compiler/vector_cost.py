"""What a tile of a vector segment costs: an estimate from the chip's rates, for any sizes of its iteration space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from math import prod
from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES
from npuvm.compiler.formula_terms import Term, Value, compile_term, largest, least, pick, same
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_lower import Reg, Shape, VecProgram
from npuvm.compiler.vector_space import Space
from npuvm.hw.config import NpuConfig, class_of
from npuvm.isa import Isa

__all__ = ["TileCost"]

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
    """Issue cycles of an instruction and of a row, bytes a cycle, and bytes that a row costs at least."""

    startup: int
    per_row: float
    port: float
    least: int


class _Moved(NamedTuple):
    """A transfer: which dims of the tile it has, whether its rows are adjacent elements, and the other dims it lacks."""

    rows: bool
    cols: bool
    adjacent: bool
    item: int
    absent: tuple[int, ...]
    engine: _Engine


class _Form(NamedTuple):
    """What an estimate is made of besides sizes, tile, cores and cycles of instructions; kernels alike in it share its code."""

    row: int | None
    col: int
    reduced: tuple[bool, ...]
    depth: int
    repeat: int
    hbm: float
    latency: int
    work: tuple[_Sort, ...]
    loads: tuple[_Moved, ...]
    stores: tuple[_Moved, ...]


Estimate = Callable[[int, int], float]
"""Cycles for rows and columns of a tile."""


class TileCost:
    """Cycles of a launch: tiles of the busiest core times the slowest unit, and one pass through the other two units.

    A ring of `depth` slots turns round once in the time that loading a tile, its latency and working on it take together.
    """

    def __init__(self, space: Space, program: VecProgram, chip: NpuConfig, isa: Isa, cores: int, depth: int) -> None:
        self.rank = len(space.sizes)
        self._cores = cores
        work = _sorts(program, chip, isa)
        moved = tuple(_transfers(space, chip))
        form = _Form(
            space.row,
            space.col,
            space.reduced,
            depth,
            chip.core.vector.repeat_bytes,
            float(chip.hbm_bytes_per_cycle),
            chip.memory.l2.latency_cycles + chip.memory.hbm.latency_cycles,
            tuple(work),
            moved[: len(space.reads)],
            moved[len(space.reads) :],
        )
        self._formula = _formula(form)
        self._numbers = tuple([number for each in work.values() for number in each])

    def of(self, sizes: Sequence[int], cores: int) -> Estimate:
        """The estimate for tiles of a space of these sizes on so many cores."""
        return self._formula(cores, *sizes, *self._numbers)

    def cycles(self, sizes: Sequence[int], rows: int, cols: int) -> float:
        """The estimate for tiles of rows x cols in a space of these sizes, on all cores."""
        return self.of(sizes, self._cores)(rows, cols)


@lru_cache(_KEPT)
def _formula(form: _Form) -> Callable[..., Estimate]:
    """A function of cores, sizes and the cycles of instructions, which returns one of the rows and columns of a tile."""
    sizes = [Term(f"s{dim}") for dim in range(len(form.reduced))]
    work = [_Cycles(*(Term(f"{name}{at}") for name in ("head", "repeat", "row"))) for at in range(len(form.work))]
    names = [each.text for each in (*sizes, *(number for each in work for number in each))]
    return compile_term(["cores", *names], ["rows", "cols"], _cycles(form, sizes, work))


def _cycles(form: _Form, sizes: Sequence[Value], work: Sequence[_Cycles]) -> Value:
    """The estimate; see `TileCost`."""
    row, col, reduced = form.row, form.col, form.reduced
    cores, rows, cols = Term("cores"), Term("rows"), Term("cols")
    count_rows = 1 if row is None else -(-sizes[row] // rows)
    count_cols = -(-sizes[col] // cols)
    lines = 1 if row is None else least(rows, sizes[row])
    width = least(cols, sizes[col])
    counts: dict[int | None, Value] = {row: count_rows, col: count_cols}
    parallel: Value = 1
    steps: Value = 1
    for dim, flag in enumerate(reduced):
        if flag:
            steps = steps * counts.get(dim, sizes[dim])
        else:
            parallel = parallel * counts.get(dim, sizes[dim])
    vector = _vector(form, work, lines, width, 1 / steps)
    # Only cores that have a tile share the memory.
    fair = form.hbm / least(cores, parallel)
    whole = same(width, sizes[col])

    def again(each: _Moved) -> Value:
        """Tiles for which it is moved once."""
        tiles = prod([sizes[dim] for dim in each.absent])
        return tiles * (1 if each.rows else count_rows) * (1 if each.cols else count_cols)

    tiles = [again(each) for each in form.loads]
    waited = _most(0.0, *(1 / each for each in tiles))
    load = sum(_transfer(each, fair, lines, width, whole) / n for each, n in zip(form.loads, tiles, strict=True))
    store = sum(_transfer(each, fair, lines, width, whole) / again(each) for each in form.stores)
    turn = (load + waited * form.latency + vector) / form.depth
    slowest = _most(vector, load, store, turn)
    return -(-parallel // cores) * steps * slowest + _most(0.0, vector + load + store - slowest)


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


def _transfers(space: Space, chip: NpuConfig) -> list[_Moved]:
    load, store = chip.core.load, chip.core.store
    engines = (
        _Engine(load.startup_cycles, float(load.row_cycles), float(load.ub_bytes_per_cycle), load.min_burst_bytes),
        _Engine(store.startup_cycles, float(store.row_cycles), float(store.bytes_per_cycle), store.min_burst_bytes),
    )
    return [
        _Moved(
            space.has(each.node, space.row),
            space.has(each.node, space.col),
            each.strides[space.col] == 1,
            each.item,
            tuple(dim for dim in space.others if not space.has(each.node, dim)),
            engine,
        )
        for engine, moved in zip(engines, (space.reads, space.writes), strict=True)
        for each in moved
    ]


def _transfer(moved: _Moved, share: Value, rows: Value, cols: Value, whole: Value) -> Value:
    """Cycles of a load or store of one tile; `share` is the memory's bytes a cycle for one core, `whole` whether the tile has
    all columns.
    """
    engine = moved.engine
    lines, width = (rows if moved.rows else 1), (cols if moved.cols else 1)
    if moved.cols and not moved.adjacent:
        lines, width = lines * width, 1
    nbytes = width * moved.item
    if moved.rows:
        apart = _most(nbytes, engine.least)
        nbytes = pick(whole, nbytes, apart) if moved.cols and moved.adjacent else apart
    return engine.startup + lines * (engine.per_row + nbytes / least(engine.port, share))
