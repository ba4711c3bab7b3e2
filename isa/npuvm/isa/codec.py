"""Encoder and decoder, driven by the instruction set's bit fields.

An instruction decodes if and only if it prints, and re-encodes to itself. The encoder raises; it never masks a value
into a field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from npuvm.isa.errors import DecodeError, IsaError
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec, Pred, WordClass

__all__ = ["classify", "decode_at", "decode_program", "encode", "encode_program"]

_WORD = (1 << 64) - 1


def encode(isa: Isa, insn: Insn) -> list[int]:
    """Head and operand words of an instruction as unsigned 64-bit integers; IsaError names operand, value and range."""
    spec = isa.instruction(insn.op)
    if not isa.features[spec.feature]:
        raise IsaError(f"feature {spec.feature!r} is off in this instruction set", insn.op)
    words = [spec.opcode << isa.head["opcode"].low | spec.words << isa.head["length"].low] + [0] * spec.words
    words[0] |= _head_bits(isa, insn) | _dtype_bits(isa, spec, insn)
    known = 0
    for operand in spec.operands:
        value = insn.args.get(operand.name)
        if value is None:
            if operand.default is None:
                raise IsaError(f"operand {operand.name} is missing", insn.op)
            value = operand.default
        else:
            known += 1
        if not operand.low <= value <= operand.high or (operand.values and value not in operand.values.values()):
            raise IsaError(f"operand {operand.name} is {value}; allowed: {_allowed(operand)}", insn.op)
        bits = operand.bits
        words[bits.word] |= (value & (1 << bits.width) - 1) << bits.low
    if spec.dtype2_bits is not None:
        words[0] |= isa.dtypes[insn.dtype2 or ""].code << spec.dtype2_bits.low
    if known != len(insn.args):
        unknown = sorted(set(insn.args) - {o.name for o in spec.operands})
        raise IsaError(f"no operand {unknown[0]!r}; there are: {', '.join(o.name for o in spec.operands)}", insn.op)
    return words


def encode_program(isa: Isa, insns: Iterable[Insn]) -> npt.NDArray[np.uint64]:
    """All instructions in order as one array of words."""
    words: list[int] = []
    for insn in insns:
        words += encode(isa, insn)
    return np.array(words, dtype=np.uint64)


def decode_at(isa: Isa, words: Sequence[int] | npt.NDArray[np.uint64], index: int = 0) -> tuple[Insn, int]:
    """The instruction at word `index` and its length in words; DecodeError with `word_class` when it is not legal.

    Classes are tried in this order: unallocated opcode or wrong length, feature off, reserved bits, illegal operand.
    """
    where = f"word {index}"
    if not 0 <= index < len(words):
        raise DecodeError(f"outside the program of {len(words)} words", where, WordClass.UNALLOCATED.value)
    head = int(words[index])
    spec = isa.by_opcode.get(_get(isa, head, "opcode"))
    if spec is None:
        raise DecodeError(
            f"opcode {_get(isa, head, 'opcode'):#04x} is not allocated", where, WordClass.UNALLOCATED.value
        )
    length = _get(isa, head, "length")
    if length != spec.words or index + length >= len(words):
        message = f"{spec.name} has {spec.words} operand words; the head says {length}, {len(words) - index - 1} follow"
        raise DecodeError(message, where, WordClass.UNALLOCATED.value)
    if not isa.features[spec.feature]:
        raise DecodeError(
            f"{spec.name} needs feature {spec.feature!r}, which is off", where, WordClass.FEATURE_OFF.value
        )
    body = [int(words[index + i]) for i in range(length + 1)]
    for word, reserved in zip(body, spec.reserved, strict=True):
        if word & reserved:
            raise DecodeError(
                f"{spec.name} has reserved bits {word & reserved:#x} set",
                where,
                WordClass.RESERVED_BITS.value,
            )
    try:
        return _decode_body(isa, spec, body), length + 1
    except IsaError as exc:
        raise DecodeError(exc.message, where, WordClass.ILLEGAL_OPERAND.value) from None


def decode_program(isa: Isa, words: Sequence[int] | npt.NDArray[np.uint64]) -> list[tuple[int, Insn]]:
    """(word index, instruction) for a whole program; DecodeError at the first word that is not legal."""
    result: list[tuple[int, Insn]] = []
    index = 0
    plain = words.tolist() if isinstance(words, np.ndarray) else words
    while index < len(plain):
        insn, length = decode_at(isa, plain, index)
        result.append((index, insn))
        index += length
    return result


def classify(isa: Isa, words: Sequence[int] | npt.NDArray[np.uint64]) -> WordClass:
    """The class of the instruction that starts `words`."""
    try:
        decode_at(isa, words, 0)
    except DecodeError as exc:
        return WordClass(exc.word_class)
    return WordClass.LEGAL


def _get(isa: Isa, head: int, name: str) -> int:
    bits = isa.head[name]
    return head >> bits.low & (1 << bits.width) - 1


def _allowed(operand: OperandSpec) -> str:
    if operand.values:
        return ", ".join(f"{name} ({value})" for name, value in operand.values.items())
    return f"{operand.low} to {operand.high}"


def _head_bits(isa: Isa, insn: Insn) -> int:
    result = int(insn.order) << isa.head["order"].low
    for kind, numbers in (("wait", insn.wait), ("set", insn.set)):
        if len(numbers) > 2:
            raise IsaError(f"{len(numbers)} semaphores to {kind}; a head holds two", insn.op)
        for slot, number in enumerate(numbers):
            if not 0 <= number < isa.limits["semaphores"]:
                raise IsaError(
                    f"{kind} names semaphore {number}; allowed: 0 to {isa.limits['semaphores'] - 1}", insn.op
                )
            result |= (number + 1) << isa.head[f"{kind}{slot}"].low
    if insn.pred is not None:
        if insn.pred.kind not in isa.predicates:
            raise IsaError(f"predicate {insn.pred.kind!r}; allowed: {', '.join(isa.predicates)}", insn.op)
        if insn.pred.kind == "always":
            raise IsaError("an instruction that always runs has no predicate", insn.op)
        if insn.pred.mask >> isa.limits["loops"]:
            raise IsaError(f"predicate mask {insn.pred.mask:#x} names a loop past {isa.limits['loops'] - 1}", insn.op)
        result |= isa.predicates[insn.pred.kind] << isa.head["pred"].low | insn.pred.mask << isa.head["mask"].low
    return result


def _dtype_bits(isa: Isa, spec: Instruction, insn: Insn) -> int:
    if not spec.dtypes:
        if insn.dtype is not None or insn.dtype2 is not None:
            raise IsaError(f"has no data type, {insn.dtype} was given", insn.op)
        return 0
    if (insn.dtype, insn.dtype2) not in spec.dtypes:
        given = "->".join(d for d in (insn.dtype, insn.dtype2) if d) or "none"
        allowed = ", ".join("->".join(d for d in pair if d) for pair in spec.dtypes)
        raise IsaError(f"data type {given}; allowed: {allowed}", insn.op)
    return isa.dtypes[insn.dtype or ""].code << isa.head["dtype"].low


def _decode_body(isa: Isa, spec: Instruction, body: list[int]) -> Insn:
    dtype, dtype2 = _decode_dtypes(isa, spec, body[0])
    args: dict[str, int] = {}
    for operand in spec.operands:
        bits = operand.bits
        value = body[bits.word] >> bits.low & (1 << bits.width) - 1
        if operand.kind.repr == "sint" and value >> (bits.width - 1):
            value -= 1 << bits.width
        if not operand.low <= value <= operand.high or (operand.values and value not in operand.values.values()):
            raise IsaError(f"{spec.name}: operand {operand.name} is {value}; allowed: {_allowed(operand)}")
        args[operand.name] = value
    return Insn(
        spec.name,
        dtype,
        dtype2,
        args,
        wait=_decode_semaphores(isa, body[0], "wait"),
        set=_decode_semaphores(isa, body[0], "set"),
        pred=_decode_predicate(isa, body[0]),
        order=bool(_get(isa, body[0], "order")),
    )


def _decode_dtypes(isa: Isa, spec: Instruction, head: int) -> tuple[str | None, str | None]:
    if not spec.dtypes:
        return None, None
    first = isa.dtype_by_code(_get(isa, head, "dtype"))
    second = None
    if spec.dtype2_bits is not None:
        second = isa.dtype_by_code(head >> spec.dtype2_bits.low & (1 << spec.dtype2_bits.width) - 1)
    pair = (first.name if first else None, second.name if second else None)
    if pair not in spec.dtypes:
        raise IsaError(f"{spec.name}: data type {pair[0]}, {pair[1]} is not allowed")
    return pair


def _decode_semaphores(isa: Isa, head: int, kind: str) -> tuple[int, ...]:
    first, second = _get(isa, head, f"{kind}0"), _get(isa, head, f"{kind}1")
    if first == 0 and second != 0:
        raise IsaError(f"{kind}1 is used and {kind}0 is not")
    if max(first, second) > isa.limits["semaphores"]:
        raise IsaError(f"{kind} names semaphore {max(first, second) - 1}; allowed: 0 to {isa.limits['semaphores'] - 1}")
    return tuple(number - 1 for number in (first, second) if number)


def _decode_predicate(isa: Isa, head: int) -> Pred | None:
    code, mask = _get(isa, head, "pred"), _get(isa, head, "mask")
    kind = next((name for name, value in isa.predicates.items() if value == code), None)
    if kind is None:
        raise IsaError(f"predicate {code} is not allocated")
    if kind == "always":
        if mask:
            raise IsaError("a predicate mask without a predicate")
        return None
    if mask >> isa.limits["loops"]:
        raise IsaError(f"predicate mask {mask:#x} names a loop past {isa.limits['loops'] - 1}")
    return Pred(kind, mask)
