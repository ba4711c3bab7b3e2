"""Level encoding: every field at its bounds, at random and one beyond, through target, encoder, printer and assembler.

A legal case is decoded by the target; npuvm's own encoder must give the words that the layout gives, and its assembler the
instruction that its disassembler printed. A case one beyond must be refused by the encoder, and where its field can hold the
value all the same, the words are an illegal operand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from npuvm.isa.asm import assemble_insns
from npuvm.isa.codec import encode
from npuvm.isa.conformance.cases import Check, WordCase, describe, hex_words
from npuvm.isa.conformance.layout import Entry, Field, Layout
from npuvm.isa.conformance.sample import random_insn
from npuvm.isa.conformance.target import Decoded
from npuvm.isa.disasm import format_insn
from npuvm.isa.errors import NpuvmError
from npuvm.isa.model import Insn, Isa, Pred, WordClass

__all__ = ["encoding_cases"]

RANDOM_PER_INSTRUCTION = 8
"""Instructions with all fields at random, besides those with one field at a bound."""

_ILLEGAL = Decoded(WordClass.ILLEGAL_OPERAND)


def encoding_cases(isa: Isa, layout: Layout, seed: int) -> Iterator[WordCase | Check]:
    """All cases of the level; what surrounds the field under test is random, from the seed."""
    for entry in layout.on():
        rng = random.Random(f"{seed}/{entry.name}")
        for name, insn in _legal(layout, entry, rng):
            yield from _accepted(isa, layout, f"encoding/{entry.name}/{name}", insn)
        for name, insn in _beyond(layout, entry, rng):
            yield from _refused(isa, layout, entry, f"encoding/{entry.name}/{name}", insn)
        yield from _defaults(isa, layout, entry, rng)


def _legal(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[tuple[str, Insn]]:
    """(name, instruction) with one field at a value of interest, the others at random."""

    def fresh() -> Insn:
        return random_insn(layout, entry, rng)

    for field in entry.operands:
        for what, value in _values(field):
            insn = fresh()
            yield f"{field.name}/{what}", replace(insn, args={**insn.args, field.name: value})
    for pair in entry.pairs.values():
        yield f"dtype/{'->'.join(p for p in pair if p)}", replace(fresh(), dtype=pair[0], dtype2=pair[1])
    last = layout.semaphores - 1
    for what, numbers in (("0", ()), ("1", (0,)), ("2", (last, 0)), ("lowest", (0, 0)), ("highest", (last, last))):
        yield f"wait/{what}", replace(fresh(), wait=numbers)
        yield f"set/{what}", replace(fresh(), set=numbers)
    every = (1 << layout.loops) - 1
    for kind in layout.predicates:
        if kind == "always":
            yield f"pred/{kind}", replace(fresh(), pred=None)
        else:
            yield f"pred/{kind}", replace(fresh(), pred=Pred(kind, rng.randint(0, every)))
            yield f"mask/none of {kind}", replace(fresh(), pred=Pred(kind, 0))
            yield f"mask/all of {kind}", replace(fresh(), pred=Pred(kind, every))
    for state in (False, True):
        yield f"order/{'on' if state else 'off'}", replace(fresh(), order=state)
    for turn in range(RANDOM_PER_INSTRUCTION):
        yield f"random/{turn}", fresh()


def _values(field: Field) -> list[tuple[str, int]]:
    if field.values:
        return [(f"is-{name}", code) for name, code in field.values]
    chosen = [("min", field.low), ("max", field.high)]
    if field.signed:
        chosen.append(("minus-one", -1))
    return [(what, value) for what, value in chosen if field.allows(value)]


def _beyond(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[tuple[str, Insn]]:
    """(name, instruction) that must be refused: one field one beyond, or something that there is not."""
    base = random_insn(layout, entry, rng)
    for field in entry.operands:
        codes = [code for _, code in field.values] or [field.low, field.high]
        for what, value in (("below", min(codes) - 1), ("above", max(codes) + 1)):
            yield f"{field.name}/{what}", replace(base, args={**base.args, field.name: value})
        if field.default is None:
            rest = {name: value for name, value in base.args.items() if name != field.name}
            yield f"operands/missing {field.name}", replace(base, args=rest)
    yield "operands/unknown", replace(base, args={**base.args, "no_such_operand": 0})
    yield "dtype/refused", replace(base, dtype=_foreign_type(entry), dtype2=None)
    beyond, last = layout.semaphores, layout.semaphores - 1
    refused: tuple[tuple[str, tuple[int, ...]], ...] = (("beyond", (beyond,)), ("three", (0, 1, last)))
    for what, numbers in refused:
        yield f"wait/{what}", replace(base, wait=numbers)
        yield f"set/{what}", replace(base, set=numbers)
    yield "pred/unknown", replace(base, pred=Pred("no_such_predicate", 0))
    yield "mask/beyond", replace(base, pred=Pred("first", 1 << layout.loops))


def _foreign_type(entry: Entry) -> str | None:
    """A type that the instruction does not take: none at all where it needs one, else one that it cannot know."""
    return None if entry.pairs else "fp32"


def _defaults(isa: Isa, layout: Layout, entry: Entry, rng: random.Random) -> Iterator[Check]:
    """Operands left out take their default, for the encoder; a target sees no difference."""
    for field in entry.operands:
        if field.default is None:
            continue
        insn = random_insn(layout, entry, rng)
        short = replace(insn, args={name: value for name, value in insn.args.items() if name != field.name})
        name = f"encoding/{entry.name}/{field.name}/default"
        yield Check(name, hex_words(layout.pack(entry, layout.values(short))), _encoded(isa, short), (name,))


def _accepted(isa: Isa, layout: Layout, name: str, insn: Insn) -> Iterator[WordCase | Check]:
    entry = layout.entries[insn.op]
    words = layout.pack(entry, layout.values(insn))
    bins = tuple(_observed(layout, entry, insn))
    expected = Decoded(WordClass.LEGAL, len(words), insn, layout.unit_of(entry, insn.args))
    yield WordCase(f"{name}:decode", words, expected, bins)
    yield Check(f"{name}:encode", hex_words(words), _encoded(isa, insn), bins)
    yield Check(f"{name}:print", describe(expected), _printed(isa, expected), bins)


def _refused(isa: Isa, layout: Layout, entry: Entry, name: str, insn: Insn) -> Iterator[WordCase | Check]:
    what = name.removeprefix(f"encoding/{entry.name}/").split("/")
    bins = (f"encoding/{entry.name}/{what[0]}/{what[1].split(' ')[0]}",)
    encoded = _encoded(isa, insn)
    yield Check(f"{name}:encode", "refused", "refused" if encoded.startswith("refused") else encoded, bins)
    field = next((f for f in entry.operands if f.name == what[0]), None)
    if field is not None and insn.args[field.name] in field.representable():
        yield WordCase(f"{name}:decode", layout.pack(entry, layout.values(insn)), _ILLEGAL, bins)


def _observed(layout: Layout, entry: Entry, insn: Insn) -> Iterator[str]:
    """The bins that a legal instruction counts for, read off the instruction and not off its name."""
    prefix = f"encoding/{entry.name}"
    for field in entry.operands:
        value = insn.args[field.name]
        if field.values:
            yield from (f"{prefix}/{field.name}/is-{name}" for name, code in field.values if code == value)
            continue
        marks = {"min": value == field.low, "max": value == field.high, "minus-one": value == -1}
        yield from (f"{prefix}/{field.name}/{what}" for what, so in marks.items() if so)
        if field.low < value < field.high:
            yield f"{prefix}/{field.name}/inside"
    yield f"{prefix}/dtype/{'->'.join(name for name in (insn.dtype, insn.dtype2) if name) or 'none'}"
    for kind, numbers in (("wait", insn.wait), ("set", insn.set)):
        yield f"{prefix}/{kind}/{len(numbers)}"
        if 0 in numbers:
            yield f"{prefix}/{kind}/lowest"
        if layout.semaphores - 1 in numbers:
            yield f"{prefix}/{kind}/highest"
    yield f"{prefix}/pred/{insn.pred.kind if insn.pred else 'always'}"
    if insn.pred and insn.pred.mask in (0, (1 << layout.loops) - 1):
        yield f"{prefix}/mask/{'all' if insn.pred.mask else 'none'}"
    yield f"{prefix}/order/{'on' if insn.order else 'off'}"


def _encoded(isa: Isa, insn: Insn) -> str:
    try:
        return hex_words(encode(isa, insn))
    except NpuvmError as exc:
        return f"refused: {exc}"


def _printed(isa: Isa, expected: Decoded) -> str:
    """What the assembler makes of what the disassembler prints."""
    if expected.insn is None:
        return describe(expected)
    try:
        text = format_insn(isa, expected.insn)
        (insn,) = assemble_insns(isa, text)
    except NpuvmError as exc:
        return f"refused: {exc}"
    return describe(replace(expected, insn=insn))
