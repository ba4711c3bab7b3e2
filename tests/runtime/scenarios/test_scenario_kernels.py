"""The scenario kernels mean what the oracles say: both are evaluated in numpy, on every shipped case at small sizes."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler import interpret
from npuvm.isa.resources import data_root
from npuvm.runtime.scenarios import oracles
from npuvm.runtime.scenarios.kernels import kernel_of, parameter_names
from npuvm.runtime.scenarios.schema import Case, GemmShape, KernelScenario, MatmulCase, load_scenario


def _shipped() -> list[tuple[Case, str]]:
    found: list[tuple[Case, str]] = []
    for path in sorted((data_root() / "configs").glob("*.yaml")):
        scenario = load_scenario(path)
        if isinstance(scenario, KernelScenario):
            found += [(case, dtype) for case in scenario.cases for dtype in case.dtypes]
    return found


def _small(case: Case) -> tuple[int, ...] | GemmShape:
    if isinstance(case, MatmulCase):
        return GemmShape(m=5, n=7, k=9, batch=None if case.shapes[0].batch is None else 3)
    return (3, 17, 5, 4)[: len(case.shapes[0])]


@pytest.mark.parametrize(("case", "dtype"), _shipped(), ids=lambda value: value if isinstance(value, str) else value.op)
def test_kernel_means_what_the_oracle_says(case: Case, dtype: str) -> None:
    inputs = oracles.make_inputs(case, dtype, _small(case), np.random.default_rng(5))
    made = kernel_of(case, dtype, inputs[0].ndim)
    result = interpret(made.graph, dict(zip(parameter_names(made), inputs, strict=True)))["out0"]
    wanted = oracles.expected(case, inputs)
    assert oracles.compare(result, wanted, oracles.default_tolerance(case, dtype)).ok


def test_one_plan_serves_all_shapes() -> None:
    scenario = load_scenario(data_root() / "configs" / "gemm.yaml")
    assert isinstance(scenario, KernelScenario)
    assert kernel_of(scenario.cases[0], "fp16", 2) is kernel_of(scenario.cases[0], "fp16", 2)
