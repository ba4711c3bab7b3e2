"""Which instructions the compiler picks: by what their stanzas say, where they round as the kernel says, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.compiler.graphs import CASTS, build, random_inputs
from tests.compiler.vector_run import run_graph, the_chip, the_isa

from npuvm.compiler import CompileError, Graph, KernelBuilder, Value, interpret, parse_graph, print_graph
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import ConfigError
from npuvm.isa import Isa, decode_program, load_isa, load_isa_text
from npuvm.isa.resources import data_root

BASE = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")

STANZAS = """\
  - {name: vfma, opcode: 0xc0, format: vtri, dtypes: [fp32, fp16], semantics: "dst = a * b + c", doc: "Multiply and add."}
  - {name: vclip, opcode: 0xc1, format: vimm, dtypes: [fp32], semantics: "dst = min(max(a, 0), imm)", doc: "Clip to [0, imm]."}
  - {name: vnexp, opcode: 0xc2, format: vun, dtypes: [fp32], semantics: "dst = exp(-abs(a))", doc: "Decay."}
  - {name: vaxpy, opcode: 0xc3, format: vimmb, dtypes: [fp32, fp16], semantics: "dst = imm * a + b", doc: "Scale and add."}
  - {name: vnear, opcode: 0xc4, format: vtri, dtypes: [fp32], semantics: "dst = where(a < b, c, 0.0)", doc: "c where a < b."}
"""
FORMATS = """\
  vimmb: {inherits: vbin, words: 2, operands: {imm: {bits: "2:31:0", kind: bits32}}}
  vdot: {inherits: vred_last, operands: {b: {bits: "1:23:16", kind: desc, role: read, spaces: [ub], shape: [rows, cols]}}}
"""


def extended(stanzas: str, formats: str = FORMATS) -> Isa:
    head = 'extension: mine\nversion: "1.0"\nextends: npu 1.0\n'
    return load_isa_text(BASE, [f"{head}formats:\n{formats}instructions:\n{stanzas}"])


def one(semantics: str, dtypes: str = "fp32, fp16", form: str = "vun", timing: str = "") -> Isa:
    """The base with one instruction, vnew."""
    extra = f"timing: {timing}, " if timing else ""
    stanza = (
        f"{{name: vnew, opcode: 0xc0, format: {form}, dtypes: [{dtypes}], {extra}semantics: '{semantics}', doc: New.}}"
    )
    return extended(f"  - {stanza}\n")


@pytest.fixture(scope="module")
def isa() -> Isa:
    return extended(STANZAS)


def ops_of(graph: Graph, isa: Isa, chip: NpuConfig | None = None, **binding: int) -> list[str]:
    """Vector instructions of the only segment, with their types where one is not fp32."""
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    made = compile_vector(segment, binding or {"M": 5, "N": 40}, chip or the_chip("edge"), isa)
    assert made is not None
    found = [insn for _, insn in decode_program(isa, made.image.words) if isa.instruction(insn.op).unit == "vector"]
    return [insn.op if insn.dtype == "fp32" and not insn.dtype2 else f"{insn.op}.{insn.dtype}" for insn in found]


def run_exactly(graph: Graph, isa: Isa, rtol: float = 1e-6) -> None:
    """The simulated result against numpy, operation by operation."""
    inputs = random_inputs(graph, {"M": 5, "N": 40})
    expected = interpret(graph, inputs)
    ran = run_graph(graph, inputs, the_chip("edge"), isa=isa)
    for name, value in expected.items():
        np.testing.assert_allclose(
            ran.outputs[name].astype(np.float64), value.astype(np.float64), rtol=rtol, atol=1e-30, err_msg=name
        )


def same_bits(graph: Graph, isa: Isa) -> None:
    """An exact match changes no bit: the result is that of the base."""
    inputs = random_inputs(graph, {"M": 5, "N": 40})
    fused, base = (run_graph(graph, inputs, the_chip("edge"), isa=each).outputs for each in (isa, the_isa()))
    for name, value in base.items():
        assert fused[name].tobytes() == value.tobytes(), name


Body = Callable[..., Any]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda k, x, y, z: k.store(x * y + z), ["vfma"]),
        (lambda k, x, y, z: k.store(z + y * x), ["vfma"]),
        (lambda k, x, y, z: k.store(x * y + x * z), ["vmul", "vfma"]),
        (lambda k, x, y, z: k.store(k.minimum(k.relu(x), 6.0)), ["vclip"]),
        (lambda k, x, y, z: k.store(k.minimum(6.0, k.maximum(x, 0.0)) * y + z), ["vclip", "vfma"]),
        (lambda k, x, y, z: k.store(k.exp(-abs(x))), ["vnexp"]),
        (lambda k, x, y, z: k.store(k.minimum(k.maximum(x, 1.0), 6.0)), ["vmaxs", "vmins"]),
        (lambda k, x, y, z: k.store(k.minimum(k.relu(x), y)), ["vrelu", "vmin"]),
        (lambda k, x, y, z: k.store(x * 3.0 + y), ["vaxpy"]),
        (lambda k, x, y, z: k.store(y - x * -3.0), ["vmuls", "vsub"]),
        (lambda k, x, y, z: k.store(k.select(k.gt(y, x), z, 0.0)), ["vnear"]),
        (lambda k, x, y, z: k.store(k.select(k.lt(x, y), z, 1.0)), ["vdup", "vgt", "vsel"]),
    ],
)
def test_compositions_are_covered(isa: Isa, body: Body, expected: list[str]) -> None:
    graph = build(body, x="fp32[M, N]", y="fp32[M, N]", z="fp32[M, N]")
    assert ops_of(graph, isa) == expected
    run_exactly(graph, isa)
    same_bits(graph, isa)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda k, x: k.store(1.0 / k.sqrt(k.exp(x))), ["vexp", "vrsqrt"]),
        (lambda k, x: k.store(k.reciprocal(x) - 2.0), ["vrec", "vadds"]),
        (lambda k, x: k.store(x / 4.0), ["vmuls"]),
        (lambda k, x: k.store(x / 3.0), ["vdivs"]),
        (lambda k, x: k.store(x**2.0), ["vmul"]),
        (lambda k, x: k.store(-(x * 3.0)), ["vmuls"]),
        (lambda k, x: k.store(3.0 - x), ["vrsubs"]),
        (lambda k, x: k.store(k.select(k.lt(1.0, x), x, 0.5)), ["vdup", "vgts", "vsel"]),
        (lambda k, x: k.store(x - k.size("N")), ["vadds"]),
        (lambda k, x: k.store(k.size("N") - x), ["vrsubs"]),
    ],
)
def test_graphs_and_stanzas_have_one_normal_form(body: Body, expected: list[str]) -> None:
    graph = build(body, x="fp32[M, N]")
    assert ops_of(graph, the_isa()) == expected
    run_exactly(graph, the_isa())


def test_the_lowest_integer_has_no_opposite() -> None:
    lowest = -(1 << 31)
    graph = build(lambda k, x: k.store(-(x * lowest) - lowest), x="int32[M, N]")
    assert ops_of(graph, the_isa()) == ["vmuls.int32", "vneg.int32", "vadds.int32"]
    run_exactly(graph, the_isa(), rtol=0)


def test_a_cast_is_part_of_the_instruction_that_rounds_so_anyway() -> None:
    """An fp16 instruction computes in fp32 and rounds once, which is what these three operations say."""
    graph = build(lambda k, x: k.store(k.cast(k.exp(k.cast(x, "fp32")), "fp16")), x="fp16[M, N]")
    assert ops_of(graph, the_isa()) == ["vexp.fp16"]
    run_exactly(graph, the_isa(), rtol=0)


def test_a_chain_in_fp32_between_casts_is_one_fp16_instruction(isa: Isa) -> None:
    def body(k: KernelBuilder, x: Value, y: Value, z: Value) -> None:
        wide = [k.cast(each, "fp32") for each in (x, y, z)]
        k.store(k.cast(wide[0] * wide[1] + wide[2], "fp16"))

    graph = build(body, x="fp16[M, N]", y="fp16[M, N]", z="fp16[M, N]")
    assert ops_of(graph, isa) == ["vfma.fp16"]
    run_exactly(graph, isa, rtol=0)
    same_bits(graph, isa)


def test_a_value_with_another_use_is_kept(isa: Isa) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        product = x * y
        k.store(product + x)
        k.store(product)

    graph = build(body, x="fp32[M, N]", y="fp32[M, N]")
    assert "vfma" not in ops_of(graph, isa)
    run_exactly(graph, isa)


def test_a_value_used_twice_inside_the_instruction_only_is_covered() -> None:
    isa = one("dst = a * a / (1 + a * a)", timing="vdiv")
    graph = build(lambda k, x: k.store(x * x / (x * x + 1.0)), x="fp32[M, N]")
    assert ops_of(graph, isa) == ["vnew"]
    same_bits(graph, isa)


# Rounding.


def product_and_sum(k: KernelBuilder, x: Value, y: Value, z: Value) -> None:
    k.store(x * y + z)


def test_fp16_that_would_round_once_too_few_needs_contract(isa: Isa) -> None:
    types = dict.fromkeys("xyz", "fp16[M, N]")
    graph = build(product_and_sum, **types)
    assert ops_of(graph, isa) == ["vmul.fp16", "vadd.fp16"]
    same_bits(graph, isa)

    def allowed(k: KernelBuilder, *values: Value) -> None:
        k.allow(contract=True)
        product_and_sum(k, *values)

    graph = build(allowed, **types)
    assert ops_of(graph, isa) == ["vfma.fp16"]
    inputs = random_inputs(graph, {"M": 5, "N": 40})
    x, y, z = (inputs[name].astype(np.float32) for name in "xyz")
    got = run_graph(graph, inputs, the_chip("edge"), isa=isa).outputs["out0"]
    np.testing.assert_array_equal(got, (x * y + z).astype(np.float16))
    assert (got != interpret(graph, inputs)["out0"]).any()


def test_another_order_of_roundings_is_another_function(isa: Isa) -> None:
    """(x + y) * z has no fused form here, and x * (1 / y) is not x / y."""
    graph = build(lambda k, x, y: k.store((x + y) * x), x="fp32[M, N]", y="fp32[M, N]")
    assert ops_of(graph, isa) == ["vadd", "vmul"]
    quotient = one("dst = a * (1 / b)", form="vbin")
    graph = build(lambda k, x, y: k.store(x / y), x="fp32[M, N]", y="fp32[M, N]")
    assert ops_of(graph, quotient) == ["vdiv"]


def test_constants_of_a_stanza_are_compared_as_they_are_computed_with() -> None:
    graph = build(lambda k, x: k.store((x + 0.1) * x), x="fp32[M, N]")
    assert ops_of(graph, one("dst = (a + 0.1) * a", timing="vmul")) == ["vnew"]
    assert ops_of(graph, one("dst = (a + (0.2 - 0.1)) * a", timing="vmul")) == ["vnew"]
    assert ops_of(graph, one("dst = (a + 0.1001) * a", timing="vmul")) == ["vadds", "vmul"]


# Named functions.


def test_the_activations_are_single_instructions_of_the_same_bits() -> None:
    shipped = load_isa(extensions=("activation",))
    bodies: dict[str, Body] = {
        "vsigm": lambda k, x: k.store(k.sigmoid(x)),
        "vsilu": lambda k, x: k.store(k.silu(x)),
        "vtanh": lambda k, x: k.store(k.tanh(x)),
        "vgelut": lambda k, x: k.store(k.gelu(x, "tanh")),
    }
    for name, body in bodies.items():
        for dtype in ("fp32", "fp16", "bf16"):
            graph = build(body, x=f"{dtype}[M, N]")
            assert ops_of(graph, shipped) == [name if dtype == "fp32" else f"{name}.{dtype}"]
            same_bits(graph, shipped)


@pytest.mark.parametrize(
    ("semantics", "body"),
    [
        ("dst = a * 0.5 * (tanh(a * 0.5) + 1)", lambda k, x: k.store(k.silu(x))),
        ("dst = tanh(a)", lambda k, x: k.store(k.tanh(x))),
        ("dst = 0.5 * a * (1 + tanh(0.7978845608 * (a + 0.044715 * a ** 3)))", lambda k, x: k.store(k.gelu(x, "tanh"))),
        ("dst = (a + a * erf(0.70710678118 * a)) / 2", lambda k, x: k.store(k.gelu(x))),
    ],
)
def test_another_form_of_a_function_needs_approx(semantics: str, body: Body) -> None:
    isa = one(semantics, timing="vexp")
    exact = build(body, x="fp16[M, N]")
    assert "vnew.fp16" not in ops_of(exact, isa)

    def allowed(k: KernelBuilder, x: Value) -> None:
        k.allow(approx_ulp=8)
        body(k, x)

    graph = build(allowed, x="fp16[M, N]")
    assert ops_of(graph, isa) == ["vnew.fp16"]
    inputs = {"x": np.linspace(-9, 9, 200).astype(np.float16).reshape(5, 40)}
    got = run_graph(graph, inputs, the_chip("edge"), isa=isa).outputs["out0"].astype(np.float64)
    want = interpret(exact, {"x": inputs["x"]})["out0"].astype(np.float64)
    unit = np.maximum(np.spacing(np.abs(want).astype(np.float16)).astype(np.float64), 2.0**-24)
    assert float(np.max(np.abs(got - want) / unit)) <= 9


def test_the_error_that_is_allowed_is_measured() -> None:
    """1 + erf cancels for negative arguments: bf16 keeps its digits where it has none left, fp16 is at its smallest."""
    isa = one("dst = a * 0.5 * (1 + erf(a * 0.7071067811865476))", dtypes="fp16, bf16", timing="vexp")

    def body(k: KernelBuilder, x: Value) -> None:
        k.allow(approx_ulp=4)
        k.store(k.gelu(x))

    assert ops_of(build(body, x="fp16[M, N]"), isa) == ["vnew.fp16"]
    assert not [op for op in ops_of(build(body, x="bf16[M, N]"), isa) if op.startswith("vnew")]


# Reduces.


def sum_of_squares(k: KernelBuilder, x: Value) -> None:
    k.store(k.sum(x * x, -1))


def test_a_reduce_takes_what_stands_before_it_where_a_row_is_whole() -> None:
    isa = one("dst = sum(a * b, axis=last)", dtypes="fp32", form="vdot", timing="vredl")
    graph = build(sum_of_squares, x="fp32[M, N]")
    assert ops_of(graph, isa) == ["vnew"]
    run_exactly(graph, isa)
    same_bits(graph, isa)


def test_a_reduce_in_pieces_keeps_its_products() -> None:
    """Tiles are joined element by element before they are reduced, so the products are needed as they are."""
    isa = one("dst = sum(a * b, axis=last)", dtypes="fp32", form="vdot", timing="vredl")
    graph = build(sum_of_squares, x="fp32[M, N]")
    (segment,) = make_plan(graph, CASTS, whole_rows=False).segments
    assert isinstance(segment, VectorSegment)
    made = compile_vector(segment, {"M": 2, "N": 100_000}, the_chip("edge"), isa)
    assert made is not None
    ops = [insn.op for _, insn in decode_program(isa, made.image.words)]
    assert "vmul" in ops
    assert "vnew" not in ops
    inputs = random_inputs(graph, {"M": 2, "N": 100_000})
    got = run_graph(graph, inputs, the_chip("edge"), isa=isa).outputs["out0"]
    np.testing.assert_allclose(got, (inputs["x"].astype(np.float64) ** 2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 70), (9, 1)])
def test_a_reduce_of_one_element_is_none(rows: int, cols: int) -> None:
    isa = one("dst = sum(a * b, axis=last)", dtypes="fp32", form="vdot", timing="vredl")
    graph = build(sum_of_squares, x="fp32[M, N]")
    inputs = random_inputs(graph, {"M": rows, "N": cols})
    got = run_graph(graph, inputs, the_chip("edge"), isa=isa).outputs["out0"]
    np.testing.assert_allclose(got, (inputs["x"].astype(np.float64) ** 2).sum(-1), rtol=1e-6)


def normalised(k: KernelBuilder, x: Value) -> None:
    centred = x - k.mean(x, -1, keepdims=True)
    k.store(centred * k.rsqrt(k.mean(centred * centred, -1, keepdims=True)))


def test_operands_with_one_element_a_row_need_no_broadcast() -> None:
    isa = extended(
        "  - {name: vnew, opcode: 0xc0, format: vtri, dtypes: [fp32], timing: vmul, semantics: 'dst = (a - b) * c', "
        "operands: {b: {shape: [rows, 1]}, c: {shape: [rows, 1]}}, doc: New.}\n"
    )
    graph = build(normalised, x="fp32[M, N]")
    assert ops_of(graph, isa)[-1] == "vnew"
    same_bits(graph, isa)
    assert ops_of(graph, the_isa())[-2:] == ["vbrc", "vmul"]
    # With rows so long that rings have one slot, the next tile is not kept waiting until x was read a second time.
    assert ops_of(graph, isa, M=4, N=8000)[-2:] == ["vbrc", "vmul"]


def test_columns_are_reduced_with_what_stands_before_them() -> None:
    isa = one("dst = max(abs(a), axis=first)", dtypes="fp32", form="vred_first", timing="vredf")
    graph = build(lambda k, x: k.store(k.max(k.abs(x), 0)), x="fp32[M, N]")
    assert ops_of(graph, isa) == ["vnew"]
    same_bits(graph, isa)


# fp8.


def test_quantising_is_one_instruction() -> None:
    shipped = load_isa(extensions=("fp8",))

    def body(k: KernelBuilder, x: Value) -> None:
        scaled = k.cast(x, "fp32") * 3.0
        k.store(k.cast(k.maximum(k.minimum(scaled, 448.0), -448.0), "fp8_e4m3"))

    graph = build(body, x="fp16[M, N]")
    assert ops_of(graph, shipped) == ["vq8s.fp16"]
    same_bits(graph, shipped)
    run_exactly(graph, shipped, rtol=0)


def test_dequantising_with_a_scale_for_each_row_is_one_instruction() -> None:
    shipped = load_isa(extensions=("fp8",))
    graph = build(lambda k, q, s: k.store(k.cast(k.cast(q, "fp32") * s, "fp16")), q="fp8_e4m3[M, N]", s="fp32[M, 1]")
    assert ops_of(graph, shipped) == ["vdq8c.fp8_e4m3"]
    same_bits(graph, shipped)
    run_exactly(graph, shipped, rtol=0)


# Costs.


def test_the_cheapest_is_taken_not_the_largest() -> None:
    graph = build(lambda k, x, y, z: k.store(x * y + z), x="fp32[M, N]", y="fp32[M, N]", z="fp32[M, N]")
    shipped = load_isa(extensions=("fma",))
    assert ops_of(graph, shipped) == ["vfma"]
    slow = load_chip("edge", ["core.vector.classes.vfma.cycles_per_repeat=9"])
    assert ops_of(graph, shipped, slow) == ["vmul", "vadd"]


def test_without_a_class_a_stanza_costs_its_primitives() -> None:
    """Nothing is saved a repeat, but the start and the wait of the second instruction are."""
    graph = build(lambda k, x, y: k.store(k.exp(x) / y), x="fp32[M, N]", y="fp32[M, N]")
    assert ops_of(graph, one("dst = exp(a) / b", form="vbin")) == ["vnew"]
    slow = load_chip("edge", ["core.vector.classes.vexp.cycles_per_repeat=1"])
    assert ops_of(graph, one("dst = exp(a) / b + 0 * exp(b)", form="vbin"), slow) == ["vexp", "vdiv"]


def test_a_chip_that_does_not_price_an_instruction_says_so() -> None:
    graph = build(product_and_sum, x="fp32[M, N]", y="fp32[M, N]", z="fp32[M, N]")
    isa = one("dst = a * b + c", form="vtri", timing="vfused")
    with pytest.raises(ConfigError, match="vnew: the chip prices no timing class 'vfused'"):
        ops_of(graph, isa)


def test_an_instruction_set_may_lack_an_operation() -> None:
    text = "\n".join(line for line in BASE.splitlines() if "name: vexp," not in line)
    graph = build(lambda k, x: k.store(k.exp(x)), x="fp32[M, N]")
    with pytest.raises(CompileError, match="has no instruction for exp of fp32"):
        ops_of(graph, load_isa_text(text))


def test_names_mean_nothing() -> None:
    """With every vector instruction renamed the same program comes out."""
    names = [each.name for each in the_isa().instructions.values() if each.unit == "vector"]
    text = BASE
    for name in names:
        text = text.replace(f"name: {name},", f"name: w{name[1:]}_x,")
    renamed = load_isa_text(text)

    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        wide = k.cast(x, "fp32")
        total = k.sum(k.exp(wide - k.max(wide, -1, True)), -1, True)
        k.store(k.cast(wide / total, "fp16") + y)
        k.store(k.select(k.gt(x, 1.0), x, y))

    graph = build(body, x="fp16[M, N]", y="fp16[1, N]")
    for sizes in ({"M": 64, "N": 128}, {"M": 3, "N": 70000}):
        plans = [make_plan(graph, CASTS, whole_rows=sizes["N"] < 1000) for _ in range(2)]
        for segment, same in zip(plans[0].segments, plans[1].segments, strict=True):
            assert isinstance(segment, VectorSegment)
            assert isinstance(same, VectorSegment)
            made = compile_vector(segment, sizes, the_chip("edge"), the_isa())
            other = compile_vector(same, sizes, the_chip("edge"), renamed)
            assert made is not None
            assert other is not None
            assert list(made.image.words) == list(other.image.words)


# What a kernel allows.


@pytest.mark.parametrize(
    ("allowed", "line"),
    [
        ({}, ""),
        ({"contract": True}, "  allow contract"),
        ({"approx_ulp": 2}, "  allow approx_ulp = 2.0"),
        ({"contract": True, "approx_ulp": 0.5}, "  allow contract, approx_ulp = 0.5"),
    ],
)
def test_the_text_of_a_graph_says_what_is_allowed(allowed: dict[str, Any], line: str) -> None:
    def body(k: KernelBuilder, x: Value) -> None:
        k.allow(**allowed)
        k.store(k.gelu(x))

    graph = build(body, x="fp16[N]")
    text = print_graph(graph)
    assert [each for each in text.splitlines() if each.startswith("  allow")] == ([line] if line else [])
    assert parse_graph(text).allowed == graph.allowed
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ({"contract": 1}, r"test_selection.py:\d+: allow: contract must be True or False, not 1"),
        ({"approx_ulp": -1}, r"test_selection.py:\d+: allow: approx_ulp must be a number of units, 0 or more, not -1"),
        ({"approx_ulp": float("nan")}, "0 or more, not nan"),
        ({"approx_ulp": True}, "0 or more, not True"),
    ],
)
def test_what_cannot_be_allowed_is_refused(allowed: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        build(lambda k, x: k.allow(**allowed), x="fp16[N]")
