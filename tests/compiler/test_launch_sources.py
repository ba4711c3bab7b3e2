"""Launches know which operators of a model they compute, whatever shares a program or a launch."""

from __future__ import annotations

import pytest

from npuvm.compiler import Graph, KernelBuilder, Param, ParamRef, Pins, compile_kernel, parse_type
from npuvm.compiler.launch_sources import launch_sources
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

CHIP = load_chip("ascend_910b1")
ISA = load_isa(CHIP.isa.base, CHIP.isa.extensions)
TYPES = {"x": "fp16[S, 64]", "w": "fp16[64, 64]", "b": "fp16[64]", "u": "fp16[64, 128]"}


def network(layers: int = 1) -> Graph:
    graph = Graph("network", tuple(Param(name, parse_type(text)) for name, text in TYPES.items()))
    k = KernelBuilder(graph)
    x, w, b, u = (k.load(ParamRef(each.name, each.type)) for each in graph.params)
    y = x
    for layer in range(layers):
        with k.source(f"project{layer}"):
            y = k.matmul(y, w)
        with k.source(f"shift{layer}"):
            y = y + b
        with k.source(f"softmax{layer}"):
            e = k.exp(y - k.max(y, -1, keepdims=True))
            y = e / k.sum(e, -1, keepdims=True)
    with k.source("widen"):
        k.store(k.matmul(y, u))
    return graph


def sources(graph: Graph, fusion: str | None, rows: int = 100) -> list[tuple[str, ...]]:
    pins = None if fusion is None else Pins(fusion=fusion)
    shapes = {each.name: tuple(rows if dim == "S" else int(dim) for dim in each.type.shape) for each in graph.params}
    launches = compile_kernel(graph, shapes, CHIP, ISA, pins).launches
    found = launch_sources(graph, launches, CHIP, ISA, pins)
    assert len(found) == len(launches)
    return found


def test_each_operator_has_a_launch_of_its_own_without_fusion() -> None:
    assert sources(network(), "none") == [("project0",), ("shift0",), ("softmax0",), ("widen",)]


@pytest.mark.parametrize("fusion", [None, "pattern"])
def test_operators_that_share_a_program(fusion: str | None) -> None:
    found = sources(network(), fusion)
    assert sum(found, ()) == ("project0", "shift0", "softmax0", "widen")
    assert len(found) < 4


def test_launches_of_many_programs_name_all_of_them() -> None:
    every = [f"{name}{layer}" for layer in range(5) for name in ("project", "shift", "softmax")]
    assert set(sum(sources(network(5), "stack"), ())) == {*every, "widen"}
    assert set(sum(sources(network(5), "both"), ())) == {*every, "widen"}
