"""Tile programs of operations along an axis: numbers of the places, prefix sums, and the largest elements.

Prefix sums of an axis that is cut into tiles go through its tiles in order on one core. What came before a tile is kept in a
register: a column or a row of sums, cleared at the first tile.
"""

from __future__ import annotations

import ast
from math import inf
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_along import BESTS
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.reduce.cut import dims_of
from npuvm.compiler.vector.regs import ALWAYS, COLUMN, ONCE, ROW, Numbered, Reg, Use, When
from npuvm.compiler.vector.select import immediate_bits
from npuvm.isa import Isa

if TYPE_CHECKING:
    from npuvm.compiler.vector.lower import Lowering

__all__ = ["ALONG_LOWERINGS"]

_NUMBERS = "dst = imm + step * (start + iota(cols))"
_EQUAL, _DIFFERENT, _OR, _SELECT = "dst = a == b", "dst = a != b", "dst = a | b", "dst = where(c, a, b)"
_PLACE = "dst = argmax(a, axis=last)"
_SCANS = {"last": "dst = b + cumsum(a, axis=last)", "first": "dst = b + cumsum(a, axis=first)"}


def _instruction(isa: Isa, semantics: str, dtype: str) -> str:
    """The instruction that is on and has this meaning, spelled as it may be."""
    wanted = ast.dump(ast.parse(semantics))
    for each in isa.instructions.values():
        known = isa.features[each.feature] and (dtype, None) in each.dtypes and each.semantics is not None
        if known and ast.dump(ast.parse((each.semantics or "").strip())) == wanted:
            return each.name
    raise CompileError(f"the instruction set has no instruction for '{semantics}' of {dtype}")


def _iota(lower: Lowering, node: Node) -> None:
    """The numbers of this tile, made anew when another part of their axis comes."""
    along = next((dim for dim, flag in enumerate(lower.space.present[node.id]) if flag), None)
    reg = lower.where[node.id] = lower.register("keep", node, lower.shape(node))
    _number(lower, reg, along)


def _number(lower: Lowering, reg: Reg, along: int | None) -> None:
    """Fill a register with the places along a dim; they are counted from 1, so 1 is taken off."""
    dtype = reg.dtype
    one, minus = (immediate_bits(number, dtype) for number in ((1.0, -1.0) if dtype == "fp32" else (1, -1)))
    lower.emit(
        _instruction(lower.select.isa, _NUMBERS, dtype),
        dtype,
        reg.shape,
        Use(reg),
        (),
        imm=("imm", minus),
        numbered=Numbered("start", along, ("step", one)),
        when=ONCE if along is None else When("changed", dims_of(lower.space.cut, along)),
    )


def _row_place(lower: Lowering, node: Node) -> None:
    """The place of the first maximum of each row, which is whole in the tile."""
    source, dtype = node.inputs[0], node.inputs[0].type.dtype
    shape = (lower.space.row is not None, True)
    if not lower.reduced:
        lower.where[node.id] = lower.fill(0, "int32", lower.shape(node))
        return
    operand = lower.operand(source, shape, ALWAYS)
    target = lower.where[node.id] = lower.target(node)
    name = _instruction(lower.select.isa, _PLACE, dtype)
    lower.emit(name, dtype, shape, Use(target, "column"), (("a", operand),), over="total")


def _cumsum(lower: Lowering, node: Node) -> None:
    """Prefix sums of the tile on top of what was kept; then what is kept grows by the tile."""
    space, dtype, reduced = lower.space, node.type.dtype, lower.reduced
    if not reduced:
        lower.alias(node)
        return
    last = space.reduced[space.col]
    axis, how = ("last", "column") if last else ("first", "plain")
    shape = (space.row is not None, True)
    kept_shape = (shape[0], False) if last else ROW
    source = lower.operand(node.inputs[0], shape, ALWAYS)
    if space.whole:
        kept = lower.fill(lower.zero(dtype), dtype, kept_shape)
    else:
        kept = lower.register("keep", None, kept_shape, dtype)
        lower.fill_tile(Use(kept), kept_shape, lower.zero(dtype), dtype, When("first", reduced))
    target = lower.where[node.id] = lower.target(node)
    scan = _instruction(lower.select.isa, _SCANS[axis], dtype)
    lower.emit(scan, dtype, shape, Use(target), (("a", source), ("b", Use(kept, how))))
    if space.whole:
        return
    more = When("not_last", reduced)
    if not last:
        lower.move(lower.select.copy(dtype), ROW, Use(kept), Use(target, "last_row"), more)
        return
    # The last column begins in the middle of a block, where no operand can; so the tile is summed.
    total = lower.register("temp", None, kept_shape, dtype)
    reduce, join = lower.select.reduce("reduce_sum", dtype, "last"), lower.select.join("add", dtype)
    lower.emit(reduce.instruction.name, dtype, shape, Use(total, "column"), ((reduce.tiles[0], source),), when=more)
    sources = tuple(zip(join.tiles, (Use(kept), Use(total)), strict=True))
    lower.emit(join.instruction.name, dtype, COLUMN if shape[0] else kept_shape, Use(kept), sources, when=more)


def _best(lower: Lowering, node: Node) -> None:
    """One round of top-k: what the round before found is taken out of a copy of the rows, and the largest of the rest is found.

    Of several largest it is the first, by the least place; what is taken out has a place behind all others. So elements that
    are as small as what stands for those taken out are found as well. NaN equals no maximum, so NaNs are marked at the start.
    """
    key = ("top", node.inputs[0].id)
    if key not in lower.shared:
        lower.shared[key] = _Round(lower, node).run()
    value, place = lower.shared[key]
    lower.where[node.id] = value if node.op == "best_values" else place


class _Round:
    """The instructions of a round over whole rows; the round is a dim of the space that no tile has."""

    def __init__(self, lower: Lowering, node: Node) -> None:
        self._lower = lower
        self._node = node
        space = lower.space
        self._dtype = node.inputs[0].type.dtype
        self._full = (space.row is not None, True)
        self._column = (self._full[0], False)
        inside = (space.row, space.col)
        self._rounds = tuple(dim for dim in lower.reduced if dim not in inside)

    def run(self) -> tuple[Reg, Reg]:
        """Columns of the largest and of its place."""
        lower, dtype = self._lower, self._dtype
        if not lower.reduced:
            place = lower.fill(0, "int32", self._column)
            return lower.where[self._node.inputs[0].id], place
        first, later = When("first", self._rounds), When("not_first", self._rounds)
        rows = self._keep(dtype)
        places = self._keep("int32")
        place = lower.register("keep", None, self._column, "int32")
        lower.move(
            lower.select.copy(dtype),
            self._full,
            Use(rows),
            lower.operand(self._node.inputs[0], self._full, first),
            first,
        )
        lower.move(lower.select.copy("int32"), self._full, Use(places), self._numbers(), first)
        nans = self._nans(rows, first) if DTYPES[dtype].kind == "float" else None
        behind = self._constant(lower.scalar(self._node.inputs[1]), "int32")
        if self._rounds:
            taken = self._binary(_EQUAL, "int32", "bool", places, self._spread(place, later), later)
            least = -inf if DTYPES[dtype].kind == "float" else -(1 << 31)
            self._select(rows, taken, self._constant(least, dtype), Use(rows), later)
            self._select(places, taken, behind, Use(places), later)
        largest = self._reduce("reduce_max", rows, lower.register("temp", None, self._column, dtype))
        found = self._binary(_EQUAL, dtype, "bool", rows, self._spread(largest, ALWAYS), ALWAYS)
        if nans is not None:
            found = self._binary(_OR, "bool", "bool", found, nans, ALWAYS)
        candidates = lower.register("temp", None, self._full, "int32")
        self._select(candidates, found, Use(places), behind, ALWAYS)
        return largest, self._reduce("reduce_min", candidates, place)

    def _keep(self, dtype: str) -> Reg:
        return self._lower.register("keep", None, self._full, dtype)

    def _numbers(self) -> Use:
        """0, 1, 2, ... for all rows."""
        lower = self._lower
        reg = lower.register("keep", None, ROW, "int32")
        _number(lower, reg, lower.space.col)
        return Use(reg, "spread" if self._full[0] else "plain")

    def _nans(self, rows: Reg, first: When) -> Reg:
        nans = self._keep("bool")
        name = _instruction(self._lower.select.isa, _DIFFERENT, self._dtype)
        self._lower.emit(name, self._dtype, self._full, Use(nans), (("a", Use(rows)), ("b", Use(rows))), when=first)
        return nans

    def _constant(self, value: float | int | bool | None, dtype: str) -> Use:
        assert value is not None, "the number of elements of a row is a scalar"
        return Use(self._lower.fill(value, dtype, ROW), "spread" if self._full[0] else "plain")

    def _spread(self, column: Reg, when: When) -> Reg:
        wide = self._lower.register("temp", None, self._full, column.dtype)
        pattern = self._lower.select.spread(column.dtype)
        self._lower.move(pattern, self._full, Use(wide), Use(column, "column"), when)
        return wide

    def _binary(self, semantics: str, dtype: str, result: str, a: Reg, b: Reg, when: When) -> Reg:
        target = self._lower.register("temp", None, self._full, result)
        name = _instruction(self._lower.select.isa, semantics, dtype)
        self._lower.emit(name, dtype, self._full, Use(target), (("a", Use(a)), ("b", Use(b))), when=when)
        return target

    def _select(self, target: Reg, condition: Reg, yes: Use, no: Use, when: When) -> None:
        name = _instruction(self._lower.select.isa, _SELECT, target.dtype)
        sources = (("a", yes), ("b", no), ("c", Use(condition)))
        self._lower.emit(name, target.dtype, self._full, Use(target), sources, when=when)

    def _reduce(self, op: str, source: Reg, target: Reg) -> Reg:
        reduce = self._lower.select.reduce(op, source.dtype, "last")
        sources = ((reduce.tiles[0], Use(source)),)
        name = reduce.instruction.name
        self._lower.emit(name, source.dtype, self._full, Use(target, "column"), sources, over="total")
        return target


ALONG_LOWERINGS = {
    "iota": _iota,
    "reduce_argmax": _row_place,
    "cumsum": _cumsum,
    **dict.fromkeys(BESTS.values(), _best),
}
"""How each operation is put into a tile program."""
