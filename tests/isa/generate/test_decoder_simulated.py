"""The decoder of a small instruction set in Icarus, against the resolved set read by other code than the generator's."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.isa.generate.sets import TINY

from npuvm.isa import WordClass, classify
from npuvm.isa.generate import decoder_ports, decoder_sv, package_sv

RESOLVED: Mapping[str, Any] = TINY.resolved
OUTPUTS = [port for port in decoder_ports(TINY) if port.direction == "output"]
MASK = (1 << 64) - 1
CODES = {word_class: code for code, word_class in enumerate(WordClass)}

BENCH = """
module bench;
  logic [515:0] vectors [0:{count} - 1];
  logic [511:0] words;
  logic [3:0] avail;
{wires}
  npu_decoder decoder ({connections});
  initial begin
    $readmemh("vectors.hex", vectors);
    for (int i = 0; i < {count}; i++) begin
      {{avail, words}} = vectors[i];
      #1 $display("{format}", {names});
    end
  end
endmodule
"""


def field(words: list[int], bits: list[int]) -> int:
    word, low, width = bits
    return words[word] >> low & ((1 << width) - 1)


def raw_edges(width: int) -> list[int]:
    top = (1 << width) - 1
    return sorted({0, 1, 2, 3, top, top - 1, top >> 1, (top >> 1) + 1, 99 & top, 100 & top, -100 & top, -101 & top})


def vectors() -> Iterator[tuple[list[int], int]]:
    """(words, words that are there): every field of every instruction at many values, with and without the words it needs."""
    rng = random.Random(3)
    head = RESOLVED["head"]
    for entry in RESOLVED["instructions"]:
        fields = [operand["bits"] for operand in entry["operands"]]
        fields += [head[name] for name in ("dtype", "wait0", "wait1", "set0", "set1", "pred", "mask", "order")]
        fields += [entry["dtype2_bits"]] if entry["dtype2_bits"] else []
        legal = [entry["opcode"] | entry["words"] << head["length"][1]] + [0] * 7
        for operand in entry["operands"]:
            start = min(operand["values"].values()) if operand["values"] else max(operand["min"], 0)
            legal[operand["bits"][0]] |= start << operand["bits"][1]
        if entry["dtypes"]:
            codes = [RESOLVED["dtypes"][name]["code"] for name in entry["dtypes"][0] if name]
            for code, bits in zip(codes, [head["dtype"], entry["dtype2_bits"]], strict=False):
                legal[0] |= code << bits[1]
        for avail in range(16):
            yield legal, avail
        for word, low, width in fields:
            for value in raw_edges(width):
                words = list(legal)
                words[word] = words[word] & ~((1 << width) - 1 << low) | value << low
                yield words, 8
        for bit in range(64 * (entry["words"] + 2)):
            words = list(legal)
            words[bit // 64] ^= 1 << bit % 64
            yield words, 8
        for _ in range(40):
            yield (
                [legal[0] & 0x7FF | rng.getrandbits(64) & ~0x7FF, *(rng.getrandbits(64) for _ in range(7))],
                rng.randrange(16),
            )
    for opcode in range(256):
        yield [rng.getrandbits(64) & MASK & ~0xFF | opcode, *(rng.getrandbits(64) for _ in range(7))], rng.randrange(16)


def expected(words: list[int], avail: int) -> dict[str, int]:
    """Every output, from the resolved set: raw fields, whatever the class, once the instruction is known and on."""
    word_class = classify(TINY, words[: min(avail, 8)])
    result = dict.fromkeys((port.name for port in OUTPUTS), 0)
    result["word_class"] = CODES[word_class]
    if word_class in (WordClass.UNALLOCATED, WordClass.FEATURE_OFF):
        return result
    head = RESOLVED["head"]
    (entry,) = (e for e in RESOLVED["instructions"] if e["opcode"] == field(words, head["opcode"]))
    for name in ("opcode", "wait0", "wait1", "set0", "set1", "pred", "mask", "order"):
        result[name] = field(words, head[name])
    result["length"] = entry["words"] + 1
    if entry["dtypes"]:
        result |= {"dtype_valid": 1, "dtype": field(words, head["dtype"])}
    if entry["dtype2_bits"]:
        result |= {"dtype2_valid": 1, "dtype2": field(words, entry["dtype2_bits"])}
    if entry["unit"] != "any":
        result["unit"] = RESOLVED["units"][entry["unit"]]["code"]
    slots = {"tile": 0, "size": 0}
    for operand in entry["operands"]:
        value = field(words, operand["bits"])
        if entry["unit"] == "any" and operand["name"] == "unit":
            result["unit"] = value
        slot = "tile" if operand["role"] else "size" if operand["kind"] == "size" and entry["unit"] != "seq" else None
        if slot is not None:
            result[f"{slot}{slots[slot]}"] = value
            result[f"{slot}_valid"] |= 1 << slots[slot]
            slots[slot] += 1
        width = operand["bits"][2]
        if operand["kind"] == "sint" and value >> (width - 1):
            value -= 1 << width
        port = f"op_{operand['name']}"
        result[port] = value & (1 << next(p.width for p in OUTPUTS if p.name == port)) - 1
    return result


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_all_outputs_for_fields_at_their_edges_and_every_flipped_bit(tmp_path: Path) -> None:
    cases = list(vectors())
    lines = [f"{avail:x}" + "".join(f"{word:016x}" for word in reversed(words)) for words, avail in cases]
    (tmp_path / "vectors.hex").write_text("\n".join(lines), encoding="ascii")
    wires = "\n".join(f"  wire [{port.width - 1}:0] {port.name};" for port in OUTPUTS)
    bench = BENCH.format(
        count=len(cases),
        wires=wires,
        connections=", ".join(f".{port.name}({port.name})" for port in decoder_ports(TINY)),
        format=" ".join(["%h"] * len(OUTPUTS)),
        names=", ".join(port.name for port in OUTPUTS),
    )
    for name, text in (("package.sv", package_sv(TINY)), ("decoder.sv", decoder_sv(TINY)), ("bench.sv", bench)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    subprocess.run(
        ["iverilog", "-g2012", "-o", "bench", "package.sv", "decoder.sv", "bench.sv"], cwd=tmp_path, check=True
    )
    run = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    printed = run.stdout.splitlines()
    assert len(printed) == len(cases)
    seen = set()
    for (words, avail), line in zip(cases, printed, strict=True):
        wanted = expected(words, avail)
        got = {port.name: int(text, 16) for port, text in zip(OUTPUTS, line.split(), strict=True)}
        assert got == wanted, [hex(word) for word in words]
        seen.add(wanted["word_class"])
    assert seen == set(CODES.values())
