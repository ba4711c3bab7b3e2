"""Energy of a run by kernel, its table and its JSON; and the verb `npuvm area`."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console, RenderableType

from npuvm.cli.main import main
from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import load_chip
from npuvm.hw.energy import estimate_area, estimate_energy, load_technology
from npuvm.runtime import Device
from npuvm.runtime.analysis.energy import RunEnergy, energy_json, energy_of_launches, render_area, render_energy

N7 = load_technology("n7")


@kernel(x="fp32[M, N]")
def shifted(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.load(x) + 1.0)


@kernel(x="fp32[M, N]")
def exponents(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.exp(k.load(x)))


@pytest.fixture(scope="module")
def device() -> Device:
    """An edge chip on which one kernel ran twice and another once."""
    device = Device("edge", timing_only=True, engine="simpy")
    x = device.empty((32, 64), "fp32")
    for made in (shifted, shifted, exponents):
        device.run(made, {"x": x})
    return device


@pytest.fixture(scope="module")
def run(device: Device) -> RunEnergy:
    return energy_of_launches(device.launches, N7)


def printed(content: RenderableType) -> str:
    file = io.StringIO()
    Console(file=file, width=200).print(content)
    return file.getvalue()


def test_kernels_are_the_sums_of_their_launches(device: Device, run: RunEnergy) -> None:
    parts = [estimate_energy(launch.result, device.chip, N7).total.value for launch in device.launches]
    assert set(run.kernels) == {"shifted", "exponents"}
    assert run.kernels["shifted"].total.value == pytest.approx(parts[0] + parts[1])
    assert run.whole.total.value == pytest.approx(sum(parts))
    # the same bytes, but a dearer operation
    vector = {name: report.components["vector"].value for name, report in run.kernels.items()}
    assert vector["exponents"] > vector["shifted"] / 2


def test_the_table_says_that_it_is_an_estimate(run: RunEnergy) -> None:
    text = printed(render_energy(run))
    assert "energy (estimate): edge in technology n7" in text
    lines = text.splitlines()
    assert [line.split("  ")[0].strip() for line in lines if " % " in line and "kernel" not in line] == [
        "shifted",
        "exponents",
        "all launches",
    ]
    assert "cube %" not in text  # no launch used it


def test_json_is_plain_and_adds_up(run: RunEnergy) -> None:
    document = json.loads(json.dumps(energy_json(run), allow_nan=False))
    assert document["estimate"] is True
    assert document["whole"]["total"]["value"] == pytest.approx(
        sum(kernel["total"]["value"] for kernel in document["kernels"].values())
    )


def test_area_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area", "edge", "--set", "core.ub_kib=1024"]) == 0
    printed_table = capsys.readouterr().out
    area = estimate_area(load_chip("edge", ["core.ub_kib=1024"]), N7)
    assert "area (estimate): edge in technology n7" in printed_table
    assert f"{area.total.value:.2f}" in printed_table
    assert re.search(r"^ ub +1\.70 ", printed_table, re.MULTILINE)  # 1 MiB at 1.7 mm2
    assert printed(render_area(area)).splitlines()[0] == printed_table.splitlines()[0]


def test_area_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area", "edge", "--technology", "n45", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["estimate"], document["technology"]) == (True, "n45")
    assert document["components"]["core"]["value"] == 8


def test_an_unknown_technology_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area", "edge", "--technology", "n3"]) == 2
    assert capsys.readouterr().err == "npuvm: no technology named 'n3'; shipped are: n45, n7\n"
