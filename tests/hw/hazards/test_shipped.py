"""No hazard in what is shipped: the first cases of the scenarios here; everything that runs with data is checked anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuvm.runtime.device.hazard_log import HazardLog
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import KernelScenario, load_scenario

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("name", ["elementwise", "gemm", "softmax_layernorm"])
def test_the_first_case_of_a_scenario_has_none(name: str) -> None:
    scenario = load_scenario(CONFIGS / f"{name}.yaml")
    assert isinstance(scenario, KernelScenario)
    log = HazardLog()
    cases = [case.model_copy(update={"shapes": case.shapes[:1]}) for case in scenario.cases[:1]]
    first = scenario.model_copy(update={"cases": cases})
    report = run_scenario(first, timing_only=True, hazards="collect", observers=[log])
    assert report.cases
    assert log.lines == ()
