"""Decoding for targets that read programs as the simulator does, with `npuvm.isa.codec`."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.isa import DecodeError, Isa, WordClass, decode_at
from npuvm.isa.conformance import Decoded

__all__ = ["decode_programs"]


def decode_programs(isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
    """What stands at word 0 of each program."""
    units = {code: name for name, code in isa.units.items()}
    return [_decode(isa, units, words) for words in programs]


def _decode(isa: Isa, units: dict[int, str], words: Sequence[int]) -> Decoded:
    try:
        insn, length = decode_at(isa, words, 0)
    except DecodeError as exc:
        return Decoded(WordClass(exc.word_class))
    unit = isa.instruction(insn.op).unit
    return Decoded(WordClass.LEGAL, length, insn, units[insn.args["unit"]] if unit == "any" else unit)
