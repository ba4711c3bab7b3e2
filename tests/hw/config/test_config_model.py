from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.config import NpuConfig, load_chip, parse_chip


@pytest.fixture(scope="module")
def b() -> NpuConfig:
    return load_chip("ascend_910b1")


@pytest.fixture(scope="module")
def a() -> NpuConfig:
    return load_chip("ascend_910a")


def test_rates_are_exact() -> None:
    """GB/s over GHz is bytes a cycle: 5200 / 1.85 and 1490 / 1.85, which no binary float holds."""
    b = load_chip("ascend_910b1", ["clock_ghz=1.85", "memory.l2.bandwidth_gbps=5200", "memory.hbm.bandwidth_gbps=1490"])
    assert b.clock_ghz == Fraction(37, 20)
    assert b.l2_bytes_per_cycle == Fraction(104000, 37)
    assert b.hbm_bytes_per_cycle == Fraction(29800, 37)
    assert b.core.vector.classes["vredf"].row_cycles == Fraction(1852, 100)


@given(digits=st.integers(1, 10**8), places=st.integers(0, 5))
def test_decimal_text_is_kept_exactly(digits: int, places: int) -> None:
    text = f"{digits // 10**places}.{digits % 10**places:0{places}d}" if places else str(digits)
    expected = Fraction(digits, 10**places)
    if not 0 < expected <= 100:
        return
    assert load_chip("edge", [f"clock_ghz={text}"]).clock_ghz == expected
    assert load_chip("edge", [f"clock_ghz='{expected.numerator}/{expected.denominator}'"]).clock_ghz == expected


def test_cores_in_launch_order(a: NpuConfig, b: NpuConfig) -> None:
    assert a.n_cores == 32
    assert a.core_types() == ["unified"] * 32
    assert b.n_cores == 72
    assert b.core_types()[:6] == ["cube", "vector", "vector", "cube", "vector", "vector"]
    assert len(b.core_types()) == 72
    three = load_chip("ascend_910b1", ["core.vector_per_group=3", "core.count=2"])
    assert three.core_types() == ["cube", "vector", "vector", "vector"] * 2


def test_cores_by_the_unit_they_have(a: NpuConfig, b: NpuConfig) -> None:
    assert [a.cores_with(unit) for unit in ("seq", "cube", "vector")] == [32, 32, 32]
    assert [b.cores_with(unit) for unit in ("seq", "cube", "vector")] == [72, 24, 48]
    assert b.cores_with("scan") == 0
    assert (a.core_type_with("cube"), a.core_type_with("vector")) == ("unified", "unified")
    assert (b.core_type_with("cube"), b.core_type_with("vector")) == ("cube", "vector")
    with pytest.raises(KeyError):
        b.core_type_with("scan")


def test_vector_cores_per_group_have_a_default_by_kind() -> None:
    split = load_chip("ascend_910b1").model_dump(mode="json")
    del split["core"]["vector_per_group"]
    assert parse_chip(yaml.safe_dump(split)).core.vector_per_group == 2
    assert load_chip("edge").core.vector_per_group == 1


def test_capacities(b: NpuConfig) -> None:
    kib = {"ub": 192, "l1": 512, "l0a": 64, "l0b": 64, "l0c": 128, "l2": 192 << 10, "gm": 64 << 20}
    assert {space: b.capacity_bytes(space) for space in kib} == {space: size * 1024 for space, size in kib.items()}
    with pytest.raises(KeyError):
        b.capacity_bytes("l3")


def test_spaces_and_units_of_a_core(b: NpuConfig) -> None:
    """A split group has together what a unified core has, and no buffer or compute unit twice."""
    both = {*b.spaces("cube"), *b.spaces("vector")}
    assert both == set(b.spaces("unified"))
    assert set(b.spaces("cube")) & set(b.spaces("vector")) == {"gm"}
    assert {*b.units("cube"), *b.units("vector")} == set(b.units("unified"))
    assert set(b.units("cube")) & set(b.units("vector")) == {"seq", "load"}


def test_time_and_cycles(b: NpuConfig) -> None:
    assert b.us_to_cycles(1) == 1850
    assert b.us_to_cycles(Fraction(1, 1000)) == 2  # 1.85 cycles need two
    assert b.cycles_to_us(1850) == 1
    assert b.us_to_cycles(b.cycles_to_us(12345)) == 12345


def test_hash_covers_what_a_run_depends_on() -> None:
    base = load_chip("edge").chip_hash
    assert len(bytes.fromhex(base)) == hashlib.sha256().digest_size
    assert load_chip("edge", ["name=other", "description=other"]).chip_hash == base
    assert load_chip("edge", ["clock_ghz='4/5'"]).chip_hash == base
    changed = [
        "clock_ghz=0.9",
        "isa.extensions=[fma]",
        "host.launch_us=6",
        "core.vector.classes.vexp.latency_cycles=11",
    ]
    assert len({base, *(load_chip("edge", [override]).chip_hash for override in changed)}) == 5


def test_importing_the_configuration_leaves_the_simulator_out() -> None:
    code = """if True:
        import sys, npuvm.hw.config, npuvm.hw.errors
        hw = {name for name in sys.modules if name.startswith("npuvm.hw.")}
        extra = {name for name in hw if not name.startswith(("npuvm.hw.config", "npuvm.hw.errors"))}
        sys.exit("simpy" in sys.modules or bool(extra))
    """
    path = ":".join(entry for entry in sys.path if entry)
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0
