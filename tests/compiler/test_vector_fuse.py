"""Instructions of an extension are used by the compiler with nothing but their stanza."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.graphs import CASTS, build, random_inputs
from tests.compiler.vector_run import run_graph, the_chip, the_isa

from npuvm.compiler import Graph, KernelBuilder, Value, interpret
from npuvm.compiler.plan import make_plan
from npuvm.compiler.segments import VectorSegment
from npuvm.compiler.vector_codegen import compile_vector
from npuvm.compiler.vector_fuse import patterns
from npuvm.isa import Isa, decode_program, load_isa

STANZAS = """\
extension: shifts
version: "1.0"
extends: npu 1.0
doc: "Compositions for the tests."
instructions:
  - {name: vfma, opcode: 0xc0, format: vtri, dtypes: [fp32, fp16], semantics: "dst = a * b + c", doc: "Multiply and add."}
  - {name: vclip, opcode: 0xc1, format: vimm, dtypes: [fp32], semantics: "dst = min(max(a, 0), imm)", doc: "Clip to [0, imm]."}
  - {name: vnexp, opcode: 0xc2, format: vun, dtypes: [fp32], semantics: "dst = exp(-abs(a))", doc: "Decay."}
"""


@pytest.fixture(scope="module")
def isa(tmp_path_factory: pytest.TempPathFactory) -> Isa:
    path = tmp_path_factory.mktemp("extensions") / "shifts.yaml"
    path.write_text(STANZAS, encoding="utf-8")
    return load_isa(extensions=(str(path),))


def ops_of(graph: Graph, isa: Isa, **binding: int) -> list[str]:
    """Vector instructions of the only segment."""
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    made = compile_vector(segment, binding, the_chip("edge"), isa)
    assert made is not None
    return [insn.op for _, insn in decode_program(isa, made.image.words) if isa.instruction(insn.op).unit == "vector"]


def run_exactly(graph: Graph, isa: Isa, **binding: int) -> None:
    inputs = random_inputs(graph, binding)
    expected = interpret(graph, inputs)
    ran = run_graph(graph, inputs, the_chip("edge"), isa=isa)
    for name, value in expected.items():
        np.testing.assert_allclose(ran.outputs[name], value, rtol=1e-6, err_msg=name)


def test_patterns_come_from_the_stanzas(isa: Isa) -> None:
    assert {pattern.name: pattern.size for pattern in patterns(isa)} == {"vfma": 2, "vclip": 2, "vnexp": 3, "vrsqrt": 2}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda k, x, y, z: k.store(x * y + z), ["vfma"]),
        (lambda k, x, y, z: k.store(z + y * x), ["vfma"]),
        (lambda k, x, y, z: k.store(x * y + x * z), ["vmul", "vfma"]),
        (lambda k, x, y, z: k.store(k.minimum(k.relu(x), 6.0)), ["vclip"]),
        (lambda k, x, y, z: k.store(k.minimum(6.0, k.maximum(x, 0.0)) * y + z), ["vclip", "vfma"]),
        (lambda k, x, y, z: k.store(k.exp(-abs(x))), ["vnexp"]),
        (lambda k, x, y, z: k.store(1.0 / k.sqrt(k.exp(x))), ["vexp", "vrsqrt"]),
        (lambda k, x, y, z: k.store(k.minimum(k.maximum(x, 1.0), 6.0)), ["vmaxs", "vmins"]),
        (lambda k, x, y, z: k.store(k.minimum(k.relu(x), y)), ["vrelu", "vmin"]),
    ],
)
def test_compositions_are_covered(isa: Isa, body: Any, expected: list[str]) -> None:
    graph = build(body, x="fp32[M, N]", y="fp32[M, N]", z="fp32[M, N]")
    assert ops_of(graph, isa, M=5, N=40) == expected
    run_exactly(graph, isa, M=5, N=40)


def test_a_value_with_another_use_is_not_covered(isa: Isa) -> None:
    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        product = x * y
        k.store(product + x)
        k.store(product)

    graph = build(body, x="fp32[N]", y="fp32[N]")
    assert "vfma" not in ops_of(graph, isa, N=40)
    run_exactly(graph, isa, N=40)


def test_types_that_would_round_differently_are_not_covered(isa: Isa) -> None:
    graph = build(lambda k, x, y: k.store(x * y + y), x="fp16[N]", y="fp16[N]")
    assert ops_of(graph, isa, N=40) == ["vmul", "vadd"]


def test_the_shipped_extension_is_used() -> None:
    graph = build(lambda k, x, y: k.store(x * y + y), x="fp32[M, N]", y="fp32[N]")
    shipped = load_isa(extensions=("fma",))
    assert ops_of(graph, shipped, M=3, N=40) == ["vfma"]
    run_exactly(graph, shipped, M=3, N=40)
    assert ops_of(graph, the_isa(), M=3, N=40) == ["vmul", "vadd"]
