"""What the verifier accepts runs: no deadlock and no hazard on chip in the simulator, whatever the chip's timing."""

from __future__ import annotations

import pytest
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, ISA, PRODUCT, RELAY, UNIFIED, mutants

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, assemble, verify

PROGRAMS = {"elementwise": ELEMENTWISE, "product": PRODUCT, "causal": CAUSAL, "relay": RELAY}
CHIPS = {
    "as shipped": load_chip("ascend_910a"),
    "slow memory": load_chip("ascend_910a", overrides=["memory.hbm.bandwidth_gbps=10", "memory.l2.bandwidth_gbps=20"]),
}


def faults(chip: NpuConfig, image: Image) -> list[str]:
    """Hazards on chip that a run met, or why it did not end. Global memory the verifier leaves to the program."""
    addresses = [0x10000 * (i + 1) for i in range(image.n_args)]
    try:
        run = simulate(chip, ISA, image, addresses=addresses, data=False, hazards="collect", cycle_limit=10_000_000)
    except (SimulationError, TrapError) as exc:
        return [str(exc)]
    return [str(hazard) for hazard in run.hazards if hazard.space != "gm"]


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS.keys())
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_accepted_programs_run_without_fault(text: str, chip: NpuConfig) -> None:
    """Programs, and each of them with one wait, set, order bit or predicate taken away, as far as they are accepted."""
    assert faults(chip, assemble(ISA, text)) == []
    refused_for_cause = 0
    for name, image in mutants(text):
        found = faults(chip, image)
        if verify(ISA, image, UNIFIED, collect=True).ok:
            assert found == [], name
        else:
            refused_for_cause += bool(found)
    assert refused_for_cause > 0
