"""Simulators for the tests of the hardware description; a test without its simulator is skipped by that simulator's name."""

from __future__ import annotations

import pytest

from npuvm.hw.rtl import Simulator, find_simulator
from npuvm.hw.rtl.yosys import Yosys, find_yosys


def available(name: str) -> Simulator:
    simulator = find_simulator(name)
    if simulator.missing is not None:
        pytest.skip(f"{name}: {simulator.missing}")
    return simulator


@pytest.fixture(scope="session")
def icarus() -> Simulator:
    return available("icarus")


@pytest.fixture(scope="session")
def verilator() -> Simulator:
    return available("verilator")


@pytest.fixture(scope="session")
def yosys() -> Yosys:
    found = find_yosys()
    if found.missing is not None:
        pytest.skip(f"yosys: {found.missing}")
    return found
