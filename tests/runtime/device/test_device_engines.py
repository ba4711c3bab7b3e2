"""Devices that run data and time apart give what a device gives that runs both at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel, parse_graph
from npuvm.hw.errors import DeviceError
from npuvm.isa.errors import VerifyError
from npuvm.runtime import Device
from npuvm.runtime.device.device import DeviceEngine

TWICE = """kernel twice {
  param x : fp32[M, 64]
  %0 = load @x : fp32[M, 64]
  %1 = add %0, %0 : fp32[M, 64]
  store %1 -> @y : fp32[M, 64]
}
"""


@kernel(table="fp16[V, D]", ids="int32[N]", w="fp16[D, E]")
def looked_up(k: KernelBuilder, table: ParamRef, ids: ParamRef, w: ParamRef) -> None:
    rows = k.embedding(k.load(table), k.load(ids))
    k.store(k.gelu(k.matmul(rows, k.load(w)), approximate="tanh"))
    k.store(k.scatter_add(k.load(table), k.load(ids), rows))


@kernel(words="fp32[V, D]", kinds="fp32[U, D]", ids="int32[N]", kind="int32[N]")
def both_looked_up(k: KernelBuilder, words: ParamRef, kinds: ParamRef, ids: ParamRef, kind: ParamRef) -> None:
    k.store(k.embedding(k.load(words), k.load(ids)) + k.embedding(k.load(kinds), k.load(kind)))


def run(engine: Any, chip: str) -> tuple[list[np.ndarray[Any, Any]], Device]:
    rng = np.random.default_rng(5)
    device = Device(chip, engine=engine)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "table": rng.standard_normal((300, 96)).astype(np.float16),
        "ids": rng.integers(-300, 300, 70).astype(np.int32),
        "w": rng.standard_normal((96, 64)).astype(np.float16),
    }
    outputs = device.run(looked_up, {name: device.tensor(each) for name, each in arrays.items()})
    return [each.numpy() for each in outputs.values()], device


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
def test_data_first_and_time_behind_are_both_at_once(chip: str) -> None:
    wanted, simpy = run("simpy", chip)
    found, first = run("functional_first", chip)
    data, functional = run("functional", chip)
    for a, b, c in zip(wanted, found, data, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert [each.result.cycles for each in first.launches] == [each.result.cycles for each in simpy.launches]
    assert [each.result.indices for each in first.launches] == [each.result.indices for each in simpy.launches]
    assert any(each.result.indices for each in first.launches)
    assert not functional.launches


def test_index_vectors_of_two_tables_come_in_the_order_of_the_program() -> None:
    rng = np.random.default_rng(6)
    arrays = {
        "words": rng.standard_normal((300, 96), dtype=np.float32),
        "kinds": rng.standard_normal((2, 96), dtype=np.float32),
        "ids": rng.integers(0, 300, 90, dtype=np.int32),
        "kind": rng.integers(0, 2, 90, dtype=np.int32),
    }
    recorded = []
    engines: tuple[DeviceEngine, ...] = ("simpy", "functional_first")
    for engine in engines:
        device = Device("edge", engine=engine)
        (made,) = device.run(both_looked_up, {name: device.tensor(each) for name, each in arrays.items()}).values()
        np.testing.assert_array_equal(made.numpy(), arrays["words"][arrays["ids"]] + arrays["kinds"][arrays["kind"]])
        recorded.append([each.result.indices for each in device.launches])
    assert recorded[0] == recorded[1]


@pytest.mark.parametrize("engine", ["functional", "functional_first"])
def test_what_needs_both_at_once_is_refused(engine: Any) -> None:
    with pytest.raises(DeviceError, match=f"engine '{engine}' needs data and looks for no hazards; allowed: 'simpy'"):
        Device("edge", timing_only=True, engine=engine)
    with pytest.raises(DeviceError, match="looks for no hazards"):
        Device("edge", hazards="raise", engine=engine)


def test_parts_of_a_tensor() -> None:
    device = Device("edge")
    whole = device.tensor(np.arange(12, dtype=np.int32))
    part = device.part(whole, 16, (2, 3), "int32")
    np.testing.assert_array_equal(part.numpy(), [[4, 5, 6], [7, 8, 9]])
    device.write(device.part(part, 4, (1,), "int32"), np.array([50], np.int32))
    assert whole.numpy()[5] == 50
    with pytest.raises(DeviceError, match="24 bytes from 32 on do not lie in the 48 of the tensor"):
        device.part(whole, 32, (2, 3), "int32")
    with pytest.raises(DeviceError, match="is a part of another one; free that"):
        part.free()
    whole.free()
    with pytest.raises(DeviceError, match="was freed"):
        part.numpy()


def test_equal_programs_are_verified_once() -> None:
    device = Device("edge")
    tensor = device.tensor(np.ones((4, 64), np.float32))
    kernels = [Kernel(parse_graph(TWICE.replace("twice", name))) for name in ("first", "second")]
    for each in kernels:
        np.testing.assert_array_equal(device.run(each, {"x": tensor})["y"].numpy(), np.full((4, 64), 2, np.float32))
    assert device.verifier.images == 1
    device.run(kernels[0], {"x": device.tensor(np.ones((9, 64), np.float32))})
    assert (device.verifier.images, device.verifier.by_form) == (2, 1)
    image = device.launches[0].image
    for _ in range(2):
        with pytest.raises(VerifyError):
            device.launch(replace(image, entries=()), [tensor, tensor])


def test_unknown_engines_and_modes_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"engine 'fast'; allowed: 'simpy', 'compiled', 'functional'"):
        Device("edge", engine="fast")  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=r"hazards 'error'; allowed: 'raise', 'collect', 'off', None"):
        Device("edge", hazards="error")  # type: ignore[arg-type]
