"""Machine code chooses what Python chooses: the same kernels word for word, on every chip."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from importlib import import_module
from math import inf
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from benchmarks.compiling.kernels import KERNELS, Shapes, Subject, draw
from tests.compiler.cube.test_cube_chooser import _problem, _product
from tests.compiler.vector.test_interleaved import CHIP, segment_of
from tests.compiler.vector.test_interleaved_rows import scaled
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import CompiledKernel, CompileError, Pins, compile_kernel
from npuvm.compiler.cube.candidates import Asked, By
from npuvm.compiler.cube.chooser import TileChooser as ProductChooser
from npuvm.compiler.cube.problem import ProductSizes
from npuvm.compiler.emit import template
from npuvm.compiler.emit.symint import SymInt, compile_values
from npuvm.compiler.native import loading
from npuvm.compiler.native.loading import load_native, loaded, unload_native
from npuvm.compiler.relay import native as relay_native
from npuvm.compiler.vector.choice import TileChooser
from npuvm.compiler.vector.family import VectorFamily
from npuvm.hw.config import load_chip
from npuvm.isa import RelocTable

pytest.importorskip("numba")

_SHAPES = 40
_BY_NAME = {each.name: each for each in KERNELS}


@pytest.fixture(autouse=True)
def in_python() -> Iterator[None]:
    """Without machine code, before and behind a test."""
    unload_native()
    yield
    unload_native()


def drawn(name: str) -> list[Shapes]:
    """Random shapes of a kernel, the same in each call."""
    source = random.Random(name)
    return [draw(_BY_NAME[name], source) for _ in range(_SHAPES)]


def images(kernel: CompiledKernel) -> list[tuple[object, ...]]:
    """All that a launch does, and the tensors."""
    return [
        (each.kind, each.args, each.image.to_bytes(), [tuple(e.ranges) for e in each.image.entries])
        for each in kernel.launches
    ] + [(each,) for each in kernel.tensors]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "name",
    [
        "attention",
        "gelu_mlp",
        "matmul_bias",
        "matmul_bias_gelu",
        "layernorm",
        "masked_softmax",
        "scale_rows",
        "column_sum",
        "middle_mean",
        "transpose_add",
        "chain_8",
    ],
)
def test_machine_code_makes_the_same_kernels(name: str, chip: str) -> None:
    shapes = drawn(name)
    npu, isa = the_chip(chip), the_isa()
    plain = _BY_NAME[name].make()
    expected = [images(compile_kernel(plain, each, npu, isa)) for each in shapes]
    load_native()
    fast = _BY_NAME[name].make()
    for each, images_of in zip(shapes, expected, strict=True):
        assert images(compile_kernel(fast, each, npu, isa)) == images_of, each


def test_blocks_of_relays_are_chosen_by_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    choose = relay_native.NativeChooser.choose

    def noted(self: relay_native.NativeChooser, numbers: tuple[int, ...]) -> object:
        asked.append(numbers)
        return choose(self, numbers)

    monkeypatch.setattr(relay_native.NativeChooser, "choose", noted)
    load_native()
    attention = _BY_NAME["attention"].make()
    for each in drawn("attention"):
        compile_kernel(attention, each, the_chip(CHIPS[0]), the_isa())
    assert len(asked) == _SHAPES
    assert all(max(each) < relay_native.MOST for each in asked)


@pytest.mark.parametrize("chip", CHIPS)
def test_machine_code_shares_a_small_l1_among_products_as_python_does(chip: str) -> None:
    npu, isa, shapes = load_chip(chip, ["core.l1_kib=48", "core.count=2"]), the_isa(), drawn("attention")
    attention = _BY_NAME["attention"].make()
    expected = [images(compile_kernel(attention, each, npu, isa, Pins(stack="mix"))) for each in shapes]
    load_native()
    attention = _BY_NAME["attention"].make()
    for each, images_of in zip(shapes, expected, strict=True):
        assert images(compile_kernel(attention, each, npu, isa, Pins(stack="mix"))) == images_of, each


def test_tiles_of_vector_segments_are_chosen_by_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    load_native()
    softmax, mean = _BY_NAME["softmax"].make(), _BY_NAME["middle_mean"].make()
    compile_kernel(softmax, drawn("softmax")[0], the_chip(CHIPS[0]), the_isa())
    compile_kernel(mean, drawn("middle_mean")[0], the_chip(CHIPS[0]), the_isa())
    monkeypatch.setattr(TileChooser, "_searched", lambda *_: pytest.fail("searched in Python"))
    for each in drawn("softmax")[1:]:
        compile_kernel(softmax, each, the_chip(CHIPS[0]), the_isa())
    for each in drawn("middle_mean")[1:]:
        compile_kernel(mean, each, the_chip(CHIPS[0]), the_isa())


@pytest.mark.parametrize("native", [False, True])
def test_the_tile_of_pieces_is_shown_and_not_taken(native: bool) -> None:
    if native:
        load_native()
    family = VectorFamily(segment_of(scaled()), ("M", "N"), CHIP, the_isa())
    sizes = 1027, 256
    taken = family.instance(sizes)
    seen = family.chosen(sizes)
    assert taken is not None
    assert seen is not None
    assert seen.grids
    assert seen.pieces is not None
    assert seen.pieces.cycles > seen.choice.cycles
    again = family.instance(sizes)
    assert again is not None
    assert again[0].to_bytes() == taken[0].to_bytes()
    small = family.chosen((8, 8))
    assert small is not None
    assert small.pieces is None


def test_a_relay_of_one_product_reads_its_right_operand_once() -> None:
    """One that has room in L2, but would have none twice: the estimate decides between a relay and launches of its parts."""

    def body(k: Any, x: Any, w: Any) -> None:
        k.store(k.matmul(k.gelu(k.load(x), approximate="tanh"), k.load(w)))

    npu, isa = the_chip("edge"), the_isa()
    subject = Subject("gelu_matmul", 2, {"x": "fp16[M, K]", "w": "fp16[K, N]"}, body)
    shapes = [{"x": (8, depth), "w": (depth, 3551)} for depth in (150, 200, 250, 290)]
    made = subject.make()
    expected = [images(compile_kernel(made, each, npu, isa)) for each in shapes]
    load_native()
    made = subject.make()
    assert [images(compile_kernel(made, each, npu, isa)) for each in shapes] == expected


def test_long_rows_are_left_to_python() -> None:
    """Rows that have no room, and sizes whose products are past what a float counts."""
    npu, isa = the_chip(CHIPS[1]), the_isa()
    long, wide = ((1 << 30) + 5, 3), (1, 1 << 23, 1 << 22)
    cases: list[tuple[str, Shapes]] = [
        ("chain_8", {"x": long, "y": long}),
        ("scale_rows", {"x": wide, "scale": (1, 1 << 23, 1)}),
    ]
    for name, shapes in cases:
        expected = images(compile_kernel(_BY_NAME[name].make(), shapes, npu, isa))
        load_native()
        assert images(compile_kernel(_BY_NAME[name].make(), shapes, npu, isa)) == expected
        unload_native()


def test_sizes_without_end_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_native.NativeChooser, "choose", lambda *_: pytest.fail("chosen by machine code"))
    load_native()
    shapes = {"q": (1, 1, 1 << 31, 64), "keys": (1, 1, 64, 64), "values": (1, 1, 64, 64)}
    made = compile_kernel(_BY_NAME["attention"].make(), shapes, the_chip(CHIPS[0]), the_isa())
    assert made.launches


def test_a_value_that_does_not_fit_its_field_is_refused_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    place = template._Place(0, 4, 8, -3, 100, "the field")
    field = template._Field(0, place, SymInt.variable("x"))

    def made() -> template.Template:
        words = np.array([0xF00000000000000F], dtype=np.uint64)
        relocs = RelocTable([], [], [])
        function = compile_values(["x"], [SymInt.variable("x")])
        return template.Template("t", "", words, [field], [0], relocs, [], 0, (), function)

    plain = made()
    load_native()
    fast = made()
    for value in (-3, -1, 0, 99, 100):
        assert plain.instance((value,))[0].tolist() == fast.instance((value,))[0].tolist()
        assert fast.instance((value,))[0][0] == 0xF00000000000000F | (value & 0xFF) << 4
    for value in (-4, 101):
        with pytest.raises(CompileError, match=f"the field is {value}; allowed: -3 to 100"):
            fast.instance((value,))


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("block_kernel", "compiling"):
        monkeypatch.delitem(sys.modules, f"npuvm.compiler.native.{name}", raising=False)
    with pytest.raises(CompileError, match=r"npuvm\[fast\]"):
        load_native()
    assert loaded() is None


def test_loading_is_for_kernels_that_are_planned_later() -> None:
    assert loaded() is None
    found = load_native()
    assert load_native() is found and found.label.startswith("numba ")
    assert loaded() is found and loading.loaded() is found
    unload_native()
    assert loaded() is None


def test_constants_from_elsewhere_are_in_the_name_of_machine_code() -> None:
    """Kernels that were compiled with others lie in the cache of an installation that has been changed since."""
    compiling = import_module("npuvm.compiler.native.compiling")
    source = import_module("npuvm.compiler.native.tile_kernel").choose_tile.py_func

    def named(**others: object) -> str:
        function = FunctionType(source.__code__, {**source.__globals__, **others}, "choose_tile")
        name: str = compiling._digest(function)
        return name

    assert named() == named()
    assert named(WAVES=(1.0, 2.0)) != named() != named(LANES=128)


@pytest.mark.parametrize("chip", CHIPS)
def test_tiles_of_products_are_those_of_python(chip: str) -> None:
    """Of few and of many rounds, rows at blocks and off them, and where steps at L0 are given."""
    problem = _problem(_product(64, 64, 64), chip)
    plain = ProductChooser(problem, 24)
    load_native()
    fast = ProductChooser(problem, 24)
    source, found = random.Random(chip), 0
    for _ in range(150):
        m, n, k = (int(2 ** source.uniform(0, high)) for high in (14, 14, 12))
        a_gap, b_gap = (source.choice((0, 0, 2, 34)) for _ in range(2))
        sizes = ProductSizes(m, n, k, source.choice((1, 1, 7)), 2 * k + a_gap, 2 * n + b_gap)
        assert fast.choose(sizes) == plain.choose(sizes), sizes
        for step in (1, 16, 24, 64, k):
            assert fast.choose_in_steps(sizes, step) == plain.choose_in_steps(sizes, step), (sizes, step)
            found += fast.choose_in_steps(sizes, step) is not None
    assert 150 < found < 450


def test_tiles_of_products_with_long_sums_are_those_of_python() -> None:
    """Behind the last interval of k costs are prolonged, and may be no bounds of each other."""
    problem = _problem(_product(64, 64, 64), "ascend_910b1")
    plain = ProductChooser(problem, 24)
    load_native()
    fast = ProductChooser(problem, 24)
    source = random.Random("long")
    for _ in range(60):
        m, n, k = (int(2 ** source.uniform(*each)) for each in ((0, 13), (0, 13), (15, 22)))
        a_gap, b_gap = (source.choice((0, 2, 32)) for _ in range(2))
        sizes = ProductSizes(m, n, k, 1, 2 * k + a_gap, 2 * n + b_gap)
        assert fast.choose(sizes) == plain.choose(sizes), sizes


def test_constants_of_parts_are_in_the_name_of_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that calls parts of another module has that module's constants compiled in."""
    compiling = import_module("npuvm.compiler.native.compiling")
    tiles = import_module("npuvm.compiler.native.tile_kernel")
    source = import_module("npuvm.compiler.native.chunk_kernel").choose_chunks.py_func
    before = compiling._digest(source)
    monkeypatch.setattr(tiles, "WAVES", (1.0, 2.0))
    assert compiling._digest(source) != before


@pytest.mark.parametrize("by", By)
def test_tiles_of_parts_of_products_are_those_of_python(by: By) -> None:
    problem = _problem(_product(64, 64, 64), "ascend_910b1")
    plain = ProductChooser(problem, 24)
    load_native()
    fast = ProductChooser(problem, 24)
    source, found = random.Random(str(by)), 0
    for _ in range(200):
        m, n, k = (16 * int(2 ** source.uniform(0, high)) for high in (9, 9, 8))
        sizes = ProductSizes(m, n, k, 1, 2 * k, 2 * n)
        tile = fast.choose(sizes)
        most = source.choice(((m, n), (128, 256), (48, 96)))
        asked = Asked(by, tile.l0[2], min(m, most[0]), most[1], source.choice((inf, tile.cycles / 1.02)))
        assert fast.part(sizes, asked) == plain.part(sizes, asked), (sizes, asked)
        found += fast.part(sizes, asked) is not None
    assert 30 < found < 190


def test_columns_without_end_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number times that of matrices is no longer exact as a float."""
    problem = _problem(_product(64, 64, 64), "ascend_910b1")
    load_native()
    chooser = ProductChooser(problem, 24)
    asked: list[ProductSizes] = []
    by_machine_code = ProductChooser._by_machine_code

    def noted(self: ProductChooser, sizes: ProductSizes, *rest: int, finer: bool = False) -> object:
        asked.append(sizes)
        return by_machine_code(self, sizes, *rest, finer=finer)

    monkeypatch.setattr(ProductChooser, "_by_machine_code", noted)
    small = ProductSizes(64, 1 << 40, 64, 1 << 12, 128, 1 << 41)
    chooser.choose(small)
    chooser.choose(small._replace(batch=1 << 13))
    assert asked == [small]
