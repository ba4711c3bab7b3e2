"""The front stage of hw/rtl in a simulator: built for the numbers of a chip, given launches, read back cycle by cycle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.front_files import FrontRun, FrontTrace, read_log, write_run
from npuvm.hw.rtl.simulators import Simulator, build, rtl_sources
from npuvm.isa.model import Isa
from npuvm.isa.resources import data_root

__all__ = ["front_parameters", "run_front_stage"]

_TOPLEVEL = "front_bench"
_BENCH = "npuvm.hw.rtl.front_bench"
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
) -> list[list[FrontTrace]]:
    """Run launches one after the other on one build; per run, what each of its cores did.

    `parameters` are those of `front_parameters`; groups have `group_cores` cores. The files are left in `work_dir`, a temporary
    folder when None. RtlError when a launch has too many cores, a build fails, or a run reaches its limit.
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
        bench = sorted((data_root() / "hw" / "rtl" / "bench").glob("front_*.sv"))
        sources = [*rtl_sources(isa, work_dir), *bench]
        built = build(simulator, sources, _TOPLEVEL, work_dir / "build", parameters={**parameters, **sizes})
        folder = work_dir / "runs"
        folder.mkdir(exist_ok=True)
        for number, run in enumerate(runs):
            write_run(run, number, folder, cores, sizes["DURATIONS"])
        built.run(_BENCH, environment={"FRONT_RUNS": str(len(runs))}, work_dir=folder)
        return [_traces(run, folder / f"run{number}.log") for number, run in enumerate(runs)]


def _traces(run: FrontRun, log: Path) -> list[FrontTrace]:
    traces = read_log(log, len(run.entries))
    if any(trace.finished is None for trace in traces) and all(trace.stopped is None for trace in traces):
        raise RtlError(f"{log.name}: not finished after {run.limit} cycles")
    return traces


def _power(least: int) -> int:
    """The smallest power of two that is not below `least`, 16 at least."""
    return max(16, 1 << (least - 1).bit_length())
