"""Machine code chooses tiles as Python does where rows meet in few parts of memory, on one core and on several."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from tests.compiler.cube.test_cube_chooser import _product

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.codegen import problem_of
from npuvm.compiler.cube.levels import grown_tiles
from npuvm.compiler.cube.meets import Met, Shared
from npuvm.compiler.cube.native import NativeMet
from npuvm.compiler.cube.problem import ProductSizes, TileProblem
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.native.loading import load_native, unload_native
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

pytest.importorskip("numba")

_ODD = (
    "memory.l2.capacity_mib=3",
    "memory.l2.line_bytes=192",
    "memory.hbm.interleave_bytes=768",
    "memory.hbm.channels=3",
)
"""Lines that are no power of two, and channels neither."""

_UNCACHED = ("memory.l2.unaligned_reads=uncached",)
"""Rows off blocks are read past L2."""

_FLIPS = [(False, False), (True, False), (False, True), (True, True)]
"""Whether operands lie transposed."""


@pytest.fixture(autouse=True)
def in_python() -> Iterator[None]:
    """Without machine code, before and behind a test."""
    unload_native()
    yield
    unload_native()


def _problem(name: str, changes: Sequence[str] = (), flipped: tuple[bool, bool] = (False, False)) -> TileProblem:
    chip = load_chip(name, changes)
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    return problem_of(_product(64, 64, 64, flipped=flipped), chip, isa, Pins())


def _drawn(source: random.Random, flipped: tuple[bool, bool]) -> ProductSizes:
    """Sizes spread over powers of two, half of them whole ones, so that rows meet; operands in rows of their own or others'."""
    m, n, k = (int(2 ** source.uniform(0, high)) for high in (13, 13, 12))
    if source.random() < 0.6:
        n, k = 1 << n.bit_length(), 1 << k.bit_length()
    if source.random() < 0.3:
        m = -(-m // 128) * 128
    batch = source.choice((1, 1, 1, 7))
    a_row, b_row = m if flipped[0] else k, k if flipped[1] else n
    a_pitch, b_pitch = (2 * row + source.choice((0, 0, 0, 2, 32, 512)) for row in (a_row, b_row))
    if batch > 1 and source.random() < 0.5:
        a_pitch = 2 * batch * k
    return ProductSizes(m, n, k, batch, a_pitch, b_pitch)


def _ways(plain: TileChooser, sizes: ProductSizes) -> set[str]:
    """What Python had to charge for the sizes it just chose for."""
    met = plain._tables.useful_at(plain._tables.key(sizes)).at(sizes).met
    assert met is not None
    found = {"few rows" if sizes.m < 16 else "many rows", "batch" if sizes.batch > 1 else "one matrix"}
    if isinstance(met, Met):
        bands = plain._tables.shared is not None and (met.per_band < 1).any() and (met.per_band > 0).any()
        return found | ({"bands"} if bands else set()) | ({"loses"} if (met.bands == 0).any() else set())
    named = {"served": met.served, "in turn": met.in_turn, "stored": met.stored, "columns in rounds": met.others}
    found |= {name for name, is_given in named.items() if is_given is not None}
    return found | ({"rows in rounds"} if sizes.m > met.one_round else set())


_CASES = [
    *((name, (), cores, flips) for name, cores in (("ascend_910a", 32), ("edge", 1)) for flips in _FLIPS),
    ("ascend_910a", (), 3, _FLIPS[0]),
    ("ascend_910a", _UNCACHED, 32, _FLIPS[0]),
    ("ascend_910a", ("memory.hbm.interleave_bytes=1024",), 32, _FLIPS[3]),
    ("edge", _UNCACHED, 1, _FLIPS[3]),
    ("edge", _ODD, 1, _FLIPS[0]),
    ("edge", ("core.count=2", *_ODD), 2, _FLIPS[0]),
]


@pytest.mark.parametrize(("name", "changes", "cores", "flipped"), _CASES)
def test_tiles_are_those_of_python(
    name: str, changes: tuple[str, ...], cores: int, flipped: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, source = _problem(name, changes, flipped), random.Random(f"{name} {changes} {cores} {flipped}")
    plain, ways = TileChooser(problem, cores), Counter[str]()
    drawn = [_drawn(source, flipped) for _ in range(60)]
    expected = []
    for sizes in drawn:
        expected.append((plain.choose(sizes), plain.kept_cycles(sizes)))
        ways.update(_ways(plain, sizes))
    steps = {sizes: (16, 48, 64, tile.l0[2]) for sizes, (tile, _) in zip(drawn, expected, strict=True)}
    in_steps = [[plain.choose_in_steps(sizes, each) for each in steps[sizes]] for sizes in drawn]
    load_native()
    fast = TileChooser(problem, cores)
    monkeypatch.setattr(Shared, "met", lambda *_: pytest.fail("chosen in Python"))
    for sizes, found, beside in zip(drawn, expected, in_steps, strict=True):
        assert (fast.choose(sizes), fast.kept_cycles(sizes)) == found, sizes
        assert [fast.choose_in_steps(sizes, each) for each in steps[sizes]] == beside, sizes
    assert min(ways["few rows"], ways["many rows"], ways["batch"], ways["one matrix"]) > 5
    assert sum(each is not None for beside in in_steps for each in beside) > 60
    if cores == 1:
        assert min(ways["bands"], ways["loses"]) > 2, ways
    else:
        assert min(ways["columns in rounds"], ways["rows in rounds"]) > 5, ways
    if cores == 32 and not (changes or flipped[0]):
        assert min(ways["served"], ways["stored"], ways["in turn"]) > 2, ways


@pytest.mark.parametrize(("name", "cores"), [("ascend_910a", 32), ("edge", 1)])
def test_given_tiles_are_chosen_among_alike(name: str, cores: int) -> None:
    """For any rows, the wide ones of few rows too."""
    problem, source = _problem(name), random.Random(name)
    table, depths = grown_tiles(problem)
    given = table[::7], depths[::7]
    plain = TileChooser(problem, cores, given)
    load_native()
    fast = TileChooser(problem, cores, given)
    for _ in range(40):
        sizes = _drawn(source, (False, False))
        assert fast.choose(sizes) == plain.choose(sizes), sizes
        assert fast.kept_cycles(sizes) == plain.kept_cycles(sizes), sizes


@pytest.mark.parametrize(("name", "cores"), [("ascend_910a", 32), ("edge", 1)])
def test_sizes_that_no_float_counts_are_left_to_python(name: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem(name)
    plain = TileChooser(problem, cores)
    load_native()
    fast, asked = TileChooser(problem, cores), []
    native = NativeMet.tile

    def noted(self: NativeMet, lines: object, interval: object, sizes: ProductSizes, *rest: int) -> object:
        asked.append(sizes)
        return native(self, lines, interval, sizes, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(NativeMet, "tile", noted)
    long, pitched = ProductSizes(64, 64, 1 << 40, 1, 1 << 41, 128), ProductSizes(64, 64, 64, 1, 1 << 48, 128)
    many = ProductSizes(1, 1 << 30, 64, 1 << 30, 128, 1 << 31)
    for sizes in (long, pitched, many):
        assert fast.choose(sizes) == plain.choose(sizes)
    assert asked == [long]
