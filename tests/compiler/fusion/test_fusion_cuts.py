"""Vector segments cut in two: the parts compute what the whole does, and are taken where UB holds too little of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from tests.compiler.graphs import CASTS, random_inputs, run_plan, vector_graphs
from tests.compiler.stack_run import run_compiled

from npuvm.compiler import Graph, Kernel, KernelBuilder, ParamRef, compile_kernel, kernel
from npuvm.compiler.fusion import cuts
from npuvm.compiler.fusion.cuts import cut_of
from npuvm.compiler.fusion.report import fusion_report
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.plan.form import SegmentForm
from npuvm.compiler.plan.launch_sources import launch_sources
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import Segment, VectorSegment
from npuvm.compiler.program.family import KernelFamily
from npuvm.compiler.vector.launches import CutLaunches
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import load_isa

ISA = load_isa()
LITTLE = load_chip("ascend_910b1", ["core.ub_kib=16"])

Array = np.ndarray[Any, Any]


@kernel(x="fp16[B, C, P]", gain="fp16[C, 1]")
def squeeze(k: KernelBuilder, x: ParamRef, gain: ParamRef) -> None:
    value = k.load(x)
    with k.source("gate"):
        gate = k.sigmoid(k.mean(value, -1, keepdims=True) * k.load(gain))
    k.store(value * gate, "y")


@kernel(x="fp32[M, N]", residual="fp32[M, N]", gain="fp32[N]")
def norm(k: KernelBuilder, x: ParamRef, residual: ParamRef, gain: ParamRef) -> None:
    """Two results, of which the second part reads the first."""
    total = k.load(x) + k.load(residual)
    k.store(total, "sum")
    k.store(total * k.rsqrt(k.mean(total * total, -1, keepdims=True) + 1e-5) * k.load(gain), "norm")


@kernel(x="fp16[M, 64]", y="fp16[M, 64]", z="fp16[M, 64]")
def gelus(k: KernelBuilder, x: ParamRef, y: ParamRef, z: ParamRef) -> None:
    """Operators that the graph knows by name."""
    k.store(k.gelu(k.load(x) + k.load(y), approximate="tanh"), "first")
    k.store(k.silu(k.load(z)), "second")


def segment_of(made: Kernel) -> VectorSegment:
    (segment,) = make_plan(made.graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    return segment


def inputs_of(made: Kernel, **sizes: int) -> dict[str, Array]:
    return random_inputs(made.graph, sizes)


@pytest.fixture
def any_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts that leave as much in UB count too, of segments of any length."""
    monkeypatch.setattr(cuts, "_RELIEF", 9.0)
    monkeypatch.setattr(cuts, "_LEAST", 2)


@pytest.mark.usefixtures("any_cut")
@settings(max_examples=60, deadline=None)
@given(case=vector_graphs())
def test_parts_compute_what_the_whole_does(case: tuple[Graph, dict[str, int]]) -> None:
    graph, binding = case
    inputs = random_inputs(graph, binding)
    plan = make_plan(graph, CASTS)
    expected = run_plan(plan, inputs)
    segments: list[Segment] = []
    tensors = list(plan.tensors)
    for each in plan.segments:
        cut = cut_of(each) if isinstance(each, VectorSegment) else None
        segments += [each] if cut is None else cut.parts
        tensors += [] if cut is None else cut.handed
        if cut is not None:
            assert len(cut.first.nodes) + len(cut.second.nodes) >= len(cut.whole.nodes)
            assert cut.whole.written == tuple(dict.fromkeys((*cut.whole.written, *cut.second.written)))
    found = run_plan(replace(plan, segments=segments, tensors=tensors), inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_value_that_is_written_anyway_is_read_from_there() -> None:
    cut = cut_of(segment_of(norm))
    assert cut is not None
    assert cut.handed == ()
    assert [access.tensor.name for _, access in cut.second.reads] == ["gain", "sum"]
    assert cut.second.near == {"sum"}


def test_named_operators_stay_whole(any_cut: None) -> None:
    segment = segment_of(gelus)
    cut = cut_of(segment)
    assert cut is not None
    for part in cut.parts:
        own = {node.id for node in part.nodes}
        for number, named in segment.named.items():
            if number in own and named.input.id in {node.id for node in segment.nodes}:
                assert named.input.id in own | {node.id for node, _ in part.reads}
    assert {len(cut.first.writes), len(cut.second.writes)} == {1}


def test_short_segments_and_those_by_index_are_not_cut() -> None:
    @kernel(x="fp16[M, N]")
    def short(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.exp(k.load(x)) * 2.0)

    @kernel(table="fp16[V, N]", ids="int32[S]", x="fp16[S, N]")
    def lookup(k: KernelBuilder, table: ParamRef, ids: ParamRef, x: ParamRef) -> None:
        value = k.gather(k.load(table), k.load(ids))
        k.store(k.exp(k.exp(value + k.load(x)) * 2.0) + k.load(x))

    assert all(cut_of(segment_of(each)) is None for each in (short, lookup))


def shapes_of(inputs: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: each.shape for name, each in inputs.items()}


def cycles_of(made: Any, chip: NpuConfig) -> int:
    """Cycles of all launches of a second call."""
    windows: dict[str, tuple[int, int]] = {}
    at = 0
    for each in made.tensors:
        windows[each.name] = at, each.nbytes
        at += -(-each.nbytes // 512) * 512
    l2, total = l2_state(chip), 0
    for _ in range(2):
        total = 0
        for launch in made.launches:
            own = [windows[name] for name in launch.args]
            places = [address for address, _ in own]
            total += simulate(chip, ISA, launch.image, addresses=places, windows=own, data=False, l2=l2).cycles
    return total


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says what is taken, whatever the estimates are."""

    def to(whole: bool) -> None:
        monkeypatch.setattr(CutLaunches, "_is_crowded", lambda self, linked: True)
        monkeypatch.setattr(CutLaunches, "_pays", lambda self, values, linked: whole)

    return to


def test_where_ub_is_short_two_programs_are_taken_and_faster(force: Callable[[bool], None]) -> None:
    shapes = {"x": (8, 128, 784), "gain": (128, 1)}
    chosen = KernelFamily(squeeze.graph, LITTLE, ISA).compile(shapes)
    assert [each.segment for each in chosen.launches] == ["v0.first", "v0.second"]
    ample = compile_kernel(squeeze, shapes, load_chip("ascend_910b1"), ISA)
    assert [each.segment for each in ample.launches] == ["v0"]
    force(True)
    whole = KernelFamily(squeeze.graph, LITTLE, ISA).compile(shapes)
    assert len(whole.launches) == 1
    assert cycles_of(chosen, LITTLE) < 0.8 * cycles_of(whole, LITTLE)


@pytest.mark.parametrize(("made", "sizes"), [(squeeze, {"B": 2, "C": 5, "P": 70}), (norm, {"M": 9, "N": 130})])
@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
def test_bits_are_those_of_one_program(
    chip: str, made: Kernel, sizes: dict[str, int], force: Callable[[bool], None]
) -> None:
    config, inputs = load_chip(chip), inputs_of(made, **sizes)
    outputs = []
    for whole, count in ((True, 1), (False, 2)):
        force(whole)
        compiled = KernelFamily(made.graph, config, ISA).compile(shapes_of(inputs))
        assert len(compiled.launches) == count
        outputs.append(run_compiled(compiled, inputs, config).outputs)
    for name, value in outputs[0].items():
        np.testing.assert_array_equal(outputs[1][name], value)


def test_segments_of_one_form_are_cut_alike() -> None:
    @kernel(a="fp32[M, N]", b="fp32[M, N]", c="fp32[N]")
    def other(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef) -> None:
        total = k.load(a) + k.load(b)
        k.store(total, "one")
        k.store(total * k.rsqrt(k.mean(total * total, -1, keepdims=True) + 1e-5) * k.load(c), "two")

    forms = [SegmentForm(cut_of(segment_of(each)) or segment_of(each)) for each in (norm, other)]
    assert forms[0].key == forms[1].key
    assert forms[0].parts == forms[1].parts == ("v0", "v0.first", "v0.second")
    names = dict(zip(forms[0].tensors, forms[1].tensors, strict=True))
    assert names == {"x": "a", "residual": "b", "gain": "c", "sum": "one", "norm": "two"}


def test_the_report_and_the_phases_tell_both_ways() -> None:
    shapes = {"x": (8, 128, 784), "gain": (128, 1)}
    report = fusion_report(squeeze.graph, shapes, LITTLE, ISA)
    (decision,) = report.decisions
    assert (decision.kind, decision.taken) == ("vector", False)
    assert decision.together > decision.apart > 0
    assert decision.ub is not None
    assert all(each is not None and each <= LITTLE.capacity_bytes("ub") for each in (decision.ub, *decision.ub_apart))
    assert [each.name for each in report.programs] == ["v0.first", "v0.second"]
    assert "declined: vector v0" in str(report)
    assert "of UB" in str(report)
    (kept,) = fusion_report(squeeze.graph, shapes, load_chip("ascend_910b1"), ISA).decisions
    assert kept.taken
    assert kept.saved > 0
    found = inspect_kernel(squeeze, shapes, LITTLE, ISA)
    assert [each.name for each in found.segments] == [each.segment for each in found.compiled.launches]
    assert launch_sources(squeeze.graph, found.compiled.launches, LITTLE, ISA)
