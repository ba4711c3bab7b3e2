"""The report of what was fused: programs with their operators and numbers, and what was declined."""

from __future__ import annotations

import pytest

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, compile_kernel, kernel
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.fusion.report import FusionReport, fusion_report
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", v="fp16[N, K]")
def mlp(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef) -> None:
    with k.source("up"):
        hidden = k.matmul(k.load(x), k.load(w)) + k.load(b)
    with k.source("act"):
        hidden = k.relu(hidden)
    k.store(k.matmul(hidden, k.load(v)))


@kernel(table="fp16[V, N]", ids="int32[S]", x="fp16[S, N]")
def lookup(k: KernelBuilder, table: ParamRef, ids: ParamRef, x: ParamRef) -> None:
    k.store(k.exp(k.gather(k.load(table), k.load(ids)) + k.load(x)))


def _report(made: Kernel, *, linked: bool = False, **sizes: int) -> FusionReport:
    shapes = {
        each.name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in made.graph.params
    }
    chip, isa = load_chip("ascend_910b1"), load_isa()
    report = fusion_report(made.graph, shapes, chip, isa, linked=linked)
    assert len(report.programs) == len(compile_kernel(made, shapes, chip, isa).launches) or linked
    return report


def test_a_relay_is_told_with_its_numbers() -> None:
    report = _report(mlp, M=16, K=64, N=128)
    (program,) = report.programs
    assert (program.kind, program.operators) == ("relay", ("up", "act", "matmul_7"))
    assert program.cycles is not None
    assert program.apart is not None
    assert program.cycles < program.apart
    assert program.nbytes < program.nbytes_apart
    assert "up, act, matmul_7" in str(report)
    assert not report.declined


def test_a_relay_that_does_not_pay_is_declined_with_its_numbers() -> None:
    report = _report(mlp, M=1024, K=768, N=3072)
    (declined,) = report.declined
    assert declined.kind == "relay"
    assert declined.together > declined.apart
    assert [program.kind for program in report.programs] == ["mix", "cube"]
    assert f"declined: relay {declined.name}" in str(report)


def test_what_launches_cost_decides() -> None:
    alone, linked = (_report(mlp, M=64, K=256, N=512, linked=linked) for linked in (False, True))
    assert not alone.declined
    assert linked.declined
    assert "in one launch" in str(linked)


def test_rows_by_index_are_an_operator_without_an_estimate_apart() -> None:
    (program,) = _report(lookup, V=100, N=256, S=32).programs
    assert program.operators == ("gather_2", "add_4", "exp_5")
    assert program.apart is None


@pytest.mark.parametrize(
    ("cost", "cycles", "expected"),
    [
        (LaunchCost(100.0, 0.0), (10.0, 300.0, 20.0), 420.0),
        (LaunchCost(0.0, 30.0), (10.0, 300.0, 20.0), 390.0),
        (LaunchCost(100.0, 0.0), (10.0,), 10.0),
        (LaunchCost(100.0, 0.0), (), 0.0),
    ],
)
def test_launches_behind_each_other(cost: LaunchCost, cycles: tuple[float, ...], expected: float) -> None:
    assert cost(cycles) == expected
    assert cost.least(len(cycles)) <= expected


def test_the_cost_of_launches_is_the_chip_s() -> None:
    chip = load_chip("ascend_910b1")
    assert LaunchCost.of(chip, linked=False) == LaunchCost(float(chip.us_to_cycles(chip.host.launch_us)), 0.0)
    assert LaunchCost.of(chip, linked=True) == LaunchCost(0.0, float(chip.core.sync.launch_cycles))
