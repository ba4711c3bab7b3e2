"""Finds what instructions compute in a graph: unifies the term of a pattern with the operations that end in a node."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import BINARY, UNARY
from npuvm.compiler.selection.patterns import Pattern
from npuvm.compiler.selection.terms import (
    COMMUTATIVE,
    Apply,
    Immediate,
    Leaf,
    Number,
    Ref,
    Scalar,
    Term,
    apply,
    cast,
    compute_type,
    number,
    same_number,
)
from npuvm.compiler.vector.space import TileView

__all__ = ["Match", "Matcher", "readings"]

_READ = frozenset((*UNARY, *BINARY, "cast", "select"))


@dataclass(frozen=True, slots=True)
class Match:
    """An instruction that gives the value of a node: the nodes that its tiles are, in their order, and its immediate."""

    pattern: Pattern
    tiles: tuple[Node, ...]
    immediate: Number | Scalar | None


@dataclass(frozen=True, slots=True)
class _Bound:
    tiles: tuple[tuple[str, Node], ...] = ()
    immediate: Number | Scalar | None = None
    opened: frozenset[int] = frozenset()

    def tile(self, name: str, node: Node) -> _Bound | None:
        """With the tile bound as well; None when it is another node already."""
        for known, other in self.tiles:
            if known == name:
                return self if other is node else None
        return replace(self, tiles=(*self.tiles, (name, node)))


class Matcher:
    """Matches patterns in a segment.

    `users` are the ids of the nodes that read a node of the segment, by its id, `tile` says how values lie. `contract`:
    roundings between operations may go. `again`: a loaded tile may be read again after what was computed from it.
    """

    def __init__(
        self, users: Mapping[int, Collection[int]], tile: TileView, *, contract: bool, again: bool = True
    ) -> None:
        self._users = users
        self._tile = tile
        self._contract = contract
        self._again = again
        self._read: dict[int, tuple[Term, ...]] = {}
        self._likely: dict[Hashable, tuple[Pattern, ...]] = {}

    def readings(self, node: Node) -> tuple[Term, ...]:
        """`readings` of a node, made once."""
        if node.id not in self._read:
            self._read[node.id] = readings(node)
        return self._read[node.id]

    def likely(self, patterns: Sequence[Pattern], node: Node) -> tuple[Pattern, ...]:
        """Those of the patterns whose operation may be the node's; found once for nodes of the same operation."""
        terms = self.readings(node)
        key = id(patterns), tuple([_operations(term) for term in terms])
        found = self._likely.get(key)
        if found is None:
            found = tuple([each for each in patterns if any(_alike(each.term, term) for term in terms)])
            self._likely[key] = found
        return found

    def match(self, pattern: Pattern, root: Node) -> Match | None:
        """The first way in which the pattern gives the node."""
        found = (self._first(pattern, term, root, root) for term in self.readings(root))
        return next((match for match in found if match is not None), None)

    def match_reduce(self, pattern: Pattern, reduce: Node, axis: str) -> Match | None:
        """The first way in which the pattern, ending in a reduction over that axis, gives the value of a reduce."""
        source = reduce.inputs[0]
        term = Apply(f"{reduce.op}_{axis}", compute_type(source.type.dtype), (_wide(source),))
        return self._first(pattern, cast(term, reduce.type.dtype), source, reduce)

    def _first(self, pattern: Pattern, term: Term, root: Node, last: Node) -> Match | None:
        """`root` has as many elements as the instruction works on, `last` is what it gives."""
        for bound in self._unify(pattern.term, term, _Bound(), root):
            if not self._again and self._holds_a_load(bound, last):
                continue
            tiles = dict(bound.tiles)
            return Match(pattern, tuple(tiles[name] for name in pattern.tiles), bound.immediate)
        return None

    def _holds_a_load(self, bound: _Bound, last: Node) -> bool:
        """Whether a loaded tile is read once more, later than by what was computed from it and is kept for others."""
        inside = {*bound.opened, last.id}
        kept = any(not inside.issuperset(self._users[each]) for each in bound.opened)
        return kept and any(tile.id in self._tile.full - self._users.keys() for _, tile in bound.tiles)

    def _unify(self, pattern: Term, term: Term, bound: _Bound, root: Node) -> Iterator[_Bound]:
        """All ways to bind the operands so that the pattern is the term."""
        match pattern:
            case Leaf(name=name, dtype=dtype, column=column):
                node = _as_tile(term)
                if node is not None and node.type.dtype == dtype and (not column or self._is_column(node, root)):
                    found = bound.tile(name, node)
                    if found is not None:
                        yield found
            case Immediate() if isinstance(term, Number | Scalar) and bound.immediate in (None, term):
                yield replace(bound, immediate=term)
            case Number(value=value) if isinstance(term, Number) and same_number(value, term.value):
                yield bound
            case Apply(op="cast", args=(Leaf() as tile,)) if isinstance(term, Number | Scalar):
                yield from self._unify(tile, term, bound, root)
            case Apply() if isinstance(term, Ref):
                inner = replace(bound, opened=bound.opened | {term.node.id})
                for reading in self._opened(term.node, root):
                    yield from self._unify(pattern, reading, inner, root)
            case Apply() if isinstance(term, Apply):
                yield from self._operation(pattern, term, bound, root)

    def _operation(self, pattern: Apply, term: Apply, bound: _Bound, root: Node) -> Iterator[_Bound]:
        if (pattern.op, pattern.dtype, len(pattern.args)) == (term.op, term.dtype, len(term.args)):
            yield from self._arguments(pattern.args, term.args, bound, root)
            if term.op in COMMUTATIVE:
                yield from self._arguments(pattern.args, term.args[::-1], bound, root)
        if self._contract and term.op == "cast" and pattern.op != "cast" and isinstance(term.args[0], Ref):
            inner = replace(bound, opened=bound.opened | {term.args[0].node.id})
            for narrow in self._opened(term.args[0].node, root):
                if isinstance(narrow, Apply) and narrow.op == "cast" and pattern.dtype == term.dtype:
                    yield from self._unify(pattern, narrow.args[0], inner, root)

    def _arguments(
        self, patterns: tuple[Term, ...], terms: tuple[Term, ...], bound: _Bound, root: Node
    ) -> Iterator[_Bound]:
        if not patterns:
            yield bound
            return
        for first in self._unify(patterns[0], terms[0], bound, root):
            yield from self._arguments(patterns[1:], terms[1:], first, root)

    def _opened(self, node: Node, root: Node) -> tuple[Term, ...]:
        """The readings of a node that the instruction may compute on its way: as large as its result, or a cast."""
        if node.id not in self._users or (node.op != "cast" and node.type.shape != root.type.shape):
            return ()
        return self.readings(node)

    def _is_column(self, node: Node, root: Node) -> bool:
        return node.id in self._tile.columns and root.id in self._tile.full


def readings(node: Node) -> tuple[Term, ...]:
    """The terms that a node is, one operation deep; none for what works on more than one element at a time."""
    if node.op not in _READ:
        return ()
    args = tuple(_wide(each) for each in node.inputs)
    if node.op == "cast":
        return (cast(args[0], node.type.dtype),)
    kind = compute_type(node.inputs[-1].type.dtype)
    terms = [apply(node.op, kind, args)]
    if node.op == "sub" and isinstance(args[1], Number | Scalar):
        terms.append(Apply("sub", kind, args))
        if isinstance(args[1], Scalar):
            terms[0] = Apply("add", kind, (args[0], Scalar(args[1].node, negated=True)))
    return tuple(cast(term, node.type.dtype) for term in terms)


def _wide(node: Node) -> Term:
    """A value as the vector unit computes with it."""
    if node.op == "const":
        return number(node)
    return Scalar(node) if node.op == "size" else cast(Ref(node), compute_type(node.type.dtype))


def _operations(term: Term) -> tuple[tuple[str, str], ...]:
    """The operation of a term, below its casts too, with the types that they compute in."""
    found = []
    while isinstance(term, Apply):
        found.append((term.op, term.dtype))
        if term.op != "cast":
            break
        term = term.args[0]
    return tuple(found)


def _alike(pattern: Term, term: Term) -> bool:
    """Whether the operations at the root and below casts are the same; the cast of a term may go."""
    while isinstance(pattern, Apply) and isinstance(term, Apply):
        if pattern.op != term.op or pattern.dtype != term.dtype:
            return term.op == "cast"
        if term.op != "cast":
            return True
        pattern, term = pattern.args[0], term.args[0]
    return True


def _as_tile(term: Term) -> Node | None:
    """The node that an instruction can read as a tile; a number of the graph can fill one."""
    if isinstance(term, Ref) or (isinstance(term, Scalar) and not term.negated):
        return term.node
    return term.node if isinstance(term, Number) else None
