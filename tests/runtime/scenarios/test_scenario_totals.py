"""Totals of launches: sums over cores, chip-wide utilisation, and the roofline of an operator."""

from __future__ import annotations

from fractions import Fraction

import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import load_chip
from npuvm.hw.energy import Work
from npuvm.hw.results.stats import CoreStats, RunResult, UnitStats
from npuvm.runtime.scenarios.totals import cube_cycles, totals_of

CHIP = load_chip("ascend_910b1")


@kernel(a="fp16[M, K]", b="fp16[N, K]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b), transpose_b=True))


@kernel(x="fp32[M]")
def double(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.load(x) + k.load(x))


def _result(cycles: int, bounds: dict[str, int], vector: UnitStats) -> RunResult:
    core = CoreStats("vector", cycles, {"vector": vector, "load": UnitStats(0, {"idle": cycles}, 0)})
    return RunResult(
        cycles=cycles,
        seconds=Fraction(0),
        cores=(core, core),
        bytes={"l2": 64, "hbm_read": 32},
        work=Work(),
        instructions=2,
        by_unit={},
        by_op={},
        requests=0,
        bounds={"hbm": Fraction(0), "l2": Fraction(0)} | {name: Fraction(n) for name, n in bounds.items()},
        hazards=(),
        scalar_loads=(),
        trace=(),
    )


def test_products_at_peak_rate() -> None:
    # 910B: 16 x 16 x 16 fp16 multiply-adds a cycle in each of 24 cubes
    binding = {"M": 160, "N": 48, "K": 320}
    assert cube_cycles(CHIP, product.graph, binding) == pytest.approx(160 * 48 * 320 / 4096 / 24)


def test_sums_over_launches_and_cores() -> None:
    vector = UnitStats(480, {"wait 3 (load)": 100, "wait 7 (load)": 20, "tail": 300, "imbalance": 100}, 5)
    results = [_result(1000, {"vector": 480}, vector), _result(1000, {"hbm": 600}, vector)]
    totals = totals_of(CHIP, double.graph, {"M": 8}, results, compile_us=3.0)
    assert (totals.launches, totals.cycles) == (2, 2000)
    assert totals.microseconds == pytest.approx(2000 / 1850)
    assert totals.bytes == {"l2": 128, "hbm_read": 64}
    assert totals.utilisation["vector"] == pytest.approx(4 * 480 / (48 * 2000))
    assert totals.stalls == {"vector awaits load": 4 * 120}  # idle units and finished ones do not stall
    assert totals.bounds == {"vector": 480.0, "hbm": 600.0}
    assert totals.limits == {"hbm": 600.0, "l2": 0.0, "vector": 480.0}
    assert totals.instructions == 4
    assert totals.roofline_cycles == pytest.approx(600.0)  # of 1920 busy cycles each of 48 vector units has 40


def test_nothing_launched() -> None:
    totals = totals_of(CHIP, double.graph, {"M": 0}, [], compile_us=3.0)
    assert (totals.cycles, totals.roofline_cycles, totals.compile_us) == (0, 0, 3.0)
