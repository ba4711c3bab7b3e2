"""Encoder and decoder: every field at its bounds and one beyond, the class of every kind of illegal word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.isa.strategies import insns

from npuvm.isa import (
    DecodeError,
    Insn,
    Instruction,
    IsaError,
    OperandSpec,
    Pred,
    WordClass,
    classify,
    decode_at,
    decode_program,
    encode,
    encode_program,
    load_isa,
    load_isa_text,
)
from npuvm.isa.resources import data_root

ISA = load_isa()
EXECUTED = [i for i in ISA.instructions.values() if ISA.features[i.feature]]
OFF = [i for i in ISA.instructions.values() if not ISA.features[i.feature]]
FIELDS = [(i, o) for i in EXECUTED for o in i.operands]


def plain(spec: Instruction, **args: int) -> Insn:
    """An instruction with its first data types and every operand at its smallest value, or as given."""
    dtype, dtype2 = spec.dtypes[0] if spec.dtypes else (None, None)
    return Insn(spec.name, dtype, dtype2, {o.name: o.low for o in spec.operands} | args)


def field_id(case: tuple[Instruction, OperandSpec]) -> str:
    return f"{case[0].name}.{case[1].name}"


@given(insns(ISA))
def test_round_trip(insn: Insn) -> None:
    words = encode(ISA, insn)
    assert decode_at(ISA, words) == (insn, len(words))
    assert classify(ISA, words) is WordClass.LEGAL


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=8))
def test_what_decodes_encodes_to_itself(words: list[int]) -> None:
    try:
        insn, length = decode_at(ISA, words)
    except DecodeError as exc:
        assert WordClass(exc.word_class) is classify(ISA, words)
    else:
        assert encode(ISA, insn) == words[:length]


@given(insns(ISA), st.integers(0, 8 * 64 - 1))
def test_a_flipped_bit_never_decodes_to_the_same(insn: Insn, bit: int) -> None:
    words = encode(ISA, insn)
    word = bit // 64 % len(words)
    words[word] ^= 1 << bit % 64
    try:
        changed, length = decode_at(ISA, words)
    except DecodeError:
        return
    assert changed != insn
    assert encode(ISA, changed) == words[:length]


@pytest.mark.parametrize("spec", EXECUTED, ids=lambda spec: spec.name)
def test_every_instruction_with_every_data_type(spec: Instruction) -> None:
    for dtype, dtype2 in spec.dtypes or [(None, None)]:
        insn = replace(plain(spec), dtype=dtype, dtype2=dtype2)
        assert decode_at(ISA, encode(ISA, insn)) == (insn, spec.words + 1)


@pytest.mark.parametrize("case", FIELDS, ids=field_id)
def test_field_bounds(case: tuple[Instruction, OperandSpec]) -> None:
    """Both bounds survive; one beyond is refused by name, never cut to the field's width."""
    spec, operand = case
    for value in (operand.low, operand.high):
        assert decode_at(ISA, encode(ISA, plain(spec, **{operand.name: value})))[0].args[operand.name] == value
    for value in (operand.low - 1, operand.high + 1):
        with pytest.raises(IsaError, match=rf"operand {operand.name} is {value}; allowed: "):
            encode(ISA, plain(spec, **{operand.name: value}))


@pytest.mark.parametrize("case", FIELDS, ids=field_id)
def test_values_that_a_field_could_hold_but_must_not(case: tuple[Instruction, OperandSpec]) -> None:
    spec, operand = case
    if operand.kind.repr == "sint":
        return
    for value in {operand.low - 1, operand.high + 1} & set(range(1 << min(operand.bits.width, 20))):
        words = encode(ISA, plain(spec))
        bits = operand.bits
        words[bits.word] = words[bits.word] & ~bits.mask | value << bits.low
        assert classify(ISA, words) is WordClass.ILLEGAL_OPERAND


def reserved_bits() -> Iterator[tuple[str, list[int]]]:
    for spec in EXECUTED:
        for word, mask in enumerate(spec.reserved):
            for bit in (b for b in range(64) if mask >> b & 1):
                words = encode(ISA, plain(spec))
                words[word] |= 1 << bit
                yield f"{spec.name} word {word} bit {bit}", words


def test_every_reserved_bit() -> None:
    seen = 0
    for name, words in reserved_bits():
        assert classify(ISA, words) is WordClass.RESERVED_BITS, name
        seen += 1
    assert seen > 500


def test_every_bit_belongs_to_one_field_or_is_reserved() -> None:
    """From the operands, not from the loader's own tables."""
    for spec in ISA.instructions.values():
        for word in range(spec.words + 1):
            masks = [o.bits.mask for o in spec.operands if o.bits.word == word]
            if spec.dtype2_bits is not None and spec.dtype2_bits.word == word:
                masks.append(spec.dtype2_bits.mask)
            if word == 0:
                masks += [bits.mask for name, bits in ISA.head.items() if name != "dtype" or spec.dtypes]
            masks.append(spec.reserved[word])
            assert sum(mask.bit_count() for mask in masks) == 64
            assert sum(masks) == (1 << 64) - 1, (spec.name, word)


def test_unallocated_opcodes() -> None:
    free = set(range(256)) - set(ISA.by_opcode)
    assert 0 in free
    for opcode in free:
        assert classify(ISA, [opcode]) is WordClass.UNALLOCATED


@pytest.mark.parametrize("spec", OFF, ids=lambda spec: spec.name)
def test_features_that_are_off(spec: Instruction) -> None:
    words = [spec.opcode | spec.words << 8, *[0] * spec.words]
    assert classify(ISA, words) is WordClass.FEATURE_OFF
    with pytest.raises(IsaError, match=f"feature '{spec.feature}' is off"):
        encode(ISA, plain(spec))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([0x02 | 1 << 8, 0], WordClass.UNALLOCATED),  # halt has no operand words
        ([0x08 | 1 << 8], WordClass.UNALLOCATED),  # szc is cut short
        ([0x02 | 1 << 11], WordClass.RESERVED_BITS),  # halt has no data type
        ([0x02 | 1 << 21], WordClass.ILLEGAL_OPERAND),  # the second wait without the first
        ([0x02 | 1 << 33], WordClass.ILLEGAL_OPERAND),  # the second set without the first
        ([0x02 | 7 << 39], WordClass.ILLEGAL_OPERAND),  # predicate 7 is not allocated
        ([0x02 | 1 << 42], WordClass.ILLEGAL_OPERAND),  # loops without a predicate
        ([0x19], WordClass.ILLEGAL_OPERAND),  # usync of unit 0, which is the sequencer
        ([0x40 | 1 << 8 | 4 << 11, 0], WordClass.LEGAL),  # vmov takes int8
        ([0x41 | 1 << 8 | 4 << 11, 0], WordClass.ILLEGAL_OPERAND),  # vneg does not
        ([0x40 | 1 << 8 | 15 << 11, 0], WordClass.ILLEGAL_OPERAND),  # no data type 15
        ([0x3C | 1 << 8 | 0 << 11 | 3 << 51, 0], WordClass.ILLEGAL_OPERAND),  # fix from fp32 to int32
        ([0x3C | 1 << 8 | 0 << 11 | 4 << 51, 0], WordClass.LEGAL),  # fix from fp32 to int8
        ([0x06 | 1 << 8, 0], WordClass.ILLEGAL_OPERAND),  # a grid of no loops
        ([0x06 | 1 << 8 | 9 << 51, 0], WordClass.ILLEGAL_OPERAND),  # a grid of nine
        ([0x0F | 1 << 8, 0], WordClass.ILLEGAL_OPERAND),  # a ring without slots
        ([0x0F | 1 << 8, 1 << 32 | 63 << 40], WordClass.ILLEGAL_OPERAND),  # semaphore 63 does not exist
        ([0x03 | 3 << 51], WordClass.ILLEGAL_OPERAND),  # no fourth scope
    ],
)
def test_word_classes(words: list[int], expected: WordClass) -> None:
    assert classify(ISA, words) is expected


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (Insn("vfrob"), "no instruction 'vfrob'"),
        (Insn("loop", args={"loop": 1}), "operand trip is missing"),
        (Insn("halt", args={"loop": 1}), "no operand 'loop'"),
        (Insn("halt", "fp16"), "has no data type"),
        (Insn("vneg", "int8"), "data type int8; allowed: fp32, fp16"),
        (Insn("vcast", "fp32"), "data type fp32; allowed: fp32->fp16"),
        (Insn("halt", wait=(1, 2, 3)), "3 semaphores to wait; a head holds two"),
        (Insn("halt", set=(63,)), "set names semaphore 63; allowed: 0 to 62"),
        (Insn("halt", wait=(-1,)), "wait names semaphore -1"),
        (Insn("halt", pred=Pred("sometimes", 1)), "predicate 'sometimes'; allowed: always, first"),
        (Insn("halt", pred=Pred("always")), "has no predicate"),
        (Insn("halt", pred=Pred("first", 256)), "names a loop past 7"),
        (Insn("barrier", args={"scope": 3}), r"allowed: core \(0\), group \(1\), launch \(2\)"),
    ],
)
def test_encoder_errors(insn: Insn, message: str) -> None:
    with pytest.raises(IsaError, match=message):
        encode(ISA, insn)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (1 | 41 << 15, "wait names semaphore 40; allowed: 0 to 39"),
        (1 | 1 << 27 | 63 << 33, "set names semaphore 62; allowed: 0 to 39"),
        (1 | 1 << 39 | 0x40 << 42, "predicate mask 0x40 names a loop past 5"),
    ],
)
def test_a_head_with_room_for_more_than_there_is(head: int, message: str) -> None:
    """What the encoder refuses does not decode: with fewer semaphores or loops than the head's fields can name."""
    text = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")
    for old, new in (("loops: 8", "loops: 6"), ("semaphores: 63", "semaphores: 40")):
        assert old in text
        text = text.replace(old, new)
    small = load_isa_text(text)
    with pytest.raises(DecodeError) as caught:
        decode_at(small, [head])
    assert caught.value.message == message
    assert classify(small, [head]) is WordClass.ILLEGAL_OPERAND
    assert classify(ISA, [head]) is WordClass.LEGAL
    assert classify(small, [1 | 40 << 15 | 1 << 39 | 0x20 << 42]) is WordClass.LEGAL


def test_programs() -> None:
    program = [Insn("nop"), Insn("szc", args={"size": 1, "full": 2}), Insn("halt")]
    words = encode_program(ISA, program)
    assert words.dtype == np.uint64
    assert decode_program(ISA, words) == [(0, program[0]), (1, program[1]), (3, program[2])]
    with pytest.raises(DecodeError, match="word 4: opcode 0x00 is not allocated"):
        decode_program(ISA, [*words.tolist(), 0])
    with pytest.raises(DecodeError, match="word 9: outside the program of 4 words"):
        decode_at(ISA, words, 9)
