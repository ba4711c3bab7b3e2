"""The SystemVerilog that is written by hand passes three linters, with the generated files and with its bench."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from npuvm.hw.rtl.simulators import find_simulator
from npuvm.isa.resources import data_root

RTL = data_root() / "hw" / "rtl"
PACKAGES = [RTL / "npu_isa_pkg.sv", RTL / "front_pkg.sv"]
MODULES = sorted(file for file in RTL.glob("*.sv") if file not in PACKAGES)
VERILATOR = find_simulator("verilator")


def said(command: list[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The lines that the command prints; it must succeed."""
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    assert run.returncode == 0, run.stdout + run.stderr
    return [line for line in (run.stdout + run.stderr).splitlines() if not line.startswith("- ")]


def test_there_is_something_to_lint() -> None:
    names = {file.name for file in MODULES}
    assert {"npu_decoder.sv", "front_stage.sv", "front_loops.sv", "front_shared.sv"} <= names


@pytest.mark.skipif(
    importlib.util.find_spec("pyslang") is None, reason="pyslang is not installed: pip install 'npuvm[rtl]'"
)
def test_pyslang() -> None:
    """No error and no warning among those that slang gives unless asked for more (-Wextra asks for a cast per addition)."""
    import pyslang

    sources = pyslang.SourceManager()
    compilation = pyslang.ast.Compilation()
    for file in (*PACKAGES, *MODULES):
        compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromFile(str(file), sources))
    engine = pyslang.DiagnosticEngine(sources)
    engine.setWarningOptions(["default"])
    found = [(each.code, engine.getSeverity(each.code, each.location)) for each in compilation.getAllDiagnostics()]
    assert [str(code) for code, severity in found if severity != pyslang.DiagnosticSeverity.Ignored] == []


@pytest.mark.parametrize("top", ["front_stage", "front_shared"])
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_icarus(top: str) -> None:
    files = [str(file) for file in (*PACKAGES, *MODULES)]
    assert said(["iverilog", "-g2012", "-Wall", "-t", "null", "-s", top, *files]) == []


@pytest.mark.slow  # not for its time: the environment of the slow tests is the one that has Verilator
@pytest.mark.parametrize("top", ["front_stage", "front_shared"])
@pytest.mark.skipif(VERILATOR.missing is not None, reason=str(VERILATOR.missing))
def test_verilator(top: str) -> None:
    command = "verilator" if VERILATOR.path is None else str(VERILATOR.path / "verilator")
    files = [str(file) for file in (*PACKAGES, *MODULES)]
    assert said([command, "--lint-only", "-Wall", "--top-module", top, *files], VERILATOR.environment) == []


def test_icarus_sees_a_fault(tmp_path: Path) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    broken = tmp_path / "front_size.sv"
    broken.write_text((RTL / "front_size.sv").read_text(encoding="utf-8").replace("endmodule", ""), encoding="utf-8")
    run = subprocess.run(["iverilog", "-g2012", "-t", "null", *map(str, PACKAGES), str(broken)], capture_output=True)
    assert run.returncode != 0
