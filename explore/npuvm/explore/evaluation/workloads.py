"""What of a space's workloads can be told before any point: whether they can be read, and what of them the host does."""

from __future__ import annotations

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.model import HostStep, SizesStep
from npuvm.explore.evaluation.keys import digest
from npuvm.explore.evaluation.tapes import file_digest, read_model
from npuvm.explore.space import SizedRun, Space, Workload
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session.feeds import shapes_at

__all__ = ["check_workloads", "host_line", "host_operators", "workload_digest"]


def check_workloads(space: Space) -> None:
    """Raise what would fail every point: a model that is none, symbols without a size, sizes without a symbol.

    So does a model of which nothing runs on the device: all measures would be 0 at every point. The error names the workload;
    it is that of `read_model` or `shapes_at`, or a CompileError.
    """
    for workload in space.workloads:
        try:
            _check(workload)
        except NpuvmError as error:
            error.where = ": ".join(filter(None, (workload.where, f"workload {workload.name}", error.where)))
            raise


def _check(workload: Workload) -> None:
    if workload.kind == "scenario":
        return
    model = read_model(workload.path).model
    if all(isinstance(step, HostStep | SizesStep) for step in model.steps):
        raise CompileError("no operator of the model runs on the device; allowed is a model with one at least")
    for run in workload.runs:
        shapes_at(model, run.sizes)


def workload_digest(workload: Workload) -> str:
    """A digest of what a workload's files say, a model's data in other files included; what `read_model` raises."""
    model = read_model(workload.path).digest if workload.kind == "model" else None
    return digest(model, None if workload.scenario is None else file_digest(workload.scenario))


def host_operators(workload: Workload, run: SizedRun) -> int:
    """Operators of a workload's model that run on the host, whose time is in no measure; what `read_model` raises."""
    if workload.kind == "scenario":
        return 0
    return len(read_model(workload.path).at(run.sizes).host_steps())


def host_line(workload: str, count: int) -> str:
    """What there is to say of so many operators of a workload on the host."""
    if count == 1:
        return f"1 operator of {workload} runs on the host; its time is in no measure"
    return f"{count} operators of {workload} run on the host; their time is in no measure"
