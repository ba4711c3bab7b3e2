"""The SystemVerilog package of an instruction set's constants."""

from __future__ import annotations

from collections.abc import Iterator

from npuvm.isa.errors import IsaError
from npuvm.isa.generate.ports import decoder_ports
from npuvm.isa.generate.verilog import PACKAGE, fit, header
from npuvm.isa.model import Isa, WordClass

__all__ = ["enum_values", "package_sv"]


def package_sv(isa: Isa) -> str:
    """Package `npu_isa_pkg`: opcodes, codes of types, units, spaces, predicates, classes and enum operands, limits, hash.

    A constant that is compared with an output of the decoder has that output's width. IsaError when a code does not fit,
    or when two constants would have one name.
    """
    constants: dict[str, str] = {}
    for name, declaration in _constants(isa):
        if constants.setdefault(name, declaration) != declaration:
            raise IsaError(f"two constants of the generated package would be called {name}")
    lines = [
        *header(isa, "Constants of the instruction set."),
        f"package {PACKAGE};",
        "  /* verilator lint_off UNUSEDPARAM */",
        *(f"  localparam {declaration};" for declaration in constants.values()),
        "  /* verilator lint_on UNUSEDPARAM */",
        f"endpackage : {PACKAGE}",
    ]
    return "\n".join(lines) + "\n"


def _constants(isa: Isa) -> Iterator[tuple[str, str]]:
    """(name, "type name = value") of every constant."""
    widths = {port.name: port.width for port in decoder_ports(isa)}

    def code(name: str, value: int, width: int) -> tuple[str, str]:
        return name, f"logic [{width - 1}:0] {name} = {width}'h{fit(value, width, name):x}"

    def number(name: str, value: int) -> tuple[str, str]:
        return name, f"int {name} = {value}"

    yield "ISA_HASH", f"logic [255:0] ISA_HASH = 256'h{isa.hash}"
    yield number("MAX_OPERAND_WORDS", isa.max_operand_words)
    for table, count in isa.limits.items():
        yield number(f"LIMIT_{table.upper()}", count)
    for scope, (first, last) in isa.semaphore_scopes.items():
        yield number(f"SEMAPHORES_{scope.upper()}_FIRST", first)
        yield number(f"SEMAPHORES_{scope.upper()}_LAST", last)
    for name, bits in isa.head.items():
        yield number(f"HEAD_{name.upper()}_LSB", bits.low)
        yield number(f"HEAD_{name.upper()}_WIDTH", bits.width)
    for value, word_class in enumerate(WordClass):
        yield code(f"CLASS_{word_class.name}", value, widths["word_class"])
    for name, value in isa.units.items():
        yield code(f"UNIT_{name.upper()}", value, widths["unit"])
    for name, value in isa.predicates.items():
        yield code(f"PRED_{name.upper()}", value, widths["pred"])
    for name, dtype in isa.dtypes.items():
        yield code(f"DTYPE_{name.upper()}", dtype.code, widths["dtype"])
    for name, space in isa.spaces.items():
        yield code(f"SPACE_{name.upper()}", space.code, max(1, max(s.code for s in isa.spaces.values()).bit_length()))
    for opcode, instruction in sorted(isa.by_opcode.items()):
        yield code(f"OP_{instruction.name.upper()}", opcode, widths["opcode"])
    for name, value, width in enum_values(isa):
        yield code(name, value, width)


def enum_values(isa: Isa) -> Iterator[tuple[str, int, int]]:
    """(name, value, bits) of enum operands: VALUE_<operand>_<value>, with the instruction's name where two differ."""
    seen: dict[str, set[tuple[tuple[str, int], ...]]] = {}
    for instruction in isa.instructions.values():
        for operand in instruction.operands:
            if operand.values:
                seen.setdefault(operand.name, set()).add((("", operand.bits.width), *operand.values.items()))
    for instruction in isa.instructions.values():
        for operand in instruction.operands:
            owner = operand.name if len(seen.get(operand.name, ())) == 1 else f"{instruction.name}_{operand.name}"
            for name, value in operand.values.items():
                mask = (1 << operand.bits.width) - 1
                yield f"VALUE_{owner}_{name}".upper(), value & mask, operand.bits.width
