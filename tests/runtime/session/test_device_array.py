"""Values that stay on the device from run to run: what they hold, what crosses for them, what may not stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import floats, parsed

from npuvm.hw.errors import DeviceError
from npuvm.runtime import Device
from npuvm.runtime.session import DeviceArray, Session
from npuvm.runtime.session.errors import SessionError

CACHE = """m (float[P, 64] past, float[N, 64] x) => (float[T, 64] present, float[N, 64] y) {
  present = Concat <axis = 0> (past, x)
  y = Tanh(x)
}"""

WEIGHTS = """m (float[B, 64] x, float[64, 32] w) => (float[B, 32] y, float[B, 64] same) {
  y = MatMul(x, w)
  same = Identity(x)
}"""


def steps(session: Session, count: int, keep: bool) -> list[tuple[int, int]]:
    """Bytes up and down of runs that append a row to a cache, on the device or through the host."""
    timed = session.device.timing_only
    found = []
    past: Any = (2, 64) if timed else floats(2, 64)
    expected = floats(2, 64)
    for number in range(count):
        x = floats(1, 64) + np.float32(number)
        expected = np.concatenate([expected, x])
        outputs = ("present",) if keep else ()
        if timed:
            session.time({"past": past, "x": x.shape}, keep=outputs)
            past = session.kept["present"] if keep else expected.shape
        else:
            made = session.run({"past": past, "x": x}, keep=outputs)
            assert set(made) == {"present", "y"} - set(outputs)
            np.testing.assert_allclose(made["y"], np.tanh(x), rtol=1e-5, atol=1e-6)
            past = session.kept["present"] if keep else made["present"]
            np.testing.assert_array_equal(past.numpy() if keep else past, expected)
        found.append((session.last.upload_bytes, session.last.download_bytes))
    return found


def test_a_cache_that_stays_does_not_cross() -> None:
    session, host = Session(parsed(CACHE), "ascend_910b1"), Session(parsed(CACHE), "ascend_910b1")
    assert steps(session, 4, keep=True) == [(3 * 256, 256), (256, 256), (256, 256), (256, 256)]
    assert steps(host, 4, keep=False) == [(256 * (3 + at), 256 * (4 + at)) for at in range(4)]
    assert session.last.with_transfers_us < host.last.with_transfers_us
    assert session.last.simulated_us == pytest.approx(host.last.simulated_us, rel=0.1)


@pytest.mark.parametrize("keep", [True, False])
def test_the_same_crosses_without_data(keep: bool) -> None:
    with_data = Session(parsed(CACHE), "ascend_910b1")
    timed = Session(parsed(CACHE), "ascend_910b1", timing_only=True)
    assert steps(with_data, 3, keep) == steps(timed, 3, keep)


def test_weights_that_are_inputs_are_put_once() -> None:
    session = Session(parsed(WEIGHTS), "edge")
    w, x = floats(64, 32), floats(5, 64)
    kept = session.put("w", w)
    assert (kept.name, kept.dtype, kept.shape) == ("w", "float32", (64, 32))
    np.testing.assert_array_equal(kept.numpy(), w)
    for _ in range(2):
        made = session.run({"x": x, "w": kept})
        np.testing.assert_allclose(made["y"], x @ w, rtol=1e-4, atol=1e-4)
        assert session.last.upload_bytes == x.nbytes
    assert session.run({"x": x, "w": w})["y"].shape == (5, 32)
    assert session.last.upload_bytes == x.nbytes + w.nbytes


def test_outputs_that_only_the_host_has_get_a_place() -> None:
    """`same` is the caller's array, whose place on the device may be another value's by the end of the run."""
    session = Session(parsed(WEIGHTS), "edge")
    x, w = floats(5, 64), floats(64, 32)
    session.run({"x": x, "w": w}, keep=["same", "y"])
    np.testing.assert_array_equal(session.kept["same"].numpy(), x)
    np.testing.assert_allclose(session.kept["y"].numpy(), x @ w, rtol=1e-4, atol=1e-4)
    again = session.run({"x": session.kept["same"], "w": w})
    np.testing.assert_array_equal(again["same"], x)


def test_values_are_shared_by_sessions_of_a_device() -> None:
    device = Device("edge")
    first, second = (Session(parsed(WEIGHTS), device) for _ in range(2))
    x = floats(3, 64)
    kept = first.put("w", floats(64, 32))
    np.testing.assert_array_equal(first.run({"x": x, "w": kept})["y"], second.run({"x": x, "w": kept})["y"])


def test_memory_comes_back_with_the_last_reference() -> None:
    session = Session(parsed(WEIGHTS), "edge")
    kept = session.put("w", floats(64, 32))
    assert session.device.memory_in_use_bytes > 0
    del kept
    session.close()
    assert session.device.memory_in_use_bytes == 0


def test_what_cannot_stay() -> None:
    session, other = Session(parsed(WEIGHTS), "edge"), Session(parsed(WEIGHTS), "edge")
    x, w = floats(3, 64), session.put("w", floats(64, 32))
    with pytest.raises(SessionError, match="input 'w' is on another device"):
        other.run({"x": x, "w": w})
    with pytest.raises(SessionError, match="input 'x', dim 1 must be 64, got 32"):
        session.run({"x": w, "w": w})
    with pytest.raises(SessionError, match="the model has no input 'v'; inputs: x, w"):
        session.put("v", x)
    with pytest.raises(SessionError, match="input 'w' is on the device already"):
        session.put("w", w)  # type: ignore[arg-type]
    for shape, told in (((3, 32), "dim 1 must be 64, got 32"), ((2, 3, 64), "of rank 2, got shape")):
        with pytest.raises(SessionError, match=f"input 'x'.* {told}"):
            session.put("x", floats(*shape))
    for wrong in (["z"], "y"):
        with pytest.raises(SessionError, match="allowed: a list of outputs, of which there are y, same"):
            session.run({"x": x, "w": w}, keep=wrong)


def test_the_dtype_is_that_of_the_input() -> None:
    text = "m (float[N] x, int64[N] i) => (float[N] y, int64[N] j) { y = Tanh(x)  j = Add(i, i) }"
    session = Session(parsed(text), "edge")
    session.run({"x": floats(3), "i": np.arange(3)}, keep=["y", "j"])
    assert session.kept["j"].dtype == "int64"
    np.testing.assert_array_equal(session.kept["j"].numpy(), [0, 2, 4])
    with pytest.raises(SessionError, match="input 'x' must be float32, got int64"):
        session.run({"x": session.kept["j"], "i": np.arange(3)})


def test_nothing_to_read_without_data() -> None:
    session = Session(parsed(WEIGHTS), "edge", timing_only=True)
    kept: DeviceArray = session.put("w", (64, 32))
    session.time({"x": (3, 64), "w": kept})
    assert session.last.upload_bytes == 3 * 64 * 4
    with pytest.raises(DeviceError, match="holds no data"):
        kept.numpy()
