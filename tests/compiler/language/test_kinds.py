"""Kernels that state their kind: what each becomes, what it refuses, against the interpreter on three chips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import (
    KTYPES,
    CompiledKernel,
    CompileError,
    Graph,
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    compile_kernel,
    interpret,
    kernel,
    parallel,
    parse_graph,
    print_graph,
    sequence,
)
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.program.kinds import for_shapes, stack_of_kernel

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]


@kernel(ktype="vector", x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    e = k.exp(k.load(x) - k.max(k.load(x), -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True))


@kernel(ktype="cube", x="fp16[M, K]", w="fp16[N, K]", bias="fp16[N]")
def project(k: KernelBuilder, x: ParamRef, w: ParamRef, bias: ParamRef) -> None:
    k.store(k.matmul(k.load(x), k.load(w), transpose_b=True, bias=k.load(bias)))


@kernel(ktype="mix", x="fp16[M, K]", w="fp16[K, N]")
def activated(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    k.store(k.silu(k.matmul(k.load(x), k.load(w))))


@kernel(ktype="parallel", x="fp16[M, K]", w="fp16[K, N]", y="fp16[A, B]")
def side_by_side(k: KernelBuilder, x: ParamRef, w: ParamRef, y: ParamRef) -> None:
    """Two parts that no value connects; a third one stores a view of what the first reads."""
    k.store(k.matmul(k.load(x), k.load(w)), "a")
    k.store(k.exp(k.load(y)) + 1.0, "b")
    k.store(k.reshape(k.load(x), (-1,)), "c")


@kernel(ktype="parallel", x="fp16[M, K]", w="fp16[K, N]", y="fp16[M, N]")
def stated_parts(k: KernelBuilder, x: ParamRef, w: ParamRef, y: ParamRef) -> None:
    k.part("mix")
    k.store(k.relu(k.matmul(k.load(x), k.load(w))), "a")
    k.part("vector")
    k.pin(cores=1)
    k.store(k.exp(k.load(y)), "b")
    k.store(k.neg(k.load(y)), "c")


@kernel(ktype="sequence", x="fp16[M, K]", w="fp16[K, N]", v="fp16[N, K]")
def layers(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef) -> None:
    k.part("mix")
    hidden = k.relu(k.matmul(k.load(x), k.load(w)))
    k.store(hidden, "hidden")
    k.part("cube")
    back = k.matmul(hidden, k.load(v))
    k.part()
    k.store(k.tanh(back) + k.load(x), "y")


@kernel(ktype="split", x="fp16[M, K]", w="fp16[K, N]")
def columns(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w))
    k.store(y - k.max(y, 0, keepdims=True))


@kernel(ktype="eager", x="fp16[M, N]", unused="fp16[M]")
def centred(k: KernelBuilder, x: ParamRef, unused: ParamRef) -> None:
    """What is done depends on the sizes."""
    value = k.load(x)
    for axis, size in enumerate(value.shape):
        if int(size) > 50:
            value = value - k.max(value, axis, keepdims=True)
    k.store(k.exp(value), "y")


_SIZES = {"M": 70, "K": 40, "N": 33, "A": 50, "B": 21}
_MADE = (softmax, project, activated, side_by_side, stated_parts, layers, columns, centred)
_KINDS = {"vector": {"vector"}, "cube": {"cube"}, "mix": {"mix"}}


def _shapes(made: Kernel, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {each.name: tuple(sizes[str(dim)] for dim in each.type.shape) for each in made.graph.params}


def _run(made: Kernel, sizes: Mapping[str, int], chip: str) -> CompiledKernel:
    """Compile, run with the verifier and the hazard checks, compare with the interpreter."""
    shapes = _shapes(made, sizes)
    rng = np.random.default_rng(7)
    inputs = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    compiled = compile_kernel(made, shapes, the_chip(chip), the_isa())
    ran = run_compiled(compiled, inputs, the_chip(chip))
    wanted = interpret(made.traced(shapes), inputs)
    assert list(compiled.outputs) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(
            ran.outputs[name].astype(np.float64), array.astype(np.float64), rtol=4e-3, atol=4e-3, err_msg=name
        )
    return compiled


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", _MADE, ids=lambda made: str(made.name))
def test_a_kind_becomes_what_it_says(made: Kernel, chip: str) -> None:
    compiled = _run(made, _SIZES, chip)
    ktype = made.graph.ktype
    assert len(compiled.launches) == 1
    if ktype in _KINDS:
        assert {each.kind for each in compiled.launches} == _KINDS[ktype]
    assert ktype in KTYPES
    again = compile_kernel(made, _shapes(made, _SIZES), the_chip(chip), the_isa())
    assert again is compiled or ktype == "split"


@pytest.mark.parametrize("made", [side_by_side, layers, centred], ids=lambda made: str(made.name))
@pytest.mark.parametrize("sizes", [{"M": 1, "N": 1}, {"K": 1, "A": 1}, {"M": 0}, {"N": 129, "M": 65}], ids=str)
def test_other_sizes(made: Kernel, sizes: dict[str, int]) -> None:
    _run(made, {**_SIZES, **sizes}, "edge")


def test_parts_run_on_cores_of_their_own() -> None:
    chip, isa = the_chip("ascend_910b1"), the_isa()
    sizes = {"M": 512, "K": 512, "N": 512}
    stack, shapes = for_shapes(stated_parts, _shapes(stated_parts, sizes))
    assert stack is stack_of_kernel(stated_parts) and stack is not None
    (launch,) = compile_kernel(stated_parts, shapes, chip, isa).launches
    assert launch.segment == "k0.c0+v0+k1.v0"
    busy = [entry for entry in launch.image.entries if any(stop > start for start, stop in entry.ranges)]
    assert len(busy) > 3 and len({entry.pc for entry in busy}) > 2


def test_a_mix_is_taken_whatever_its_estimate() -> None:
    """Where every size is one there is nothing to gain, yet it is one program; without columns there is none at all."""
    chip, isa = the_chip("ascend_910b1"), the_isa()

    def kinds(x: tuple[int, int], w: tuple[int, int]) -> list[str]:
        return [each.kind for each in compile_kernel(activated, {"x": x, "w": w}, chip, isa).launches]

    assert kinds((64, 64), (64, 64)) == ["mix"]
    assert kinds((64, 64), (64, 0)) == []


@pytest.mark.parametrize("made", _MADE[:-1], ids=lambda made: str(made.name))
def test_text_keeps_the_kind_and_the_parts(made: Kernel) -> None:
    text = print_graph(made.graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert (again.ktype, [(p.first, p.ktype) for p in again.parts]) == (
        made.graph.ktype,
        [(p.first, p.ktype) for p in made.graph.parts],
    )
    shapes = _shapes(made, _SIZES)
    chip, isa = the_chip("edge"), the_isa()
    if made is not stated_parts:  # pins are not part of the text
        images = [
            [each.image.to_bytes() for each in compile_kernel(m, shapes, chip, isa).launches] for m in (made, again)
        ]
        assert images[0] == images[1]


@kernel(ktype="parallel", x="fp16[M, K]", w="fp16[K, N]", v="fp16[N, K]")
def copied_beside(k: KernelBuilder, x: ParamRef, w: ParamRef, v: ParamRef) -> None:
    k.part("mix")
    k.pin(pad="always")
    k.store(k.relu(k.matmul(k.load(x), k.load(w))), "a")
    k.part()
    k.store(k.exp(k.load(v)), "b")


@pytest.mark.parametrize("ktype", ["parallel", "sequence"])
@pytest.mark.parametrize("chip", ["ascend_910b1", "ascend_910a"])
def test_a_mix_whose_operands_are_copied_stands_beside_others(ktype: str, chip: str) -> None:
    """On several cores it is of several programs, which are linked with those of the other parts one by one."""
    target = the_chip(chip)
    made = parse_graph(print_graph(copied_beside.graph).replace("ktype parallel", f"ktype {ktype}"))
    made.parts[0] = copied_beside.graph.parts[0]
    shapes = {"x": (33, 7), "w": (7, 31), "v": (31, 7)}
    rng = np.random.default_rng(5)
    inputs = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    compiled = compile_kernel(Kernel(made), shapes, target, the_isa())
    assert len(compiled.launches) == 1
    assert any("pad_" in name for name in compiled.launches[0].args)
    ran = run_compiled(compiled, inputs, target)
    for name, array in interpret(copied_beside.graph, inputs).items():
        np.testing.assert_allclose(
            ran.outputs[name].astype(np.float64), array.astype(np.float64), rtol=4e-3, atol=4e-3, err_msg=name
        )


def test_inspection_sees_the_parts() -> None:
    chip, isa = the_chip("edge"), the_isa()
    traced, shapes = for_shapes(centred, _shapes(centred, _SIZES))
    assert isinstance(traced, Kernel)
    assert len(inspect_kernel(traced, shapes, chip, isa).segments) == 2
    found = inspect_kernel(columns, _shapes(columns, _SIZES), chip, isa)
    assert len(found.compiled.launches) == 1 and len(found.segments) > 1


def test_stacked_kernels_stand_in_stacks() -> None:
    both = parallel(layers, softmax, name="both")
    assert {each.name for each in both.outputs} == {"hidden", "y", "out0"}
    with pytest.raises(CompileError, match="no operators before its sizes are known"):
        sequence(softmax, centred)


def _refused(ktype: str, function: Any, **params: str) -> CompileError:
    with pytest.raises(CompileError) as caught:
        kernel(ktype=ktype, **params)(function)
    return caught.value


def _product(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(x), k.load(x), transpose_b=True)))


def _line_of(function: Any) -> int:
    return int(function.__code__.co_firstlineno) + 1


@pytest.mark.parametrize(
    ("ktype", "operator", "allowed"), [("vector", "matmul", "'cube', 'mix', 'auto'"), ("cube", "relu", "conv2d")]
)
def test_an_operator_that_does_not_belong_is_named(ktype: str, operator: str, allowed: str) -> None:
    error = _refused(ktype, _product, x="fp16[M, K]")
    assert error.where == f"test_kinds.py:{_line_of(_product)}"
    assert error.message.startswith(f"{operator} (%") and allowed in error.message


def test_what_a_kind_lacks_is_named() -> None:
    def copy(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.load(x))

    def bare(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.matmul(k.load(x), k.load(x), transpose_b=True))

    assert "needs a matmul" in _refused("cube", copy, x="fp16[M]").message
    assert "needs an operator of the vector unit" in _refused("mix", bare, x="fp16[M, K]").message
    assert "allowed: auto, vector, cube, mix, parallel" in _refused("fast", copy, x="fp16[M]").message


def test_a_cube_kernel_makes_no_copies() -> None:
    @kernel(ktype="cube", x="fp16[M, K]", w="fp16[K, N]")
    def strided(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        k.store(k.matmul(k.load(x)[:, ::2], k.load(w)[::2]))

    with pytest.raises(CompileError, match="needs the vector unit: v0, a copy of slice"):
        compile_kernel(strided, {"x": (8, 8), "w": (8, 8)}, the_chip("edge"), the_isa())


def test_a_mix_of_several_programs_is_refused() -> None:
    @kernel(ktype="mix", x="fp16[M, K]", w="fp16[K, N]")
    def two(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        y = k.matmul(k.load(x), k.load(w))
        k.store(y - k.max(y, 0, keepdims=True))

    with pytest.raises(CompileError, match=r"'mix' is 3 programs; .* stands apart") as caught:
        compile_kernel(two, {"x": (8, 8), "w": (8, 8)}, the_chip("edge"), the_isa())
    assert caught.value.where is not None and caught.value.where.startswith("test_kinds.py:")


def test_two_mixes_are_no_mix() -> None:
    """Each of the two launches is a mix: rows before a product, and rows before the next one."""

    @kernel(ktype="mix", q="fp16[S, D]", key="fp16[T, D]", value="fp16[T, D]")
    def scaled_first(k: KernelBuilder, q: ParamRef, key: ParamRef, value: ParamRef) -> None:
        scores = k.matmul(k.load(q) * 0.125, k.load(key), transpose_b=True)
        risen = k.exp(scores - k.max(scores, -1, keepdims=True))
        k.store(k.matmul(risen / k.sum(risen, -1, keepdims=True), k.load(value)))

    with pytest.raises(CompileError, match=r"'mix' is 2 programs; v1\+c1, .* stands apart"):
        compile_kernel(scaled_first, {"q": (77, 64), "key": (131, 64), "value": (131, 64)}, the_chip("edge"), the_isa())


def test_what_an_operation_becomes_has_its_line() -> None:
    def right(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        k.store(k.matmul(k.load(x), k.silu(k.load(w))))

    made = kernel(ktype="mix", x="fp16[M, K]", w="fp16[K, N]")(right)
    with pytest.raises(CompileError, match="stands apart") as caught:
        compile_kernel(made, {"x": (8, 8), "w": (8, 8)}, the_chip("edge"), the_isa())
    assert caught.value.where == f"test_kinds.py:{_line_of(right)}"


def test_parts_that_depend_on_each_other_are_refused() -> None:
    def through(k: KernelBuilder, x: ParamRef) -> None:
        k.part()
        y = k.exp(k.load(x))
        k.store(y, "y")
        k.part()
        k.store(k.neg(y), "z")

    def joined(k: KernelBuilder, x: ParamRef) -> None:
        y = k.exp(k.load(x))
        k.store(y + 1.0, "a")
        k.store(y - 1.0, "b")

    def idle(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.exp(k.load(x)))
        k.part()
        k.neg(k.load(x))

    error = _refused("parallel", through, x="fp16[M]")
    assert "neg (%3) in part 1" in error.message and "takes exp (%1, test_kinds.py:" in error.message
    assert "parts that do not depend on each other" in _refused("parallel", joined, x="fp16[M]").message
    assert "says where its parts begin" in _refused("sequence", joined, x="fp16[M]").message
    assert "part 1 of kernel 'idle' stores nothing" in _refused("sequence", idle, x="fp16[M]").message
    assert "k.part in kernel 'through' of ktype = 'vector'" in _refused("vector", through, x="fp16[M]").message


def test_pins_that_contradict_the_kind_are_refused() -> None:
    def pinned(k: KernelBuilder, x: ParamRef) -> None:
        k.pin(stack="sequence")
        k.store(k.exp(k.load(x)))

    assert "pin stack = 'sequence'" in _refused("vector", pinned, x="fp16[M]").message
    assert "belong to its parts" in _refused("parallel", pinned, x="fp16[M]").message
    chip, isa = the_chip("edge"), the_isa()
    for made, stack in ((activated, "launches"), (columns, "mix"), (side_by_side, "launches"), (centred, "launches")):
        with pytest.raises(CompileError, match="cannot be honoured"):
            compile_kernel(made, _shapes(made, _SIZES), chip, isa, Pins(stack=stack))
    kept = compile_kernel(softmax, _shapes(softmax, _SIZES), chip, isa, Pins(stack="launches"))
    assert [each.kind for each in kept.launches] == ["vector"]


def test_sizes_are_checked_across_parts() -> None:
    @kernel(ktype="parallel", x="fp16[M]", y="fp16[M]")
    def both(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        k.store(k.exp(k.load(x)), "a")
        k.store(k.exp(k.load(y)), "b")

    with pytest.raises(CompileError, match="M is 3 from"):
        compile_kernel(both, {"x": (3,), "y": (4,)}, the_chip("edge"), the_isa())


def test_a_graph_made_by_hand_is_checked() -> None:
    graph = parse_graph(print_graph(activated.graph))
    wrong = Graph(graph.name, graph.params, graph.nodes, ktype="vector")
    with pytest.raises(CompileError, match=r"matmul .* cannot stand"):
        compile_kernel(wrong, {"x": (8, 8), "w": (8, 8)}, the_chip("edge"), the_isa())
    with pytest.raises(CompileError, match="cannot stand"):
        parse_graph(print_graph(activated.graph).replace("ktype mix", "ktype vector"))
