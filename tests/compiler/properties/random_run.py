"""Runs the cases of random kernels as a user would, with data, the static verifier and the hazard checker.

Numpy says what is right (random_kernels, enclosures); where torch is installed, what it says must be so too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
from tests.compiler.properties.enclosures import Array, Enclosure
from tests.compiler.properties.random_kernels import random_kernel
from tests.compiler.properties.torch_oracle import torch_outputs, torch_version

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


FLOAT64_SLACK = 1e-9
"""How far apart two oracles in float64 may be, relative to values above one: some thousand roundings."""


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
        second = torch_outputs(made.kernel.graph, inputs) if torch_version() else {}
        for name, expected in made.expected(inputs, sizes).items():
            actual = device.read(outputs[name])
            wrong = what_is_wrong(name, actual, expected, second.get(name))
            if wrong:
                raise CaseFailed(f"{where}: {wrong}\n{print_graph(made.kernel.graph)}")
            compared = int(np.count_nonzero(expected.known))
            counts["compared"] += compared
            counts["compared_with_torch"] += compared if name in second else 0
            counts["unknown"] += actual.size - compared
        counts["cases"] += 1
        counts[device.chip.name] += 1
        for tensor in (*tensors.values(), *outputs.values()):
            device.free(tensor)
        device.launches.clear()
    return counts


def what_is_wrong(name: str, actual: Array, expected: Enclosure, second: Array | None = None) -> str:
    """What is wrong with an output, beside numpy's value and its error and the value of a second oracle; empty when nothing is.

    A second value that is not numpy's, to some roundings of float64, must lie within the same error: where a comparison could
    go either way.
    """
    if actual.shape != expected.value.shape:
        return f"{name} is {actual.shape}, not {expected.value.shape}"
    if wrong := _first_wrong(name, actual, expected):
        return wrong
    if second is None:
        return ""
    if second.shape != expected.value.shape:
        return f"{name} of torch is {second.shape}, not {expected.value.shape}"
    value = second.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(value - expected.value)
        slack = FLOAT64_SLACK * (1 + np.abs(expected.value))
        loose = replace(expected, error=expected.error + slack)
        other = replace(loose, value=value, error=loose.error + np.where(apart > slack, expected.error, 0.0))
    return _first_wrong(f"{name} of torch", value, loose) or _first_wrong(f"{name} beside torch", actual, other)


def _first_wrong(name: str, actual: Array, expected: Enclosure) -> str:
    wrong = np.argwhere(~expected.contains(actual))
    if not len(wrong):
        return ""
    at = tuple(int(index) for index in wrong[0])
    return (
        f"{len(wrong)} of {actual.size} elements of {name} are wrong, the first at {at}: {actual[at]}, "
        f"not {expected.value[at]} within {expected.error[at]}"
    )
