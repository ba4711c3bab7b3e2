"""The cases and bins themselves: complete, reproducible, and of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from tests.conformance.doubles import few_instructions

from npuvm.isa import WordClass, load_isa
from npuvm.isa.conformance.bins import classes_bins, encoding_bins, golden_bins, lint_bins
from npuvm.isa.conformance.cases import Check, WordCase, describe
from npuvm.isa.conformance.classes import classes_cases
from npuvm.isa.conformance.encoding import encoding_cases
from npuvm.isa.conformance.invariants import invariants_of
from npuvm.isa.conformance.layout import Layout
from npuvm.isa.conformance.sample import random_programs
from npuvm.isa.resources import data_root

ISA = load_isa()
LAYOUT = Layout(ISA.resolved)
FEW = few_instructions()
FEW_LAYOUT = Layout(FEW.resolved)
ON = [spec for spec in ISA.instructions.values() if ISA.features[spec.feature]]


def test_bins_have_four_parts_and_appear_once() -> None:
    lists: list[Iterable[str]] = [make(LAYOUT) for make in (lint_bins, golden_bins, encoding_bins, classes_bins)]
    names = [name for bins in lists for name in bins]
    assert len(set(names)) == len(names)
    assert {name.count("/") for name in names} <= {2, 3}


def test_encoding_bins_name_every_operand_at_both_bounds_and_one_beyond() -> None:
    """Counted from the frozen instructions, which the bins do not read."""
    bins = set(encoding_bins(LAYOUT))
    for spec in ON:
        for operand in spec.operands:
            prefix = f"encoding/{spec.name}/{operand.name}"
            bounds = {f"is-{name}" for name in operand.values} or {"min", "max"}
            assert {f"{prefix}/{what}" for what in bounds | {"below", "above"}} <= bins


def test_classes_bins_name_every_bit_once() -> None:
    bits = Counter(name.split("/")[1] for name in classes_bins(LAYOUT) if "/flip" in name or "/reserved/" in name)
    del bits["any"]  # the random words with flipped bits
    assert bits == {spec.name: 64 * (spec.words + 1) for spec in ON}


@pytest.mark.parametrize("value", ["one below", "one above"])
def test_a_bound_that_moves_changes_a_case(value: str) -> None:
    """`grid` takes 1 to 8 loops: 0 and 9 must be there as words that are illegal."""
    beyond = {"one below": 0, "one above": 9}[value]
    cases = [c for c in encoding_cases(FEW, FEW_LAYOUT, 1) if isinstance(c, WordCase) and "/grid/loops/" in c.id]
    illegal = [case.words[0] >> 51 & 15 for case in cases if case.expected.word_class is WordClass.ILLEGAL_OPERAND]
    assert beyond in illegal


def test_the_same_seed_gives_the_same_cases_and_another_one_others() -> None:
    def of(seed: int) -> list[list[int]]:
        encoding = [case.words for case in encoding_cases(FEW, FEW_LAYOUT, seed) if isinstance(case, WordCase)]
        return encoding + [case.words for case in classes_cases(FEW_LAYOUT, seed, 40)]

    assert of(1) == of(1)
    assert of(1) != of(2)


def test_case_names_are_unique() -> None:
    names = Counter(case.id for case in (*encoding_cases(FEW, FEW_LAYOUT, 1), *classes_cases(FEW_LAYOUT, 1, 100)))
    assert not [name for name, count in names.items() if count > 1]


def test_random_words_reach_every_class() -> None:
    found: dict[str, Counter[WordClass]] = {}
    for program in random_programs(LAYOUT, 1, 8000):
        found.setdefault(program.kind, Counter())[LAYOUT.decode(program.words).word_class] += 1
    assert {kind: sum(count.values()) for kind, count in found.items()} == dict.fromkeys(found, 2000)
    assert min(found["allocated"][word_class] for word_class in WordClass) > 20
    assert found["flipped"][WordClass.LEGAL] > 200
    assert min(found["truncated"][word_class] for word_class in (WordClass.LEGAL, WordClass.UNALLOCATED)) > 500


def test_checks_say_what_was_found() -> None:
    checks = [case for case in encoding_cases(FEW, FEW_LAYOUT, 1) if isinstance(case, Check)]
    kinds = Counter(check.id.rpartition(":")[2] for check in checks if ":" in check.id)
    assert kinds["print"] == len([c for c in encoding_cases(FEW, FEW_LAYOUT, 1) if c.id.endswith(":print")]) > 500
    assert kinds["encode"] > kinds["print"]


def test_a_description_shows_every_field() -> None:
    case = next(
        case for case in classes_cases(FEW_LAYOUT, 1, 0) if case.expected.insn is not None and case.expected.insn.pred
    )
    insn = case.expected.insn
    assert insn is not None
    text = describe(case.expected)
    assert all(f"{name}={value}" in text for name, value in insn.args.items())


def test_the_invariants_speak_of_this_instruction_set_only() -> None:
    folder = data_root() / "isa" / "conformance"
    rules = invariants_of(ISA, folder)
    assert rules is not None
    assert {name for name, opcode in rules["opcodes"].items() if ISA.by_opcode[opcode].name == name} == set(
        ISA.instructions
    )
