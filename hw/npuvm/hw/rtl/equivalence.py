"""Proofs about the generated decoder with yosys' SAT solver, for all words and all counts of available words.

The decoder is held against `reference_decoder`, which is written apart from its generator; a difference comes back as
a counter-example, with what the Python decoder makes of the same words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.reference_decoder import REFERENCE_MODULE, reference_sv
from npuvm.hw.rtl.yosys import Yosys, YosysFailure, read_command
from npuvm.isa.codec import decode_at
from npuvm.isa.disasm import format_insn
from npuvm.isa.errors import DecodeError
from npuvm.isa.model import Isa, WordClass

__all__ = ["DECODER_MODULE", "CounterExample", "prove_equivalent", "prove_hits"]

DECODER_MODULE = "npu_decoder"

WORD_BITS = 64
MAX_WORDS = 8

_MODEL = "counter_example.json"
_PROOF_FAILED = "proof did fail"


@dataclass(frozen=True)
class CounterExample:
    """Inputs on which a proof fails: 8 words, head first, how many are `avail`able, and the outputs that are wrong.

    `differences` maps an output to (what the reference gives, what the decoder gives), as unsigned numbers.
    """

    words: tuple[int, ...]
    avail: int
    differences: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def describe(self, isa: Isa) -> str:
        """Lines for a person: the words, what the Python decoder says of them, and each output that differs."""
        shown = " ".join(f"{word:016x}" for word in self.words)
        lines = [f"words {shown}, {self.avail} available", f"  the Python decoder: {self._python(isa)}"]
        for name, (reference, decoder) in self.differences.items():
            lines.append(f"  {name}: reference {reference:#x}, decoder {decoder:#x}")
        return "\n".join(lines)

    def _python(self, isa: Isa) -> str:
        words = self.words[: self.avail]
        try:
            insn, length = decode_at(isa, words)
        except DecodeError as exc:
            return f"{exc.word_class}, {exc.message}"
        return f"{WordClass.LEGAL.value}, {length} words, {format_insn(isa, insn)}"


def prove_equivalent(
    yosys: Yosys, sources: Sequence[Path], resolved: Mapping[str, Any], folder: Path
) -> CounterExample | None:
    """Prove that `npu_decoder` in `sources` equals the reference of the resolved instruction set, for every input.

    None when it does, else inputs where it does not. Works in `folder`. RtlError when the modules cannot be compared
    (other ports, a latch, an undriven wire) or yosys is missing.
    """
    reference = folder / f"{REFERENCE_MODULE}.sv"
    reference.write_text(reference_sv(resolved), encoding="utf-8")
    commands = [
        read_command([reference, *sources], folder),
        "proc",
        "opt_expr",
        "opt_clean",
        # The solver reads an undriven wire as 0 on both sides, so it must be refused before.
        f"check -assert {REFERENCE_MODULE} {DECODER_MODULE}",
        f"miter -equiv -flatten -make_outputs {REFERENCE_MODULE} {DECODER_MODULE} miter",
        "hierarchy -top miter",
        *_prove("trigger 0"),
    ]
    return _run(yosys, commands, folder)


def prove_hits(
    yosys: Yosys, sources: Sequence[Path], resolved: Mapping[str, Any], folder: Path
) -> CounterExample | None:
    """Prove that at most one `hit_<instruction>` wire is high, and that one is exactly when the class says decoded.

    None when that holds for every input, else inputs where it does not. RtlError as for `prove_equivalent`.
    """
    on = [e["name"] for e in resolved["instructions"] if resolved["features"][e["feature"]]["default"]]
    property_file = folder / "hits_property.sv"
    property_file.write_text(_hits_property(on), encoding="utf-8")
    commands = [
        read_command(sources, folder),
        "proc",
        f"cd {DECODER_MODULE}",
        *(f"expose w:hit_{name}" for name in on),
        "cd ..",
        f"read_verilog -sv {property_file.name}",
        "hierarchy -check -top hits_property",
        "flatten",
        *_prove("holds 1"),
    ]
    return _run(yosys, commands, folder)


def _hits_property(names: Sequence[str]) -> str:
    last = len(names) - 1
    hits = "".join(f",\n    .hit_{name}(hits[{index}])" for index, name in enumerate(names))
    return f"""module hits_property (input [{WORD_BITS * MAX_WORDS - 1}:0] in_words, input [3:0] in_avail, output holds);
  wire [{last}:0] hits;
  wire [2:0] word_class;
  wire [3:0] length;
  wire [{last}:0] below_lowest = hits - 1'b1;
  wire decoded = |hits;
  assign holds = (hits & below_lowest) == 0 && decoded == (word_class <= 3'd2) && decoded == (length != 0);
  {DECODER_MODULE} decoder (.words(in_words), .avail(in_avail), .word_class(word_class), .length(length){hits});
endmodule
"""


def _prove(goal: str) -> list[str]:
    """Merging equal cells first halves what the solver has to do."""
    return [
        "opt_expr",
        "opt_merge",
        "opt_clean",
        f"sat -verify -prove {goal} -show-inputs -show-outputs -dump_json {_MODEL}",
    ]


def _run(yosys: Yosys, commands: Sequence[str], folder: Path) -> CounterExample | None:
    (folder / _MODEL).unlink(missing_ok=True)
    try:
        log = yosys.run(commands, folder)
    except YosysFailure as exc:
        if _PROOF_FAILED in exc.log and (folder / _MODEL).is_file():
            return _counter_example(json.loads((folder / _MODEL).read_text(encoding="utf-8")))
        raise
    if "no model found: SUCCESS" not in log:
        raise RtlError("yosys ended without a proof")
    return None


def _counter_example(model: Mapping[str, Any]) -> CounterExample:
    # WaveJSON writes a bus as data, in binary digits, and a single bit as the first letter of its wave.
    values = {s["name"]: int(s["data"][0] if "data" in s else s["wave"][0], 2) for s in model["signal"]}
    mask = (1 << WORD_BITS) - 1
    words = tuple(values["in_words"] >> WORD_BITS * i & mask for i in range(MAX_WORDS))
    gold = {name.removeprefix("gold_"): value for name, value in values.items() if name.startswith("gold_")}
    pairs = {name: (value, values[f"gate_{name}"]) for name, value in sorted(gold.items())}
    return CounterExample(words, values["in_avail"], {n: p for n, p in pairs.items() if p[0] != p[1]})
