"""The compiled engine against the other one, in numba and in plain Python: every field of the result, and L2 after it."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest
from tests.hw.compiled.programs import random_chip, random_launch
from tests.hw.compiled.same import ISA, Launch, backends, check_same
from tests.rtl import front_kernels, front_programs

from npuvm.hw.conformance.launch import Launch as CaseLaunch
from npuvm.hw.conformance.launch import run_case
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa.conformance import Level
from npuvm.isa.conformance.programs import program_cases

BACKENDS = backends()
KERNELS = {launch.name: launch for launch in front_kernels.launches()}
BY_HAND = {launch.name: launch for launch in front_programs.hand_written() if launch.name != "sync"}
"""In `sync` two units signal one semaphore in one cycle, which the verifier refuses: who is charged is not defined."""

SEEDS = 60
TOGETHER = 6
"""Random launches on one random chip."""


@pytest.mark.parametrize("name", KERNELS)
def test_compiled_kernels(name: str) -> None:
    launch = KERNELS[name]
    assert isinstance(check_same(Launch(launch.chip, launch.image, launch.addresses), *BACKENDS), RunResult)


@pytest.mark.parametrize("name", BY_HAND)
def test_programs_by_hand(name: str) -> None:
    """Registers, scalar loads, predicates, counts set anew while signals are on their way, cores of two groups."""
    launch = BY_HAND[name]
    result = check_same(Launch(launch.chip, launch.image, launch.addresses, launch.scalars), *BACKENDS)
    assert isinstance(result, RunResult)


@pytest.mark.parametrize("seed", range(0, SEEDS, TOGETHER))
def test_random_launches(seed: int) -> None:
    random_launches(seed, TOGETHER)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(100))
def test_ten_thousand_random_launches(block: int) -> None:
    for seed in range(1_000_000 + 100 * block, 1_000_100 + 100 * block, 4):
        random_launches(seed, 4)


def random_launches(seed: int, count: int) -> None:
    """Check launches on one chip; all run to their end, for the verifier has accepted them."""
    chip = random_chip(Random(seed))
    for number in range(seed, seed + count):
        launch = random_launch(Random(number), chip)
        result = check_same(launch, *BACKENDS)
        # A signal across cores may come before the count is first set, and be lost: both must say so.
        assert isinstance(result, RunResult) or str(result).startswith("deadlock in cycle"), (number, result)


@pytest.mark.parametrize(("level", "every"), [(Level.SEMANTICS, 40), (Level.SEQUENCES, 2), (Level.CHIPS, 3)])
def test_conformance_programs(level: Level, every: int) -> None:
    """Some programs of the suite, with the values that their scalar loads read in a run with data."""
    cases = [case for case in program_cases(ISA, level, 0) if case.trap is None and case.refused is None][::every]
    assert len(cases) >= 3
    for case in cases:
        assert run_case(ISA, case, check_case).error is None, case.id


def check_case(case: CaseLaunch) -> None:
    with_data = simulate(case.chip, ISA, case.image, memory=case.memory, addresses=case.addresses, windows=case.windows)
    loads, indices = with_data.scalar_loads, with_data.indices
    launch = Launch(case.chip, case.image, case.addresses, loads, case.cycle_limit, indices=indices)
    result = check_same(launch, *BACKENDS, again=0)
    assert isinstance(result, RunResult)
    assert result.cycles == with_data.cycles


_DIGEST = """
import hashlib
from random import Random
from tests.hw.compiled.programs import random_chip, random_launch
from tests.hw.compiled.same import run
from npuvm.hw.compiled import backend_of
from npuvm.hw.simulator import l2_state
found = hashlib.sha256()
for seed in range(3):
    launch = random_launch(Random(seed), random_chip(Random(seed)))
    l2 = l2_state(launch.chip)
    result = run(launch, backend_of("python"), l2)
    found.update(repr((result.cycles, result.cores, sorted(result.bytes.items()), list(l2.lines.items()))).encode())
print(found.hexdigest())
"""


def test_a_run_is_the_same_in_every_process() -> None:
    """Whatever the order of sets and dictionaries of strings."""
    outputs = []
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 65
