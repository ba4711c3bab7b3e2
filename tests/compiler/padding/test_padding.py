"""Products whose operands are copied first to rows that begin at lines: the same bits as without, on three chips."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompiledKernel, CompileError, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.cube.codegen import MatmulKernel
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.padding.copies import PaddedCopy
from npuvm.compiler.padding.parts import PITCHES, padded_parts, padded_pitch
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import CubeSegment
from npuvm.hw.config import load_chip
from npuvm.runtime import Device

Array = npt.NDArray[Any]

_SIZES = st.sampled_from([1, 2, 7, 15, 16, 17, 31, 33, 63, 100, 129, 257])
_ALWAYS, _NEVER = Pins(pad="always"), Pins(pad="never")


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def plain(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)), "y")


@kernel(a="fp16[K, M]", b="fp16[N, K]", bias="fp16[N]")
def flipped(k: KernelBuilder, a: ParamRef, b: ParamRef, bias: ParamRef) -> None:
    left, right = k.load(a), k.load(b)
    k.store(k.matmul(left, right, transpose_a=True, transpose_b=True, bias=k.load(bias)), "y")


@kernel(a="fp16[B, H, M, K]", b="fp16[B, 1, K, N]")
def batched(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b), dtype="fp32"), "y")


@kernel(a="fp16[M, H, K]", b="fp16[H, K, N]")
def permuted(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """Heads lie inside the rows of the left operand."""
    k.store(k.matmul(k.permute(k.load(a), (1, 0, 2)), k.load(b)), "y")


@kernel(a="int8[M, K]", b="int8[K, N]")
def whole_numbers(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)), "y")


@kernel(a="fp16[M, K]", b="fp16[K, N]", residual="fp16[M, N]")
def mixed(k: KernelBuilder, a: ParamRef, b: ParamRef, residual: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(a), k.load(b))) + k.load(residual), "y")


@kernel(a="fp16[M, K]", b="fp16[K, K]")
def squared(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """Both operands of the first product are one tensor."""
    weight = k.load(b)
    k.store(k.matmul(k.load(a), k.matmul(weight, weight)), "y")


_KERNELS = (plain, flipped, batched, permuted, whole_numbers, mixed, squared)


def filled(made: Kernel, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for each in made.graph.params:
        shape = evaluate(each.type.shape, sizes)
        if each.type.dtype == "int8":
            found[each.name] = rng.integers(-9, 10, shape).astype(np.int8)
        else:
            found[each.name] = (rng.standard_normal(shape) / 4).astype(np.float16)
    return found


def made_for(made: Kernel, inputs: Mapping[str, Array], chip: str, pins: Pins | None) -> CompiledKernel:
    return compile_kernel(made, {name: each.shape for name, each in inputs.items()}, the_chip(chip), the_isa(), pins)


def check(made: Kernel, inputs: dict[str, Array], chip: str, pins: Pins = _ALWAYS, apart: Pins = _NEVER) -> None:
    """The bits with copies are those without."""
    got = run_compiled(made_for(made, inputs, chip, pins), inputs, the_chip(chip)).outputs
    want = run_compiled(made_for(made, inputs, chip, apart), inputs, the_chip(chip)).outputs
    np.testing.assert_array_equal(got["y"], want["y"])


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=6, deadline=None)
@given(m=_SIZES, n=_SIZES, k=_SIZES)
def test_a_product_with_copies_is_that_of_numpy(chip: str, m: int, n: int, k: int) -> None:
    inputs = filled(plain, {"M": m, "N": n, "K": k})
    compiled = made_for(plain, inputs, chip, _ALWAYS)
    assert len(compiled.launches) == 1
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs["y"].astype(np.float64)
    want = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
    np.testing.assert_allclose(got, want, atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", _KERNELS, ids=lambda each: each.name)
def test_the_bits_are_those_without_copies(made: Kernel, chip: str) -> None:
    rng = random.Random(f"{made.name} {chip}")
    for seed in range(2):
        sizes = {"B": rng.choice((1, 2)), "H": rng.choice((1, 3))}
        sizes |= {name: rng.choice((1, 13, 33, 70, 131)) for name in ("M", "N", "K")}
        check(made, filled(made, sizes, seed), chip)


def test_sums_are_those_of_the_best_tile_for_copies_where_these_pay() -> None:
    """Best for rows as they lie are steps of 32 over k at L0, for copies steps of 64: those are taken either way."""
    inputs = filled(plain, {"M": 563, "N": 463, "K": 316})
    got = {pins: made_for(plain, inputs, "ascend_910b1", pins) for pins in (None, _NEVER)}
    assert [made.workspace_bytes > 0 for made in got.values()] == [True, False]
    chip = the_chip("ascend_910b1")
    first, second = (run_compiled(made, inputs, chip).outputs["y"] for made in got.values())
    np.testing.assert_array_equal(first, second)
    tiles = []
    for pins in (None, _NEVER):
        shapes = {name: each.shape for name, each in inputs.items()}
        tiles.append(inspect_kernel(plain, shapes, chip, the_isa(), pins).segments[-1].kernel)
    steps = {each.tile.l0[2] for each in tiles if isinstance(each, MatmulKernel)}
    assert steps == {64}


@pytest.mark.parametrize("chip", CHIPS)
def test_with_other_pins(chip: str) -> None:
    inputs = filled(plain, {"M": 65, "N": 131, "K": 77})
    tile = {"l1": (32, 64, 32), "l0": (32, 64, 16)}
    check(plain, inputs, chip, Pins(pad="always", tile=tile), Pins(pad="never", tile=tile))
    check(plain, inputs, chip, Pins(pad="always", stack="launches"))
    check(plain, inputs, chip, Pins(pad="always", stack="sequence"))
    assert len(made_for(plain, inputs, chip, Pins(pad="always", stack="launches")).launches) == 3
    apart = made_for(plain, inputs, chip, _NEVER)
    assert apart.workspace_bytes == 0
    assert len(apart.launches) == 1


def test_a_mix_takes_copies_too() -> None:
    inputs = filled(mixed, {"M": 40, "N": 77, "K": 33})
    compiled = made_for(mixed, inputs, "ascend_910b1", _ALWAYS)
    assert [each.segment for each in compiled.launches] == ["c0+v0"]
    assert {each.name for each in compiled.tensors if each.kind == "workspace"} == {"c0+v0.pad_a", "c0+v0.pad_b"}


def test_only_rows_off_blocks_are_copied() -> None:
    for sizes, copied in (
        ((64, 64, 64), ""),
        ((64, 77, 64), "b"),
        ((64, 64, 77), "a"),
        ((1, 64, 77), ""),
        ((2, 1, 77), "ab"),
    ):
        m, n, k = sizes
        inputs = filled(plain, {"M": m, "N": n, "K": k})
        compiled = made_for(plain, inputs, "edge", _ALWAYS)
        names = [each.name for each in compiled.tensors if each.kind == "workspace"]
        assert names == [f"c0.pad_{name}" for name in copied], sizes


def cycles(pins: Pins | None, chip: str, **sizes: int) -> int:
    device = Device(the_chip(chip), timing_only=True)
    shapes = {each.name: evaluate(each.type.shape, sizes) for each in plain.graph.params}
    device.run(plain, {name: device.empty(shape, "fp16") for name, shape in shapes.items()}, pins=pins)
    assert len(device.launches) == 1
    return device.launches[0].result.cycles


@pytest.mark.parametrize(
    ("m", "n", "k"), [(777, 777, 777), (100, 300, 700), (16, 1448, 1107), (512, 512, 512), (60, 88, 17)]
)
def test_copies_are_made_where_they_pay(m: int, n: int, k: int) -> None:
    sizes = {"M": m, "N": n, "K": k}
    each = {pins: cycles(pins, "ascend_910b1", **sizes) for pins in (_ALWAYS, _NEVER)}
    assert cycles(None, "ascend_910b1", **sizes) <= 1.4 * min(each.values())


def test_where_l2_keeps_all_reads_nothing_is_copied() -> None:
    sizes = {"M": 777, "N": 777, "K": 777}
    for chip in ("ascend_910a", "edge"):
        assert made_for(plain, filled(plain, sizes), chip, None).workspace_bytes == 0
    kept = load_chip("ascend_910b1", ["memory.l2.unaligned_reads=cached"])
    shapes = {name: each.shape for name, each in filled(plain, sizes).items()}
    assert compile_kernel(plain, shapes, kept, the_isa()).workspace_bytes == 0
    assert compile_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa()).workspace_bytes > 0


def test_what_the_kernel_itself_wrote_is_read_where_it_lies() -> None:
    made = compile_kernel(squared, {"a": (777, 777), "b": (777, 777)}, the_chip("ascend_910b1"), the_isa())
    copies = {each.name for each in made.tensors if ".pad_" in each.name}
    assert copies == {"c0.pad_a", "c0.pad_b", "c1.pad_a"}


def test_copies_leave_room_in_memory() -> None:
    small = load_chip("ascend_910b1", ["memory.hbm.capacity_gib=1"])
    for size, copied in ((2001, 2), (8001, 0)):
        made = compile_kernel(plain, {"a": (size, size), "b": (size, size)}, small, the_isa())
        assert sum(each.kind == "workspace" for each in made.tensors) == copied


def test_a_weight_that_all_batches_read_is_copied_once() -> None:
    compiled = compile_kernel(batched, {"a": (3, 2, 77, 77), "b": (3, 1, 77, 99)}, the_chip("edge"), the_isa(), _ALWAYS)
    assert {each.shape for each in compiled.tensors if each.kind == "workspace"} == {(3, 2, 77, 192), (3, 1, 77, 192)}


def test_copies_do_not_make_programs_longer() -> None:
    chip, pins = the_chip("ascend_910b1"), Pins(pad="always")
    words = [
        len(compile_kernel(plain, {"a": (m, k), "b": (k, n)}, chip, the_isa(), pins).launches[0].image.words)
        for m, n, k in (
            *((1801, 1803, 701), (2047, 2049, 777)),
            *((20001, 30001, 10001), (30001, 30001, 10001)),
            *((4097, 8191, 3001), (6001, 9001, 5001)),
        )
    ]
    assert words[0] == words[1]
    assert words[2] == words[3] < words[0] + 40, "cores have blocks of rows in turn"
    assert max(words[4:]) < 1000, "three products and twice as many copies"


def test_rows_in_the_workspace() -> None:
    hashed, plain_address = the_chip("ascend_910b1"), the_chip("ascend_910a")
    assert [padded_pitch(cols, 2, hashed) for cols in (1, 17, 256, 257, 4097)] == [16, 32, 256, 512, 4352]
    assert [padded_pitch(cols, 2, plain_address) for cols in (257, 300, 4097)] == [768, 768, 4352]
    assert padded_pitch(33, 1, hashed) == 64


def test_rows_in_the_workspace_meet_in_no_slice() -> None:
    """The slices of docs/timing-model.md by its formula: of 64 rows no more than a fourth begin in one of 32."""
    chip = the_chip("ascend_910b1")
    for lines in range(2, 200):
        pitch = padded_pitch(lines * 256, 2, chip) * 2 // 512
        assert lines <= pitch <= lines + 2
        slices = [0] * 32
        for line in range(0, 64 * pitch, pitch):
            slices[(line ^ line >> 5 ^ line >> 10 ^ line >> 15 ^ line >> 20) % 32] += 1
        assert max(slices) <= 16, lines
    assert padded_pitch(31 * 256, 2, chip) == 32 * 256
    assert padded_pitch(30 * 256, 2, chip) == 30 * 256


def test_what_is_copied_is_shown() -> None:
    shapes = {"a": (777, 777), "b": (777, 777)}
    found = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa())
    assert [each.name for each in found.segments] == ["c0.pad_a", "c0.pad_b", "c0"]
    apart = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa(), _NEVER)
    assert [each.name for each in apart.segments] == ["c0"]
    assert found.segments[-1].tile == apart.segments[-1].tile


def test_a_pin_that_is_none() -> None:
    with pytest.raises(CompileError, match="pin pad = 'often' cannot be honoured; allowed: always, never"):
        Pins(pad="often")


@kernel(a="fp16[K, M]", b="fp16[N, K]", c="fp32[N]", w="fp16[N, Q]", d="fp16[Q]")
def two_products(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef, w: ParamRef, d: ParamRef) -> None:
    """Biases of two types, so that they are two launches."""
    k.pin(pad="always")
    hidden = k.relu(k.matmul(k.load(a), k.load(b), transpose_a=True, transpose_b=True, bias=k.load(c)))
    k.store(k.matmul(hidden, k.load(w), bias=k.load(d)))


def test_copies_beside_each_other_share_no_bytes() -> None:
    """The copy of the weight runs beside that of the rows, which still reads what the first product left."""
    device = Device("edge", ("core.count=2",), hazards="raise")
    inputs = filled(two_products, {"M": 7, "K": 1, "N": 3, "Q": 17})
    inputs["c"] = inputs["c"].astype(np.float32)
    shapes = {name: each.shape for name, each in inputs.items()}
    compiled = compile_kernel(two_products, shapes, device.chip, device.isa)
    second = compiled.launches[-1]
    places = sorted(
        (each.offset, each.offset + each.nbytes)
        for each in compiled.tensors
        if each.kind == "workspace" and each.name in second.args
    )
    assert len(places) == 3
    assert all(stop <= start for (_, stop), (start, _) in pairwise(places))
    found = device.run(two_products, {name: device.tensor(each) for name, each in inputs.items()})
    a, b, c, w, d = (inputs[name].astype(np.float64) for name in "abcwd")
    wanted = np.maximum(a.T @ b.T + c, 0) @ w + d
    np.testing.assert_allclose(found["out0"].numpy().astype(np.float64), wanted, rtol=1e-2, atol=0.1)


def test_copies_of_all_products_share_their_programs() -> None:
    """Of operands whose rows follow each other: only names differ, and where numbers come from."""
    chip, isa = the_chip("ascend_910b1"), the_isa()
    made = []
    for graph, operand in ((plain.graph, "a"), (flipped.graph, "b")):
        (product,) = (each for each in make_plan(graph, CASTS).segments if isinstance(each, CubeSegment))
        (segment,) = padded_parts(product, (operand,)).copies
        names = (*graph.symbols(), PITCHES[operand])
        copy, sizes = PaddedCopy(segment, names, chip, isa), {"M": 300, "N": 300, "K": 77, PITCHES[operand]: 128}
        made.append(copy.instance([sizes[name] for name in names]))
    (first, tensors), (second, others) = made
    assert first.words.tolist() == second.words.tolist()
    assert first.name != second.name
    assert (tensors[0], others[0]) == ("a", "b")
