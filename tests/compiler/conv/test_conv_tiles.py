"""Tiles of convolutions: levels that know no shape, what they take of buffers, estimates, and the choice."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.conv.conv_run import Conv, conv_kernel
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler.conv.codegen import conv_problem
from npuvm.compiler.conv.family import ConvPrograms, ConvSort
from npuvm.compiler.conv.levels import conv_block, conv_levels, grown_conv_tiles, longest_steps
from npuvm.compiler.conv.plan import ConvTile, ConvTileChooser
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.conv.spec import ConvSizes, ConvSpec, sizes_of
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.hw.simulator import simulate
from npuvm.isa import Image

_PADS = ((1, 1), (1, 1))

_CONVS = (
    Conv(2, (20, 20), 24, 40, pads=_PADS),
    Conv(2, (14, 14), 130, 70, pads=_PADS, bias="fp16"),
    Conv(1, (9, 40), 600, 20, (3, 3), (1, 1), _PADS, (3, 2)),
    Conv(3, (30, 200), 16, 8, (5, 3), (2, 2), bias="fp32"),
)


def _spec(conv: Conv, names: bool = False) -> ConvSpec:
    graph = conv.graph()
    segment = next(each for each in make_plan(graph, ()).segments if isinstance(each, ConvSegment))
    binding = graph.bind(conv.shapes())
    return lower_conv(segment, {name: SymInt.variable(name) for name in binding} if names else binding)[0]


def _problem(conv: Conv, chip: str, names: bool = False) -> TileProblem:
    return conv_problem(_spec(conv, names), the_chip(chip), the_isa(), Pins())


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_candidates_are_grown_without_a_shape(chip: str, planes: bool) -> None:
    """Sizes that are open refuse to be compared: none takes part. And so the same tiles are grown for other shapes."""
    found = [
        grown_conv_tiles(_problem(conv, chip, names), planes)
        for conv, names in ((Conv(nchw=planes), True), (Conv(7, (99, 3), 65, 130, nchw=planes), False))
    ]
    assert len(found[0]) > 100 and np.array_equal(found[0], found[1])


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_tiles_are_whole_multiples_that_fit(chip: str, planes: bool) -> None:
    problem = _problem(Conv(nchw=planes), chip)
    core, tiles = problem.chip.core, grown_conv_tiles(problem, planes)
    pixels, filters, step, chunk = tiles.T
    assert not np.any(tiles[:, :3] % conv_block(problem, planes)) and not np.any(chunk % step)
    assert len(np.unique(tiles, axis=0)) == len(tiles)
    m, n = (filters, pixels) if planes else (pixels, filters)
    # Two slots of each ring, of elements of two bytes, and one accumulator of four.
    for used, kib in ((4 * m * step, core.l0a_kib), (4 * step * n, core.l0b_kib), (4 * m * n, core.l0c_kib)):
        assert np.all(used <= 1024 * kib)
    assert np.all(4 * filters * chunk < 1024 * core.l1_kib)


def test_levels_name_what_the_chip_has() -> None:
    levels = conv_levels(_problem(Conv(), "ascend_910b1"))
    assert [level.name for level in levels] == ["block", "l0", "l1", "core", "memory"]
    assert levels[1].buffers == ("l0a", "l0b", "l0c")
    assert conv_levels(_problem(Conv(), "edge"))[2].buffers == ("l1", "ub")


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("conv", _CONVS)
def test_the_tile_fits_the_buffers_of_its_program(conv: Conv, chip: str, planes: bool) -> None:
    """What the choice takes to fit is what the code has rings for: the program is made, and its rings are within the chip."""
    kernel = conv_kernel(Conv(**{**vars(conv), "nchw": planes}), chip)
    tile = kernel.tile
    assert tile.chunk == kernel.spec.depth or tile.chunk % tile.step == 0
    assert tile.rows * tile.cols <= np.prod(kernel.spec.out) and tile.filters <= kernel.spec.filters
    used = kernel.used_bytes
    capacity = the_chip(chip).capacity_bytes
    assert 2 * sum(size for ring, size in used.items() if ring.startswith("l1.")) <= capacity("l1")
    assert 2 * used["l0a"] <= capacity("l0a") and 2 * used["l0b"] <= capacity("l0b")
    assert tile.l0c_depth * used["l0c"] <= capacity("l0c")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("conv", [_CONVS[0], _CONVS[1], Conv(4, (28, 28), 64, 96, pads=_PADS, out="fp16", nchw=True)])
def test_estimates_are_near_what_is_simulated(conv: Conv, chip: str) -> None:
    kernel = conv_kernel(conv, chip)
    ratio = kernel.tile.cycles / _cycles(kernel.image, kernel.spec, chip)
    assert 0.6 < ratio < 1.6


def test_a_choice_is_remembered_and_a_function_of_the_sizes() -> None:
    chooser = ConvTileChooser(_problem(Conv(), "edge"), False, 1)
    sizes = sizes_of(_spec(Conv(2, (30, 31), 32, 48, pads=_PADS)))
    found = chooser.choose(sizes, "conv")
    other = chooser.choose(sizes._replace(images=9), "conv")
    assert chooser.choose(sizes, "conv") is found and isinstance(other, ConvTile)
    assert ConvTileChooser(_problem(Conv(), "edge"), False, 1).choose(sizes._replace(images=9), "conv") == other


@pytest.mark.parametrize("cores", [1, 20, 24])
def test_tiles_have_no_more_rows_than_keep_every_core_as_busy(cores: int) -> None:
    """With a row less a core has more tiles to do."""
    chooser, seen = ConvTileChooser(_problem(Conv(), "ascend_910b1"), False, cores), 0
    for images, high, wide in ((1, 97, 9), (3, 56, 56), (8, 28, 28), (5, 33, 14), (64, 7, 7), (17, 64, 4)):
        for channels, filters in ((16, 32), (64, 200), (256, 512)):
            sizes = sizes_of(_spec(Conv(images, (high, wide), channels, filters, pads=_PADS)))
            tile = chooser.choose(sizes, "conv")

            def waves(rows: int, tile: ConvTile = tile, sizes: ConvSizes = sizes) -> int:
                return -(-(-(-sizes.out[0] // rows) * -(-sizes.filters // tile.filters) * sizes.images) // cores)

            if tile.whole and tile.rows > 1:
                seen += 1
                assert waves(tile.rows - 1) > waves(tile.rows)
    assert seen > 5


def test_tiles_of_a_mix_are_whole_rows_where_such_fit() -> None:
    sizes = sizes_of(_spec(Conv(1, (6, 300), 16, 32, pads=_PADS)))
    problem = _problem(Conv(), "ascend_910b1")
    assert ConvTileChooser(problem, False, 24, prefers_rows=True).choose(sizes, "conv").whole
    assert not ConvTileChooser(problem, False, 24).choose(sizes, "conv").whole


def test_rows_of_planes_begin_at_blocks_where_others_are_read_past_l2() -> None:
    """Two rows of 28 elements of two bytes are three and a half blocks: four rows end where a block does."""
    conv = Conv(3, (56, 28), 128, 256, (1, 1), (2, 1), nchw=True)
    tile = ConvTileChooser(_problem(conv, "ascend_910b1"), True, 24).choose(sizes_of(_spec(conv)), "conv")
    assert tile.whole and tile.rows < 28 and tile.rows % 2 == 0


def _cycles(image: Image, spec: ConvSpec, chip: str) -> int:
    item = {"fp16": 2, "fp32": 4}
    sizes = [
        spec.images * spec.size[0] * spec.size[1] * spec.channels * 2,
        spec.filters * spec.depth * 2,
        spec.images * spec.out[0] * spec.out[1] * spec.filters * item[spec.y.dtype],
        4 * spec.filters,
    ]
    starts = np.cumsum([0, *(-(-size // 512) * 512 for size in sizes)]).tolist()
    return simulate(the_chip(chip), the_isa(), image, addresses=starts[: image.n_args], data=False).cycles


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_steps_are_as_long_as_l0_has_room_for(chip: str, planes: bool) -> None:
    """With elements of two bytes in two slots: one block of 16 elements more has no room; 32 are the most."""
    problem = _problem(Conv(nchw=planes), chip)
    core, pairs = problem.chip.core, np.array([(176, 128), (96, 48), (64, 208), (16, 16)])
    for (pixels, filters), step in zip(pairs, longest_steps(problem, planes, pairs), strict=True):
        m, n = (filters, pixels) if planes else (pixels, filters)
        room = min(core.l0a_kib * 1024 // (4 * m), core.l0b_kib * 1024 // (4 * n))
        assert step % 16 == 0 and step <= room and (step + 16 > room or step == 512)


def test_a_step_need_not_be_a_power_of_two() -> None:
    """128 filters by two rows of 87 pixels leave room for 80 of the 400 elements of 16 channels; 64 do not divide these."""
    sizes = sizes_of(_spec(Conv(2, (40, 175), 128, 256, (5, 5), (2, 2), ((0, 0), (0, 0)), nchw=True)))
    tile = ConvTileChooser(_problem(Conv(nchw=True), "ascend_910b1"), True, 24).choose(sizes, "conv")
    assert tile.chunk < sizes.depth and tile.step not in (16, 32, 64, 128)


@pytest.mark.parametrize("chip", CHIPS)
def test_rows_that_windows_step_over_are_not_read(chip: str) -> None:
    """Of 40 rows a kernel of one row reads every second one, one of two rows all."""
    cycles = []
    for kernel in ((1, 1), (2, 1)):
        spec = _spec(Conv(4, (40, 64), 32, 32, kernel, (2, 2)))
        cost = ConvTileChooser(_problem(Conv(), chip), False, 1).cost
        small = cost.read_cycles(sizes_of(spec)._replace(images=1))
        cycles.append(cost.read_cycles(sizes_of(spec)._replace(images=2)) - small)
    npu = the_chip(chip)
    least = 40 * 64 * 32 * 2 / float(npu.hbm_bytes_per_cycle)
    assert cycles[1] > 0.999 * least and cycles[0] == pytest.approx(cycles[1] / 2)


@pytest.mark.parametrize("chunk", [576, 288, 144])
@pytest.mark.parametrize(("chip", "rows"), [("ascend_910b1", 5), ("ascend_910a", 4)])
def test_a_first_tile_is_estimated_with_its_kernels_in_parts(chip: str, rows: int, chunk: int) -> None:
    """All cores have one tile: what hides loads of kernels behind products decides which takes less."""
    conv = Conv(2, (54, 54), 64, 64, pads=_PADS, out="fp16")
    problem, spec = _problem(conv, chip), _spec(conv)
    cores = the_chip(chip).cores_with("cube")
    cost = ConvTileChooser(problem, False, cores).cost
    step, single = 48, rows == 5
    sizes = sizes_of(spec)
    areas = cost.areas(sizes, np.array([float(rows)]), np.empty(0))
    kernels = cost.kernels(sizes, *(np.array([float(each)]) for each in (64, 64, chunk, step)))
    estimate = cost.cycles(sizes, kernels, areas, np.array([single]))[0]
    tile = ConvTile(rows, 54, True, 64, 64, chunk, step, 1 if single else 2, 0)
    image = ConvPrograms(ConvSort(spec), 3, the_chip(chip), the_isa()).image(
        "conv", ConvSort(spec).numbers, sizes, tile
    )
    assert image is not None
    assert 0.85 < estimate / _cycles(image, spec, chip) < 1.15
