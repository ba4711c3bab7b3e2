"""Compiled kernels have no hazard, and have some when one of their units waits for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.compiler.cube.cube_run import Array, Case, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.codegen import compile_matmul
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import SimulationError
from npuvm.hw.functional.execute import GlobalMemory
from npuvm.hw.functional.interpreter import interpret
from npuvm.hw.hazards import Hazard
from npuvm.hw.simulator import simulate
from npuvm.isa import Image, Insn, decode_program, encode

CASE = Case(90, 50, 200)
CHIPS = {"edge": Pins(cores=1, tile={"l1": (32, 32, 32)}), "ascend_910b1": Pins(cores=1, tile={"l1": (32, 32, 32)})}
SIZES = (90 * 200 * 2, 200 * 50 * 2, 90 * 50 * 4)
ADDRESSES = (4096, 65536, 131072)


@cache
def kernel(chip: str) -> Image:
    made = compile_matmul(CASE.spec(), 3, the_chip(chip), the_isa(), CHIPS[chip])
    assert made is not None
    return made.image


def hazards(chip: NpuConfig, image: Image) -> list[Hazard]:
    run = simulate(chip, the_isa(), image, addresses=ADDRESSES, data=False, hazards="collect")
    return list(run.hazards)


def changed(image: Image, pc: int, insn: Insn) -> Image:
    words, encoded = image.words.copy(), encode(the_isa(), insn)
    words[pc : pc + len(encoded)] = encoded
    return replace(image, words=words)


def waiting(image: Image) -> Iterator[tuple[int, Insn]]:
    for pc, insn in decode_program(the_isa(), image.words):
        if insn.wait:
            yield pc, insn


def unit_of(insn: Insn) -> str:
    isa = the_isa()
    if insn.op == "usync":
        return next(name for name, code in isa.units.items() if code == insn.args["unit"])
    return isa.instruction(insn.op).unit


@pytest.mark.parametrize("name", CHIPS)
def test_a_unit_that_waits_for_nothing_makes_hazards(name: str) -> None:
    chip, image = the_chip(name), kernel(name)
    assert hazards(chip, image) == []
    spaces = {}
    for unit in dict.fromkeys(unit_of(insn) for _, insn in waiting(image)):
        mutant = image
        for pc, insn in waiting(image):
            if unit_of(insn) == unit:
                mutant = changed(mutant, pc, replace(insn, wait=()))
        found = hazards(chip, mutant)
        assert all(unit in (hazard.earlier.unit, hazard.later.unit) for hazard in found)
        assert any(hazard.later.unit == unit for hazard in found)
        spaces[unit] = {hazard.space for hazard in found}
    assert spaces.items() >= {"load": {"l1"}, "move": {"l1", "l0a", "l0b"}, "cube": {"l0a", "l0b", "l0c"}}.items()
    assert "l0c" in spaces["fixpipe"]


def product(image: Image, arrays: list[Array], seed: int | None) -> bytes:
    """What a product gives in an order of turns that a seed chooses, without time."""
    memory = GlobalMemory(1 << 20)
    for address, array in zip(ADDRESSES, arrays, strict=False):
        memory.write(address, array)
    windows = list(zip(ADDRESSES, SIZES, strict=True))
    chip = the_chip("edge")
    interpret(chip, the_isa(), image, memory=memory, addresses=ADDRESSES, windows=windows, seed=seed)
    return memory.read(ADDRESSES[2], SIZES[2]).tobytes()


def test_what_is_not_reported_gives_the_same_in_any_order() -> None:
    """One wait taken away: other waits may imply it. Then the random orders of the interpreter must not matter."""
    arrays, chip = CASE.arrays(), the_chip("edge")
    image = kernel("edge")
    want = product(image, arrays, None)
    np.testing.assert_allclose(
        np.frombuffer(want, dtype=np.float32).reshape(90, 50), CASE.expected(arrays), rtol=1e-3, atol=1e-3
    )
    spared = differs = 0
    for pc, insn in waiting(image):
        for i in range(len(insn.wait)):
            mutant = changed(image, pc, replace(insn, wait=insn.wait[:i] + insn.wait[i + 1 :]))
            try:
                same = all(product(mutant, arrays, seed) == want for seed in (1, 2))
            except SimulationError:
                continue
            found = hazards(chip, mutant)
            assert same or found
            spared += not found
            differs += not same
    assert spared
    assert differs
