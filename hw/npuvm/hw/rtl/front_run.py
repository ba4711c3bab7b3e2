"""The front stage of hw/rtl in a simulator: built for the numbers of a chip, given launches, read back cycle by cycle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.front_files import FrontRun, FrontTrace, read_log, write_run
from npuvm.hw.rtl.simulators import Simulator, build, decoder_sources
from npuvm.isa.model import Isa
from npuvm.isa.resources import data_root

__all__ = ["front_parameters", "run_front_stage"]

_TOPLEVEL = "front_bench"
_BENCH = "npuvm.hw.rtl.front_bench"
_PACKAGE = "front_pkg.sv"
_MOST_CORES = 64


def front_parameters(chip: NpuConfig) -> dict[str, int]:
    """The parameters of `front_cores` that a chip's numbers give."""
    sequencer, sync = chip.core.sequencer, chip.core.sync
    return {
        "FETCH_WORDS": sequencer.fetch_words_per_cycle,
        "FETCH_LATENCY": sequencer.fetch_latency_cycles,
        "PREFETCH_WORDS": sequencer.prefetch_words,
        "DECODE_CYCLES": sequencer.decode_cycles_per_word,
        "DISPATCH_CYCLES": sequencer.dispatch_cycles,
        "LOOP_CYCLES": sequencer.loop_cycles,
        "QUEUE_DEPTH": sequencer.queue_depth,
        "SCALAR_CYCLES": sequencer.scalar_cycles,
        "SCALAR_LOAD_CYCLES": sequencer.scalar_load_cycles,
        "START_CYCLES": sequencer.start_cycles,
        "BARRIER_CYCLES": sequencer.barrier_cycles,
        "SET_TO_VISIBLE": sync.set_to_visible_cycles,
        "GROUP_CYCLES": sync.group_cycles,
        "LAUNCH_CYCLES": sync.launch_cycles,
    }


def run_front_stage(
    simulator: Simulator,
    isa: Isa,
    parameters: Mapping[str, int],
    runs: Sequence[FrontRun],
    group_cores: int,
    work_dir: Path | None = None,
    *,
    folder: Path | None = None,
) -> list[list[FrontTrace]]:
    """Run launches one after the other on one build; per run, what each of its cores did.

    `parameters` are those of `front_parameters`; groups have `group_cores` cores. The files are left in `work_dir`, a temporary
    folder when None. `folder` has another version of hw/rtl. RtlError when a launch has too many cores, a build fails, or
    decoding starves; a run that reaches its limit is one that has not finished.
    """
    cores = max(len(run.entries) for run in runs)
    if not 1 <= cores <= _MOST_CORES:
        raise RtlError(f"{cores} cores; the bench takes 1 to {_MOST_CORES}")
    longest = max((len(pairs) for run in runs for pairs in run.durations.values()), default=1)
    program = max(len(run.words) for run in runs)
    sizes = {"CORES": cores, "GROUP_CORES": group_cores, "PROGRAM": _power(program), "DURATIONS": _power(longest)}
    with ExitStack() as stack:
        if work_dir is None:
            work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npuvm-front-")))
        sources = _sources(isa, work_dir, folder or data_root() / "hw" / "rtl")
        built = build(simulator, sources, _TOPLEVEL, work_dir / "build", parameters={**parameters, **sizes})
        files = work_dir / "runs"
        files.mkdir(exist_ok=True)
        for number, run in enumerate(runs):
            write_run(run, number, files, cores, sizes["DURATIONS"])
        built.run(_BENCH, environment={"FRONT_RUNS": str(len(runs))}, work_dir=files)
        return [read_log(files / f"run{number}.log", len(run.entries)) for number, run in enumerate(runs)]


def _sources(isa: Isa, work_dir: Path, folder: Path) -> list[Path]:
    """Packages, the decoder of the instruction set, the front stage, its bench."""
    package, decoder = decoder_sources(isa, work_dir)
    stages = [file for file in sorted(folder.glob("front_*.sv")) if file.name != _PACKAGE]
    return [package, folder / _PACKAGE, decoder, *stages, *sorted((folder / "bench").glob("front_*.sv"))]


def _power(least: int) -> int:
    """The smallest power of two that is not below `least`, 16 at least."""
    return max(16, 1 << (least - 1).bit_length())
