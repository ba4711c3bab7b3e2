"""Holds the compiled engine to the other one: the same launches on both, what a run reports, and what L2 holds after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

from npuvm.hw.compiled import Backend, BackendName, backend_of
from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import DeviceError
from npuvm.hw.functional.indices import IndexSource
from npuvm.hw.memory.l2 import L2State
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import Image, Isa, load_isa
from npuvm.isa.errors import NpuvmError

ISA = load_isa()


@dataclass(frozen=True)
class Launch:
    """A launch for time only. `registers` are per core the values of its scalar loads, `indices` where rows are picked."""

    chip: NpuConfig
    image: Image
    addresses: Sequence[int] = ()
    registers: Sequence[Sequence[int]] | None = None
    cycle_limit: int | None = None
    isa: Isa = ISA
    indices: IndexSource | None = None


def run(launch: Launch, engine: Any, l2: L2State) -> RunResult | NpuvmError:
    """The result of a launch, or the error that it ended in."""
    try:
        return simulate(
            launch.chip,
            launch.isa,
            launch.image,
            addresses=launch.addresses,
            data=False,
            l2=l2,
            cycle_limit=launch.cycle_limit,
            registers=launch.registers,
            engine=engine,
            indices=launch.indices,
        )
    except NpuvmError as exc:
        return exc


def check_same(launch: Launch, *backends: Backend, again: int = 1) -> RunResult | NpuvmError:
    """Run a launch, and `again` on what it left in L2, on both engines; assert that all they say is equal.

    Returns what the reference made of it last.
    """
    reference = l2_state(launch.chip)
    states = [l2_state(launch.chip) for _ in backends]
    expected: RunResult | NpuvmError = DeviceError("nothing was run")
    for _ in range(1 + again):
        expected = run(launch, "simpy", reference)
        for backend, state in zip(backends, states, strict=True):
            found = run(launch, backend, state)
            assert not (problems := differences(expected, found, backend)), (launch.image.name, backend.label, problems)
            if isinstance(expected, RunResult):
                assert state.dirty == reference.dirty
                # Reading the lines of the other form would convert them; the next launch is to find its own.
                held = state.table(backend).lines()
                assert list(held.items()) == list(reference.lines.items())
        if not isinstance(expected, RunResult):
            break
    return expected


def differences(expected: RunResult | NpuvmError, found: RunResult | NpuvmError, backend: Backend) -> list[str]:
    """Where two outcomes differ, field by field; the engine's name apart."""
    if isinstance(expected, NpuvmError) or isinstance(found, NpuvmError):
        same = type(expected) is type(found) and str(expected) == str(found)
        return [] if same else [f"{expected!r} != {found!r}"]
    if found.engine != backend.label:
        return [f"engine {found.engine}"]
    found = replace(found, engine=expected.engine)
    wrong = [field.name for field in fields(RunResult) if getattr(expected, field.name) != getattr(found, field.name)]
    text = [f"{name}: {getattr(expected, name)} != {getattr(found, name)}" for name in wrong if name != "cores"]
    for index, (one, other) in enumerate(zip(expected.cores, found.cores, strict=True)):
        text += [f"core {index} {n}: {u} != {other.units[n]}" for n, u in one.units.items() if u != other.units[n]]
        text += [f"core {index} halts: {one.cycles} != {other.cycles}"] * (one.cycles != other.cycles)
    return text if text or not wrong else wrong


def backends() -> list[Backend]:
    """All that there are; the plain one first."""
    names: list[BackendName] = ["python", "numba"] if find_spec("numba") is not None else ["python"]
    return [backend_of(name) for name in names]
