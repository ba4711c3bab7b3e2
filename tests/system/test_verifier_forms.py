"""New shapes of compiled kernels are verified by their form, and broken ones are refused as one by one."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from tests.isa.verifier.value_mutants import value_mutants

from npuvm.compiler import Kernel, compile_kernel, kernel
from npuvm.hw.config import load_chip
from npuvm.isa import Image, VerifyError, load_isa, verify
from npuvm.isa.verifier import Verifier
from npuvm.runtime.device.device import capacity_limits


@cache
def kernels() -> dict[str, Kernel]:
    @kernel(x="fp16[m,n]", y="fp16[m,n]")
    def chain(k: Any, x: Any, y: Any) -> None:
        k.store(k.exp(k.load(x) * k.load(y)) + k.load(y))

    @kernel(x="fp32[m,n]")
    def softmax(k: Any, x: Any) -> None:
        value = k.load(x)
        risen = k.exp(value - k.max(value, axes=-1, keepdims=True))
        k.store(risen / k.sum(risen, axes=-1, keepdims=True))

    @kernel(x="fp32[m,n]")
    def columns(k: Any, x: Any) -> None:
        k.store(k.sum(k.load(x), axes=0))

    @kernel(a="fp16[m,k]", b="fp16[k,n]")
    def product(k: Any, a: Any, b: Any) -> None:
        k.store(k.relu(k.matmul(k.load(a), k.load(b))))

    return {"chain": chain, "softmax": softmax, "columns": columns, "product": product}


def images(chip: str, name: str, source: Random, count: int) -> list[Image]:
    """The images of so many shapes, of any size."""
    config = load_chip(chip)
    isa = load_isa(config.isa.base, config.isa.extensions)
    made = kernels()[name]
    found = []
    for _ in range(count):
        m, n, k = (round(2000 ** source.random()) for _ in "mnk")
        shapes = {"a": (m, k), "b": (k, n)} if name == "product" else {"x": (m, n), "y": (m, n)}
        given = {param.name: shapes[param.name] for param in made.graph.params}
        found += [launch.image for launch in compile_kernel(made, given, config, isa).launches]
    return found


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize("name", ["chain", "softmax", "columns", "product"])
def test_new_shapes_are_verified_by_form(name: str, chip: str) -> None:
    config = load_chip(chip)
    verifier = Verifier(load_isa(config.isa.base, config.isa.extensions), capacity_limits(config))
    for image in images(chip, name, Random(name), 25):
        verifier.check(image)
    assert verifier.by_form > 0.6 * verifier.images


@pytest.mark.parametrize("name", ["chain", "softmax", "columns", "product"])
def test_broken_numbers_are_found_by_form(name: str) -> None:
    config = load_chip("edge")
    isa, limits = load_isa(config.isa.base, config.isa.extensions), capacity_limits(config)
    verifier, source = Verifier(isa, limits), Random(name)
    legal = 0
    for image in images("edge", name, source, 12):
        verifier.check(image)
        for mutant in value_mutants(isa, image, source, 12):
            expected = found = None
            try:
                verify(isa, mutant, limits)
                legal += 1
            except VerifyError as exc:
                expected = str(exc)
            try:
                verifier.check(mutant)
            except VerifyError as exc:
                found = str(exc)
            assert found == expected
    assert 10 < legal < 134
