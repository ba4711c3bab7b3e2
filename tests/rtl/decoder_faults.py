"""Decoders with a fault: the generated one inside another that puts something else in place of an input or an output."""

from __future__ import annotations

import re
from pathlib import Path

from npuvm.hw.rtl import decoder_sources
from npuvm.isa import Isa
from npuvm.isa.generate import decoder_ports

FAULTS = {
    "a reserved bit of vadd is ignored": {"words": "words & ~{448'd0, words[7:0] == 8'h58, 63'd0}"},
    "one operand word may be missing": {"avail": "avail + 4'd1"},
    "the second wait is lost": {"wait1": "6'd0"},
    "a sign is lost": {"op_step_a": "{1'b0, got_op_step_a[30:0]}"},
    "tile 1 is another operand": {"tile1": "got_tile0"},
    "reserved bits count as illegal operands": {"word_class": "got_word_class == 3'd1 ? 3'd2 : got_word_class"},
}


def faulty_decoder(isa: Isa, folder: Path, fault: dict[str, str]) -> list[Path]:
    """The generated decoder inside another one that puts `fault` in place of an input or output."""
    package, decoder = decoder_sources(isa, folder / "right")
    inner, outer = folder / "inner.sv", folder / "npu_decoder.sv"
    text = decoder.read_text(encoding="utf-8")
    inner.write_text(re.sub(r"\bnpu_decoder\b", "inner_decoder", text), encoding="utf-8")
    ports = decoder_ports(isa)
    declared = ",\n".join(f"  {port.direction} logic [{port.width - 1}:0] {port.name}" for port in ports)
    lines = [f"module npu_decoder (\n{declared}\n);"]
    for port in ports:
        lines.append(f"  wire [{port.width - 1}:0] got_{port.name};")
        wrong = fault.get(port.name, port.name if port.direction == "input" else f"got_{port.name}")
        target = f"got_{port.name}" if port.direction == "input" else port.name
        lines.append(f"  assign {target} = {wrong};")
    connections = ", ".join(f".{port.name}(got_{port.name})" for port in ports)
    outer.write_text("\n".join([*lines, f"  inner_decoder inner ({connections});", "endmodule\n"]), encoding="utf-8")
    return [package, inner, outer]
