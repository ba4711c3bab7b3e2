"""Where tensors of a run lie: those that are needed at once never share bytes, others do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from tests.runtime.session.models import check, floats, opened, parsed

from npuvm.hw.errors import OutOfMemoryError
from npuvm.runtime import Device
from npuvm.runtime.session import Session
from npuvm.runtime.session.arena import ArenaPool, Weights
from npuvm.runtime.session.planning import StagePlan


def chain(length: int) -> onnx.ModelProto:
    """Operators one behind the other, each a kernel of its own without fusion; the first result is needed again at the end."""
    nodes = " ".join(f"t{at + 1} = {'Tanh' if at % 2 else 'Sin'}(t{at})" for at in range(1, length))
    return parsed(f"m (float[B, 64] x) => (float[B, 64] y) {{ t1 = Exp(x) {nodes} y = Add(t{length}, t1) }}")


def plans_of(session: Session) -> list[StagePlan]:
    return list(session._loaded.plans.values())


def test_activations_share_memory() -> None:
    proto = chain(12)
    session = Session(proto, "edge", engine="functional", fusion="none")
    check(session, proto, {"x": floats(16, 64)})
    (plan,) = plans_of(session)
    each = 16 * 64 * 4
    assert plan.apart_bytes == 14 * each
    assert plan.nbytes == session.last.peak_bytes == 3 * each
    check(session, proto, {"x": floats(32, 64)})
    assert session.last.peak_bytes == 6 * each
    check(session, proto, {"x": floats(16, 64)})
    assert session.last.peak_bytes == 3 * each


@pytest.mark.parametrize("fusion", ["none", "stack", None])
def test_what_is_needed_at_once_lies_apart(fusion: str | None) -> None:
    text = """m (float[B, 32] x, float[32, 32] w) => (float[B, 32] y, float[32] s) {
      a = MatMul(x, w)
      b = Softmax(a)
      c = Mul(b, x)
      d = MatMul(c, w)
      e = Tanh(d)
      f = Add(e, a)
      ax = Constant <value = int64[1] {0}> ()
      s = ReduceSum <keepdims = 0> (f, ax)
      y = Mul(f, b)
    }"""
    proto, session = opened(text, fusion=fusion)
    check(session, proto, {"x": floats(9, 32), "w": floats(32, 32)})
    (plan,) = plans_of(session)
    (program,) = plan.programs.values()
    ((step, own),) = plan.own.items()
    region = session.model.steps[step]
    places = own | {inner: plan.places[name] for inner, name in (region.inputs | region.outputs).items()}  # type: ignore[union-attr,operator]
    sizes = {spec.name: spec.nbytes for spec in program.kernel.tensors}
    for launch in program.kernel.launches:
        for a, b in combinations([name for name in launch.args if name in places], 2):
            first, second = sorted((a, b), key=lambda name: places[name].offset)
            assert places[first].offset + sizes[first] <= places[second].offset


def test_weights_are_uploaded_once() -> None:
    text = "m (float[B, 4] x) => (float[B, 4] y) { w = Constant <value = float[4] {1, 2, 3, 4}> () y = Mul(x, w) }"
    proto, session = opened(text)
    for batch in (3, 3, 5):
        uploaded = 0 if session.stats.runs else 16
        check(session, proto, {"x": floats(batch, 4)})
        assert session.last.weight_upload_bytes == uploaded
        assert session.last.upload_bytes == batch * 4 * 4
        assert session.last.weight_bytes == 16


def test_memory_comes_back() -> None:
    device = Device("edge", engine="functional")
    proto = chain(3)
    session = Session(proto, device)
    session.run({"x": floats(16, 64)})
    before = device.memory_in_use_bytes
    for _ in range(3):
        session.run({"x": floats(16, 64)})
    assert device.memory_in_use_bytes == before
    with session:
        session.run({"x": floats(32, 64)})
    assert device.memory_in_use_bytes == 0
    session.run({"x": floats(16, 64)})
    assert device.memory_in_use_bytes == before


@pytest.mark.parametrize("closing", [True, False])
def test_what_is_kept_comes_back_after_its_session(closing: bool) -> None:
    device = Device("edge", engine="functional")
    for _ in range(2):
        session = Session(chain(3), device)
        session.run({"x": session.put("x", floats(16, 64))}, keep=["y"])
        kept = session.kept["y"]
        if closing:
            session.close()
        del session
        assert device.memory_in_use_bytes > 0 and kept.numpy().shape == (16, 64)
        del kept
        assert device.memory_in_use_bytes == 0


def test_a_pool_takes_what_is_free() -> None:
    device = Device("edge")
    pool = ArenaPool(device)
    first = pool.take(1000)
    address = first.memory.address
    second = pool.take(1000)
    assert second.memory.address != address
    assert (pool.in_use_bytes, pool.peak_bytes) == (2000, 2000)
    del first
    third = pool.take(500)
    assert third.memory.address == address
    assert (pool.in_use_bytes, pool.peak_bytes) == (1500, 2000)
    weights = Weights(device)
    array = np.arange(3, dtype=np.int64)
    assert weights.get(array, "w") is weights.get(array, "w")
    assert (len(weights), weights.nbytes) == (1, 12)


def test_too_little_memory_is_told() -> None:
    session = Session(chain(3), "edge", timing_only=True)
    with pytest.raises(OutOfMemoryError, match="out of device memory"):
        session.time({"x": (1 << 26, 64)})


def test_models_that_are_read_again_share_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = ", ".join(map(str, range(64)))
    proto = parsed(f"""m (float[A, 8] x, float[B, 8] y, bool t) => (float[A, 8] z)
    <float[8] w = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{
      s = Add(x, y)
      b = If (t) <then_branch = yes () => (float[k, 8] u) <float[8, 8] v = {{{numbers}}}> {{ u = MatMul(s, v) }},
                  else_branch = no () => (float[k, 8] n) {{ n = Tanh(s) }}>
      scaled = Mul(s, w)
      shape = Shape(x)
      ones = ConstantOfShape <value = float[1] {{1}}> (shape)
      first = Constant <value = int64 {{0}}> ()
      table = CumSum(ones, first)
      shifted = Add(scaled, table)
      z = Add(shifted, b)
    }}""")
    monkeypatch.setattr("npuvm.runtime.session.session._KEPT_REREAD", 2)
    session = Session(proto, "edge", engine="functional")
    # Rows of a run, those of the model that is kept beside its own, and how many were read until then.
    for rows, other, reread in ((2, 0, 1), (3, 2, 2), (4, 3, 3), (3, 4, 3), (5, 3, 4), (4, 5, 5)):
        for true in (False, True):
            check(session, proto, {"x": floats(rows, 8), "y": floats(1, 8), "t": np.array(true)})
        assert session.stats.models_reread == reread
        # The table of ones added up is a constant of each model's own.
        assert session.last.weight_bytes == 4 * (8 + 64 + 8 * (rows + other))
    assert len(session._runner._bodies) == 4
