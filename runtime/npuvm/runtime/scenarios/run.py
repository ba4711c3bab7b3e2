"""Runs scenarios: every operator on the simulated device, every result against its expectation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npuvm.hw.simulator import HazardMode
from npuvm.isa import NpuvmError
from npuvm.runtime.device.device import DeviceEngine, LaunchObserver
from npuvm.runtime.scenarios.header import code_version
from npuvm.runtime.scenarios.kernels import kernel_of, parameter_names
from npuvm.runtime.scenarios.oracles import compare, default_tolerance, expected, input_shapes, make_inputs
from npuvm.runtime.scenarios.report import CaseRow, Header, Progress, ScenarioReport, unwatched
from npuvm.runtime.scenarios.schema import (
    Case,
    GemmShape,
    KernelScenario,
    MatmulCase,
    MiniLmScenario,
    ModelScenario,
    PinFields,
    Scenario,
)
from npuvm.runtime.scenarios.session import LaunchSession

__all__ = ["operator_text", "run_scenario", "shape_text"]

Array: TypeAlias = npt.NDArray[Any]


def run_scenario(
    scenario: Scenario,
    chip: str | None = None,
    overrides: Sequence[str] = (),
    timing_only: bool = False,
    progress: Progress = unwatched,
    *,
    hazards: HazardMode | None = None,
    cold_l2: bool = False,
    engine: DeviceEngine | None = None,
    observers: Sequence[LaunchObserver] = (),
) -> ScenarioReport:
    """Run a scenario, on `chip` (a name or a file) instead of its own when given.

    `overrides` are "field.path=value" laid over the chip. With `timing_only` no tensor data moves and nothing is checked.
    `hazards`, `cold_l2`, `engine` and `observers` are those of `Device`. A wrong result is a fault of the report.
    ConfigError and CompileError say that the scenario cannot run on the chip, DeviceError and SimulationError that the device
    stopped or that a result is below a physical bound.
    """
    if isinstance(scenario, ModelScenario) and not timing_only and hazards in (None, "off"):
        engine = engine or "functional_first"
    session = LaunchSession(
        chip or scenario.chip,
        overrides,
        timing_only,
        hazards=hazards,
        cold_l2=cold_l2,
        engine=engine,
        observers=observers,
    )
    header = _header(scenario, session, overrides, timing_only)
    if isinstance(scenario, MiniLmScenario):
        from npuvm.runtime.scenarios.minilm import (
            run_minilm,  # the model's readers are installed only with the extra `minilm`
        )

        return run_minilm(scenario, session, header, progress)
    if isinstance(scenario, ModelScenario):
        from npuvm.runtime.scenarios.model import run_model  # models are read by the extra `onnx`

        return run_model(scenario, session, header, progress)
    rows = _run_cases(scenario, session, progress)
    return ScenarioReport(header, stream_us=session.stream_us, cases=tuple(rows), calls=session.calls)


def shape_text(shape: Sequence[int] | GemmShape) -> str:
    """A shape as the tables print it: "3 x 4", and of a product "12 x m71 n71 k32"."""
    if isinstance(shape, GemmShape):
        batch = "" if shape.batch is None else f"{shape.batch} x "
        return f"{batch}m{shape.m} n{shape.n} k{shape.k}"
    return " x ".join(str(size) for size in shape)


def _header(scenario: Scenario, session: LaunchSession, overrides: Sequence[str], timing_only: bool) -> Header:
    pins = {f"pins.{name}": str(value) for name, value in scenario.pins.model_dump(exclude_unset=True).items()}
    settings = dict(override.split("=", 1) for override in overrides)
    if session.cold_l2:
        settings["l2"] = "cold"
    if isinstance(scenario, ModelScenario) and scenario.fusion is not None:
        settings["fusion"] = scenario.fusion
    if isinstance(scenario, ModelScenario) and scenario.buffering is not None:
        settings["buffering"] = scenario.buffering
    return Header(
        scenario=scenario.name,
        title=scenario.title,
        chip=session.chip_name,
        isa=session.isa_name,
        commit=code_version(),
        options={"seed": str(scenario.seed), **pins, **settings},
        timing_only=timing_only,
        engine=session.engine_name,
    )


def _run_cases(scenario: KernelScenario, session: LaunchSession, progress: Progress) -> list[CaseRow]:
    steps = [(case, dtype, shape) for case in scenario.cases for dtype in case.dtypes for shape in case.shapes]
    rows = []
    for index, (case, dtype, shape) in enumerate(steps):
        label = f"{scenario.name}: {_label(case, dtype, shape)}"
        progress(index, len(steps), label)
        rng = np.random.default_rng([scenario.seed, index])
        pins = scenario.pins.model_copy(update=case.pins.model_dump(exclude_unset=True))
        try:
            with session.scope():
                rows.append(_run_case(session, case, dtype, shape, pins, rng))
        except NpuvmError as error:
            error.where = label if error.where is None else f"{label}: {error.where}"
            raise
    progress(len(steps), len(steps), scenario.name)
    return rows


def _run_case(
    session: LaunchSession,
    case: Case,
    dtype: str,
    shape: Sequence[int] | GemmShape,
    pins: PinFields,
    rng: np.random.Generator,
) -> CaseRow:
    shapes = input_shapes(case, shape)
    made = kernel_of(case, dtype, len(shapes[0]))
    # Room on the device first: a shape that does not fit is told before the host makes its values.
    tensors = [session.empty(dims, dtype) for dims in shapes]
    inputs = [] if session.timing_only else make_inputs(case, dtype, shape, rng)
    for tensor in tensors if session.timing_only else ():
        session.device.transfer(tensor, "to_device")
    for tensor, array in zip(tensors, inputs, strict=False):
        session.device.write(tensor, array)
    output, totals = session.launch(
        made, dict(zip(parameter_names(made), tensors, strict=True)), pins, tag=_label(case, dtype, shape)
    )
    result = session.array(output)
    errors = None
    if result is not None:
        errors = compare(result, expected(case, inputs), case.tolerance or default_tolerance(case, dtype))
    return CaseRow(operator_text(case), dtype, shape_text(shape), totals, errors)


def _label(case: Case, dtype: str, shape: Sequence[int] | GemmShape) -> str:
    return f"{operator_text(case)} {dtype} {shape_text(shape)}"


def operator_text(case: Case) -> str:
    """An operator as the tables print it: "softmax", and of a product "matmul A^T bias gelu"."""
    if not isinstance(case, MatmulCase):
        return case.op
    marks = [("A^T", case.transpose_a), ("B^T", case.transpose_b), ("bias", case.bias)]
    epilogue = [] if case.epilogue == "none" else [case.epilogue]
    return " ".join([case.op, *(mark for mark, on in marks if on), *epilogue])
