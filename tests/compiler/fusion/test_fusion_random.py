"""Random graphs in all modes of fusion: the values of the graph, whatever its operators are called."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.properties.random_kernels import random_kernel
from tests.compiler.properties.random_run import CHIPS, device_of, what_is_wrong
from tests.compiler.vector_run import the_isa

from npuvm.compiler import Graph, Kernel, Node, Pins, print_graph
from npuvm.compiler.language.pins import FUSIONS
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.selection.legalize import legalize

_NAMES = ("", "", "a", "b", "c", "d")


def _named(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with operators named at random: those of one name may stand anywhere, and need each other in circles."""
    made = Graph(graph.name, graph.params, [], list(graph.derived), list(graph.checks), graph.pins, graph.allowed)
    values: dict[int, Node] = {}
    for number, node in enumerate(graph.nodes):
        made.source = names[number % len(names)]
        values[node.id] = made.add(node.op, [values[each.id] for each in node.inputs], node.where, **node.attrs)
    return made


@given(seed=st.integers(0, 100_000), names=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_values_are_those_of_the_graph_in_every_mode(seed: int, names: list[str]) -> None:
    rng = Random(seed)
    device = device_of(*rng.choice(CHIPS))
    dtypes = [each for each in ("fp16", "bf16") if each in device.chip.core.cube.cycles_per_block]
    made = random_kernel(seed, dtypes)
    kernel = Kernel(_named(made.kernel.graph, names))
    sizes = made.sizes(rng)
    inputs = made.inputs(sizes, np.random.default_rng(seed))
    expected = made.expected(inputs, sizes)
    tensors = {name: device.tensor(array) for name, array in inputs.items()}
    for fusion in FUSIONS:
        outputs = device.run(kernel, tensors, pins=Pins(fusion=fusion))
        for name, each in expected.items():
            wrong = what_is_wrong(name, device.read(outputs[name]), each)
            assert not wrong, f"{fusion}: {wrong}\n{print_graph(kernel.graph)}"
        for tensor in outputs.values():
            device.free(tensor)
    for tensor in tensors.values():
        device.free(tensor)
    device.launches.clear()


@given(seed=st.integers(0, 100_000), names=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_segments_stand_behind_what_they_read(seed: int, names: list[str]) -> None:
    graph = _named(random_kernel(seed, ["fp16"]).kernel.graph, names)
    casts = [(a, b) for a, b in the_isa().instruction("vcast").dtypes if b is not None]
    sources = {node.source for node in legalize(graph, casts).nodes}
    for operators in (False, True):
        plan = make_plan(graph, casts, operators=operators)
        written = {each.name for each in plan.tensors if each.kind == "param"}
        for segment in plan.segments:
            reads = getattr(segment, "reads", [])
            for _, access in reads:
                assert access.tensor.name in written, f"{segment.name} reads {access.tensor.name} before it is written"
            written.update(segment.written)
            inside = {node.source for node in getattr(segment, "nodes", []) if node.op != "iota"}
            assert inside <= sources
            assert not operators or len(inside) <= 1


@pytest.mark.parametrize("operators", [False, True])
def test_a_plan_of_thousands_of_nodes_is_made_in_order(operators: bool) -> None:
    """3000 nodes in one chain with a side branch each ten: no step is taken for every pair of them."""
    graph = Graph("long", random_kernel(1, ["fp16"]).kernel.graph.params[:0])
    casts = [(a, b) for a, b in the_isa().instruction("vcast").dtypes if b is not None]
    one = graph.add("const", dtype="fp32", value=1.0)
    value = graph.add("broadcast_to", [one], shape=(4, 8))
    for number in range(1500):
        side = graph.add("exp", [value])
        value = graph.add("add" if number % 3 else "mul", [value, side])
    graph.add("store", [value], output="y")
    plan = make_plan(graph, casts, operators=operators)
    assert sum(len(getattr(each, "nodes", [])) for each in plan.segments) >= 3000
