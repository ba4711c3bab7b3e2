"""Relays: attention in one launch, products with whole rows before or behind them; against numpy, verified, without hazards."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.mix.test_mix import close, filled, kinds
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompiledKernel, CompileError, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.relay.tile import spread
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.runtime import Device

Array = npt.NDArray[Any]

_MIX = Pins(stack="mix")
_ROWS = st.sampled_from([1, 2, 15, 16, 17, 33, 63, 64, 65, 100, 128, 130, 200])
_DEPTH = st.sampled_from([1, 8, 16, 24, 64])


@kernel(q="fp16[B, H, S, D]", key="fp16[B, H, T, D]", value="fp16[B, H, T, E]", mask="fp16[S, T]")
def attention(k: KernelBuilder, q: ParamRef, key: ParamRef, value: ParamRef, mask: ParamRef) -> None:
    scores = k.matmul(k.load(q), k.load(key), transpose_b=True) * 0.25 + k.load(mask)
    risen = k.exp(scores - k.max(scores, -1, keepdims=True))
    k.store(k.matmul(risen / k.sum(risen, -1, keepdims=True), k.load(value)), "y")


@kernel(q="fp16[S, H, D]", key="fp16[T, 1, D]", value="fp16[T, 1, D]")
def heads_in_rows(k: KernelBuilder, q: ParamRef, key: ParamRef, value: ParamRef) -> None:
    """Heads beside each other in a row, all with the same keys and values; the result goes back in rows."""
    left, right, kept = (k.permute(k.load(each), (1, 0, 2)) for each in (q, key, value))
    scores = k.matmul(left, right, transpose_b=True)
    risen = k.exp(scores - k.max(scores, -1, keepdims=True))
    k.store(k.permute(k.matmul(risen / k.sum(risen, -1, keepdims=True), kept), (1, 0, 2)), "y")


@kernel(x="fp16[M, K]", w="fp16[K, N]")
def normalised_behind(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    y = k.cast(k.matmul(k.load(x), k.load(w)), "fp32")
    k.store(k.cast(y * k.rsqrt(k.mean(y * y, -1, keepdims=True) + 1e-3), "fp16"), "y")


@kernel(x="fp16[M, K]", gain="fp16[K]", w="fp16[K, N]")
def normalised_before(k: KernelBuilder, x: ParamRef, gain: ParamRef, w: ParamRef) -> None:
    value = k.cast(k.load(x), "fp32")
    unit = k.cast(value * k.rsqrt(k.mean(value * value, -1, keepdims=True) + 1e-3), "fp16")
    k.store(k.matmul(unit * k.load(gain), k.load(w)), "y")


@kernel(x="fp16[B, M, K]", w="fp16[B, K, N]")
def scaled_before(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    """Element by element, with a second result of the rows."""
    half = k.load(x) * 0.5
    k.store(half, "half")
    k.store(k.matmul(half, k.load(w)), "y")


@kernel(x="fp16[B, M, K]", w="fp16[K, N]", b="fp16[N]", v="fp16[N, P]", c="fp16[P]")
def biased_layers(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef, c: ParamRef) -> None:
    """Two products with whole rows between them, both with a bias."""
    y = k.matmul(k.load(x), k.load(w), bias=k.load(b))
    k.store(k.matmul(k.exp(y - k.max(y, -1, keepdims=True)), k.load(v), bias=k.load(c)), "y")


@kernel(x="fp16[M, K]", w="fp16[K, N]", v="fp16[N, P]", c="fp32[P]")
def biased_last(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef, c: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w))
    k.store(k.matmul(k.exp(y - k.max(y, -1, keepdims=True)), k.load(v), bias=k.load(c)), "y")


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]")
def biased_behind(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w), bias=k.load(b))
    k.store(k.exp(y - k.max(y, -1, keepdims=True)), "y")


def related(made: Kernel, inputs: Mapping[str, Array], chip: NpuConfig, pins: Pins | None = _MIX) -> CompiledKernel:
    return compile_kernel(made, {name: each.shape for name, each in inputs.items()}, chip, the_isa(), pins)


def softmax(x: Array) -> Array:
    risen = np.exp(x - x.max(-1, keepdims=True))
    result: Array = risen / risen.sum(-1, keepdims=True)
    return result


def normalised(x: Array) -> Array:
    result: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3)
    return result


def doubles(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: each.astype(np.float64) for name, each in inputs.items()}


def attended(inputs: Mapping[str, Array]) -> Array:
    x = doubles(inputs)
    result: Array = softmax(x["q"] @ x["key"].swapaxes(-1, -2) / 4 + x["mask"]) @ x["value"]
    return result


@cache
def a_few_cores(chip: str) -> NpuConfig:
    """So few that a core group has many blocks one after the other."""
    return load_chip(chip, ["core.count=1"])


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=8, deadline=None)
@given(b=st.integers(1, 2), h=st.integers(1, 3), s=_ROWS, t=_ROWS, d=_DEPTH, e=_DEPTH)
def test_attention_is_one_launch(chip: str, b: int, h: int, s: int, t: int, d: int, e: int) -> None:
    inputs = filled(attention, B=b, H=h, S=s, T=t, D=d, E=e)
    compiled = related(attention, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], attended(inputs))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("sizes", [(3, 5, 40, 24), (1, 1, 700, 90), (1, 2, 333, 70), (2, 7, 1, 130)])
def test_many_blocks_one_after_the_other(chip: str, sizes: tuple[int, int, int, int]) -> None:
    """Runs along the rows and along the heads, and what is left of the rows."""
    few = a_few_cores(chip)
    inputs = filled(attention, **dict(zip("BHST", sizes, strict=True)), D=16, E=32)
    compiled = related(attention, inputs, few)
    assert kinds(compiled) == ["mix"]
    close(run_compiled(compiled, inputs, few).outputs["y"], attended(inputs))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("s", "h"), [(40, 3), (150, 2), (1, 8)])
def test_heads_as_they_lie_in_rows(chip: str, s: int, h: int) -> None:
    inputs = filled(heads_in_rows, S=s, H=h, T=50, D=16)
    compiled = related(heads_in_rows, inputs, the_chip(chip))
    x = {name: each.swapaxes(0, 1) for name, each in doubles(inputs).items()}
    want = softmax(x["q"] @ x["key"].swapaxes(-1, -2)) @ x["value"]
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want.swapaxes(0, 1))


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=5, deadline=None)
@given(m=_ROWS, k=_ROWS, n=_ROWS)
def test_whole_rows_of_a_product(chip: str, m: int, k: int, n: int) -> None:
    inputs = filled(normalised_behind, M=m, K=k, N=n)
    compiled = related(normalised_behind, inputs, the_chip(chip))
    x = doubles(inputs)
    want = normalised((x["x"] @ x["w"]).astype(np.float16).astype(np.float64))
    close(run_compiled(compiled, inputs, the_chip(chip)).outputs["y"], want)
    assert kinds(compiled) == ["mix"]


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=5, deadline=None)
@given(m=_ROWS, k=_ROWS, n=_ROWS)
def test_rows_that_a_product_takes(chip: str, m: int, k: int, n: int) -> None:
    inputs = filled(normalised_before, M=m, K=k, N=n)
    compiled = related(normalised_before, inputs, the_chip(chip))
    assert kinds(compiled) == ["mix"]
    x = doubles(inputs)
    unit = normalised(x["x"]).astype(np.float16).astype(np.float64) * x["gain"]
    want = unit @ x["w"]
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs["y"]
    np.testing.assert_allclose(got.astype(np.float64), want, atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("chip", CHIPS)
def test_rows_with_a_result_of_their_own(chip: str) -> None:
    inputs = filled(scaled_before, B=3, M=70, K=40, N=50)
    compiled = related(scaled_before, inputs, the_chip(chip))
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs
    x = doubles(inputs)
    close(got["half"], x["x"] / 2)
    close(got["y"], x["x"] / 2 @ x["w"])


@pytest.mark.parametrize("chip", CHIPS)
def test_the_bits_are_those_of_separate_launches(chip: str) -> None:
    inputs = filled(attention, B=1, H=2, S=100, T=90, D=32, E=16)
    together = run_compiled(related(attention, inputs, the_chip(chip)), inputs, the_chip(chip)).outputs["y"]
    compiled = related(attention, inputs, the_chip(chip), Pins(stack="launches"))
    assert kinds(compiled) == ["cube", "vector", "cube"]
    np.testing.assert_array_equal(together, run_compiled(compiled, inputs, the_chip(chip)).outputs["y"])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", [biased_layers, biased_last, biased_behind], ids=lambda made: str(made.name))
@pytest.mark.parametrize("sizes", [(1, 100, 40, 70, 33), (3, 17, 16, 300, 130)], ids=str)
def test_products_keep_their_biases(made: Kernel, sizes: tuple[int, ...], chip: str) -> None:
    few = a_few_cores(chip)
    inputs = filled(made, **dict(zip("BMKNP", sizes, strict=True)))
    compiled = related(made, inputs, few)
    assert kinds(compiled) == ["mix"]
    apart = run_compiled(related(made, inputs, few, Pins(stack="launches")), inputs, few).outputs["y"]
    together = run_compiled(compiled, inputs, few).outputs["y"]
    # Sums may be taken in other steps, and bits differ then; without its bias a result is off by far more.
    np.testing.assert_allclose(together.astype(np.float64), apart.astype(np.float64), rtol=2e-3, atol=2e-4)


def test_biases_of_two_types_stay_apart() -> None:
    @kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp32[N]", v="fp16[N, P]", c="fp16[P]")
    def unlike(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef, c: ParamRef) -> None:
        y = k.matmul(k.load(x), k.load(w), bias=k.load(b))
        k.store(k.matmul(k.exp(y - k.max(y, -1, keepdims=True)), k.load(v), bias=k.load(c)), "y")

    inputs = filled(unlike, M=16, K=16, N=16, P=16)
    assert kinds(related(unlike, inputs, the_chip("edge"))) == ["cube", "vector", "cube"]


def test_what_is_between_the_parts_does_not_grow_with_the_rows() -> None:
    """A block for each core group, twice, whatever the number of rows and heads."""
    few = a_few_cores("ascend_910b1")
    row_bytes = 2 * 2 * 64  # scores and weights, fp16
    for h, s in ((1, 128), (4, 128), (1, 512), (8, 8192)):
        made = related(attention, filled(attention, B=1, H=h, S=s, T=64, D=16, E=16), few)
        assert 0 < made.workspace_bytes <= 2 * 256 * row_bytes


def test_long_attention_is_one_launch_unasked() -> None:
    shapes = {"q": (1, 32, 1024, 64), "key": (1, 32, 1024, 64), "value": (1, 32, 1024, 64), "mask": (1024, 1024)}
    assert kinds(compile_kernel(attention, shapes, the_chip("ascend_910b1"), the_isa())) == ["mix"]


@pytest.mark.parametrize(
    ("chip", "heads", "chosen"),
    [("edge", 12, ["cube", "vector", "cube"]), ("edge", 4, ["cube", "vector", "cube"]), ("ascend_910a", 96, ["mix"])],
)
def test_the_estimate_takes_what_is_faster(chip: str, heads: int, chosen: list[str]) -> None:
    """From call to call, by simulated cycles, each launch at least as long as the host takes for one."""
    sizes = {"q": (1, heads, 128, 64), "key": (1, heads, 128, 64), "value": (1, heads, 128, 64), "mask": (128, 128)}
    device = Device(chip, timing_only=True)
    assert kinds(compile_kernel(attention, sizes, device.chip, device.isa)) == chosen
    inputs = {name: device.empty(shape, "fp16") for name, shape in sizes.items()}
    least = float(device.chip.us_to_cycles(device.chip.host.launch_us))
    took = []
    for pins in (Pins(stack="launches"), _MIX):
        for _ in range(2):  # the second one finds L2 as a call leaves it
            device.launches.clear()
            device.run(attention, inputs, pins=pins)
        took.append(sum(max(float(each.result.cycles), least) for each in device.launches))
    assert (took[1] < took[0]) == (chosen == ["mix"])


def test_large_products_keep_launches_of_their_own() -> None:
    """Blocks of whole rows would read the weights once for each."""
    shapes = {"x": (2048, 1024), "w": (1024, 4096)}
    assert kinds(compile_kernel(normalised_behind, shapes, the_chip("ascend_910b1"), the_isa())) == ["cube", "vector"]


def test_without_a_relay_a_product_still_runs_with_what_follows_it() -> None:
    @kernel(x="fp16[M, K]", up="fp16[K, N]", down="fp16[N, K]")
    def mlp(k: KernelBuilder, x: ParamRef, up: ParamRef, down: ParamRef) -> None:
        k.store(k.matmul(k.relu(k.matmul(k.load(x), k.load(up))), k.load(down)))

    shapes = {"x": (4096, 1024), "up": (1024, 4096), "down": (4096, 1024)}
    chip = the_chip("ascend_910b1")
    assert kinds(compile_kernel(mlp, shapes, chip, the_isa())) == ["mix", "cube"]
    assert kinds(compile_kernel(mlp, shapes, chip, the_isa(), _MIX)) == ["mix"]


def test_rows_that_do_not_fit_are_cut() -> None:
    shapes = {"q": (1, 1, 16, 16), "key": (1, 1, 60_000, 16), "value": (1, 1, 60_000, 16), "mask": (16, 60_000)}
    launches = kinds(compile_kernel(attention, shapes, the_chip("edge"), the_isa(), _MIX))
    assert launches[-1] == "cube"


_SMALL_L1 = [
    ("ascend_910b1", ("core.l1_kib=64", "core.count=2"), (1, 4, 200, 130, 64, 16)),
    ("ascend_910b1", ("core.l1_kib=64", "core.count=2"), (2, 1, 64, 300, 16, 130)),
    ("ascend_910b1", ("core.l1_kib=32", "core.count=1", "core.ub_kib=16"), (1, 1, 511, 65, 17, 16)),
    ("ascend_910b1", ("core.l1_kib=96", "core.count=1"), (1, 2, 64, 130, 128, 16)),
    ("ascend_910a", ("core.l1_kib=48", "core.count=2"), (1, 3, 150, 100, 40, 100)),
    ("edge", ("core.l1_kib=32",), (1, 1, 130, 65, 64, 64)),
    ("edge", ("core.l1_kib=16",), (1, 1, 40, 65, 20, 64)),
]


@pytest.mark.parametrize(("chip", "overrides", "sizes"), _SMALL_L1, ids=str)
def test_products_fit_a_small_l1_together(chip: str, overrides: tuple[str, ...], sizes: tuple[int, ...]) -> None:
    """Rings are as large as the product needs that needs most of each: more than either product alone takes."""
    device = Device(load_chip(chip, overrides))
    inputs = filled(attention, **dict(zip("BHSTDE", sizes, strict=True)))
    for pins in (_MIX, None):
        on_device = {name: device.tensor(each) for name, each in inputs.items()}
        close(device.read(device.run(attention, on_device, pins)["y"]), attended(inputs))
    assert kinds(related(attention, inputs, device.chip)) == ["mix"]


@pytest.mark.parametrize("made", [biased_layers, biased_last], ids=lambda made: str(made.name))
@pytest.mark.parametrize("l1_kib", [24, 40])
def test_products_with_biases_fit_a_small_l1_together(made: Kernel, l1_kib: int) -> None:
    device = Device(load_chip("ascend_910b1", [f"core.l1_kib={l1_kib}", "core.count=1"]))
    for sizes in ((1, 100, 90, 70, 33), (2, 40, 16, 200, 130)):
        inputs = filled(made, **dict(zip("BMKNP", sizes, strict=True)))
        on_device = {name: device.tensor(each) for name, each in inputs.items()}
        got, apart = (
            device.read(device.run(made, on_device, pins)["y"]).astype(np.float64)
            for pins in (_MIX, Pins(stack="launches"))
        )
        np.testing.assert_allclose(got, apart, rtol=2e-3, atol=2e-4)


def test_products_that_fit_l1_only_apart_are_launches() -> None:
    """All of a deep first product's depth and of a wide second one's columns: each leaves too little for the other."""
    inputs = filled(attention, B=1, H=1, S=40, T=40, D=600, E=600)
    chip = load_chip("edge", ["core.l1_kib=64"])
    assert kinds(related(attention, inputs, chip)) == ["cube", "vector", "cube"]
    device = Device(chip)
    on_device = {name: device.tensor(each) for name, each in inputs.items()}
    close(device.read(device.run(attention, on_device)["y"]), attended(inputs))


def test_the_pin_stands_alone() -> None:
    inputs = filled(attention, B=1, H=1, S=16, T=16, D=16, E=16)
    with pytest.raises(CompileError, match=r"pin cores = 1 cannot be honoured; allowed: none beside stack = 'mix'"):
        related(attention, inputs, the_chip("edge"), Pins(stack="mix", cores=1))


@given(matrices=st.integers(1, 50), blocks=st.integers(1, 60), groups=st.integers(1, 48))
def test_runs_have_all_blocks(matrices: int, blocks: int, groups: int) -> None:
    runs = spread(matrices, blocks, groups)
    assert (runs.runs - 1) * runs.most + runs.tail == blocks
    assert 1 <= runs.tail <= runs.most


@given(matrices=st.integers(1, 50), blocks=st.integers(1, 60), groups=st.integers(1, 48))
def test_runs_are_the_best_of_all_rounds(matrices: int, blocks: int, groups: int) -> None:
    """Of as many runs as any number of rounds has room for."""
    found = spread(matrices, blocks, groups)
    costs = []
    for rounds in range(1, matrices * blocks + 1):
        most = -(-blocks // max(1, min(blocks, rounds * groups // matrices)))
        costs.append(-(-matrices * -(-blocks // most) // groups) * (most + 1))
    assert -(-matrices * found.runs // groups) * (found.most + 1) == min(costs)


def test_runs_of_many_blocks_are_found_at_once() -> None:
    """A walk through as many rounds as there are blocks would not end."""
    found = spread(1, (1 << 60) + 5, 24)
    assert found.runs == 24 and found.most == -(-((1 << 60) + 5) // 24)
