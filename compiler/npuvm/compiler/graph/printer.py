"""The printed form of a graph: stable, readable, and read back by `parser`."""

from __future__ import annotations

import json

from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.graph.ops import Attr
from npuvm.compiler.graph.types import dims_text

__all__ = ["print_graph", "print_node"]

_IMPLIED = {
    "load": ("param", "dtype", "shape"),
    "store": ("output",),
    "const": ("dtype", "value"),
    "size": ("dtype", "dims"),
}
"""Attributes that the short forms of these operations show without a name."""


def print_graph(graph: Graph) -> str:
    """The text of a graph, one line a declaration or node, ending with a newline."""
    lines = [f"kernel {graph.name} {{"]
    lines += [f"  param {param.name} : {param.type}" for param in graph.params]
    lines += [f"  ktype {graph.ktype}"] if graph.ktype != "auto" else []
    lines += [f"  allow {graph.allowed}"] if str(graph.allowed) else []
    lines += [f"  derived {derived}" for derived in graph.derived]
    lines += [f"  check {check}" for check in graph.checks]
    starts = {part.first: part for part in graph.parts}
    for node in graph.nodes:
        lines += [f"  part {starts[node.id].ktype}"] if node.id in starts else []
        lines.append(f"  {print_node(node)}")
    return "\n".join([*lines, "}", ""])


def print_node(node: Node) -> str:
    """The line of one node, for example `%2 = reduce_max %1 {axes = [1], keepdims = true} : fp16[M, 1]`."""
    implied = _IMPLIED.get(node.op, ())
    shown = {name: value for name, value in node.attrs.items() if name not in implied}
    attrs = " {" + ", ".join(f"{name} = {_attr(shown[name])}" for name in sorted(shown)) + "}" if shown else ""
    inputs = ", ".join(f"%{each.id}" for each in node.inputs)
    if node.op == "store":
        return f"store {inputs} -> @{node.attrs['output']}{attrs} : {node.type}"
    head = f"%{node.id} = {node.op}"
    if node.op == "load":
        head += f" @{node.attrs['param']}"
    elif node.op == "const":
        head += f" {_attr(node.attrs['value'])}"
    elif node.op == "size":
        head += f" [{dims_text(node.dims('dims'))}]"
    elif inputs:
        head += f" {inputs}"
    return f"{head}{attrs} : {node.type}"


def _attr(value: Attr) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{dims_text(value)}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
