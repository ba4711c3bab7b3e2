"""Devices run kernels on tensors; results are those of numpy, on every shipped chip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuvm.compiler import CompileError, KernelBuilder, ParamRef, Pins, kernel
from npuvm.hw.errors import DeviceError
from npuvm.isa import VerifyError, assemble
from npuvm.runtime import Device

CHIPS = ("ascend_910a", "ascend_910b1", "edge")


@kernel(x="fp32[M, N]", y="fp32[N]")
def scaled_sum(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) * 2.0 + k.load(y))


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product_then_row_sum(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    c = k.matmul(k.load(a), k.load(b))
    k.store(c, name="c")
    k.store(k.sum(k.cast(c, "fp32"), axes=-1), name="sums")


def arrays(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m * 1000 + n)
    return rng.standard_normal((m, n), dtype=np.float32), rng.standard_normal(n, dtype=np.float32)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (70, 33), (2, 5000)])
def test_one_kernel_runs_any_shape(chip: str, shape: tuple[int, int]) -> None:
    device = Device(chip)
    x, y = arrays(*shape)
    outputs = device.run(scaled_sum, {"x": device.tensor(x), "y": device.tensor(y)})
    np.testing.assert_array_equal(outputs["out0"].numpy(), x * np.float32(2) + y)
    assert device.launches[0].result.cycles > 0


@pytest.mark.parametrize("chip", CHIPS)
def test_a_kernel_of_several_segments_keeps_order_and_outputs(chip: str) -> None:
    device = Device(chip)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((33, 40)).astype(np.float16), rng.standard_normal((40, 50)).astype(np.float16)
    outputs = device.run(product_then_row_sum, {"a": device.tensor(a), "b": device.tensor(b)})
    c = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)
    assert list(outputs) == ["c", "sums"]
    np.testing.assert_allclose(outputs["c"].numpy(), c, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(outputs["sums"].numpy(), c.astype(np.float32).sum(-1), rtol=1e-2, atol=5e-2)


def test_arrays_of_any_strides_arrive_as_numpy_shows_them() -> None:
    device = Device("edge")
    base = np.arange(60, dtype=np.float32).reshape(6, 10)
    y = np.zeros(20, dtype=np.float32)[::-2][:10]
    for x in (base[::2], base[:, ::-1][::-1], np.ascontiguousarray(base.T).T, np.broadcast_to(base[0], (4, 10))):
        tensor = device.tensor(x)
        np.testing.assert_array_equal(tensor.numpy(), x)
        outputs = device.run(scaled_sum, {"x": tensor, "y": device.tensor(y)})
        np.testing.assert_array_equal(outputs["out0"].numpy(), x * 2)
    target = device.tensor(base)
    device.write(target, base[::-1])
    np.testing.assert_array_equal(target.numpy(), base[::-1])


def test_a_tensor_is_made_of_an_array() -> None:
    given: Any = [1.0, 2.0]
    with pytest.raises(DeviceError, match="not of a list; allowed"):
        Device("edge").tensor(given)
    with pytest.raises(DeviceError, match="no data type for >f4"):
        Device("edge").tensor(np.zeros(3, dtype=">f4"))


def test_a_cached_program_serves_new_tensors() -> None:
    device = Device("edge")
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((7, 9), dtype=np.float32)
        y = np.zeros(9, np.float32)
        outputs = device.run(scaled_sum, {"x": device.tensor(x), "y": device.tensor(y)})
        np.testing.assert_array_equal(outputs["out0"].numpy(), x * np.float32(2))
    assert (device.programs.misses, device.programs.hits) == (1, 2)
    assert [record.cached for record in device.launches] == [False, True, True]


def test_pins_are_part_of_the_cache_key() -> None:
    device = Device("ascend_910b1")
    x, y = arrays(64, 64)
    inputs = {"x": device.tensor(x), "y": device.tensor(y)}
    device.run(scaled_sum, inputs)
    device.run(scaled_sum, inputs, Pins(cores=1))
    assert device.programs.misses == 2
    assert len(device.launches[-1].image.entries) == 1


def test_an_empty_tensor_launches_nothing() -> None:
    device = Device("edge")
    x, y = np.zeros((0, 4), np.float32), np.zeros(4, np.float32)
    outputs = device.run(scaled_sum, {"x": device.tensor(x), "y": device.tensor(y)})
    assert outputs["out0"].numpy().shape == (0, 4)
    assert not device.launches


def test_time_is_the_same_without_data() -> None:
    x, y = arrays(300, 700)
    cycles = []
    for timing_only in (False, True):
        device = Device("ascend_910b1", timing_only=timing_only)
        device.run(scaled_sum, {"x": device.tensor(x), "y": device.tensor(y)})
        cycles.append([record.result.cycles for record in device.launches])
    assert cycles[0] == cycles[1]


def test_no_data_to_read_without_data() -> None:
    device = Device("edge", timing_only=True)
    with pytest.raises(DeviceError, match="holds no data"):
        device.tensor(np.zeros(3, np.float32)).numpy()


def test_a_freed_tensor_is_refused() -> None:
    device = Device("edge")
    values = np.ones((3, 4), np.float32)
    freed, row = device.tensor(values), device.tensor(values[0])
    freed.free()
    successor = device.empty((3, 4), "fp32")
    assert successor.address == freed.address
    with pytest.raises(DeviceError, match=r"tensor fp32\[3, 4\] was freed"):
        freed.numpy()
    with pytest.raises(DeviceError, match="was freed"):
        device.write(freed, values)
    with pytest.raises(DeviceError, match="was freed"):
        freed.free()
    with pytest.raises(DeviceError, match="scaled_sum: the tensor for 'x' was freed"):
        device.run(scaled_sum, {"x": freed, "y": row})
    with pytest.raises(DeviceError, match="was freed"):
        device.launch(assemble(device.isa, ".args 1\n.entry unified 0\nhalt\n"), [freed])


def test_an_array_is_no_tensor() -> None:
    device = Device("edge")
    array: Any = np.ones((3, 4), np.float32)
    with pytest.raises(DeviceError, match=r"'x' got a ndarray; allowed is a tensor of this device: device\.tensor"):
        device.run(scaled_sum, {"x": array, "y": array})


def test_workspace_comes_back() -> None:
    device = Device("edge")
    a, b = np.ones((8, 8), np.float16), np.ones((8, 8), np.float16)
    tensors = {"a": device.tensor(a), "b": device.tensor(b)}
    for tensor in device.run(product_then_row_sum, tensors).values():
        tensor.free()
    for tensor in tensors.values():
        tensor.free()
    assert device.memory_in_use_bytes == 0


def test_a_raw_image_runs_on_tensors() -> None:
    device = Device("edge")
    text = f"""
    .image copy
    .isa npu 1.0 {device.isa.hash}
    .args 2
    .entry unified 0
    szc size=s0 full=1
    szc size=s1 full=8
    desc desc=d0 space=gm base=@arg0
    desc desc=d1 space=ub role=producer base=0x0 ring=g0
    desc desc=d2 space=ub role=consumer base=0x0 ring=g0
    desc desc=d3 space=gm base=@arg1
    ring ring=g0 slot_bytes=32 slots=1 ready=m0 free=m1
    ld.fp32 dst=d1 src=d0 rows=s0 cols=s1 | wait m1 set m0
    st.fp32 dst=d3 src=d2 rows=s0 cols=s1 | wait m0 set m1
    halt
    """
    x = np.arange(8, dtype=np.float32)
    source, target = device.tensor(x), device.empty((8,), "fp32")
    device.launch(assemble(device.isa, text, "copy"), [source, target])
    np.testing.assert_array_equal(target.numpy(), x)


def test_a_program_that_fails_the_verifier_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device("edge")
    inputs = {name: device.tensor(array) for name, array in zip("xy", arrays(3, 4), strict=True)}

    def refuse(*_arguments: object) -> None:
        raise VerifyError("refused")

    monkeypatch.setattr("npuvm.runtime.device.device.Verifier.check", refuse)
    for _ in range(2):
        with pytest.raises(VerifyError, match="refused"):
            device.run(scaled_sum, inputs)
    assert len(device.programs) == 0 and not device.launches


def test_an_illegal_image_never_starts() -> None:
    device = Device("edge")
    text = f".image bad\n.isa npu 1.0 {device.isa.hash}\n.args 0\n.entry unified 0\nusync unit=vector | wait m0\nhalt\n"
    with pytest.raises(VerifyError):
        device.launch(assemble(device.isa, text, "bad"), [])
    assert not device.launches


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": ("float32", (2, 3))}, "no tensor for parameter 'y'"),
        ({"x": ("float16", (2, 3)), "y": ("float32", (3,))}, "parameter 'x' is fp32, got fp16"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, tuple[str, tuple[int, ...]]], message: str) -> None:
    device = Device("edge")
    tensors = {name: device.tensor(np.zeros(shape, dtype)) for name, (dtype, shape) in inputs.items()}
    with pytest.raises(DeviceError, match=message):
        device.run(scaled_sum, tensors)


def test_sizes_that_disagree_are_named() -> None:
    device = Device("edge")
    x, y = device.tensor(np.zeros((2, 3), np.float32)), device.tensor(np.zeros(4, np.float32))
    with pytest.raises(CompileError, match="N is 3 from x"):
        device.run(scaled_sum, {"x": x, "y": y})
