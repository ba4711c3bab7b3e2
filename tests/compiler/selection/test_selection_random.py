"""Random kernels with many fused instructions at hand: whatever is picked, no bit of a result changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import build, random_inputs
from tests.compiler.vector_run import run_graph, the_chip, the_isa

from npuvm.compiler import Graph, KernelBuilder, Value
from npuvm.isa import Isa, decode_program, load_isa_text
from npuvm.isa.resources import data_root

Array = npt.NDArray[Any]

BASE = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")

_ALL = "[fp32, fp16]"
FORMATS = """\
  vbini: {inherits: vbin, words: 2, operands: {imm: {bits: "2:31:0", kind: bits32}}}
  vred2: {inherits: vred_last, operands: {b: {bits: "1:23:16", kind: desc, role: read, spaces: [ub], shape: [rows, cols]}}}
"""
STANZAS = (
    ("vtri", "", "a * b + c"),
    ("vtri", "", "(a - b) * c"),
    ("vtri", "operands: {b: {shape: [rows, 1]}, c: {shape: [rows, 1]}}, ", "(a - b) * c"),
    ("vtri", "", "where(a > b, c, a)"),
    ("vbin", "", "max(a, 0) + b"),
    ("vbin", "operands: {b: {shape: [rows, 1]}}, ", "a - b"),
    ("vbin", "operands: {b: {shape: [rows, 1]}}, ", "a * b"),
    ("vbin", "operands: {b: {shape: [rows, 1]}}, ", "exp(a - b)"),
    ("vbin", "", "min(a * b, a)"),
    ("vimm", "", "max(a, 0) * imm"),
    ("vimm", "", "exp(a * imm)"),
    ("vbini", "", "a * imm + b"),
    ("vun", "", "abs(a) * abs(a)"),
    ("vun", "", "1 / (1 + exp(-a))"),
    ("vred_last", "", "max(abs(a), axis=last)"),
    ("vred2", "", "sum(a * b, axis=last)"),
    ("vred2", "operands: {b: {shape: [rows, 1]}}, ", "max(a - b, axis=last)"),
)


def make_rich() -> Isa:
    """All these as cheap as a copy, so that they are taken wherever they fit."""
    lines = [
        f"  - {{name: v{number}, opcode: {0xC0 + number}, format: {form}, dtypes: {_ALL}, {extra}timing: valu, "
        f"semantics: 'dst = {expression}', doc: Random.}}"
        for number, (form, extra, expression) in enumerate(STANZAS)
    ]
    head = 'extension: rich\nversion: "1.0"\nextends: npu 1.0\n'
    return load_isa_text(BASE, [f"{head}formats:\n{FORMATS}instructions:\n" + "\n".join(lines) + "\n"])


RICH = make_rich()


@st.composite
def kernels(draw: st.DrawFn) -> tuple[Graph, dict[str, int]]:
    """Element-wise operations with rows, columns and numbers broadcast, casts, and reduces; sums over whole rows only."""
    dtype = draw(st.sampled_from(["fp32", "fp16"]))
    binding = {"M": draw(st.sampled_from([1, 2, 7, 40])), "N": draw(st.sampled_from([1, 3, 16, 70]))}
    steps = draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=12))
    contract = draw(st.booleans()) and dtype == "fp32"

    def body(k: KernelBuilder, x: Value, row: Value, column: Value) -> None:
        k.allow(contract=contract)
        if dtype == "fp16":
            x, row, column = (k.cast(each, "fp32") for each in (x, row, column))
        values = [x, row, column, x - column]
        for step in steps:
            kind, a, b = step % 13, values[step // 13 % len(values)], values[step // 200 % len(values)]
            number = (0.5, 3.0, -2.0, 1.0, 0.0)[step // 3000 % 5]
            values.append(one_step(k, kind, a, b, number, x))
        for at, value in enumerate(values[-3:]):
            k.store(k.cast(value, dtype), name=f"result{at}")

    types = {"x": f"{dtype}[M, N]", "row": f"{dtype}[N]", "column": f"{dtype}[M, 1]"}
    return build(body, **types), binding


def one_step(k: KernelBuilder, kind: int, a: Value, b: Value, number: float, x: Value) -> Value:
    """One more value of a kernel."""
    whole = a + x * 0.0
    return {
        0: lambda: a + b,
        1: lambda: a * b,
        2: lambda: a - b,
        3: lambda: a * number,
        4: lambda: a - number,
        5: lambda: k.relu(a),
        6: lambda: k.exp(k.minimum(a, 3.0)),
        7: lambda: k.abs(a),
        8: lambda: k.select(a > b, x, a),
        9: lambda: k.max(whole, -1, keepdims=True),
        10: lambda: k.sum(whole * b, -1, keepdims=True),
        11: lambda: k.sigmoid(a),
        12: lambda: k.cast(k.cast(k.minimum(a, b), "fp16"), "fp32"),
    }[kind]()


def bits(array: Array) -> Array:
    """The bits, with one NaN for all: which of two NaN wins is nobody's promise."""
    kind = np.dtype(f"u{array.itemsize}")
    return np.where(np.isnan(array), kind.type(0), array.view(kind))


@settings(max_examples=60, deadline=None)
@given(kernels())
def test_no_bit_changes(case: tuple[Graph, dict[str, int]]) -> None:
    graph, binding = case
    inputs = random_inputs(graph, binding, seed=3)
    base, rich = (run_graph(graph, inputs, the_chip("edge"), isa=isa).outputs for isa in (the_isa(), RICH))
    for name, value in base.items():
        np.testing.assert_array_equal(bits(rich[name]), bits(value), err_msg=name)


def test_the_instructions_are_taken() -> None:
    """The test above would mean nothing if its kernels did not use them."""

    def body(k: KernelBuilder, x: Value, column: Value) -> None:
        scaled = (x - column) * k.max(k.abs(x), -1, keepdims=True)
        k.store(k.sum(scaled * x, -1))
        k.store(k.exp(x - column) * 2.0 + scaled)

    graph = build(body, x="fp32[M, N]", column="fp32[M, 1]")
    ran = run_graph(graph, random_inputs(graph, {"M": 9, "N": 20}), the_chip("edge"), isa=RICH)
    used = {insn.op for kernel in ran.kernels for _, insn in decode_program(RICH, kernel.image.words)}
    fused = {STANZAS[int(op[1:])][2] for op in used if op[1:].isdigit()}
    assert fused >= {"(a - b) * c", "max(abs(a), axis=last)", "sum(a * b, axis=last)", "exp(a - b)", "a * imm + b"}
