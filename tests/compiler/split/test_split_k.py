"""Products whose k cores share in parts: against numpy on three chips, with pins, and where estimates decide."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.padding.test_padding import (
    batched,
    filled,
    flipped,
    made_for,
    mixed,
    permuted,
    plain,
    whole_numbers,
)
from tests.compiler.stack_run import run_compiled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompileError, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, interpret, kernel
from npuvm.compiler.emit.template import TemplateWriter
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.hw.config import load_chip
from npuvm.runtime import Device

_SIZES = st.sampled_from([1, 2, 15, 16, 17, 33, 100, 129])
_NEVER = Pins(split_k=1)


@kernel(a="fp16[M, K]", b="fp16[K, N]", bias="fp32[N]")
def kept(k: KernelBuilder, a: ParamRef, b: ParamRef, bias: ParamRef) -> None:
    """The product itself is an output beside what is computed of it."""
    product = k.matmul(k.load(a), k.load(b), bias=k.load(bias))
    k.store(product, "p")
    k.store(k.exp(product), "y")


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def twice(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """The product beside itself: vector code copies it and computes nothing."""
    product = k.matmul(k.load(a), k.load(b))
    k.store(k.concat([product, product], -1), "y")


def close(made: Kernel, sizes: dict[str, int], chip: str, pins: Pins | None) -> int:
    """Compare outputs with the interpreter's; the number of launches."""
    dtypes = {each.name: each.type.info.numpy for each in made.graph.params}
    inputs = {name: each.astype(dtypes[name]) for name, each in filled(made, sizes).items()}
    compiled = made_for(made, inputs, chip, pins)
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs
    for name, want in interpret(made.graph, inputs).items():
        np.testing.assert_allclose(
            got[name].astype(np.float64), np.asarray(want, dtype=np.float64), atol=8e-3, rtol=8e-3
        )
    return len(compiled.launches)


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=8, deadline=None)
@given(m=_SIZES, n=_SIZES, length=st.sampled_from([1, 7, 16, 48]), parts=st.integers(2, 6), rest=st.integers(0, 5))
def test_a_product_in_parts_is_that_of_numpy(chip: str, m: int, n: int, length: int, parts: int, rest: int) -> None:
    inputs = filled(plain, {"M": m, "N": n, "K": length * parts + rest})
    compiled = made_for(plain, inputs, chip, Pins(split_k=parts))
    added = parts + ((length * parts + rest) % parts > 0)
    assert len(compiled.launches) == 1
    assert [each.shape for each in compiled.tensors if each.kind == "workspace"] == [(added, m, n)]
    got = run_compiled(compiled, inputs, the_chip(chip)).outputs["y"].astype(np.float64)
    want = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
    np.testing.assert_allclose(got, want, atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", [flipped, batched, permuted, mixed, kept, twice], ids=lambda each: each.name)
def test_other_products_in_parts(made: Kernel, chip: str) -> None:
    rng = random.Random(f"{made.name} {chip}")
    sizes = {
        "B": rng.choice((1, 2)),
        "H": rng.choice((1, 3)),
        "K": 4 * rng.choice((16, 17, 40)) + rng.choice((0, 1, 3)),
    }
    sizes |= {name: rng.choice((1, 13, 33, 70)) for name in ("M", "N")}
    assert close(made, sizes, chip, Pins(split_k=4)) == 1


def test_with_other_pins() -> None:
    sizes = {"M": 33, "N": 50, "K": 256}
    assert close(plain, sizes, "ascend_910b1", Pins(split_k=4, tile={"l1": (16, 32, 32), "l0": (16, 32, 16)})) == 1
    assert close(plain, sizes, "edge", Pins(split_k=2, cores=1)) == 1
    assert close(mixed, sizes, "ascend_910a", Pins(split_k=8, stack="sequence")) == 1
    assert close(plain, sizes, "ascend_910b1", Pins(split_k=8, stack="launches")) == 2
    assert close(plain, sizes | {"K": 257}, "ascend_910b1", Pins(split_k=8, stack="launches")) == 3
    assert close(mixed, sizes | {"K": 257}, "ascend_910a", Pins(split_k=8, stack="sequence")) == 1
    assert close(plain, sizes, "ascend_910b1", Pins(split_k=2, pad="always")) == 1


@pytest.mark.parametrize("depth", [1024, 1031])
def test_bits_do_not_depend_on_the_number_of_cores(depth: int) -> None:
    """Parts are added in their order; the tile is pinned, for k at L0 is the order within a part."""
    inputs = filled(plain, {"M": 40, "N": 90, "K": depth})
    pins = Pins(split_k=8, tile={"l1": (16, 32, 64), "l0": (16, 32, 64)})
    shapes = {name: each.shape for name, each in inputs.items()}
    found = []
    for count in (1, 7, 24):
        chip = load_chip("ascend_910b1", [f"core.count={count}"])
        found.append(run_compiled(compile_kernel(plain, shapes, chip, the_isa(), pins), inputs, chip).outputs["y"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def cycles(pins: Pins | None, chip: str, sizes: dict[str, int]) -> int:
    device = Device(the_chip(chip), timing_only=True)
    shapes = {each.name: evaluate(each.type.shape, sizes) for each in plain.graph.params}
    device.run(plain, {name: device.empty(shape, "fp16") for name, shape in shapes.items()}, pins=pins)
    return device.launches[0].result.cycles


@pytest.mark.parametrize("chip", ["ascend_910b1", "ascend_910a"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (7, 384, 1536),
        (64, 768, 3072),
        (300, 1280, 1920),
        (160, 3200, 640),
        (31, 128, 500),
        (7, 384, 1531),
        (33, 64, 8191),
    ],
)
def test_cores_share_k_where_that_pays(chip: str, m: int, n: int, k: int) -> None:
    sizes = {"M": m, "N": n, "K": k}
    taken, whole = cycles(None, chip, sizes), cycles(_NEVER, chip, sizes)
    assert taken <= 1.1 * whole
    if m <= 64 and k > 500:
        assert taken < 0.7 * whole


@pytest.mark.parametrize(
    ("chip", "m", "n", "k", "parts"),
    [("ascend_910b1", 3, 384, 384, 6), ("ascend_910b1", 7, 256, 512, 8), ("ascend_910a", 16, 384, 384, 4)],
)
def test_short_parts_of_small_products(chip: str, m: int, n: int, k: int, parts: int) -> None:
    """What the compiler takes is little slower than parts of less than a hundred elements of k."""
    sizes = {"M": m, "N": n, "K": k}
    assert cycles(None, chip, sizes) <= 1.02 * cycles(Pins(split_k=parts), chip, sizes)


def test_few_cores_and_many_tiles_do_not_share_k() -> None:
    for chip, sizes in (
        ("edge", {"M": 7, "N": 384, "K": 1536}),
        ("ascend_910b1", {"M": 2048, "N": 2048, "K": 2048}),
        ("ascend_910b1", {"M": 7, "N": 384, "K": 64}),
    ):
        made = made_for(plain, filled(plain, sizes), chip, Pins(pad="never"))
        assert made.workspace_bytes == 0


@pytest.mark.parametrize(("m", "n", "k"), [(176, 46, 1392), (32, 16, 14_496), (64, 64, 2032)])
def test_parts_begin_on_blocks(m: int, n: int, k: int) -> None:
    """Rows lie on blocks of 16 elements, of which k has a number that few numbers of parts divide."""
    shapes = {"a": (m, k), "b": (k, n)}
    parts, *_ = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa()).segments
    length = int(parts.split.partition("parts of ")[2].split()[0].rstrip(","))
    assert length % 16 == 0


def test_what_is_empty_is_not_split() -> None:
    for sizes in ({"M": 0, "N": 3, "K": 16}, {"M": 2, "N": 3, "K": 0}):
        for pins in (None, Pins(split_k=4), Pins(split_k=4, cores=1)):
            close(plain, sizes, "ascend_910b1", pins)


def test_it_is_explained() -> None:
    shapes = {"a": (7, 1536), "b": (1536, 384)}
    found = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa(), Pins(split_k=12))
    product, join = found.segments
    assert (product.name, join.name) == ("c0.parts", "c0.sum")
    assert product.split.startswith("k in 12 parts of 128, with their sum ")
    assert product.tiling is not None
    assert product.tiling.cores == 24
    assert product.tiling.tiles % 12 == 0
    left = inspect_kernel(
        plain, {"a": (7, 1543), "b": (1543, 384)}, the_chip("ascend_910b1"), the_isa(), Pins(split_k=12)
    )
    assert [each.name for each in left.segments] == ["c0.parts", "c0.parts.rest", "c0.sum"]
    assert all(each.split.startswith("k in 12 parts of 128 and one of 7, with their sum ") for each in left.segments)
    chosen = inspect_kernel(plain, shapes, the_chip("ascend_910b1"), the_isa())
    assert [each.name for each in chosen.segments] == ["c0.parts", "c0.sum"]


def test_pins_that_cannot_be_honoured() -> None:
    chip, shapes = the_chip("ascend_910b1"), {"a": (7, 100), "b": (100, 30)}
    with pytest.raises(
        CompileError, match="pin split_k = 101 cannot be honoured; allowed: 1 to 100, the k of this product"
    ):
        compile_kernel(plain, shapes, chip, the_isa(), Pins(split_k=101))
    with pytest.raises(CompileError, match="pin split_k = 0 cannot be honoured; allowed: 1 or more"):
        Pins(split_k=0)
    with pytest.raises(CompileError, match="pin split_k = 2 cannot be honoured; allowed: 1: this product"):
        compile_kernel(whole_numbers, shapes, chip, the_isa(), Pins(split_k=2))


def test_kinds_that_are_one_program_share_k_only_where_that_is_pinned() -> None:
    chip = the_chip("ascend_910b1")
    product = kernel(ktype="cube", a="fp16[M, K]", b="fp16[K, N]")(plain_body)
    mix = kernel(ktype="mix", a="fp16[M, K]", b="fp16[K, N]")(mix_body)
    shapes = {"a": (7, 1536), "b": (1536, 384)}
    for made, kind in ((product, "cube"), (mix, "mix")):
        assert [each.kind for each in compile_kernel(made, shapes, chip, the_isa()).launches] == [kind]
        assert len(inspect_kernel(made, shapes, chip, the_isa()).segments) == 1
    split = compile_kernel(product, shapes, chip, the_isa(), Pins(split_k=4))
    assert [each.kind for each in split.launches] == ["stack"]


def plain_body(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b)), "y")


def mix_body(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.relu(k.matmul(k.load(a), k.load(b))), "y")


@pytest.mark.parametrize("made", [plain, mixed], ids=["product", "mix"])
def test_a_shape_that_is_split_waits_for_no_template(made: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it needs was made with the first shape of the kernel, which was not split."""
    fresh = replace(made.graph)
    small = {"a": (2, 3), "b": (3, 5), "residual": (2, 5)}
    names = {each.name for each in fresh.params}
    first = compile_kernel(fresh, {name: small[name] for name in names}, the_chip("ascend_910b1"), the_isa())
    assert [each.kind for each in first.launches] != ["stack"]
    written: list[str] = []
    monkeypatch.setattr(TemplateWriter, "template", lambda self, name, *rest: written.append(name))
    large = {"a": (64, 4096), "b": (4096, 256), "residual": (64, 256)}
    split = compile_kernel(fresh, {name: large[name] for name in names}, the_chip("ascend_910b1"), the_isa())
    assert [each.kind for each in split.launches] == ["stack"]
    assert not written


@pytest.mark.parametrize("barrier", [300, 20_000])
def test_parts_wait_for_the_barrier_of_the_chip(barrier: int) -> None:
    """64 x 4096 x 64 is in parts where a barrier takes hundreds of cycles, and whole where it takes longer than the product."""
    chip = load_chip("ascend_910b1", [f"core.sync.launch_cycles={barrier}"])

    def taken(pins: Pins | None) -> int:
        device = Device(chip, timing_only=True)
        device.run(plain, {"a": device.empty((64, 4096), "fp16"), "b": device.empty((4096, 64), "fp16")}, pins=pins)
        return device.launches[0].result.cycles

    assert (taken(None) < taken(_NEVER)) == (barrier == 300)
    assert taken(None) <= taken(_NEVER)
