"""Runs the ONNX model of a `model` scenario at its sizes, and compares every output with onnxruntime, or ONNX's reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from math import fsum
from typing import TYPE_CHECKING

import numpy as np

from npuvm.compiler.graph.model import Model
from npuvm.isa import NpuvmError
from npuvm.runtime.host.provider import HostError
from npuvm.runtime.scenarios.oracles import Errors, compare
from npuvm.runtime.scenarios.report import Header, ModelRow, Progress, ScenarioReport, Totals
from npuvm.runtime.scenarios.schema import InputFields, ModelRun, ModelScenario, Tolerance
from npuvm.runtime.scenarios.session import LaunchSession
from npuvm.runtime.scenarios.totals import totals_of
from npuvm.runtime.session import Session
from npuvm.runtime.session.carrying import Array, numpy_dtype
from npuvm.runtime.session.errors import NO_ONNX, SessionError
from npuvm.runtime.session.feeds import shapes_at

if TYPE_CHECKING:
    import onnx

__all__ = ["expected_outputs", "run_model"]

_ALLOWED = {"float16": 2e-2, "bfloat16": 0.1, "float32": 1e-4, "float64": 1e-4}
"""How far an output may be off, as a part of its largest magnitude, where a scenario says nothing; others are exact."""


def run_model(scenario: ModelScenario, session: LaunchSession, header: Header, progress: Progress) -> ScenarioReport:
    """Run a model at all sizes of the scenario; its report has a row for each.

    CompileError and SessionError for a model that cannot be read, or sizes that it does not have.
    """
    weights = fsum(run.weight for run in scenario.runs)
    rows = []
    proto = _load(scenario.model)
    with Session(proto, session.device, fusion=scenario.fusion, buffering=scenario.buffering) as opened:
        for index, run in enumerate(scenario.runs):
            label = f"{scenario.name}: run {index}"
            progress(index, len(scenario.runs), label)
            rng = np.random.default_rng([scenario.seed, index])
            try:
                rows.append(_row(scenario, opened, proto, run, run.weight / weights, rng))
            except NpuvmError as error:
                error.where = label if error.where is None else f"{label}: {error.where}"
                raise
            # What the run left on the device would make the next one faster; runs are told apart by nothing but their sizes.
            opened.close()
    progress(len(scenario.runs), len(scenario.runs), scenario.name)
    return ScenarioReport(header, stream_us=session.stream_us, runs=tuple(rows), calls=session.calls)


def _load(path: str) -> onnx.ModelProto:
    try:
        from npuvm.compiler.frontends.onnx import load_model
    except ModuleNotFoundError:
        raise SessionError(NO_ONNX) from None
    return load_model(path)


def _row(
    scenario: ModelScenario,
    session: Session,
    proto: onnx.ModelProto,
    run: ModelRun,
    share: float,
    rng: np.random.Generator,
) -> ModelRow:
    shapes = shapes_at(session.model, run.sizes)
    errors = None
    if session.device.timing_only:
        session.time(shapes)
    else:
        feeds = _feeds(scenario.inputs, session.model, shapes, rng)
        made = session.run(feeds)
        errors = _errors(made, expected_outputs(proto, feeds), scenario.tolerance)
    report = session.last
    hosts = tuple(f"{use.op} ({use.source})" for use in report.hosts.values())
    return ModelRow(run.sizes, share, report.simulated_us, _totals(session), errors, hosts, report.with_transfers_us)


def _totals(session: Session) -> Totals:
    """Totals of all launches of the last run."""
    device = session.device
    parts = []
    for each in session.executed():
        graph, kernel = each.step.graph, each.program.kernel
        shapes = {spec.name: spec.shape for spec in kernel.tensors if spec.kind == "param"}
        results = [record.result for record in device.launches[each.first : each.first + len(kernel.launches)]]
        parts.append(totals_of(device.chip, graph, graph.bind(shapes), results, 0.0))
    return replace(Totals.sum(parts), compile_us=session.last.compile_measured_us)


def _feeds(
    fields: Mapping[str, InputFields], model: Model, shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator
) -> dict[str, Array]:
    """Random data for all inputs. SessionError for a rule that fits no input, or an input of another dtype."""
    for pattern in fields:
        if not any(fnmatchcase(name, pattern) for name in model.inputs):
            raise SessionError(f"inputs.{pattern}: fits no input; inputs: {', '.join(model.inputs)}", model.name)
    made = {}
    for name in model.inputs:
        dtype = model.values[name].dtype
        target = numpy_dtype(dtype)
        rule = next((each for pattern, each in fields.items() if fnmatchcase(name, pattern)), None)
        if target.kind in "iub":
            if rule is not None and rule.scale is not None:
                raise SessionError(f"input '{name}' is {dtype}; allowed is {{low, high}}, not scale", model.name)
            low, high = (0, 1) if rule is None or rule.low is None or rule.high is None else (rule.low, rule.high)
            made[name] = rng.integers(low, high, size=shapes[name], endpoint=True).astype(target)
        elif target.kind == "O":
            raise SessionError(f"input '{name}' is {dtype}, and cannot be made up; allowed: --timing-only", model.name)
        else:
            if rule is not None and rule.scale is None:
                raise SessionError(f"input '{name}' is {dtype}; allowed is {{scale}}, not low and high", model.name)
            scale = np.float32(1.0 if rule is None or rule.scale is None else rule.scale)
            made[name] = (rng.standard_normal(shapes[name], dtype=np.float32) * scale).astype(target)
    return made


def expected_outputs(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name: onnxruntime's where it is installed and takes the model, otherwise those of ONNX's reference."""
    names = [output.name for output in proto.graph.output]
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        state = onnxruntime.capi.onnxruntime_pybind11_state
        try:
            oracle = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return dict(zip(names, oracle.run(names, dict(feeds)), strict=True))
        except (state.Fail, state.InvalidGraph, state.NotImplemented):
            pass  # the reference has what it does not have
    from onnx.reference import ReferenceEvaluator

    try:
        made = ReferenceEvaluator(proto).run(names, dict(feeds))
    except Exception as error:  # what the reference raises is not told by ONNX
        raise HostError(f"onnx.reference cannot run the model: {type(error).__name__}: {error}") from error
    return dict(zip(names, made, strict=True))


def _errors(made: Mapping[str, Array], expected: Mapping[str, Array], tolerance: Tolerance | None) -> dict[str, Errors]:
    found = {}
    for name, want in expected.items():
        allowed = tolerance
        if allowed is None:
            share = _ALLOWED.get(want.dtype.name, 0.0)
            largest = float(np.abs(want.astype(np.float64)).max()) if share and want.size else 0.0
            allowed = Tolerance(absolute=share * largest if np.isfinite(largest) else 0.0, relative=0.0)
        found[name] = compare(made[name], want, allowed)
    return found
