"""Branches, loops and scans: the host decides, bodies run on the device, results are those of onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from tests.compiler.frontends.onnx.model_run import node_case, node_cases
from tests.runtime.session.models import check, floats, opened, parsed

from npuvm.compiler import CompileError
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import DeviceStep, IfStep, LoopStep, ScanStep
from npuvm.runtime.session import Session
from npuvm.runtime.session.coverage import coverage_of
from npuvm.runtime.session.errors import SessionError

BRANCHES = """
m (float[B, 4] x, bool c) => (float[B, 4] y, float[p, q] z) {
  t = Tanh(x)
  y, z = If (c) <
    then_branch = one () => (float[B, 4] a, float[k, 4] b) { a = Add(t, x)  b = Exp(t) },
    else_branch = two () => (float[B, 4] d, float[k2, j] e) { d = Mul(t, t)  e = Transpose(x) }>
}"""

LOOP = """
m (float[B, 4] x, int64 n) => (float[B, 4] y, float[t, B, 4] zs) {
  yes = Constant <value = bool {1}> ()
  w = Constant <value = float[4] {0.5, -1.0, 2.0, 0.25}> ()
  y, zs = Loop (n, yes, x) <body = b (int64 i, bool ci, float[B, 4] v) => (bool co, float[B, 4] vo, float[B, 4] s) {
    co = Identity(ci)
    f = Cast <to = 1> (i)
    shifted = Add(v, f)
    scaled = Mul(shifted, w)
    vo = Sin(scaled)
    s = Mul(vo, x)
  }>
}"""

GROWING = """
m (float[B, 4] x) => (float[r, 4] y, int64 k) {
  yes = Constant <value = bool {1}> ()
  none = Constant <value = int64 {0}> ()
  most = Constant <value = int64 {40}> ()
  y, k = Loop ("", yes, x, none) <body = b (int64 i, bool ci, float[r, 4] v, int64 kk) => (bool co, float[q, 4] vo, int64 ko) {
    doubled = Add(v, v)
    vo = Concat <axis = 0> (doubled, v, x)
    sh = Shape <start = 0, end = 1> (vo)
    ax = Constant <value = int64[1] {0}> ()
    n = Squeeze(sh, ax)
    co = Less(n, most)
    ko = Max(kk, n)
  }>
}"""

SCAN = """
m (float[B, 4] s0, float[B, T, 4] xs, float[4] w) => (float[B, 4] s, float[B, T, 4] ys, float[T, B] zs) {
  s, ys, zs = Scan <num_scan_inputs = 1, scan_input_axes = [AXIS], scan_input_directions = [BACK],
                    scan_output_axes = [1, 0], scan_output_directions = [1, BACK],
    body = b (float[B, 4] h, float[B, 4] x) => (float[B, 4] ho, float[B, 4] y, float[B] z) {
      u = Mul(h, w)
      p = Add(u, x)
      ho = Tanh(p)
      y = Exp(ho)
      ax = Constant <value = int64[1] {1}> ()
      z = ReduceSum <keepdims = 0> (p, ax)
    }> (s0, xs)
}"""


@pytest.mark.parametrize("batch", [1, 3, 0])
def test_both_branches(batch: int) -> None:
    proto, session = opened(BRANCHES)
    for condition in (True, False, True):
        check(session, proto, {"x": floats(batch, 4), "c": np.array(condition)})
    assert session.last.known_shape


def test_a_constant_condition_leaves_one_branch() -> None:
    text = BRANCHES.replace("(float[B, 4] x, bool c)", "(float[B, 4] x)").replace(
        "t = Tanh(x)", "t = Tanh(x)  c = Constant <value = bool {0}> ()"
    )
    proto, session = opened(text)
    assert [type(each) for each in session.model.steps] == [DeviceStep]
    check(session, proto, {"x": floats(3, 4)})


def test_a_branch_that_fits_no_sizes_may_stand_where_it_is_not_taken() -> None:
    _, session = opened("""
m (float[B, 4] x, bool c) => (float[p, q] y) {
  y = If (c) <
    then_branch = one () => (float[p, q] a) { w = Constant <value = float[3] {1, 2, 3}> ()  a = Add(x, w) },
    else_branch = two () => (float[p, q] b) { b = Neg(x) }>
}""")
    made = session.run({"x": floats(2, 4), "c": np.array(False)})
    np.testing.assert_array_equal(made["y"], -floats(2, 4))
    with pytest.raises(SessionError, match=r"then: .*broadcast.*: it does not fit any sizes"):
        session.run({"x": floats(2, 4), "c": np.array(True)})


def test_a_loop_with_a_count() -> None:
    proto, session = opened(LOOP)
    assert [type(each) for each in session.model.steps] == [LoopStep]
    for trips in (3, 5):
        check(session, proto, {"x": floats(3, 4), "n": np.array(trips)})
        assert session.last.iterations == trips
        assert session.last.launches == trips
    session.run({"x": floats(3, 4), "n": np.array(2)})
    assert session.last.known_shape, "a trip has the sizes of the one before"
    made = session.run({"x": floats(2, 4), "n": np.array(0)})
    np.testing.assert_array_equal(made["y"], floats(2, 4))
    assert made["zs"].shape == (0, 2, 4)


def test_carried_values_that_grow() -> None:
    proto, session = opened(GROWING)
    assert str(session.model.values[session.model.outputs["y"]]) == "float32[y_0, 4]"
    for batch in (3, 7):
        check(session, proto, {"x": floats(batch, 4)})


@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("axis", [1, -2, 0])
def test_scans_of_all_axes_and_directions(axis: int, backward: int) -> None:
    text = SCAN.replace("AXIS", str(axis)).replace("BACK", str(backward))
    dims = (2, 5, 4)
    if axis == 0:
        text, dims = text.replace("float[B, T, 4] xs", "float[T, B, 4] xs"), (5, 2, 4)
    proto, session = opened(text)
    assert [type(each) for each in session.model.steps] == [ScanStep]
    assert [str(session.model.values[each]) for each in session.model.outputs.values()] == [
        "float32[B, 4]", "float32[B, T, 4]", "float32[T, B]",
    ]  # fmt: skip
    check(session, proto, {"s0": floats(2, 4), "xs": floats(*dims), "w": floats(4)})
    check(session, proto, {"s0": floats(3, 4), "xs": floats(*((2, 3, 4) if axis == 0 else (3, 2, 4))), "w": floats(4)})


def test_slices_that_begin_on_lines_stay_on_the_device() -> None:
    proto, session = opened("""
m (float[T, 128] xs, float[128] h0) => (float[128] h) {
  es = Exp(xs)
  h = Scan <num_scan_inputs = 1, body = b (float[128] a, float[128] x) => (float[128] ao) { ao = Max(a, x) }> (h0, es)
}""")
    feeds = {"xs": floats(4, 128), "h0": floats(128)}
    check(session, proto, feeds)
    assert session.last.upload_bytes == sum(each.nbytes for each in feeds.values())
    assert session.last.download_bytes == 128 * 4


@pytest.mark.parametrize("backward", [0, 1])
def test_what_is_collected_on_lines_stays_on_the_device(backward: int) -> None:
    proto, session = opened(f"""
m (float[T, 128] xs, float[128] h0) => (float[128] h, float[T, 128] es) {{
  h, ys = Scan <num_scan_inputs = 1, scan_output_directions = [{backward}],
    body = b (float[128] a, float[128] x) => (float[128] ao, float[128] y) {{ ao = Add(a, x)  y = Tanh(ao) }}> (h0, xs)
  es = Exp(ys)
}}""")
    feeds = {"xs": floats(5, 128), "h0": floats(128)}
    for _ in range(2):
        check(session, proto, feeds)
    assert session.last.download_bytes == 128 * 4 + 5 * 128 * 4
    assert session.last.upload_bytes == sum(each.nbytes for each in feeds.values())


def test_bodies_in_bodies() -> None:
    proto, session = opened("""
m (float[B, 4] x, int64 n) => (float[B, 4] y) {
  yes = Constant <value = bool {1}> ()
  half = Constant <value = float {0.5}> ()
  y = Loop (n, yes, x) <body = b (int64 i, bool ci, float[B, 4] v) => (bool co, float[B, 4] vo) {
    co = Identity(ci)
    two = Constant <value = int64 {2}> ()
    first = Less(i, two)
    vo = If (first) <
      then_branch = one () => (float[B, 4] a) { a = Add(v, x) },
      else_branch = other () => (float[B, 4] c) {
        m = Constant <value = int64 {2}> ()
        c = Loop (m, yes, v) <body = d (int64 j, bool cj, float[B, 4] u) => (bool cp, float[B, 4] uo) {
          cp = Identity(cj)
          uo = Mul(u, half)
        }>
      }>
  }>
}""")
    check(session, proto, {"x": floats(3, 4), "n": np.array(4)})
    assert session.last.iterations == 4 + 2 * 2


def test_sizes_of_the_model_around_a_body() -> None:
    proto, session = opened("""
m (float[B, S] x, int64 n) => (float[B, S] y) {
  yes = Constant <value = bool {1}> ()
  sh = Shape(x)
  flat = Constant <value = int64[1] {-1}> ()
  z = Reshape(x, flat)
  w = Loop (n, yes, z) <body = b (int64 i, bool ci, float[q] v) => (bool co, float[q] vo) {
    co = Identity(ci)
    square = Reshape(v, sh)
    p = Softmax <axis = 1> (square)
    vo = Reshape(p, flat)
  }>
  y = Reshape(w, sh)
}""")
    assert not session.model.host_steps()
    for batch, length in ((2, 3), (4, 5)):
        check(session, proto, {"x": floats(batch, length), "n": np.array(3)})


def test_time_alone_where_nothing_follows_from_data() -> None:
    text = SCAN.replace("AXIS", "1").replace("BACK", "0")
    timed = Session(parsed(text), "edge", timing_only=True)
    session = Session(parsed(text), "edge")
    session.run({"s0": floats(2, 4), "xs": floats(2, 5, 4), "w": floats(4)})
    report = timed.time({"s0": (2, 4), "xs": (2, 5, 4), "w": (4,)})
    assert (report.launches, report.iterations) == (session.last.launches, 5)
    assert report.cycles > 0
    with pytest.raises(SessionError, match="'n' is needed on the host, and only time is simulated; run it with data"):
        Session(parsed(LOOP), "edge", timing_only=True).time({"x": (3, 4), "n": ()})


def test_coverage_names_operators_of_bodies() -> None:
    proto = parsed(GROWING)
    placed = coverage_of(proto, import_model(proto))
    by_type = {each.op: each.where for each in placed}
    assert by_type["Loop"] == "control"
    assert by_type["Concat"] == "device"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LOOP.replace("(bool co, float[B, 4] vo, float[B, 4] s)", "(bool co)"),
            "Loop: 1 values are carried, its body has 3 inputs and 1 outputs",
        ),
        (
            BRANCHES.replace("d = Mul(t, t)", "d = Cast <to = 7> (t)"),
            "If: output 0 is float32 or int64; allowed: one dtype",
        ),
        (SCAN.replace("AXIS", "1, 0").replace("BACK", "0"), "Scan: scan_input_axes"),
        (
            LOOP.replace("vo = Sin(scaled)", "vo = Cast <to = 7> (scaled)").replace("Mul(vo, x)", "Mul(x, x)"),
            "Loop: carried value 0 is float32 at first and int64 then",
        ),
    ],
)
def test_bodies_that_do_not_fit(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        import_model(parsed(text))
    assert message in str(caught.value)


def test_sequences_do_not_go_into_bodies() -> None:
    proto = parser.parse_model("""<ir_version: 10, opset_import: ["" : 18]>
m (float[B, 4] x, bool c) => (float[p, q] y) {
  s = SequenceConstruct(x, x)
  none = Constant <value = int64 {0}> ()
  y = If (c) <
    then_branch = one () => (float[p, q] a) { a = SequenceAt(s, none) },
    else_branch = two () => (float[p, q] b) { b = Neg(x) }>
}""")
    with pytest.raises(CompileError, match="'s' is no tensor; bodies take tensors only"):
        import_model(proto)


@pytest.mark.parametrize("name", ["if", "loop11", "scan9_sum", "scan9_multi_state", "scan9_scalar"])
def test_cases_of_the_onnx_package_with_names_for_all_dims(name: str) -> None:
    assert f"test_{name}" in node_cases("If", "Loop", "Scan")
    proto, feeds, expected = node_case(f"test_{name}")
    made = Session(proto, "edge", engine="functional").run(feeds)
    for (label, found), wanted in zip(made.items(), expected, strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), label
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_guard_of_a_body_is_one_of_the_model_around_it() -> None:
    proto, session = opened("""
m (float[A] x, float[B] y, int64 n) => (float[c] z) {
  yes = Constant <value = bool {1}> ()
  z = Loop (n, yes, x) <body = b (int64 i, bool ci, float[c] v) => (bool co, float[c] vo) {
    co = Identity(ci)
    s = Add(v, y)
    vo = Tanh(s)
  }>
}""")
    for a, b, reread in ((4, 4, 0), (4, 1, 1), (4, 4, 1), (4, 1, 1)):
        check(session, proto, {"x": floats(a), "y": floats(b), "n": np.array(2)})
        assert session.stats.models_reread == reread


def test_elements_of_all_trips_have_one_shape() -> None:
    text = GROWING.replace("=> (float[r, 4] y, int64 k)", "=> (float[r, 4] y, int64 k, float[t, u, 4] zs)")
    text = text.replace("y, k = Loop", "y, k, zs = Loop").replace("int64 ko) {", "int64 ko, float[q, 4] z) {")
    _, session = opened(text.replace("ko = Max(kk, n)", "ko = Max(kk, n)  z = Exp(vo)"))
    with pytest.raises(SessionError, match=r"have shapes \[9, 4\], \[21, 4\], .*; allowed: the same in all trips"):
        session.run({"x": floats(3, 4)})


def test_scanned_inputs_have_one_length() -> None:
    proto, session = opened("""
m (float[T, 4] xs, float[U, 4] ys, float[4] h0) => (float[4] h) {
  h = Scan <num_scan_inputs = 2, body = b (float[4] a, float[4] x, float[4] y) => (float[4] ao) {
    p = Mul(x, y)
    ao = Add(a, p)
  }> (h0, xs, ys)
}""")
    check(session, proto, {"xs": floats(3, 4), "ys": floats(3, 4), "h0": floats(4)})
    with pytest.raises(SessionError, match="must hold, not T = 3, U = 2"):
        session.run({"xs": floats(3, 4), "ys": floats(2, 4), "h0": floats(4)})


def test_kinds_of_steps() -> None:
    _, session = opened(BRANCHES)
    assert {type(each) for each in session.model.steps} == {DeviceStep, IfStep}
