"""Building and running: what is missing is named, and a failure shows its log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl import Simulator, build, build_and_run, decoder_sources, find_simulator, rtl_sources
from npuvm.isa import load_isa, load_isa_text
from npuvm.isa.resources import data_root

ADDER = """\
module adder #(parameter int STEP = 1) (input logic [7:0] a, output logic [7:0] b);
  assign b = a + STEP[7:0];
endmodule
"""
BENCH = """\
from __future__ import annotations

import os

import cocotb
from cocotb.triggers import Timer


@cocotb.test()
async def adds(dut):
    dut.a.value = 40
    await Timer(1, "ns")
    assert int(dut.b.value) == 40 + int(os.environ["STEP"]), "wrong sum"
"""


@pytest.fixture
def adder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "adder_bench.py").write_text(BENCH, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "adder.sv"
    source.write_text(ADDER, encoding="utf-8")
    return source


def test_parameters_and_environment_reach_the_bench(icarus: Simulator, adder: Path) -> None:
    before = dict(os.environ)
    build_and_run(icarus, [adder], "adder", "adder_bench", parameters={"STEP": 2}, environment={"STEP": "2"})
    assert dict(os.environ) == before


def test_one_build_serves_several_runs(icarus: Simulator, adder: Path, tmp_path: Path) -> None:
    built = build(icarus, [adder], "adder", tmp_path / "build")
    for run in ("first", "second"):
        built.run("adder_bench", environment={"STEP": "1"}, work_dir=tmp_path / run)
        assert (tmp_path / run / "simulation.log").is_file()


def test_a_failing_bench_is_an_error_with_its_log(icarus: Simulator, adder: Path) -> None:
    with pytest.raises(RtlError, match=r"adder_bench on adder in icarus: 1 of 1 tests failed(.|\n)*wrong sum"):
        build_and_run(icarus, [adder], "adder", "adder_bench", environment={"STEP": "2"})


def test_a_bench_without_tests_is_an_error(icarus: Simulator, adder: Path) -> None:
    (adder.parent / "empty_bench.py").write_text("from __future__ import annotations\n", encoding="utf-8")
    with pytest.raises(RtlError, match="empty_bench on adder in icarus"):
        build_and_run(icarus, [adder], "adder", "empty_bench")


def test_a_file_that_does_not_build_is_an_error_with_the_line(icarus: Simulator, adder: Path) -> None:
    adder.write_text("module adder; wire x = ; endmodule\n", encoding="utf-8")
    with pytest.raises(RtlError, match=r"building adder with icarus failed(.|\n)*adder.sv:1"):
        build_and_run(icarus, [adder], "adder", "adder_bench")


@pytest.mark.slow
def test_the_same_bench_runs_in_verilator(verilator: Simulator, adder: Path) -> None:
    build_and_run(verilator, [adder], "adder", "adder_bench", parameters={"STEP": 3}, environment={"STEP": "3"})


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "iverilog is not on PATH: apt-get install iverilog" in (find_simulator("icarus").missing or "")
    assert "g++, make, perl" in (find_simulator("verilator").missing or "")
    with pytest.raises(RtlError, match="icarus is not available: iverilog"):
        build(find_simulator("icarus"), [], "adder", tmp_path / "build")


def test_an_unknown_simulator_lists_those_there_are() -> None:
    with pytest.raises(RtlError, match="no simulator 'questa'; there are: icarus, verilator"):
        find_simulator("questa")


def test_the_package_imports_without_cocotb() -> None:
    code = (
        "import sys\n"
        "sys.modules['cocotb'] = sys.modules['cocotb_tools'] = None\n"
        "import npuvm.hw.rtl.target\n"
        "assert not [name for name in sys.modules if name.startswith('cocotb') and sys.modules[name]]\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_committed_decoder_is_used_for_its_own_instruction_set(tmp_path: Path) -> None:
    committed = data_root() / "hw" / "rtl"
    own = decoder_sources(load_isa(), tmp_path)
    assert own == [committed / "npu_isa_pkg.sv", committed / "npu_decoder.sv"]
    assert not list(tmp_path.iterdir())
    sources = rtl_sources(load_isa(), tmp_path)
    assert sources[0].name == "npu_isa_pkg.sv"
    assert sorted(sources) == sorted(committed.glob("*.sv"))


def test_another_instruction_set_gets_a_decoder_of_its_own(tmp_path: Path) -> None:
    text = (data_root() / "isa" / "npu_v1.yaml").read_text(encoding="utf-8")
    changed = load_isa_text(text.replace('version: "1.0"', 'version: "1.1"'))
    sources = decoder_sources(changed, tmp_path)
    assert [source.parent for source in sources] == [tmp_path, tmp_path]
    assert all(changed.hash in source.read_text(encoding="utf-8") for source in sources)
