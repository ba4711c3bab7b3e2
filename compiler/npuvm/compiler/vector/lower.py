"""Lowers the operations of a vector segment to vector instructions on tile registers, before any tile size is known.

A register is a place for a tile in UB: full (rows x cols), a row (one for all rows), a column (one element for each row, stored
densely), or a single element. Element-wise work on a column treats it as a row of as many elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import REDUCES
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.cut import neutral
from npuvm.compiler.selection.patterns import Pattern
from npuvm.compiler.vector.along import ALONG_LOWERINGS
from npuvm.compiler.vector.regs import (
    ALWAYS,
    COLUMN,
    FULL,
    ONCE,
    ROW,
    Numbered,
    Reg,
    Shape,
    Use,
    VecInsn,
    VecProgram,
    When,
)
from npuvm.compiler.vector.select import Selector, carried, immediate_bits
from npuvm.compiler.vector.space import Space

__all__ = ["ALWAYS", "Lowering", "Reg", "Shape", "Use", "VecInsn", "VecProgram", "When", "lower_vector"]

_JOINS = {"reduce_sum": "add", "reduce_prod": "mul", "reduce_max": "max", "reduce_min": "min"}


def lower_vector(segment: VectorSegment, space: Space, binding: Mapping[str, int], select: Selector) -> VecProgram:
    """The tile program of a segment. Raises CompileError when the instruction set lacks an operation."""
    return Lowering(segment, space, binding, select).run()


class Lowering:
    """The tile program of a segment as it grows; operations that have a module of their own add to it through these methods."""

    def __init__(self, segment: VectorSegment, space: Space, binding: Mapping[str, int], select: Selector) -> None:
        self._segment = segment
        self.space = space
        self._binding = binding
        self.select = select
        self._insns: list[VecInsn] = []
        self._regs: list[Reg] = []
        self.where: dict[int, Reg] = {}
        self._scalars: dict[int, float | int | bool] = {}
        self._spread: dict[tuple[object, ...], Use] = {}
        self._fills: dict[tuple[object, ...], Reg] = {}
        self._late: set[int] = set()
        self.shared: dict[tuple[str, int], tuple[Reg, Reg]] = {}
        self._writes: dict[int, list[int]] = {}
        for at, transfer in enumerate(space.writes):
            self._writes.setdefault(transfer.node.id, []).append(at)
        self.reduced = tuple(dim for dim, flag in enumerate(space.reduced) if flag)
        self._accumulates = bool(self.reduced) and not space.whole

    def run(self) -> VecProgram:
        used = {each.id for node in self._segment.nodes for each in node.inputs}
        for at, transfer in enumerate(self.space.reads):
            node = transfer.node
            reg = self.register("in", node, self.shape(node), name=transfer.access.tensor.name)
            reg.read = at
            self.where[node.id] = reg
            everywhere = self.space.fills(node)
            if node.id in self._writes and node.id not in used and everywhere:
                reg.writes = self._writes.pop(node.id)
        for node in self._segment.nodes:
            self._node(node)
        for places in list(self._writes.values()):
            self._copy_out(self.space.writes[places[0]].node)
        fills_first = sorted(self._insns, key=lambda insn: insn.when is not ONCE)
        return VecProgram(tuple(fills_first), tuple(each for each in self._regs if self._needed(each)))

    def _needed(self, reg: Reg) -> bool:
        """Whether what is loaded is used: the place of the only element of a row does not depend on it."""
        picked = any(each.picks is not None for each in self.space.reads)
        uses = (use.reg for insn in self._insns for _, use in insn.sources)
        return picked or reg.kind != "in" or bool(reg.writes) or any(each is reg for each in uses)

    # Registers.

    def register(self, kind: str, node: Node | None, shape: Shape, dtype: str = "", name: str = "") -> Reg:
        count = sum(each.name.split(".")[0] == name for each in self._regs) if name else 0
        title = (f"{name}.{count}" if count else name) if name else f"t{sum(each.kind != 'in' for each in self._regs)}"
        reg = Reg(title, kind, shape, node.type.dtype if node is not None else dtype)
        self._regs.append(reg)
        return reg

    def shape(self, node: Node) -> Shape:
        return self.space.has(node, self.space.row), self.space.has(node, self.space.col)

    def _when(self, node: Node) -> When:
        return When("last", self.reduced) if node.id in self._late else ALWAYS

    def target(self, node: Node) -> Reg:
        """Where the value of a node is computed: straight in the ring of its output, if that is written in the same tiles."""
        if node.id in self._writes:
            absent = tuple(dim for dim, flag in enumerate(self.space.present[node.id]) if not flag)
            inside_tile = self.space.whole and absent == self.reduced
            when = self._when(node)
            if not absent or inside_tile or (node.id in self._late and absent == self.reduced):
                return self._out(node, when)
        return self.register("temp", node, self.shape(node))

    def _out(self, node: Node, when: When) -> Reg:
        places = self._writes.pop(node.id)
        reg = self.register("out", node, self.shape(node), name=self.space.writes[places[0]].access.tensor.name)
        reg.writes = places
        reg.when = when
        return reg

    def _copy_out(self, node: Node) -> None:
        """A value that is not computed in its output's ring goes there by a move, in the tiles that own it."""
        absent = tuple(dim for dim, flag in enumerate(self.space.present[node.id]) if not flag)
        when = self._when(node)
        if when is ALWAYS and absent:
            when = When("first", absent)
        shape = self.shape(node)
        value = self.scalar(node)
        if value is not None:
            dst = Use(self._out(node, when))
            self.fill_tile(dst, shape, value, node.type.dtype, when)
            return
        source = self.where[node.id]
        if shape == FULL and source.shape == COLUMN:
            dst = Use(self._out(node, when))
            self.move(self.select.spread(source.dtype), shape, dst, Use(source, "column"), when)
            return
        operand = self.operand(node, shape, self._when(node))
        dst = Use(self._out(node, when))
        self.move(self.select.copy(node.type.dtype), shape, dst, operand, when)

    def move(self, pattern: Pattern, shape: Shape, dst: Use, source: Use, when: When) -> None:
        """An instruction of one tile."""
        self.emit(pattern.instruction.name, pattern.dtypes[0], shape, dst, ((pattern.tiles[0], source),), when=when)

    def fill_tile(
        self, dst: Use, shape: Shape, value: float | int | bool, dtype: str, when: When, over: str = "tile"
    ) -> None:
        pattern = self.select.fill(dtype)
        carrier = pattern.dtypes[0]
        imm = pattern.immediate or "", immediate_bits(carried(value, dtype, carrier), carrier)
        self.emit(pattern.instruction.name, carrier, shape, dst, (), imm=imm, when=when, over=over)

    # Operands.

    def scalar(self, node: Node) -> float | int | bool | None:
        """The value of a constant or size, if the node is one."""
        if node.id in self._scalars:
            return self._scalars[node.id]
        if not is_scalar(node):
            return None
        if node.op == "const":
            return node.number()
        count = prod(evaluate(node.dims("dims"), self._binding))
        return count if node.type.dtype == "int32" or isinstance(count, SymInt) else float(count)

    def operand(self, node: Node, shape: Shape, when: When) -> Use:
        """The value as an operand of an instruction over a tile of `shape`."""
        value = self.scalar(node)
        if value is not None:
            row = ROW if shape == FULL else shape
            return Use(self.fill(value, node.type.dtype, row), "spread" if shape == FULL else "plain")
        return self._expanded(self.where[node.id], shape, when)

    def fill(self, value: float | int | bool, dtype: str, shape: Shape) -> Reg:
        bits = immediate_bits(value, dtype)
        key = (bits, dtype, shape)
        if key not in self._fills:
            reg = self._fills[key] = self.register("keep", None, shape, dtype)
            self.fill_tile(Use(reg), shape, value, dtype, ONCE, over="full")
        return self._fills[key]

    def _expanded(self, reg: Reg, shape: Shape, when: When) -> Use:
        if reg.shape == shape:
            return Use(reg)
        if shape == FULL and reg.shape == ROW:
            return Use(reg, "spread")
        key = (reg.name, shape, when)
        if key not in self._spread:
            wide = ROW if shape == FULL and reg.shape == (False, False) else shape
            target = self.register("temp", None, wide, reg.dtype)
            self.move(self.select.spread(reg.dtype), wide, Use(target), Use(reg, "column"), when)
            self._spread[key] = Use(target, "spread" if wide != shape else "plain")
        return self._spread[key]

    # Nodes.

    def _node(self, node: Node) -> None:
        if any(each.id in self._late for each in node.inputs) or (node.op in REDUCES and self._accumulates):
            self._late.add(node.id)
        if node.op == "broadcast_to":
            self.alias(node)
        elif node.op in REDUCES:
            self._reduce(node)
        elif node.op in ALONG_LOWERINGS:
            ALONG_LOWERINGS[node.op](self, node)
        elif node.op == "insn":
            self._insn(node)
        elif node.op == "reduce_insn":
            self._reduce_insn(node)
        elif node.op == "asm":
            self._asm(node)
        else:
            raise CompileError(f"the vector unit has no '{node.op}'", node.where or None)

    def alias(self, node: Node) -> None:
        value = self.scalar(node.inputs[0])
        if value is not None:
            self._scalars[node.id] = value
        else:
            self.where[node.id] = self.where[node.inputs[0].id]

    def emit(
        self,
        op: str,
        dtype: str,
        shape: Shape,
        dst: Use,
        sources: Sequence[tuple[str, Use]],
        *,
        dtype2: str | None = None,
        imm: tuple[str, int] | None = None,
        when: When = ALWAYS,
        over: str = "tile",
        text: str | None = None,
        numbered: Numbered | None = None,
    ) -> None:
        """Append an instruction, see `VecInsn`."""
        self._insns.append(VecInsn(op, dtype, shape, dst, tuple(sources), dtype2, imm, when, over, text, numbered))

    def zero(self, dtype: str) -> float | int:
        """Zero as a number of the dtype."""
        return 0.0 if DTYPES[dtype].kind == "float" else 0

    def _insn(self, node: Node) -> None:
        """A chosen instruction."""
        sources, imm = self._tiles(node, self.shape(node), self._when(node))
        target = self.where[node.id] = self.target(node)
        self._emit_chosen(node, target.shape, Use(target), sources, imm)

    def _reduce_insn(self, node: Node) -> None:
        """A chosen instruction that ends in a reduce of the tile."""
        shape = (self.space.row is not None, True)
        sources, imm = self._tiles(node, shape, ALWAYS)
        target = self.where[node.id] = self.target(node)
        use = Use(target, "column" if self.space.reduced[self.space.col] else "plain")
        self._emit_chosen(node, shape, use, sources, imm, over="total")

    def _tiles(self, node: Node, shape: Shape, when: When) -> tuple[list[tuple[str, Use]], tuple[str, int] | None]:
        """The tiles that a chosen instruction reads, by operand, and its immediate."""
        columns = node.dims("columns")
        sources: list[tuple[str, Use]] = []
        for name, each in zip(node.dims("tiles"), node.inputs, strict=False):
            if name in columns:
                use = Use(self.operand(each, COLUMN, when).reg, "column")
            else:
                use = self.operand(each, shape, when)
            sources.append((str(name), use))
        if not node.attrs["immediate"]:
            return sources, None
        number = node.inputs[-1]
        value = self.scalar(number)
        if value is None:
            raise CompileError(f"%{number.id} is no number for the immediate of {node!r}", node.where or None)
        bits = immediate_bits(-value if node.attrs["negated"] else value, number.type.dtype)
        return sources, (str(node.attrs["immediate"]), bits)

    def _emit_chosen(
        self,
        node: Node,
        shape: Shape,
        dst: Use,
        sources: Sequence[tuple[str, Use]],
        imm: tuple[str, int] | None,
        over: str = "tile",
    ) -> None:
        op, dtype, dtype2 = (str(node.attrs[name]) for name in ("instruction", "dtype", "dtype2"))
        self.emit(op, dtype, shape, dst, sources, dtype2=dtype2 or None, imm=imm, when=self._when(node), over=over)

    def _asm(self, node: Node) -> None:
        shape, when = self.shape(node), self._when(node)
        sources = [(str(at), self.operand(each, shape, when)) for at, each in enumerate(node.inputs)]
        target = self.where[node.id] = self.target(node)
        text = str(node.attrs["text"])
        self.emit("asm", node.type.dtype, target.shape, Use(target), sources, when=when, text=text)

    def _reduce(self, node: Node) -> None:
        """A reduce of the tile; when tiles are accumulated, they are joined element by element and reduced after the last."""
        if not self.reduced:
            self._late.discard(node.id)
            self.alias(node)
            return
        space, dtype = self.space, node.type.dtype
        shape = (space.row is not None, True)
        source = self.operand(node.inputs[0], shape, ALWAYS)
        if self._accumulates:
            total = self.register("keep", None, shape, dtype)
            copy, join = self.select.copy(dtype), self.select.join(_JOINS[node.op], dtype)
            sources = tuple(zip(join.tiles, (Use(total), source), strict=True))
            begin, later = When("first", self.reduced), When("not_first", self.reduced)
            if space.cut is None:
                self.move(copy, shape, Use(total), source, begin)
            else:  # the first tile of the last chunk may be a smaller one
                self.fill_tile(Use(total), shape, neutral(node.op, dtype), dtype, begin, over="full")
                later = ALWAYS
            self.emit(join.instruction.name, dtype, shape, Use(total), sources, when=later)
            source = Use(total)
        last = space.reduced[space.col]
        reduce = self.select.reduce(node.op, dtype, "last" if last else "first")
        target = self.where[node.id] = self.target(node)
        use = Use(target, "column" if last else "plain")
        sources = ((reduce.tiles[0], source),)
        self.emit(reduce.instruction.name, dtype, shape, use, sources, when=self._when(node), over="total")
