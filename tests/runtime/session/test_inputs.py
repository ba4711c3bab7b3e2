"""What a session says of inputs that do not fit, and what it does where an assumption about sizes is wrong."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import check, floats, opened, parsed

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import Guard, Model
from npuvm.compiler.graph.sums import sum_of
from npuvm.hw.errors import TrapError
from npuvm.runtime import Device
from npuvm.runtime.session import Session
from npuvm.runtime.session.binding import compile_guards
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.feeds import arrays_of, free_symbols, parse_input, runs_of, shapes_at

SUM = "m (float[B, S] x, float[B, S] y, int64[S] n) => (float[B, S] z, int64[S] k) { z = Add(x, y)  k = Max(n, n) }"
BROADCAST = "m (float[A] x, float[B] y) => (float[c] z) { s = Add(x, y)  z = Tanh(s) }"
PRODUCT = """m (float[B, K] x) => (float[B, 3] y) {
  w = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()
  y = MatMul(x, w)
}"""


def fitting() -> dict[str, Any]:
    return {"x": floats(2, 3), "y": floats(2, 3), "n": np.array([1, -2, 2**31 - 1])}


def test_integers_of_64_bits_come_and_go() -> None:
    proto, session = opened(SUM)
    check(session, proto, fitting())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "no input 'x'; inputs: x, y, n"),
        ({"w": floats(1)}, "the model has no input 'w'; inputs: x, y, n"),
        ({"x": [[1.0]]}, "input 'x' is a list; allowed: a numpy array of float32"),
        ({"x": floats(2, 3).astype(np.float64)}, "input 'x' must be float32, got float64"),
        ({"x": floats(2, 3, 1)}, "input 'x' is float32[B, S] of rank 2, got shape [2, 3, 1] of rank 3"),
        ({"y": floats(2, 4)}, "input 'y', dim 1 is 4, but S = 3 by input 'x', dim 1; it is [B, S]"),
        ({"n": np.array([0, 1, 2**31])}, "'n' holds 2147483648; allowed: -2147483648 to 2147483647"),
        ({"n": np.array([0, 1, -(2**31) - 1])}, "'n' holds -2147483649; allowed: -2147483648 to 2147483647"),
    ],
)
def test_inputs_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    _, session = opened(SUM)
    feeds = {name: each for name, each in (fitting() | change).items() if each is not None}
    with pytest.raises(SessionError) as caught:
        session.run(feeds)
    assert message in str(caught.value)
    session.run(fitting())


def test_a_size_that_an_operator_needs() -> None:
    proto, session = opened(PRODUCT)
    check(session, proto, {"x": floats(5, 2)})
    with pytest.raises(SessionError, match=r"MatMul_y: K == 2 must hold, not K = 3"):
        session.run({"x": floats(5, 3)})


def test_sizes_that_break_an_assumption_are_read_for_themselves() -> None:
    proto, session = opened(BROADCAST)
    assert session.model.guards
    check(session, proto, {"x": floats(4), "y": floats(4)})
    assert (session.last.reread, session.stats.models_reread) == ("", 0)
    for _ in range(2):
        check(session, proto, {"x": floats(4), "y": floats(1)})
        assert "does not hold for" in session.last.reread
        assert session.stats.models_reread == 1
    assert session.last.known_shape
    check(session, proto, {"x": floats(1), "y": floats(6)})
    assert session.stats.models_reread == 2


def test_without_the_file_there_is_nothing_to_read_again() -> None:
    session = Session(import_model(parsed(BROADCAST)), "edge", engine="functional")
    session.run({"x": floats(4), "y": floats(4)})
    with pytest.raises(SessionError, match="there is no ONNX model to read for these sizes alone"):
        session.run({"x": floats(4), "y": floats(1)})


def test_guards_are_one_function() -> None:
    guards = [
        Guard(sum_of("A", "B"), "==", sum_of(6), "a"),
        Guard(sum_of("A"), "<=", sum_of("B"), "b"),
        Guard(sum_of("B"), "%", sum_of("A"), "c"),
    ]
    first = compile_guards(guards)
    for a in range(7):
        for b in range(7):
            binding = {"A": a, "B": b}
            wanted = next((at for at, each in enumerate(guards) if not each.holds(binding)), -1)
            assert first(binding) == wanted


def test_data_and_time_are_asked_for_by_name() -> None:
    _, session = opened(SUM)
    with pytest.raises(SessionError, match="runs with data; allowed: run"):
        session.time({"x": (2, 3), "y": (2, 3), "n": (3,)})
    with pytest.raises(SessionError, match="engine 'functional' simulates no time"):
        session.run(fitting())
        session.profile()
    timed = Session(parsed(SUM), "edge", timing_only=True)
    with pytest.raises(SessionError, match="gives no data; allowed: time"):
        timed.run(fitting())
    assert timed.time({"x": (2, 3), "y": (2, 3), "n": (3,)}).output_shapes == {"z": (2, 3), "k": (3,)}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("2,3", "input 'x': '2,3' is no shape; allowed: whole numbers"),
        ((2.5, 3), "is no shape; allowed: whole numbers"),
        ((-2, 3), "input 'x': a size of -2; allowed: 0 to 2147483647"),
        ((2**31, 3), "input 'x': a size of 2147483648; allowed: 0 to 2147483647"),
    ],
)
def test_shapes_that_are_none(shape: Any, message: str) -> None:
    timed = Session(parsed(SUM), "edge", timing_only=True)
    with pytest.raises(SessionError) as caught:
        timed.time({"x": shape, "y": (2, 3), "n": (3,)})
    assert message in str(caught.value)


def test_what_a_session_is_made_of() -> None:
    wrong: Any
    for wrong, name in ((3, "int"), (b"abc", "bytes"), (None, "NoneType")):
        with pytest.raises(SessionError, match=f"the model is of type {name}; allowed: a path, an onnx.ModelProto"):
            Session(wrong)
    wrong = 3
    with pytest.raises(SessionError, match="the chip is of type int; allowed: the name of a chip or its file"):
        Session(parsed(SUM), wrong)
    with pytest.raises(SessionError, match="engine 'fast'; allowed: functional_first, functional, simpy, compiled"):
        opened(SUM, engine="fast")
    with pytest.raises(SessionError, match="engine 'compiled' simulates time only; allowed: timing_only=True, or func"):
        opened(SUM, engine="compiled")
    _, session = opened(SUM)
    wrong = [floats(2, 3)]
    with pytest.raises(SessionError, match="inputs of type list; allowed: a dict by name"):
        session.run(wrong)


def test_ranges_of_random_integers() -> None:
    model = parsed("m (uint8[B] x) => (uint8[B] y) { y = Identity(x) }")
    session = Session(model, "edge", engine="functional")
    (run,) = runs_of([parse_input("x=4")], session.model)
    made = arrays_of(run, session.model, np.random.default_rng(0), {"x": (200, 256)})
    assert made["x"].min() >= 200
    with pytest.raises(SessionError, match="a range of 'x' is 0:257; uint8 holds 0 to 255"):
        arrays_of(run, session.model, np.random.default_rng(0), {"x": (0, 257)})


def test_a_size_that_does_not_come_out_even_is_told_by_its_operator() -> None:
    proto, session = opened("m (float[N, M] x) => (float[a, b] y) <int64[2] s = {-1, 6}> { y = Reshape(x, s) }")
    check(session, proto, {"x": floats(3, 4)})
    check(session, proto, {"x": floats(0, 4)})
    with pytest.raises(SessionError, match=r"Reshape_y: M \* N % 6 == 0 must hold, not M = 4, N = 2"):
        session.run({"x": floats(2, 4)})


def test_sizes_that_do_not_divide_each_other_are_told_by_their_operator() -> None:
    text = """m (float[N, M] x, float[K] k) => (float[a, b] y)
      <int64[1] rest = {-1}> { size = Shape(k)  s = Concat <axis = 0> (size, rest)  y = Reshape(x, s) }"""
    proto, session = opened(text)
    check(session, proto, {"x": floats(3, 4), "k": floats(6)})
    with pytest.raises(SessionError, match=r"Reshape_y: M \* N % K == 0 must hold, not K = 5, M = 4, N = 3"):
        session.run({"x": floats(3, 4), "k": floats(5)})


def test_sessions_share_a_device() -> None:
    device = Device("edge", engine="functional_first")
    feeds = {"x": floats(4), "y": floats(4)}
    sessions = [Session(parsed(BROADCAST), device) for _ in range(2)]
    for each in sessions:
        np.testing.assert_allclose(each.run(feeds)["z"], np.tanh(2 * floats(4)), rtol=1e-6)
    assert len(device.launches) == 2
    assert sum(use.cycles for use in sessions[1].profile()) == sessions[1].last.cycles


def test_operators_of_the_host_may_be_refused() -> None:
    text = "m (float[B] x) => (int64[1, n] y) { t = Tanh(x)  y = NonZero(t) }"
    with pytest.raises(SessionError, match=r"operators would run on the host: NonZero \(NonZero_y\): the size"):
        opened(text, no_host=True)
    opened(SUM, no_host=True)


def test_a_model_without_anything_to_compute() -> None:
    proto, session = opened("m (float[B] x) => (float[B] y, int64[1] s) { y = Identity(x)  s = Shape(x) }")
    check(session, proto, {"x": floats(3)})
    assert Model("empty").steps == []


CACHE = """m (float[B, P] past, float[B, S] x, float[B, "P + S"] mask) => (float[B, T] y) {
  both = Concat <axis = 1> (past, x)
  y = Add(both, mask)
}"""


def test_shapes_follow_from_the_sizes_of_symbols() -> None:
    model = import_model(parsed(CACHE))
    assert free_symbols(model) == ("B", "P", "S")
    assert shapes_at(model, {"B": 2, "P": 5, "S": 1}) == {"past": (2, 5), "x": (2, 1), "mask": (2, 6)}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"B": 2, "P": 5}, "symbol 'S' has no size; symbols of its inputs: B, P, S"),
        ({"B": 2, "P": 5, "S": 1, "T": 6}, "no symbol 'T' that can be given a size; symbols of its inputs: B, P, S"),
    ],
)
def test_sizes_that_are_not_those_of_the_symbols_are_told(sizes: dict[str, int], said: str) -> None:
    with pytest.raises(SessionError, match=re.escape(said)):
        shapes_at(import_model(parsed(CACHE)), sizes)


@pytest.mark.parametrize("op", ["Exp", "NonZero"])
def test_a_declared_sum_of_dims_is_checked(op: str) -> None:
    kind = "float[L, N]" if op == "Exp" else "int64[2, L]"
    proto = parsed(f"m (float[M, N] x, float[P, N] y) => ({kind} z) {{ z = {op}(y) }}")
    proto.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "2*M + 1"
    session = Session(proto, "edge", engine="functional")
    check(session, proto, {"x": floats(2, 3), "y": floats(5, 3)})
    with pytest.raises(SessionError, match=re.escape("input 'y', dim 0 is 6, but _0 = sum(1 + 2 * M) is 5")):
        session.run({"x": floats(2, 3), "y": floats(6, 3)})
    timed = Session(proto, "edge", timing_only=True)
    with pytest.raises(SessionError, match="input 'y', dim 0 is 4"):
        timed.time({"x": (2, 3), "y": (4, 3)})


@pytest.mark.parametrize("fusion", ["none", "both", None])
def test_an_index_out_of_range_names_the_operator(fusion: str | None) -> None:
    text = "m (float[M, 4] t, int64[K] i) => (float[K, 4] y) { [pick] g = Gather(t, i)  y = Exp(g) }"
    proto, session = opened(text, fusion=fusion)
    with pytest.raises(TrapError, match=r"pick: trap gm_range: .* operand index has 7 in row 1; allowed are -3 to 2"):
        session.run({"t": floats(3, 4), "i": np.array([0, 7])})
    check(session, proto, {"t": floats(3, 4), "i": np.array([0, -3])})


def test_arithmetic_on_sizes_that_leaves_its_dtype() -> None:
    text = """m (float[M] x) => (int64[1] y) {
      one = Shape(x)
      two = Mul(one, one)
      y = Mul(two, two)
    }"""
    proto, session = opened(text)
    check(session, proto, {"x": floats(1000)})
    most = (1 << 63) - 1
    with pytest.raises(
        SessionError, match=rf"'y' is M \* M \* M \* M = {60000**4}; allowed: -{most + 1} to {most}, which"
    ):
        session.run({"x": floats(60000)})


def test_an_ellipsis_of_einsum_is_stretched_where_sizes_ask_for_it() -> None:
    text = """m (float[B, I, J] x, float[C, J, K] y) => (float[D, I, K] z) {
      z = Einsum <equation = "...ij,...jk->...ik"> (x, y)
    }"""
    proto, session = opened(text)
    assert [str(each) for each in session.model.guards] == ["C == B"]
    assert not session.model.host_steps()
    for batch, other in ((6, 6), (1, 6), (6, 1), (1, 1)):
        check(session, proto, {"x": floats(batch, 3, 4), "y": floats(other, 4, 5)})
        assert session.last.reread == (
            "" if batch == other else f"Einsum_z: C == B does not hold for B = {batch}, C = {other}"
        )
    with pytest.raises(CompileError, match="Einsum_z: sizes 2 and 3 cannot be broadcast to each other"):
        session.run({"x": floats(2, 3, 4), "y": floats(3, 4, 5)})
    with pytest.raises(SessionError, match="dim 1 is 5, but J = 4"):
        session.run({"x": floats(2, 3, 4), "y": floats(2, 5, 5)})
