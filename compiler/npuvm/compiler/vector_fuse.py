"""Covers several operations of a segment by one instruction whose semantics are their composition.

The expressions come from the instruction set, extensions included: an instruction `dst = a * b + c` takes the place of a
product whose only use is a sum. Only types that are computed in themselves (fp32, int32) are covered, where one instruction
rounds as the several did; fp16 and bf16 would round once instead of every time.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from npuvm.isa import Instruction, Isa

from .ir import Node
from .ops import BINARY, UNARY, Attrs
from .rewrite import is_scalar
from .segments import VectorSegment

__all__ = ["Pattern", "fuse", "patterns"]

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow", ast.BitAnd: "and", ast.BitOr: "or",
    ast.BitXor: "xor", ast.USub: "neg",
}  # fmt: skip
_CALLS = frozenset(("abs", "exp", "log", "sqrt", "floor", "ceil", "rint", "trunc", "max", "min"))
_COMMUTATIVE = frozenset(("add", "mul", "max", "min", "and", "or", "xor"))
_SPELLED = {"relu": ("max", 1, 0), "reciprocal": ("div", 0, 1)}
"""Graph operations that are another one with a constant: which, and the place and value of the constant."""

Tree = str | float | tuple[str, tuple["Tree", ...]]
"""An operand's name, a constant, or an operation of trees."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What an instruction computes, as a tree of graph operations; `size` is the number of operations."""

    name: str
    dtypes: frozenset[str]
    tree: tuple[str, tuple[Tree, ...]]
    size: int


_PATTERNS: dict[str, tuple[Pattern, ...]] = {}


def patterns(isa: Isa) -> tuple[Pattern, ...]:
    """Patterns of the vector instructions that do more than one operation, larger ones first."""
    found = _PATTERNS.get(isa.hash)
    if found is None:
        made = [pattern for each in isa.instructions.values() if (pattern := _pattern(isa, each)) is not None]
        found = _PATTERNS[isa.hash] = tuple(sorted(made, key=lambda pattern: (-pattern.size, pattern.name)))
    return found


def fuse(segment: VectorSegment, isa: Isa) -> VectorSegment:
    """The segment with covered operations replaced by nodes `fused` that name their instruction."""
    available = patterns(isa)
    if not available:
        return segment
    uses = Counter(each.id for node in segment.nodes for each in node.inputs)
    uses.update(node.id for node, _ in segment.writes)
    inside = {node.id: node for node in segment.nodes}
    covered: set[int] = set()
    nodes: list[Node] = []
    for node in reversed(segment.nodes):
        if node.id in covered:
            continue
        for pattern in available:
            match = _Match(inside, uses, node)
            if node.type.dtype in pattern.dtypes and match.take(pattern.tree, node, top=True):
                covered |= match.covered
                nodes.append(match.node(pattern))
                break
        else:
            nodes.append(node)
    return replace(segment, nodes=nodes[::-1], memo={}) if covered else segment


class _Match:
    """One attempt to cover the tree that ends in a node."""

    def __init__(self, inside: dict[int, Node], uses: Counter[int], root: Node) -> None:
        self._inside = inside
        self._uses = uses
        self._root = root
        self.bound: dict[str, Node] = {}
        self.covered: set[int] = set()

    def node(self, pattern: Pattern) -> Node:
        """The covering node; its inputs are in the order of `attrs["operands"]`."""
        names = tuple(sorted(name for name in self.bound if name != "imm"))
        inputs = [self.bound[name] for name in (*names, *(["imm"] if "imm" in self.bound else []))]
        attrs: Attrs = {"instruction": pattern.name, "operands": names}
        return Node(self._root.id, "fused", tuple(inputs), attrs, self._root.type, self._root.where)

    def take(self, tree: Tree, node: Node, *, top: bool = False) -> bool:
        """Bind the operands of the tree so that it computes the node."""
        if isinstance(tree, str):
            return self._bind(tree, node)
        if isinstance(tree, float):
            return node.op == "const" and node.number() == tree
        if not top and not self._inner(node):
            return False
        op, operands = tree
        for given in _readings(op, node):
            before = dict(self.bound), set(self.covered)
            if len(given) == len(operands) and all(
                each == tree_part if isinstance(each, float) else self.take(tree_part, each)
                for tree_part, each in zip(operands, given, strict=True)
            ):
                self.covered |= set() if top else {node.id}
                return True
            self.bound, self.covered = before
        return False

    def _bind(self, name: str, node: Node) -> bool:
        if (name == "imm") != is_scalar(node):
            return False
        return self.bound.setdefault(name, node) is node

    def _inner(self, node: Node) -> bool:
        """Whether nothing else needs the value, and it is of the root's type."""
        return node.id in self._inside and self._uses[node.id] == 1 and node.type == self._root.type


def _readings(op: str, node: Node) -> Iterator[Sequence[Node | float]]:
    """The operands of the node when it is read as the operation `op`, in every order that means the same."""
    if node.op == op:
        yield node.inputs
        if op in _COMMUTATIVE:
            yield node.inputs[::-1]
    elif node.op in _SPELLED and _SPELLED[node.op][0] == op:
        _, place, value = _SPELLED[node.op]
        pair: list[Node | float] = [node.inputs[0]]
        pair.insert(place, float(value))
        yield pair


def _pattern(isa: Isa, instruction: Instruction) -> Pattern | None:
    if instruction.unit != "vector" or not instruction.semantics or instruction.dtype2_bits is not None:
        return None
    if any(region.dtype != "dtype" or region.shape != ("rows", "cols") for region in instruction.regions):
        return None
    target, _, text = instruction.semantics.partition("=")
    tree = _tree(ast.parse(text.strip(), mode="eval").body)
    if target.strip() != "dst" or not isinstance(tree, tuple) or _size(tree) < 2:
        return None
    exact = {dtype for dtype, _ in instruction.dtypes if isa.dtypes[dtype].compute == dtype}
    return Pattern(instruction.name, frozenset(exact), tree, _size(tree))


def _tree(node: ast.expr) -> Tree | None:
    """The expression as graph operations; None when it has one that the graph lacks."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _OPERATORS:
            return _operation(_OPERATORS[type(operator)], [operand])
        case ast.BinOp(op=operator, left=left, right=right) if type(operator) in _OPERATORS:
            return _operation(_OPERATORS[type(operator)], [left, right])
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CALLS:
            return _operation(name, args)
    return None


def _operation(op: str, operands: Sequence[ast.expr]) -> Tree | None:
    if op not in UNARY and op not in BINARY:
        return None
    trees = [tree for tree in map(_tree, operands) if tree is not None]
    return (op, tuple(trees)) if len(trees) == len(operands) else None


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree[1])) if isinstance(tree, tuple) else 0
