"""The names and codes that readers of programs rely on, against the instruction set."""

from __future__ import annotations

from npuvm.isa import load_isa
from npuvm.isa.control import CONTROL, ROLES, SCOPES, SET_UP

ISA = load_isa()


def test_structure_is_made_by_sequencer_instructions() -> None:
    assert not SET_UP & CONTROL
    assert {ISA.instruction(name).unit for name in SET_UP | CONTROL} == {"seq"}


def test_codes_are_those_of_the_instruction_set() -> None:
    assert dict(ISA.instruction("barrier").operand("scope").values) == {name: code for code, name in enumerate(SCOPES)}
    assert dict(ISA.instruction("desc").operand("role").values) == {name: code for code, name in enumerate(ROLES)}
    assert list(ISA.semaphore_scopes) == list(SCOPES)
