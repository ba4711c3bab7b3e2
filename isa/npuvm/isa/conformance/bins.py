"""What the levels that look at encodings ought to cover, listed from the instruction set and apart from their cases.

A bin is named level/instruction/field/what. It is covered when a case of it ran and none failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuvm.isa.conformance.layout import Entry, Field, Layout

__all__ = ["LINT_CHECKS", "RANDOM_KINDS", "classes_bins", "encoding_bins", "golden_bins", "lint_bins"]

LINT_CHECKS = ("cover", "length", "names", "types", "operands", "meaning", "reachable")
"""What is checked of every stanza."""

RANDOM_KINDS = ("uniform", "allocated", "flipped", "truncated")
"""How random words are made: all bits at random; a known opcode and length, the rest at random; legal words with one to
three bits changed; legal words cut short."""


def lint_bins(layout: Layout) -> Iterator[str]:
    """Every check of every stanza, and those of the whole set; invariants written by hand add their own."""
    yield from (f"lint/{name}/stanza/{what}" for name in layout.entries for what in LINT_CHECKS)
    yield from (f"lint/any/opcodes/{what}" for what in ("unique", "custom-space", "free"))
    yield from ("lint/any/head/cover", "lint/any/scopes/cover")
    yield from (f"lint/any/{section}/codes" for section in ("dtypes", "units", "spaces", "predicates"))


def golden_bins(layout: Layout) -> Iterator[str]:
    """Words by hand ought to touch every format, operand, unit, type and head field of the base set.

    Instructions of one format differ in their opcode only. Extensions are left out: nobody assembles their words by hand.
    """
    base = [entry for entry in layout.on() if not entry.custom]
    operands = [field for entry in base for field in entry.operands]
    yield from _named("golden/format", {entry.format for entry in base}, "seen")
    yield from _named("golden/operand", {field.name for field in operands}, "seen")
    yield from _named("golden/operand", {field.name for field in operands if field.signed}, "negative")
    yield from _named("golden/unit", _units(base), "seen")
    yield from _named(
        "golden/dtype", {name for entry in base for pair in entry.pairs.values() for name in pair if name}, "seen"
    )
    yield from _named("golden/pred", set(layout.predicates), "seen")
    yield from (f"golden/{kind}/{count}" for kind in ("wait", "set") for count in (0, 1, 2))
    yield from (f"golden/order/{state}" for state in ("off", "on"))


def encoding_bins(layout: Layout) -> Iterator[str]:
    """Every field of every instruction at its bounds, inside them and one beyond; every pair of types; every head field."""
    for entry in layout.on():
        prefix = f"encoding/{entry.name}"
        for field in entry.operands:
            yield from (f"{prefix}/{field.name}/{what}" for what in _operand_bins(field))
        pairs = ["->".join(name for name in pair if name) for pair in entry.pairs.values()] or ["none"]
        yield from (f"{prefix}/dtype/{what}" for what in (*pairs, "refused"))
        for kind in ("wait", "set"):
            yield from (f"{prefix}/{kind}/{what}" for what in ("0", "1", "2", "lowest", "highest", "beyond", "three"))
        yield from (f"{prefix}/pred/{what}" for what in (*layout.predicates, "unknown"))
        yield from (f"{prefix}/mask/{what}" for what in ("none", "all", "beyond"))
        yield from (f"{prefix}/order/{what}" for what in ("off", "on"))
        yield f"{prefix}/operands/unknown"
        if any(field.default is None for field in entry.operands):
            yield f"{prefix}/operands/missing"


def classes_bins(layout: Layout) -> Iterator[str]:
    """Every bit of every instruction flipped, every way to be illegal, which class wins, every opcode, random words."""
    for entry in layout.on():
        prefix = f"classes/{entry.name}"
        for field in layout.fields(entry):
            yield from (f"{prefix}/{field.name}/flip{bit}" for bit in range(field.width))
        for word, mask in enumerate(entry.reserved):
            yield from (f"{prefix}/reserved/{word}:{bit}" for bit in range(64) if mask >> bit & 1)
        yield from (f"{prefix}/{field.name}/illegal" for field in entry.operands if _has_illegal(field))
        if entry.pairs:
            yield f"{prefix}/dtype/illegal"
        yield from (f"{prefix}/{what}" for what in _head_violations(layout))
        yield from (f"{prefix}/length/{length}" for length in _other_lengths(layout, entry))
        yield from (f"{prefix}/truncated/{words}" for words in range(1, entry.words + 1))
        if any(entry.reserved):
            yield f"{prefix}/priority/reserved-before-operand"
        yield f"{prefix}/priority/length-before-operand"
    for entry in layout.off():
        prefix = f"classes/{entry.name}"
        yield f"{prefix}/feature/off"
        if any(entry.reserved):
            yield f"{prefix}/priority/feature-before-reserved"
        yield f"{prefix}/priority/length-before-feature"
    opcodes = 1 << layout.head["opcode"].width
    yield from (f"classes/any/opcode/{opcode:#04x}" for opcode in range(opcodes))
    yield from (f"classes/any/random/{kind}" for kind in RANDOM_KINDS)


def _named(prefix: str, names: set[str], what: str) -> Iterator[str]:
    yield from (f"{prefix}/{name}/{what}" for name in sorted(names))


def _units(entries: Sequence[Entry]) -> set[str]:
    """Units that execute something; an instruction for any unit names them in its operand `unit`."""
    fields = [field for entry in entries if entry.unit == "any" for field in entry.operands if field.name == "unit"]
    return {name for field in fields for name, _ in field.values} | {e.unit for e in entries if e.unit != "any"}


def _operand_bins(field: Field) -> list[str]:
    result = ["below", "above", *(["default"] if field.default is not None else [])]
    if field.values:
        return result + [f"is-{name}" for name, _ in field.values]
    result += ["min", "max"]
    if field.high - field.low > 1:
        result.append("inside")
    return result + (["minus-one"] if field.signed and field.low <= -1 <= field.high else [])


def _has_illegal(field: Field) -> bool:
    """Whether its bits can hold a value that it must not have."""
    if field.values:
        return len(field.values) < 1 << field.width
    whole = field.representable()
    return (field.low, field.high) != (whole.start, whole.stop - 1)


def _head_violations(layout: Layout) -> list[str]:
    result = ["wait/second-alone", "set/second-alone", "mask/without-predicate"]
    if len(layout.predicates) < 1 << layout.head["pred"].width:
        result.append("pred/unallocated")
    if layout.semaphores < (1 << layout.head["wait0"].width) - 1:
        result += ["wait/unallocated", "set/unallocated"]
    if layout.loops < layout.head["mask"].width:
        result.append("mask/unallocated")
    return result


def _other_lengths(layout: Layout, entry: Entry) -> list[int]:
    return [length for length in range(1 << layout.head["length"].width) if length != entry.words]
