"""The operators of an ONNX model by the names that regions and reports have for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["operator_types", "owner_of", "sources_of"]


def sources_of(graph: onnx.GraphProto, prefix: str = "") -> list[str]:
    """The names of a graph's nodes in order; those without a name are called after their type and what they make."""
    return [
        prefix + (node.name or f"{node.op_type}_{node.output[0] if node.output else number}")
        for number, node in enumerate(graph.node)
    ]


def operator_types(graph: onnx.GraphProto, prefix: str = "") -> dict[str, str]:
    """The type of each operator by its name, those of bodies too."""
    found: dict[str, str] = {}
    for source, node in zip(sources_of(graph, prefix), graph.node, strict=True):
        found[source] = node.op_type
        for body, inner in _bodies(node, source):
            found |= operator_types(body, inner)
    return found


def _bodies(node: onnx.NodeProto, source: str) -> Iterator[tuple[onnx.GraphProto, str]]:
    branches = {"then_branch": "then/", "else_branch": "else/", "body": ""}
    for attribute in node.attribute:
        if attribute.name in branches and attribute.HasField("g"):
            yield attribute.g, f"{source}/{branches[attribute.name]}"


def owner_of(source: str, names: Collection[str]) -> str:
    """The node that a source belongs to: that of an expanded function stands before a slash; names may have some too.

    A source that belongs to no node is its own.
    """
    parts: Sequence[str] = source.split("/")
    return next((name for end in range(len(parts), 0, -1) if (name := "/".join(parts[:end])) in names), source)
