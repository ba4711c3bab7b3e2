"""Looking at points of a design space: what their workloads take on their chips."""

from __future__ import annotations

from npuvm.explore.evaluation.record import Evaluation, EvaluationState, HostCost, RunRecord

__all__ = ["Evaluation", "EvaluationState", "HostCost", "RunRecord"]
