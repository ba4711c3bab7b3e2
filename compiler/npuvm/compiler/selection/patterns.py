"""What the vector instructions of an instruction set compute, as terms; read from their semantics, extensions included."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.selection.terms import Apply, Immediate, Leaf, Number, Term, apply, cast, compute_type, type_of
from npuvm.isa import Instruction, Isa

__all__ = ["Pattern", "PatternTable", "pattern_table", "read_semantics", "uncast"]

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow", ast.BitAnd: "and", ast.BitOr: "or",
    ast.BitXor: "xor", ast.USub: "neg", ast.Invert: "logical_not", ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt",
    ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip
"""Operators of the semantics language by the names that the graph gives them."""

_SPELLED = {"where": "select"}
"""Functions of the semantics language that the graph calls otherwise; all others have one name in both."""

_FOLDED = {"add", "sub", "mul", "div", "neg"}

_FULL = ("rows", "cols")
_COLUMN = ("rows", 1)


@dataclass(frozen=True, slots=True)
class Pattern:
    """An instruction for one combination of types: `term` is what it writes, rounded as it rounds.

    `dtypes` are its two type fields, `result` is the type written; `tiles` names the operands read, `immediate` the operand
    that holds a number, if there is one. `columns` are tiles with one element for each row.
    """

    instruction: Instruction
    dtypes: tuple[str, str | None]
    result: str
    term: Term
    tiles: tuple[str, ...]
    columns: frozenset[str]
    immediate: str | None


@dataclass(frozen=True, slots=True)
class PatternTable:
    """The patterns of an instruction set.

    `operations` are those that work element by element, by the operation and type of their term; `moves` copy a tile, a
    column or an immediate; `reduces` end in a reduction: (operation, axis, type) -> patterns.
    """

    operations: Mapping[tuple[str, str], tuple[Pattern, ...]]
    moves: tuple[Pattern, ...]
    reduces: Mapping[tuple[str, str, str], tuple[Pattern, ...]]


_TABLES: dict[str, PatternTable] = {}


def pattern_table(isa: Isa) -> PatternTable:
    """The patterns of an instruction set, made once."""
    table = _TABLES.get(isa.hash)
    if table is None:
        table = _TABLES[isa.hash] = _make_table(isa)
    return table


def _make_table(isa: Isa) -> PatternTable:
    operations: dict[tuple[str, str], list[Pattern]] = {}
    reduces: dict[tuple[str, str, str], list[Pattern]] = {}
    moves: list[Pattern] = []
    for instruction in isa.instructions.values():
        if instruction.unit != "vector" or not instruction.semantics or not isa.features[instruction.feature]:
            continue
        for dtypes in instruction.dtypes:
            pattern = _pattern(isa, instruction, dtypes)
            if pattern is None:
                continue
            inner = uncast(pattern.term)
            if isinstance(inner, Apply) and inner.op.startswith("reduce_"):
                op, _, axis = inner.op.rpartition("_")
                reduces.setdefault((op, axis, pattern.result), []).append(pattern)
            elif isinstance(pattern.term, Apply) and not isinstance(inner, Immediate):
                operations.setdefault((pattern.term.op, pattern.term.dtype), []).append(pattern)
            else:
                moves.append(pattern)
    return PatternTable(
        {key: tuple(found) for key, found in operations.items()},
        tuple(moves),
        {key: tuple(found) for key, found in reduces.items()},
    )


def _pattern(isa: Isa, instruction: Instruction, dtypes: tuple[str, str | None]) -> Pattern | None:
    """None for what the compiler has no use for: types or functions that the graph lacks, tiles of other shapes, work on what a
    reduction gives.
    """
    leaves: dict[str, Term] = {}
    columns: set[str] = set()
    result = ""
    if {operand.name for operand in instruction.sizes} != {"rows", "cols"}:
        return None
    for region in instruction.regions:
        dtype = instruction.region_dtype(isa, region, *dtypes).name
        if dtype not in DTYPES or region.role == "readwrite":
            return None
        if region.role == "write":
            result = dtype if region.name == "dst" else ""
            continue
        if region.shape not in (_FULL, _COLUMN):
            return None
        columns |= {region.name} if region.shape == _COLUMN else set()
        leaves[region.name] = cast(Leaf(region.name, dtype, region.shape == _COLUMN), compute_type(dtype))
    tiles = tuple(leaves)
    immediates = [operand.name for operand in instruction.operands if operand.kind.name == "bits32"]
    head = compute_type(dtypes[0])
    leaves |= {name: Immediate(name, head) for name in immediates}
    term = _Reader(leaves, head).read(instruction.semantics or "")
    if term is None or len(immediates) > 1 or not result or not _names(term) >= leaves.keys():
        return None
    if isinstance(term, Apply) and any(map(_holds_a_reduce, term.args)):
        return None
    return Pattern(
        instruction,
        dtypes,
        result,
        cast(term, result),
        tiles,
        frozenset(columns),
        immediates[0] if immediates else None,
    )


def read_semantics(text: str, tile: str, dtype: str) -> Term | None:
    """The term of a semantics line over one tile, computed in its own type."""
    return _Reader({tile: Leaf(tile, dtype)}, dtype).read(text)


def uncast(term: Term) -> Term:
    """What is behind the roundings of a term."""
    while isinstance(term, Apply) and term.op == "cast":
        term = term.args[0]
    return term


def _holds_a_reduce(term: Term) -> bool:
    return isinstance(term, Apply) and (term.op.startswith("reduce_") or any(map(_holds_a_reduce, term.args)))


def _names(term: Term) -> frozenset[str]:
    """The operands that a term reads."""
    if isinstance(term, Leaf | Immediate):
        return frozenset((term.name,))
    return frozenset().union(*map(_names, term.args)) if isinstance(term, Apply) else frozenset()


class _Reader:
    """Reads a semantics line as a term; None stands for an expression that no term says."""

    def __init__(self, leaves: Mapping[str, Term], head: str) -> None:
        self._leaves = leaves
        self._head = head

    def read(self, semantics: str) -> Term | None:
        (statement,) = ast.parse(semantics.strip()).body
        return self._term(statement.value) if isinstance(statement, ast.Assign) else None

    def _term(self, node: ast.expr) -> Term | None:
        match node:
            case ast.Name(id=name):
                return self._leaves.get(name)
            case ast.Constant(value=int() | float() as value):
                return Number(value)
            case ast.UnaryOp(op=operator, operand=operand):
                return self._apply(_OPERATORS[type(operator)], [operand])
            case ast.BinOp(op=operator, left=left, right=right):
                return self._apply(_OPERATORS[type(operator)], [left, right])
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                return self._apply(_OPERATORS[type(operator)], [left, right])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[ast.keyword(value=ast.Name(id=axis))]):
                return self._apply(f"reduce_{name}_{axis}", args)
            case ast.Call(func=ast.Name(id=name) as func, args=[*most, last]) if len(most) > 1 and name in (
                "max",
                "min",
            ):
                return self._apply(name, [ast.Call(func, most, []), last])
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._apply(_SPELLED.get(name, name), args)
        return None

    def _apply(self, op: str, operands: list[ast.expr]) -> Term | None:
        args = [self._term(operand) for operand in operands]
        terms = tuple(term for term in args if term is not None)
        if len(terms) < len(args):
            return None
        numbers = [term.value for term in terms if isinstance(term, Number)]
        if len(numbers) == len(terms) and op in _FOLDED:
            return Number(_fold(op, numbers))
        types = {type_of(term) for term in (terms[1:] if op == "select" else terms)} - {None}
        if len(types) > 1:
            return None  # the graph has no operation of mixed types
        return apply(op, next((kind for kind in types if kind), self._head), terms)


def _fold(op: str, values: list[float | int | bool]) -> float | int:
    """Constants among themselves are Python numbers when semantics are evaluated, so they are folded as such."""
    a, b = values[0], values[-1]
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "div":
            return a / b
    return -a
