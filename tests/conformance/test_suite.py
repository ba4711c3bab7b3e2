"""How the suite treats what it is given: targets that misbehave, levels that are not there, other instruction sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.conformance.doubles import TEXT, Pupil, few_instructions

from npuvm.isa import Isa, IsaError, WordClass, load_isa, load_isa_text
from npuvm.isa.conformance import (
    ConformanceError,
    Decoded,
    Level,
    SuiteOptions,
    available_targets,
    find_target,
    run_suite,
    unloadable,
)
from npuvm.isa.conformance.report import KEPT_FAILURES

GOLDEN = SuiteOptions(levels=frozenset({Level.GOLDEN}))


class Raising(Pupil):
    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        raise OSError("the board is gone")


class Forgetful(Pupil):
    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        return super().decode(isa, programs)[:-1]


def test_an_answer_that_is_none_of_the_kind_is_a_failed_case() -> None:
    nothing: Any = None
    report = run_suite(load_isa(), Pupil(lambda *_: nothing), GOLDEN)
    assert {failure.got for failure in report.level(Level.GOLDEN).failures} == {"None"}


@pytest.mark.parametrize(("target", "got"), [(Raising(), "OSError: the board is gone"), (Forgetful(), "answers")])
def test_a_target_that_gives_no_answer_is_a_failed_case(target: Pupil, got: str) -> None:
    report = run_suite(load_isa(), target, GOLDEN)
    (failure,) = report.level(Level.GOLDEN).failures
    assert failure.case == "golden/any/decode"
    assert got in failure.got
    assert not report.ok


def test_one_call_decodes_a_whole_level() -> None:
    target = Pupil()
    report = run_suite(load_isa(), target, GOLDEN)
    assert 0 < target.seen < report.level(Level.GOLDEN).cases
    assert report.level(Level.GOLDEN).words >= target.seen


def test_levels_that_a_target_does_not_have() -> None:
    report = run_suite(few_instructions(), Pupil(), SuiteOptions(words=0))
    skipped = {level.level for level in report.levels if level.skipped == "target pupil does not run it"}
    assert skipped == {Level.SEMANTICS, Level.SEQUENCES, Level.TRAPS, Level.CHIPS}
    with pytest.raises(
        ConformanceError, match="target pupil: does not run level traps; it runs lint, golden, encoding"
    ):
        run_suite(load_isa(), Pupil(), SuiteOptions(levels=frozenset({Level.TRAPS})))


def test_random_words_that_were_not_asked_for_leave_their_bins_open() -> None:
    report = run_suite(few_instructions(), Pupil(), SuiteOptions(levels=frozenset({Level.CLASSES}), words=0))
    kinds = ("allocated", "flipped", "truncated", "uniform")
    assert report.level(Level.CLASSES).uncovered == {f"classes/any/random/{k}": "no case covers it" for k in kinds}


def test_the_room_that_is_left_is_told() -> None:
    lint = SuiteOptions(levels=frozenset({Level.LINT}))
    base, more = load_isa(), load_isa(None, ["fma"])
    free, taken = 256 - len(base.instructions), len(more.instructions) - len(base.instructions)
    assert run_suite(base, Pupil(), lint).notes == (f"{free} opcodes are free, 64 of them in the space of extensions",)
    (note,) = run_suite(more, Pupil(), lint).notes
    assert note == f"{free - taken} opcodes are free, {64 - taken} of them in the space of extensions"


def test_progress_names_every_level_before_it_runs() -> None:
    seen: list[tuple[Level, int, int]] = []
    options = SuiteOptions(levels=frozenset({Level.LINT, Level.GOLDEN}))
    run_suite(load_isa(), Pupil(), options, lambda level, done, total: seen.append((level, done, total)))
    assert seen == [(Level.LINT, 0, 2), (Level.GOLDEN, 1, 2)]


def test_another_instruction_set_has_no_words_by_hand() -> None:
    text = TEXT.replace('version: "1.0"', 'version: "9.0"', 1)
    report = run_suite(load_isa_text(text), Pupil(), SuiteOptions(levels=frozenset({Level.LINT, Level.GOLDEN})))
    assert report.level(Level.GOLDEN).skipped == "nobody assembled words of this instruction set by hand"
    assert report.notes[1:] == ("what is written by hand speaks of another instruction set than npu 9.0",)
    assert not [name for name in report.level(Level.LINT).covered if name.startswith("lint/invariants/")]
    assert report.ok


def test_tables_that_are_smaller_than_their_fields() -> None:
    """Six loops and forty semaphores leave values that heads can hold and must not: words of their own."""
    text = TEXT.replace("loops: 8", "loops: 6").replace("min: 1, max: 8}", "min: 1, max: 6}")
    text = text.replace("semaphores: 63", "semaphores: 40").replace('version: "1.0"', 'version: "2.0"', 1)
    text = text.replace(
        "core: [0, 39]\n  group: [40, 51]\n  launch: [52, 62]", "core: [0, 19]\n  group: [20, 29]\n  launch: [30, 39]"
    )
    options = SuiteOptions(levels=frozenset({Level.LINT, Level.ENCODING, Level.CLASSES}), words=400)
    report = run_suite(few_instructions(text=text), Pupil(), options)
    assert report.ok
    assert [dict(level.uncovered) for level in report.levels] == [{}, {}, {}]
    covered = report.level(Level.CLASSES).covered
    assert {"classes/vadd/mask/unallocated", "classes/vadd/wait/unallocated", "classes/grid/loops/illegal"} <= covered


def test_failures_past_a_thousand_are_counted() -> None:
    report = run_suite(few_instructions(), Pupil(lambda *_: Decoded(WordClass.UNALLOCATED)), SuiteOptions(words=400))
    classes = report.level(Level.CLASSES)
    assert len(classes.failures) == KEPT_FAILURES < classes.failed < classes.cases


def test_an_instruction_set_that_does_not_load_fails_lint() -> None:
    report = unloadable(
        "mine.yaml", ["fma"], "pupil", SuiteOptions(), IsaError("opcode 0x58 is taken", "mine.yaml:3:1")
    )
    assert not report.ok
    assert [(f.case, f.got) for f in report.level(Level.LINT).failures] == [
        ("lint/any/file/loads", "mine.yaml:3:1: opcode 0x58 is taken")
    ]
    assert {level.skipped for level in report.levels if level.level is not Level.LINT} == {
        "the instruction set does not load"
    }


def test_targets_are_found_by_name_and_by_path() -> None:
    assert {"functional", "simpy", "rtl"} <= set(available_targets())
    assert find_target("functional").name == "functional"
    assert find_target("tests.conformance.doubles:pupil").name == "pupil"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frobnicator", "no target 'frobnicator'; there are: .*functional.*, or give module:function"),
        ("tests.conformance.doubles:nobody", "has no attribute 'nobody'; give module:function"),
        ("no.such.module:make", "No module named 'no'; give module:function"),
        (":make", "give module:function"),
        ("tests.conformance.doubles:without_tool", "target .*: cannot run here: frobsim is not installed; apt-get"),
    ],
)
def test_targets_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(ConformanceError, match=message):
        find_target(name)
