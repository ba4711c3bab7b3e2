"""Design spaces: YAML files that say what of a chip, its instruction set and the compiler may vary, and what counts."""

from __future__ import annotations

from npuvm.explore.space.load import load_space, load_space_text
from npuvm.explore.space.measures import MEASURES, Measure
from npuvm.explore.space.parameters import Parameter, Point
from npuvm.explore.space.schema import Value, space_json_schema
from npuvm.explore.space.space import Objective, Rule, Setup, Space
from npuvm.explore.space.workloads import SizedRun, Workload

__all__ = [
    "MEASURES",
    "Measure",
    "Objective",
    "Parameter",
    "Point",
    "Rule",
    "Setup",
    "SizedRun",
    "Space",
    "Value",
    "Workload",
    "load_space",
    "load_space_text",
    "space_json_schema",
]
