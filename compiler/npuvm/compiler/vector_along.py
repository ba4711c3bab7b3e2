"""Tile programs of operations along an axis: numbers of the places, and prefix sums.

Prefix sums of an axis that is cut into tiles go through its tiles in order on one core. What came before a tile is kept in a
register: a column or a row of sums, cleared at the first tile.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from npuvm.compiler.errors import CompileError
from npuvm.compiler.ir import Node
from npuvm.compiler.vector_regs import ALWAYS, COLUMN, ONCE, ROW, Numbered, Use, When
from npuvm.compiler.vector_select import immediate_bits
from npuvm.isa import Isa

if TYPE_CHECKING:
    from npuvm.compiler.vector_lower import Lowering

__all__ = ["ALONG_LOWERINGS"]

_NUMBERS = "dst = imm + step * (start + iota(cols))"
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
    """The numbers of this tile, made anew when another part of their axis comes; they are counted from 1, so 1 is taken off."""
    dtype, present = node.type.dtype, lower.space.present[node.id]
    along = next((dim for dim, flag in enumerate(present) if flag), None)
    reg = lower.where[node.id] = lower.register("keep", node, lower.shape(node))
    one, minus = (immediate_bits(number, dtype) for number in ((1.0, -1.0) if dtype == "fp32" else (1, -1)))
    lower.emit(
        _instruction(lower.select.isa, _NUMBERS, dtype),
        dtype,
        reg.shape,
        Use(reg),
        (),
        imm=("imm", minus),
        numbered=Numbered("start", along, ("step", one)),
        when=ONCE if along is None else When("changed", (along,)),
    )


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


ALONG_LOWERINGS = {"iota": _iota, "cumsum": _cumsum}
"""How each operation is put into a tile program."""
