"""Lowers the operations of a vector segment to vector instructions on tile registers, before any tile size is known.

A register is a place for a tile in UB: full (rows x cols), a row (one for all rows), a column (one element for each row, stored
densely), or a single element. Element-wise work on a column treats it as a row of as many elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from npuvm.compiler.errors import CompileError
from npuvm.compiler.ir import Node
from npuvm.compiler.ops import REDUCES
from npuvm.compiler.patterns import Pattern
from npuvm.compiler.rewrite import is_scalar
from npuvm.compiler.segments import VectorSegment
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.symint import SymInt
from npuvm.compiler.vector_select import Selector, carried, immediate_bits
from npuvm.compiler.vector_space import Space

__all__ = ["ALWAYS", "Reg", "Shape", "Use", "VecInsn", "VecProgram", "When", "lower_vector"]

Shape = tuple[bool, bool]
"""Whether a tile has rows and cols: full (True, True), row (False, True), column (True, False), element (False, False)."""

_JOINS = {"reduce_sum": "add", "reduce_max": "max", "reduce_min": "min"}

_FULL: Shape = (True, True)
_ROW: Shape = (False, True)
_COLUMN: Shape = (True, False)


@dataclass(frozen=True, slots=True)
class When:
    """When an instruction runs.

    always; at the first, not the first, or the last iteration of the loops over `dims`; or when one of them changed (with no
    dims: once on each core).
    """

    kind: str = "always"
    dims: tuple[int, ...] = ()


ALWAYS = When()
_ONCE = When("changed")


@dataclass(slots=True, eq=False)
class Reg:
    """A tile register.

    `kind`: "in" is filled by loads, "out" is emptied by stores, "temp" lives within a tile, "keep" for the whole program.
    An "in" with `writes` is stored as it came, without the vector unit. `when` says in which tiles an "out" is written.
    """

    name: str
    kind: str
    shape: Shape
    dtype: str
    read: int | None = None
    writes: list[int] = field(default_factory=list)
    when: When = ALWAYS

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype}"


@dataclass(frozen=True, slots=True)
class Use:
    """A register as an operand: `plain` in its own shape, `spread` (every row the same), or `column` ([rows, 1])."""

    reg: Reg
    how: str = "plain"


@dataclass(frozen=True, slots=True)
class VecInsn:
    """A vector instruction over a tile of `shape`; `sources` by operand name.

    `imm` is the operand that holds a number, and its bits. `over` says which size counts: "tile" the size of this tile, "full"
    that of the largest, "total" this tile's where dims stay and the largest tile's where they are reduced.
    """

    op: str
    dtype: str
    shape: Shape
    dst: Use
    sources: tuple[tuple[str, Use], ...] = ()
    dtype2: str | None = None
    imm: tuple[str, int] | None = None
    when: When = ALWAYS
    over: str = "tile"
    text: str | None = None


@dataclass(frozen=True, slots=True)
class VecProgram:
    """The instructions of one tile, and all registers."""

    insns: tuple[VecInsn, ...]
    regs: tuple[Reg, ...]


def lower_vector(segment: VectorSegment, space: Space, binding: Mapping[str, int], select: Selector) -> VecProgram:
    """The tile program of a segment. Raises CompileError when the instruction set lacks an operation."""
    return _Lower(segment, space, binding, select).run()


class _Lower:
    def __init__(self, segment: VectorSegment, space: Space, binding: Mapping[str, int], select: Selector) -> None:
        self._segment = segment
        self._space = space
        self._binding = binding
        self._select = select
        self._insns: list[VecInsn] = []
        self._regs: list[Reg] = []
        self._where: dict[int, Reg] = {}
        self._scalars: dict[int, float | int | bool] = {}
        self._spread: dict[tuple[object, ...], Use] = {}
        self._fills: dict[tuple[object, ...], Reg] = {}
        self._late: set[int] = set()
        self._writes: dict[int, list[int]] = {}
        for at, transfer in enumerate(space.writes):
            self._writes.setdefault(transfer.node.id, []).append(at)
        self._reduced = tuple(dim for dim, flag in enumerate(space.reduced) if flag)
        self._accumulates = bool(self._reduced) and not space.whole

    def run(self) -> VecProgram:
        used = {each.id for node in self._segment.nodes for each in node.inputs}
        for at, transfer in enumerate(self._space.reads):
            node = transfer.node
            reg = self._reg("in", node, self._shape(node), name=transfer.access.tensor.name)
            reg.read = at
            self._where[node.id] = reg
            everywhere = all(self._space.present[node.id])
            if node.id in self._writes and node.id not in used and everywhere:
                reg.writes = self._writes.pop(node.id)
        for node in self._segment.nodes:
            self._node(node)
        for places in list(self._writes.values()):
            self._copy_out(self._space.writes[places[0]].node)
        fills_first = sorted(self._insns, key=lambda insn: insn.when is not _ONCE)
        return VecProgram(tuple(fills_first), tuple(self._regs))

    # Registers.

    def _reg(self, kind: str, node: Node | None, shape: Shape, dtype: str = "", name: str = "") -> Reg:
        count = sum(each.name.split(".")[0] == name for each in self._regs) if name else 0
        title = (f"{name}.{count}" if count else name) if name else f"t{sum(each.kind != 'in' for each in self._regs)}"
        reg = Reg(title, kind, shape, node.type.dtype if node is not None else dtype)
        self._regs.append(reg)
        return reg

    def _shape(self, node: Node) -> Shape:
        return self._space.has(node, self._space.row), self._space.has(node, self._space.col)

    def _when(self, node: Node) -> When:
        return When("last", self._reduced) if node.id in self._late else ALWAYS

    def _target(self, node: Node) -> Reg:
        """Where the value of a node is computed: straight in the ring of its output, if that is written in the same tiles."""
        if node.id in self._writes:
            absent = tuple(dim for dim, flag in enumerate(self._space.present[node.id]) if not flag)
            inside_tile = self._space.whole and absent == self._reduced
            when = self._when(node)
            if not absent or inside_tile or (node.id in self._late and absent == self._reduced):
                return self._out(node, when)
        return self._reg("temp", node, self._shape(node))

    def _out(self, node: Node, when: When) -> Reg:
        places = self._writes.pop(node.id)
        reg = self._reg("out", node, self._shape(node), name=self._space.writes[places[0]].access.tensor.name)
        reg.writes = places
        reg.when = when
        return reg

    def _copy_out(self, node: Node) -> None:
        """A value that is not computed in its output's ring goes there by a move, in the tiles that own it."""
        absent = tuple(dim for dim, flag in enumerate(self._space.present[node.id]) if not flag)
        when = self._when(node)
        if when is ALWAYS and absent:
            when = When("first", absent)
        shape = self._shape(node)
        value = self._scalar(node)
        if value is not None:
            dst = Use(self._out(node, when))
            self._fill_tile(dst, shape, value, node.type.dtype, when)
            return
        source = self._where[node.id]
        if shape == _FULL and source.shape == _COLUMN:
            dst = Use(self._out(node, when))
            self._move(self._select.spread(source.dtype), shape, dst, Use(source, "column"), when)
            return
        operand = self._operand(node, shape, self._when(node))
        dst = Use(self._out(node, when))
        self._move(self._select.copy(node.type.dtype), shape, dst, operand, when)

    def _move(self, pattern: Pattern, shape: Shape, dst: Use, source: Use, when: When) -> None:
        """An instruction of one tile."""
        self._emit(pattern.instruction.name, pattern.dtypes[0], shape, dst, ((pattern.tiles[0], source),), when=when)

    def _fill_tile(
        self, dst: Use, shape: Shape, value: float | int | bool, dtype: str, when: When, over: str = "tile"
    ) -> None:
        pattern = self._select.fill(dtype)
        carrier = pattern.dtypes[0]
        imm = pattern.immediate or "", immediate_bits(carried(value, dtype, carrier), carrier)
        self._emit(pattern.instruction.name, carrier, shape, dst, (), imm=imm, when=when, over=over)

    # Operands.

    def _scalar(self, node: Node) -> float | int | bool | None:
        """The value of a constant or size, if the node is one."""
        if node.id in self._scalars:
            return self._scalars[node.id]
        if not is_scalar(node):
            return None
        if node.op == "const":
            return node.number()
        count = prod(evaluate(node.dims("dims"), self._binding))
        return count if node.type.dtype == "int32" or isinstance(count, SymInt) else float(count)

    def _operand(self, node: Node, shape: Shape, when: When) -> Use:
        """The value as an operand of an instruction over a tile of `shape`."""
        value = self._scalar(node)
        if value is not None:
            row = _ROW if shape == _FULL else shape
            return Use(self._fill(value, node.type.dtype, row), "spread" if shape == _FULL else "plain")
        return self._expanded(self._where[node.id], shape, when)

    def _fill(self, value: float | int | bool, dtype: str, shape: Shape) -> Reg:
        bits = immediate_bits(value, dtype)
        key = (bits, dtype, shape)
        if key not in self._fills:
            reg = self._fills[key] = self._reg("keep", None, shape, dtype)
            self._fill_tile(Use(reg), shape, value, dtype, _ONCE, over="full")
        return self._fills[key]

    def _expanded(self, reg: Reg, shape: Shape, when: When) -> Use:
        if reg.shape == shape:
            return Use(reg)
        if shape == _FULL and reg.shape == _ROW:
            return Use(reg, "spread")
        key = (reg.name, shape, when)
        if key not in self._spread:
            wide = _ROW if shape == _FULL and reg.shape == (False, False) else shape
            target = self._reg("temp", None, wide, reg.dtype)
            self._move(self._select.spread(reg.dtype), wide, Use(target), Use(reg, "column"), when)
            self._spread[key] = Use(target, "spread" if wide != shape else "plain")
        return self._spread[key]

    # Nodes.

    def _node(self, node: Node) -> None:
        if any(each.id in self._late for each in node.inputs) or (node.op in REDUCES and self._accumulates):
            self._late.add(node.id)
        if node.op == "broadcast_to":
            self._alias(node)
        elif node.op in REDUCES:
            self._reduce(node)
        elif node.op == "insn":
            self._insn(node)
        elif node.op == "reduce_insn":
            self._reduce_insn(node)
        elif node.op == "asm":
            self._asm(node)
        else:
            raise CompileError(f"the vector unit has no '{node.op}'", node.where or None)

    def _alias(self, node: Node) -> None:
        value = self._scalar(node.inputs[0])
        if value is not None:
            self._scalars[node.id] = value
        else:
            self._where[node.id] = self._where[node.inputs[0].id]

    def _emit(
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
    ) -> None:
        self._insns.append(VecInsn(op, dtype, shape, dst, tuple(sources), dtype2, imm, when, over, text))

    def _insn(self, node: Node) -> None:
        """A chosen instruction."""
        sources, imm = self._tiles(node, self._shape(node), self._when(node))
        target = self._where[node.id] = self._target(node)
        self._emit_chosen(node, target.shape, Use(target), sources, imm)

    def _reduce_insn(self, node: Node) -> None:
        """A chosen instruction that ends in a reduce of the tile."""
        shape = (self._space.row is not None, True)
        sources, imm = self._tiles(node, shape, ALWAYS)
        target = self._where[node.id] = self._target(node)
        use = Use(target, "column" if self._space.reduced[self._space.col] else "plain")
        self._emit_chosen(node, shape, use, sources, imm, over="total")

    def _tiles(self, node: Node, shape: Shape, when: When) -> tuple[list[tuple[str, Use]], tuple[str, int] | None]:
        """The tiles that a chosen instruction reads, by operand, and its immediate."""
        columns = node.dims("columns")
        sources: list[tuple[str, Use]] = []
        for name, each in zip(node.dims("tiles"), node.inputs, strict=False):
            if name in columns:
                use = Use(self._operand(each, _COLUMN, when).reg, "column")
            else:
                use = self._operand(each, shape, when)
            sources.append((str(name), use))
        if not node.attrs["immediate"]:
            return sources, None
        number = node.inputs[-1]
        value = self._scalar(number)
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
        self._emit(op, dtype, shape, dst, sources, dtype2=dtype2 or None, imm=imm, when=self._when(node), over=over)

    def _asm(self, node: Node) -> None:
        shape, when = self._shape(node), self._when(node)
        sources = [(str(at), self._operand(each, shape, when)) for at, each in enumerate(node.inputs)]
        target = self._where[node.id] = self._target(node)
        text = str(node.attrs["text"])
        self._emit("asm", node.type.dtype, target.shape, Use(target), sources, when=when, text=text)

    def _reduce(self, node: Node) -> None:
        """A reduce of the tile; when tiles are accumulated, they are joined element by element and reduced after the last."""
        if not self._reduced:
            self._late.discard(node.id)
            self._alias(node)
            return
        space, dtype = self._space, node.type.dtype
        shape = (space.row is not None, True)
        source = self._operand(node.inputs[0], shape, ALWAYS)
        if self._accumulates:
            total = self._reg("keep", None, shape, dtype)
            copy, join = self._select.copy(dtype), self._select.join(_JOINS[node.op], dtype)
            self._move(copy, shape, Use(total), source, When("first", self._reduced))
            sources = tuple(zip(join.tiles, (Use(total), source), strict=True))
            later = When("not_first", self._reduced)
            self._emit(join.instruction.name, dtype, shape, Use(total), sources, when=later)
            source = Use(total)
        last = space.reduced[space.col]
        reduce = self._select.reduce(node.op, dtype, "last" if last else "first")
        target = self._where[node.id] = self._target(node)
        use = Use(target, "column" if last else "plain")
        sources = ((reduce.tiles[0], source),)
        self._emit(reduce.instruction.name, dtype, shape, use, sources, when=self._when(node), over="total")
