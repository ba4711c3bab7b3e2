"""Every pin of a matrix product shows in its program, and the result stays right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.cube.cube_run import Case, check, run, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.codegen import MatmulKernel, compile_matmul
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Events, Pins
from npuvm.hw.hazards import HazardError
from npuvm.isa import Insn, VerifyError, decode_program

CHIP = the_chip("ascend_910b1")
CASE = Case(100, 90, 150, bias="fp16")


def insns(kernel: MatmulKernel, *ops: str) -> list[Insn]:
    return [insn for _, insn in decode_program(the_isa(), kernel.image.words) if insn.op in ops]


def sizes(kernel: MatmulKernel) -> dict[int, int]:
    """The full value of every size entry."""
    return {insn.args["size"]: insn.args["full"] for insn in insns(kernel, "szc", "szt", "sza")}


def test_tiles_per_level() -> None:
    pins = Pins(tile={"l1": (64, 96, 128), "l0": (32, 48, 32)})
    kernel, _ = check(CASE, CHIP, pins)
    assert (kernel.tile.l1, kernel.tile.l0) == ((64, 96, 128), (32, 48, 32))
    full = sizes(kernel)
    (product,) = insns(kernel, "mmac")
    assert [full[product.args[dim]] for dim in "mnk"] == [32, 48, 32]
    loads = {(full[i.args["rows"]], full[i.args["cols"]]) for i in insns(kernel, "ld")}
    assert {(64, 128), (128, 90)} <= loads, "n has one tile of 90 columns"


@st.composite
def pinned(draw: st.DrawFn) -> tuple[Case, Pins]:
    inner = tuple(16 * draw(st.integers(1, 3)) for _ in range(3))
    outer = tuple(size * draw(st.integers(1, 3)) for size in inner)
    size = st.integers(1, 150)
    case = Case(
        draw(size),
        draw(size),
        draw(size),
        draw(st.sampled_from(["fp16", "fp32"])),
        batch=tuple(draw(st.lists(st.integers(1, 3), max_size=1))),
        transpose_a=draw(st.booleans()),
        transpose_b=draw(st.booleans()),
        bias=draw(st.sampled_from([None, "fp16"])),
    )
    order = draw(st.sampled_from([None, "column", "swizzle"]))
    width = draw(st.integers(1, 3)) if order == "swizzle" else None
    transfer = {"a": (24, 48)} if draw(st.booleans()) else {}
    cores, start = draw(st.sampled_from([None, 1, 5])), draw(st.sampled_from([None, 1, 3]))
    tile = {"l1": outer, "l0": inner}
    return case, Pins(tile=tile, order=order, swizzle_width=width, cores=cores, start=start, transfer=transfer)


@settings(max_examples=40, deadline=None)
@given(case=pinned(), one_core_type=st.booleans())
def test_any_pinned_tile_is_right(case: tuple[Case, Pins], one_core_type: bool) -> None:
    check(case[0], the_chip("ascend_910a") if one_core_type else CHIP, case[1])


def test_one_pinned_level_leaves_the_other_to_the_compiler() -> None:
    outer, _ = check(CASE, CHIP, Pins(tile={"l1": (128, 256, 256)}))
    assert outer.tile.l1 == (128, 256, 256)
    inner, _ = check(CASE, CHIP, Pins(tile={"l0": (32, 32, 64)}))
    assert inner.tile.l0 == (32, 32, 64)
    large, _ = check(Case(256, 256, 512), the_chip("edge"), Pins(tile={"l1": (128, 64, 256)}))
    assert large.tile.l1 == (128, 64, 256)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (
            {"l1": (64, 64, 64), "l0": (48, 64, 64)},
            r"pin tile.l0 = \(48, 64, 64\) cannot .* an L0 m that divides the L1 m of 64",
        ),
        ({"l1": (64, 64, 60), "l0": (64, 64, 20)}, "an L0 k that divides the L1 k of 60 and is a multiple of 16"),
        ({"l1": (64, 64, 64), "l0": (128, 64, 64)}, "L0 m that divides"),
        (
            {"l1": (512, 512, 64)},
            r"pin tile.l1 = \(512, 512, 64\) cannot be honoured; allowed: at most 131072 bytes of l0c, not 1048576",
        ),
        ({"l0": (256, 128, 512)}, "pin tile.l0 .* bytes of l0a"),
        ({"vector": (8, 64)}, "pin tile.vector .* tile.l1 and tile.l0 for a matrix product"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_matmul(Case(600, 600, 600).spec(), 3, CHIP, the_isa(), Pins(tile=tile))


def test_depths_of_rings() -> None:
    pins = Pins(l1_depth=3, ring_depth={"l0a": 1, "l0b": 4, "l0c": 1, "l1.bias": 1}, tile={"l1": (32, 32, 32)})
    kernel, _ = check(CASE, CHIP, pins)
    slots = [insn.args["slots"] for insn in insns(kernel, "ring")]
    assert slots == [1, 3, 3, 1, 1, 4], "l0c, l1.a, l1.b, l1.bias, l0a, l0b"


def test_deeper_rings_change_the_time() -> None:
    case, tile = Case(64, 64, 1024), {"l1": (64, 64, 64)}
    shallow, deep = (check(case, CHIP, Pins(tile=tile, l1_depth=depth))[1].cycles for depth in (1, 4))
    assert deep < shallow


def test_ring_depth_must_agree_with_l1_depth() -> None:
    with pytest.raises(
        CompileError, match=r"ring_depth.l1.a = 4 cannot be honoured; allowed: 2, which pin l1_depth gives"
    ):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(l1_depth=2, ring_depth={"l1.a": 4}))


def test_cores() -> None:
    tile = {"l1": (16, 16, 64)}
    for cores in (1, 5, 24):
        kernel, _ = check(CASE, CHIP, Pins(cores=cores, tile=tile))
        assert len(kernel.image.entries) == cores
        assert {entry.core_type for entry in kernel.image.entries} == {"cube"}
    few, _ = check(Case(16, 16, 16), CHIP, Pins(cores=3))
    assert [entry.ranges for entry in few.image.entries] == [((0, 1),), ((0, 0),), ((0, 0),)]
    with pytest.raises(CompileError, match="pin cores = 25 cannot be honoured; allowed: at most 24 cores with a cube"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(cores=25))


def test_grid_of_cores() -> None:
    pins = Pins(grid=(2, 3), tile={"l1": (16, 16, 64)})
    kernel, _ = check(Case(100, 90, 150, batch=(2,)), CHIP, pins)
    assert len(kernel.image.entries) == 6
    tiles = [sum(stop - start for start, stop in entry.ranges) for entry in kernel.image.entries]
    assert tiles == [16, 16, 16, 12, 12, 12], "7 x 6 tiles in 2 batches: 4 or 3 rows of 2 columns"
    with pytest.raises(CompileError, match="pin grid"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(grid=(5, 5)))


def test_order() -> None:
    tile = {"l1": (16, 32, 64)}
    trips = {}
    for order, width in (("row", None), ("column", None), ("swizzle", 2)):
        kernel, _ = check(CASE, CHIP, Pins(order=order, swizzle_width=width, tile=tile))
        full = sizes(kernel)
        trips[order] = [[full[i.args[f"t{at}"]] for at in range(i.args["loops"])] for i in insns(kernel, "grid")]
    assert trips == {"row": [[7, 3]], "column": [[3, 7]], "swizzle": [[3, 3, 2], [3]]}


def test_start() -> None:
    pins = Pins(start=(0, 2), cores=2, tile={"l1": (16, 96, 160)})
    kernel, _ = check(CASE, CHIP, pins)
    assert [entry.ranges for entry in kernel.image.entries] == [((0, 4), (0, 0)), ((6, 7), (4, 6))]


def test_addresses() -> None:
    pins = Pins(address={"l1.b": 4096, "l0a": 1024}, tile={"l1": (16, 16, 32)})
    kernel, _ = check(CASE, CHIP, pins)
    bases = {(insn.args["space"], insn.args["base"]) for insn in insns(kernel, "desc")}
    assert (the_isa().spaces["l1"].code, 4096) in bases and (the_isa().spaces["l0a"].code, 1024) in bases
    with pytest.raises(CompileError, match=r"'l1\.a' at 524000"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(address={"l1.a": 524000}))
    with pytest.raises(CompileError, match=r"pin address.ub.c = 0 cannot be honoured; allowed: operands l1.a"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(address={"ub.c": 0}))


def test_cache_policies() -> None:
    kernel, _ = check(CASE, CHIP, Pins(cache={"b": "stream", "c": "stream"}))
    loads = [insn.args["cache"] for insn in insns(kernel, "ld") if insn.wait]
    assert loads == [0, 0, 1], "bias, a, b"
    assert [insn.args["cache"] for insn in insns(kernel, "fix")] == [1]


def test_transfer_shape() -> None:
    pins = Pins(transfer={"a": (16, 64), "b": (20, 90)}, tile={"l1": (64, 96, 128)})
    kernel, _ = check(CASE, CHIP, pins)
    loads = insns(kernel, "ld")
    assert len(loads) == 2 + 4 * 2 + 7, "ones, bias, a in 4 x 2 pieces, b in 7"
    with pytest.raises(CompileError, match=r"pin transfer.a = \(1, 1\) .* a multiple of 16"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(transfer={"a": (1, 1)}, tile={"l1": (64, 96, 128)}))
    with pytest.raises(CompileError, match="a tile of 80 x 128 into at most 48 pieces"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(transfer={"a": (1, 16)}, tile={"l1": (80, 96, 128)}))


def test_a_repeat_count_has_no_meaning_here() -> None:
    with pytest.raises(CompileError, match="pin repeat = 4 cannot be honoured"):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(repeat=4))


BY_HAND = Events(
    operands=("l0a", "l0b"),
    waits={"move.a": ("l0a.free",), "move.b": ("l0b.free",), "mma": ("l0a.ready", "l0b.ready")},
    sets={"move.a": ("l0a.ready",), "move.b": ("l0b.ready",), "mma": ("l0a.free", "l0b.free")},
)


def test_events_by_hand_replace_the_automatic_ones() -> None:
    case = Case(100, 90, 150)
    by_hand, _ = check(case, CHIP, Pins(events=BY_HAND))
    automatic, _ = check(case, CHIP)
    assert by_hand.image.words.tolist() == automatic.image.words.tolist()


def test_a_further_semaphore_can_hold_back_a_unit() -> None:
    throttle = Events(semaphores={"slow": 1}, waits={"load.a": ("slow",)}, sets={"cube.release": ("slow",)})
    case, tile = Case(256, 16, 16), {"l1": (16, 16, 16)}
    _, free = check(case, CHIP, Pins(cores=1, tile=tile))
    kernel, held = check(case, CHIP, Pins(cores=1, tile=tile, events=throttle))
    assert held.cycles > free.cycles
    assert len(insns(kernel, "sem")) == 1


def test_a_missing_wait_by_hand_is_found_by_verifier_and_simulator() -> None:
    waits = {site: names for site, names in BY_HAND.waits.items() if site != "mma"}
    broken = Events(BY_HAND.operands, {}, waits, BY_HAND.sets)
    with pytest.raises(VerifyError, match="the consumer of ring g3 uses a slot; allowed after a wait"):
        run(Case(100, 90, 150), CHIP, Pins(events=broken))
    with pytest.raises(HazardError, match="read after write in l0"):
        run(Case(100, 90, 150), CHIP, Pins(events=broken), verified=False)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (Events(("l2",)), "pin events.operands = 'l2' cannot be honoured; allowed: rings l0c"),
        (Events(waits={"multiply": ()}), "pin events.waits = 'multiply' .* sites load.a"),
        (Events(sets={"mma": ("x",)}), "pin events.sets.mma = 'x' .* semaphores l0c.ready"),
    ],
)
def test_events_of_unknown_names_are_refused(events: Events, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_matmul(CASE.spec(), 4, CHIP, the_isa(), Pins(events=events))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case(4, 4, 4, "int32"), "the cube of ascend_910b1 does not take int32"),
        (Case(4, 4, 4, "int8", "fp16"), "a product of int8 is int32 and cannot become fp16"),
        (Case(4, 4, 4, "fp16", bias="int8"), "a bias of int8 does not fit accumulators of fp32"),
    ],
)
def test_types_that_cannot_be_are_refused(case: Case, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_matmul(case.spec(), 4, CHIP, the_isa())
