"""Kinds of kernels by name: what each may hold, and which stack it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import PART_KTYPES, Graph, Node
from npuvm.compiler.graph.ops import VIEWS
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.graph.ops_views import ASSEMBLED
from npuvm.compiler.language.pins import Pins, pin_error

__all__ = ["KTYPES", "STACKED_KTYPES", "check_ktype", "check_operators", "pins_of_kind"]

STACKED_KTYPES = ("parallel", "sequence")
"""Kinds whose kernels are made of parts, each a kernel of its own."""

KTYPES = (*PART_KTYPES, *STACKED_KTYPES, "split", "eager")

_STACK_OF = {"mix": "mix", "split": "sequence"}
_MAY_PIN = {"vector": ("launches",), "cube": ("launches",), "mix": ("mix",), "split": ("sequence",)}
_NO_WORK = frozenset((*VIEWS, *ASSEMBLED, "load", "store", "const", "size"))


def check_ktype(ktype: object, allowed: Sequence[str] = KTYPES, where: str | None = None) -> str:
    """The kind, if it is one of those that are allowed. CompileError otherwise."""
    if not isinstance(ktype, str) or ktype not in allowed:
        raise CompileError(f"ktype = {ktype!r} is no kind of a kernel here; allowed: {', '.join(allowed)}", where)
    return ktype


def check_operators(graph: Graph) -> None:
    """CompileError naming the first operator of a kernel of kind vector, cube or mix that it cannot have, or what it lacks."""
    products = [node for node in graph.nodes if node.op in CUBE_OPS]
    others = [node for node in graph.nodes if node.op not in CUBE_OPS and node.op not in _NO_WORK]
    if graph.ktype == "vector" and products:
        _refuse(graph, products[0], "operators of the vector unit; for products there are ktype 'cube', 'mix', 'auto'")
    if graph.ktype == "cube" and others:
        _refuse(graph, others[0], "matmul, conv1d and conv2d, and views; for others there are ktype 'mix', 'auto'")
    if graph.ktype in ("cube", "mix") and not products:
        raise CompileError(f"ktype = {graph.ktype!r} needs a matmul or a convolution; there is none", graph.name)
    if graph.ktype == "mix" and not others:
        raise CompileError("ktype = 'mix' needs an operator of the vector unit beside the product", graph.name)


def _refuse(graph: Graph, node: Node, allowed: str) -> None:
    message = f"{node.op} (%{node.id}) cannot stand in kernel '{graph.name}' of ktype = {graph.ktype!r}"
    raise CompileError(f"{message}; allowed: {allowed}", node.where or None)


def pins_of_kind(graph: Graph, pins: Pins | None = None) -> Pins:
    """The pins of a kernel, or those given instead, with the stack that its kind stands for. CompileError for another one."""
    given = graph.pins if pins is None else pins
    allowed = _MAY_PIN.get(graph.ktype)
    if allowed is not None and given.stack is not None and given.stack not in allowed:
        pin_error("stack", given.stack, f"{', '.join(allowed)}, or none, with ktype = {graph.ktype!r}", graph.name)
    stack, split = _STACK_OF.get(graph.ktype, given.stack), given.split_k
    if graph.ktype == "cube" and split is None:
        split = 1  # the sum of parts needs the vector unit
    return given if (stack, split) == (given.stack, given.split_k) else replace(given, stack=stack, split_k=split)
