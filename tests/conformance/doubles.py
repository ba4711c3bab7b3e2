"""Doubles for the tests of the suite: a target that decodes as it should, what makes it wrong, and a few instructions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from npuvm.isa import DecodeError, Insn, Isa, WordClass, decode_at, load_isa_text
from npuvm.isa.conformance import Decoded, Level, Outcome, ProgramCase, Target
from npuvm.isa.resources import find_resource

__all__ = ["DECODING", "FEW", "TEXT", "Fault", "Pupil", "few_instructions", "pupil", "without_tool", "wrong_pupil"]

TEXT = find_resource("isa", "npu_v1").read_text(encoding="utf-8")
"""The base set."""

FEW = ("nop", "grid", "dstr", "dwin", "usync", "ld", "mma", "fix", "vadd", "vsub", "vmuls", "vcast", "ldx")

DECODING = frozenset({Level.GOLDEN, Level.ENCODING, Level.CLASSES})

Fault = Callable[[Isa, Sequence[int], Decoded], Decoded]
"""What a wrong target answers, from the words and the right answer."""


def few_instructions(*extensions: str, names: Collection[str] = FEW, text: str = TEXT) -> Isa:
    """An instruction set with these instructions only, for tests in which more would only take longer."""
    text = re.sub(r"^(  indexed: {default: )true", r"\1false", text, flags=re.MULTILINE)  # one feature is off
    kept = [
        line for line in text.splitlines() if not (name := re.match(r"  - \{name: (\w+),", line)) or name[1] in names
    ]
    texts = [find_resource("extension", name).read_text(encoding="utf-8") for name in extensions]
    return load_isa_text("\n".join(kept) + "\n", texts)


class Pupil:
    """Decodes with the codec; `fault` changes the answer. Runs no programs."""

    name = "pupil"

    def __init__(self, fault: Fault | None = None, missing: str | None = None) -> None:
        self.fault = fault
        self.missing = missing
        self.seen = 0

    def levels(self) -> frozenset[Level]:
        return DECODING

    def unavailable(self) -> str | None:
        return self.missing

    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        self.seen += len(programs)
        answers = [_decode(isa, words) for words in programs]
        if self.fault is None:
            return answers
        return [self.fault(isa, words, answer) for words, answer in zip(programs, answers, strict=True)]

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        raise NotImplementedError("it only decodes")


def _decode(isa: Isa, words: Sequence[int]) -> Decoded:
    try:
        insn, length = decode_at(isa, words)
    except DecodeError as exc:
        return Decoded(WordClass(exc.word_class))
    return Decoded(WordClass.LEGAL, length, insn, _unit(isa, insn))


def _unit(isa: Isa, insn: Insn) -> str:
    unit = isa.instruction(insn.op).unit
    names = {code: name for name, code in isa.units.items()}
    return names[insn.args["unit"]] if unit == "any" else unit


def pupil() -> Target:
    """For `--target tests.conformance.doubles:pupil`."""
    return Pupil()


def wrong_pupil() -> Target:
    """Takes every instruction for one with the order bit off."""
    return Pupil(lambda _isa, words, answer: _decode(_isa, [words[0] & ~(1 << 50), *words[1:]]))


def without_tool() -> Target:
    """Cannot run here."""
    return Pupil(missing="frobsim is not installed; apt-get install frobsim")
