"""The copies and additions of the validation: legal, and touching what the measured kernels touch."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.validation.builders import find_builder
from benchmarks.validation.rows import Row, load_rows
from benchmarks.validation.simulation import run_case

from npuvm.hw.config import load_chip
from npuvm.hw.launch import capacity_limits
from npuvm.isa import load_isa, verify

ISA = load_isa()
QUICK = [row for row in load_rows() if row.kind != "excluded" and row.family not in ("matmul", "attention", "tile_ops")]
SMALL: dict[str, Any] = {"to": "ub", "rows": 96, "cols": 256, "tile": (2, 64), "cores": 48, "repeats": 1, "slices": 1}


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.id)
def test_the_rows_programs_are_legal(row: Row) -> None:
    chip = load_chip(row.chip)
    assert row.kernel is not None and row.params is not None
    for launch in find_builder(row.kernel)(chip, ISA, row.params).launches:
        assert not verify(ISA, launch.image, capacity_limits(chip)).findings


@pytest.mark.parametrize(
    ("changes", "reads"),
    [
        ({"visit": "once"}, 1),
        ({"visit": "once", "repeats": 3}, 3),
        ({"visit": "once", "repeats": 3, "slices": 4}, 3),
        ({"visit": "all", "rows": 96, "tile": (2, 64)}, 48),
        ({"visit": "all_rotated", "rows": 96, "tile": (1, 128)}, 48),
        ({"visit": "once", "to": "l1", "cores": 24, "tile": (4, 64)}, 1),
    ],
)
def test_copies_read_every_byte_as_often_as_they_should(changes: dict[str, Any], reads: int) -> None:
    chip = load_chip("ascend_910b1")
    params = {**SMALL, **changes}
    (result,) = run_case(find_builder("data_copy")(chip, ISA, params), chip, "simpy")
    assert result.bytes["l2"] + result.bytes["hbm_read"] == reads * 2 * params["rows"] * params["cols"]
    assert result.bytes["hbm_read"] == 0, "the second run finds in L2 what the first left"
    tiles = params["rows"] * params["cols"] // (params["tile"][0] * params["tile"][1])
    assert result.by_op == {"ld": reads * tiles}


def test_a_copy_of_columns_that_no_tile_divides() -> None:
    """The last tile of a row is narrower; its rows begin off a block, so each is fetched past L2."""
    chip = load_chip("ascend_910b1", ["memory.l2.unaligned_reads=cached"])
    params = {**SMALL, "visit": "once", "cols": 255}
    (result,) = run_case(find_builder("data_copy")(chip, ISA, params), chip, "simpy")
    assert result.bytes["l2"] == 2 * 96 * 255


def test_a_copy_past_l2_fetches_its_rows_each_time() -> None:
    """Rows of 128 bytes are sectors: every core fetches all of them, and no more. The measured copies of one matrix by all
    cores are such."""
    chip = load_chip("ascend_910b1")
    params = {**SMALL, "visit": "all", "bypass": True}
    (result,) = run_case(find_builder("data_copy")(chip, ISA, params), chip, "simpy")
    assert params["tile"][1] * 2 == chip.memory.l2.sector_bytes
    matrix = 2 * params["rows"] * params["cols"]
    assert (result.bytes["hbm_read"], result.bytes["l2"]) == (params["cores"] * matrix, 0)
    copies = [row.params for row in load_rows() if row.kernel == "data_copy" and row.params is not None]
    assert all(each.get("bypass", False) == each["visit"].startswith("all") for each in copies)


def test_rotated_cores_begin_with_their_own_block() -> None:
    chip = load_chip("ascend_910b1")
    build = find_builder("data_copy")
    same, rotated = (build(chip, ISA, {**SMALL, "visit": visit}).launches[0].image for visit in ("all", "all_rotated"))
    assert [entry.ranges[0][0] for entry in same.entries] == [0] * 48
    assert [entry.ranges[0][0] for entry in rotated.entries] == [4 * core for core in range(48)]
    assert rotated.entries[3].ranges[1] == (0, 12)


def test_an_addition_with_two_buffers_overlaps_and_one_without_does_not() -> None:
    chip = load_chip("ascend_910b1")
    addresses = {"x": (0, 0x18000), "y": (0x8000, 0x20000), "z": (0x10000, 0x28000)}
    cycles = []
    for count in (1, 2):
        params = {
            "elements": 1 << 18, "cores": 1, "piece": 16384, "bypass": False,
            "addresses": {name: each[:count] for name, each in addresses.items()},
        }  # fmt: skip
        (result,) = run_case(find_builder("vector_add")(chip, ISA, params), chip, "simpy")
        cycles.append(result.cycles)
    assert cycles[1] < 0.9 * cycles[0]


def test_a_name_without_a_builder_is_refused() -> None:
    with pytest.raises(KeyError, match="no builder 'conv'; known are vector_add"):
        find_builder("conv")
