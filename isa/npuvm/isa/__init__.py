"""What an instruction is: the instruction set as data, its encoder, decoder, assembler, verifier and semantics."""
from __future__ import annotations

from npuvm.isa.codec import classify, decode_at, decode_program, encode, encode_program
from npuvm.isa.errors import AsmError, DecodeError, IsaError, NpuvmError, VerifyError
from npuvm.isa.image import Entry, Image, Reloc
from npuvm.isa.load import load_isa, load_isa_text
from npuvm.isa.model import DType, Insn, Instruction, Isa, OperandSpec, Pred, WordClass

__all__ = [
    "AsmError",
    "DType",
    "DecodeError",
    "Entry",
    "Image",
    "Insn",
    "Instruction",
    "Isa",
    "IsaError",
    "NpuvmError",
    "OperandSpec",
    "Pred",
    "Reloc",
    "VerifyError",
    "WordClass",
    "classify",
    "decode_at",
    "decode_program",
    "encode",
    "encode_program",
    "load_isa",
    "load_isa_text",
]
