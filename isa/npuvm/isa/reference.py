"""The reference page of an instruction set, made from the set itself (docs/reference/isa.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from npuvm.isa.model import BitField, Instruction, Isa, OperandSpec

__all__ = ["isa_reference_markdown"]

_INTRODUCTION = """\
One YAML file, `isa/npu_v1.yaml`, defines the instruction set; this page shows what it says. Extensions in `isa/extensions/`
lie over it, and a chip's program images carry the hash of the set that they were made for.

A program is a sequence of 64-bit little-endian words. An instruction is a head word and up to {words} operand words. Bits
that no field covers are zero; a word with one of them set is no instruction. How a program is written as text is in
[assembly.md](assembly.md), what must hold of one in [verifier.md](verifier.md), what it costs in
[../timing-model.md](../timing-model.md)."""

_CLASSES = """\
Any words are one of: `legal`; `unallocated` (no such opcode, or a wrong length); `feature-off` (of a feature that is off);
`reserved-bits` (a reserved bit is set); `illegal-operand` (a field holds a value that it must not). They are tried in this
order after `legal`. Words decode if and only if they print, and re-encode to themselves. Opcode 0 is never allocated."""

_STATE = """\
Set-up instructions, which stand outside loops, fill the sequencer's tables: sizes, address descriptors, rings, semaphore
counts. The sequencer resolves a size or a descriptor when it dispatches the instruction that names it.

An address is base + strides x counters + register x stride + slot of a ring. A tile has rows and columns; columns are
contiguous, rows `pitch` bytes apart, and with pitch 0 every row is the same (reads only). A descriptor with role `producer`
points to slot (number of times the ring's `ready` was set) mod `slots`, with role `consumer` to slot (times `free` was set)
mod `slots`, counted over the instructions dispatched before. `ring` sets the count of `ready` to 0 and that of `free` to
`slots`.

Waits are taken at the head of a unit's queue, all at once; sets are signalled at completion. The order bit makes an
instruction wait until the one before it in its unit has completed. An instruction whose predicate is off does nothing: it
moves no data, no ring and no semaphore. `first(l0,l2)` holds when all loops named are in their first iteration, `last` in
their last, `not_first` and `not_last` when that is not so; `changed(l0)` holds at the first tile of a core in a grid and when
one of the loops differs from the tile before, `changes(l0)` at the last tile and when one will differ in the next."""


def isa_reference_markdown(isa: Isa) -> str:
    """The page as Markdown: head word, data types, spaces, units, tables, and every instruction with its fields."""
    parts = [
        f"# The instruction set {isa.name} {isa.version}",
        "<!-- Made by npuvm.isa.isa_reference_markdown; tests/isa/test_reference.py rewrites it with NPUVM_REWRITE=1. -->",
        _INTRODUCTION.format(words=isa.max_operand_words),
        "## Head word",
        _table(("bits", "field", "meaning"), _head_rows(isa)),
        _CLASSES,
        "## State",
        _STATE,
        _table(("table", "entries", "written"), _limit_rows(isa)),
        _scopes(isa),
        "## Data types",
        _table(("type", "code", "bytes", "computed as", "accumulates as"), _dtype_rows(isa)),
        "## Spaces",
        _table(("space", "code", "alignment", "what"), _space_rows(isa)),
        "## Units",
        _table(("unit", "code", "what"), _unit_rows(isa)),
    ]
    for unit in (*isa.units, "any"):
        chosen = [i for i in isa.instructions.values() if i.unit == unit]
        if chosen:
            parts += [f"## Instructions of {'the unit they name' if unit == 'any' else unit}", *_unit_parts(chosen)]
    parts += [
        "## Features",
        _table(("feature", "by default", "what"), _feature_rows(isa)),
        "## Traps",
        _table(("trap", "when"), ((f"`{name}`", text) for name, text in isa.traps.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bits(bits: BitField) -> str:
    high = bits.low + bits.width - 1
    return f"{high}:{bits.low}" if bits.width > 1 else str(bits.low)


def _head_rows(isa: Isa) -> Iterator[Sequence[str]]:
    meaning = {
        "opcode": "which instruction",
        "length": "number of operand words",
        "dtype": "code of the data type",
        "wait0": "semaphore to wait for, plus one; 0 for none",
        "wait1": "a second one; only with the first",
        "set0": "semaphore to set, plus one; 0 for none",
        "set1": "a second one; only with the first",
        "pred": "predicate: " + ", ".join(f"{code} {name}" for name, code in isa.predicates.items()),
        "mask": "loops of the predicate, a bit each",
        "order": "start after the unit's instruction before has completed",
    }
    for name, field in sorted(isa.head.items(), key=lambda item: item[1].low):
        yield _bits(field), f"`{name}`", meaning[name]
    free = max(field.low + field.width for field in isa.head.values())
    yield f"63:{free}", "", "fields of the instruction, or reserved"


def _limit_rows(isa: Isa) -> Iterator[Sequence[str]]:
    prefixes: Mapping[str, str] = {
        operand.kind.table: operand.kind.prefix
        for instruction in isa.instructions.values()
        for operand in instruction.operands
        if operand.kind.table is not None
    }
    for table, count in isa.limits.items():
        prefix = prefixes[table]
        yield table, str(count), f"`{prefix}0` to `{prefix}{count - 1}`"


def _scopes(isa: Isa) -> str:
    parts = (f"`m{low}` to `m{high}` belong to a {scope}" for scope, (low, high) in isa.semaphore_scopes.items())
    return f"Semaphores {', '.join(parts)}. Registers have 64 bits, signed."


def _dtype_rows(isa: Isa) -> Iterator[Sequence[str]]:
    for dtype in isa.dtypes.values():
        yield f"`{dtype.name}`", str(dtype.code), str(dtype.itemsize), dtype.compute, dtype.acc or ""


def _space_rows(isa: Isa) -> Iterator[Sequence[str]]:
    for space in isa.spaces.values():
        yield (
            f"`{space.name}`",
            str(space.code),
            f"{space.align_bytes} bytes" if space.align_bytes else "item",
            space.doc,
        )


def _unit_rows(isa: Isa) -> Iterator[Sequence[str]]:
    docs = isa.resolved["units"]
    for name, code in isa.units.items():
        yield f"`{name}`", str(code), docs[name]["doc"]


def _feature_rows(isa: Isa) -> Iterator[Sequence[str]]:
    docs = isa.resolved["features"]
    for name, on in isa.features.items():
        yield f"`{name}`", "on" if on else "off", docs[name]["doc"]


def _unit_parts(instructions: Sequence[Instruction]) -> Iterator[str]:
    """A table of the instructions, then a table of the fields of each format that they use."""
    rows = []
    for each in sorted(instructions, key=lambda i: i.opcode):
        meaning = f"`{each.semantics}`. {each.doc}" if each.semantics else each.doc
        feature = "" if each.feature == "base" else f" Feature `{each.feature}`."
        rows.append(
            (
                f"`{each.name}`",
                f"{each.opcode:#04x}",
                f"`{each.format}`",
                _types(each),
                each.timing or "",
                meaning + feature,
            )
        )
    yield _table(("name", "opcode", "format", "types", "timing", "meaning"), rows)
    shown: dict[tuple[object, ...], list[Instruction]] = {}
    for each in sorted(instructions, key=lambda i: i.opcode):
        if each.operands:
            key = (each.format, *(_field(operand) for operand in each.operands))
            shown.setdefault(key, []).append(each)
    for group in shown.values():
        first = group[0]
        names = ", ".join(f"`{each.name}`" for each in group)
        fields = [*(_field(operand) for operand in first.operands)]
        if first.dtype2_bits is not None:
            fields.append(
                (f"{first.dtype2_bits.word}", _bits(first.dtype2_bits), "(type)", "code of the second data type")
            )
        length = f"{first.words} operand word{'' if first.words == 1 else 's'}"
        yield f"Fields of {names} (format `{first.format}`, {length}):"
        yield _table(("word", "bits", "operand", "what"), fields)


def _types(instruction: Instruction) -> str:
    firsts: dict[str, list[str]] = {}
    for first, second in instruction.dtypes:
        firsts.setdefault(first, []).extend([second] if second else [])
    parts = (f"{first} to {', '.join(seconds)}" if seconds else first for first, seconds in firsts.items())
    return ("; " if instruction.dtype2_bits else ", ").join(parts)


def _field(operand: OperandSpec) -> tuple[str, str, str, str]:
    kind = operand.kind
    if operand.values:
        what = "one of " + ", ".join(f"{code} `{name}`" for name, code in operand.values.items())
    elif operand.is_region:
        roles = {"read": "read", "write": "written", "readwrite": "read and written"}
        shape = " x ".join(str(dim) for dim in operand.shape)
        dtype = {"dtype": "", "dtype2": ", in the second type", "acc": ", in the accumulator's type"}
        typed = dtype.get(operand.dtype, f", in {operand.dtype}")
        what = f"descriptor in {' or '.join(operand.spaces)}, {shape} {roles[operand.role or 'read']}{typed}"
    elif kind.repr == "index":
        what = f"{kind.name}, `{kind.prefix}{operand.low}` to `{kind.prefix}{operand.high}`"
    elif kind.repr == "hex":
        what = "pattern in the instruction's type" if kind.name == "bits32" else "address"
    else:
        what = f"{operand.low} to {operand.high}"
    if operand.default is not None and not operand.is_region:
        what += f"; default {operand.default}"
    return str(operand.bits.word), _bits(operand.bits), f"`{operand.name}`", what
