"""What of a space's workloads can be told before any point: whether they can be read, and at these sizes."""

from __future__ import annotations

from npuvm.explore.evaluation.keys import digest
from npuvm.explore.evaluation.tapes import file_digest, read_model
from npuvm.explore.space import Space, Workload
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session.feeds import shapes_at

__all__ = ["check_workloads", "workload_digest"]


def check_workloads(space: Space) -> None:
    """Raise what would fail every point: a model that is none, symbols without a size, sizes without a symbol.

    The error names the workload; it is that of `read_model` or `shapes_at`.
    """
    for workload in space.workloads:
        try:
            _check(workload)
        except NpuvmError as error:
            place = f"workload {workload.name}"
            error.where = place if error.where is None else f"{place}: {error.where}"
            raise


def _check(workload: Workload) -> None:
    if workload.kind == "scenario":
        return
    model = read_model(workload.path).model
    for run in workload.runs:
        shapes_at(model, run.sizes)


def workload_digest(workload: Workload) -> str:
    """A digest of what a workload's files say, a model's data in other files included; what `read_model` raises."""
    model = read_model(workload.path).digest if workload.kind == "model" else None
    return digest(model, None if workload.scenario is None else file_digest(workload.scenario))
