"""The generated SystemVerilog passes three linters without a word, for the base and for every extension."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.isa.generate.sets import SETS

from npuvm.hw.rtl.simulators import find_simulator
from npuvm.isa.generate import decoder_sv, package_sv


def sources(name: str, folder: Path) -> list[str]:
    """File names of the set's package and decoder, written to the folder under the names that linters ask for."""
    texts = {"npu_isa_pkg.sv": package_sv(SETS[name]), "npu_decoder.sv": decoder_sv(SETS[name])}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return list(texts)


def said(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the command prints; it must succeed."""
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


@pytest.mark.parametrize("name", SETS)
@pytest.mark.skipif(
    importlib.util.find_spec("pyslang") is None, reason="pyslang is not installed: pip install 'npuvm[rtl]'"
)
def test_pyslang(name: str, tmp_path: Path) -> None:
    assert slang_diagnostics([tmp_path / file for file in sources(name, tmp_path)]) == []


@pytest.mark.skipif(
    importlib.util.find_spec("pyslang") is None, reason="pyslang is not installed: pip install 'npuvm[rtl]'"
)
def test_pyslang_sees_a_fault(tmp_path: Path) -> None:
    package, decoder = (tmp_path / file for file in sources("tiny", tmp_path))
    decoder.write_text(decoder.read_text(encoding="utf-8").replace("wire fits_1", "wire fits_one"), encoding="utf-8")
    assert slang_diagnostics([package, decoder])


def slang_diagnostics(files: list[Path]) -> list[str]:
    """What slang says about the elaborated design."""
    from pyslang import ast, syntax

    compilation = ast.Compilation()
    for file in files:
        compilation.addSyntaxTree(syntax.SyntaxTree.fromFile(str(file)))
    return [str(diagnostic.code) for diagnostic in compilation.getAllDiagnostics()]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_icarus(name: str, tmp_path: Path) -> None:
    assert said(["iverilog", "-g2012", "-Wall", "-t", "null", *sources(name, tmp_path)], tmp_path) == ""


VERILATOR = find_simulator("verilator")


@pytest.mark.slow  # not for its time: the environment of the slow tests is the one that has Verilator
@pytest.mark.parametrize("name", SETS)
@pytest.mark.skipif(VERILATOR.missing is not None, reason=str(VERILATOR.missing))
def test_verilator(name: str, tmp_path: Path) -> None:
    command = "verilator" if VERILATOR.path is None else str(VERILATOR.path / "verilator")
    lines = said([command, "--lint-only", "-Wall", *sources(name, tmp_path)], tmp_path, VERILATOR.environment)
    assert [line for line in lines.splitlines() if not line.startswith("- ")] == []
