"""What a decoder must answer: the Python decoder's word, and the fields of any hit read off the bit positions."""

from __future__ import annotations

from npuvm.hw.rtl.vectors import Vectors
from npuvm.isa import DecodeError, Insn, Instruction, Isa, WordClass, decode_at
from npuvm.isa.conformance.target import Decoded


def expected(isa: Isa, vectors: Vectors) -> list[Decoded]:
    return [expected_of(isa, vectors.program(row)) for row in range(len(vectors))]


def expected_of(isa: Isa, program: list[int]) -> Decoded:
    try:
        insn, length = decode_at(isa, program)
    except DecodeError as exc:
        return Decoded(WordClass(exc.word_class))
    return Decoded(WordClass.LEGAL, length, insn, unit_of(isa, insn))


def unit_of(isa: Isa, insn: Insn) -> str:
    spec = isa.instruction(insn.op)
    if spec.unit in isa.units:
        return spec.unit
    return {value: name for name, value in spec.operand("unit").values.items()}[insn.args["unit"]]


def expected_fields(isa: Isa, program: list[int]) -> dict[str, int]:
    """The outputs that are not zero, by the bit positions in the instruction set; signed operands as negative numbers."""
    if not program:
        return {}
    spec = isa.by_opcode.get(program[0] & 0xFF)
    if spec is None or not isa.features[spec.feature]:
        return {}
    if program[0] >> 8 & 7 != spec.words or len(program) <= spec.words:
        return {}
    operands = _operands(spec, program)
    fields = {f"op_{name}": value for name, value in operands.items()}
    fields |= {"length": spec.words + 1, "opcode": spec.opcode}
    fields["unit"] = isa.units[spec.unit] if spec.unit in isa.units else operands["unit"]
    for name in ("wait0", "wait1", "set0", "set1", "pred", "mask", "order"):
        fields[name] = _bits(program, 0, isa.head[name].low, isa.head[name].width)
    if spec.dtypes:
        fields |= {"dtype_valid": 1, "dtype": _bits(program, 0, isa.head["dtype"].low, isa.head["dtype"].width)}
    if spec.dtype2_bits is not None:
        fields |= {"dtype2_valid": 1, "dtype2": _bits(program, 0, spec.dtype2_bits.low, spec.dtype2_bits.width)}
    fields |= {f"tile{index}": operands[region.name] for index, region in enumerate(spec.regions)}
    fields["tile_valid"] = (1 << len(spec.regions)) - 1
    if spec.unit != "seq":
        fields |= {f"size{index}": operands[size.name] for index, size in enumerate(spec.sizes)}
        fields["size_valid"] = (1 << len(spec.sizes)) - 1
    return {name: value for name, value in fields.items() if value}


def _operands(spec: Instruction, program: list[int]) -> dict[str, int]:
    values: dict[str, int] = {}
    for operand in spec.operands:
        bits = operand.bits
        value = _bits(program, bits.word, bits.low, bits.width)
        if operand.kind.repr == "sint" and value >> bits.width - 1:
            value -= 1 << bits.width
        values[operand.name] = value
    return values


def _bits(program: list[int], word: int, low: int, width: int) -> int:
    return program[word] >> low & (1 << width) - 1
