"""Arbitrary and almost right input: never a crash, always a class, an image, or an error that says what and where."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import strategies as st
from tests.fuzz import generators, targets
from tests.fuzz.budget import fuzz
from tests.fuzz.generators import PIECES, seeded
from tests.fuzz.guarded import Launchable, launches, the_isa
from tests.isa.strategies import images
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, PIPELINE, PRODUCT, SPLIT, UNIFIED

from npuvm.isa import CapacityLimits, Image, assemble, disassemble, verify

TEXTS = [ELEMENTWISE, PRODUCT, CAUSAL, PIPELINE]
PROGRAMS = [assemble(the_isa(), text) for text in TEXTS]
PRINTED = [disassemble(the_isa(), program) for program in PROGRAMS]
ANY_WORDS = st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=8)
WORDS = seeded(generators.words) | seeded(generators.words) | seeded(generators.words) | ANY_WORDS


def test_decoder() -> None:
    assert fuzz("decoder", WORDS, targets.decoded, 500, 0.1).outcomes["legal"]


def test_disassembler() -> None:
    assert fuzz("disassembler", WORDS, targets.disassembled, 200, 0.1).outcomes["no instruction"]


def test_assembler() -> None:
    almost = seeded(partial(generators.text, bases=[*TEXTS, *PRINTED]))
    texts = almost | almost | st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)
    assert fuzz("assembler", texts, targets.assembled, 200, 0.1).outcomes["refused"]


def test_loader() -> None:
    almost = seeded(partial(generators.serialised, bases=PROGRAMS))
    assert fuzz("loader", st.binary(max_size=200) | almost | almost, targets.loaded, 200, 0.1).outcomes["refused"]


@pytest.mark.parametrize("limits", [UNIFIED, SPLIT], ids=["unified", "split"])
def test_verifier(limits: CapacityLimits) -> None:
    fitting = [each for each in PROGRAMS if verify(the_isa(), each, limits, collect=True).ok]
    almost = seeded(partial(generators.program, bases=fitting))
    name = "verifier, " + "-".join(limits.group)
    target = partial(targets.verified, limits=limits)
    outcomes = fuzz(name, almost | almost | images(the_isa()), target, 60, 0.1).outcomes
    assert outcomes["refused"] and outcomes["verified"]


def test_launches() -> None:
    def damaged(rng: Random) -> tuple[Launchable, Image]:
        launch = rng.choice(list(launches().values()))
        return launch, generators.program(rng, [launch.image])

    def run(value: tuple[Launchable, Image]) -> str:
        launch, image = value
        return targets.ran(image, launch.arguments, 20 * launch.cycles)

    assert fuzz("launches", seeded(damaged), run, 60, 0.2).outcomes["refused"]


def test_programs_of_several_cores() -> None:
    """Programs in which cores signal each other, or share a grid, on the chips that have such cores."""

    def run(image: Image) -> str:
        unified = all(entry.core_type == "unified" for entry in image.entries)
        arguments = [bytes(range(256)) * 128] * image.n_args
        return targets.ran(image, arguments, 400_000, "ascend_910a" if unified else "ascend_910b1")

    almost = seeded(partial(generators.program, bases=PROGRAMS))
    outcomes = fuzz("programs of several cores", almost, run, 40, 0.2).outcomes
    assert outcomes["refused"] and outcomes["ran"]
