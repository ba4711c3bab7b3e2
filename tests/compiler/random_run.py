"""Runs the cases of random kernels as a user would, with data, the static verifier and the hazard checker."""

from __future__ import annotations

from collections import Counter
from functools import cache
from random import Random

import numpy as np
from tests.compiler.random_kernels import random_kernel

from npuvm.compiler import print_graph
from npuvm.isa.errors import NpuvmError
from npuvm.runtime import Device

CHIPS = (("edge", ""), ("ascend_910a", "core.count=2"), ("ascend_910b1", "core.count=1"))
"""Chips, with few cores for speed: a group of ascend_910b1 is three."""

WHOLE = (("ascend_910a", ""), ("ascend_910b1", ""))
"""Chips with all their cores, for one seed in `WHOLE_EVERY`."""

WHOLE_EVERY = 50
SHAPES = 5
"""Cases of each kernel: as many shapes, one after the other on one chip."""


class CaseFailed(AssertionError):
    """A case that is not as it must be; the message says which and how to run it again."""


@cache
def device_of(chip: str, override: str) -> Device:
    """A device for all cases, so that what earlier ones left in memory is there."""
    return Device(chip, [override] if override else [], hazards="raise")


def run_seed(seed: int) -> Counter[str]:
    """The cases of one seed: how many there were, and how many elements were compared and left out.

    Raises CaseFailed when one computes something else, traps, or has a hazard, or when the compiler refuses it.
    """
    rng = Random(seed)
    device = device_of(*rng.choice(CHIPS if rng.randrange(WHOLE_EVERY) else WHOLE))
    dtypes = [each for each in ("fp16", "bf16") if each in device.chip.core.cube.cycles_per_block]
    made = random_kernel(seed, dtypes)
    counts: Counter[str] = Counter()
    for case in range(SHAPES):
        sizes = made.sizes(rng)
        inputs = made.inputs(sizes, np.random.default_rng([seed, case]))
        where = f"seed {seed}, case {case}, {device.chip.name}, {sizes}"
        tensors = {name: device.tensor(array) for name, array in inputs.items()}
        try:
            outputs = device.run(made.kernel, tensors)
        except NpuvmError as error:
            raise CaseFailed(f"{where}: {type(error).__name__}: {error}\n{print_graph(made.kernel.graph)}") from error
        for name, expected in made.expected(inputs, sizes).items():
            actual = device.read(outputs[name])
            if actual.shape != expected.value.shape:
                message = f"{where}: {name} is {actual.shape}, not {expected.value.shape}"
                raise CaseFailed(f"{message}\n{print_graph(made.kernel.graph)}")
            wrong = np.argwhere(~expected.contains(actual))
            if len(wrong):
                at = tuple(int(index) for index in wrong[0])
                message = (
                    f"{where}: {len(wrong)} of {actual.size} elements of {name} are wrong, the first at {at}: {actual[at]}, "
                    f"not {expected.value[at]} within {expected.error[at]}"
                )
                raise CaseFailed(f"{message}\n{print_graph(made.kernel.graph)}")
            counts["compared"] += int(np.count_nonzero(expected.known))
            counts["unknown"] += actual.size - int(np.count_nonzero(expected.known))
        counts["cases"] += 1
        counts[device.chip.name] += 1
        for tensor in (*tensors.values(), *outputs.values()):
            device.free(tensor)
        device.launches.clear()
    return counts
