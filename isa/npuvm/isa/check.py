"""Check step: what must hold of a frozen instruction set before anyone uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from npuvm.isa.errors import IsaError
from npuvm.isa.functions import FUNCTIONS
from npuvm.isa.model import Instruction, Isa
from npuvm.isa.semantics import parse_semantics

__all__ = ["check_isa"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_isa(isa: Isa, places: Mapping[str, str]) -> None:
    """Raise IsaError, naming the stanza's place, for the first rule that does not hold.

    Rules: the head's fields fill disjoint bits; names and opcodes are unique and in range; every field lies in its own
    bits; units, timing classes, traps, features and types exist; a stanza states its meaning in one way, and a semantics
    expression uses its own operands only.
    """
    _check_head(isa)
    _check_unique(isa, places)
    for instruction in isa.instructions.values():
        where = places.get(instruction.name)
        _check_fields(isa, instruction, where)
        _check_names(isa, instruction, where)
        _check_meaning(isa, instruction, where)


def _check_head(isa: Isa) -> None:
    used = 0
    for name, bits in isa.head.items():
        if bits.word != 0 or used & bits.mask:
            raise IsaError(f"head.{name}: overlaps another head field or is not in word 0")
        used |= bits.mask
    codes = [d.code for d in isa.dtypes.values()]
    if len(set(codes)) != len(codes) or max(codes) >> isa.head["dtype"].width:
        raise IsaError("dtypes: codes must be unique and fit the head's dtype field")
    if isa.limits["semaphores"] + 1 > 1 << min(isa.head[name].width for name in ("wait0", "wait1", "set0", "set1")):
        raise IsaError(f"limits.semaphores: {isa.limits['semaphores']} do not fit the head's wait and set fields")
    if isa.limits["loops"] > isa.head["mask"].width:
        raise IsaError(f"limits.loops: {isa.limits['loops']} do not fit the head's mask")
    first, last = isa.resolved["custom_opcodes"]
    if first > last or last >> isa.head["opcode"].width:
        raise IsaError(f"custom_opcodes: {first:#04x} to {last:#04x} is no range of opcodes")


def _check_unique(isa: Isa, places: Mapping[str, str]) -> None:
    entries = isa.resolved["instructions"]
    names: dict[str, int] = {}
    opcodes: dict[int, str] = {}
    highest = (1 << isa.head["opcode"].width) - 1
    for entry in entries:
        name, opcode, where = entry["name"], entry["opcode"], places.get(entry["name"])
        if not _NAME.fullmatch(name):
            raise IsaError(f"instruction {name!r}: a name is lower-case letters, digits and _", where)
        if name in names:
            raise IsaError(f"instruction {name!r} is defined twice", where)
        if not isinstance(opcode, int) or not 1 <= opcode <= highest:
            raise IsaError(f"{name}: opcode {opcode!r} must be an integer from 1 to {highest}; 0 always traps", where)
        if opcode in opcodes:
            raise IsaError(f"{name}: opcode {opcode:#04x} is taken by {opcodes[opcode]}", where)
        names[name] = opcode
        opcodes[opcode] = name


def _check_fields(isa: Isa, instruction: Instruction, where: str | None) -> None:
    if not 0 <= instruction.words <= isa.max_operand_words:
        raise IsaError(f"{instruction.name}: {instruction.words} operand words; at most {isa.max_operand_words}", where)
    used = [0] * (instruction.words + 1)
    for name, bits in isa.head.items():
        if name != "dtype" or instruction.dtypes:
            used[0] |= bits.mask
    fields = [(o.name, o.bits) for o in instruction.operands]
    if instruction.dtype2_bits:
        fields.append(("dtype2", instruction.dtype2_bits))
    for name, bits in fields:
        if used[bits.word] & bits.mask:
            raise IsaError(f"{instruction.name}.{name}: its bits in word {bits.word} overlap another field", where)
        used[bits.word] |= bits.mask
    for spec in instruction.operands:
        limit = isa.limits.get(spec.kind.table or "", 0)
        if spec.kind.repr == "index" and limit > 1 << spec.bits.width:
            raise IsaError(
                f"{instruction.name}.{spec.name}: {spec.bits.width} bits do not reach {limit} {spec.kind.table}",
                where,
            )
        if spec.default is not None and not spec.low <= spec.default <= spec.high:
            raise IsaError(
                f"{instruction.name}.{spec.name}: default {spec.default} is outside {spec.low}..{spec.high}",
                where,
            )


def _check_names(isa: Isa, instruction: Instruction, where: str | None) -> None:
    name = instruction.name
    if instruction.unit not in isa.units and instruction.unit != "any":
        raise IsaError(f"{name}: unit {instruction.unit!r} is unknown; there are: {', '.join(isa.units)}", where)
    if instruction.feature not in isa.features:
        raise IsaError(
            f"{name}: feature {instruction.feature!r} is unknown; there are: {', '.join(isa.features)}", where
        )
    for trap in instruction.traps:
        if trap not in isa.traps:
            raise IsaError(f"{name}: trap {trap!r} is unknown; there are: {', '.join(isa.traps)}", where)
    sizes = {o.name for o in instruction.operands if o.kind.name == "size" or (o.kind.name == "uint" and o.low > 0)}
    for region in instruction.regions:
        if region.role not in ("read", "write", "readwrite"):
            raise IsaError(f"{name}.{region.name}: role {region.role!r}; allowed: read, write, readwrite", where)
        for space in region.spaces:
            if space not in isa.spaces:
                raise IsaError(
                    f"{name}.{region.name}: space {space!r} is unknown; there are: {', '.join(isa.spaces)}",
                    where,
                )
        for dim in region.shape:
            if dim != 1 and dim not in sizes:
                raise IsaError(
                    f"{name}.{region.name}: shape names {dim!r}, which is no size and no number above 0", where
                )
        if region.dtype not in ("dtype", "dtype2", "acc") and region.dtype not in isa.dtypes:
            raise IsaError(f"{name}.{region.name}: dtype {region.dtype!r} is unknown", where)


def _check_meaning(isa: Isa, instruction: Instruction, where: str | None) -> None:
    name = instruction.name
    if instruction.semantics is not None:
        _check_semantics(instruction, where)
    if instruction.function is not None and instruction.function not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        raise IsaError(f"{name}: function {instruction.function!r} is unknown; there are: {known}", where)
    if instruction.unit in ("seq", "any") or instruction.feature != "base":
        return
    if not instruction.dtypes:
        raise IsaError(f"{name}: needs a list of dtypes", where)
    if (instruction.semantics is None) == (instruction.function is None):
        raise IsaError(f"{name}: needs either semantics or function", where)
    if instruction.timing is None and instruction.semantics is None:
        raise IsaError(f"{name}: needs a timing class, there is no expression to sum primitives of", where)


def _check_semantics(instruction: Instruction, where: str | None) -> None:
    """The expression parses, is assigned to what the instruction writes, and reads what it reads."""
    written = [o.name for o in instruction.regions if o.role != "read"]
    plain = ("bits32", "size")
    read = [o.name for o in instruction.operands if o.kind.name in plain or o.role in ("read", "readwrite")]
    if instruction.unit == "seq":
        written, read = ["rd"], [o.name for o in instruction.operands if o.kind.name == "reg" and o.name != "rd"]
    try:
        semantics = parse_semantics(instruction.semantics or "", (*written, *(n for n in read if n not in written)))
    except IsaError as exc:
        raise IsaError(f"{instruction.name}: {exc.message}", where) from None
    if semantics.target not in written or not set(semantics.names) <= set(read):
        message = f"assigns {semantics.target} from {', '.join(semantics.names)}"
        allowed = f"allowed: {', '.join(written)} from {', '.join(read)}"
        raise IsaError(f"{instruction.name}: semantics {message}; {allowed}", where)
