"""Looking at points of a design space: what their workloads take on their chips."""

from __future__ import annotations

from npuvm.explore.evaluation.evaluator import Evaluator
from npuvm.explore.evaluation.fronts import dominated, exceeded, objective_values
from npuvm.explore.evaluation.keys import code_name
from npuvm.explore.evaluation.record import Evaluation, EvaluationState, HostCost, RunRecord
from npuvm.explore.evaluation.store import StoreError
from npuvm.explore.evaluation.workloads import check_workloads, host_line, host_operators, workload_digest

__all__ = [
    "Evaluation",
    "EvaluationState",
    "Evaluator",
    "HostCost",
    "RunRecord",
    "StoreError",
    "check_workloads",
    "code_name",
    "dominated",
    "exceeded",
    "host_line",
    "host_operators",
    "objective_values",
    "workload_digest",
]
