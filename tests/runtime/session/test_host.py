"""Operators of the host: which provider runs them, what crosses for them, and what is said where none can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser
from tests.runtime.session.models import Array, check, floats, opened, parsed

from npuvm.runtime.host import ReferenceProvider, default_provider
from npuvm.runtime.host.ort import OnnxruntimeProvider
from npuvm.runtime.host.provider import HostError
from npuvm.runtime.session import Session
from npuvm.runtime.session.errors import SessionError

AROUND = """m (float[B, 4] x) => (float[2, n] y) {
  t = Tanh(x)
  where = NonZero(t)
  f = Cast <to = 1> (where)
  y = Exp(f)
}"""


def node(op: str, inputs: Sequence[int], output: int = TensorProto.FLOAT, **attributes: Any) -> bytes:
    """One operator as a step of a model has it."""
    made = helper.make_node(op, [f"i{at}" for at in range(len(inputs))], ["o0"], **attributes)
    given = [helper.make_tensor_value_info(f"i{at}", kind, None) for at, kind in enumerate(inputs)]
    graph = helper.make_graph([made], op, given, [onnx.ValueInfoProto(name="o0")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("provider", [ReferenceProvider(), OnnxruntimeProvider()], ids=lambda each: each.name)
def test_providers_run_one_operator(provider: OnnxruntimeProvider | ReferenceProvider) -> None:
    stored = node("Pow", [TensorProto.FLOAT, TensorProto.FLOAT])
    for number in (2.0, 3.0):
        (made,) = provider.run(stored, [np.full(3, number, np.float32), np.full(1, 2, np.float32)])
        np.testing.assert_array_equal(made, np.full(3, number**2, np.float32))
    with pytest.raises(HostError, match=f"{provider.name} cannot run it"):
        provider.run(stored, [floats(3), floats(4)])


def test_what_onnxruntime_does_not_have_goes_to_the_reference() -> None:
    unknown = node("BitCount", [TensorProto.INT64])
    with pytest.raises(HostError, match="onnxruntime cannot load it"):
        OnnxruntimeProvider().run(unknown, [np.arange(3)])
    asked: list[bytes] = []

    class Other:
        name = "other"

        def run(self, node: bytes, inputs: Sequence[Array | None]) -> list[Array]:
            asked.append(node)
            return [np.arange(3)]

    OnnxruntimeProvider(otherwise=Other()).run(unknown, [np.arange(3)])
    assert asked == [unknown]


def test_the_default_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_provider().name == "onnxruntime"
    missing = {"onnxruntime"}
    monkeypatch.setattr("npuvm.runtime.host.provider.find_spec", lambda name: None if name in missing else object())
    assert default_provider().name == "onnx.reference"
    missing.add("onnx")
    with pytest.raises(HostError, match=r"install it: pip install npuvm\[onnx\]"):
        default_provider()


def test_what_crosses_is_counted() -> None:
    proto, session = opened(AROUND)
    made = check(session, proto, {"x": floats(6, 4)})
    (use,) = session.last.hosts.values()
    found = made["y"].shape[1]
    assert (use.op, use.source, use.provider, use.calls) == ("NonZero", "NonZero_where", "onnxruntime", 1)
    assert use.to_host_bytes == 6 * 4 * 4
    assert use.to_device_bytes == 2 * found * 4, "int64 is carried in four bytes"
    assert session.last.upload_bytes == 6 * 4 * 4 + use.to_device_bytes
    assert session.last.download_bytes == use.to_host_bytes + made["y"].nbytes


def test_a_provider_of_ones_own() -> None:
    class Nothing:
        name = "nothing"

        def run(self, node: bytes, inputs: Sequence[Array | None]) -> list[Array]:
            return [np.zeros((2, 3), np.int64)]

    session = Session(parsed(AROUND), "edge", engine="functional", provider=Nothing())
    np.testing.assert_array_equal(session.run({"x": floats(2, 4)})["y"], np.ones((2, 3), np.float32))
    assert next(iter(session.last.hosts.values())).provider == "nothing"


def test_what_an_operator_makes_must_be_what_the_model_says() -> None:
    class Wrong:
        name = "wrong"

        def run(self, node: bytes, inputs: Sequence[Array | None]) -> list[Array]:
            return [np.zeros((3, 3), np.int64)]

    session = Session(parsed(AROUND), "edge", engine="functional", provider=Wrong())
    with pytest.raises(Exception, match="NonZero's output 'where', dim 0 must be 2, got 3"):
        session.run({"x": floats(2, 4)})


def test_an_operator_that_fails_is_named() -> None:
    class Failing:
        name = "failing"

        def run(self, node: bytes, inputs: Sequence[Array | None]) -> list[Array]:
            raise HostError("failing cannot run it: no")

    session = Session(parsed(AROUND), "edge", engine="functional", provider=Failing())
    with pytest.raises(HostError, match="NonZero_where: NonZero on the host: failing cannot run it: no"):
        session.run({"x": floats(2, 4)})


def test_results_are_the_callers_own() -> None:
    text = """m (float[B] x) => (float[B] y, float[2] w, float[B] z) {
      y = Identity(x)
      w = Constant <value = float[2] {1, 2}> ()
      z = Exp(x)
    }"""
    _, session = opened(text)
    x = floats(3)
    for _ in range(2):
        made = session.run({"x": x})
        np.testing.assert_array_equal(made["y"], floats(3))
        np.testing.assert_array_equal(made["w"], [1, 2])
        for each in made.values():
            each[...] = 7


def test_sequences_go_from_one_operator_of_the_host_to_the_next() -> None:
    proto, session = opened("""m (float[A, 4] x, float[B, 4] y) => (float[p, q] z) {
      a = Exp(x)
      s = SequenceConstruct(a, y)
      last = Constant <value = int64 {-1}> ()
      e = SequenceAt(s, last)
      z = Tanh(e)
    }""")
    assert [each.op for each in session.model.host_steps()][:2] == ["SequenceConstruct", "SequenceAt"]
    check(session, proto, {"x": floats(3, 4), "y": floats(2, 4)})


@pytest.mark.parametrize("domain", ["", "my.domain"])
def test_an_operator_that_nobody_knows(domain: str) -> None:
    name = f"{domain}.Frobnicate" if domain else "Frobnicate"
    sets = '"" : 18, "my.domain" : 1'
    graph = f"m (float[N] x) => (float[N] y) {{ y = {name}(x) }}"
    proto = parser.parse_model(f"<ir_version: 10, opset_import: [{sets}]> {graph}")
    session = Session(proto, "edge", engine="functional")
    (step,) = session.model.host_steps()
    assert step.reason == (f"there is no rule for {name}" if domain else "Frobnicate is no operator of ONNX's set 18")
    with pytest.raises(HostError, match=r"no provider knows it .*Frobnicate.*; allowed: a provider that does"):
        session.run({"x": floats(3)})


def test_an_operator_of_a_newer_set_is_told() -> None:
    _, session = opened("m (float[N] x) => (float[N] y) { y = ImageDecoder(x) }")
    (step,) = session.model.host_steps()
    assert step.reason == "ImageDecoder is no operator of ONNX's set 18; it is one of 20"


def test_a_range_up_to_a_number_is_one_operator_of_the_host() -> None:
    """Its schema has a loop of a trip for each number."""
    text = """m (int64 n, float[A] x) => (float[e] z) {
      first = Constant <value_int = 0> ()  step = Constant <value_int = 1> ()
      r = Range(first, n, step)  f = Cast <to = 1> (r)  z = Mul(f, x)
    }"""
    proto, session = opened(text)
    assert [each.op for each in session.model.host_steps()][:1] == ["Range"]
    for size in (4, 0, 1):
        check(session, proto, {"n": np.array(size), "x": floats(1)})
    check(session, proto, {"n": np.array(4), "x": floats(4)})


@pytest.mark.parametrize("fusion", ["none", None])
def test_a_size_of_the_host_must_be_a_multiple(fusion: str | None) -> None:
    text = """m (float[M, N] x) => (float[J, 6] y, float[J, 6] z) {
      where = NonZero(x)
      rows = Constant <value = int64[2] {-1, 6}> ()
      f = Cast <to = 1> (where)
      y = Reshape(f, rows)
      g = Exp(f)
      z = Reshape(g, rows)
    }"""
    proto, session = opened(text, fusion=fusion)
    for shape in ((2, 3), (1, 6), (3, 4)):
        check(session, proto, {"x": np.ones(shape, np.float32)})
    with pytest.raises(SessionError, match=r"Reshape_y: where_1 % 3 == 0 must hold, not where_1 = 4"):
        session.run({"x": np.ones((2, 2), np.float32)})


def test_a_size_of_a_branch_must_be_a_multiple() -> None:
    text = """m (float[M, 2] x, bool c) => (float[J, 4] y) {
      w = If (c) <then_branch = a () => (float[p, q] u) { u = Concat <axis = 0> (x, x) },
                  else_branch = b () => (float[p, q] v) { v = Relu(x) }>
      rows = Constant <value = int64[2] {-1, 4}> ()
      y = Reshape(w, rows)
    }"""
    proto, session = opened(text)
    check(session, proto, {"x": floats(3, 2), "c": np.array(True)})
    check(session, proto, {"x": floats(4, 2), "c": np.array(False)})
    with pytest.raises(SessionError, match=r"Reshape_y: w_0 % 2 == 0 must hold, not w_0 = 3"):
        session.run({"x": floats(3, 2), "c": np.array(False)})


def test_a_size_that_follows_from_what_the_host_makes_later() -> None:
    text = """m (float[M, N] x, float[P, Q] y) => (float[J, 6] w, float[2, 2] u) {
      j = NonZero(y)
      i = NonZero(x)
      a = Cast <to = 1> (i)
      b = Cast <to = 1> (j)
      rows = Constant <value = int64[2] {-1, 6}> ()
      w = Reshape(a, rows)
      t = Transpose(b)
      u = MatMul(a, t)
    }"""
    proto, session = opened(text)
    check(session, proto, {"x": np.ones((2, 3), np.float32), "y": np.ones((3, 2), np.float32)})
    with pytest.raises(SessionError, match=r"'j', dim 1 is 9, but _1 = sum\(3 \* _0\) is 6"):
        session.run({"x": np.ones((2, 3), np.float32), "y": np.ones((3, 3), np.float32)})
