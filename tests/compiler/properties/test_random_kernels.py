"""Random operator graphs x shapes x dtypes x chips against numpy, with data, hazard checker and static verifier: 2,000 cases.

`python benchmarks/property_cases.py` runs as many as wanted (docs/reference/property-cases.md).
"""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from tests.compiler.properties import enclosures as known
from tests.compiler.properties.random_kernels import random_kernel
from tests.compiler.properties.random_run import SHAPES, run_seed

from npuvm.compiler import print_graph

BLOCKS = 20
SEEDS = 20
"""Kernels of a block; with SHAPES shapes each, all blocks together are 2,000 cases."""


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_kernels(block: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        counts += run_seed(seed)
    assert counts["cases"] == SEEDS * SHAPES
    assert counts["compared"] > 6 * counts["unknown"]


def test_a_seed_is_a_kernel() -> None:
    one, two = (random_kernel(7, ["fp16"]) for _ in range(2))
    assert print_graph(one.kernel.graph) == print_graph(two.kernel.graph)
    assert print_graph(one.kernel.graph) != print_graph(random_kernel(8, ["fp16"]).kernel.graph)


def test_what_is_off_is_seen() -> None:
    """Nearly every element moved by a few percent falls out of its error; the errors are not so wide that anything passes."""
    moved = seen = 0
    for seed in range(60):
        made = random_kernel(seed, ["fp16"])
        sizes = made.sizes(Random(seed))
        expected = made.expected(made.inputs(sizes, np.random.default_rng(seed)), sizes)
        for each in expected.values():
            large = each.known & (np.abs(each.value) > 0.05)
            off = each.value * (1.3 if each.dtype == "bf16" else 1.05)
            moved += int(np.count_nonzero(large))
            seen += int(np.count_nonzero(~each.contains(off) & large))
    assert seen > 0.85 * moved > 0


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_errors_hold_what_rounding_does(dtype: str) -> None:
    """Enclosures against numpy's own arithmetic in the dtype."""
    rng = np.random.default_rng(3)
    kind = {"fp32": np.float32, "fp16": np.float16}[dtype]
    a, b = (rng.standard_normal((40, 50)).astype(kind) for _ in range(2))
    x, y = known.exact(a, dtype), known.exact(b, dtype)
    half = kind(0.5)
    pairs = [
        (known.add(x, y), a + b),
        (known.multiply(known.add(x, y), y), (a + b) * b),
        (
            known.divide(x, known.add(known.moved(y, np.abs), known.exact(np.asarray(half), dtype))),
            a / (np.abs(b) + half),
        ),
        (known.monotone(np.exp, known.subtract(x, y)), np.exp(a - b)),
        (known.total(known.multiply(x, y), (1,), True, True), (a * b).mean(axis=1, keepdims=True, dtype=kind)),
        (known.running(known.exact(a[:8], dtype), 0), np.cumsum(a[:8], axis=0, dtype=kind)),
        (known.extreme(x, known.multiply(y, y), True), np.maximum(a, b * b)),
    ]
    for expected, actual in pairs:
        assert expected.contains(actual).all()
        assert expected.contains(actual + kind(0.5)).mean() < 0.1
