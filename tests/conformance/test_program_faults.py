"""Faults in what instructions do, put in by hand: levels semantics and sequences must name the instruction or the program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.conformance.doubles import TEXT, few_instructions

from npuvm.hw.conformance import launch
from npuvm.hw.functional import execute as executor
from npuvm.isa import Isa, load_isa
from npuvm.isa.conformance import Level, LevelReport, ProgramCase, SuiteOptions, find_target, run_suite
from npuvm.isa.conformance.sequences import sequence_cases
from npuvm.isa.numerics import convert

SLIPS = {
    "vsub": ("dst = a - b", "dst = b - a"),
    "vexp": ("dst = exp(a)", "dst = tanh(a)"),
    "vsel": ("dst = where(c, a, b)", "dst = where(c, b, a)"),
    "vsuml": ("dst = sum(a, axis=last)", "dst = max(a, axis=last)"),
}
"""Instruction -> its expression and a wrong one that loads all the same."""

NAMES = [spec.name for spec in load_isa().instructions.values() if spec.unit != "vector"] + [*SLIPS, "vmul", "vmov"]


def semantics(isa: Isa) -> LevelReport:
    options = SuiteOptions(levels=frozenset({Level.SEMANTICS}))
    return run_suite(isa, find_target("functional"), options).level(Level.SEMANTICS)


def failed_instructions(report: LevelReport) -> set[str]:
    return {group.split("/")[1] for group, counted in report.groups.items() if counted.failed}


def test_slips_in_expressions() -> None:
    """The target follows the changed expressions; what is expected was written for the mnemonics."""
    text = TEXT
    for right, wrong in SLIPS.values():
        assert text.count(f'"{right}"') == 1
        text = text.replace(f'"{right}"', f'"{wrong}"')
    report = semantics(few_instructions(names=NAMES, text=text))
    assert failed_instructions(report) == set(SLIPS)
    assert {name.split("/")[1] for name in report.uncovered} == set(SLIPS)


def test_a_wrong_rounding_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towards zero instead of to nearest even, where results become narrower floats."""

    def towards_zero(values: Any, dtype: Any) -> Any:
        near = convert(values, dtype)
        if values.dtype != np.float32 or dtype.kind != "float" or dtype.bits == 32:
            return near
        with np.errstate(all="ignore"):
            beyond = np.abs(near.astype(np.float32)) > np.abs(values)
            return np.where(beyond, np.nextafter(near.astype(np.float16), np.float16(0)).astype(near.dtype), near)

    monkeypatch.setattr(executor, "convert", towards_zero)
    report = semantics(few_instructions(names=NAMES))
    assert {"vsub", "vsuml", "vmul"} <= failed_instructions(report)
    assert "vmov" not in failed_instructions(report)


@pytest.fixture(scope="module")
def refused() -> list[ProgramCase]:
    return [case for case in sequence_cases(load_isa()) if case.refused is not None]


def test_a_verifier_that_sees_nothing(monkeypatch: pytest.MonkeyPatch, refused: list[ProgramCase]) -> None:
    """Every program that must be refused is a failed case then: none of them fails by itself with the rule's name."""
    monkeypatch.setattr(launch, "verify", lambda *_args, **_kwargs: None)
    options = SuiteOptions(levels=frozenset({Level.SEQUENCES}))
    report = run_suite(load_isa(), find_target("functional"), options).level(Level.SEQUENCES)
    failed = {group for group, counted in report.groups.items() if counted.failed}
    assert failed == {case.id for case in refused}


@pytest.mark.parametrize(
    "slip",
    ["hazard/missing-wait-of-a-reader", "balance/unbalanced-ring", "balance/last-iteration-that-leaves-a-credit"],
)
def test_the_slips_that_a_person_makes_are_among_the_programs(slip: str, refused: list[ProgramCase]) -> None:
    (case,) = [case for case in refused if case.id == f"sequences/refused/{slip}"]
    assert case.refused == slip.split("/")[0]
