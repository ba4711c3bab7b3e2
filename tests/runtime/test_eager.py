"""Eager operators: gathered, compiled together, stored only where somebody still wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.compiler import CompileError, Value
from npuvm.hw.errors import DeviceError
from npuvm.runtime import Device
from npuvm.runtime.eager import EagerQueue

Array = npt.NDArray[Any]


def _array(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) / 4).astype(np.float32)


def test_operators_run_in_one_launch_when_a_result_is_asked_for() -> None:
    device = Device("ascend_910b1")
    queue = EagerQueue(device)
    a, b = _array(40, 24), _array(24, 24, seed=1)
    x, w = queue.tensor(a), queue.tensor(b)
    hidden = queue.relu(queue.matmul(x, w) + 1.0)
    e = queue.exp(hidden - queue.max(hidden, -1, keepdims=True))
    y = e / queue.sum(e, -1, keepdims=True)
    assert y.shape == (40, 24)
    assert device.launches == []
    assert queue.gathered > 0
    product = np.maximum(a.astype(np.float64) @ b + 1.0, 0)
    want = np.exp(product - product.max(-1, keepdims=True))
    want /= want.sum(-1, keepdims=True)
    np.testing.assert_allclose(queue.numpy(y), want, rtol=1e-4, atol=1e-6)
    assert len(device.launches) == 1
    assert queue.gathered == 0


def test_launches_may_stay_apart() -> None:
    device = Device("edge")
    queue = EagerQueue(device, stack="launches")
    x = queue.tensor(_array(16, 16))
    y = queue.relu(queue.matmul(x, x))
    queue.flush()
    assert len(device.launches) == 2
    assert queue.tensor_of(y).numpy().min() >= 0


def test_what_nobody_wants_is_not_computed_and_memory_comes_back() -> None:
    device = Device("edge")
    queue = EagerQueue(device)
    before = device.memory_in_use_bytes
    x = queue.tensor(_array(8, 8))
    unused = queue.exp(x)
    between = x + 1.0
    kept = queue.relu(between)
    del unused, between
    queue.flush()
    record = device.launches[-1]
    assert record.result.by_op.get("vexp") is None
    assert record.image.n_args == 2  # x and what is kept
    held = device.memory_in_use_bytes
    del kept
    assert device.memory_in_use_bytes < held
    del x
    assert device.memory_in_use_bytes == before
    queue.flush()
    assert len(device.launches) == 1


def test_an_input_lives_as_long_as_operations_need_it() -> None:
    device = Device("edge")
    queue = EagerQueue(device)
    a = _array(5, 7)
    x = queue.tensor(a)
    y = x * 2.0
    del x
    filler = [queue.tensor(np.full((5, 7), i, np.float32)) for i in range(3)]
    np.testing.assert_array_equal(queue.numpy(y), a * np.float32(2.0))
    assert queue.numpy(filler[1])[0, 0] == 1.0


def test_results_are_operands_again() -> None:
    queue = EagerQueue(Device("edge"))
    a = _array(6, 5)
    x = queue.tensor(a)
    y = x + x
    np.testing.assert_array_equal(queue.numpy(y), a + a)
    z = y + x
    np.testing.assert_array_equal(queue.numpy(z * y), (a + a + a) * (a + a))
    np.testing.assert_array_equal(queue.numpy(z), a + a + a)


def test_a_limit_cuts_between_operations() -> None:
    device = Device("edge")
    queue = EagerQueue(device, limit=4)
    a = _array(4, 4)
    x = queue.tensor(a)
    value: Value
    value, want = x, a
    for _ in range(10):
        value, want = value * 0.5 + x, want * np.float32(0.5) + a
    assert device.launches
    assert queue.gathered < 4 + 3
    np.testing.assert_array_equal(queue.numpy(value), want)


def test_other_sizes_take_the_same_kernel() -> None:
    device = Device("edge")
    queue = EagerQueue(device)
    for rows, cols in ((8, 12), (9, 30), (9, 12), (16, 16)):
        a = _array(rows, cols)
        x = queue.tensor(a)
        flat = queue.reshape(x / queue.sum(x, -1, keepdims=True), (rows * cols,))
        want = (a / a.sum(-1, keepdims=True, dtype=np.float32)).reshape(-1)
        np.testing.assert_allclose(queue.numpy(flat), want, rtol=2e-4)
    # Where both sizes are equal the operations have another form.
    assert len(queue.kernels) == 2


def test_operations_on_parts_are_compiled_for_their_sizes() -> None:
    queue = EagerQueue(Device("edge"))
    for rows in (10, 12):
        a = _array(rows, 8)
        x = queue.tensor(a)
        part = x[2:7, ::2]
        both = queue.concat([part, part], 0) + 1.0
        np.testing.assert_array_equal(queue.numpy(both), np.concatenate([a[2:7, ::2]] * 2) + np.float32(1.0))
    assert len(queue.kernels) == 2


def test_what_is_proven_for_no_names_is_compiled_for_numbers() -> None:
    queue = EagerQueue(Device("edge"))
    for _ in range(2):
        a = _array(6, 8)
        x = queue.tensor(a)
        folded = queue.reshape(x, (2, 3, 4, 2))
        np.testing.assert_array_equal(queue.numpy(folded + 1.0), a.reshape(2, 3, 4, 2) + np.float32(1.0))
    assert len(queue.kernels) == 1


def test_a_wrapped_tensor_stays_the_callers() -> None:
    device = Device("edge")
    queue = EagerQueue(device)
    tensor = device.tensor(_array(3, 3))
    value = queue.wrap(tensor)
    np.testing.assert_array_equal(queue.numpy(value + 0.0), tensor.numpy())
    del value
    tensor.free()
    with pytest.raises(DeviceError, match="another device"):
        EagerQueue(Device("edge")).wrap(tensor)


def test_wrong_use_is_refused_when_it_is_issued() -> None:
    queue = EagerQueue(Device("edge"))
    x = queue.tensor(_array(3, 4))
    with pytest.raises(CompileError, match=r"^test_eager.py:\d+: .*do not broadcast"):
        x + queue.tensor(_array(5, 4))
    with pytest.raises(CompileError, match="belongs to another kernel"):
        EagerQueue(Device("edge")).exp(x)
    with pytest.raises(CompileError, match="has no parameters"):
        queue.load("x")  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="has no outputs"):
        queue.store(x)
    with pytest.raises(CompileError, match="pins are for kernels"):
        queue.pin(cores=1)
    with pytest.raises(CompileError, match="is no value of this queue"):
        EagerQueue(Device("edge")).numpy(x)
    with pytest.raises(DeviceError, match="allowed: 1 or more"):
        EagerQueue(Device("edge"), limit=0)


def test_a_failed_run_drops_what_was_gathered() -> None:
    device = Device("edge", cycle_limit=1)
    queue = EagerQueue(device)
    x = queue.tensor(_array(64, 64))
    lost = queue.exp(x)
    with pytest.raises(DeviceError, match="cycle_limit"):
        queue.numpy(lost)
    with pytest.raises(DeviceError, match="never computed"):
        queue.numpy(lost)
    with pytest.raises(DeviceError, match="never computed"):
        lost + 1.0
    assert queue.gathered == 0


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_programs(data: st.DataObject) -> None:
    """Operators in any order, results read and dropped at any time, against numpy."""
    queue = EagerQueue(Device("edge"), limit=data.draw(st.integers(1, 20)))
    rows, cols = data.draw(st.sampled_from([(1, 1), (7, 3), (16, 40), (0, 5), (33, 1)]))
    start = _array(rows, cols)
    known: list[tuple[Value, Array]] = [(queue.tensor(start), start)]
    for _ in range(data.draw(st.integers(1, 15))):
        pick = data.draw(st.integers(0, len(known) - 1))
        value, want = known[pick]
        match data.draw(st.sampled_from(["add", "relu", "max", "sum", "read", "drop"])):
            case "add":
                other, wanted = known[data.draw(st.integers(0, len(known) - 1))]
                made, result = value + other, want + wanted
            case "relu":
                made, result = queue.relu(value), np.maximum(want, 0)
            case "max":
                made, result = queue.maximum(value, 0.125), np.maximum(want, np.float32(0.125))
            case "sum":
                made = value - queue.sum(value, 0, keepdims=True)
                result = want - want.sum(0, keepdims=True, dtype=np.float32)
            case "read":
                np.testing.assert_allclose(queue.numpy(value), want, rtol=1e-3, atol=1e-3)
                continue
            case _:
                if len(known) > 1:
                    del known[pick]
                continue
        known.append((made, result))
    for value, want in known:
        np.testing.assert_allclose(queue.numpy(value), want, rtol=1e-2, atol=1e-2)
