"""Limits: never above what is simulated, and what they count worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.explore.evaluation.kit import MODELS, SIZES, drawn_chip, model_file

from npuvm.compiler.frontends.onnx import import_model
from npuvm.explore.evaluation.bounds import RunBound, bound_figures, least_cycles, run_bound
from npuvm.explore.evaluation.counts import record_of
from npuvm.explore.evaluation.measures import figures_of
from npuvm.explore.evaluation.tapes import Taper, read_model, simulate_tape
from npuvm.hw.config import load_chip
from npuvm.hw.energy import load_technology
from npuvm.isa import load_isa
from npuvm.isa.errors import NpuvmError

onnx = pytest.importorskip("onnx")

N7 = load_technology("n7")


def bound_of(text: str, sizes: dict[str, int]) -> RunBound:
    from onnx import parser

    return run_bound(import_model(parser.parse_model(text)), sizes)


def test_products_inputs_and_outputs_are_counted_once(tmp_path: Path) -> None:
    model = read_model(model_file(tmp_path)).model
    rows = 100
    assert run_bound(model, {"rows": rows}) == RunBound(
        {"fp16": 2 * rows * 64 * 128}, 2 * (rows * 64 + 2 * 64 * 128), 2 * rows * 64
    )


def test_rows_of_a_table_count_only_where_all_are_needed(tmp_path: Path) -> None:
    model = read_model(model_file(tmp_path, "attention")).model
    sizes = {"heads": 2, "rows": 33, "keys": 48}
    found = run_bound(model, sizes)
    assert found.multiply_adds == {"fp16": 2 * 2 * 33 * 48 * 32}
    # q, k and v are read whole; of the table only what is picked, of the places in whatever type they are carried.
    assert 2 * 2 * 32 * (33 + 2 * 48) <= found.read_bytes <= 2 * 2 * 32 * (33 + 2 * 48) + 33 * 4


def test_all_parts_of_what_is_put_side_by_side_are_needed(tmp_path: Path) -> None:
    model = read_model(model_file(tmp_path, "cache")).model
    assert run_bound(model, {"heads": 3, "past": 70}) == RunBound(
        {"fp16": 3 * 32 * 71}, 2 * 3 * 32 * (1 + 70 + 1), 2 * 3 * 71
    )


def test_a_convolution_counts_the_taps_that_meet_its_input(tmp_path: Path) -> None:
    model = read_model(model_file(tmp_path, "convolution")).model
    # Along an axis of 15 with stride 2: 8 places with 3 taps; the first of the first and the last of the last lie outside.
    found = run_bound(model, {"images": 1, "side": 15})
    assert found.multiply_adds == {"fp16": 16 * 32 * (8 * 3 - 2) ** 2}


HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'


def test_what_is_equal_is_needed_once() -> None:
    twice = (
        HEAD
        + """
    twice (float16[n, 32] x, float16[32, 32] w) => (float16[n, 32] y, float16[n, 32] z)
    { a = MatMul (x, w) b = MatMul (x, w) y = Relu (a) z = Sigmoid (b) }"""
    )
    assert bound_of(twice, {"n": 8}).multiply_adds == {"fp16": 8 * 32 * 32}


def test_what_is_only_needed_in_part_counts_as_nothing() -> None:
    part = (
        HEAD
        + """
    part (float16[n, 32] x, float16[32, 32] w) => (float16[n, 8] y)
    <int64[1] zero = {0}, int64[1] eight = {8}, int64[1] one = {1}>
    { a = MatMul (x, w) y = Slice (a, zero, eight, one) }"""
    )
    assert bound_of(part, {"n": 8}) == RunBound({}, 0, 8 * 8 * 2)


def test_what_has_no_elements_needs_nothing() -> None:
    assert bound_of(MODELS["mlp"], {"rows": 0}) == RunBound({}, 0, 0)


def test_cycles_follow_from_the_slowest_of_cube_memory_and_engines() -> None:
    chip = load_chip("edge", ["clock_ghz=1", "core.count=2", "memory.hbm.bandwidth_gbps=16"])
    assert least_cycles(RunBound({"fp16": 1 << 20}, 0, 0), chip) == (1 << 20) // (8 * 8 * 16 * 2)
    assert least_cycles(RunBound({"fp32": 1 << 20}, 0, 0), chip) == (1 << 20) // (8 * 8 * 8 * 2) * 4
    assert least_cycles(RunBound({}, 1 << 20, 0), chip) == (1 << 20) // 16
    # Two cores write 32 bytes a cycle from UB, and 16 from L0C.
    assert least_cycles(RunBound({}, 0, 96 * 1000), chip) == 1000


def held(folder: Path, seeds: range) -> int:
    """Chips and models on which every limit was held against the simulation; how many runs these were."""
    runs = 0
    for seed in seeds:
        chip = drawn_chip(seed)
        isa = load_isa(chip.isa.base, chip.isa.extensions)
        name = sorted(MODELS)[seed % len(MODELS)]
        model = read_model(model_file(folder, name)).model
        (swept,) = [key for key, sizes in SIZES[name].items() if not isinstance(sizes, int)]
        taper = Taper(model, chip, (None, "none", "stack")[seed % 3])
        for size in SIZES[name][swept]:
            sizes = {**SIZES[name], swept: size}
            try:
                counts = simulate_tape(taper.tape(sizes), chip, isa)
            except NpuvmError:
                continue
            simulated = figures_of(record_of(name, sizes, 1.0, counts, chip, N7))
            limit = bound_figures(run_bound(model, sizes), chip, N7)
            for figure in ("latency_us", "interval_us", "energy_uj", "device_us"):
                assert getattr(limit, figure) <= getattr(simulated, figure), (seed, name, sizes, figure)
            runs += 1
    return runs


def test_limits_are_never_above_the_simulation(tmp_path: Path) -> None:
    assert held(tmp_path, range(12)) >= 20


@pytest.mark.slow
def test_limits_are_never_above_the_simulation_of_many_chips(tmp_path: Path) -> None:
    assert held(tmp_path, range(12, 120)) >= 180
