"""Slots of rings as `Pins.buffering` wants them: kernels of every kind with data, and what double buffering buys."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.compiler.language import test_kinds as kinds
from tests.compiler.properties.random_kernels import random_kernel
from tests.compiler.properties.random_run import CHIPS as DEVICES
from tests.compiler.properties.random_run import device_of, what_is_wrong
from tests.compiler.relay.test_relay import attention, normalised_before
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import (
    CompiledKernel,
    CompileError,
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    compile_kernel,
    compile_stack,
    interpret,
    kernel,
    parallel,
    print_graph,
)
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.inspection.rings import ring_events
from npuvm.compiler.inspection.stack import inspect_stack
from npuvm.compiler.language.pins import BUFFERINGS, FUSIONS, most_slots
from npuvm.hw.config import load_chip
from npuvm.isa import Image, Insn, decode_program
from npuvm.runtime import Device

MODES = ("single", "double")
MOST = {"single": 1, "double": 2}


@kernel(x="fp16[M, N]", y="fp16[M, N]", b="fp16[N]")
def elements(k: KernelBuilder, x: ParamRef, y: ParamRef, b: ParamRef) -> None:
    k.store(k.relu(k.load(x) + k.load(b)) * k.load(y), "z")
    k.store(k.abs(k.load(y)), "kept")


@kernel(x="fp16[M, N]")
def halved(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.load(x) * 0.5, "y")


@kernel(x="fp16[M, N]", w="fp16[K, N]", b="fp16[K]")
def product(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(x), k.load(w), transpose_b=True, bias=k.load(b)), "y")


@kernel(x="fp32[M, N]")
def sums(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 0), "columns")
    k.store(k.max(k.load(x), 1), "rows")


@kernel(x="fp16[M, N, P]", y="fp16[N, Q, P]")
def moved(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    """A transpose and a concatenation, with nothing to compute."""
    k.store(k.permute(k.load(x), (2, 0, 1)), "turned")
    k.store(k.concat([k.permute(k.load(x), (1, 0, 2)), k.load(y)], 1), "both")


@kernel(x="fp16[M, N]", i="int32[K]")
def picked(k: KernelBuilder, x: ParamRef, i: ParamRef) -> None:
    k.store(k.gather(k.load(x), k.load(i), 0), "rows")
    k.store(k.gather(k.load(x), k.load(i), 1), "columns")


def _layer(layout: str, before: bool, behind: bool) -> Kernel:
    shapes = {"x": "fp16[B, 5, H, W]", "w": "fp16[24, 5, 3, 3]"}
    if layout == "NHWC":
        shapes = {"x": "fp16[B, H, W, 5]", "w": "fp16[24, 3, 3, 5]"}

    @kernel(**shapes, bias="fp16[24]")
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef, bias: ParamRef) -> None:
        image = k.relu(k.load(x) * 0.5) if before else k.load(x)
        y = k.conv2d(image, k.load(w), k.load(bias), padding=1, layout=layout)
        k.store(k.relu(y) if behind else y, "y")

    return layer


_SIZES = {
    "M": 70,
    "N": 33,
    "K": 40,
    "P": 20,
    "Q": 3,
    "A": 50,
    "B": 2,
    "H": 9,
    "W": 11,
    "S": 70,
    "T": 50,
    "D": 16,
    "E": 24,
}
_AROUND = ((False, False), (False, True), (True, False), (True, True))
_LAYERS = [_layer(layout, *around) for layout in ("NHWC", "NCHW") for around in _AROUND]
_MADE = [
    *(elements, product, sums, moved, picked, *_LAYERS, attention, normalised_before),
    *(kinds.softmax, kinds.activated, kinds.side_by_side, kinds.layers, kinds.columns, kinds.centred),
]
_TALL = {**_SIZES, "M": 3000, "N": 5, "K": 9}
"""Rows that cores share."""


def _slots(image: Image) -> list[tuple[str, int]]:
    """Space and slots of every ring of an image, of all its phases and core types."""
    found: list[tuple[str, int]] = []
    spaces = {space.code: name for name, space in the_isa().spaces.items()}
    rings: dict[int, Insn] = {}
    for _, insn in decode_program(the_isa(), image.words):
        if insn.op == "ring":
            rings[insn.args["ring"]] = insn
        elif insn.op == "desc" and insn.args["role"]:
            found.append((spaces[insn.args["space"]], rings[insn.args["ring"]].args["slots"]))
    return found


def _check_slots(compiled: CompiledKernel, most: int) -> None:
    """No ring on chip has more slots; those in global memory, between the parts of a launch, are no buffers of a core."""
    for launch in compiled.launches:
        assert all(slots <= most for space, slots in _slots(launch.image) if space != "gm"), launch.segment


def _inputs(made: Kernel, sizes: dict[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    shapes = {p.name: tuple(d if isinstance(d, int) else sizes[d] for d in p.type.shape) for p in made.graph.params}
    found = {name: (rng.integers(-8, 9, shape) / 8).astype(np.float16) for name, shape in shapes.items()}
    kept = {p.name: p.type.dtype for p in made.graph.params}
    return {
        name: rng.integers(0, 5, each.shape).astype(np.int32)
        if kept[name] == "int32"
        else each.astype({"fp16": np.float16, "fp32": np.float32}[kept[name]])
        for name, each in found.items()
    }


def _run(made: Kernel, sizes: dict[str, int], chip: str, pins: Pins) -> CompiledKernel:
    """Compile, check the rings, run with the verifier and the hazard checks, compare with the interpreter."""
    inputs = _inputs(made, sizes)
    shapes = {name: each.shape for name, each in inputs.items()}
    compiled = compile_kernel(made, shapes, the_chip(chip), the_isa(), pins)
    _check_slots(compiled, MOST[str(pins.buffering)])
    device = device_of(chip, "")
    tensors = {name: device.tensor(array) for name, array in inputs.items()}
    outputs = device.run(made, tensors, pins=pins)
    for name, wanted in interpret(made.traced(shapes), inputs).items():
        got = device.read(outputs[name]).astype(np.float64)
        np.testing.assert_allclose(got, wanted.astype(np.float64), rtol=1e-2, atol=2e-2, err_msg=name)
    for tensor in {id(each): each for each in (*tensors.values(), *outputs.values())}.values():
        device.free(tensor)
    device.launches.clear()
    return compiled


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("made", _MADE, ids=lambda made: str(made.name))
def test_every_kind_has_the_slots_and_the_values(made: Kernel, mode: str, chip: str) -> None:
    _run(made, _SIZES, chip, Pins(buffering=mode))


@pytest.mark.parametrize("made", [elements, product, sums, moved, picked], ids=lambda made: str(made.name))
def test_sizes_that_take_many_tiles(made: Kernel) -> None:
    _run(made, _TALL, "edge", Pins(buffering="single"))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", _LAYERS, ids=lambda made: str(made.name))
def test_convolutions_in_one_program_with_what_is_around_them(made: Kernel, chip: str) -> None:
    _run(made, _SIZES, chip, Pins(stack="mix", buffering="single"))


_BESIDE = (
    Pins(fusion="none", buffering="single"),
    Pins(fusion="both", buffering="single"),
    Pins(stack="sequence", buffering="single"),
    Pins(stack="mix", buffering="single"),
    Pins(pad="always", buffering="single"),
    Pins(split_k=2, buffering="single"),
    Pins(cores=1, buffering="single"),
    Pins(cores=1, pad="always", buffering="single"),
    Pins(cores=1, split_k=2, stack="sequence", buffering="single"),
)


@pytest.mark.parametrize(
    "pins", _BESIDE, ids=lambda pins: ",".join(f"{n}" for n in ("pad", "stack") if getattr(pins, n))
)
@pytest.mark.parametrize("chip", CHIPS)
def test_it_goes_with_other_pins(pins: Pins, chip: str) -> None:
    @kernel(x="fp16[M, K]", w="fp16[K, N]")
    def body(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        k.store(k.relu(k.matmul(k.load(x), k.load(w)) + 0.5), "y")

    made = _run(body, {"M": 150, "K": 146, "N": 37}, chip, pins)
    assert made.launches


@given(seed=st.integers(0, 100_000), mode=st.sampled_from(BUFFERINGS), fusion=st.sampled_from([None, *FUSIONS]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_graphs_have_their_values_in_every_mode(seed: int, mode: str, fusion: str | None) -> None:
    rng = Random(seed)
    device = device_of(*rng.choice(DEVICES))
    dtypes = [each for each in ("fp16", "bf16") if each in device.chip.core.cube.cycles_per_block]
    made = random_kernel(seed, dtypes)
    sizes = made.sizes(rng)
    inputs = made.inputs(sizes, np.random.default_rng(seed))
    pins = Pins(buffering=mode, fusion=fusion)
    shapes = {name: each.shape for name, each in inputs.items()}
    compiled = compile_kernel(made.kernel, shapes, device.chip, device.isa, pins)
    _check_slots(compiled, most_slots(pins.buffering, 255))
    tensors = {name: device.tensor(array) for name, array in inputs.items()}
    outputs = device.run(made.kernel, tensors, pins=pins)
    for name, each in made.expected(inputs, sizes).items():
        wrong = what_is_wrong(name, device.read(outputs[name]), each)
        assert not wrong, f"{mode}, {fusion}: {wrong}\n{print_graph(made.kernel.graph)}"
    for tensor in (*tensors.values(), *outputs.values()):
        device.free(tensor)
    device.launches.clear()


def _of(made: Kernel, sizes: dict[str, int], chip: str, buffering: str | None) -> CompiledKernel:
    shapes = {name: each.shape for name, each in _inputs(made, sizes).items()}
    return compile_kernel(made, shapes, the_chip(chip), the_isa(), Pins(buffering=buffering))


@pytest.mark.parametrize("chip", CHIPS)
def test_auto_is_what_the_compiler_chooses(chip: str) -> None:
    assert Pins(buffering="auto") == Pins()
    assert Pins(buffering="auto").key() == Pins().key()
    assert _of(product, _SIZES, chip, "auto") is _of(product, _SIZES, chip, None)
    assert _of(product, _SIZES, chip, "single") is not _of(product, _SIZES, chip, "double")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", [halved, product], ids=lambda made: str(made.name))
def test_what_transfers_bound_is_slower_without_overlap(made: Kernel, chip: str) -> None:
    """In simulated time; and the estimates that choose tiles know of it."""
    sizes = {"M": 1500, "N": 512, "K": 500}
    inputs = _inputs(made, sizes)
    shapes = {name: each.shape for name, each in inputs.items()}
    cycles, estimates = [], []
    for mode in MODES:
        pins = Pins(buffering=mode)
        compiled = compile_kernel(made, shapes, the_chip(chip), the_isa(), pins)
        cycles.append(sum(run_compiled(compiled, inputs, the_chip(chip)).cycles))
        found = inspect_kernel(made, shapes, the_chip(chip), the_isa(), pins)
        estimates.append(sum(each.cycles for each in found.segments))
    assert cycles[0] > 1.1 * cycles[1]
    assert estimates[0] > estimates[1]


def test_the_room_of_second_slots_is_for_larger_tiles() -> None:
    def largest(made: Kernel, space: str) -> dict[str, int]:
        found = {}
        for mode in MODES:
            shapes = {name: each.shape for name, each in _inputs(made, {"M": 6000, "N": 700, "K": 600}).items()}
            seen = inspect_kernel(made, shapes, the_chip("edge"), the_isa(), Pins(buffering=mode))
            found[mode] = max(each.slot_bytes for s in seen.segments for each in s.buffers if each.space == space)
        return found

    for made, space in ((elements, "ub"), (product, "l0a")):
        bytes_of_slots = largest(made, space)
        assert bytes_of_slots["single"] > bytes_of_slots["double"]


_NARROW = ("core.count=2", "core.ub_kib=16", "core.l1_kib=8", "core.l0a_kib=1", "core.l0b_kib=1", "core.l0c_kib=2")
"""With one slot there is room for a block of the cube, with two there is none."""


def _on_narrow(made: Kernel, inputs: dict[str, npt.NDArray[Any]], pins: Pins | None) -> npt.NDArray[Any]:
    device = Device(load_chip("edge", _NARROW))
    (found,) = device.run(made, {name: device.tensor(each) for name, each in inputs.items()}, pins).values()
    return device.read(found)


@pytest.mark.parametrize("pins", [None, Pins(buffering="double"), Pins(stack="mix"), Pins(stack="launches")], ids=str)
def test_products_have_one_slot_where_two_leave_no_room(pins: Pins | None) -> None:
    @kernel(a="int8[M, K]", b="int8[K, N]", c="int32[M, N]")
    def whole(k: KernelBuilder, a: ParamRef, b: ParamRef, c: ParamRef) -> None:
        k.store(k.matmul(k.load(a), k.load(b), dtype="int32") + k.load(c))

    rng = np.random.default_rng(5)
    for m, depth, n in ((20, 40, 30), (1, 300, 90), (130, 33, 1)):
        a, b = (rng.integers(-9, 9, size, dtype=np.int8) for size in ((m, depth), (depth, n)))
        c = rng.integers(-9, 9, (m, n), dtype=np.int32)
        got = _on_narrow(whole, {"a": a, "b": b, "c": c}, pins)
        np.testing.assert_array_equal(got, a.astype(np.int32) @ b.astype(np.int32) + c)


@pytest.mark.parametrize(
    ("chip", "overrides"), [("edge", ["core.l1_kib=1"]), ("ascend_910b1", ["core.l1_kib=2", "core.count=2"])]
)
@pytest.mark.parametrize("pins", [None, Pins(stack="mix")], ids=str)
def test_l1_may_have_less_room_than_l0(chip: str, overrides: list[str], pins: Pins | None) -> None:
    """L1 has no room for two slots, nor for a step over k of which L0 is full."""
    device = Device(load_chip(chip, overrides))
    rng = np.random.default_rng(7)
    shapes = {"q": (1, 2, 40, 24), "key": (1, 2, 50, 24), "value": (1, 2, 50, 33), "mask": (40, 50)}
    inputs = {name: (rng.standard_normal(shape) / 4).astype(np.float16) for name, shape in shapes.items()}
    (found,) = device.run(attention, {name: device.tensor(each) for name, each in inputs.items()}, pins).values()
    scores = inputs["q"].astype(np.float64) @ inputs["key"].astype(np.float64).swapaxes(-1, -2) / 4 + inputs["mask"]
    risen = np.exp(scores)
    want = risen / risen.sum(-1, keepdims=True) @ inputs["value"].astype(np.float64)
    np.testing.assert_allclose(device.read(found).astype(np.float64), want, atol=4e-3, rtol=8e-3)


def test_without_room_for_two_slots_auto_is_single() -> None:
    @kernel(a="int8[M, K]", b="int8[K, N]")
    def plain(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.store(k.matmul(k.load(a), k.load(b), dtype="int32"))

    narrow, shapes = load_chip("edge", _NARROW), {"a": (60, 200), "b": (200, 90)}
    images = [
        compile_kernel(plain, shapes, narrow, the_isa(), None if each is None else Pins(buffering=each))
        .launches[0]
        .image.to_bytes()
        for each in (None, "double", "single")
    ]
    assert images[0] == images[1] == images[2]
    (found,) = inspect_kernel(plain, shapes, narrow, the_isa()).segments
    assert {each.slots for each in found.buffers} == {1}
    wide = load_chip("edge", [*_NARROW, "core.l0a_kib=2", "core.l0b_kib=2"])
    (found,) = inspect_kernel(plain, shapes, wide, the_isa()).segments
    assert {each.name: each.slots for each in found.buffers if each.space == "l0b"} == {"l0b": 2}


def test_slots_that_are_pinned_are_not_taken_away() -> None:
    @kernel(a="int8[M, K]", b="int8[K, N]")
    def plain(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
        k.store(k.matmul(k.load(a), k.load(b), dtype="int32"))

    shapes = {"a": (60, 200), "b": (200, 90)}
    allowed = "the least is 8 x 32 x 32 of int8; allowed: at most 1024 bytes of l0b, not 2048"
    with pytest.raises(CompileError, match=rf"^c0: no tile of a matrix product fits .* of edge .*: {allowed}$"):
        compile_kernel(plain, shapes, load_chip("edge", _NARROW), the_isa(), Pins(ring_depth={"l0b": 2}))
    none = load_chip("edge", [*_NARROW, "core.l1_kib=1"])
    with pytest.raises(CompileError, match=r"^c0: .*; allowed: at most 1024 bytes of l1, not 1280$"):
        compile_kernel(plain, shapes, none, the_isa())


def test_inspections_show_the_slots() -> None:
    """Those of the images that are launched: every kind of program, and the kernels of a stack."""
    chip, isa = the_chip("edge"), the_isa()
    for made in (elements, product, kinds.softmax, kinds.activated, attention, *_LAYERS, picked):
        shapes = {name: each.shape for name, each in _inputs(made, _SIZES).items()}
        found = inspect_kernel(made, shapes, chip, isa, Pins(buffering="single"))
        assert {each.slots for s in found.segments for each in s.buffers if each.space != "gm"} == {1}
        images = [launch.image.to_bytes() for launch in found.compiled.launches]
        if len(found.segments) == len(images) == 1:
            assert found.segments[0].image.to_bytes() == images[0]
    stack = parallel(kinds.softmax, product)
    shapes = {each.name: tuple(_SIZES[str(dim)] for dim in each.type.shape) for each in stack.params}
    seen = inspect_stack(stack, shapes, chip, isa, "single")
    assert {each.slots for s in seen.segments for each in s.buffers if each.space != "gm"} == {1}
    _check_slots(compile_stack(stack, shapes, chip, isa, "single"), 1)
    assert compile_stack(stack, shapes, chip, isa, "single") is not compile_stack(stack, shapes, chip, isa)


def test_a_kernel_may_pin_it_itself() -> None:
    @kernel(x="fp16[M, N]")
    def body(k: KernelBuilder, x: ParamRef) -> None:
        k.pin(buffering="single")
        k.store(k.exp(k.load(x)), "y")

    shapes = {"x": (300, 200)}
    compiled = compile_kernel(body, shapes, the_chip("edge"), the_isa())
    assert {each.slots for each in ring_events(compiled.launches[0].image, the_isa())} == {1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"buffering": "triple"}, "pin buffering = 'triple' cannot be honoured; allowed: auto, single, double"),
        ({"buffering": 2}, "pin buffering = 2 cannot be honoured; allowed: auto, single, double"),
        (
            {"buffering": "single", "l1_depth": 2},
            "pin l1_depth = 2 cannot be honoured; allowed: 1 or less beside buffering = 'single'",
        ),
        (
            {"buffering": "double", "ring_depth": {"l0a": 3}},
            "pin ring_depth.l0a = 3 cannot be honoured; allowed: 2 or less beside buffering = 'double'",
        ),
        (
            {"buffering": "single", "l0c_parts": 2},
            "pin l0c_parts = 2 cannot be honoured; allowed: 1 or less beside buffering = 'single'",
        ),
    ],
)
def test_what_cannot_be_had_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match="cannot be honoured") as caught:
        Pins(**given)
    assert str(caught.value) == message
