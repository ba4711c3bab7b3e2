"""Instruction sets that lack what programs use: those programs are left out with the reason, all others run."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from tests.conformance.doubles import TEXT
from tests.isa.off import isa_without

from npuvm.isa import Isa, load_isa, load_isa_text
from npuvm.isa.conformance import Decoded, Level, LevelReport, Outcome, ProgramCase, SuiteOptions, run_suite
from npuvm.isa.conformance.needs import lacking, type_pairs
from npuvm.isa.conformance.programs import program_cases
from npuvm.isa.conformance.writers import render_html, render_json, render_junit

PROGRAMS = (Level.SEMANTICS, Level.SEQUENCES, Level.TRAPS, Level.CHIPS)


class Reader:
    """Gives back what a case expects, and remembers the texts that it got."""

    name = "reader"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def levels(self) -> frozenset[Level]:
        return frozenset(PROGRAMS)

    def unavailable(self) -> str | None:
        return None

    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        raise NotImplementedError("it only runs programs")

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        self.texts.append(case.text)
        if case.trap or case.refused:
            return Outcome(trap=case.trap, error=f"[{case.refused}]")
        arrays = [case.expected.get(i, array) for i, array in enumerate(case.arguments)]
        return Outcome(tuple(np.frombuffer(array.tobytes(), np.uint8) for array in arrays))


def without(*names: str) -> Isa:
    kept = [line for line in TEXT.splitlines() if not (m := re.match(r"  - \{name: (\w+),", line)) or m[1] not in names]
    return load_isa_text("\n".join(kept) + "\n")


def run(isa: Isa, *levels: Level) -> tuple[list[LevelReport], Reader]:
    target = Reader()
    report = run_suite(isa, target, SuiteOptions(levels=frozenset(levels)))
    assert [str(failure) for level in report.levels for failure in level.failures] == []
    for render in (render_html, render_json, render_junit):
        assert all(reason in render(report) for level in report.levels for reason in level.reasons)
    return list(report.levels), target


def no_bf16() -> Isa:
    def kept(found: re.Match[str]) -> str:
        return f"dtypes: [{', '.join(each for each in found[1].split(', ') if 'bf16' not in each)}]"

    return load_isa_text(re.sub(r"dtypes: \[([^\]]*)\]", kept, TEXT))


def test_the_shipped_instruction_set_has_all_that_programs_use() -> None:
    isa = load_isa()
    texts = [case for level in PROGRAMS for case in program_cases(isa, level, 1)]
    assert {case.id: lacking(isa, case.text) for case in texts if lacking(isa, case.text)} == {}


@pytest.mark.parametrize("names", [("stadd",), ("fix", "fixadd"), ("ring",), ("scdiv", "lds")])
def test_programs_with_a_missing_instruction_are_left_out(names: tuple[str, ...]) -> None:
    levels, target = run(without(*names), *PROGRAMS[1:])
    word = re.compile(rf"^({'|'.join(names)})\b", re.MULTILINE)
    assert target.texts
    assert [text for text in target.texts if word.search(text)] == []
    assert {reason for level in levels for reason in level.reasons} <= {f"there is no {name}" for name in names}
    for level in levels:
        assert level.cases
        assert {
            why.partition(" was left out: ")[2].removeprefix("there is no ") for why in level.uncovered.values()
        } <= {*names}


def test_a_missing_instruction_takes_its_own_bins_along_and_names_those_of_other_programs() -> None:
    (semantics, sequences, traps, _), _ = run(without("stadd", "lds", "fix", "vexp"), *PROGRAMS)
    assert set(semantics.reasons) == {"there is no fix"}  # by which all that the cube makes is seen
    assert "semantics/mma/fp16 was left out: there is no fix" in semantics.uncovered.values()
    assert not [name for name in semantics.covered if re.search("/(stadd|vexp)/", name)]
    assert sequences.uncovered["sequences/register/wraps"] == "sequences/legal/registers was left out: there is no lds"
    assert (
        traps.uncovered["traps/stadd/gm_range/one-beyond"] == "traps/stadd/one-beyond was left out: there is no stadd"
    )


def test_a_missing_type() -> None:
    isa = no_bf16()
    assert "bf16" not in {each for name in isa.instructions for pair in type_pairs(isa, name) for each in pair}
    (semantics,), target = run(isa, Level.SEMANTICS)
    assert semantics.cases and not [text for text in target.texts if ".bf16" in text]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("vadd.fp64 dst=d0 a=d1 b=d2 rows=s0 cols=s1", "vadd does not take fp64"),
        ("start: vadd.fp32 dst=d256 a=d1 b=d2 rows=s0 cols=s1", "vadd does not take dst=d256"),
        ("ld.fp32 dst=d0 src=d1 rows=s0 cols=s1 cache=never", "ld does not take cache=never"),
        ("nop shape=3", "nop has no operand shape"),
        ("grid loops=9 t0=s0", "grid does not take loops=9"),
        ("nop | if second(l0)", "there is no predicate second"),
        ("nop | if first(l1,l8)", "it has 8 loops, number 8 is used"),
        ("nop | wait m1 m63 set m2", "it has 63 semaphores, number 63 is used"),
        ("frob rows=s0", "there is no frob"),
        ("# frob rows=s0", None),
        (".entry cube cube", None),
        ("desc desc=d0 space=gm base=@arg0+4 pitch=0x10 # frob", None),
        ("vadds.fp32 dst=d0 a=d1 rows=s0 cols=s1 imm=1.5 | if first(l1,l7) wait m62", None),
    ],
)
def test_what_is_read_of_a_line(line: str, reason: str | None) -> None:
    assert lacking(load_isa(), line) == reason


def test_what_is_off_is_told() -> None:
    assert lacking(isa_without("indexed"), "ldx.fp32 dst=d0") == "ldx is off: feature indexed"


def test_a_smaller_table_of_rings_leaves_out_what_uses_more() -> None:
    isa = load_isa_text(TEXT.replace("  rings: 16", "  rings: 1", 1))
    (sequences,), target = run(isa, Level.SEQUENCES)
    assert target.texts and not [text for text in target.texts if "ring=g1" in text]
    assert {reason.rpartition("=")[2] for reason in sequences.reasons} == {"g1"}
