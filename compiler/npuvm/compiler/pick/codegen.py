"""Writes the program of a segment that picks rows by index.

A block of indices is loaded once for several tiles of rows. A gather picks rows into UB and stores them one after the other; a
scatter loads them so, and sends them to their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Buffer, Loop, Sem, Size
from npuvm.compiler.emit.symint import SymInt, ceil_div
from npuvm.compiler.emit.template import Template
from npuvm.compiler.emit.walk import Axis, GridWalk, Walk
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins, most_slots, pin_error
from npuvm.compiler.pick.plan import SLOTS, PickTile, pick_cycles, plan_pick
from npuvm.compiler.pick.segment import PickSpec
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["PickFamily", "PickKernel", "compile_pick"]

_INDEX_BYTES = 4

_TILE = ("rows", "cols", "pitch", "tiles", "parts", "blocks")
"""What is open in a template beside the sizes of the segment."""

_FREE_PINS = ("cores", "cache", "stack", "buffering")
"""Pins that a segment like this does not refuse; there is nothing else to decide."""


def _ready(ring: Buffer) -> Sem:
    assert ring.ready is not None
    return ring.ready


def _free(ring: Buffer) -> Sem:
    assert ring.free is not None
    return ring.free


@dataclass(frozen=True, slots=True)
class PickKernel:
    """A segment that picks rows as a program image; `cycles` is an estimate of how long its ports are busy on one core."""

    image: Image
    spec: PickSpec
    tile: PickTile
    walk: Walk
    cycles: float


def compile_pick(spec: PickSpec, args: int, chip: NpuConfig, isa: Isa, pins: Pins | None = None) -> PickKernel | None:
    """The program of a segment with so many arguments; None when there is nothing to pick.

    CompileError when rows are too long to be addressed, or a pin cannot be honoured.
    """
    pins = pins or Pins()
    _check_pins(pins, chip, spec.name)
    family = PickFamily(chip, isa, pins.cores, pins.buffering)
    image = family.instance(spec, args)
    if image is None:
        return None
    tile = family.tile(spec)
    axes = (Axis("outer", spec.outer), Axis("part", tile.parts), Axis("block", tile.blocks))
    walk = Walk((GridWalk(axes, {}),), tuple(entry.ranges for entry in image.entries))
    return PickKernel(image, spec, tile, walk, pick_cycles(spec, tile, chip, len(walk.ranges)))


def _check_pins(pins: Pins, chip: NpuConfig, where: str) -> None:
    default = Pins()
    for name in Pins.__dataclass_fields__:
        if name not in _FREE_PINS and getattr(pins, name) != getattr(default, name):
            pin_error(name, getattr(pins, name), "nothing for rows by index; only cores", where)
    if pins.cache:
        pin_error("cache", pins.cache, "nothing for rows by index: they are loaded as the kernel's load says", where)
    cores = chip.cores_with("vector")
    if pins.cores is not None and pins.cores > cores:
        pin_error("cores", pins.cores, f"at most {cores} cores with a vector unit on {chip.name}", where)


class PickFamily:
    """Programs of segments for all sizes: a template for each of the few forms of their tiles.

    Tiles are in equal shares on the cores; where the order of rows counts, a core has all blocks of its columns.
    """

    def __init__(self, chip: NpuConfig, isa: Isa, cores: int | None = None, buffering: str | None = None) -> None:
        self._chip, self._isa, self._depth = chip, isa, most_slots(buffering, SLOTS)
        self._cores = cores or chip.cores_with("vector")
        self._templates: dict[tuple[object, ...], Template] = {}

    def instance(self, spec: PickSpec, args: int) -> Image | None:
        """The program for these sizes; None when there is nothing to pick."""
        if not spec.outer * spec.inner * spec.picks:
            return None
        tile = self.tile(spec)
        form = (spec.inner == 1, tile.tiles > 1)
        places = (spec.table, spec.index, spec.rows)
        key = (spec.op, spec.dtype, spec.cache, form, args, *(arg for arg, _ in places))
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._make(spec, args, *form)
        sizes = (spec.outer, spec.count, spec.inner, spec.picks, *(first for _, first in places))
        words, relocs = template.instance(
            (*sizes, tile.rows, tile.cols, tile.pitch, tile.tiles, tile.parts, tile.blocks)
        )
        ordered = spec.op == "scatter"
        units = spec.outer * tile.parts * (1 if ordered else tile.blocks)
        core_type, steps = self._chip.core_type_with("vector"), tile.blocks if ordered else 1
        entries = EvenEntries(core_type, min(self._cores, units), (units,), steps)
        return Image(spec.name, template.isa_hash, words, entries, relocs, args, template.grids)

    def tile(self, spec: PickSpec) -> PickTile:
        """The tile of these sizes."""
        return plan_pick(spec, self._chip.capacity_bytes("ub"), self._cores, self._depth)

    def _make(self, spec: PickSpec, args: int, single: bool, several: bool) -> Template:
        names = ("outer", "count", "inner", "picks", "table", "index", "lined", *_TILE)
        outer, count, inner, picks, *firsts, rows, cols, pitch, tiles, parts, blocks = map(SymInt.variable, names)
        table, index, lined = (
            (arg, each) for (arg, _), each in zip((spec.table, spec.index, spec.rows), firsts, strict=True)
        )
        open_spec = replace(
            spec,
            outer=outer,
            count=count,
            inner=1 if single else inner,
            picks=picks,
            table=table,
            index=index,
            rows=lined,
        )
        tile = PickTile(rows, 1 if single else cols, pitch, tiles if several else 1, parts, blocks, self._depth)
        builder = InstrBuilder(self._isa, {"ub": self._chip.capacity_bytes("ub")}, spec.name, args)
        _Writer(builder, open_spec, tile, single=single, several=several).write()
        return builder.template(names)


class _Writer:
    """Writes one segment. Sizes may be SymInts; `single` says that rows have one element, `several` that blocks have tiles."""

    def __init__(self, builder: InstrBuilder, spec: PickSpec, tile: PickTile, *, single: bool, several: bool) -> None:
        self._single, self._several = single, several
        self._builder = builder
        self._spec = spec
        self._tile = tile
        self._item = DTYPES[spec.dtype].item_bytes
        self._row = spec.inner * self._item

    def write(self) -> None:
        b, spec, tile = self._builder, self._spec, self._tile
        consumer = "load" if spec.op == "gather" else "store"
        index = b.ring("index", "ub", tile.block * _INDEX_BYTES, tile.depth, "load", consumer)
        rows = b.ring("rows", "ub", tile.rows * tile.pitch, tile.depth, "load", "store")
        with b.grid([spec.outer, tile.parts, tile.blocks]) as (outer, part, block):
            self._indices(index, block)
            b.sync(consumer, wait=[_ready(index)])
            with self._tiles(block) as inner:
                self._move(rows, index, outer, part, block, inner)
            b.sync(consumer, set=[_free(index)])

    @contextmanager
    def _tiles(self, block: Loop) -> Iterator[Loop | None]:
        """The loop over the tiles of a block, if there are several."""
        if not self._several:
            yield None
            return
        tiles, in_all = self._tile.tiles, ceil_div(self._spec.picks, self._tile.rows)
        with self._builder.loop(self._builder.size_affine(tiles, in_all, [(block, -tiles)])) as inner:
            yield inner

    def _left(self, full: int, steps: list[tuple[Loop, int]]) -> Size:
        """How many of the indices are left where the loops stand, `full` at most."""
        return self._builder.size_affine(full, self._spec.picks, [(loop, -step) for loop, step in steps])

    def _indices(self, index: Buffer, block: Loop) -> None:
        """Load a block of indices."""
        b, size = self._builder, self._tile.block
        arg, first = self._spec.index
        far = b.desc(b.arg(arg), offset=first * _INDEX_BYTES, strides={block: size * _INDEX_BYTES})
        near = b.desc(index, role="producer")
        many = self._left(size, [(block, size)])
        b.emit("ld", "int32", wait=[_free(index)], set=[_ready(index)], dst=near, src=far, rows=b.size(1), cols=many)

    def _move(self, rows: Buffer, vector: Buffer, outer: Loop, part: Loop, block: Loop, inner: Loop | None) -> None:
        """One tile: rows by index between the table and UB, rows one after the other between UB and the other tensor."""
        b, spec, tile = self._builder, self._spec, self._tile
        steps = [(block, tile.block), *([(inner, tile.rows)] if inner is not None else [])]
        count = self._left(tile.rows, steps)
        tail = spec.inner - (tile.parts - 1) * tile.cols
        cols = b.size_tail(part, tile.cols, tail)
        by_part = {part: tile.cols * self._item}
        arg, first = spec.table
        table = b.desc(b.arg(arg), offset=first * self._item, strides={outer: spec.count * self._row, **by_part})
        arg, first = spec.rows
        along = {outer: spec.picks * self._row, **by_part, **{loop: step * self._row for loop, step in steps}}
        lined = b.desc(b.arg(arg), self._row, offset=first * self._item, strides=along)
        starts = {inner: tile.rows * _INDEX_BYTES} if inner is not None else {}
        index = b.desc(vector, _INDEX_BYTES, strides=starts, role="consumer")
        loaded, stored = (b.desc(rows, tile.pitch, role=role) for role in ("producer", "consumer"))
        # Rows of one element are one row where they follow each other.
        high, wide = (b.size(1), count) if self._single else (count, cols)
        empty, full, dtype = [_free(rows)], [_ready(rows)], spec.dtype
        if spec.op == "gather":
            b.emit(
                "ldx", dtype, wait=empty, set=full, dst=loaded, src=table, index=index, rows=count, cols=cols,
                cache=spec.cache, stride=self._row, count=spec.count,
            )  # fmt: skip
            b.emit("st", dtype, wait=full, set=empty, dst=lined, src=stored, rows=high, cols=wide)
            return
        b.emit("ld", dtype, wait=empty, set=full, dst=loaded, src=lined, rows=high, cols=wide)
        b.emit(
            "stx" if spec.op == "scatter" else "stxadd", dtype, wait=full, set=empty, dst=table, src=stored, index=index,
            rows=count, cols=cols, stride=self._row, count=spec.count,
        )  # fmt: skip
