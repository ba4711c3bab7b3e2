"""The instruction builder: tables, addresses, synchronisation that overflows a head, relocations."""

from __future__ import annotations

import pytest

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Window, changed, first
from npuvm.compiler.errors import CompileError
from npuvm.isa import Insn, Isa, decode_program, format_insn, load_isa

CAPACITIES = {"ub": 1024, "l1": 4096}


@pytest.fixture(scope="module")
def isa() -> Isa:
    return load_isa()


@pytest.fixture
def builder(isa: Isa) -> InstrBuilder:
    return InstrBuilder(isa, CAPACITIES, "test", args=2)


def copy_program(builder: InstrBuilder) -> None:
    """Load and store rows x 16 fp32 tiles of a 100 x 16 matrix."""
    ring = builder.ring("x", "ub", 256, 2, "load", "store")
    with builder.grid([25]) as (tile,):
        rows, cols = builder.size_tail(tile, 4, 3), builder.size(16)
        source = builder.desc(builder.arg(0), 64, strides={tile: 256})
        target = builder.desc(builder.arg(1), 64, strides={tile: 256}, offset=128)
        assert ring.ready is not None and ring.free is not None
        filled, used = builder.desc(ring, 64, role="producer"), builder.desc(ring, 64, role="consumer")
        builder.emit("ld", "fp32", dst=filled, src=source, rows=rows, cols=cols, wait=[ring.free], set=[ring.ready])
        builder.emit("st", "fp32", dst=target, src=used, rows=rows, cols=cols, wait=[ring.ready], set=[ring.free])


def names(insns: list[Insn]) -> list[str]:
    return [insn.op for insn in insns]


def test_program_decodes_to_what_was_emitted(isa: Isa, builder: InstrBuilder) -> None:
    copy_program(builder)
    image = builder.build("unified", [[(0, 13)], [(13, 25)]])
    decoded = decode_program(isa, image.words)
    assert names([insn for _, insn in decoded]) == [
        "szc", "szt", "szc", "ring", "desc", "dstr", "desc", "dstr", "desc", "desc", "grid", "ld", "st", "endgrid", "halt",
    ]  # fmt: skip
    assert [entry.ranges for entry in image.entries] == [((0, 13),), ((13, 25),)]
    assert image.n_args == 2 and image.isa_hash == isa.hash


def test_relocations_patch_the_base_field(isa: Isa, builder: InstrBuilder) -> None:
    copy_program(builder)
    image = builder.build("unified", [[(0, 25)]])
    words = image.relocate([0x1000, 0x200000])
    descs = [insn.args for _, insn in decode_program(isa, words) if insn.op == "desc"]
    assert [d["base"] for d in descs[:2]] == [0x1000, 0x200080]
    assert [d["space"] for d in descs] == [0, 0, 1, 1]
    assert [d["role"] for d in descs] == [0, 0, 1, 2]


def test_equal_sizes_and_descriptors_are_shared(builder: InstrBuilder) -> None:
    with builder.grid([3, 4]) as (a, b):
        assert builder.size(4) == builder.size(4)
        assert builder.size_tail(a, 4, 4) == builder.size(4)
        assert builder.size_tail(a, 4, 3) != builder.size_tail(b, 4, 3)
        assert builder.size_affine(4, 10, [(a, -4)]) == builder.size_affine(4, 10, [(a, -4)])
        one = builder.desc(builder.arg(0), 32, strides={a: 64, b: 0})
        assert one == builder.desc(builder.arg(0), 32, strides={a: 64})
        assert one != builder.desc(builder.arg(0), 32, strides={a: 64}, offset=32)


def test_waits_and_sets_beyond_two_go_to_usync(isa: Isa, builder: InstrBuilder) -> None:
    sems = [builder.semaphore(f"s{i}", initial=i) for i in range(8)]
    buffer = builder.temp("x", "ub", 64)
    with builder.grid([2]) as (tile,):
        at = builder.desc(buffer, 64)
        pred = changed(tile)
        size = builder.size(16)
        builder.emit(
            "vdup", "fp32", dst=at, rows=size, cols=size, imm=0, wait=sems[:5], set=sems[5:], pred=pred, order=True
        )
    body = [insn for insn in builder.program() if insn.op in ("usync", "vdup")]
    assert [(i.op, i.wait, i.set) for i in body] == [
        ("usync", (0, 1), ()),
        ("usync", (2, 3), ()),
        ("vdup", (4,), (5, 6)),
        ("usync", (), (7,)),
    ]
    assert all(insn.pred == pred for insn in body)
    vector = isa.units["vector"]
    assert [insn.args["unit"] for insn in body if insn.op == "usync"] == [vector] * 3


def test_sync_of_a_named_unit_overflows_on_that_unit(isa: Isa, builder: InstrBuilder) -> None:
    sems = [builder.semaphore(f"s{i}") for i in range(3)]
    builder.sync("cube", wait=sems)
    builder.sync("cube")
    syncs = [insn for insn in builder.program() if insn.op == "usync"]
    assert [insn.wait for insn in syncs] == [(0, 1), (2,)]
    assert {insn.args["unit"] for insn in syncs} == {isa.units["cube"]}


def test_pinned_buffers_stay_and_the_others_go_around(builder: InstrBuilder) -> None:
    first_fit = builder.temp("a", "ub", 100)
    pinned = builder.temp("b", "ub", 64, address=128)
    after = builder.temp("c", "ub", 64)
    small = builder.temp("d", "l1", 8)
    for buffer in (first_fit, pinned, after, small):
        builder.desc(buffer, 32)
    bases = [insn.args["base"] for insn in builder.program() if insn.op == "desc"]
    assert bases == [0, 128, 192, 0]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([("a", 2000, None)], r"'a' needs 2016 bytes \(1 x 2016\) of ub, which has 1024"),
        ([("a", 600, None), ("b", 600, None)], "'b' needs 608 bytes .* of ub; 608 of 1024 are taken by a"),
        ([("a", 64, 16)], "address 16 of buffer 'a' must be a multiple of 32"),
        ([("a", 64, 992)], "'a' at 992 needs 64 bytes and ends at 1056, past the 1024 of ub"),
        ([("a", 64, 64), ("b", 64, 96)], "'b' at 96..160 overlaps 'a' at 64..128"),
    ],
)
def test_memory_that_does_not_fit_is_named(
    builder: InstrBuilder, sizes: list[tuple[str, int, int | None]], message: str
) -> None:
    for name, nbytes, address in sizes:
        builder.temp(name, "ub", nbytes, address=address)
    with pytest.raises(CompileError, match=message):
        builder.program()


def test_a_pinned_buffer_may_overlap_when_it_says_so(builder: InstrBuilder) -> None:
    builder.temp("a", "ub", 64, address=0)
    builder.temp("b", "ub", 64, address=32, overlap=True)
    builder.program()


def test_a_barrier_starts_with_empty_tables(isa: Isa, builder: InstrBuilder) -> None:
    old = builder.temp("a", "ub", 1024)
    size = builder.size(3)
    builder.barrier("launch")
    builder.temp("b", "ub", 1024)
    assert builder.size(9).id == 0
    with pytest.raises(CompileError, match="'a' belongs to phase 0, this is phase 1"):
        builder.desc(old)
    with pytest.raises(CompileError, match=r"operand trip \(s0\) belongs to phase 0"):
        builder.emit("loop", trip=size, loop=0)
    assert names(builder.program()) == ["szc", "barrier", "szc", "halt"]


def test_tables_that_are_full_say_so(isa: Isa, builder: InstrBuilder) -> None:
    for i in range(isa.limits["sizes"]):
        builder.size(i)
    with pytest.raises(CompileError, match="more than 64 sizes in one phase"):
        builder.size(1000)
    for i in range(isa.limits["rings"]):
        builder.ring(f"r{i}", "ub", 32, 1, "load", "vector")
    with pytest.raises(CompileError, match="more than 16 rings"):
        builder.ring("one more", "ub", 32, 1, "load", "vector")
    for i in range(8):
        builder.semaphore(f"s{i}")
    with pytest.raises(CompileError, match="no core semaphore left for 's8'; there are 40"):
        builder.semaphore("s8")


def test_misuse_is_refused(isa: Isa, builder: InstrBuilder) -> None:
    with pytest.raises(CompileError, match="argument 2 does not exist; the kernel has 2"):
        builder.arg(2)
    with pytest.raises(CompileError, match="no space 'l0a'; it has ub, l1"):
        builder.temp("a", "l0a", 32)
    with pytest.raises(CompileError, match="no unit 'dma'"):
        builder.ring("a", "ub", 32, 2, "dma", "vector")
    with pytest.raises(CompileError, match="role 'producer' needs a ring"):
        builder.desc(builder.arg(0), role="producer")
    with pytest.raises(CompileError, match="cache is 'fast'; allowed: normal, stream"):
        builder.emit("ld", "fp32", dst=0, src=0, rows=0, cols=0, cache="fast")
    with pytest.raises(CompileError, match="'seq' neither waits for nor sets semaphores; units that do: load, move"):
        builder.sync("seq", wait=[builder.semaphore("x")])
    with builder.grid([1]) as (loop,), builder.when(first(loop)):
        with pytest.raises(CompileError, match="predicates do not nest"), builder.when(first(loop)):
            pass
        with pytest.raises(CompileError, match="cannot end inside a loop"):
            builder.barrier()
    with pytest.raises(CompileError, match="core 1 has 0 ranges, the program has 1 grids"):
        builder.build("unified", [[(0, 1)], []])


def test_windows_reach_the_set_up(builder: InstrBuilder) -> None:
    with builder.grid([2, 3]) as (a, b):
        window = Window(10, 20, row0=-1, col0=-2, row_loop=a, row_step=4, col_loop=b, col_step=8)
        builder.desc(builder.arg(0), 40, window=window)
    (dwin,) = [insn for insn in builder.program() if insn.op == "dwin"]
    assert dict(dwin.args) == {
        "desc": 0, "rows": 10, "cols": 20, "row0": -1, "col0": -2,
        "row_step": 4, "col_step": 8, "row_loop": 0, "col_loop": 1,
    }  # fmt: skip


def test_handles_print_as_the_assembler_writes_them(builder: InstrBuilder) -> None:
    ring = builder.ring("x", "ub", 32, 2, "load", "vector")
    with builder.loop(3) as loop:
        assert f"{loop} {builder.size(3)} {builder.desc(ring)} {ring.free}" == "l0 s0 d0 m1"


def test_raw_text_names_handles(isa: Isa, builder: InstrBuilder) -> None:
    tile = builder.desc(builder.temp("x", "ub", 1024), 64)
    size = builder.size(16)
    ready = builder.semaphore("ready")
    builder.emit("vdup", "fp32", dst=tile, rows=size, cols=size, imm=0, set=[ready])
    text = format_insn(isa, builder.program()[-2])
    builder.asm(f"{text}\n")
    first_one, again = [insn for insn in builder.program() if insn.op == "vdup"]
    assert first_one == again
    assert str(ready) in text and str(tile) in text
