"""Faults put in by hand: each must be caught, and by the level that is there for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.conformance.doubles import TEXT, Fault, Pupil, few_instructions

from npuvm.isa import Isa, IsaError, WordClass, load_isa_text
from npuvm.isa.conformance import Decoded, Level, Report, SuiteOptions, run_suite

DESCRIPTION = SuiteOptions(levels=frozenset({Level.LINT, Level.GOLDEN}))
WORDS = SuiteOptions(levels=frozenset({Level.ENCODING, Level.CLASSES}), words=400)


def failing_levels(report: Report) -> set[str]:
    return {level.level.value for level in report.levels if level.failed}


def changed(old: str, new: str) -> Isa:
    """The instruction set with one place of its text changed."""
    assert TEXT.count(old) == 1, old
    return load_isa_text(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "levels"),
    [
        # A field shifted by one bit; nothing derived from the file can see it.
        ('imm: {bits: "1:47:0", kind: sint}', 'imm: {bits: "1:48:1", kind: sint}', {"lint", "golden"}),
        ('trip: {bits: "0:59:54", kind: size}', 'trip: {bits: "0:60:55", kind: size}', {"lint", "golden"}),
        # Two operands of a format swapped.
        (
            'loop_a: {bits: "0:59:57", kind: loop}\n      loop_b: {bits: "0:62:60", kind: loop, default: 0}',
            'loop_a: {bits: "0:62:60", kind: loop}\n      loop_b: {bits: "0:59:57", kind: loop, default: 0}',
            {"lint", "golden"},
        ),
        # Two opcodes, two codes of a type, two predicates exchanged.
        ("name: sadd, opcode: 0x13", "name: sadd, opcode: 0xe3", {"lint"}),
        ("changed: 5, changes: 6}", "changed: 6, changes: 5}", {"lint", "golden"}),
        # A sign forgotten, a bound moved.
        ('stride: {bits: "1:47:0", kind: sint}', 'stride: {bits: "1:47:0", kind: uint}', {"golden"}),
        # A slip in an expression that still means something.
        ('semantics: "dst = a + b"', 'semantics: "dst = a + a"', {"lint"}),
        ('semantics: "dst = where(c, a, b)"', 'semantics: "dst = where(c, a, a)"', {"lint"}),
        # An opcode taken from the space of extensions.
        ("name: smin, opcode: 0x17", "name: smin, opcode: 0xc7", {"lint", "golden"}),
    ],
)
def test_a_slip_in_the_description(old: str, new: str, levels: set[str]) -> None:
    """The target follows the changed description, and so do encoder and decoder: only what was written apart can tell."""
    report = run_suite(changed(old, new), Pupil(), DESCRIPTION)
    assert levels <= failing_levels(report)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: vsub, opcode: 0x59", "name: vsub, opcode: 0x58", "opcode 0x58 is taken by vadd"),
        (
            'b: {bits: "1:23:16", kind: desc, role: read, spaces: [ub]',
            'b: {bits: "1:16:9", kind: desc, role: read, spaces: [ub]',
            "overlap",
        ),
        ('semantics: "dst = a + b"', 'semantics: "dst = a + d"', "'d'|unknown|allowed"),
    ],
)
def test_slips_that_the_loader_refuses(old: str, new: str, message: str) -> None:
    with pytest.raises(IsaError, match=message):
        changed(old, new)


def reserved_ignored(isa: Isa, words: Sequence[int], answer: Decoded) -> Decoded:
    """Reads an instruction whatever its reserved bits are."""
    if answer.word_class is not WordClass.RESERVED_BITS:
        return answer
    spec = isa.by_opcode[words[0] & 0xFF]
    body = [word & ~mask for word, mask in zip(words[: spec.words + 1], spec.reserved, strict=True)]
    return Pupil().decode(isa, [body])[0]


def one_reserved_bit_ignored(isa: Isa, words: Sequence[int], answer: Decoded) -> Decoded:
    """Bit 60 of the second word of `vadd`."""
    if words[0] & 0xFF != 0x58 or answer.word_class is not WordClass.RESERVED_BITS:
        return answer
    return Pupil().decode(isa, [[words[0], words[1] & ~(1 << 60)]])[0]


def operands_swapped(_isa: Isa, _words: Sequence[int], answer: Decoded) -> Decoded:
    if answer.insn is None or answer.insn.op != "vsub":
        return answer
    args = {**answer.insn.args, "a": answer.insn.args["b"], "b": answer.insn.args["a"]}
    return replace(answer, insn=replace(answer.insn, args=args))


def sign_lost(_isa: Isa, _words: Sequence[int], answer: Decoded) -> Decoded:
    if answer.insn is None or answer.insn.op != "dstr":
        return answer
    stride = answer.insn.args["stride"] & (1 << 48) - 1
    return replace(answer, insn=replace(answer.insn, args={**answer.insn.args, "stride": stride}))


def cut_short_accepted(isa: Isa, words: Sequence[int], answer: Decoded) -> Decoded:
    """Takes words that are not there for zero."""
    if answer.word_class is not WordClass.UNALLOCATED or len(words) > 7:
        return answer
    return Pupil().decode(isa, [[*words, *[0] * 8]])[0]


def feature_taken_for_unallocated(_isa: Isa, _words: Sequence[int], answer: Decoded) -> Decoded:
    return Decoded(WordClass.UNALLOCATED) if answer.word_class is WordClass.FEATURE_OFF else answer


def operand_before_reserved(isa: Isa, words: Sequence[int], answer: Decoded) -> Decoded:
    """Looks at operands before reserved bits."""
    cleared = reserved_ignored(isa, words, answer)
    return cleared if cleared.word_class is WordClass.ILLEGAL_OPERAND else answer


def looks_at_the_words_behind(isa: Isa, words: Sequence[int], answer: Decoded) -> Decoded:
    """A legal instruction with the same opcode behind it is taken for illegal."""
    behind = words[answer.words :] if answer.insn is not None else ()
    return Decoded(WordClass.ILLEGAL_OPERAND) if any(word & 1 for word in behind) else answer


def order_off(_isa: Isa, _words: Sequence[int], answer: Decoded) -> Decoded:
    return replace(answer, insn=replace(answer.insn, order=False)) if answer.insn else answer


def unit_wrong(_isa: Isa, _words: Sequence[int], answer: Decoded) -> Decoded:
    return replace(answer, unit="seq") if answer.unit == "fixpipe" else answer


@pytest.mark.parametrize(
    ("fault", "levels"),
    [
        (reserved_ignored, {"classes"}),
        (one_reserved_bit_ignored, {"classes"}),
        (operands_swapped, {"encoding", "classes"}),
        (sign_lost, {"encoding", "classes"}),
        (cut_short_accepted, {"classes"}),
        (feature_taken_for_unallocated, {"classes"}),
        (operand_before_reserved, {"classes"}),
        (looks_at_the_words_behind, {"classes"}),
        (order_off, {"encoding", "classes"}),
        (unit_wrong, {"encoding", "classes"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_fault_in_a_target(fault: Fault, levels: set[str]) -> None:
    assert failing_levels(run_suite(few_instructions(), Pupil(fault), WORDS)) == levels


def test_the_bin_of_a_case_that_failed_is_not_covered() -> None:
    report = run_suite(few_instructions(), Pupil(one_reserved_bit_ignored), WORDS).level(Level.CLASSES)
    assert report.uncovered == {"classes/vadd/reserved/1:60": "a case of it failed"}


def test_a_right_target_passes() -> None:
    report = run_suite(few_instructions(), Pupil(), WORDS)
    assert report.ok
    assert [level.level for level in report.levels] == [Level.ENCODING, Level.CLASSES]
    assert [dict(level.uncovered) for level in report.levels] == [{}, {}]


def test_an_extension_is_covered_without_a_case_written_for_it() -> None:
    report = run_suite(few_instructions("fma"), Pupil(), WORDS)
    assert report.ok
    covered = report.level(Level.CLASSES).covered | report.level(Level.ENCODING).covered
    assert {"encoding/vfma/c/max", "classes/vfma/c/flip7", "classes/any/opcode/0xc0"} <= covered
    assert [dict(level.uncovered) for level in report.levels] == [{}, {}]
