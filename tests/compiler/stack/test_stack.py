"""Stacked kernels on the simulator: the same bits as apart, in one launch, verified, without hazards, on three chips."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from benchmarks.stacking import attention, gelu_mlp, product, softmax
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import (
    CompiledKernel,
    CompileError,
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    Renamed,
    Stack,
    compile_kernel,
    compile_stack,
    interpret,
    kernel,
    parallel,
    renamed,
    sequence,
)
from npuvm.compiler.program.compiled import Launch, TensorSpec
from npuvm.compiler.stack.compile import stack_parts
from npuvm.compiler.stack.launch import in_one_launch, joined_launches
from npuvm.compiler.stack.link import Linkage, Part, grid_words, link, most_phases
from npuvm.hw.config import load_chip
from npuvm.hw.hazards import HazardError
from npuvm.isa import Entry, Image
from npuvm.isa.codec import decode_program

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]

_SEQUENCE = Pins(stack="sequence")
_LAUNCHES = Pins(stack="launches")


@kernel(x="fp16[M, N]", b="fp16[M, N]")
def add(k: KernelBuilder, x: ParamRef, b: ParamRef) -> None:
    k.store(k.load(x) + k.load(b), "y")


@kernel(x="fp16[M, N]")
def columns(k: KernelBuilder, x: ParamRef) -> None:
    """Two segments: a sum over rows, and what uses it over columns."""
    value = k.load(x)
    k.store(value - k.sum(value, 0, keepdims=True) * 0.125, "y")


def _inputs(made: Kernel | Stack, shapes: Shapes, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    params = made.params if isinstance(made, Stack) else made.graph.params
    return {each.name: (rng.standard_normal(shapes[each.name]) / 4).astype(np.float16) for each in params}


def _apart(stack: Stack, tensors: dict[str, Array], chip_name: str) -> dict[str, Array]:
    """Every tensor of a stack by its name, each kernel compiled for the whole chip and run for itself."""
    known = dict(tensors)
    for member in stack.members:
        made = member.kernel
        params = made.params if isinstance(made, Stack) else made.graph.params
        inputs = {each.name: known[member.outer(each.name)] for each in params}
        if isinstance(made, Stack):
            outputs = {name: value for name, value in _apart(made, inputs, chip_name).items() if name not in inputs}
        else:
            shapes = {name: array.shape for name, array in inputs.items()}
            compiled = compile_kernel(made, shapes, the_chip(chip_name), the_isa())
            outputs = run_compiled(compiled, inputs, the_chip(chip_name)).outputs
        known |= {member.outer(name): value for name, value in outputs.items()}
    return known


def _check_stack(stack: Stack, shapes: Shapes, chip_name: str) -> CompiledKernel:
    inputs = _inputs(stack, shapes)
    compiled = compile_stack(stack, shapes, the_chip(chip_name), the_isa())
    got = run_compiled(compiled, inputs, the_chip(chip_name)).outputs
    want = _apart(stack, inputs, chip_name)
    assert got.keys() == {each.name for each in stack.outputs}
    for name, array in got.items():
        np.testing.assert_array_equal(array, want[name])
    return compiled


# The segments of one kernel.


@pytest.mark.parametrize("chip_name", CHIPS)
@pytest.mark.parametrize(
    ("made", "shapes"),
    [
        (gelu_mlp, {"x": (67, 48), "w": (48, 130), "b": (130,), "v": (130, 48)}),
        (attention, dict.fromkeys("qpv", (3, 50, 32))),
        (columns, {"x": (300, 40)}),
    ],
    ids=["gelu_mlp", "attention", "columns"],
)
def test_segments_in_one_launch_give_the_same_bits(made: Kernel, shapes: Shapes, chip_name: str) -> None:
    chip, inputs = the_chip(chip_name), _inputs(made, shapes)
    apart = compile_kernel(made, shapes, chip, the_isa(), _LAUNCHES)
    together = in_one_launch(apart, chip, the_isa())
    assert len(apart.launches) > 1
    assert len(together.launches) == 1
    assert together.launches[0].kind == "stack"
    assert len(compile_kernel(made, shapes, chip, the_isa(), _SEQUENCE).launches) == 1
    one, other = run_compiled(apart, inputs, chip), run_compiled(together, inputs, chip)
    np.testing.assert_array_equal(one.outputs["y"], other.outputs["y"])
    # A barrier of the launch costs less than half a microsecond; nothing else is added.
    further = chip.core.sequencer.barrier_cycles + chip.core.sync.launch_cycles + 100
    assert other.cycles[0] <= sum(one.cycles) + further * (len(apart.launches) - 1)


def test_the_same_shapes_give_the_same_object() -> None:
    shapes = {"x": (300, 40)}
    first = compile_kernel(columns, shapes, the_chip("edge"), the_isa(), _SEQUENCE)
    assert compile_kernel(columns, shapes, the_chip("edge"), the_isa(), _SEQUENCE) is first
    pinned = replace(_SEQUENCE, repeat=512)
    assert len(compile_kernel(columns, shapes, the_chip("edge"), the_isa(), pinned).launches) == 1


def test_tensors_that_launches_do_not_touch_change_nothing_about_how_they_are_linked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Counted(Linkage):
        def __init__(self, name: str, *rest: Any) -> None:
            made.append(name)
            super().__init__(name, *rest)

    monkeypatch.setattr("npuvm.compiler.stack.launch.Linkage", Counted)
    apart = compile_kernel(columns, {"x": (300, 40)}, the_chip("edge"), the_isa(), _LAUNCHES)
    other = TensorSpec("other", "workspace", "fp16", (8,))
    first, second = (
        joined_launches("untouched", tensors, apart.launches, the_chip("edge"), the_isa())
        for tensors in (apart.tensors, (other, *apart.tensors))
    )
    assert made == ["untouched.0"]
    assert first[0].args == second[0].args
    np.testing.assert_array_equal(first[0].image.words, second[0].image.words)


def test_launches_that_touch_the_same_are_linked_as_their_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of levels and cores serves images of all lengths; each is linked as if no other had come before."""
    apart = [
        compile_kernel(columns, {"x": shape}, the_chip("edge"), the_isa(), _LAUNCHES).launches
        for shape in ((300, 40), (300, 1), (3, 40), (300, 40))
    ]
    assert len({tuple(len(each.image.words) for each in launches) for launches in apart}) == 3
    assert len({tuple((each.segment, each.args) for each in launches) for launches in apart}) == 1
    kinds = (("x", "param"), ("ws0", "workspace"), ("y", "output"))
    tensors = [TensorSpec(name, kind, "fp16", ()) for name, kind in kinds]

    def linked(launches: Sequence[Launch]) -> Image:
        (made,) = joined_launches("alike", tensors, launches, the_chip("edge"), the_isa())
        return made.image

    after_others = [linked(launches) for launches in apart]
    for launches, image in zip(apart, after_others, strict=True):
        monkeypatch.setattr("npuvm.compiler.stack.launch._STACKS", OrderedDict())
        assert linked(launches).to_bytes() == image.to_bytes()


def test_a_kernel_of_one_segment_stays_what_it_is() -> None:
    shapes = {"x": (30, 40)}
    plain = compile_kernel(softmax, shapes, the_chip("edge"), the_isa())
    assert compile_kernel(softmax, shapes, the_chip("edge"), the_isa(), _SEQUENCE).launches == plain.launches
    empty = compile_kernel(softmax, {"x": (0, 40)}, the_chip("edge"), the_isa(), _SEQUENCE)
    assert empty.launches == ()


def test_workspace_is_used_again_in_several_launches_too() -> None:
    shapes = dict.fromkeys("qpv", (4, 64, 32))
    compiled = compile_kernel(attention, shapes, the_chip("ascend_910b1"), the_isa())
    spaces = [each for each in compiled.tensors if each.kind == "workspace"]
    assert compiled.workspace_bytes <= sum(-(-each.nbytes // 512) * 512 for each in spaces)
    inputs = _inputs(attention, shapes)
    q, p, v = (inputs[name].astype(np.float64) for name in "qpv")
    scores = np.exp(q @ p.swapaxes(1, 2) * 0.125)
    want = scores / scores.sum(-1, keepdims=True) @ v
    got = run_compiled(compiled, inputs, the_chip("ascend_910b1")).outputs["y"]
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=0.02, atol=0.01)


# Stacks by hand.

_SIDE_BY_SIDE = parallel(
    renamed(product, x="a", w="b", y="ab"),
    renamed(softmax, x="s", y="soft"),
    renamed(add, x="s", b="t", y="sum"),
    name="side_by_side",
)
_CHAIN = sequence(
    renamed(product, x="a", w="b", y="h"),
    renamed(softmax, x="h", y="p"),
    renamed(product, x="p", w="c", y="q"),
    renamed(add, x="q", b="h", y="out"),
    keep=("p",),
    name="chain",
)
_SHAPES = {"a": (61, 40), "b": (40, 97), "c": (97, 97), "s": (17, 150), "t": (17, 150)}


@pytest.mark.parametrize("chip_name", CHIPS)
def test_side_by_side(chip_name: str) -> None:
    chip = the_chip(chip_name)
    compiled = _check_stack(_SIDE_BY_SIDE, {name: _SHAPES[name] for name in "abst"}, chip_name)
    (launch,) = compiled.launches
    assert len(launch.image.entries) <= len(chip.core_types())
    if chip.core.count > 1:
        # Each has cores of its own: no core runs the program of two, so no barrier is needed.
        ops = [insn.op for _, insn in decode_program(the_isa(), launch.image.words)]
        assert "barrier" not in ops
        assert len({entry.pc for entry in launch.image.entries}) >= 3


@pytest.mark.parametrize("chip_name", CHIPS)
def test_one_after_the_other(chip_name: str) -> None:
    compiled = _check_stack(_CHAIN, {name: _SHAPES[name] for name in "abc"}, chip_name)
    assert len(compiled.launches) == 1
    assert [each.name for each in compiled.tensors if each.kind == "workspace" and "." not in each.name] == ["h", "q"]


@pytest.mark.parametrize("chip_name", ["ascend_910b1", "edge"])
def test_stacks_of_stacks(chip_name: str) -> None:
    other = sequence(renamed(columns, x="s", y="c0"), renamed(softmax, x="c0", y="done"))
    both = parallel(_CHAIN, other, renamed(add, x="s", b="t", y="sum"))
    assert len(_check_stack(both, _SHAPES, chip_name).launches) == 1
    after = sequence(both, renamed(columns, x="out", y="last"))
    assert len(_check_stack(after, _SHAPES, chip_name).launches) == 1


@st.composite
def _stacks(draw: st.DrawFn) -> tuple[Stack, Shapes]:
    """A chain or a set of kernels over matrices of one size, each with inputs from what there is."""
    rows = draw(st.sampled_from([0, 1, 2, 7, 16, 33, 127, 129]))
    cols = draw(st.sampled_from([1, 2, 7, 16, 33, 127, 129]))  # a maximum over nothing has no value
    chain = draw(st.booleans())
    shapes = {"i0": (rows, cols), "i1": (rows, cols), "w": (cols, cols)}
    known = ["i0", "i1"]
    members: list[Renamed] = []
    for number in range(draw(st.integers(1, 5))):
        made = draw(st.sampled_from([product, softmax, add, columns]))
        names = {"x": draw(st.sampled_from(known)), "y": f"o{number}"}
        if made is add:
            names["b"] = draw(st.sampled_from(known))
        if chain:
            known.append(f"o{number}")
        members.append(Renamed(made, names))
    keep = tuple(draw(st.sets(st.sampled_from([f"o{i}" for i in range(len(members))])))) if chain else ()
    stack = sequence(*members, keep=keep) if chain else parallel(*members)
    return stack, {each.name: shapes[each.name] for each in stack.params}


@settings(max_examples=8, deadline=None)
@given(_stacks(), st.sampled_from(CHIPS))
def test_random_stacks(case: tuple[Stack, Shapes], chip_name: str) -> None:
    stack, shapes = case
    assert len(_check_stack(stack, shapes, chip_name).launches) <= 1


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CompileError, match="'z' is neither parameter nor output; there are: x, b, y"):
        renamed(add, z="q")
    with pytest.raises(CompileError, match="output 'y' has the name of an output before; rename it"):
        parallel(softmax, renamed(columns, x="z"))
    with pytest.raises(CompileError, match="output 'y' has the name of a parameter before"):
        parallel(softmax, renamed(columns, x="y", y="z"))
    with pytest.raises(CompileError, match="keep: no output 'q'; there are: y"):
        sequence(softmax, keep=("q",))
    with pytest.raises(CompileError, match="the number of dims must be the same"):
        parallel(softmax, renamed(attention, q="x", y="z"))
    with pytest.raises(CompileError, match="sequence needs at least one kernel"):
        sequence()
    chip = the_chip("edge")
    with pytest.raises(CompileError, match="no shape for parameter 'b'"):
        compile_stack(parallel(add), {"x": (2, 2)}, chip, the_isa())
    with pytest.raises(CompileError, match="no parameter 'q'; parameters: x"):
        compile_stack(parallel(softmax), {"x": (2, 2), "q": (2, 2)}, chip, the_isa())
    with pytest.raises(CompileError, match="N"):
        compile_stack(parallel(add), {"x": (2, 2), "b": (2, 3)}, chip, the_isa())
    with pytest.raises(CompileError, match="pin stack = 'both'"):
        Pins(stack="both")


# The linker.


def test_more_grids_than_phases_make_several_launches() -> None:
    many = sequence(*[renamed(softmax, x=f"v{i}", y=f"v{i + 1}") for i in range(34)])
    compiled = _check_stack(many, {"v0": (9, 20)}, "edge")
    assert most_phases(the_isa()) == 32
    assert [launch.segment for launch in compiled.launches] == ["k0.v0..k31.v0", "k32.v0+k33.v0"]


def test_without_the_barrier_there_is_a_hazard() -> None:
    chip, shapes = the_chip("ascend_910b1"), {"x": (30, 40)}
    apart = compile_kernel(columns, shapes, chip, the_isa())
    names = list(dict.fromkeys(name for launch in apart.launches for name in launch.args))
    parts = [Part(launch.image, {}, [names.index(name) for name in launch.args]) for launch in apart.launches]

    def ran(levels: list[list[Part]]) -> Array:
        image = link("s", the_isa(), chip.group_core_types, levels, len(names))
        joined = replace(apart, launches=(Launch("s", "stack", image, tuple(names)),))
        return run_compiled(joined, _inputs(columns, shapes), chip).outputs["y"]

    want = run_compiled(apart, _inputs(columns, shapes), chip).outputs["y"]
    np.testing.assert_array_equal(ran([[part] for part in parts]), want)
    with pytest.raises(HazardError, match="gm"):
        ran([parts])


def test_grids_are_found_without_their_note() -> None:
    compiled = compile_kernel(columns, {"x": (300, 40)}, the_chip("ascend_910a"), the_isa(), _SEQUENCE)
    image = compiled.launches[0].image
    assert image.grids is not None
    assert list(image.grids) == list(grid_words(the_isa(), replace(image, grids=None)))
    decoded = dict(decode_program(the_isa(), image.words))
    assert list(image.grids) == [at for at, insn in decoded.items() if insn.op == "grid"]


def test_only_programs_that_end_in_halt_are_linked() -> None:
    image = compile_kernel(softmax, {"x": (9, 20)}, the_chip("edge"), the_isa()).launches[0].image
    with pytest.raises(CompileError, match="does not end in halt"):
        link("s", the_isa(), ("unified",), [[Part(replace(image, words=image.words[:-1]), {}, (0, 1))]], 2)
    twice = Image("t", image.isa_hash, image.words, (Entry("unified", 0), Entry("unified", 2)))
    with pytest.raises(CompileError, match="cores of one type run different programs"):
        link("s", the_isa(), ("unified",), [[Part(twice, {}, ())]], 0)


@kernel(ktype="parallel", x="fp16[M, K]", w="fp16[K, N]", v="fp16[N, K]")
def two_mixes(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef) -> None:
    k.part("mix")
    k.store(k.relu(k.matmul(k.load(x), k.load(w))), "h")
    k.part("auto")
    k.store(k.exp(k.load(v)), "e")
    k.part("mix")
    k.store(k.exp(k.matmul(k.load(x), k.load(w))), "z")


@kernel(x="fp16[M, K]", w="fp16[K, N]", v="fp16[N, K]")
def beside(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(x), k.load(w))), "h")
    k.store(k.exp(k.matmul(k.load(x), k.load(w))), "z")
    k.store(k.exp(k.load(v)), "e")


@pytest.mark.parametrize("count", [1, 2, 3, 24])
def test_mixes_that_share_a_core_group_run_one_after_the_other(count: int) -> None:
    """Semaphores of a group are set up by each of them."""
    chip = load_chip("ascend_910b1", [f"core.count={count}"])
    rng = np.random.default_rng(0)
    shapes = {"x": (70, 64), "w": (64, 400), "v": (400, 64)}
    inputs = {name: (rng.standard_normal(shape) / 8).astype(np.float16) for name, shape in shapes.items()}
    for made, pins in ((two_mixes, None), (beside, Pins(stack="sequence"))):
        compiled = compile_kernel(made, shapes, chip, the_isa(), pins)
        assert len(compiled.launches) == 1
        got = run_compiled(compiled, inputs, chip).outputs
        for name, want in interpret(made.graph, inputs).items():
            np.testing.assert_allclose(got[name].astype(np.float64), want.astype(np.float64), atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("asked", [False, True])
def test_parts_of_a_chip_have_its_library_whether_or_not_its_hash_was_asked_for(asked: bool) -> None:
    """The hash is made when it is first asked for, and a copy of the chip would have one of its own."""
    chip = load_chip("ascend_910a")
    if asked:
        assert chip.chip_hash
    shapes = {name: size for name, size in _SHAPES.items() if name != "c"}
    parts = stack_parts(_SIDE_BY_SIDE, shapes, chip, the_isa())
    assert all(each.chip.core.count < chip.core.count for each in parts)
    assert {each.chip.chip_hash for each in parts} == {chip.chip_hash}
