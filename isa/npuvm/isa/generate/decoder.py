"""The SystemVerilog decoder of an instruction set: combinational, one-hot hits, AND-OR assigns and nothing else.

Style: no `case`, no `always`. One `hit_<instruction>` wire per instruction; instructions with equal fields share one
`fmt_` wire; one `sel_` wire per output and field position gates that field onto the output. This form is lint-clean in
every tool tried and the smallest and quickest to synthesise (docs/reference/decoder-area.md has figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from npuvm.isa.generate.layout import Group, format_groups, reserved_runs, type_groups
from npuvm.isa.generate.ports import SIZES, TILES, Port, decoder_ports, enabled, unit_sizes
from npuvm.isa.generate.verilog import (
    PACKAGE,
    any_gated,
    any_of,
    either,
    extended,
    header,
    literal,
    part,
    position,
    statement,
)
from npuvm.isa.model import BitField, Instruction, Isa, OperandSpec

__all__ = ["MODULE", "decoder_sv"]

MODULE = "npu_decoder"

_SYNC = ("wait0", "wait1", "set0", "set1", "pred", "mask", "order")


def decoder_sv(isa: Isa) -> str:
    """Module `npu_decoder` with the ports of `decoder_ports`; IsaError when the set does not fit them."""
    ports = decoder_ports(isa)
    widths = {port.name: port.width for port in ports}
    groups = format_groups(isa)
    lines = [
        *header(isa, "Decoder of one instruction: its class and its fields."),
        f"module {MODULE} (",
        ",\n".join(f"  {_declaration(port)}" for port in ports),
        ");",
        *_hits(isa, groups),
        *_unused_words(isa),
        *_reserved(groups),
        *_illegal_types(isa),
        *_illegal_operands(isa, groups),
        *_word_class(),
        *_head(isa, widths),
        *_unit(isa, groups, widths),
        *_types(isa, groups, widths),
        *_slots("tile", TILES, groups, widths),
        *_slots("size", SIZES, groups, widths),
        *_operands(ports, groups),
        f"endmodule : {MODULE}",
    ]
    return "\n".join(lines) + "\n"


def _declaration(port: Port) -> str:
    bits = f" [{port.width - 1}:0]" if port.width > 1 else ""
    return f"{port.direction:<6} logic{bits} {port.name}"


def _wire(name: str, expression: str) -> str:
    return statement(f"wire {name} = {expression};")


def _assign(name: str, terms: Iterable[str]) -> str:
    return statement(f"assign {name} = {any_gated(terms)};")


def _gate(select: str, width: int, value: str) -> str:
    return f"{{{width}{{{select}}}}} & {value}" if width > 1 else f"{select} & {value}"


def _hits(isa: Isa, groups: Sequence[Group]) -> Iterator[str]:
    """What the opcode and the length say, one wire per instruction, and one per group of instructions."""
    opcode, length = isa.head["opcode"], isa.head["length"]
    yield "\n  // fits_<n>: the head says n operand words and they are there."
    for words in sorted({instruction.words for instruction in isa.instructions.values()}):
        said = f"{part(length)} == {literal(words, length.width)}"
        yield _wire(f"fits_{words}", f"({said}) & (avail > {literal(words, 4)})")
    yield "\n  // One wire per instruction, at most one of which is high; off_: of a feature that is off."
    for _, instruction in sorted(isa.by_opcode.items()):
        prefix = "hit" if isa.features[instruction.feature] else "off"
        matches = f"({extended(opcode, 8)} == {PACKAGE}::OP_{instruction.name.upper()})"
        yield _wire(f"{prefix}_{instruction.name}", f"{matches} & fits_{instruction.words}")
    yield "\n  // Instructions whose fields are the same."
    for group in groups:
        yield _wire(group.name, any_of(f"hit_{member.name}" for member in group.members))
    yield _wire("hit", any_of(group.name for group in groups))
    yield _wire("off", any_of(f"off_{i.name}" for i in isa.instructions.values() if not isa.features[i.feature]))


def _unused_words(isa: Isa) -> Iterator[str]:
    """A sink for words that no instruction is long enough to have; linters know the name and ask no more."""
    first = 64 * (max((instruction.words for instruction in enabled(isa)), default=0) + 1)
    if first < 512:
        yield "\n  // No instruction is long enough to reach these."
        yield _wire("unused_words", f"^words[511:{first}]")


def _reserved(groups: Sequence[Group]) -> Iterator[str]:
    yield "\n  // Bits that must be zero, where the same instructions reserve them."
    terms = []
    for run in reserved_runs(groups):
        name = f"reserved_{position(run.bits)}"
        value = part(run.bits) if run.bits.width == 1 else f"(|{part(run.bits)})"
        terms.append(name)
        yield _wire(name, f"{value} & {either(g.name for g in run.groups)}")
    yield _wire("reserved", any_of(terms))


def _illegal_types(isa: Isa) -> Iterator[str]:
    """Per set of allowed types, whether the head's type (and the second one) is none of them."""
    yield "\n  // Data types that the instruction does not have."
    chosen = type_groups(isa)
    for name in {first: None for group in chosen for first, _ in group.first.dtypes}:
        yield _wire(f"dtype_is_{name}", _type_is(isa.head["dtype"], name))
    seconds = {(g.first.dtype2_bits, second): None for g in chosen for _, second in g.first.dtypes}
    for bits, second in seconds:
        if bits is not None and second is not None:
            yield _wire(_second_is(bits, second), _type_is(bits, second))
    for group in chosen:
        yield _wire(group.name, any_of(f"hit_{member.name}" for member in group.members))
    terms = []
    for group in chosen:
        terms.append(f"illegal_{group.name}")
        yield _wire(terms[-1], f"{group.name} & ~{either(_allowed_types(group.first))}")
    yield _wire("illegal_types", any_of(terms))


def _type_is(bits: BitField, name: str) -> str:
    return f"{extended(bits, 4)} == {PACKAGE}::DTYPE_{name.upper()}"


def _second_is(bits: BitField, name: str) -> str:
    return f"dtype2_{position(bits)}_is_{name}"


def _allowed_types(instruction: Instruction) -> Iterator[str]:
    """One term per first type, with the second types that may follow it."""
    firsts: dict[str, list[str]] = {}
    for first, second in instruction.dtypes:
        firsts.setdefault(first, [])
        if second is not None and instruction.dtype2_bits is not None:
            firsts[first].append(_second_is(instruction.dtype2_bits, second))
    for first, seconds in firsts.items():
        yield f"(dtype_is_{first} & {either(seconds)})" if seconds else f"dtype_is_{first}"


def _illegal_operands(isa: Isa, groups: Sequence[Group]) -> Iterator[str]:
    """Fields that hold a value which they must not, of the head and of the operands."""
    head = isa.head
    yield "\n  // A second semaphore without a first, a predicate that does not exist, a mask without a predicate;"
    yield "  // semaphores and loops past the last one, where the head has room for more than there are."
    for kind in ("wait", "set"):
        first, second = head[f"{kind}0"], head[f"{kind}1"]
        terms = [f"~(|{part(first)}) & (|{part(second)})"]
        for bits in (first, second):
            if isa.limits["semaphores"] < (1 << bits.width) - 1:
                terms.append(f"{part(bits)} > {literal(isa.limits['semaphores'], bits.width)}")
        yield _wire(f"illegal_{kind}", any_gated(terms))
    known = [f"({extended(head['pred'], 3)} == {PACKAGE}::PRED_{name.upper()})" for name in isa.predicates]
    yield _wire("illegal_pred", f"~({any_of(known)})")
    yield _wire("illegal_mask", any_gated(_illegal_mask(isa)))
    yield "\n  // Operands outside their range."
    checks: dict[str, list[tuple[str, Group]]] = {}
    for group in groups:
        for operand in group.first.operands:
            beyond = list(_out_of_range(operand))
            if beyond:
                wrong = either(beyond)
                checks.setdefault(wrong, []).append((f"{operand.name}_{position(operand.bits)}", group))
    terms = []
    for wrong, users in checks.items():
        name = f"illegal_{users[0][0]}"
        if name in terms:
            name = f"{name}_of_{users[0][1].first.name}"
        terms.append(name)
        yield _wire(name, f"{wrong} & {either(group.name for _, group in users)}")
    always = ("illegal_wait", "illegal_set", "illegal_pred", "illegal_mask", "illegal_types")
    yield _wire("illegal", any_of((*always, *terms)))


def _illegal_mask(isa: Isa) -> Iterator[str]:
    mask, loops = isa.head["mask"], isa.limits["loops"]
    yield f"({extended(isa.head['pred'], 3)} == {PACKAGE}::PRED_ALWAYS) & (|{part(mask)})"
    if loops < mask.width:
        yield f"|{part(BitField(mask.word, mask.low + loops, mask.width - loops))}"


def _out_of_range(operand: OperandSpec) -> Iterator[str]:
    """Terms that hold for a field value that the operand may not have; none when it may have all."""
    bits, field = operand.bits, part(operand.bits)
    signed = operand.kind.repr == "sint"
    span = 1 << bits.width
    lowest, highest = (-span // 2, span // 2 - 1) if signed else (0, span - 1)
    if operand.values:
        codes = sorted({value % span for value in operand.values.values() if operand.low <= value <= operand.high})
        if len(codes) < span:
            yield f"~{either(f'({field} == {literal(code, bits.width)})' for code in codes)}"
        return
    compared = f"$signed({field})" if signed else field
    for beyond, limit, extreme in (("<", operand.low, lowest), (">", operand.high, highest)):
        if limit != extreme:
            bound = f"{bits.width}'sh{limit % span:x}" if signed else literal(limit, bits.width)
            yield f"({compared} {beyond} {bound})"


def _word_class() -> Iterator[str]:
    yield "\n  // Class: unallocated before feature off before reserved bits before illegal operand before legal."
    terms = (
        _gate("~hit & ~off", 3, f"{PACKAGE}::CLASS_UNALLOCATED"),
        _gate("off", 3, f"{PACKAGE}::CLASS_FEATURE_OFF"),
        _gate("hit & reserved", 3, f"{PACKAGE}::CLASS_RESERVED_BITS"),
        _gate("hit & ~reserved & illegal", 3, f"{PACKAGE}::CLASS_ILLEGAL_OPERAND"),
        _gate("hit & ~reserved & ~illegal", 3, f"{PACKAGE}::CLASS_LEGAL"),
    )
    yield _assign("word_class", terms)


def _head(isa: Isa, widths: dict[str, int]) -> Iterator[str]:
    yield "\n  // Fields that every head has."
    length = extended(isa.head["length"], 4)
    yield _assign("length", [_gate("hit", 4, f"({length} + 4'd1)")])
    for name in ("opcode", *_SYNC):
        yield _assign(name, [_gate("hit", widths[name], extended(isa.head[name], widths[name]))])


def _unit(isa: Isa, groups: Sequence[Group], widths: dict[str, int]) -> Iterator[str]:
    yield "\n  // The unit that executes it."
    width = widths["unit"]
    terms = []
    for unit in isa.units:
        members = [group.name for group in groups if group.first.unit == unit]
        if members:
            yield _wire(f"is_{unit}", any_of(members))
            terms.append(_gate(f"is_{unit}", width, f"{PACKAGE}::UNIT_{unit.upper()}"))
    for group in groups:
        if group.first.unit == "any":
            terms.append(_gate(group.name, width, extended(group.first.operand("unit").bits, width)))
    yield _assign("unit", terms)


def _types(isa: Isa, groups: Sequence[Group], widths: dict[str, int]) -> Iterator[str]:
    yield "\n  // Data types, where the instruction has them."
    typed = [group.name for group in groups if group.first.dtypes]
    second = [group for group in groups if group.first.dtypes and group.first.dtype2_bits is not None]
    yield _wire("typed", any_of(typed))
    yield _assign("dtype_valid", ["typed"])
    yield _assign("dtype", [_gate("typed", widths["dtype"], extended(isa.head["dtype"], widths["dtype"]))])
    fields = [(group, group.first.dtype2_bits, False) for group in second if group.first.dtype2_bits is not None]
    yield from _multiplexer("dtype2", widths["dtype2"], fields, valid="dtype2_valid")


def _slots(kind: str, count: int, groups: Sequence[Group], widths: dict[str, int]) -> Iterator[str]:
    """The tile or size operands by their number."""
    yield f"\n  // {kind.capitalize()} operands in order."

    def bits(instruction: Instruction) -> list[BitField]:
        if kind == "tile":
            return [region.bits for region in instruction.regions]
        return [instruction.operand(name).bits for name in unit_sizes(instruction)]

    for slot in range(count):
        users = [group for group in groups if len(bits(group.first)) > slot]
        fields = [(group, bits(group.first)[slot], False) for group in users]
        yield from _multiplexer(f"{kind}{slot}", widths[f"{kind}{slot}"], fields, valid=f"{kind}_valid[{slot}]")


def _operands(ports: Sequence[Port], groups: Sequence[Group]) -> Iterator[str]:
    yield "\n  // Operands by name."
    for port in ports:
        if not port.name.startswith("op_"):
            continue
        fields = [
            (group, operand.bits, operand.kind.repr == "sint")
            for group in groups
            for operand in group.first.operands
            if f"op_{operand.name}" == port.name
        ]
        yield from _multiplexer(port.name, port.width, fields)


def _multiplexer(
    output: str, width: int, fields: Iterable[tuple[Group, BitField, bool]], valid: str | None = None
) -> Iterator[str]:
    """An output that is the OR of gated fields: one select wire per field position, over the groups that have it there.

    `valid` is the output that says whether any of them is selected.
    """
    users: dict[tuple[BitField, bool], list[str]] = {}
    for group, bits, signed in fields:
        users.setdefault((bits, signed and bits.width < width), []).append(group.name)
    selects: dict[str, str] = {}
    for (bits, signed), members in users.items():
        select = f"sel_{output}_{position(bits)}{'_signed' if signed else ''}"
        yield _wire(select, any_of(members))
        selects[select] = _gate(select, width, extended(bits, width, signed))
    if valid is not None:
        yield statement(f"assign {valid} = {any_of(selects)};")
    yield _assign(output, selects.values() if selects else [literal(0, width)])
