"""Instruction selection of the vector unit: covers the operations of a segment with the cheapest instructions.

Nothing here knows an instruction by name. Instructions offer what their semantics say (`selection.patterns`), the segment is
read in the same terms (`selection.matching`), and dynamic programming takes for every node the instruction for which it and its
operands cost the fewest cycles on the chip, for a full tile. A value with several uses is paid by them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import REDUCES, Attrs
from npuvm.compiler.graph.rewrite import is_scalar
from npuvm.compiler.graph.types import DTYPES, TensorType
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.selection.accuracy import error_ulp
from npuvm.compiler.selection.matching import Match, Matcher
from npuvm.compiler.selection.named import instructions_named
from npuvm.compiler.selection.patterns import Pattern, pattern_table
from npuvm.compiler.selection.terms import Apply, Number, Scalar, compute_type
from npuvm.compiler.vector.select import Selector
from npuvm.compiler.vector.space import TileView
from npuvm.hw.config import NpuConfig, class_of
from npuvm.isa import Isa

__all__ = ["cover"]

_BUFFERS = 8
"""Tiles that share UB in a segment of middling size; instructions are priced for a tile that takes so great a part of it."""

_ROW_BYTES = 1024
"""Bytes of a row of the full tile."""

_FILL = 1.0
"""Cycles put on a constant that takes a tile of its own, so that an immediate is preferred; it is filled once a launch."""


def cover(segment: VectorSegment, tile: TileView, isa: Isa, chip: NpuConfig, *, again: bool = True) -> VectorSegment:
    """The segment with element-wise operations replaced by nodes `insn`, each one instruction.

    A reduce of whole rows or columns may become a node `reduce_insn`, together with the operations before it. `again`: an
    instruction may compute once more what is computed for others too, and so read a loaded tile late; a ring of one slot
    takes no other tile so long. CompileError when the instruction set has none for an operation.
    """
    return _Cover(segment, tile, isa, chip, again).run()


@dataclass(frozen=True, slots=True)
class _Choice:
    match: Match | None
    cycles: float


class _Cover:
    def __init__(self, segment: VectorSegment, tile: TileView, isa: Isa, chip: NpuConfig, again: bool) -> None:
        self._segment = segment
        self._isa = isa
        self._chip = chip
        self._tile = tile
        self._table = pattern_table(isa)
        inside = {node.id for node in segment.nodes}
        self._uses = Counter(each.id for node in segment.nodes for each in node.inputs)
        self._known = inside | {node.id for node, _ in segment.reads}
        self._written = {node.id for node, _ in segment.writes}
        self._matcher = Matcher(_users(segment), tile, contract=segment.allowed.contract, again=again)
        self._chosen: dict[int, _Choice] = {}

    def run(self) -> VectorSegment:
        for node in self._segment.nodes:
            if self._matcher.readings(node):
                self._chosen[node.id] = self._best(node, node, (*self._matches(node), *self._named(node)))
            elif node.op in (*REDUCES, "reduce_argmax") and self._tile.axis is not None:
                choice = self._best(node, node.inputs[0], self._reduces(node, self._tile.axis))
                if choice.match is not None and choice.match.tiles != node.inputs:
                    self._chosen[node.id] = choice
        return replace(self._segment, nodes=self._needed(), memo={})

    def _best(self, node: Node, work: Node, matches: Iterable[Match]) -> _Choice:
        """The cheapest of the matches of a node; as much is worked on as `work` has elements."""
        best: tuple[float, int, str] | None = None
        chosen: Match | None = None
        for match in matches:
            instruction = match.pattern.instruction
            rank = self._cycles(match, work), instruction.words, instruction.name
            if best is None or rank < best:
                best, chosen = rank, match
        return _Choice(chosen, best[0] if best is not None else 0.0)

    def _matches(self, node: Node) -> Iterator[Match]:
        """Instructions that give the value of the node, rounded as the kernel says."""
        keys = {(term.op, term.dtype) for term in self._matcher.readings(node) if isinstance(term, Apply)}
        for key in sorted(keys):
            for pattern in self._matcher.likely(self._table.operations.get(key, ()), node):
                match = self._matcher.match(pattern, node)
                if match is not None:
                    yield match

    def _reduces(self, node: Node, axis: str) -> Iterator[Match]:
        """Instructions that end in the reduce."""
        for pattern in self._table.reduces.get((node.op, axis, node.type.dtype), ()):
            match = self._matcher.match_reduce(pattern, node, axis)
            if match is not None:
                yield match

    def _named(self, node: Node) -> Iterator[Match]:
        """Instructions for an operation by its name, in another form, where the kernel allows their error."""
        named, ulp = self._segment.named.get(node.id), self._segment.allowed.approx_ulp
        if named is None or not ulp or named.input.id not in self._known:
            return
        for pattern in instructions_named(self._isa, named.op, named.approximate):
            types = self._tile_type(pattern, pattern.tiles[0]), pattern.result
            if types == (named.input.type.dtype, node.type.dtype) and error_ulp(self._isa, pattern) <= ulp:
                yield Match(pattern, (named.input,), None)

    def _cycles(self, match: Match, work: Node) -> float:
        """Cycles of the instruction and of its operands."""
        total = self._price(match.pattern, work)
        as_tiles = {each: name for name, each in zip(match.pattern.tiles, match.tiles, strict=True)}
        for each, name in as_tiles.items():
            if is_scalar(each):
                total += _FILL
                continue
            shared = max(1, self._uses[each.id])
            choice = self._chosen.get(each.id)
            if choice is not None and each.id not in self._written:
                total += choice.cycles / shared
            if each.id in self._tile.columns and work.id in self._tile.full and name not in match.pattern.columns:
                total += self._price(Selector(self._isa).spread(each.type.dtype), work) / shared
        return total

    def _price(self, pattern: Pattern, work: Node) -> float:
        """Cycles from the start of the instruction to its result, for a full tile or a row of one."""
        vector = self._chip.core.vector
        cost = class_of(vector, self._isa, pattern.instruction)
        types = [self._tile_type(pattern, name) for name in pattern.tiles]
        item = max(DTYPES[each].item_bytes for each in (pattern.result, *types))
        full = work.id in self._tile.full
        rows = max(1, self._chip.capacity_bytes("ub") // (_BUFFERS * _ROW_BYTES)) if full else 1
        repeats = -(-rows * (_ROW_BYTES // 4) * item // vector.repeat_bytes)
        slopes = repeats * cost.cycles_per_repeat + rows * cost.row_cycles
        return cost.startup_cycles + cost.latency_cycles + float(slopes)

    def _tile_type(self, pattern: Pattern, name: str) -> str:
        region = pattern.instruction.operand(name)
        return pattern.instruction.region_dtype(self._isa, region, *pattern.dtypes).name

    def _needed(self) -> list[Node]:
        """The chosen instructions, and what is none, from the results backwards."""
        needed = set(self._written)
        nodes: list[Node] = []
        for node in reversed(self._segment.nodes):
            if node.id in needed:
                choice = self._chosen.get(node.id)
                nodes.append(node if choice is None else self._instruction(node, choice.match))
                needed.update(each.id for each in nodes[-1].inputs)
        return nodes[::-1]

    def _instruction(self, node: Node, match: Match | None) -> Node:
        """The node of an instruction: its inputs are the tiles it reads in their order, then its immediate."""
        if match is None:
            types = ", ".join(dict.fromkeys(each.type.dtype for each in node.inputs))
            kinds = f"{types} to {node.type.dtype}" if node.op == "cast" else types
            raise CompileError(f"the instruction set has no instruction for {node.op} of {kinds}", node.where or None)
        pattern = match.pattern
        inputs, negated = list(match.tiles), False
        if match.immediate is not None:
            inputs.append(_scalar_node(match.immediate, pattern.dtypes[0]))
            negated = not isinstance(match.immediate, Number) and match.immediate.negated
        attrs: Attrs = {
            "instruction": pattern.instruction.name,
            "dtype": pattern.dtypes[0],
            "dtype2": pattern.dtypes[1] or "",
            "tiles": pattern.tiles,
            "columns": tuple(sorted(pattern.columns)),
            "immediate": pattern.immediate or "",
            "negated": negated,
        }
        op = "reduce_insn" if node.op in (*REDUCES, "reduce_argmax") else "insn"
        return Node(node.id, op, tuple(inputs), attrs, node.type, node.where, node.source)


def _users(segment: VectorSegment) -> dict[int, set[int]]:
    """Who reads the nodes of a segment, by id; memory is -1."""
    users: dict[int, set[int]] = {node.id: set() for node in segment.nodes}
    for node in segment.nodes:
        for each in node.inputs:
            if each.id in users:
                users[each.id].add(node.id)
    for node, _ in segment.writes:
        if node.id in users:
            users[node.id].add(-1)
    return users


def _scalar_node(scalar: Number | Scalar, dtype: str) -> Node:
    """The node of an immediate; a number that the normal form made gets one in the type that is computed in."""
    if isinstance(scalar, Scalar):
        return scalar.node
    kind = compute_type(dtype)
    value = float(scalar.value) if DTYPES[kind].kind == "float" else scalar.value
    return Node(-1, "const", (), {"dtype": kind, "value": value}, TensorType(kind, ()))
