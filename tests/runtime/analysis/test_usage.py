from __future__ import annotations

from pathlib import Path

from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.runtime.analysis.usage import count_uses, scenario_programs
from npuvm.runtime.scenarios.schema import KernelScenario, load_scenario

SCENARIO = """
kind: kernels
name: few
title: two operators
chip: edge
cases:
  - {op: add, dtypes: [fp32, fp16], shapes: [[8, 16], [3]]}
  - {op: exp, dtypes: [fp32], shapes: [[8, 16]]}
"""


def test_uses_are_counted_by_program(tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    scenario = load_scenario(file)
    assert isinstance(scenario, KernelScenario)
    isa = load_isa()
    programs = list(scenario_programs(scenario, load_chip("edge"), isa))
    assert [label for label, _ in programs] == [
        f"few: {case}, launch 1"
        for case in ("add fp32 8 x 16", "add fp32 3", "add fp16 8 x 16", "add fp16 3", "exp fp32 8 x 16")
    ]
    uses = {use.name: use for use in count_uses(isa, programs)}
    assert set(uses) == set(isa.instructions)
    assert uses["vadd"].dtypes == ("fp32", "fp16")
    assert uses["vadd"].programs == tuple(label for label, _ in programs[:4])
    assert uses["vexp"].programs == ("few: exp fp32 8 x 16, launch 1",)
    assert uses["halt"].count == len(programs)
    assert uses["mma"].count == 0
    assert uses["mma"].programs == ()
