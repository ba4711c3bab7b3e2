"""Tensors that several programs write parts of: where the parts go, and the copies and fillings that remain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops_views import ASSEMBLED, parts
from npuvm.compiler.graph.types import Dim, TensorType
from npuvm.compiler.plan.segments import Access, VectorSegment

__all__ = ["assembled_of", "copy_groups", "fill_segment", "part_accesses"]


def assembled_of(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that are put together in memory; one that is part of another comes after it."""
    return [node for node in reversed(list(nodes)) if node.op in ASSEMBLED]


def part_accesses(node: Node, home: Access) -> Iterator[tuple[Node, Access]]:
    """The inputs of an assembled node, and where each lies in a home of the node."""
    for each, starts in parts(node):
        layout = home.layout.part(starts, each.type.shape, (1,) * each.type.rank)
        yield each, Access(home.tensor, layout, home.cache)


def fill_segment(name: str, node: Node, home: Access) -> VectorSegment:
    """A segment that fills the home of a padded value with the pad value; what is inside is written after it."""
    dtype, value = node.type.dtype, node.attrs["value"]
    number = Node(-1, "const", (), {"dtype": dtype, "value": value}, TensorType(dtype, ()), node.where)
    spread = Node(node.id, "broadcast_to", (number,), {"shape": node.type.shape}, node.type, node.where, node.source)
    return VectorSegment(name, node.type.shape, nodes=[spread], writes=[(spread, home)])


def copy_groups(copies: Iterable[tuple[Node, Access]], most: int) -> Iterator[list[tuple[Node, Access]]]:
    """Copies of values of one shape, at most `most` together: each group is one segment."""
    groups: dict[tuple[Dim, ...], list[tuple[Node, Access]]] = {}
    for node, access in copies:
        groups.setdefault(node.type.shape, []).append((node, access))
    for group in groups.values():
        yield from (group[at : at + most] for at in range(0, len(group), most))
