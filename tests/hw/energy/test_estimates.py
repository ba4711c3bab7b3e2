"""Estimates against hand computation, published chips and what must hold for any launch.

The anchors are far from the numbers that the technology files are made of: dies and powers of whole chips.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.energy import (
    Amount,
    EnergyReport,
    Technology,
    Work,
    estimate_area,
    estimate_energy,
    load_technology,
    parse_technology,
)
from npuvm.hw.errors import ConfigError
from npuvm.hw.results.stats import RunResult
from npuvm.runtime import Device

N7 = load_technology("n7")
EDGE = load_chip("edge")


def _round_technology() -> Technology:
    """Every price a small whole number, so that sums can be done in the head; error bars of 10 %."""

    def number(value: float) -> str:
        return f"{{value: {value}, source: by hand, trust: high, error_pct: 10}}"

    kinds = {"add": 2, "mul": 3, "div": 5, "pow": 5, "exp": 7, "log": 5, "sqrt": 5, "logic": 1, "copy": 1}
    lines = ["name: round", "description: by hand", "energy:", "  operation_pj:"]
    lines += [f"    {kind}: {{fp32: {number(value)}}}" for kind, value in kinds.items()]
    lines += [f"  multiply_add_pj: {{fp16: {number(4)}}}", f"  arithmetic_factor: {number(1.5)}"]
    lines += [f"  sram_pj_per_byte: {{1: {number(1)}, 1000000: {number(1)}}}"]
    prices = {
        "wire_pj_per_byte_mm": 2,
        "memory_pj_per_byte": 30,
        "word_pj": 8,
        "dispatch_pj": 16,
        "static_w_per_mm2": 0.5,
    }
    lines += [f"  {name}: {number(value)}" for name, value in prices.items()]
    types = ("fp16", "bf16", "int8", "fp8_e4m3", "fp8_e5m2", "fp32")
    lines += ["area:", f"  multiply_add_um2: {{{', '.join(f'{each}: {number(1000)}' for each in types)}}}"]
    areas = {
        "vector_lane_um2": 5000, "queue_bit_um2": 2, "buffer_mm2_per_mib": 4, "l2_mm2_per_mib": 2, "core_mm2": 1,
        "l2_slice_mm2": 3, "memory_phy_mm2": 10, "memory_phy_gbps": 128, "other_share": 0.5,
    }  # fmt: skip
    lines += [f"  {name}: {number(value)}" for name, value in areas.items()]
    return parse_technology("\n".join(lines))


ROUND = _round_technology()

RESULT = RunResult(
    cycles=800,
    seconds=Fraction(1, 10**6),
    cores=(),
    bytes={"ub": 1000, "l1": 2000, "l0a": 10, "l0b": 20, "l0c": 30, "l2": 500, "hbm_read": 256, "hbm_write": 128},
    work=Work({"fp16": 10_000}, {"exp": {"fp32": 100}, "copy": {"fp32": 50}}, {"l0a": 5, "l0b": 6}, 700, 40),
    requests=0,
    instructions=20,
    by_unit={},
    by_op={},
    bounds={},
    hazards=(),
    scalar_loads=(),
    trace=(),
)


def test_area_by_hand() -> None:
    area = estimate_area(EDGE, ROUND)
    got = {name: amount.value for name, amount in area.components.items()}
    # int8: 8 x 8 x 32 multiply-adds a cycle; vector: 128 bytes are 32 fp32; UB 128, L1 256, L0 32 + 32 + 64 KiB
    # queues of 8: load, store and vector take 2 words, move 6, cube and fixpipe 1, of 64 bits
    hand = {
        "queues": 8 * 64 * (3 * 2 + 6 + 2 * 1) * 2 / 1e6,
        "cube": 2.048,
        "vector": 0.16,
        "ub": 0.5,
        "l1": 1.0,
        "l0": 0.5,
        "core": 1.0,
        "l2": 2 * 2 + 2 * 3,
    }
    hand["memory_phy"] = 10 * 12.8 / 128
    hand["other"] = 0.5 * sum(hand.values())
    assert got == pytest.approx(hand)
    assert area.total.value == pytest.approx(sum(hand.values()))
    assert area.components["cube"].error == pytest.approx(0.2048)
    assert area.components["memory_phy"].error == pytest.approx(0.2)  # of the interface and of its bandwidth
    assert area.components["other"].error == pytest.approx(
        0.2 * hand["other"] + 0.5 * 0.1
    )  # the parts' error and its own


def test_units_of_extensions_by_hand() -> None:
    """128 bytes are 32 fp32: at 1, 1, 8 and 4 cycles a repeat 32, 32, 4 and 8 elements a cycle."""
    with_both = load_chip("edge", ["isa.extensions=[fma, activation]"])
    parts = estimate_area(with_both, N7).components
    assert parts["extensions"].value == pytest.approx(1e-6 * (32 * 320 + 32 * 570 + 4 * 2700 + 8 * 320))
    base = estimate_area(EDGE, N7)
    assert "extensions" not in base.components
    share = N7.area.other_share.value
    assert estimate_area(with_both, N7).total.value - base.total.value == pytest.approx(
        (1 + share) * parts["extensions"].value
    )


@pytest.mark.parametrize("extension", ["hswish", "row_operand"])
def test_extensions_without_units_of_their_own_take_no_area(extension: str) -> None:
    assert estimate_area(load_chip("edge", [f"isa.extensions=[{extension}]"]), N7) == estimate_area(EDGE, N7)


def test_an_extension_that_the_technology_does_not_price_is_told() -> None:
    with pytest.raises(ConfigError, match=r"area\.extension_um2 prices no vfma; it prices: none"):
        estimate_area(load_chip("edge", ["isa.extensions=[fma]"]), ROUND)


def test_the_cube_is_as_large_as_its_most_expensive_type() -> None:
    fp32 = ROUND.area.multiply_add_um2["fp32"].model_copy(update={"value": 1e6})
    table = {**ROUND.area.multiply_add_um2, "fp32": fp32}
    area = ROUND.area.model_copy(update={"multiply_add_um2": table})
    # 8 x 8 x 32 bytes are 512 multiply-adds of fp32, in 4 cycles; 1 mm2 each
    assert estimate_area(EDGE, ROUND.model_copy(update={"area": area})).components["cube"].value == pytest.approx(128)


def test_a_byte_of_a_smaller_slice_costs_less() -> None:
    few, many = (load_chip("edge", [f"memory.l2.slices={slices}"]) for slices in (2, 8))
    got = [estimate_energy(RESULT, chip, N7).components["l2"].value for chip in (few, many)]
    # slices of 1024 and 256 KiB, three fifths of the way in the logarithm from 32 KiB: 8.5 and 14 pJ for 8 bytes
    assert got == pytest.approx([884 * 14 / 8, 884 * 8.5 / 8 * (14 / 8.5) ** 0.6])


def test_energy_by_hand() -> None:
    energy = estimate_energy(RESULT, EDGE, ROUND)
    got = {name: amount.value for name, amount in energy.components.items()}
    area = 1.5 * (2.048 + 0.16 + 0.5 + 1 + 0.5 + 0.014336 + 1 + 10 + 1)
    hand = {
        "cube": 10_000 * 4 * 1.5,
        "vector": (100 * 7 + 50 * 1) * 1.5,
        "l0": 10 + 20 + 30 + 5 + 6,
        "l1": 2000,
        "ub": 1000,
        "l2": 500 + 256 + 128,
        "network": 700 * 2 * (2 / 3) * area**0.5,
        "memory": (256 + 128) * 30,
        "sequencer": 40 * 8 + 20 * 16,
        "static": 0.5 * area * 1e-6 * 1e12,
    }
    assert got == pytest.approx(hand)
    assert energy.total.value == pytest.approx(sum(hand.values()))
    assert energy.average_watts.value == pytest.approx(sum(hand.values()) * 1e-12 / 1e-6)
    assert energy.flops == 2 * 10_000 + 100
    assert energy.components["cube"].error == pytest.approx(0.2 * hand["cube"])  # price and factor, 10 % each
    assert energy.components["memory"].error == pytest.approx(0.1 * hand["memory"])
    assert energy.components["static"].error == pytest.approx(hand["static"] * 1.0 * (0.1 + area_error(area)))


def area_error(area: float) -> float:
    """Relative error of the hand-made area: 10 % of all parts, of the third that is "other", and of the memory's 1.5 mm2."""
    return 0.1 + 0.1 * (area / 3) / area + 0.1 * 1.5 / area


def test_launches_add_up() -> None:
    one = estimate_energy(RESULT, EDGE, ROUND)
    three = EnergyReport.sum([one] * 3)
    assert three.total.value == pytest.approx(3 * one.total.value)
    assert three.average_watts.value == pytest.approx(one.average_watts.value)
    assert three.flops == 3 * one.flops
    assert three.pj_per_flop == pytest.approx(one.pj_per_flop)


def test_json_calls_itself_an_estimate() -> None:
    for report in (estimate_area(EDGE, N7), estimate_energy(_moved("fp16"), EDGE, N7)):
        document = report.to_json()
        assert document["estimate"] is True
        assert (document["chip"], document["technology"]) == ("edge", "n7")
        parts = document["components"].values()
        assert document["total"]["value"] == pytest.approx(sum(part["value"] for part in parts))


def test_an_empty_amount_has_no_error() -> None:
    assert Amount().error_pct == 0.0
    assert EnergyReport("c", "t", {"cube": Amount(1.0, 0.5)}, 0.0, 0).average_watts == Amount()
    assert EnergyReport("c", "t", {"cube": Amount(1.0, 0.5)}, 0.0, 0).pj_per_flop is None


def _moved(dtype: str) -> RunResult:
    return dataclasses.replace(RESULT, work=dataclasses.replace(RESULT.work, multiply_adds={dtype: 10_000}))


@pytest.mark.parametrize("level", list(RESULT.bytes))
def test_more_bytes_cost_more(level: str) -> None:
    more = dataclasses.replace(RESULT, bytes={**RESULT.bytes, level: RESULT.bytes[level] + 1})
    assert estimate_energy(more, EDGE, N7).total.value > estimate_energy(RESULT, EDGE, N7).total.value


def test_a_longer_launch_costs_static_energy_only() -> None:
    longer = dataclasses.replace(RESULT, seconds=2 * RESULT.seconds)
    before, after = (estimate_energy(each, EDGE, N7) for each in (RESULT, longer))
    assert after.components["static"].value == pytest.approx(2 * before.components["static"].value)
    assert {name for name, amount in after.components.items() if amount != before.components[name]} == {"static"}


def test_narrow_types_cost_less() -> None:
    cost = {each: estimate_energy(_moved(each), EDGE, N7).components["cube"].value for each in ("fp32", "fp16", "int8")}
    assert cost["fp32"] > cost["fp16"] > cost["int8"]


@pytest.mark.parametrize(
    ("override", "component"),
    [
        ("core.ub_kib=256", "ub"),
        ("core.l1_kib=512", "l1"),
        ("core.l0c_kib=128", "l0"),
        ("core.cube.m=16", "cube"),
        ("core.vector.repeat_bytes=256", "vector"),
        ("memory.l2.capacity_mib=4", "l2"),
        ("memory.l2.slices=4", "l2"),
        ("memory.hbm.bandwidth_gbps=25.6", "memory_phy"),
        ("core.count=2", "core"),
    ],
)
def test_more_of_something_takes_more_area(override: str, component: str) -> None:
    small, large = estimate_area(EDGE, N7), estimate_area(load_chip("edge", [override]), N7)
    assert large.components[component].value > small.components[component].value
    assert large.total.value > small.total.value


# Published chips.

TPU_V4I = [
    "core.count=1", "core.cube.m=256", "core.cube.n=64", "core.cube.k_bytes=8", "core.ub_kib=8192", "core.l1_kib=8192",
    "core.l0a_kib=128", "core.l0b_kib=128", "core.l0c_kib=4096", "core.vector.repeat_bytes=4096",
    "memory.l2.capacity_mib=128", "memory.l2.slices=32", "memory.l2.line_bytes=512",
    "memory.hbm.interleave_bytes=512", "memory.hbm.bandwidth_gbps=614",
]  # fmt: skip
"""Four arrays of 128 x 128 bf16, 128 MiB of common and 16 MiB of vector memory, 614 GB/s of HBM (Jouppi, ISCA 2021)."""


@pytest.mark.parametrize(
    ("chip", "mm2"),
    [
        (load_chip("ascend_910a"), 14.6 * 31.25),  # compute die of the Ascend 910 in N7+, Hot Chips 2019
        (load_chip("ascend_910b1"), 21.32 * 31.22),  # compute die of the Ascend 910B, of which a 7 nm class is said
        (load_chip("edge", TPU_V4I), 400),  # "less than 400 mm2"
    ],
    ids=["ascend 910", "ascend 910B", "TPUv4i"],
)
def test_dies_within_a_factor_of_two(chip: NpuConfig, mm2: float) -> None:
    total = estimate_area(chip, N7).total
    assert mm2 / 2 < total.value < mm2 * 2
    assert abs(mm2 - total.value) < total.error


@kernel(a="fp16[M, K]", b="fp16[N, K]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b), transpose_b=True))


@pytest.fixture(scope="module")
def product_energy() -> EnergyReport:
    """A matrix product of 1024 cubed in fp16 on the Ascend 910."""
    device = Device("ascend_910a", timing_only=True, engine="simpy")
    device.run(product, {"a": device.empty((1024, 1024), "fp16"), "b": device.empty((1024, 1024), "fp16")})
    return EnergyReport.sum(estimate_energy(launch.result, device.chip, N7) for launch in device.launches)


def test_a_large_product_costs_what_accelerators_of_its_time_do(product_energy: EnergyReport) -> None:
    # At their thermal limits: Ascend 910 310 W / 256 TFLOPS = 1.2, A100 400 / 312 = 1.3, TPUv4i 175 / 138 = 1.3 pJ
    assert product_energy.pj_per_flop is not None
    assert 0.4 < product_energy.pj_per_flop < 4


def test_power_at_peak_rate_is_near_the_thermal_limit(product_energy: EnergyReport) -> None:
    static = product_energy.components["static"].value
    dynamic_per_flop = (product_energy.total.value - static) / product_energy.flops
    watts = dynamic_per_flop * 256 + static * 1e-12 / product_energy.seconds  # pJ x 256 TFLOPS = W
    assert 310 / 2 < watts < 310 * 2


def test_arithmetic_and_its_operands_are_most_of_a_large_product(product_energy: EnergyReport) -> None:
    parts = {name: amount.value for name, amount in product_energy.components.items()}
    assert parts["cube"] == max(value for name, value in parts.items() if name != "static")
    assert parts["sequencer"] < 0.01 * parts["cube"]
    assert parts["ub"] == 0
