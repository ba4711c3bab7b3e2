"""Searching a space: which points are asked for, where they are evaluated, and what is kept of them."""

from __future__ import annotations

from npuvm.explore.results.entry import Entry
from npuvm.explore.study.errors import StudyError, StudyFailure
from npuvm.explore.study.executors import Evaluate, Executor, InProcess, SpaceEvaluate, ray_tasks
from npuvm.explore.study.pool import ProcessPool
from npuvm.explore.study.screen import Screen
from npuvm.explore.study.settings import SAMPLERS, SamplerName, Settings
from npuvm.explore.study.study import Outcome, Stored, Study, default_storage, read_study

__all__ = [
    "SAMPLERS",
    "Entry",
    "Evaluate",
    "Executor",
    "InProcess",
    "Outcome",
    "ProcessPool",
    "SamplerName",
    "Screen",
    "Settings",
    "SpaceEvaluate",
    "Stored",
    "Study",
    "StudyError",
    "StudyFailure",
    "default_storage",
    "ray_tasks",
    "read_study",
]
