"""The conformance targets of this package: what becomes of a case, and that neither hides what a program did wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from npuvm.hw.conformance import functional_target, simpy_target
from npuvm.hw.conformance.launch import Launch, run_case
from npuvm.isa import Insn, WordClass, encode, load_isa
from npuvm.isa.conformance import Decoded, Level, ProgramCase, Target
from npuvm.isa.conformance.semantics_text import Program

ISA = load_isa()
TARGETS = [functional_target(), simpy_target()]


def negate(trap: str | None = None, base: int = 0) -> ProgramCase:
    """y = -x for eight numbers, with the tile of x at byte `base` of UB."""
    program = Program()
    loaded, done = program.signal(), program.signal()
    size = f"rows={program.size(1)} cols={program.size(8)}"
    x, y = program.desc("ub", base), program.desc("ub", 1024)
    program.add(f"ld.int32 dst={x} src={program.desc('gm', 0, arg=0)} {size} | set {loaded}")
    program.add(f"vneg.int32 dst={y} a={x} {size} | wait {loaded} set {done}")
    program.add(f"st.int32 dst={program.desc('gm', 0, arg=1)} src={y} {size} | wait {done}")
    x_values = np.arange(8, dtype=np.int32)
    arguments = (x_values, np.zeros_like(x_values))
    return ProgramCase("negate", Level.SEMANTICS, "edge", program.text(2), arguments, {1: -x_values}, trap=trap)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_arguments_come_back(target: Target) -> None:
    case = negate()
    outcome = target.run(ISA, case)
    assert (outcome.trap, outcome.error) == (None, None)
    assert [found.tobytes() for found in outcome.arguments] == [case.arguments[0].tobytes(), case.expected[1].tobytes()]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_program_that_is_to_run_is_verified_and_one_that_is_to_trap_is_not(target: Target) -> None:
    refused = target.run(ISA, negate(base=4))
    assert refused.trap is None
    assert "[alignment]" in (refused.error or "")
    trapped = target.run(ISA, negate(trap="alignment", base=4))
    assert (trapped.trap, trapped.error) == ("alignment", None)


def test_the_first_trap_of_the_stanza_counts() -> None:
    """ld names gm_range before buffer_range before alignment; here all three apply."""
    case = negate(trap="any", base=1 << 40 | 4)
    text = case.text.replace("base=@arg0+0", "base=@arg0+0x100001")
    for target in TARGETS:
        outcome = target.run(ISA, ProgramCase("k", Level.TRAPS, "edge", text, case.arguments, trap="any"))
        assert outcome.trap == "gm_range"


@pytest.mark.parametrize(
    "stray",
    [
        lambda launch: launch.windows[0][0] - 1,
        lambda launch: sum(launch.windows[0]),
        lambda launch: sum(launch.windows[1]) + 100,
    ],
    ids=["before", "between", "behind"],
)
def test_a_write_outside_all_arguments_is_an_error(stray: Callable[[Launch], int]) -> None:
    def run(launch: Launch) -> None:
        launch.memory.write(stray(launch), np.zeros(1, np.uint8))

    outcome = run_case(ISA, negate(), run)
    assert (outcome.error or "").startswith("wrote outside its arguments, at 0x")


def test_every_error_of_the_package_is_an_outcome() -> None:
    broken = ProgramCase("k", Level.SEMANTICS, "edge", "vadd.fp99\n")
    assert "data type" in (functional_target().run(ISA, broken).error or "")
    unknown = ProgramCase("k", Level.SEMANTICS, "no_such_chip", "halt\n")
    assert "no chip named" in (functional_target().run(ISA, unknown).error or "")


def test_a_hazard_is_an_error_of_the_timed_model() -> None:
    """Not verified, as it is said to trap: the hazard checker speaks."""
    case = negate(trap="any")
    text = case.text.replace("wait m0 set m1", "set m1")
    outcome = simpy_target().run(ISA, ProgramCase("k", Level.TRAPS, "edge", text, case.arguments, trap="any"))
    assert outcome.trap is None
    assert "after write in ub" in (outcome.error or "")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_decoding(target: Target) -> None:
    usync = Insn("usync", args={"unit": ISA.units["store"]}, set=(3,))
    words = encode(ISA, usync)
    assert target.decode(ISA, [words, [*words, 7], [0], [words[0] | 1 << 63]]) == [
        Decoded(WordClass.LEGAL, 1, usync, "store"),
        Decoded(WordClass.LEGAL, 1, usync, "store"),
        Decoded(WordClass.UNALLOCATED),
        Decoded(WordClass.RESERVED_BITS),
    ]


def test_what_the_targets_say_of_themselves() -> None:
    for target, name in zip(TARGETS, ("functional", "simpy"), strict=True):
        assert target.name == name
        assert target.unavailable() is None
        assert target.levels() == frozenset(Level) - {Level.LINT}
