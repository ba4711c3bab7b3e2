"""Runs a program image on a chip: the public entry of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

from npuvm.hw.compiled import Backend, CompiledMachine, backend_of, timed_semaphores
from npuvm.hw.compiled.digits import check_digits
from npuvm.hw.energy.work import work_of
from npuvm.hw.engine.chip import CoreProgram, Machine, Options
from npuvm.hw.engine.durations import Durations, with_durations
from npuvm.hw.errors import DeviceError, SimulationError
from npuvm.hw.expansion.expand import Expansions, expansions_of
from npuvm.hw.expansion.stream import ScalarLoad
from npuvm.hw.expansion.tally import unite
from npuvm.hw.functional.blas import one_blas_thread
from npuvm.hw.functional.execute import Executor, GlobalMemory
from npuvm.hw.functional.indices import IndexSource, with_indices
from npuvm.hw.hazards import HazardChecker
from npuvm.hw.launch import core_groups
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.results.bounds import check_bounds, core_bounds, launch_bounds, memory_bounds
from npuvm.hw.results.stats import RunResult, bytes_by_level, core_stats, count_instructions, work_by_word
from npuvm.hw.results.sums import sum_by_key

if TYPE_CHECKING:
    from npuvm.hw.config import CoreType, NpuConfig
    from npuvm.hw.engine.observe import TraceEvent
    from npuvm.isa import Image, Isa

__all__ = ["EngineName", "HazardMode", "l2_state", "simulate", "timing_engine"]

HazardMode = Literal["raise", "collect", "off"]

EngineName = Literal["simpy", "compiled"]


def l2_state(chip: NpuConfig) -> L2State:
    """An empty L2 of a chip, to be kept over the launches of one device."""
    return L2State(chip.capacity_bytes("l2"), chip.memory.l2.line_bytes)


def timing_engine() -> EngineName:
    """The faster engine where only time is simulated: the compiled one with numba, simpy without."""
    # In plain Python the compiled engine's loops are slower than simpy's events.
    return "compiled" if backend_of().name == "numba" else "simpy"


def simulate(
    chip: NpuConfig,
    isa: Isa,
    image: Image,
    *,
    memory: GlobalMemory | None = None,
    addresses: Sequence[int] = (),
    windows: Sequence[tuple[int, int]] = (),
    data: bool = True,
    l2: L2State | None = None,
    cycle_limit: int | None = None,
    hazards: HazardMode | None = None,
    registers: Sequence[Sequence[int]] | None = None,
    trace: bool = False,
    durations: Durations | None = None,
    engine: EngineName | Backend = "simpy",
    indices: IndexSource | None = None,
) -> RunResult:
    """Run one launch to its end and report it.

    `addresses` are the byte addresses of the image's arguments, `windows` the (base, bytes) of global memory that the launch
    may touch. With `data`, `memory` is read and written; without, only time is simulated, and `registers` gives per core
    the values of its scalar loads in order (`RunResult.scalar_loads` of a run with data), `indices` the index vectors of its
    instructions (`RunResult.indices`), or how they are distributed; a run with data does not look at it. `l2` is the state
    left by earlier launches and is updated; None starts empty. `hazards` says whether a missing synchronisation raises, is
    collected, or is not looked for; None means raise with data, off without. `durations` replaces what the units take.

    `engine` "compiled" is the same timing, many times as fast, and timing only: without data, hazards, trace and durations.
    It runs on numba where that is installed, else in plain Python; a `Backend` instead of the name chooses.

    ConfigError when a number of the chip has too many digits for the compiled engine; DeviceError when the launch does not fit
    the chip; TrapError when it traps, also for taking longer than
    `cycle_limit` cycles; SimulationError for a deadlock or a result below a physical bound; HazardError for a hazard.
    """
    if image.isa_hash != isa.hash:
        raise DeviceError(f"made for instruction set {image.isa_hash[:12]}, the chip runs {isa.hash[:12]}", image.name)
    if data and memory is None:
        raise DeviceError("a run with data needs `memory`; pass it, or data=False", image.name)
    if engine != "simpy" and (data or trace or durations is not None or hazards not in (None, "off")):
        raise DeviceError("the compiled engine is timing only: data=False, no hazards, trace or durations", image.name)
    groups = core_groups(chip, image)
    if len(addresses) != image.n_args:
        raise DeviceError(f"{len(addresses)} addresses given, the image takes {image.n_args}", image.name)
    expansions = expansions_of(isa, image, chip)
    regions = expansions.launch(image.entries, addresses)
    if durations is not None:
        regions = [with_durations(region, core, durations) for core, region in enumerate(regions)]
    if not data:
        regions = [with_indices(region, core, len(regions), indices) for core, region in enumerate(regions)]
    programs = [
        CoreProgram(cast("CoreType", entry.core_type), group, region)
        for entry, group, region in zip(image.entries, groups, regions, strict=True)
    ]
    l2 = l2_state(chip) if l2 is None else l2
    loads: list[list[int]] = [[] for _ in programs]
    if engine != "simpy":
        scalar = _scalar_source(None, registers, loads)
        compiled = _compiled(chip, isa, expansions, image, programs, l2, scalar, engine)
        return _report(chip, compiled, compiled.run(cycle_limit), loads, None, None, compiled.backend.label)
    executor = None
    if data and memory is not None:
        executor = Executor(isa, chip, memory, windows, len(programs))
    mode = hazards or ("raise" if data else "off")
    checker = None if mode == "off" else HazardChecker(mode == "collect", image)
    events: list[TraceEvent] | None = [] if trace else None
    scalar = _scalar_source(executor, registers, loads)
    picked: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in programs]
    machine = Machine(chip, isa, programs, l2, Options(scalar, executor, checker, events, picked))
    with one_blas_thread():
        cycles = machine.run(cycle_limit)
    result = _report(chip, machine, cycles, loads, checker, events, "simpy")
    if not any(picked):
        return result
    return replace(result, indices=tuple(tuple(vector for _, vector in sorted(core)) for core in picked))


def _compiled(
    chip: NpuConfig,
    isa: Isa,
    expansions: Expansions,
    image: Image,
    programs: Sequence[CoreProgram],
    l2: L2State,
    scalar: Callable[[int, ScalarLoad], int],
    engine: Literal["compiled"] | Backend,
) -> CompiledMachine:
    """The launch on the compiled engine."""
    check_digits(chip)
    backend = backend_of() if engine == "compiled" else engine
    timed = {pc: timed_semaphores(expansions.program(pc), isa) for pc in {entry.pc for entry in image.entries}}
    return CompiledMachine(backend, chip, isa, programs, l2, scalar, [timed[entry.pc] for entry in image.entries])


def _report(
    chip: NpuConfig,
    machine: Machine | CompiledMachine,
    cycles: int,
    loads: Sequence[Sequence[int]],
    checker: HazardChecker | None,
    events: Sequence[TraceEvent] | None,
    engine: str,
) -> RunResult:
    names = {code: name for name, code in machine.isa.units.items()}
    counted = [(core, tally := core.tally, *count_instructions(tally)) for core in machine.cores]
    cores = [core_stats(core, cycles, units, tally.bank) for core, tally, units, _ in counted]
    by_unit = sum_by_key({names[code]: n for code, n in units.items()} for _, _, units, _ in counted)
    by_op = sum_by_key(ops for *_, ops in counted)
    tallies = [tally for _, tally, *_ in counted]
    tables = unite(tallies)
    bounds = launch_bounds(memory_bounds(chip, machine.memory), [core_bounds(chip, tally) for tally in tallies])
    check_bounds(cycles, bounds)
    return RunResult(
        cycles=cycles,
        seconds=chip.cycles_to_us(cycles) / 1_000_000,
        cores=tuple(cores),
        bytes=bytes_by_level(tables, machine.memory),
        work=work_of(chip, machine.isa, tables),
        requests=machine.memory.requests,
        instructions=sum(by_unit.values()),
        by_unit=by_unit,
        by_op=by_op,
        bounds=bounds,
        hazards=tuple(checker.found) if checker is not None else (),
        scalar_loads=tuple(tuple(values) for values in loads),
        trace=tuple(events or ()),
        engine=engine,
        by_word=work_by_word(tables),
    )


def _scalar_source(
    executor: Executor | None, registers: Sequence[Sequence[int]] | None, loads: list[list[int]]
) -> Callable[[int, ScalarLoad], int]:
    """Where scalar loads get their values; each one is noted in `loads` of its core."""

    def load(core: int, region: ScalarLoad) -> int:
        noted = loads[core]
        if executor is not None:
            value = executor.load_scalar(region.addr, region.itemsize)
        elif registers is not None and core < len(registers) and len(noted) < len(registers[core]):
            value = registers[core][len(noted)]
        else:
            raise SimulationError(
                f"the scalar load at word {region.pc} needs a value; without data pass recorded ones (`registers`)",
                f"core {core}",
            )
        noted.append(value)
        return value

    return load
