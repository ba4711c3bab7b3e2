"""The second oracle of random kernels: it agrees with the first, and what is off is seen."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from tests.compiler.properties import enclosures as known
from tests.compiler.properties.enclosures import Array, Enclosure
from tests.compiler.properties.random_kernels import RandomKernel, random_kernel
from tests.compiler.properties.random_run import run_seed, what_is_wrong
from tests.compiler.properties.torch_oracle import torch_outputs, torch_version

from npuvm.compiler import print_graph

needs_torch = pytest.mark.skipif(torch_version() is None, reason="optional: torch is not installed")


def _case(seed: int) -> tuple[RandomKernel, dict[str, Array], dict[str, Enclosure]]:
    made = random_kernel(seed, ["fp16"])
    sizes = made.sizes(Random(seed))
    inputs = made.inputs(sizes, np.random.default_rng(seed))
    return made, inputs, made.expected(inputs, sizes)


@needs_torch
def test_both_oracles_agree() -> None:
    compared = 0
    for seed in range(150):
        made, inputs, expected = _case(seed)
        second = torch_outputs(made.kernel.graph, inputs)
        assert second.keys() == expected.keys(), "torch has all operations of random kernels"
        for name, each in expected.items():
            assert what_is_wrong(name, each.value, each, second[name]) == "", print_graph(made.kernel.graph)
            compared += int(np.count_nonzero(each.known))
    assert compared > 10_000


@needs_torch
def test_cases_count_what_torch_compared() -> None:
    counts = run_seed(5)
    assert counts["compared_with_torch"] == counts["compared"] > 0


@pytest.mark.parametrize("off", [1e-6, -0.3])
def test_another_value_of_the_second_oracle_is_seen(off: float) -> None:
    """Also where the device is right, and also one that lies within the error of what the device may give."""
    seen = 0
    for seed in range(20):
        _, _, expected = _case(seed)
        for name, each in expected.items():
            if not each.value.size or not each.known.all() or each.dtype == "bool":
                continue
            second = each.value * (1 + off) + off
            within = np.abs(second - each.value) <= each.error
            wrong = what_is_wrong(name, each.value, each, second)
            assert bool(wrong) == (not within.all())
            seen += bool(wrong)
    assert seen


def test_the_device_is_held_against_both() -> None:
    """A device whose values are off is told of by numpy first, and shapes that differ by either."""
    expected = known.rounded(np.array([1.0, 2.0, 4.0]), np.zeros(3), "fp16")
    right = expected.value
    assert what_is_wrong("y", right, expected, right) == ""
    assert what_is_wrong("y", right * 1.01, expected, right).startswith("3 of 3 elements of y are wrong")
    assert what_is_wrong("y", right, expected, right + np.array([0, 0, 1])).startswith(
        "1 of 3 elements of y of torch are wrong"
    )
    assert what_is_wrong("y", right[:2], expected) == "y is (2,), not (3,)"
    assert what_is_wrong("y", right, expected, right[:2]) == "y of torch is (2,), not (3,)"
    # A comparison that rounding may turn over: torch takes the other side, and so may the device.
    either = Enclosure(np.array([1.0]), np.array([2.0]), "fp32")
    assert what_is_wrong("y", np.array([3.0]), either, np.array([1.0])) == ""
    assert what_is_wrong("y", np.array([1.0]), either, np.array([3.0])) == ""
    assert what_is_wrong("y", np.array([1.0]), either, np.array([3.5]))
