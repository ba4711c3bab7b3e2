"""A new element-wise instruction is one YAML stanza: assembled, printed, verified, timed and run, with no Python written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from npuvm.hw.config import class_of, load_chip
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import AsmError, Isa, IsaError, VerifyError, assemble, disassemble, load_isa, load_isa_text, verify
from npuvm.isa.resources import data_root
from npuvm.runtime.device.device import capacity_limits

BASE = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")

STANZA = """
extension: distance
version: "1.0"
extends: npu 1.0
instructions:
  - name: vsqdiff
    opcode: 0xd0
    format: vbin
    dtypes: [fp32, fp16, int32]
    semantics: "dst = (a - b) * (a - b)"
    doc: "Square of the difference, rounded once."
"""

PROGRAM = """
.args 3
.entry unified 0 0:{tiles}
szc size=s0 full={tiles}
szt size=s1 loop=l0 full=16 tail={tail}
szc size=s2 full={cols}
ring ring=g0 slot_bytes=8192 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=4096 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch={row}
dstr desc=d0 loop=l0 stride={step}
desc desc=d1 space=gm base=@arg1 pitch={row}
dstr desc=d1 loop=l0 stride={step}
desc desc=d2 space=ub role=producer base=0x0 ring=g0 pitch=256
desc desc=d3 space=ub role=producer base=0x1000 ring=g0 pitch=256
desc desc=d4 space=ub role=consumer base=0x0 ring=g0 pitch=256
desc desc=d5 space=ub role=consumer base=0x1000 ring=g0 pitch=256
desc desc=d6 space=ub role=producer base=0x4000 ring=g1 pitch=256
desc desc=d7 space=ub role=consumer base=0x4000 ring=g1 pitch=256
desc desc=d8 space=gm base=@arg2 pitch={row}
dstr desc=d8 loop=l0 stride={step}
grid loops=1 phase=0 t0=s0
  ld.{dtype} dst=d2 src=d0 rows=s1 cols=s2 | wait m1
  ld.{dtype} dst=d3 src=d1 rows=s1 cols=s2 | set m0
  {compute}
  st.{dtype} dst=d8 src=d7 rows=s1 cols=s2 | wait m2 set m3
endgrid
halt
"""
ONE = "vsqdiff.{dtype} dst=d6 a=d4 rows=s1 cols=s2 b=d5 | wait m0 m3 set m1 m2"
TWO = """vsub.{dtype} dst=d6 a=d4 rows=s1 cols=s2 b=d5 | wait m0 m3 set m1
  vmul.{dtype} dst=d6 a=d6 rows=s1 cols=s2 b=d6 | set m2 order"""
ROWS, COLS = 53, 60
KINDS: dict[str, npt.DTypeLike] = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32}


@dataclass
class Outcome:
    result: npt.NDArray[Any]
    run: RunResult


def execute(isa: Isa, compute: str, a: npt.NDArray[Any], b: npt.NDArray[Any], dtype: str) -> Outcome:
    """Assemble, print, verify and simulate the program over two arrays."""
    row = COLS * a.itemsize
    fields = {"tiles": 4, "tail": ROWS % 16, "cols": COLS, "row": row, "step": 16 * row, "dtype": dtype}
    image = assemble(isa, PROGRAM.format(compute=compute.format(dtype=dtype), **fields), "new.asm")
    assert assemble(isa, disassemble(isa, image)).to_bytes() == image.to_bytes()
    chip = load_chip("edge")
    assert verify(isa, image, capacity_limits(chip), argument_bytes=[a.nbytes] * 3).ok
    memory = GlobalMemory(1 << 20)
    addresses = [0x1000, 0x10000, 0x20000]
    for address, array in zip(addresses, (a, b), strict=False):
        memory.write(address, array)
    windows = [(address, a.nbytes) for address in addresses]
    run = simulate(chip, isa, image, memory=memory, addresses=addresses, windows=windows)
    return Outcome(memory.read(addresses[2], a.nbytes).view(a.dtype).reshape(a.shape), run)


def operands(dtype: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    rng = np.random.default_rng(7)
    if dtype == "int32":
        a, b = rng.integers(-(1 << 31), 1 << 31, (2, ROWS, COLS)).astype(np.int32)
    else:
        a, b = rng.standard_normal((2, ROWS, COLS)).astype(KINDS[dtype])
    return a, b


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_one_stanza_is_enough(dtype: str) -> None:
    isa = load_isa_text(BASE, [STANZA])
    a, b = operands(dtype)
    outcome = execute(isa, ONE, a, b, dtype)
    wide_a, wide_b = (x.astype(np.float32 if dtype != "int32" else np.int32) for x in (a, b))
    expected = ((wide_a - wide_b) * (wide_a - wide_b)).astype(KINDS[dtype])
    np.testing.assert_array_equal(outcome.result, expected)
    assert outcome.run.hazards == ()


def test_it_rounds_once_where_two_instructions_round_twice() -> None:
    isa = load_isa_text(BASE, [STANZA])
    a, b = operands("fp16")
    fused, apart = execute(isa, ONE, a, b, "fp16"), execute(isa, TWO, a, b, "fp16")
    assert fused.run.instructions < apart.run.instructions
    rounded_twice = ((a - b).astype(np.float32) ** 2).astype(np.float16)
    np.testing.assert_array_equal(apart.result, rounded_twice)
    assert (fused.result != apart.result).any()


def test_without_the_extension_nothing_knows_it() -> None:
    isa, base = load_isa_text(BASE, [STANZA]), load_isa()
    text = PROGRAM.format(
        compute=ONE.format(dtype="fp16"), tiles=4, tail=5, cols=COLS, row=120, step=1920, dtype="fp16"
    )
    image = assemble(isa, text)
    with pytest.raises(AsmError, match=r"new\.asm:24:3: no instruction 'vsqdiff' in npu 1\.0"):
        assemble(base, text, "new.asm")
    with pytest.raises(IsaError, match="made for instruction set"):
        disassemble(base, image)
    with pytest.raises(VerifyError, match="hash"):
        verify(base, image, capacity_limits(load_chip("edge")))


def test_the_tutorial_shows_the_shipped_stanza() -> None:
    page = (data_root() / "docs" / "tutorials" / "add-an-instruction.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shipped = (data_root() / "isa" / "extensions" / "hswish.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(shown) == yaml.safe_load(shipped)


SHIPPED = ("fma", "activation", "fp8", "hswish")


@pytest.mark.parametrize("chip", ["edge", "ascend_910a", "ascend_910b1"])
def test_the_shipped_extensions_load_together_and_every_chip_prices_them(chip: str) -> None:
    isa, base = load_isa(extensions=SHIPPED), load_isa()
    added = [each for name, each in isa.instructions.items() if name not in base.instructions]
    assert {isa.by_opcode[each.opcode].name for each in added} == {each.name for each in added}
    vector = load_chip(chip).core.vector
    for instruction in added:
        found = class_of(vector, isa, instruction)
        assert found.cycles_per_repeat > 0, instruction.name


def test_the_benchmark_prints_each_speed_up_with_its_cost(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    script = data_root() / "benchmarks" / "extensions.py"
    command = [sys.executable, str(script), "--chip", "edge", "--case", "quantise", "--json", str(report)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (chip,) = json.loads(report.read_text(encoding="utf-8"))
    base, fp8 = chip["rows"][0]["runs"]
    assert base["used"] == {}
    assert fp8["cycles"] < base["cycles"]
    (op,) = fp8["used"]
    (cost,) = chip["costs"]
    assert (cost["instruction"], cost["class"]) == (op, "vquant")
    assert cost["source"].startswith("assumed")
    assert cost["cycles_per_repeat"] < cost["primitives_cycles_per_repeat"]
    assert re.search(rf"{op} +class vquant .*assumed", printed)
