"""Artifacts made from an instruction set: the SystemVerilog decoder and its package of constants."""

from __future__ import annotations

from npuvm.isa.generate.decoder import decoder_sv
from npuvm.isa.generate.package import package_sv
from npuvm.isa.generate.ports import Port, decoder_ports

__all__ = ["Port", "decoder_ports", "decoder_sv", "package_sv"]
