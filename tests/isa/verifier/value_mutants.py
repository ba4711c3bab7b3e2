"""Images that differ from a legal one in numbers: sizes, addresses, strides, slots, ranges of cores, addends of relocations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from npuvm.isa import Entry, Image, Insn, Isa, IsaError, Reloc, decode_program, encode

NUMBERS = {
    "szc": ("full",),
    "szt": ("full", "tail"),
    "sza": ("full", "base", "step_a", "step_b"),
    "desc": ("base", "pitch"),
    "dstr": ("stride",),
    "dwin": ("row0", "col0", "rows", "cols", "row_step", "col_step"),
    "ring": ("slot_bytes",),
}
"""Operands that shapes set."""


def value_mutants(isa: Isa, image: Image, source: Random, count: int) -> Iterator[Image]:
    """So many images with one to three numbers changed, often to values near them or to others of the image."""
    for _ in range(count):
        mutant = image
        for _ in range(source.choice((1, 1, 2, 3))):
            change = source.choices((_number, _range, _addend, _cores), (75, 15, 5, 5))[0]
            mutant = change(isa, mutant, source)
        yield mutant


def _number(isa: Isa, image: Image, source: Random) -> Image:
    insns = decode_program(isa, image.words)
    places = [(pc, insn, name) for pc, insn in insns for name in NUMBERS.get(insn.op, ())]
    pc, insn, name = source.choice(places)
    value, (_, other, its) = insn.args[name], source.choice(places)
    step = source.choice((1, 2, 32, 64, 128, 512, 1024))
    near = (value + step, value - step, value * 2, value // 2, -value, value ^ 1 << source.randrange(32))
    changed = source.choice((*near, other.args[its], other.args[its], 0, 1, 2, 3, 4))
    mutant: Insn = replace(insn, args={**insn.args, name: changed})
    try:
        encoded = encode(isa, mutant)
    except IsaError:
        return image
    words = image.words.copy()
    words[pc : pc + len(encoded)] = encoded
    return replace(image, words=words)


def _range(_: Isa, image: Image, source: Random) -> Image:
    entries = list(image.entries)
    core = source.randrange(len(entries))
    entry = entries[core]
    if not entry.ranges:
        return image
    phase = source.randrange(len(entry.ranges))
    a, b = entry.ranges[phase]
    pairs = [(a + 1, b), (a, b + 1), (a - 1, b), (a, b - 1), (0, b), (a, a), (a, a + 1), (0, 0), (b, a), (a + b, b + b)]
    ranges = [*entry.ranges]
    ranges[phase] = source.choice(pairs)
    entries[core] = Entry(entry.core_type, entry.pc, tuple(ranges if source.random() < 0.95 else ranges[:-1]))
    return replace(image, entries=tuple(entries))


def _addend(_: Isa, image: Image, source: Random) -> Image:
    relocs = list(image.relocs)
    if not relocs:
        return image
    at = source.randrange(len(relocs))
    relocs[at] = Reloc(relocs[at].word, relocs[at].arg, relocs[at].addend + source.choice((1, 2, 4, -4, 32)))
    return replace(image, relocs=tuple(relocs))


def _cores(_: Isa, image: Image, source: Random) -> Image:
    """Fewer cores, or one core more."""
    entries = tuple(image.entries)
    return replace(image, entries=(*entries, entries[-1])[: source.randrange(1, len(entries) + 2)])
