"""The `@kernel` builder: what it records, and errors that point at the kernel's source line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npuvm.compiler import CompileError, Kernel, KernelBuilder, ParamRef, Pins, Value, compile_kernel, kernel
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa


def line_of(marker: str) -> str:
    """`file:line` of the line of this file that ends with the marker."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.endswith(marker))
    return f"test_builder.py:{number}"


def test_operators_and_scalars() -> None:
    @kernel(x="fp16[M, N]", y="fp16[N]")
    def combine(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        a, b = k.load(x), k.load(y)
        k.store(-(1.0 - a) / (b**2) + abs(a * 3) - (2 / b))
        k.store((a > b) & ~(a <= 0.5) | (b > 1.0), name="mask")

    ops = [node.op for node in combine.graph.nodes]
    assert ops[:3] == ["load", "load", "const"]
    assert combine.graph.nodes[2].number() == 1.0
    assert [str(output.type) for output in combine.graph.outputs] == ["fp16[M, N]", "bool[M, N]"]
    assert [output.name for output in combine.graph.outputs] == ["out0", "mask"]
    assert combine.output_shapes({"x": (2, 3), "y": (3,)}) == {"out0": (2, 3), "mask": (2, 3)}


def test_sizes_that_do_not_fit_point_at_their_line() -> None:
    @kernel(x="fp16[N]", y="fp16[N]")
    def behind(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        both = k.load(x) + k.load(y)
        _, rest = k.split(both, (3, -1), 0)  # too short
        k.store(rest)

    @kernel(x="fp16[N, C, H, W]", w="fp16[O, C, 3, 3]")
    def layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
        k.store(k.conv2d(k.load(x), k.load(w)))

    with pytest.raises(CompileError, match="-1 is no size") as caught:
        behind.bind({"x": (2,), "y": (2,)})
    assert caught.value.where == line_of("# too short")
    with pytest.raises(CompileError, match="-1 is no size") as caught:
        layer.bind({"x": (1, 4, 2, 2), "w": (4, 4, 3, 3)})
    assert caught.value.where == "layer"


def test_a_parameter_is_loaded_once() -> None:
    @kernel(x="fp32[M]")
    def twice(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.load(x) + k.load(x))

    assert [node.op for node in twice.graph.nodes] == ["load", "add", "store"]


def test_every_method_gives_the_expected_type() -> None:
    @kernel(x="fp16[M, N]", w="fp16[N, N]", b="fp32[N]", m="bool[M, N]")
    def everything(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, m: ParamRef) -> None:
        v, mask = k.load(x), k.load(m)
        for method in (k.exp, k.log, k.sqrt, k.rsqrt, k.reciprocal, k.relu, k.floor, k.ceil, k.rint, k.trunc, k.sign):
            assert str(method(v).type) == "fp16[M, N]"
        for method in (k.tanh, k.sigmoid, k.silu, k.softplus, k.erf, k.gelu, k.neg, k.abs):
            assert str(method(v).type) == "fp16[M, N]"
        for pair in (k.eq, k.ne, k.lt, k.le, k.gt, k.ge):
            assert pair(v, 1).dtype == "bool"
        assert k.isfinite(v).dtype == k.logical_not(mask).dtype == k.logical_xor(mask, mask).dtype == "bool"
        assert str(k.select(mask, v, 0.0).type) == "fp16[M, N]"
        assert str(k.cast(v, "int32").type) == "int32[M, N]"
        assert k.cast(v, "fp16") is v
        assert str(k.broadcast_to(k.load(b), "M, N").type) == "fp32[M, N]"
        assert str(k.sum(v).type) == "fp16[]"
        assert str(k.mean(v, -1).type) == "fp16[M]"
        assert str(k.max(v, (0,), keepdims=True).type) == "fp16[1, N]"
        assert str(k.transpose(v).type) == "fp16[N, M]"
        assert str(k.matmul(v, k.load(w), transpose_b=True, bias=k.load(b)).type) == "fp16[M, N]"
        assert str((v @ k.load(w)).type) == "fp16[M, N]"
        assert str(k.size("M, N").type) == "fp32[]"
        assert str(k.asm("vexp.fp16 dst={out} a={0} rows={rows} cols={cols}", v).type) == "fp16[M, N]"
        assert str(k.reshape(v, "-1, M").type) == "fp16[N, M]"
        k.store(k.maximum(v, 0) + k.minimum(v, 1))


def trace_error(body: str) -> str:
    """The error that a one-operation kernel on x: fp16[M, N] and i: int32[M] gives."""

    def build(k: KernelBuilder, x: ParamRef, i: ParamRef) -> None:
        eval(body, {"k": k, "x": x, "i": i, "v": k.load(x), "j": k.load(i)})

    with pytest.raises(CompileError) as caught:
        kernel(x="fp16[M, N]", i="int32[M]")(build)
    assert caught.value.where is not None
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("v + j", "different dtypes"),
        ("k.exp(x)", "load it first with k.load(x)"),
        ("k.exp(3.0)", "takes a value of the kernel"),
        ("k.add(1, 2)", "one side must be a value"),
        ("j + 1.5", "the scalar 1.5 is no int32"),
        ("j + 2**31", "does not fit int32"),
        ("j & True", "no int32"),
        ("j + None", "the scalar None is no int32"),
        ("v + 'a'", "the scalar 'a' is no fp16"),
        ("v + 10**400", "is no fp16"),
        ("v + 1j", "the scalar 1j is no fp16"),
        ("x + 1.0", "load it first with k.load(x)"),
        ("-x", "load it first with k.load(x)"),
        ("k.sum(v, 'M')", "must be whole numbers"),
        ("k.sum(v, 0.0)", "must be whole numbers"),
        ("k.permute(v, (1.0, 0))", "must be whole numbers"),
        ("k.reshape(v, (2.0, -1))", "must be whole numbers or names"),
        ("k.broadcast_to(v, 3)", "must be whole numbers or names"),
        ("k.load(v)", "load takes a parameter"),
        ("k.load(x, cache='never')", "cache must be"),
        ("k.store(v, name='x')", "must be a new identifier"),
        ("k.broadcast_to(v, 'M, K')", "unknown dimension 'K'"),
        ("k.broadcast_to(j, 'M, N')", "do not broadcast"),
        ("k.reshape(v, 'A, B')", "at most one"),
        ("k.permute(v, (0, 0))", "no order of the 2 dims"),
        ("k.transpose(j)", "rank 2 or more"),
        ("k.sum(v, (2,))", "within the 2 dims"),
        ("k.gelu(v, 'erf')", "'none' or 'tanh'"),
        ("k.const(1, 'fp64')", "unknown dtype"),
        ("k.topk(v, -1)", "topk: -1 is no size"),
        ("k.cast(v, 'fp64')", "unknown dtype"),
        ("bool(v)", "no truth value"),
        ("k.asm('vexp')", "at least one input"),
        ("k.asm(' ', v)", "at least one instruction"),
        ("v @ v", "inner dims"),
        ("k.exp(v)", "stores nothing"),
    ],
)
def test_errors_say_what_is_allowed(body: str, message: str) -> None:
    assert message in trace_error(body)


def test_errors_point_at_the_line_of_the_kernel() -> None:
    def build(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        a = k.load(x)
        k.store(a + k.load(y))  # the wrong line

    with pytest.raises(CompileError) as caught:
        kernel(x="fp16[M]", y="fp16[N]")(build)
    assert caught.value.where == line_of("# the wrong line")


def test_signature_must_name_the_parameters() -> None:
    def build(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.load(x))

    with pytest.raises(CompileError, match=r"takes \(x\) after the builder, but types are given for \(y\)"):
        kernel(y="fp16[M]")(build)


def test_values_of_another_kernel_are_refused() -> None:
    kept: list[Value] = []

    def first(k: KernelBuilder, x: ParamRef) -> None:
        kept.append(k.load(x))
        k.store(kept[0])

    def second(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.load(x) + kept[0])

    assert isinstance(kernel(x="fp16[M]")(first), Kernel)
    with pytest.raises(CompileError, match="another kernel"):
        kernel(x="fp16[M]")(second)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fp64[M]", "x: unknown dtype 'fp64'; allowed: fp32, fp16,"),
        ("fp16[M", "x: 'fp16[M' is no tensor type; write it as dtype[dim, ...]"),
        (3, "x=3 is no tensor type; write it as 'dtype[dim, ...]' or a TensorType"),
    ],
)
def test_wrong_types_point_at_the_kernel(given: Any, message: str) -> None:
    def build(k: KernelBuilder, x: ParamRef) -> None:  # of a wrong type
        k.store(k.load(x))

    with pytest.raises(CompileError) as caught:
        kernel(x=given)(build)
    assert message in caught.value.message
    assert caught.value.where == line_of("# of a wrong type")


def test_pins_are_kept_with_the_graph() -> None:
    @kernel(x="fp16[M]")
    def pinned(k: KernelBuilder, x: ParamRef) -> None:
        k.pin(cores=2, tile={"vector": (1, 64)})
        k.pin(cores=3)
        k.store(k.exp(k.load(x)))

    assert pinned.graph.pins == Pins(cores=3, tile={"vector": (1, 64)})
    program = compile_kernel(pinned, {"x": (1000,)}, load_chip("ascend_910b1"), load_isa())
    assert len(program.launches[0].image.entries) == 3
    given = compile_kernel(pinned, {"x": (1000,)}, load_chip("ascend_910b1"), load_isa(), Pins(cores=1))
    assert len(given.launches[0].image.entries) == 1


@pytest.mark.parametrize(
    ("pins", "message"),
    [({"core": 2}, "unknown pin 'core'; pins: tile,"), ({"cores": 0}, "pin cores = 0 cannot be honoured")],
)
def test_wrong_pins_point_at_the_kernel(pins: dict[str, int], message: str) -> None:
    def build(k: KernelBuilder, x: ParamRef) -> None:
        k.pin(**pins)  # the pin

    with pytest.raises(CompileError) as caught:
        kernel(x="fp16[M]")(build)
    assert message in caught.value.message
    assert caught.value.where == line_of("# the pin")
