"""Level classes: every bit flip, every way to be illegal, which class wins, every opcode, and random words.

What a flipped or random word is comes from `Layout.decode`; what a word made illegal on purpose is, is stated where it is made.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from npuvm.isa.conformance.cases import WordCase
from npuvm.isa.conformance.layout import WORD, Entry, Field, Layout
from npuvm.isa.conformance.sample import random_insn, random_programs
from npuvm.isa.conformance.target import Decoded
from npuvm.isa.model import WordClass

__all__ = ["classes_cases"]

_UNALLOCATED = Decoded(WordClass.UNALLOCATED)
_FEATURE_OFF = Decoded(WordClass.FEATURE_OFF)
_RESERVED = Decoded(WordClass.RESERVED_BITS)
_ILLEGAL = Decoded(WordClass.ILLEGAL_OPERAND)


def classes_cases(layout: Layout, seed: int, words: int) -> Iterator[WordCase]:
    """All cases of the level, `words` of them random."""
    for entry in layout.on():
        rng = random.Random(f"{seed}/{entry.name}")
        yield from _flips(layout, entry, rng)
        yield from _illegal_operands(layout, entry, rng)
        yield from _illegal_heads(layout, entry, rng)
        yield from _lengths(layout, entry, rng)
        yield from _priorities(layout, entry, rng)
    for entry in layout.off():
        yield from _feature_off(layout, entry, random.Random(f"{seed}/{entry.name}"))
    yield from _opcodes(layout, random.Random(f"{seed}/opcodes"))
    for index, program in enumerate(random_programs(layout, seed, words)):
        expected = layout.decode(program.words)
        yield WordCase(
            f"classes/any/random/{program.kind} {index}",
            program.words,
            expected,
            (f"classes/any/random/{program.kind}",),
        )


def _flips(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    """Every bit of two instructions, one with all fields at random and one with all of them zero or smallest."""
    smallest = layout.pack(entry, _smallest(entry))
    for what, words in (("smallest", smallest), ("random", _random_words(layout, entry, rng))):
        tail = [rng.getrandbits(64) for _ in range(layout.max_words - entry.words)]
        for word in range(len(words)):
            for bit in range(64):
                name, number = layout.field_at(entry, word, bit)
                mark = f"reserved/{word}:{bit}" if name == "reserved" else f"{name}/flip{number}"
                program = [*words, *tail]
                program[word] ^= 1 << bit
                case = f"classes/{entry.name}/{mark}"
                yield WordCase(f"{case} of {what}", program, layout.decode(program), (case,))


def _illegal_operands(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    """A value that the field can hold and the operand must not have; and types that it does not take."""
    for field in entry.operands:
        for value in _forbidden(field, rng):
            case = f"classes/{entry.name}/{field.name}/illegal"
            yield WordCase(f"{case} {value}", _changed(layout, entry, rng, {field.name: value}), _ILLEGAL, (case,))
    if entry.pairs:
        case = f"classes/{entry.name}/dtype/illegal"
        for first, second in _forbidden_types(layout, entry):
            changes = {"dtype": first, "dtype2": second}
            yield WordCase(f"{case} {first}->{second}", _changed(layout, entry, rng, changes), _ILLEGAL, (case,))


def _illegal_heads(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    """Synchronisation and predicates that mean nothing."""
    made: list[tuple[str, Mapping[str, int]]] = [
        ("wait/second-alone", {"wait0": 0, "wait1": rng.randint(1, layout.semaphores)}),
        ("set/second-alone", {"set0": 0, "set1": rng.randint(1, layout.semaphores)}),
        ("mask/without-predicate", {"pred": layout.predicates["always"], "mask": rng.randrange(1, 1 << layout.loops)}),
    ]
    for code in range(1 << layout.head["pred"].width):
        if code not in layout.predicates.values():
            made.append(("pred/unallocated", {"pred": code}))
    for number in range(layout.semaphores + 1, 1 << layout.head["wait0"].width):
        made += [("wait/unallocated", {"wait0": number}), ("set/unallocated", {"set0": number})]
    for loop in range(layout.loops, layout.head["mask"].width):
        made.append(("mask/unallocated", {"pred": layout.predicates["first"], "mask": 1 << loop}))
    for what, changes in made:
        case = f"classes/{entry.name}/{what}"
        name = f"{case} {' '.join(map(str, changes.values()))}"
        yield WordCase(name, _changed(layout, entry, rng, changes), _ILLEGAL, (case,))


def _lengths(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    """Every wrong length with all words there, and every way to be cut short."""
    for length in range(1 << layout.head["length"].width):
        if length != entry.words:
            case = f"classes/{entry.name}/length/{length}"
            words = _changed(layout, entry, rng, {"length": length})
            yield WordCase(case, words + [0] * (layout.max_words - entry.words), _UNALLOCATED, (case,))
    whole = _random_words(layout, entry, rng)
    for kept in range(1, entry.words + 1):
        case = f"classes/{entry.name}/truncated/{kept}"
        yield WordCase(case, whole[:kept], _UNALLOCATED, (case,))


def _priorities(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    """Two things wrong at once: the first in the order of the classes is what it is."""
    illegal = {"wait0": 0, "wait1": 1}
    case = f"classes/{entry.name}/priority/length-before-operand"
    yield WordCase(case, _changed(layout, entry, rng, illegal | {"length": entry.words ^ 1}), _UNALLOCATED, (case,))
    case = f"classes/{entry.name}/priority/reserved-before-operand"
    for word, mask in enumerate(entry.reserved):
        if mask:
            words = _changed(layout, entry, rng, illegal)
            words[word] |= mask & -mask
            yield WordCase(f"{case} in word {word}", words, _RESERVED, (case,))


def _feature_off(layout: Layout, entry: Entry, rng: random.Random) -> Iterator[WordCase]:
    prefix = f"classes/{entry.name}"
    words = _random_words(layout, entry, rng)
    yield WordCase(f"{prefix}/feature/off", words, _FEATURE_OFF, (f"{prefix}/feature/off",))
    if any(entry.reserved):
        case = f"{prefix}/priority/feature-before-reserved"
        filled = [word | mask for word, mask in zip(words, entry.reserved, strict=True)]
        yield WordCase(case, filled, _FEATURE_OFF, (case,))
    case = f"{prefix}/priority/length-before-feature"
    yield WordCase(case, _changed(layout, entry, rng, {"length": entry.words ^ 1}), _UNALLOCATED, (case,))
    yield WordCase(f"{case} cut", words[: entry.words] or [0], _UNALLOCATED, (case,))


def _opcodes(layout: Layout, rng: random.Random) -> Iterator[WordCase]:
    """Every opcode with every length; the other bits zero in one, random in another."""
    opcode, length = layout.head["opcode"], layout.head["length"]
    keep = WORD & ~opcode.put(-1) & ~length.put(-1)
    for code in range(1 << opcode.width):
        case = f"classes/any/opcode/{code:#04x}"
        for count in range(1 << length.width):
            head = opcode.put(code) | length.put(count)
            for what, bits in (("zero", 0), ("random", WORD)):
                program = [head | rng.getrandbits(64) & bits & keep]
                program += [rng.getrandbits(64) & bits for _ in range(layout.max_words)]
                expected = layout.decode(program)
                if code not in layout.by_opcode:
                    expected = _UNALLOCATED
                yield WordCase(f"{case} length {count} {what}", program, expected, (case,))


def _smallest(entry: Entry) -> dict[str, int]:
    result = {field.name: field.values[0][1] if field.values else field.low for field in entry.operands}
    if entry.pairs:
        result["dtype"], result["dtype2"] = min(entry.pairs)
    return result


def _random_words(layout: Layout, entry: Entry, rng: random.Random) -> list[int]:
    return _changed(layout, entry, rng, {})


def _changed(layout: Layout, entry: Entry, rng: random.Random, changes: Mapping[str, int]) -> list[int]:
    """A random legal instruction with some fields at the values given, legal or not."""
    insn = replace(random_insn(layout, entry, rng), pred=None)
    return layout.pack(entry, {**layout.values(insn), **changes})


def _forbidden(field: Field, rng: random.Random) -> list[int]:
    """Values that the bits can hold and the operand must not have: all of a narrow field, else those next to the bounds."""
    whole = field.representable()
    if field.width <= 8:
        return [value for value in whole if not field.allows(value)]
    beside = {field.low - 1, field.high + 1, whole.start, whole.stop - 1, rng.randrange(whole.start, whole.stop)}
    return sorted(value for value in beside if value in whole and not field.allows(value))


def _forbidden_types(layout: Layout, entry: Entry) -> Iterator[tuple[int, int]]:
    seconds = range(1 << entry.dtype2.width) if entry.dtype2 else range(1)
    for first in range(1 << layout.head["dtype"].width):
        yield from ((first, second) for second in seconds if (first, second) not in entry.pairs)
