"""What an instruction is: the instruction set as data, its encoder, decoder, assembler, verifier and semantics."""

from __future__ import annotations

from npuvm.isa.asm import assemble, assemble_insns
from npuvm.isa.codec import classify, decode_at, decode_program, encode, encode_program
from npuvm.isa.disasm import disassemble, disassemble_words, format_insn
from npuvm.isa.errors import AsmError, DecodeError, IsaError, NpuvmError, VerifyError
from npuvm.isa.image import Entry, EvenEntries, Image, Reloc, RelocTable
from npuvm.isa.load import load_isa, load_isa_text
from npuvm.isa.model import DType, Insn, Instruction, Isa, OperandSpec, Pred, WordClass
from npuvm.isa.verifier import CapacityLimits, Finding, VerifyReport, verify

__all__ = [
    "AsmError",
    "CapacityLimits",
    "DType",
    "DecodeError",
    "Entry",
    "EvenEntries",
    "Finding",
    "Image",
    "Insn",
    "Instruction",
    "Isa",
    "IsaError",
    "NpuvmError",
    "OperandSpec",
    "Pred",
    "Reloc",
    "RelocTable",
    "VerifyError",
    "VerifyReport",
    "WordClass",
    "assemble",
    "assemble_insns",
    "classify",
    "decode_at",
    "decode_program",
    "disassemble",
    "disassemble_words",
    "encode",
    "encode_program",
    "format_insn",
    "load_isa",
    "load_isa_text",
    "verify",
]
