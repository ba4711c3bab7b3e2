"""What must hold of any input: each function takes one, names the outcome, and raises when a property does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.fuzz.guarded import CHIP, outcome_of, the_isa

from npuvm.hw.errors import SimulationError
from npuvm.hw.expansion.program import ProgramText
from npuvm.isa import (
    AsmError,
    DecodeError,
    Image,
    IsaError,
    assemble,
    assemble_insns,
    decode_at,
    disassemble,
    disassemble_words,
    encode,
    format_insn,
    verify,
)
from npuvm.isa.model import WordClass
from npuvm.isa.verifier import RULES, CapacityLimits

_CLASSES = {each.value for each in WordClass} - {WordClass.LEGAL.value}
_PLACE = re.compile(r"<asm>:[0-9]+:[0-9]+")
_STEPS = 5000


def decoded(words: list[int]) -> str:
    """The first instruction of `words` decodes, prints and re-encodes to itself, or has one of the other four classes."""
    isa = the_isa()
    try:
        insn, length = decode_at(isa, words)
    except DecodeError as exc:
        assert exc.word_class in _CLASSES
        return str(exc.word_class)
    assert encode(isa, insn) == words[:length]
    assert assemble_insns(isa, format_insn(isa, insn)) == [insn]
    return "legal"


def disassembled(words: list[int]) -> str:
    """Any words print as text that assembles to the same words."""
    isa = the_isa()
    lines = disassemble_words(isa, words)
    assert assemble(isa, "\n".join(lines)).words.tolist() == words
    return "no instruction" if any(line.startswith(".word") for line in lines) else "all legal"


def assembled(text: str) -> str:
    """Any text is an error with its place, or an image whose own text assembles to it again."""
    isa = the_isa()
    try:
        image = assemble(isa, text)
    except AsmError as exc:
        assert exc.where is not None and _PLACE.fullmatch(exc.where), exc.where
        assert exc.message
        return "refused"
    printed = disassemble(isa, image)
    again = assemble(isa, printed)
    assert again.to_bytes() == image.to_bytes()
    assert disassemble(isa, again) == printed
    return "an image"


def loaded(data: bytes) -> str:
    """Any bytes are refused, or an image that writes the same bytes and prints unless its instruction set is another."""
    try:
        image = Image.from_bytes(data)
    except IsaError:
        return "refused"
    assert image.to_bytes() == data
    if image.isa_hash != the_isa().hash:
        return "of another set"
    assert assemble(the_isa(), disassemble(the_isa(), image)).to_bytes() == data
    return "an image"


def verified(image: Image, limits: CapacityLimits) -> str:
    """The verifier reports known rules, in a bounded number of steps, and the simulator reads every program it lets pass."""
    sizes = [1 << 20] * image.n_args
    report = verify(the_isa(), image, limits, argument_bytes=sizes, collect=True, max_steps=_STEPS)
    assert {finding.rule for finding in report.findings} <= set(RULES)
    assert report.steps <= _STEPS + 1
    text = ProgramText(the_isa(), image.words, image.relocs)
    for entry in image.entries:
        try:
            text.program(entry.pc)
        except SimulationError:
            assert not report.ok, "the simulator cannot read a program that is verified"
    return "verified" if report.ok else "refused"


def ran(image: Image, arguments: Sequence[bytes], cycle_limit: int, chip_name: str = CHIP) -> str:
    """A launch is refused, traps, or ends, and leaves alone what is not its own. What is verified cannot deadlock."""
    outcome = outcome_of(image, arguments, cycle_limit, chip_name)
    return outcome.split()[0] if outcome.startswith("refused") else outcome
