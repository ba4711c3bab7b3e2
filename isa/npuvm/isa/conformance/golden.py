"""Level golden: words assembled by hand, from `golden_words.yaml`, decode to what their text says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from npuvm.isa.asm import assemble_insns
from npuvm.isa.codec import encode
from npuvm.isa.conformance.cases import Check, WordCase, hex_words
from npuvm.isa.conformance.layout import Entry, Layout
from npuvm.isa.conformance.target import Decoded
from npuvm.isa.disasm import format_insn
from npuvm.isa.errors import NpuvmError
from npuvm.isa.model import Insn, Isa, WordClass
from npuvm.isa.yaml_strict import load_yaml

__all__ = ["golden_cases"]


def golden_cases(isa: Isa, layout: Layout, folder: Path) -> Iterator[WordCase | Check]:
    """The words of each entry to the target, its text through assembler, encoder and disassembler.

    Only the names and values of the text are taken from the assembler; where the bits lie, the file says.
    """
    data: dict[str, Any] = load_yaml(folder / "golden_words.yaml").data
    for entry in data["golden"]:
        yield from _legal(isa, layout, entry)
    for entry in data["refused"]:
        expected = Decoded(WordClass(entry["class"]))
        yield WordCase(f"golden/{entry['name']}/decode", _words(entry), expected)


def _legal(isa: Isa, layout: Layout, given: Mapping[str, Any]) -> Iterator[WordCase | Check]:
    name = f"golden/{given['name']}"
    words = _words(given)
    try:
        (insn,) = assemble_insns(isa, given["asm"])
        encoded, printed = hex_words(encode(isa, insn)), format_insn(isa, insn)
    except NpuvmError as exc:
        yield Check(f"{name}/assemble", given["asm"], f"refused: {exc}")
        return
    entry = layout.entries[insn.op]
    bins = tuple(_observed(layout, entry, insn))
    expected = Decoded(WordClass.LEGAL, len(words), insn, layout.unit_of(entry, insn.args))
    yield WordCase(f"{name}/decode", words, expected, bins)
    yield Check(f"{name}/encode", hex_words(words), encoded)
    yield Check(f"{name}/print", given["asm"], printed)


def _words(given: Mapping[str, Any]) -> list[int]:
    return [int(word, 16) for word in given["words"]]


def _observed(layout: Layout, entry: Entry, insn: Insn) -> Iterator[str]:
    if entry.custom:
        return
    yield f"golden/format/{entry.format}/seen"
    yield f"golden/unit/{layout.unit_of(entry, insn.args)}/seen"
    for field in entry.operands:
        yield f"golden/operand/{field.name}/seen"
        if insn.args[field.name] < 0:
            yield f"golden/operand/{field.name}/negative"
    yield from (f"golden/dtype/{name}/seen" for name in (insn.dtype, insn.dtype2) if name)
    yield f"golden/pred/{insn.pred.kind if insn.pred else 'always'}/seen"
    yield f"golden/wait/{len(insn.wait)}"
    yield f"golden/set/{len(insn.set)}"
    yield f"golden/order/{'on' if insn.order else 'off'}"
