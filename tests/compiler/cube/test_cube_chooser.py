"""The choice of a tile of a matrix product: against all candidates, against the simulator, and from a library."""

from __future__ import annotations

import json
import random
import tracemalloc
from functools import cache
from math import exp, fsum, log
from pathlib import Path

import numpy as np
import pytest

from npuvm.compiler.cube.chooser import TileChooser, chooser_of
from npuvm.compiler.cube.codegen import compile_matmul, problem_of
from npuvm.compiler.cube.costs import CandidateCosts
from npuvm.compiler.cube.levels import finer_tiles, grown_tiles, product_levels
from npuvm.compiler.cube.measured import sort_name
from npuvm.compiler.cube.plan import sizes_of
from npuvm.compiler.cube.problem import CubeTile, ProductSizes, TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView, normalise
from npuvm.compiler.cube.tables import CostTables
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.tiles import library as tile_library
from npuvm.compiler.tiles.levels import Analysis
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import simulate, timing_engine
from npuvm.isa import Isa, load_isa
from npuvm.isa.resources import list_resources

CHIPS = ("ascend_910b1", "ascend_910a", "edge")

TOKENS = (1, 7, 32, 128, 512, 2048, 4096)
WEIGHTS = (
    *((4096, 4096), (12288, 4096), (11008, 4096), (4096, 11008), (5120, 5120), (1024, 4096)),
    *((384, 384), (1536, 384), (384, 1536), (3072, 768), (32000, 4096), (2304, 768)),
)
"""n and k of layers of language models."""


@cache
def _chip(name: str) -> tuple[NpuConfig, Isa]:
    chip = load_chip(name)
    return chip, load_isa(chip.isa.base, chip.isa.extensions)


def _product(
    m: int, n: int, k: int, batch: int = 1, flipped: tuple[bool, bool] = (False, False), dtype: str = "fp16"
) -> MatmulSpec:
    """A product of dense operands, of which the flipped ones lie transposed."""
    a_rows, b_rows = ((1, m) if flipped[0] else (k, 1)), ((1, k) if flipped[1] else (n, 1))
    a, b, c = (
        MatView(at, dtype, *rows, batch=(stride,))
        for at, (rows, stride) in enumerate([(a_rows, m * k), (b_rows, k * n), ((n, 1), m * n)])
    )
    return normalise(MatmulSpec(m, n, k, a, b, c, (batch,)))


def _drawn(source: random.Random) -> MatmulSpec:
    """Random sizes, a layer over random tokens, or a product of attention; operands as they lie or transposed."""
    flipped = source.random() < 0.2, source.random() < 0.4
    sort = source.randrange(3)
    if sort == 0:
        return _product(_spread(source), _spread(source), _spread(source), flipped=flipped)
    if sort == 1:
        n, k = source.choice(WEIGHTS)
        return _product(source.choice(TOKENS), n, k, flipped=flipped)
    rows, cols, head = _spread(source), _spread(source), source.choice((32, 64, 80, 128, 256))
    n, k = (cols, head) if source.random() < 0.5 else (head, cols)
    return _product(rows, n, k, source.choice((1, 8, 12, 32)), flipped)


def _spread(source: random.Random, most: int = 4096) -> int:
    return round(float(most ** source.random()))


def _chosen(spec: MatmulSpec, name: str, pins: Pins | None = None) -> tuple[CubeTile, float, float]:
    """The chosen tile, its estimate among those of all candidates, and the lowest of those."""
    chip, isa = _chip(name)
    problem = problem_of(spec, chip, isa, pins or Pins())
    chooser, sizes = chooser_of(problem, chip.cores_with("cube")), sizes_of(problem, spec)
    tile = chooser.choose(sizes)
    table, depths, cycles = chooser.candidates(sizes)
    # Edges may be smaller than those of the candidate, for tiles that are alike.
    counts = [-(-size // edge) for size, edge in zip(sizes[:2], tile.l1, strict=False)]
    same = (-(-np.array(sizes[:2]) // table[:, :2]) == counts) & (table[:, :2] >= tile.l1[:2])
    same &= table[:, [2, 5]] == [tile.l1[2], tile.l0[2]]
    found = np.flatnonzero(same.all(axis=1) & (depths == tile.l0c_depth))
    assert len(found), f"{tile} is not among the candidates for {sizes}"
    assert cycles[found].min() <= tile.cycles + 1
    return tile, float(tile.cycles), float(cycles.min())


@pytest.mark.parametrize("name", CHIPS)
def test_tiles_are_close_to_the_best_of_all(name: str) -> None:
    """Shapes of all sorts: within 1 % of the lowest estimate on average, within 12 % each."""
    source = random.Random(name)
    ratios = []
    for _ in range(120):
        _, found, best = _chosen(_drawn(source), name)
        ratios.append(found / best)
    assert max(ratios) <= 1.12
    assert exp(fsum(map(log, ratios)) / len(ratios)) <= 1.01


@pytest.mark.parametrize("edge", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_tiles_at_the_boundaries_of_candidates(edge: int, beside: int) -> None:
    """One below, at and above the edges of candidates, for all three sizes."""
    size = edge + beside
    for sizes in ((size, 300, 300), (300, size, 300), (300, 300, size), (size, size, size)):
        _, found, best = _chosen(_product(*sizes), "ascend_910b1")
        assert found <= 1.12 * best


@pytest.mark.parametrize("dtype", ["fp32", "int8", "bf16"])
def test_tiles_of_other_types(dtype: str) -> None:
    chip, isa = _chip("ascend_910b1")
    source = random.Random(dtype)
    for _ in range(8):
        spec = _product(_spread(source), _spread(source), _spread(source), dtype=dtype)
        if dtype == "int8":
            spec = MatmulSpec(spec.m, spec.n, spec.k, spec.a, spec.b, MatView(2, "int32", spec.n, 1), spec.batch)
        problem = problem_of(spec, chip, isa, Pins())
        sizes = sizes_of(problem, spec)
        chooser = chooser_of(problem, chip.cores_with("cube"))
        assert chooser.choose(sizes).cycles <= 1.12 * chooser.candidates(sizes)[2].min()


def test_a_pinned_order_has_a_chooser_of_its_own() -> None:
    """Where columns are walked first, the other operand stays in L1."""
    chip, isa = _chip("ascend_910b1")
    spec = _product(4096, 4096, 128)
    rows, columns = (problem_of(spec, chip, isa, Pins(order=order)) for order in ("row", "column"))
    assert chooser_of(rows, 24) is not chooser_of(columns, 24)
    for order in ("row", "column"):
        _, found, best = _chosen(spec, "ascend_910b1", Pins(order=order))
        assert found <= 1.12 * best


def test_choosers_of_pins_do_not_depend_on_which_came_first() -> None:
    chip, isa = _chip("ascend_910b1")
    spec = _product(512, 512, 512)
    free, *others = (
        chooser_of(problem_of(spec, chip, isa, pins), 24)
        for pins in (Pins(), Pins(cache={"a": "stream"}), Pins(l0c_parts=2), Pins(ring_depth={"l0c": 2}))
    )
    assert free.library is not None
    assert [each.library for each in others] == [None, None, None]
    assert len({id(each) for each in (free, *others)}) == 4


def test_nothing_to_add_up_has_a_tile() -> None:
    tile, found, best = _chosen(_product(100, 200, 0), "ascend_910b1")
    assert tile.l1[2] == 1
    assert found == int(best)


@pytest.mark.parametrize("steps", [(128, 64), (256, 64), (512, 64), (512, 128), (1024, 128)])
def test_rows_that_meet_in_one_channel_are_charged_for_the_others(steps: tuple[int, int]) -> None:
    """On a chip that spreads no addresses, parts of rows 4 KiB apart lie in one of two channels, or in both where they are
    long or begin between: the estimate is the mean of what the simulator takes with the operand at either place."""
    spec = _product(2048, 32, 2048)
    chip, isa = _chip("edge")
    problem = problem_of(spec, chip, isa, Pins())
    table, _, cycles = chooser_of(problem, 1).estimates(sizes_of(problem, spec))
    (estimate,) = cycles[(table[:, :3] == (32, 32, steps[0])).all(axis=1) & (table[:, 5] == steps[1])]
    pins = Pins(tile={"l1": (32, 32, steps[0]), "l0": (32, 32, steps[1])})
    product = compile_matmul(spec, 3, chip, isa, pins)
    assert product is not None
    runs = []
    for place in (0, 512):
        bases = (place, 1 << 24, 1 << 25)
        windows = [(base, 2 * size) for base, size in zip(bases, (1 << 22, 1 << 16, 1 << 16), strict=True)]
        image = product.image
        run = simulate(chip, isa, image, addresses=bases, windows=windows, data=False, engine=timing_engine())
        runs.append(run.cycles)
    assert sum(runs) / 2 == pytest.approx(estimate, rel=0.05)


def test_long_parts_are_chosen_of_rows_that_meet_in_one_channel() -> None:
    tile, _, _ = _chosen(_product(2048, 32, 2048), "edge")
    assert tile.l1[2] >= 1024


@pytest.mark.parametrize("flipped", [False, True])
def test_a_layer_s_choice_does_not_depend_on_what_was_chosen_before(flipped: bool) -> None:
    """With and without another number of rows before it; rows of a transposed operand follow each other or do not."""
    chip, isa = _chip("ascend_910b1")
    specs = [_product(m, 1000, 777, flipped=(flipped, False)) for m in (16, 48, 1000, 2048)]
    problem = problem_of(specs[0], chip, isa, Pins())
    warm = TileChooser(problem, 24)
    for spec in specs:
        sizes = sizes_of(problem, spec)
        padded = sizes._replace(a_pitch=sizes.a_pitch + 64)
        for each in (sizes, padded):
            assert warm.choose(each) == TileChooser(problem, 24).choose(each)


def test_what_choices_keep_of_layers_has_a_limit() -> None:
    problem = _problem(_product(64, 64, 64), "edge")
    chooser, kept = TileChooser(problem, 1), []
    tracemalloc.start()
    for k in range(64, 264):
        chooser.choose(sizes_of(problem, _product(64, 64, k)))
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert kept[99] - kept[0] > 1 << 20
    assert kept[199] - kept[99] < (kept[99] - kept[0]) / 4


def _problem(spec: MatmulSpec, name: str = "ascend_910b1") -> TileProblem:
    return problem_of(spec, *_chip(name), Pins())


@pytest.mark.parametrize("name", CHIPS)
def test_no_shape_reaches_the_candidates(name: str) -> None:
    """They grow with sizes that are open: an open integer can be neither compared nor turned into a number."""
    m, n, k = (SymInt.variable(size) for size in "mnk")
    a, b, c = (MatView(at, "fp16", row, 1) for at, row in enumerate((k, n, n)))
    table, depths = grown_tiles(_problem(MatmulSpec(m, n, k, a, b, c), name))
    with pytest.raises(TypeError):
        int(m)
    again, slots = grown_tiles(_problem(_product(3, 5, 7), name))
    assert (table == again).all()
    assert (depths == slots).all()
    assert len(np.unique(table, axis=0)) == len(table)


@pytest.mark.parametrize("name", CHIPS)
def test_candidates_keep_to_the_levels_below(name: str) -> None:
    """Edges are whole blocks of the cube, k at L1 whole steps at L0, and rings of two slots fit every buffer."""
    chip, _ = _chip(name)
    problem = _problem(_product(512, 512, 512), name)
    table, depths = (np.concatenate(each) for each in zip(grown_tiles(problem), finer_tiles(problem), strict=True))
    m, n, k, m0, n0, k0 = table.T
    cube, core = chip.core.cube, chip.core
    assert not (m % cube.m).any()
    assert not (n % cube.n).any()
    assert not (k % k0).any()
    assert (m == m0).all()
    assert (n == n0).all()
    assert (2 * 2 * m0 * k0 <= core.l0a_kib * 1024).all()
    assert (2 * 2 * k0 * n0 <= core.l0b_kib * 1024).all()
    assert (4 * m * n * depths <= core.l0c_kib * 1024).all()
    assert (2 * 2 * (m + n) * k <= core.l1_kib * 1024).all()


@pytest.mark.parametrize("name", CHIPS)
def test_finer_tiles_are_others(name: str) -> None:
    """Each has an edge that no other tile has, or on one core other steps; low ones are wide, and none is there twice."""
    chip, _ = _chip(name)
    problem = _problem(_product(512, 512, 512), name)
    (table, _), (finer, _) = grown_tiles(problem), finer_tiles(problem)
    block = chip.core.cube.m, max(chip.core.cube.n, 16)
    assert (finer[:, 1] > block[1]).all()
    low = finer[finer[:, 0] <= block[0]]
    assert (low[:, 1] >= 20 * block[1]).all()
    assert len(low) > 0
    assert len(np.unique(finer, axis=0)) == len(finer)
    known = [set((table[:, axis] // block[axis]).tolist()) for axis in (0, 1)]
    assert len(np.unique(np.concatenate([table, finer]), axis=0)) == len(table) + len(finer)
    others = [each for each in finer.tolist() if each[0] // block[0] in known[0] and each[1] // block[1] in known[1]]
    assert bool(others) == (chip.core.count == 1)
    # Neither a power of two of blocks at L0, nor of steps at L1.
    assert all(k0 == 3 * 16 or k1 // k0 in (3, 6) for _, _, k1, _, _, k0 in others)


def test_tiles_of_given_steps_at_l0() -> None:
    """Those for operands that were copied keep the order of sums of another tile; the best of all is one of them."""
    spec = _product(4224, 1500, 176)
    sizes = sizes_of(_problem(spec), spec)
    chooser = TileChooser(_problem(spec), 24)
    tiles = {k0: chooser.choose_in_steps(sizes, k0) for k0 in (13, 16, 32, 64, 128, 176)}
    assert tiles[13] is None
    found = {k0: tile for k0, tile in tiles.items() if tile is not None}
    assert len(found) > 2
    assert all(tile.l0[2] == k0 for k0, tile in found.items())
    assert chooser.choose(sizes) == min(found.values(), key=lambda tile: tile.cycles)


def test_levels_name_what_the_chip_has() -> None:
    levels = product_levels(_problem(_product(64, 64, 64)))
    assert [level.name for level in levels] == ["block", "l0", "l1", "core", "memory"]
    assert [level.buffers for level in levels[1:3]] == [("l0a", "l0b", "l0c"), ("l1",)]
    assert product_levels(_problem(_product(64, 64, 64), "edge"))[2].buffers == ("l1", "ub")


@pytest.mark.parametrize("name", CHIPS)
def test_estimates_are_near_what_the_simulator_takes(name: str) -> None:
    """Within a factor of 1.8 for each of twenty drawn products of rows at blocks, within 1.4 on average."""
    chip, isa = _chip(name)
    source = random.Random(f"simulated on {name}")
    ratios = []
    for _ in range(20):
        m, n, k = (16 * -(-_spread(source, 1024) // 16) for _ in range(3))
        product = compile_matmul(_product(m, n, k), 3, chip, isa)
        assert product is not None
        windows = [(0, 2 * m * k), (1 << 24, 2 * k * n), (1 << 25, 2 * m * n)]
        run = simulate(
            chip,
            isa,
            product.image,
            addresses=[base for base, _ in windows],
            windows=windows,
            data=False,
            engine=timing_engine(),
        )
        ratios.append(product.tile.cycles / run.cycles)
    assert max(ratios) <= 1.8
    assert min(ratios) >= 1 / 1.8
    assert abs(fsum(map(log, ratios)) / len(ratios)) <= log(1.4)


def test_short_rows_cost_their_begin_and_their_bytes() -> None:
    """Loads of 64 bytes a row, where a chip takes cycles for each row beside those for its bytes."""
    chip, isa = _chip("edge")
    assert chip.core.load.l1_row_cycles > 0
    pins = Pins(tile={"l1": (128, 128, 32), "l0": (128, 128, 32)})
    product = compile_matmul(_product(1024, 384, 384), 3, chip, isa, pins)
    assert product is not None
    windows = [(0, 2 * 1024 * 384), (1 << 20, 2 * 384 * 384), (1 << 21, 2 * 1024 * 384)]
    run = simulate(
        chip, isa, product.image, addresses=[base for base, _ in windows], windows=windows, data=False, engine="simpy"
    )
    assert product.tile.cycles == pytest.approx(run.cycles, rel=0.2)


def _library(folder: Path, rows: list[list[int]], **changed: object) -> Path:
    """A library of `edge`, which has none of its own here, with these tiles."""
    chip, isa = _chip("edge")
    content = {
        "version": tile_library.VERSION,
        "chip_hash": chip.chip_hash,
        "isa_hash": isa.hash,
        "sorts": {sort_name(_problem(_product(64, 64, 64), "edge")): {"measured": rows, "derived": []}},
    }
    path = folder / tile_library.library_name(chip, isa)
    path.write_text(json.dumps(content | changed), encoding="utf-8")
    return path


def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tile_library.FOLDERS, str(folder))


def test_the_library_decides_between_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two tiles alike the one that was measured to be faster is preferred, whichever that is."""
    _in_folder(tmp_path, monkeypatch)
    tiles = [[32, 64, 64, 32, 2], [64, 32, 64, 32, 2]]
    for slow in (0, 1):
        costs = [[1000, 2600, 800, 2400] for _ in tiles]
        costs[slow] = [9000, 26000, 8000, 24000]
        path = _library(tmp_path, [[*tile, *cost] for tile, cost in zip(tiles, costs, strict=True)])
        tile_library.forget_libraries()
        chooser = TileChooser(_problem(_product(64, 64, 64), "edge"), 1)
        assert chooser.library is not None
        assert chooser.library.path == path
        spec = _product(512, 512, 512)
        table, depths, cycles = chooser.estimates(sizes_of(_problem(spec, "edge"), spec))
        every = np.column_stack([table[:, [0, 1, 2, 5]], depths]).tolist()
        first, second = (cycles[every.index(tile)] for tile in tiles)
        assert (second < first) == (slow == 0)
    tile_library.forget_libraries()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": 0}, "of version 0, not"),
        ({"chip_hash": "0"}, "for another chip"),
        ({"isa_hash": "0"}, "for another instruction set"),
        ({"sorts": [1]}, "no tile library"),
        ({"version": 1, "sorts": {"products": [[1] * 9]}}, "of version 1, not 2"),
        ({"sorts": {"products": [[1] * 9]}}, "no tile library"),
        ({"sorts": {"products": {"measured": [[1] * 9]}}}, "no tile library.*'derived'"),
        ({"sorts": {"products": {"measured": [], "derived": [[1] * 9]}}}, "some tiles are measured"),
        ({"sorts": {"products": {"measured": [[1, 2, 3]], "derived": []}}}, "lines of 9 whole numbers from 1 up"),
        ({"sorts": {"products": {"measured": [[0] * 9], "derived": []}}}, "lines of 9 whole numbers from 1 up"),
        (
            {"sorts": {"products": {"measured": [[1] * 9], "derived": [[1.5] * 9]}}},
            "lines of 9 whole numbers from 1 up",
        ),
    ],
)
def test_a_library_of_something_else_is_refused(
    changed: dict[str, object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_folder(tmp_path, monkeypatch)
    path = _library(tmp_path, [[16, 16, 64, 32, 2, 1, 1, 1, 1]], **changed)
    tile_library.forget_libraries()
    with pytest.raises(CompileError, match=says) as caught:
        tile_library.find_library(*_chip("edge"))
    assert str(path) in str(caught.value)
    assert "npuvm tune" in str(caught.value)
    tile_library.forget_libraries()


def test_half_a_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_folder(tmp_path, monkeypatch)
    path = _library(tmp_path, [[16, 16, 64, 32, 2, 1, 1, 1, 1]])
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    tile_library.forget_libraries()
    with pytest.raises(CompileError, match="no tile library"):
        tile_library.find_library(*_chip("edge"))
    tile_library.forget_libraries()


def test_a_library_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    path = _library(tmp_path, [[16, 16, 64, 32, 2, 1, 1, 1, 1]])
    chip, isa = _chip("edge")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(CompileError, match="cannot be read: Permission denied"):
        tile_library.read_library(path, chip.chip_hash, isa.hash)
    monkeypatch.undo()
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CompileError, match="no tile library"):
        tile_library.read_library(path, chip.chip_hash, isa.hash)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _in_folder(tmp_path / "missing", monkeypatch)
    with pytest.raises(CompileError, match=r"NPUVM_TILES names .*missing, which is no folder"):
        tile_library.find_library(*_chip("edge"))


def test_shipped_chips_have_libraries() -> None:
    """A chip that was changed needs `npuvm tune` again."""
    for name in list_resources("chip"):
        assert tile_library.find_library(*_chip(name)) is not None, f"run `npuvm tune {name} --out configs/tiles`"


def test_pins_that_change_costs_leave_the_library() -> None:
    chip, isa = _chip("ascend_910b1")
    spec = _product(512, 512, 512)
    assert TileChooser(problem_of(spec, chip, isa, Pins()), 24).library is not None
    assert TileChooser(problem_of(spec, chip, isa, Pins(order="column")), 24).library is None
    assert TileChooser(_problem(_product(512, 512, 512, dtype="int8")), 24).library is None


def test_what_one_core_has_is_measured() -> None:
    """And nothing where there is no library."""
    chip, isa = _chip("ascend_910b1")
    for pins, measured in ((Pins(), ["block", "l0", "l1"]), (Pins(order="column"), [])):
        levels = TileChooser(problem_of(_product(512, 512, 512), chip, isa, pins), 24).levels
        assert [level.name for level in levels if level.analysis is Analysis.EMPIRICAL] == measured


def test_a_result_larger_than_l2_costs_what_l2_does_not_keep_of_it() -> None:
    """All of it was charged, so that launches were faster than their estimates."""
    chip, isa = _chip("ascend_910a")
    problem = problem_of(_product(64, 64, 64), chip, isa, Pins())
    chooser, (m, n, k) = chooser_of(problem, chip.cores_with("cube")), (3375, 6832, 32)
    tile = chooser.choose(ProductSizes(m, n, k, 1, 2 * k, 2 * n))
    moved = 2 * ((m + n) * k + m * n) - chip.capacity_bytes("l2")
    assert tile.cycles < 2 * m * n / float(chip.hbm_bytes_per_cycle)
    assert tile.cycles >= int(moved / float(chip.hbm_bytes_per_cycle))


@pytest.mark.parametrize("name", CHIPS)
def test_tables_are_made_before_shapes_of_dense_operands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for their parts of k: a shape never waits a millisecond for the costs of all candidates."""
    chip, _ = _chip(name)
    chooser = TileChooser(_problem(_product(64, 64, 64), name), chip.cores_with("cube"))
    chooser.prepare_parts()
    monkeypatch.setattr(CandidateCosts, "lines", lambda *_: pytest.fail("made for a shape"))
    monkeypatch.setattr(CostTables, "_coarse", lambda *_: pytest.fail("of many rounds, made for a shape"))
    for m in (1, 100, 3000, 20_000):
        for n in (24, 100, 251, 1024):
            for k in (5, 64, 300, 1000, 4096, 50_000):
                chooser.choose(ProductSizes(m, n, k, 1, 2 * k, 2 * n))
                chooser.choose(ProductSizes(m, n, k, 3, 6 * k, 2 * n))
