"""Launches know which operators of a model they compute, whatever shares a program or a launch."""

from __future__ import annotations

from itertools import pairwise

import pytest

from npuvm.compiler import Graph, KernelBuilder, Param, ParamRef, Pins, compile_kernel, parse_type
from npuvm.compiler.plan.launch_sources import launch_programs, launch_sources
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.isa.codec import decode_program

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


@pytest.mark.parametrize("fusion", ["stack", "both"])
def test_programs_of_a_launch_are_words_of_it(fusion: str) -> None:
    """Between the words of linked programs stand barriers alone; within them are those that the program has by itself."""
    graph, pins = network(5), Pins(fusion=fusion)
    shapes = {each.name: tuple(64 if dim == "S" else int(dim) for dim in each.type.shape) for each in graph.params}
    launches = compile_kernel(graph, shapes, CHIP, ISA, pins).launches
    found = launch_programs(graph, launches, shapes, CHIP, ISA, pins)
    assert any(len(programs) > 1 for programs in found)
    for launch, programs in zip(launches, found, strict=True):
        taken = sorted(place for each in programs for place in each.words)
        assert all(0 <= first < stop <= len(launch.image.words) for first, stop in taken)
        assert all(before[1] <= after[0] for before, after in pairwise(taken))
        own = {word for first, stop in taken for word in range(first, stop)}
        between = [insn.op for pc, insn in decode_program(ISA, launch.image.words.tolist()) if pc not in own]
        assert set(between) <= {"barrier", "halt"}
    alone = compile_kernel(graph, shapes, CHIP, ISA, Pins(fusion="none")).launches
    if fusion == "stack":
        assert sum(map(len, found)) == len(alone)
        assert [each.sources for programs in found for each in programs] == sources(graph, "none", 64)


def test_a_launch_that_is_not_known_counts_as_one_program() -> None:
    graph, pins = network(), Pins(fusion="both")
    shapes = {each.name: tuple(64 if dim == "S" else int(dim) for dim in each.type.shape) for each in graph.params}
    (launch,) = compile_kernel(graph, shapes, CHIP, ISA, Pins(fusion="stack")).launches
    ((program,),) = launch_programs(graph, [launch], shapes, CHIP, ISA, pins)
    assert program.words == ((0, len(launch.image.words)),)
    assert set(program.sources) == {"project0", "shift0", "softmax0", "widen"}


def test_work_of_operators() -> None:
    graph = network()
    shapes = {each.name: tuple(64 if dim == "S" else int(dim) for dim in each.type.shape) for each in graph.params}
    launches = compile_kernel(graph, shapes, CHIP, ISA, Pins(fusion="none")).launches
    programs = [each for (each,) in launch_programs(graph, launches, shapes, CHIP, ISA, Pins(fusion="none"))]
    work = [each.work(graph.bind(shapes), CHIP, ISA) for each in programs]
    # 64 x 64 x 64 and 64 x 64 x 128 in blocks of 16 x 16 x 16, a cycle each.
    assert [dict(each.products) for each in work] == [{"project0": 64}, {}, {}, {"widen": 128}]
    # 8 KB of fp16 in repeats of 256 bytes, a cycle each.
    assert dict(work[1].passes) == {"shift0": 32} and work[2].passes["softmax0"] > 5 * 32
