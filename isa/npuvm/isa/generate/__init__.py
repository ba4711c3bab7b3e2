"""What is made from an instruction set: SystemVerilog, a C header, JSON for other tools, reference pages."""

from __future__ import annotations

from npuvm.isa.generate.decoder import decoder_sv
from npuvm.isa.generate.drawing import FieldRow, field_rows
from npuvm.isa.generate.files import StaleFile, artifacts, stale_files
from npuvm.isa.generate.firmware import c_header
from npuvm.isa.generate.opcode_map import OpcodeState, OpcodeUse, free_ranges, opcode_uses, opcodes_markdown
from npuvm.isa.generate.package import package_sv
from npuvm.isa.generate.ports import Port, decoder_ports
from npuvm.isa.generate.reference import reference_markdown
from npuvm.isa.generate.resolved import resolved_document, resolved_schema

__all__ = [
    "FieldRow",
    "OpcodeState",
    "OpcodeUse",
    "Port",
    "StaleFile",
    "artifacts",
    "c_header",
    "decoder_ports",
    "decoder_sv",
    "field_rows",
    "free_ranges",
    "opcode_uses",
    "opcodes_markdown",
    "package_sv",
    "reference_markdown",
    "resolved_document",
    "resolved_schema",
    "stale_files",
]
