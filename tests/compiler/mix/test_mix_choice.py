"""Whether a product and what follows it share a program, held against the simulator, which times both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.stack_run import run_compiled

from npuvm.compiler import CompiledKernel, Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.compiler.emit.template import TemplateWriter
from npuvm.compiler.program.family import KernelFamily
from npuvm.compiler.program.joint_launches import mix_of
from npuvm.compiler.vector.launches import Weighed
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import load_isa

ISA = load_isa()
QUICK_HOST = ["host.launch_us=0.001"]
"""A host that needs no time for a launch: then two launches save what the last tile of a mix waits for."""

Shapes = dict[str, tuple[int, ...]]


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp32[M, 1]")
def scaled(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef) -> None:
    k.store(k.cast(k.cast(k.matmul(k.load(x), k.load(w)), "fp32") * k.load(b), "fp16"), "y")


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", r="fp16[M, N]")
def gelu(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, r: ParamRef) -> None:
    k.store(k.gelu(k.matmul(k.load(x), k.load(w)) + k.load(b), approximate="tanh") + k.load(r), "y")


def shapes_of(made: Kernel, m: int, k: int, n: int) -> Shapes:
    sizes = {"M": m, "K": k, "N": n}
    return {
        each.name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in made.graph.params
    }


def weighed(made: Kernel, shapes: Shapes, chip: NpuConfig, *, linked: bool = False) -> Weighed:
    found = KernelFamily(made.graph, chip, ISA, padding="never", split=1).looked(shapes)
    mix = mix_of(found.launches.of(0))  # type: ignore[arg-type]
    assert mix is not None
    return mix.weighed(found.values, linked=linked)


def simulated(made: CompiledKernel, chip: NpuConfig) -> list[int]:
    """Cycles of the launches of a second call."""
    windows: dict[str, tuple[int, int]] = {}
    at = 0
    for each in made.tensors:
        windows[each.name] = at, each.nbytes
        at += -(-each.nbytes // 512) * 512
    l2 = l2_state(chip)
    cycles: list[int] = []
    for _ in range(2):
        cycles = []
        for launch in made.launches:
            own = [windows[name] for name in launch.args]
            places = [address for address, _ in own]
            ran = simulate(chip, ISA, launch.image, addresses=places, windows=own, data=False, l2=l2)
            cycles.append(ran.cycles)
    return cycles


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    ("made", "m", "k", "n"),
    [(gelu, 64, 32, 48), (scaled, 560, 16, 400), (scaled, 64, 144, 16), (gelu, 112, 96, 208), (scaled, 176, 200, 176)],
)
def test_what_is_taken_is_hardly_slower_than_the_other(
    chip: str, quick: bool, made: Kernel, m: int, k: int, n: int
) -> None:
    config = load_chip(chip, QUICK_HOST if quick else [])
    shapes = shapes_of(made, m, k, n)
    host = float(config.us_to_cycles(config.host.launch_us))
    times = {}
    for taken, mixing in ((True, "always"), (False, "never")):
        family = KernelFamily(made.graph, config, ISA, mixing=mixing, padding="never", split=1)  # type: ignore[arg-type]
        *before, last = simulated(family.apart(shapes), config)
        times[taken] = sum(max(host, each) for each in before) + last
    assert times[weighed(made, shapes, config).taken] <= 1.06 * min(times.values())


def test_results_of_one_column_are_no_rows_for_the_vector_unit() -> None:
    """A mix takes an instruction for each row of its product; a launch of its own takes elements that lie in a line."""
    chip = load_chip("edge")
    shapes = shapes_of(gelu, 1000, 16, 1)
    apart = compile_kernel(gelu, shapes, chip, ISA)
    assert [each.kind for each in apart.launches] == ["cube", "vector"]
    (mix,) = simulated(compile_kernel(gelu, shapes, chip, ISA, Pins(stack="mix")), chip)
    assert mix > 8 * sum(simulated(apart, chip))


def test_one_core_walks_rows_where_a_product_alone_would_walk_columns() -> None:
    """A mix has no program that walks columns: there was no template for it."""
    chip = load_chip("edge")
    (made,) = compile_kernel(gelu, shapes_of(gelu, 523, 232, 8192), chip, ISA, Pins(stack="mix")).launches
    assert made.kind == "mix"


def test_a_slow_host_makes_one_launch_of_them_and_a_quick_one_two() -> None:
    shapes = shapes_of(scaled, 560, 16, 400)
    kinds = {}
    for name, changed in (("slow", []), ("quick", QUICK_HOST)):
        made = compile_kernel(scaled, shapes, load_chip("ascend_910b1", changed), ISA)
        kinds[name] = [each.kind for each in made.launches]
    assert kinds == {"slow": ["mix"], "quick": ["cube", "vector"]}


def test_a_declined_mix_has_the_bits_of_one() -> None:
    chip = load_chip("ascend_910b1", QUICK_HOST)
    shapes = shapes_of(scaled, 560, 16, 400)
    rng = np.random.default_rng(4)
    inputs: dict[str, np.ndarray[Any, Any]] = {
        name: rng.standard_normal(shape).astype(np.float32 if name == "b" else np.float16)
        for name, shape in shapes.items()
    }
    outputs = []
    for pins, want in ((None, ["cube", "vector"]), (Pins(stack="mix"), ["mix"])):
        made = compile_kernel(scaled, shapes, chip, ISA, pins)
        assert [each.kind for each in made.launches] == want
        outputs.append(run_compiled(made, inputs, chip).outputs["y"])
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_launches_that_are_linked_are_decided_for_themselves() -> None:
    """One family, asked for both: the host has no part in what is one launch, but a barrier of all cores has."""
    chip = load_chip("ascend_910b1")
    family = KernelFamily(scaled.graph, chip, ISA, padding="never", split=1)
    shapes = shapes_of(scaled, 560, 16, 400)
    alone, linked = family.compile(shapes), family.apart(shapes)
    assert [each.kind for each in alone.launches] == ["mix"]
    assert [each.kind for each in linked.launches] == ["cube", "vector"]
    same = shapes_of(scaled, 16, 16, 16)
    assert family.compile(same) is family.apart(same)


def test_a_shape_that_declines_waits_for_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of the parts were made with the first shape of the kernel, for which operands were copied."""
    family = KernelFamily(scaled.graph, load_chip("ascend_910b1"), ISA)
    copied = family.compile(shapes_of(scaled, 1091, 1923, 1057))
    assert [each.kind for each in copied.launches] == ["stack"]
    written: list[str] = []
    monkeypatch.setattr(TemplateWriter, "template", lambda self, name, *rest: written.append(name))
    apart = family.apart(shapes_of(scaled, 560, 16, 400))
    assert [each.kind for each in apart.launches] == ["cube", "vector"]
    assert not written


def test_pin_mix_is_never_declined() -> None:
    chip = load_chip("ascend_910b1", QUICK_HOST)
    for sizes in ((560, 16, 400), (64, 144, 16)):
        made = compile_kernel(scaled, shapes_of(scaled, *sizes), chip, ISA, Pins(stack="mix"))
        assert [each.kind for each in made.launches] == ["mix"]


def test_estimates_of_both_ways_are_near_the_simulator() -> None:
    """On one core the vector unit's part hides behind the product only as far as its queue is long."""
    chip = load_chip("edge")
    for sizes in ((64, 256, 512), (333, 16, 421), (128, 512, 256)):
        shapes = shapes_of(gelu, *sizes)
        found = weighed(gelu, shapes, chip)
        (cycles,) = simulated(compile_kernel(gelu, shapes, chip, ISA, Pins(stack="mix")), chip)
        assert found.taken
        assert 0.8 * cycles <= found.together <= 1.3 * cycles
